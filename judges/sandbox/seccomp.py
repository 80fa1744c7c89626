"""The system calls that confined code may not make: a seccomp filter (Linux man-pages, seccomp(2)), in BPF.

Refused are: a network of any kind; memory and kernel objects that no limit counts; new namespaces and mounts; and to
reach any process but itself, also by leaving its process group, since the group is what will be killed.
"""

import ctypes
import platform
import struct

from judges.sandbox.namespaces import call

X86_64, AARCH64 = "x86_64", "aarch64"
ARCHITECTURE = {X86_64: 0xC000003E, AARCH64: 0xC00000B7}
DENIED = {  # name: its number on x86_64, on aarch64
    **{"socket": (41, 198), "memfd_create": (319, 279), "memfd_secret": (447, 447), "io_uring_setup": (425, 425)},
    **{"shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180)},
    **{"add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "userfaultfd": (323, 282)},
    **{"bpf": (321, 280), "perf_event_open": (298, 241), "syslog": (103, 116), "open_by_handle_at": (304, 265)},
    **{"unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51), "pivot_root": (155, 41), "mount": (165, 40)},
    **{"umount2": (166, 39), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430)},
    **{"fspick": (433, 433), "fsmount": (432, 432), "mount_setattr": (442, 442)},
    **{"setpgid": (109, 154), "setsid": (112, 157), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138)},
    **{"rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424)},
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272)},
}
TO_ITSELF = {"kill": (62, 129), "tgkill": (234, 131)}
PRLIMIT, CLONE, CLONE3 = (302, 261), (56, 220), (435, 435)
NEW_NAMESPACES = 0x7E020000  # flags of clone; clone3 hides them, and who is told that it is missing takes clone

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
CALL_NUMBER, ARCHITECTURE_AT, FIRST_ARGUMENT = 0, 4, 16  # in struct seccomp_data
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
X32 = 0x40000000

Instruction = tuple[str, int, int, str, str]
"""A label or "", an operation, its number, and where to go if its test holds and if not; "" is the next one."""


def supported() -> bool:
    """Whether the filter knows this machine's system calls."""
    return platform.machine() in ARCHITECTURE


def install(own: int) -> None:
    """From now on, and for all children: the process `own` is the only one that can be sent a signal."""
    code = assembled(instructions(platform.machine(), own))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    call("prctl", 22, 2, program, 0, 0)  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def instructions(machine: str, own: int) -> list[Instruction]:
    """The filter, in words."""
    at = list(ARCHITECTURE).index(machine)
    return [
        ("", LOAD, ARCHITECTURE_AT, "", ""),
        ("", EQUAL, ARCHITECTURE[machine], "", "deny"),
        ("", LOAD, CALL_NUMBER, "", ""),
        ("", AT_LEAST, X32, "deny", ""),
        *(("", EQUAL, numbers[at], "deny", "") for numbers in DENIED.values()),
        *(("", EQUAL, numbers[at], "itself", "") for numbers in TO_ITSELF.values()),
        ("", EQUAL, PRLIMIT[at], "limits", ""),
        ("", EQUAL, CLONE[at], "clone", ""),
        ("", EQUAL, CLONE3[at], "missing", "allow"),
        ("clone", LOAD, FIRST_ARGUMENT, "", ""),
        ("", ANY_BIT, NEW_NAMESPACES, "deny", "allow"),
        ("limits", LOAD, FIRST_ARGUMENT, "", ""),
        ("", EQUAL, 0, "allow", ""),
        ("itself", LOAD, FIRST_ARGUMENT, "", ""),
        ("", EQUAL, own, "allow", "deny"),
        ("allow", RETURN, ALLOW, "", ""),
        ("deny", RETURN, EPERM, "", ""),
        ("missing", RETURN, ENOSYS, "", ""),
    ]


def assembled(program: list[Instruction]) -> bytes:
    """As the kernel takes it: 8 bytes for each instruction, with jumps counted from the next one."""
    places = {label: place for place, (label, *_) in enumerate(program) if label}
    return b"".join(
        struct.pack("HBBI", operation, *(places[to] - place - 1 if to else 0 for to in (if_so, if_not)), number)
        for place, (_, operation, number, if_so, if_not) in enumerate(program)
    )
