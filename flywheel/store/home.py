"""Where runs live: the folder that every command takes as --home."""

from pathlib import Path
from typing import TYPE_CHECKING

from flywheel.errors import FlywheelError

if TYPE_CHECKING:
    from flywheel.store.store import Store


def open_store(home: Path, wait: float = 60.0) -> "Store":
    """The store of a folder, whose calls wait that many seconds for their turn; FlywheelError if there is none."""
    from flywheel.store.store import Store

    path = home / "flywheel.duckdb"
    if not path.exists():
        raise FlywheelError(
            f"there is no store at {path}: `flywheel run RECIPE` makes one, --home says where another is"
        )
    return Store(path, wait=wait)
