"""What a person asks of a store: answers that Ctrl-C cancels, answers as files, and what there is to ask about."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import polars as pl

from flywheel.errors import FlywheelError, StoreError
from flywheel.store.home import open_store
from flywheel.store.query import relation, run_query
from flywheel.store.store import Store

_T = TypeVar("_T")
FORMS = {
    ".parquet": "FORMAT parquet, COMPRESSION zstd",
    ".csv": "FORMAT csv, HEADER true",
    ".jsonl": "FORMAT json",
}
"""What DuckDB is told for each ending of a file."""
IMPATIENT, PATIENT = 1.0, 60.0
"""Seconds of waiting for the store before one is told why, and in all after that."""
BUSY = "is in use by"
READ_ONLY_REFUSAL = re.compile(r'type "(.+?)".*read-only mode')


class Column(NamedTuple):
    """A column of a table or view; its comment may be empty."""

    name: str
    kind: str
    comment: str


class Relation(NamedTuple):
    """A table or view that can be asked; its comment may be empty."""

    name: str
    is_view: bool
    comment: str
    columns: tuple[Column, ...]


def in_turn(home: Path, ask: Callable[[Store], _T], tell: Callable[[str], object]) -> _T:
    """What `ask` gives of the store of a folder; `tell` hears who has the store, where one waits for it."""
    try:
        return ask(open_store(home, IMPATIENT))
    except StoreError as error:
        if BUSY not in str(error):
            raise
        who = str(error).partition(",")[0]
        tell(f"{who}: waiting for it, at most {PATIENT:.0f} seconds; Ctrl-C gives up")
    return ask(open_store(home, PATIENT))


def answer_question(store: Store, question: str, most: int | None = None) -> pl.DataFrame:
    """The answer, `most` rows of it. StoreError where DuckDB refuses the question; Ctrl-C ends it."""
    return _cancellable(store, partial(run_query, query=question, most=most))


def statements(store: Store, text: str) -> list[str]:
    """The questions of a text, which semicolons part; none in blanks and comments."""
    with store.reading() as connection:
        return [statement.query for statement in connection.extract_statements(text)]


def export(store: Store, question: str, path: Path) -> int:
    """Writes an answer to a .parquet, .csv or .jsonl file row by row, whole or not at all; gives the number of rows.

    FlywheelError where the ending is another one, the file is there already, its folder is not, or the question fails.
    """
    check_file(path)
    partial_file = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        rows = _cancellable(store, partial(_write, question=question, path=partial_file, ending=path.suffix.lower()))
        partial_file.rename(path)
    finally:
        partial_file.unlink(missing_ok=True)
    return rows


def relations(store: Store) -> list[Relation]:
    """The tables and views of a store, in the order of their names."""
    with store.reading() as connection:
        tables = "from duckdb_tables() select table_name, false, coalesce(comment, '') where not internal"
        views = "from duckdb_views() select view_name, true, coalesce(comment, '') where not internal"
        found = connection.execute(f"{tables} union all {views} order by 1").fetchall()
        columns = connection.execute(
            "from duckdb_columns() select table_name, column_name, data_type, coalesce(comment, '') "
            "where not internal order by column_index"
        ).fetchall()
    return [
        Relation(name, is_view, comment, tuple(Column(*column) for of, *column in columns if of == name))
        for name, is_view, comment in found
    ]


def check_file(path: Path) -> None:
    """FlywheelError if an answer cannot be written there."""
    if path.suffix.lower() not in FORMS:
        raise FlywheelError(f"the ending of {path} must tell the form: one of {', '.join(FORMS)}")
    if path.exists():
        raise FlywheelError(f"{path} is there already: choose another name, or remove it first")
    if not path.parent.is_dir():
        raise FlywheelError(f"there is no folder {path.parent}: make it first, or choose another one")
    if not os.access(path.parent, os.W_OK):
        raise FlywheelError(f"nothing can be written into {path.parent.resolve()}: choose another folder")


def _write(connection: Any, question: str, path: Path, ending: str) -> int:
    """DuckDB writes as it reads: ten million rows take no more memory than a thousand."""
    found = relation(connection, question)
    if found is None:
        raise FlywheelError("nothing was asked that has an answer: no file is written")
    kinds = enumerate(map(str, found.types), 1)
    names = (name.replace('"', '""') for name in found.columns)
    columns = ", ".join(
        f'{_plain(place, kind, ending)} AS "{name}"' for (place, kind), name in zip(kinds, names, strict=True)
    )
    connection.register("asked here", found)
    place = str(path).replace("'", "''")
    copy = f"COPY (SELECT {columns} FROM \"asked here\") TO '{place}' ({FORMS[ending]})"
    ((rows,),) = connection.execute(copy).fetchall()
    return int(rows)


def _plain(place: int, kind: str, ending: str) -> str:
    """A column as files of that ending can hold it."""
    if kind in ("HUGEINT", "UHUGEINT"):  # sums of whole numbers, which Parquet would make floating
        return f"#{place}::BIGINT"
    if ending == ".csv" and (kind.endswith("]") or kind.startswith(("STRUCT", "MAP"))):
        return f"to_json(#{place})::VARCHAR"
    return f"#{place}::VARCHAR" if "INTERVAL" in kind else f"#{place}"


def _cancellable(store: Store, ask: Callable[[Any], _T]) -> _T:
    """DuckDB works in another thread: it does not hear Ctrl-C by itself before it is done."""
    with _told(), store.reading() as connection, ThreadPoolExecutor(1) as worker:
        work = worker.submit(ask, connection)
        try:
            return work.result()
        except KeyboardInterrupt:
            while not work.done():  # again and again, for it may not have begun
                connection.interrupt()
                wait([work], 0.1)
            raise


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        if found := READ_ONLY_REFUSAL.search(str(error)):
            raise StoreError(
                f"a question is read-only, and {found[1]} would write: the history is never edited; "
                "`flywheel store backup FILE` makes a copy to work on"
            ) from error
        raise
