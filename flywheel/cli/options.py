"""What several commands take: the folder of the store, and a run."""

from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import typer

from flywheel.engines.table import engines_in_words


class Named(Protocol):
    """What was looked up by name."""

    @property
    def which(self) -> str:
        """In words which one it is; empty where only one could be meant."""


Any_Named = TypeVar("Any_Named", bound=Named)
RunName = Annotated[str | None, typer.Option(help="Name, id or its beginning; the latest run if not given.")]
EngineName = Annotated[str | None, typer.Option(help=f"{engines_in_words()}.")]
Home = Annotated[Path, typer.Option(help="Folder of the store, the datasets and the checkpoints.")]


def told_which(found: Any_Named) -> Any_Named:
    """What was looked up; where more than one could be meant, a line beside the output says which."""
    if found.which:
        typer.echo(found.which, err=True)
    return found
