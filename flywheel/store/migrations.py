"""Which schema a file has, and how an older one is brought up to this program's: numbered files, never edited."""

from hashlib import blake2b
from importlib import metadata
from pathlib import Path

import duckdb

from flywheel.errors import StoreError

SCHEMA = Path(__file__).parent / "sql"


def _files() -> list[Path]:
    return sorted(SCHEMA.glob("[0-9][0-9][0-9]_*.sql"))


def newest() -> int:
    """The schema version of this program."""
    return len(_files())


def views_hash() -> str:
    """Of this program's views."""
    return blake2b((SCHEMA / "views.sql").read_bytes(), digest_size=10).hexdigest()


def state(connection: duckdb.DuckDBPyConnection, path: Path) -> tuple[int, str]:
    """The schema version of a file and the hash of its views. StoreError where this program cannot use it."""
    if ("schema_version",) not in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
        raise StoreError(f"{path} is a DuckDB file, but no flywheel store: choose another path")
    last = "SELECT version, program, views FROM schema_version ORDER BY applied_at DESC, version DESC LIMIT 1"
    ((version, program, views),) = connection.execute(last).fetchall()
    if version > newest():
        raise StoreError(
            f"{path} has schema version {version}, made by flywheel {program}, but this is flywheel {_program()}, "
            f"which knows versions up to {newest()}: update it, or use another store"
        )
    columns = connection.execute("SELECT column_name FROM duckdb_columns() WHERE table_name = 'judgments'").fetchall()
    if ("prompt",) not in columns:
        raise StoreError(
            f"{path} was made before the ids of today: no program of today reads it, and nothing in it was changed; "
            "choose another path for new runs, or ask this one with DuckDB itself"
        )
    return int(version), str(views)


def bring_up(connection: duckdb.DuckDBPyConnection, version: int) -> None:
    """From `version` to the newest one with today's views, in one transaction."""
    connection.execute("BEGIN")
    for file in (*_files()[version:], SCHEMA / "views.sql"):
        connection.execute(file.read_text(encoding="utf-8"))
    connection.execute(
        "INSERT INTO schema_version VALUES (?, ?, ?, now() AT TIME ZONE 'UTC')", [newest(), _program(), views_hash()]
    )
    connection.execute("COMMIT")


def _program() -> str:
    try:
        return metadata.version("flywheel")
    except metadata.PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"
