"""Taking turns at one file: among the threads of this process, and with other processes that lock it."""

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from flywheel.errors import StoreError

T = TypeVar("T")
LOCKED = "Could not set lock"
"""What DuckDB says where another process has the file."""

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


def when_free(attempt: Callable[[], T], path: Path, deadline: float) -> T:
    """What `attempt` gives as soon as no other process has the file; StoreError that names it when time is up."""
    while True:
        try:
            return attempt()
        except Exception as error:
            if LOCKED not in str(error):
                raise
            if time.monotonic() > deadline:
                found = re.search(r"\(PID (\d+)\)", str(error))
                who = f"process {found[1]}" if found else "another process"
                raise StoreError(
                    f"{path} is in use by {who}, which has not let go in time: "
                    "wait for it or end it, then run the same command again"
                ) from error
        # Random, so that two that wait for each other do not meet again; short, since a batch takes milliseconds.
        time.sleep(random.uniform(0.002, 0.03))
