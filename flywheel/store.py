"""The store: every row that the flywheel makes, in one DuckDB file that is opened for milliseconds at a time.

DuckDB lets one process write, or many read, but never both: a file that is held open for writing cannot even be read
by another process. So each call opens the file, does one transaction and closes it again, and waits for its turn where
another process has it. Rows are appended and never edited; a row whose key is there already is left out, so doing a
thing twice changes nothing. All times are UTC.
"""

import random
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from flywheel.errors import ExamLeak, StoreError
from flywheel.tables import KEYS, TABLES

SCHEMA = Path(__file__).parent / "schema"


class Store:
    """One DuckDB file with the tables of `flywheel.tables` and the views of `schema/views.sql`.

    Safe to use from several threads and several processes at once; a call that does not get its turn within `wait`
    seconds raises StoreError. A killed process loses no batch that `add` acknowledged and leaves no part of one behind.
    """

    def __init__(self, path: Path | str, *, wait: float = 60.0) -> None:
        """Makes the file or brings it up to this program's schema; StoreError if it is newer, no store or unusable."""
        self.path = Path(path).resolve()
        self.wait = wait
        if not self._current():
            self._migrate()

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
        with self._open(read_only=False) as connection:
            connection.execute("BEGIN")
            added = {table: _insert(connection, table, frame) for table, frame in checked.items()}
            _refuse_leaks(connection, checked)
            connection.execute("COMMIT")
        return added

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pl.DataFrame:
        """The answer to a question, over all that is committed; StoreError where DuckDB refuses it or it writes."""
        with self.reading() as connection:
            answer = connection.sql(query, params=parameters or None)
            return pl.DataFrame() if answer is None else _whole_numbers(answer.pl())

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that only reads, for several questions about one state; nobody writes while it is open."""
        with self._open(read_only=True) as connection:
            yield connection

    @contextmanager
    def _open(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        with _turn(self.path, self.wait, read_only):
            connection = _connect(self.path, self.wait, read_only)
            try:
                yield connection
            except duckdb.Error as error:
                raise StoreError(f"{self.path}: {error}") from error
            finally:
                connection.close()

    def _current(self) -> bool:
        """Whether the file needs nothing: told by a read, so that looking at a store never waits for other readers."""
        if not self.path.exists():
            return False
        with self._open(read_only=True) as connection:
            return _version(connection) == (_newest(), _views_hash())

    def _migrate(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the folder {self.path.parent}: {error.strerror}") from error
        with self._open(read_only=False) as connection:
            connection.execute("BEGIN")
            version, views = _version(connection)
            if (version, views) == (_newest(), _views_hash()):
                return  # another process was faster
            if version > _newest():
                raise StoreError(
                    f"{self.path} has schema version {version}, but this program knows versions up to {_newest()}: "
                    "update flywheel, or use another store"
                )
            for file in _migrations()[version:]:
                connection.execute(file.read_text())
            connection.execute((SCHEMA / "views.sql").read_text())
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL, program VARCHAR NOT NULL, "
                "views VARCHAR NOT NULL, applied_at TIMESTAMP NOT NULL)"
            )
            connection.execute(
                "INSERT INTO schema_version VALUES (?, ?, ?, now() AT TIME ZONE 'UTC')",
                [_newest(), _program(), _views_hash()],
            )
            connection.execute("COMMIT")


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
    if frame.is_empty():
        return 0
    same = " AND ".join(f'old."{key}" = new."{key}"' for key in KEYS[table])
    known = f'EXISTS (SELECT 1 FROM "{table}" AS old WHERE {same})' if same else "false"
    connection.register("incoming", frame)
    insert = f'INSERT INTO "{table}" BY NAME SELECT * FROM incoming AS new WHERE NOT {known}'
    ((added,),) = connection.execute(insert).fetchall()
    connection.unregister("incoming")
    return int(added)


def _refuse_leaks(connection: duckdb.DuckDBPyConnection, frames: Mapping[str, pl.DataFrame]) -> None:
    """Exam prompts are never trained on: neither a prompt of an exam that is there, nor an exam on what has trained."""
    for table, other in (("examples", "exams"), ("exams", "examples")):
        if table not in frames or frames[table].is_empty():
            continue
        connection.register("incoming", frames[table].select("prompt"))
        leaks = f"SELECT count(*), min(exams.name), arg_min(prompt, examples.position) FROM {other} JOIN {table} "
        leaks += "USING (prompt) WHERE prompt IN (SELECT prompt FROM incoming)"
        ((rows, exam, first),) = connection.execute(leaks).fetchall()
        connection.unregister("incoming")
        if rows:
            raise ExamLeak(
                f"{rows} training rows have a prompt of the exam {exam!r}, the first is {first}: "
                "an exam prompt cannot be trained on; leave it out of one of the two"
            )


def _whole_numbers(frame: pl.DataFrame) -> pl.DataFrame:
    """DuckDB sums integers into 128 bits, which arrive as decimals; nobody expects that of a count."""
    wide = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Decimal) and dtype.scale == 0]
    try:
        return frame.with_columns(pl.col(wide).cast(pl.Int64))
    except pl.exceptions.InvalidOperationError:
        return frame


def _migrations() -> list[Path]:
    return sorted(SCHEMA.glob("[0-9][0-9][0-9]_*.sql"))


def _newest() -> int:
    return len(_migrations())


def _views_hash() -> str:
    return blake2b((SCHEMA / "views.sql").read_bytes(), digest_size=10).hexdigest()


def _program() -> str:
    try:
        return metadata.version("flywheel")
    except metadata.PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"


def _version(connection: duckdb.DuckDBPyConnection) -> tuple[int, str]:
    """The schema version and the views' hash of a file, (0, "") for one that is new."""
    tables = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
    if not tables:
        return 0, ""
    if "schema_version" not in tables:
        raise StoreError("the file is a DuckDB database, but no flywheel store: choose another path")
    newest = "SELECT version, views FROM schema_version ORDER BY applied_at DESC LIMIT 1"
    ((version, views),) = connection.execute(newest).fetchall()
    return int(version), str(views)


_TURNS: dict[Path, threading.RLock] = {}
_OPEN: dict[Path, list[bool]] = {}


@contextmanager
def _turn(path: Path, wait: float, read_only: bool) -> Iterator[None]:
    """One thread of this process at a time: one process cannot open a file for reading and for writing at once."""
    lock = _TURNS.setdefault(path, threading.RLock())
    if not lock.acquire(timeout=wait):
        raise StoreError(f"another thread of this program has used {path} for more than {wait:g} s")
    modes = _OPEN.setdefault(path, [])
    try:
        if modes and modes[-1] != read_only:
            raise StoreError(f"{path} cannot be written as long as this thread has it open with reading()")
        modes.append(read_only)
        try:
            yield
        finally:
            modes.pop()
    finally:
        lock.release()


def _connect(path: Path, wait: float, read_only: bool) -> duckdb.DuckDBPyConnection:
    deadline = time.monotonic() + wait
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only)
        except duckdb.Error as error:
            if "Could not set lock" not in str(error):
                raise StoreError(f"{path} cannot be opened: {error}") from error
            if time.monotonic() > deadline:
                holder = re.search(r"\(PID (\d+)\)", str(error))
                raise StoreError(
                    f"{path} has been in use by process {holder[1] if holder else 'unknown'} for more than {wait:g} s: "
                    "wait for it or end it, and run the same command again"
                ) from error
        # Random, so that two that wait for each other do not meet again; short, since a batch takes milliseconds.
        time.sleep(random.uniform(0.002, 0.03))
