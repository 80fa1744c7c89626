"""Where runs live: the folder that every command takes as --home."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import typer

from flywheel.errors import FlywheelError

if TYPE_CHECKING:
    from flywheel.store import Store


class Named(Protocol):
    """What was looked up by name."""

    @property
    def which(self) -> str:
        """In words which one it is; empty where only one could be meant."""


Any_Named = TypeVar("Any_Named", bound=Named)
Run = Annotated[str | None, typer.Option(help="Name, id or its beginning; the latest run if not given.")]
Home = Annotated[Path, typer.Option(help="Folder of the store, the datasets and the checkpoints.")]


def open_store(home: Path, wait: float = 60.0) -> "Store":
    """The store of a folder, whose calls wait that many seconds for their turn; FlywheelError if there is none."""
    from flywheel.store import Store

    path = home / "flywheel.duckdb"
    if not path.exists():
        raise FlywheelError(
            f"there is no store at {path}: `flywheel run RECIPE` makes one, --home says where another is"
        )
    return Store(path, wait=wait)


def told(found: Any_Named) -> Any_Named:
    """What was looked up; where more than one could be meant, a line beside the output says which."""
    if found.which:
        typer.echo(found.which, err=True)
    return found
