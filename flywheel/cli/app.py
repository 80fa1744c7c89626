"""The `flywheel` command. What it imports at its start is light, so that help is instant."""

import ast
import contextlib
import os
import sys
from collections.abc import Callable, Generator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from flywheel.cli.approve import approve, ask_here, reject
from flywheel.cli.export import export_commands, import_
from flywheel.cli.judge import judge_commands
from flywheel.cli.options import EngineName, Home, RunName, told_which
from flywheel.cli.replay import replay
from flywheel.cli.sql import sql
from flywheel.cli.store import store_commands
from flywheel.errors import ApprovalNeeded, FlywheelError
from flywheel.preflight.machine import findings, servers
from flywheel.processes.environment import cores, version
from flywheel.store.home import open_store

if TYPE_CHECKING:
    from flywheel.pipeline.iteration import Progress
    from flywheel.recipe.recipe import Recipe

from flywheel.processes.environment import QUIET

STOPPED = 130
FAILED = 2


class Boundary(TyperGroup):
    """Where errors end: one that a user can cause is told in its own words, one in a user's part with its line;
    any other is a bug, with its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except FlywheelError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            typer.echo("stopped; run the same command again to go on", err=True)
            raise typer.Exit(STOPPED) from None
        except BrokenPipeError:  # the reader of our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except Exception as error:
            from flywheel.identity.source import users_line

            place = users_line(error)
            if place is None:
                raise
            typer.echo(f"error: {place}: {type(error).__name__}: {error}", err=True)
            raise typer.Exit(FAILED) from None


app = typer.Typer(
    cls=Boundary,
    help="Turn a language model into a better one with data that it makes itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(judge_commands, name="judge")
app.add_typer(store_commands, name="store")
app.add_typer(export_commands, name="export")
app.command("import")(import_)
app.command()(replay)
app.command()(sql)
app.command()(approve)
app.command()(reject)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flywheel {version('flywheel') or 'unknown'}")
        raise typer.Exit


@app.callback()
def start_process(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Settings for this process and its children; what the user has set stays."""
    # OpenMP threads beyond the free cores wait for each other: sampling was measured to run 10 to 40 times slower.
    for name, value in {**QUIET, "OMP_NUM_THREADS": str(cores())}.items():
        os.environ.setdefault(name, value)


@app.command("run")
def run_recipe(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or the path of a recipe file.")],
    iterations: Annotated[int | None, typer.Option(min=0, help="How many there are to be in all.")] = None,
    home: Home = Path("runs"),
    engine: EngineName = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As in sampling.n=4; can be repeated.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Anew beside what is there, with another seed.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the last line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object per step and iteration.")] = False,
) -> None:
    """Run the loop. What is in the store is not made again, so the same command goes on where it stopped."""
    from flywheel.recipe.load import load
    from flywheel.recipe.runs import fresh_seed, run_in

    overrides = (*(settings or ()), *((f"engine={engine}",) if engine else ()))
    if fresh:
        seed = fresh_seed(load(recipe, overrides=overrides), home)
        overrides = (*overrides, f"seed={seed}")
        typer.echo(f"a fresh run with seed={seed}: with --set seed={seed} instead of --fresh it goes on", err=True)
    recipe_at = partial(load, recipe, overrides=overrides)
    while True:
        try:
            return _spin(recipe_at, home, iterations, quiet, as_json)
        except ApprovalNeeded as waiting:  # whoever sits here may answer at once
            store = open_store(home)
            ask_here(store, run_in(recipe_at, store), waiting)


def _spin(recipe_at: "Callable[[int], Recipe]", home: Path, iterations: int | None, quiet: bool, as_json: bool) -> None:
    """Run the loop, and show it."""
    from rich.console import Console

    from flywheel.pipeline.loop import iterate
    from flywheel.recipe.runs import run_in
    from flywheel.report.summary import events
    from flywheel.report.terminal import json_lines, progress_lines

    iterating = cast("Generator[Progress, None, None]", iterate(recipe_at, home, iterations=iterations))
    with contextlib.closing(iterating) as steps:  # ends the engine's processes, whatever happens here
        happening = events(steps, lambda: run_in(recipe_at, open_store(home)), partial(open_store, home))
        if as_json:
            json_lines(happening, quiet)
        else:
            progress_lines(happening, Console(highlight=False), quiet)


@app.command()
def status(home: Home = Path("runs")) -> None:
    """Show the runs with their iterations and decisions."""
    from rich.console import Console

    from flywheel.report.terminal import overview

    overview(open_store(home), Console(highlight=False))


@app.command()
def recipes() -> None:
    """List the shipped recipes."""
    from flywheel.recipe.load import shipped

    for name, path in shipped().items():
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        typer.echo(f"{name:24} {doc.partition(chr(10))[0]}")


@app.command()
def doctor(
    home: Home = Path("runs"),
    engine: Annotated[str, typer.Option(help="Addresses of servers, to ask what they would draw by.")] = "",
) -> None:
    """Show what this machine has, and which engines and recipes it can run."""
    marks = {"ok": ("ok", "green"), "missing": ("--", "yellow"), "bad": ("!!", "red")}
    for finding in chain(findings(home), servers(engine)):
        mark, colour = marks[finding.state]
        typer.echo(f"{typer.style(mark, fg=colour)}  {finding.what:28} {finding.value}")


@app.command()
def report(home: Home = Path("runs"), run: RunName = None) -> None:
    """Write a run's report with plots as one HTML file."""
    from flywheel.report.html import write
    from flywheel.store.lookup import find_run

    store = open_store(home)
    typer.echo(write(store, home, told_which(find_run(store, run)).id))


if __name__ == "__main__":
    app()
