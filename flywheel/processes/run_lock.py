"""One process at a time goes on with a run: a lock that the kernel frees when its process ends, whatever ends it."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

from flywheel.errors import AlreadyRunning, StoreError

RUN_LOCK_SECONDS = 1.0
"""Seconds for one that is about to end."""
LOCK_POLL_SECONDS = 0.05


@contextlib.contextmanager
def alone(home: Path, run: str, name: str) -> Iterator[None]:
    """Nobody else turns this run in this home meanwhile; AlreadyRunning says who does.

    The lock is beside the store, so whoever shares the store's disk shares it, other machines too. Children do not have
    it: Python closes its files in them.
    """
    with _opened(home / "locks" / f"{run}.lock") as file:
        _lock(file, f"run {run} ({name})")
        file.truncate(0)
        file.write(json.dumps({**_ourselves(), "name": name}))
        file.flush()
        yield


class Going(NamedTuple):
    """A run that a process goes on with at this moment: its name, and in words which one."""

    name: str
    who: str


def going_on(home: Path) -> dict[str, Going]:
    """The runs that go on in this home, by id, also those that have made nothing yet."""
    found = {}
    for path in sorted((home / "locks").glob("*.lock")):
        with contextlib.suppress(OSError), path.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for a moment: whoever wants to begin is patient
            except BlockingIOError:
                found[path.stem] = Going(_read(file).get("name", ""), _who(file))
    return found


def _opened(path: Path) -> TextIOWrapper:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+", encoding="utf-8")  # not "w": the words in it are those of who has the lock
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error}") from error


def _lock(file: TextIOWrapper, what: str) -> None:
    deadline = time.monotonic() + RUN_LOCK_SECONDS
    while True:
        try:
            # flock, not lockf: two threads of one process are two, and closing another handle does not free it.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise AlreadyRunning(f"{what} is going on{_who(file)}: wait for it, or use another --home") from None
            time.sleep(LOCK_POLL_SECONDS)


def _ourselves() -> dict[str, str | int | None]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "flow_run": os.environ.get("PREFECT__FLOW_RUN_ID"),  # set by a Prefect worker
    }


def _read(file: TextIOWrapper) -> dict[str, Any]:
    """What whoever has the lock has written; nothing in the moment before."""
    file.seek(0)
    try:
        who: dict[str, Any] = json.loads(file.read())
    except ValueError:
        return {}
    return who


def _who(file: TextIOWrapper) -> str:
    """Who has the lock, in words; nothing in the moment before it has written its name."""
    who = _read(file)
    if not who:
        return ""
    where = "" if who["host"] == socket.gethostname() else f" on {who['host']}"
    flow_run = f" (Prefect flow run {who['flow_run']})" if who["flow_run"] else ""
    return f" in process {who['pid']}{where}{flow_run} since {who['since']}"
