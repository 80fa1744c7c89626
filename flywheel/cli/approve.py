"""`flywheel approve` and `flywheel reject`: a human's word on a promotion that waits for it."""

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli.options import Home, told_which
from flywheel.store.home import open_store

if TYPE_CHECKING:
    from flywheel.errors import ApprovalNeeded
    from flywheel.store.store import Store

WaitingRun = Annotated[
    str | None, typer.Argument(help="Name, id or its beginning; the latest run that waits if not given.")
]
Author = Annotated[str | None, typer.Option("--by", help="Who says so; your user name if not given.")]


def approve(
    run: WaitingRun = None,
    because: Annotated[str, typer.Option(help="Why, in a few words.")] = "",
    by: Author = None,
    home: Home = Path("runs"),
) -> None:
    """Say yes to the promotion that a run waits with. The next `flywheel run` goes on with it."""
    _give(open_store(home), run, True, by, because)


def reject(
    because: Annotated[str, typer.Option(help="Why, in a few words: the decision will say so.")],
    run: WaitingRun = None,
    by: Author = None,
    home: Home = Path("runs"),
) -> None:
    """Say no to the promotion that a run waits with: the next `flywheel run` keeps the old policy."""
    _give(open_store(home), run, False, by, because)


def ask_here(store: "Store", run: str, waiting: "ApprovalNeeded") -> None:
    """Ask whoever sits at the terminal; where nobody does, what waits goes on as an error."""
    if not sys.stdin.isatty():
        raise waiting
    typer.echo(str(waiting).partition(" Say `")[0])
    yes = typer.confirm("Promote it?")
    because = typer.prompt("Why?", default="", show_default=False) if yes else typer.prompt("Why not?")
    _give(store, run, yes, None, because)


def _give(store: "Store", run: str | None, yes: bool, by: str | None, because: str) -> None:
    from flywheel.pipeline.approve import record_verdict
    from flywheel.store.lookup import find_run

    settled = record_verdict(
        store, told_which(find_run(store, run, waiting=True)).id, yes, by or getpass.getuser(), because
    )
    typer.echo(f"iteration {settled.number}: {settled.candidate} is {'approved' if yes else 'rejected'}")
