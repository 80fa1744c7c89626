"""`flywheel store`: whether the history is sound, a smaller file, a copy."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.options import Home
from flywheel.store.home import open_store

UNSOUND = 1
"""How `check` ends where something is wrong."""

store_commands = typer.Typer(help="The store: whether it is sound, a smaller file, a copy.", no_args_is_help=True)


@store_commands.command("check")
def check_store(
    home: Home = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object per finding.")] = False,
) -> None:
    """Look for rows that do not fit together; ends with 1 if there are any. A run may go on meanwhile."""
    from flywheel.store.maintenance import faults

    wrong = False
    for finding in faults(open_store(home), home):
        wrong |= finding.kind == "error"
        kind, where, what, rows, example = finding
        line = f"{kind}: {where}: {what}: {rows} row{'s' * (rows != 1)}, such as {example}"
        typer.echo(json.dumps(finding._asdict()) if as_json else line)
    if wrong:
        raise typer.Exit(UNSOUND)
    if not as_json:
        typer.echo("the store is sound")


@store_commands.command()
def compact(home: Home = Path("runs")) -> None:
    """Write the file anew without dead space. Whoever else wants it waits, so do it when no run goes on."""
    from flywheel.store.copies import compact as rewrite

    before, after = rewrite(open_store(home))
    typer.echo(f"{before / 1e6:.1f} MB before, {after / 1e6:.1f} MB now")


@store_commands.command()
def backup(
    path: Annotated[Path, typer.Argument(help="File that is to be made; it must not be there yet.")],
    home: Home = Path("runs"),
) -> None:
    """Copy the store as it is now, also while a run goes on."""
    from flywheel.store.copies import backup as copy

    copy(open_store(home), path)
    typer.echo(f"{path.stat().st_size / 1e6:.1f} MB at {path}")
