"""A store without dead space, and a copy of it to keep."""

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

from flywheel.errors import StoreError
from flywheel.store.schema import TABLES
from flywheel.store.store import ROW_GROUP, Store

SETTLE = 0.1
"""Seconds for whom has just opened the old file to find it locked, and to open the new one at the next attempt."""


def compact(store: Store) -> tuple[int, int]:
    """Writes the file anew, without the space that merged batches left; gives its bytes before and after.

    Others wait meanwhile. Whatever happens, the file is the old one or the new one, which has the same rows.
    """
    new = store.path.with_name(f".{store.path.name}.compact")
    with store.writing() as connection:
        connection.execute("CHECKPOINT store")
        before = store.path.stat().st_size
        try:
            _remove(new)  # what a kill left
            place = str(new).replace("'", "''")
            connection.execute(f"ATTACH '{place}' AS compact (ROW_GROUP_SIZE {ROW_GROUP})")
            connection.execute("COPY FROM DATABASE store TO compact")
            counts = {of: [_count(connection, of, table) for table in TABLES] for of in ("store", "compact")}
            if counts["store"] != counts["compact"]:
                raise StoreError(f"{store.path} was not compacted: the new file has other rows; look at it with check")
            connection.execute("DETACH compact")
            shutil.copymode(store.path, new)
            new.replace(store.path)
            time.sleep(SETTLE)
        finally:
            _remove(new)
    return before, store.path.stat().st_size


def _count(connection: Any, database: str, table: str) -> int:
    ((rows,),) = connection.execute(f'select count(*) from {database}.main."{table}"').fetchall()
    return int(rows)


def _remove(path: Path) -> None:
    for ending in ("", ".wal"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + ending).unlink()


def backup(store: Store, to: Path) -> None:
    """A copy at `to` of what is committed now; writers wait for as long as the bytes take to be copied.

    Raises StoreError where there is something at `to`, or where it cannot be written.
    """
    to = to.resolve()
    new = to.with_name(f".{to.name}.{os.getpid()}.new")
    if to.exists():
        raise StoreError(f"{to} is there already, and a backup overwrites nothing: choose another path")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with store.reading():
            # The log of a writer that was killed, and then the file: to close it takes this process's lock away.
            for ending in (".wal", ""):
                if (file := store.path.with_name(store.path.name + ending)).exists():
                    shutil.copyfile(file, new.with_name(new.name + ending))
        with Store(new).writing() as connection:
            connection.execute("CHECKPOINT")
        with new.open("rb") as written:
            os.fsync(written.fileno())
        try:
            os.link(new, to)
        except PermissionError:  # what a filesystem without hard links says
            new.rename(to)
    except OSError as error:
        raise StoreError(f"{to} cannot be written: {error}") from error
    finally:
        _remove(new)
