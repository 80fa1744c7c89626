"""`flywheel judge`: what the judges of a recipe are worth, on labelled answers or in a run."""

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel.cli.options import EngineName, Home, RunName, told_which
from flywheel.store.home import open_store

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from flywheel.recipe.recipe import Alarm
    from flywheel.replay.judge_trial import Trial

RED = 1
"""How `check` ends on a red alarm."""

judge_commands = typer.Typer(help="What judges are worth: on labelled answers, or in a run.", no_args_is_help=True)
As_Json = Annotated[bool, typer.Option("--json", help="A JSON object per row.")]


@judge_commands.command("check")
def check_judges(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or the path of a recipe file.")],
    data: Annotated[list[Path], typer.Option(help="JSONL or Parquet with labelled answers; can be repeated.")],
    home: Home = Path("runs"),
    engine: EngineName = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As in judges.0.low=1; can be repeated.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the alarms that go off.")] = False,
    as_json: As_Json = False,
) -> None:
    """Let a recipe's judges judge answers whose worth is known; ends with 1 on a red alarm.

    A row has `prompt` (or `chat`, `question`), and `answer` and `gold`; or lists of them, `answers` and `gold`; or
    `chosen` and `rejected`; or `response_A`, `response_B` and `label` ("A>B" or "B>A").
    """
    from rich.console import Console

    from flywheel.engines.table import Engines, open_engine
    from flywheel.recipe.load import load
    from flywheel.recipe.recipe import DEFAULT_ALARMS
    from flywheel.replay.judge_trial import open_trial
    from flywheel.replay.labelled import read_labelled
    from flywheel.report.tables import marked_table

    loaded = load(recipe, overrides=(*(settings or ()), *((f"engine={engine}",) if engine else ())))
    labelled, alarms, console = read_labelled(data), loaded.alarms or DEFAULT_ALARMS, Console(highlight=False)
    with contextlib.closing(Engines(open_engine(loaded.engine))) as engines:
        trial = open_trial(loaded, labelled, engines, home)
        _judge(trial, console, shown=console.is_terminal and not quiet and not as_json)
        health = trial.health()
    rows = _marked(health, alarms)
    shown = [row for row in rows if row["alarm"] or not quiet]
    if as_json:
        for row in shown:
            typer.echo(json.dumps(row))
    elif shown:
        marked_table(shown, console)
    if any(row["alarm"] == "red" for row in rows):
        raise typer.Exit(RED)


def _judge(trial: "Trial", console: "Console", shown: bool) -> None:
    """A bar for each judge."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not shown) as bars:
        total, judges = len(trial.prompts), trial.iteration.titles(trial.iteration.recipe.judges)
        tasks = {title: bars.add_task(name, total=total) for title, name in judges.items()}
        for name, done in trial.judge():
            bars.update(tasks[name], completed=done)


def _marked(health: "pl.DataFrame", alarms: "Sequence[Alarm]") -> list[dict[str, Any]]:
    """HEALTH as rows with `alarm` (red, yellow or None) and `line`: which one was crossed, or which ones there are."""
    from flywheel.health.alarms import border, going_off

    crossed = {(line.judge, line.measure): line for line in reversed(going_off(alarms, health))}
    marked = []
    for row in health.drop("run", "iteration").to_dicts():
        line = crossed.get((row["judge"], row["measure"]))
        colour = line and ("red" if line.alarm.red else "yellow")
        mine = [each for each in alarms if each.measure == row["measure"] and each.judge in (None, row["judge"])]
        marked.append({**row, "alarm": colour, "line": line.beyond if line else ", ".join(map(border, mine)) or None})
    return marked


@judge_commands.command("health")
def show_health(
    home: Home = Path("runs"),
    run: RunName = None,
    as_json: As_Json = False,
) -> None:
    """Show what a run's judges were worth in each iteration, and the alarms that went off."""
    from rich.console import Console

    from flywheel.report.tables import health_by_iteration
    from flywheel.store.lookup import find_run

    store = open_store(home)
    id = told_which(find_run(store, run)).id
    rows = store.sql("from judge_health").filter(run=id)
    if as_json:
        sys.stdout.write(rows.write_ndjson())
    else:
        health_by_iteration(rows, store.sql("from progress").filter(run=id), Console(highlight=False))
