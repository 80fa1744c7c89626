"""A question to DuckDB and its answer as a Polars frame: read-only, and in types that people expect."""

import re
from typing import Any

import duckdb
import polars as pl

from flywheel.errors import StoreError

UNKNOWN_TO_POLARS = re.compile(r"\b(INTERVAL|UNION|BIT|BIGNUM|VARIANT|GEOMETRY)\b")


def run_query(
    connection: duckdb.DuckDBPyConnection, query: str, params: Any = (), most: int | None = None
) -> pl.DataFrame:
    """The answer to a question over a connection, `most` rows of it; without columns where there is none."""
    answer = relation(connection, query, params)
    if answer is None:
        return pl.DataFrame()
    if most is not None:  # by a name, for a question may end in a comment
        connection.register("asked here", answer)
        answer = connection.sql(f'FROM "asked here" LIMIT {most}')
    return _whole_numbers(_spelled(answer).pl())


def relation(connection: duckdb.DuckDBPyConnection, query: str, params: Any = ()) -> duckdb.DuckDBPyRelation | None:
    """The answer before its rows are fetched; StoreError for COPY and EXPORT, which a read-only file would let pass."""
    for statement in connection.extract_statements(query):
        if statement.type in (duckdb.StatementType.COPY, duckdb.StatementType.EXPORT):
            raise StoreError(
                f"a question is read-only, and {str(statement.type).rpartition('.')[2]} would write: "
                "`flywheel sql --output FILE`, in the shell `.export FILE`, puts an answer into a new file"
            )
    return connection.sql(query, params=params or None)


def _spelled(answer: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Types that Polars has not as text, such as intervals: months, days and microseconds side by side."""
    kinds = [str(kind) for kind in answer.types]
    if not any(map(UNKNOWN_TO_POLARS.search, kinds)):
        return answer
    columns = [f"#{n}::VARCHAR" if UNKNOWN_TO_POLARS.search(kind) else f"#{n}" for n, kind in enumerate(kinds, 1)]
    names = [name.replace('"', '""') for name in answer.columns]
    return answer.project(", ".join(f'{column} AS "{name}"' for column, name in zip(columns, names, strict=True)))


def _whole_numbers(frame: pl.DataFrame) -> pl.DataFrame:
    """DuckDB sums integers into 128 bits, which arrive as decimals; nobody expects that of a count."""
    wide = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Decimal) and dtype.scale == 0]
    try:
        return frame.with_columns(pl.col(wide).cast(pl.Int64))
    except pl.exceptions.InvalidOperationError:  # larger than 64 bits
        return frame
