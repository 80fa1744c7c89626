"""What a process gives up before it runs code that nobody has read: privileges, system calls, all but its share."""

import ctypes
import os
import resource
from pathlib import Path
from typing import NamedTuple

from judges.sandbox import seccomp
from judges.sandbox.namespaces import NOBODY, call

PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38
CAPABILITIES = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
OURS = 8
"""Processes of the sandbox itself that count as the answer's."""


class Limits(NamedTuple):
    """How much code may take. `memory` is address space, of each process."""

    seconds: int = 5  # of processor time, of each process
    memory: int = 1 << 30
    processes: int = 16  # and threads
    file: int = 16 << 20  # bytes of a file, and of what is printed
    files: int = 64  # open at once


def confine(limits: Limits) -> None:
    """Give all of it up; children, too. Raises OSError where that cannot be."""
    if os.getuid() == 0:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES, 0)
    call("capset", header, (ctypes.c_uint32 * 6)())
    call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for what, most in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_FSIZE, limits.file),
        (resource.RLIMIT_NOFILE, limits.files),
        (resource.RLIMIT_NPROC, limits.processes + OURS),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds + 1))
    seccomp.install(os.getpid())


def tasks() -> int:
    """Processes and threads that this user has already: without a namespace, they count as well."""
    user = os.getuid() or NOBODY
    return sum(_threads(process) for process in Path("/proc").glob("[0-9]*") if _owner(process) == user)


def _owner(process: Path) -> int | None:
    try:
        return process.stat().st_uid
    except FileNotFoundError:
        return None


def _threads(process: Path) -> int:
    try:
        return len(list((process / "task").iterdir()))
    except FileNotFoundError:
        return 0
