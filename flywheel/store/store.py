"""The store: every row that the flywheel makes, in one DuckDB file that is opened for milliseconds at a time.

DuckDB lets one process write, or many read, but never both: a file that is held open for writing cannot even be read
by another process. So each call opens the file, does one transaction and closes it again, and waits for its turn where
another process has it. Rows are appended and never edited; a row whose key is there already is left out, so doing a
thing twice changes nothing. All times are UTC.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from flywheel.errors import ExamLeak, StoreError
from flywheel.store.lock import alone, when_free
from flywheel.store.migrations import bring_up, newest, state, views_hash
from flywheel.store.query import run_query
from flywheel.store.schema import KEYS, TABLES

SHARED = dict.fromkeys(("generations", "judgments"), ("checkpoint", "draw"))
"""Columns that a batch has in common and that its keys hash: they tell which old rows can be the same at all."""
ROW_GROUP = 10240
"""Rows that DuckDB stores together. It merges what several batches left until a group has that many, so each row is
written log2(ROW_GROUP / batch) times: with DuckDB's own 122880 a batch of 10,000 is written four times over."""
WRITING: dict[str, Any] = {"wal_autocheckpoint": "0b", "threads": min(4, os.cpu_count() or 1)}
"""Each commit goes into the file at once: a log that is left behind is replayed by everyone who opens the file."""


class Store:
    """One DuckDB file with the tables of `schema.py` and the views of `sql/views.sql`.

    Safe to use from several threads and several processes at once; a call that does not get its turn within `wait`
    seconds raises StoreError. A killed process loses no batch that `add` acknowledged and leaves no part of one behind.
    """

    def __init__(self, path: Path | str, *, wait: float = 60.0) -> None:
        """Makes the file or brings it up to this program's schema; StoreError if it is newer, no store or unusable."""
        self.path = Path(path).resolve()
        self.wait = wait
        if not self.path.exists():
            self._create()
        if not self._current():
            self._migrate()
        self._aliases: dict[str, str] | None = None

    def known(self, id: str) -> str:
        """The id or name that rows here have, of one that was worked out: an older program may have given another."""
        if self._aliases is None:
            self._aliases = dict(self.sql("select new, old from aliases").iter_rows())
        return self._aliases.get(id, id)

    def add(self, table: str, frame: pl.DataFrame) -> int:
        """Appends the rows whose key is not there yet, all or none; gives their number. Raises as `add_all` does."""
        return self.add_all({table: frame})[table]

    def add_all(self, frames: Mapping[str, pl.DataFrame]) -> dict[str, int]:
        """Appends to several tables in one transaction and gives the number of new rows of each.

        A frame must have exactly its table's columns and types, in any order, else StoreError. Raises ExamLeak where an
        example's prompt is in an exam, whichever of the two came first; then nothing is added.
        """
        checked = {table: _checked(table, frame) for table, frame in frames.items()}
        if not any(frame.height for frame in checked.values()):
            return dict.fromkeys(checked, 0)
        if "aliases" in checked:
            self._aliases = None
        with self._open(read_only=False) as connection:
            connection.execute("BEGIN")
            added = {table: _insert(connection, table, frame) for table, frame in checked.items()}
            for table, frame in checked.items():
                _refuse_leaks(connection, table, frame)
            connection.execute("COMMIT")
        return added

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pl.DataFrame:
        """The answer to a question, over all that is committed; StoreError where DuckDB refuses it or it writes."""
        with self.reading() as connection:
            return run_query(connection, query, parameters)

    @contextlib.contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that only reads, for several questions about one state; nobody writes while it is open."""
        with self._open(read_only=True) as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that alone has the file, attached to it as `store`: for its upkeep, not for rows."""
        with self._open(read_only=False) as connection:
            yield connection

    @contextlib.contextmanager
    def _open(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        deadline = time.monotonic() + self.wait
        with alone(self.path, deadline, read_only):
            connection = _connect(self.path, deadline, read_only)
            try:
                yield connection
            except duckdb.Error as error:
                raise StoreError(_told(self.path, error)) from error
            finally:
                connection.close()

    def _create(self) -> None:
        """Makes the file under another name first, so that it appears whole or not at all."""
        new = self.path.with_name(f".{self.path.name}.{os.getpid()}.{threading.get_ident()}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with _writer(new) as connection:
                    bring_up(connection, 0)
                os.link(new, self.path)
            except FileExistsError:
                pass  # another process was faster
            except PermissionError:  # what a filesystem without hard links says
                new.rename(self.path)
            finally:
                new.unlink(missing_ok=True)
        except (OSError, duckdb.Error) as error:
            raise StoreError(f"{self.path} cannot be made: {error}") from error

    def _current(self) -> bool:
        """Whether the file needs nothing: told by reading, so that looking at a store never waits for other readers."""
        with self._open(read_only=True) as connection:
            return state(connection, self.path) == (newest(), views_hash())

    def _migrate(self) -> None:
        with self._open(read_only=False) as connection:
            version, views = state(connection, self.path)
            if (version, views) != (newest(), views_hash()):  # else another process was faster
                bring_up(connection, version)


def _checked(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its table's columns in order, each key once."""
    if table not in TABLES:
        raise StoreError(f"there is no table {table!r}; the tables are {', '.join(TABLES)}")
    schema = TABLES[table]
    for column, dtype in schema.items():
        if column not in frame.columns:
            raise StoreError(f"{table}.{column} is missing: a frame for the store has every column, null where unknown")
        if frame.schema[column] != dtype:
            raise StoreError(f"{table}.{column} has type {frame.schema[column]}, not {dtype}")
    if extra := set(frame.columns) - set(schema):
        raise StoreError(f"{table} has no column {', '.join(sorted(extra))}")
    frame = frame.select(schema.names())
    return frame.unique(KEYS[table], keep="first", maintain_order=True) if KEYS[table] else frame


def _insert(connection: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame) -> int:
    """Appends the rows whose key is new. The bounds let DuckDB skip most of a long history without reading it."""
    if frame.is_empty():
        return 0
    same = [f'old."{key}" = new."{key}"' for key in KEYS[table]]
    bounds: list[Any] = []
    for column in (*KEYS[table], *SHARED.get(table, ())):
        same.append(f'old."{column}" BETWEEN ? AND ?')
        bounds += [frame[column].min(), frame[column].max()]
    known = f'EXISTS (SELECT 1 FROM "{table}" AS old WHERE {" AND ".join(same)})' if same else "false"
    connection.register("incoming", frame)
    insert = f'INSERT INTO "{table}" BY NAME SELECT * FROM incoming AS new WHERE NOT {known}'
    ((added,),) = connection.execute(insert, bounds).fetchall()
    connection.unregister("incoming")
    return int(added)


def _refuse_leaks(connection: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame) -> None:
    """An exam prompt is never trained on: nor is a new exam made of prompts that have trained."""
    other = {"examples": "exams", "exams": "examples"}.get(table)
    if other is None or frame.is_empty():
        return
    connection.register("incoming", frame)
    leaks = f"""
        SELECT count(DISTINCT (examples.dataset, examples.position)), arg_min(prompt, {table}.position), min(exams.name)
        FROM incoming AS {table} JOIN {other} USING (prompt)"""
    ((rows, first, exam),) = connection.execute(leaks).fetchall()
    connection.unregister("incoming")
    if rows:
        raise ExamLeak(
            f"{rows} training rows have a prompt of the exam {exam!r}, the first is {first}: "
            "an exam prompt cannot be trained on; leave it out of one of the two"
        )


def _connect(path: Path, deadline: float, read_only: bool) -> duckdb.DuckDBPyConnection:
    """An open file, as soon as no other process has it; StoreError when the deadline has passed or it is unusable."""
    reader = partial(duckdb.connect, str(path), read_only=True)
    try:
        return when_free(reader if read_only else partial(_writer, path), path, deadline, read_only)
    except duckdb.Error as error:
        raise StoreError(_told(path, error)) from error


def _writer(path: Path) -> duckdb.DuckDBPyConnection:
    """The file attached to an empty database in memory: only so can the size of its row groups be told."""
    connection = duckdb.connect(":memory:", config={**WRITING, "temp_directory": f"{path}.tmp"})
    try:
        place = str(path).replace("'", "''")
        connection.execute(f"ATTACH '{place}' AS store (ROW_GROUP_SIZE {ROW_GROUP})")
        connection.execute("USE store")
    except BaseException:
        connection.close()
        raise
    return connection


ERROR_SENTENCES = {
    "autocheckpoint failed": "the batch is stored, but the disk is full: make room before you go on",
    "No space left": "the disk is full, so the batch is not stored: make room, then run the same command again",
    "File too large": "it may not grow, so the batch is not stored: raise the limit, then run the same command again",
    "not a valid DuckDB": "this is no DuckDB file: choose another path, or move it away",
    "storage version": "it was made by a newer DuckDB: update duckdb, or use another store",
    "Could not read enough bytes": "it is damaged, for it ends too early: put a copy in its place",
    "Corrupt database file": "it is damaged: put a copy in its place",
}


def _told(path: Path, error: duckdb.Error) -> str:
    """The error in one sentence, where it is one that a user can meet and DuckDB's own words do not say what to do."""
    if isinstance(error, duckdb.ProgrammingError):  # of a question; there DuckDB shows the place
        return str(error)
    sentences = [sentence for words, sentence in ERROR_SENTENCES.items() if words in str(error)]
    return f"{path}: {sentences[0] if sentences else error}"
