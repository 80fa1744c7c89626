"""Taking turns at one file: among the threads of this process, and with other processes that lock it.

DuckDB's lock knows no queue: whoever asks at the right moment has the file. So those who wait say so, with a lock on
the folder that costs nothing and vanishes with its process. A reader that waits keeps writers from starting, so it
waits for one batch at most, however many want to write; a writer that has waited for PATIENCE keeps readers from
starting, so it waits for those that read already. Who does not keep to it, or a folder that cannot be locked, makes
the wait longer and nothing wrong: DuckDB's own lock decides.
"""

import fcntl
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from flywheel.errors import StoreError

_T = TypeVar("_T")
LOCKED = "Could not set lock"
"""What DuckDB says where another process has the file."""
STORE_LOCK_SECONDS = 3.0
"""Seconds for which one lets others go first."""

_locks: dict[Path, threading.RLock] = {}
_modes: dict[Path, list[bool]] = {}


@contextmanager
def alone(path: Path, deadline: float, read_only: bool) -> Iterator[None]:
    """No other thread of this process has the file: one process cannot open it for reading and for writing at once.

    The same thread may read while it reads. `deadline` is on time.monotonic(); StoreError when it has passed.
    """
    lock, modes = _locks.setdefault(path, threading.RLock()), _modes.setdefault(path, [])
    if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise StoreError(f"another thread of this program is using {path} and has not let go in time: try again")
    try:
        if modes and not (modes[-1] and read_only):
            raise StoreError(f"{path} cannot be written as long as the same thread has it open with reading()")
        modes.append(read_only)
        try:
            yield
        finally:
            modes.pop()
    finally:
        lock.release()


def when_free(attempt: Callable[[], _T], path: Path, deadline: float, read_only: bool) -> _T:
    """What `attempt` gives as soon as no other process has the file; StoreError that names it when time is up."""
    patient = time.monotonic() + STORE_LOCK_SECONDS
    with _folder(path.parent) as folder:
        while True:
            late = time.monotonic() > min(patient, deadline)
            try:
                if _may_try(folder, read_only) or late:
                    return attempt()
            except Exception as error:
                if LOCKED not in str(error):
                    raise
                if time.monotonic() > deadline:
                    raise StoreError(_holder(path, str(error))) from error
            if not (read_only or late):
                _let_others(folder)
            # Random, so that two that wait for each other do not meet again; short, since a batch takes milliseconds.
            time.sleep(random.uniform(0.001, 0.005) if read_only else random.uniform(0.002, 0.03))


@contextmanager
def _folder(path: Path) -> Iterator[int | None]:
    """The folder, open, so that it can be locked until the end of the block; None where it cannot be opened."""
    try:
        folder = os.open(path, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        yield folder
    finally:
        os.close(folder)


def _may_try(folder: int | None, read_only: bool) -> bool:
    """Whether nobody waits who goes first: readers wait side by side, a writer alone."""
    if folder is None:
        return True
    try:
        fcntl.flock(folder, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a filesystem whose folders cannot be locked
        return True
    return True


def _let_others(folder: int | None) -> None:
    if folder is not None:
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_UN)


def _holder(path: Path, told: str) -> str:
    """In one sentence, who has the file and what to do."""
    found = re.search(r"\(PID (\d+)\)", told)
    if found and _stopped(found[1]):
        return (
            f"{path} is in use by process {found[1]}, which is stopped: "
            f"let it go on with `kill -CONT {found[1]}` or end it, then run the same command again"
        )
    who = f"process {found[1]}" if found else "another process"
    return (
        f"{path} is in use by {who}, which has not let go in time: "
        "wait for it or end it, then run the same command again"
    )


def _stopped(pid: str) -> bool:
    """Whether somebody has stopped that process, as Ctrl-Z does; no where the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "tT"
    except (OSError, IndexError):
        return False
