"""A root of its own, with Linux namespaces: for everybody where user namespaces are allowed, and for root."""

import ctypes
import os
import platform
from collections.abc import Sequence
from pathlib import Path

LIBRARY_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/urandom")
NOBODY = 65534
NEW_NS, NEW_UTS, NEW_IPC, NEW_USER, NEW_PID, NEW_NET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 4096, 16384, 1 << 18
MNT_DETACH, AT_RECURSIVE = 2, 0x8000
MOUNT_SETATTR = 442
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
STAGE = Path("/proc")
"""Where the new root is put together: a folder that is always there, and that the new root does without."""
SCRATCH = "/scratch"
SCRATCH_LIMITS = "mode=1777,size=64m,nr_inodes=4096"

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """A function of the C library that gives 0. Raises OSError where it fails."""
    if getattr(libc, name)(*(value.encode() if isinstance(value, str) else value for value in arguments)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def syscall(number: int, *arguments: object) -> None:
    """A system call for which older C libraries have no function."""
    call("syscall", *(ctypes.c_long(value) if isinstance(value, int) else value for value in (number, *arguments)))


def enter(python: Sequence[str]) -> None:
    """Leave the machine behind: from now on there are the folders `python` and the system's libraries, read-only.

    Raises OSError where the machine does not allow it.
    """
    _new_user(NEW_USER | NEW_NS | NEW_NET | NEW_IPC | NEW_UTS)
    call("mount", "none", "/", None, MS_REC | MS_PRIVATE, None)
    call("mount", "tmpfs", str(STAGE), "tmpfs", MS_NOSUID, "mode=755,size=1m")
    for path in (*LIBRARY_FOLDERS, *DEVICES, *python):
        _show(Path(path))
    _inside(SCRATCH).mkdir()
    if not _inside("/tmp").exists():
        _inside("/tmp").symlink_to(SCRATCH)
    os.chdir(STAGE)
    syscall(PIVOT_ROOT[platform.machine()], ".", ".")
    call("umount2", ".", MNT_DETACH)
    read_only = (ctypes.c_uint64 * 4)(MS_RDONLY | MS_NOSUID)
    syscall(MOUNT_SETATTR, -1, "/", AT_RECURSIVE, read_only, ctypes.sizeof(read_only))


def new_processes() -> None:
    """The next child is the first process of a namespace, and whatever it starts ends with it."""
    call("unshare", NEW_PID)


def new_scratch() -> None:
    """An empty folder, the only one that can be written to."""
    call("mount", "tmpfs", SCRATCH, "tmpfs", MS_NOSUID | MS_NODEV, SCRATCH_LIMITS)
    os.chdir(SCRATCH)


def drop_scratch() -> None:
    """Forget the scratch folder and all that is in it."""
    os.chdir("/")
    call("umount2", SCRATCH, MNT_DETACH)


def _new_user(namespaces: int) -> None:
    """Unshare, while a helper that stays behind says who is who."""
    user, group = os.getuid(), os.getgid()
    if user == 0:
        os.setgroups([])
    reading, writing = os.pipe()
    helper = os.fork()
    if helper == 0:
        try:
            os.read(reading, 1)
            _map(Path(f"/proc/{os.getppid()}"), user, group)
            os._exit(0)
        finally:
            os._exit(1)
    try:
        call("unshare", namespaces)
    finally:
        os.write(writing, b".")
        _, failed = os.waitpid(helper, 0)
    os.close(reading)
    os.close(writing)
    if failed:
        raise PermissionError("the users of the new namespace cannot be set")


def _map(process: Path, user: int, group: int) -> None:
    """Root stays itself, to mount, and can become nobody; everybody else is nobody in there."""
    if user != 0:
        (process / "setgroups").write_text("deny")
    for name, outside in (("uid_map", user), ("gid_map", group)):
        both = f"0 0 1\n{NOBODY} {NOBODY} 1"
        (process / name).write_text(both if user == 0 else f"{NOBODY} {outside} 1")


def _show(path: Path) -> None:
    """Make a file or folder visible in the new root, and if it is a symbolic link, what it points to."""
    inside = _inside(path)
    if not path.exists() or inside.exists():
        return
    inside.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        inside.symlink_to(path.readlink())
        _show(path.resolve())
    else:
        inside.mkdir() if path.is_dir() else inside.touch()
        call("mount", str(path), str(inside), None, MS_BIND | MS_REC, None)


def _inside(path: Path | str) -> Path:
    return STAGE / str(path)[1:]
