"""`flywheel replay`: what a run would have trained on with another judge, filter or pick."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel.cli.options import EngineName, Home, RunName, told_which
from flywheel.errors import FlywheelError
from flywheel.store.home import open_store

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from flywheel.replay.iteration import Cost, Stage
    from flywheel.replay.replay import Plan, Replay

EXAMPLE_CHARACTERS = 300
"""Characters of a text that an example shows."""


def replay(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or the path of a recipe file.")],
    home: Home = Path("runs"),
    run: RunName = None,
    iteration: Annotated[
        list[int] | None, typer.Option(help="Its number; can be repeated. All that have selected, if not given.")
    ] = None,
    engine: EngineName = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As in keep.1.n=4; can be repeated.")
    ] = None,
    cost: Annotated[bool, typer.Option("--cost", help="Only say what models would be asked.")] = False,
    examples: Annotated[int, typer.Option(min=0, help="How many gained and lost rows of an iteration to show.")] = 3,
    export: Annotated[
        Path | None, typer.Option(help="Folder for the would-be training sets, as JSONL and Parquet for TRL.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object per training row of either set.")] = False,
) -> None:
    """Judge and filter a run's stored answers again, and show what would have trained beside what did.

    The record is not touched. What models have said is not asked again; what they are asked is kept beside the record,
    in replays.duckdb.
    """
    import sys
    from functools import partial

    from rich.console import Console

    from flywheel.recipe.load import load
    from flywheel.replay.iteration import STAGES
    from flywheel.replay.replay import planned
    from flywheel.store.lookup import find_run

    overrides = (*(settings or ()), *((f"engine={engine}",) if engine else ()))
    recipe_at = partial(load, recipe, overrides=overrides)
    if export and export.exists() and any(export.iterdir() if export.is_dir() else [export]):
        raise FlywheelError(f"{export} is there already and not empty: name a new folder for the training sets")
    screen, aside = Console(highlight=False), Console(highlight=False, stderr=True)
    chosen = told_which(find_run(open_store(home), run))
    with planned(recipe_at, home, chosen.id, iteration) as plan:
        for stage in STAGES:
            asked = plan.costs(stage)
            for each in asked:
                typer.echo(_cost(each), err=not cost)
            if cost and asked:
                return
            _judge(plan, stage, aside, shown=aside.is_terminal and not as_json)
        if cost:
            typer.echo("no model has to be asked")
            return
        found = plan.replay()
        if export:
            plan.export(found, export)
    if as_json:
        sys.stdout.write(found.rows.write_ndjson())
    else:
        _show(found, examples, screen)


def _cost(cost: "Cost") -> str:
    most = "up to " if cost.at_most else ""
    each = f", {cost.replies} replies to each" if cost.replies > 1 else ""
    plural = "s" * (cost.questions != 1)
    whom = f"{cost.weights} on engine {cost.engine}"
    return f"{cost.judge} asks {whom} {most}{cost.questions:,} question{plural}{each}"


def _judge(plan: "Plan", stage: "Stage", console: "Console", shown: bool) -> None:
    """A bar for each judge and iteration, one after the other."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not shown) as bars:
        tasks: dict[str, Any] = {}
        for number, judge, done, total in plan.judge(stage):
            name = f"iteration {number}: {one_line(judge, EXAMPLE_CHARACTERS)}"
            if name not in tasks:
                for old in tasks.values():
                    bars.update(old, visible=False)
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)


def _show(found: "Replay", examples: int, console: "Console") -> None:
    """The tables, what is to be noted, and some rows."""
    import polars as pl

    from flywheel.report.tables import print_table

    rows = found.iterations
    changed = rows.filter(~pl.col("same"))
    typer.echo(f"run {found.name} ({found.run}): what trained, and what would have trained with this recipe")
    print_table(_titled(rows.drop("same", "notes")), console)
    if found.filters.height:
        print_table(_titled(found.filters), console)
    for number, notes in rows.select("iteration", "notes").iter_rows():
        for note in notes:
            typer.echo(f"iteration {number}: {one_line(note, 2 * EXAMPLE_CHARACTERS)}")
    for note in found.left_out:
        typer.echo(f"left out: {note}")
    if changed.is_empty():
        many = "both iterations" if len(rows) == 2 else f"all {len(rows)} iterations" if len(rows) > 2 else "iteration"
        where = many if len(rows) > 1 else f"iteration {rows['iteration'][0]}"
        typer.echo(f"nothing differs: the same rows in the same order in {where}")
    for number in changed["iteration"]:
        for outcome in ("gained", "lost"):
            _examples(found.rows.filter(iteration=number, outcome=outcome), examples)


def _titled(frame: "pl.DataFrame") -> "pl.DataFrame":
    return frame.rename({name: name.replace("_", " ") for name in frame.columns})


def _examples(rows: "pl.DataFrame", count: int) -> None:
    """The first few rows, a few lines each."""
    if rows.is_empty() or not count:
        return
    first = rows.row(0, named=True)
    typer.echo(f"\niteration {first['iteration']}, {first['outcome']}: {min(count, len(rows))} of {len(rows)} rows")
    for row in rows.head(count).iter_rows(named=True):
        when = "then " if row["outcome"] == "gained" else ""
        right = {True: "right", False: "wrong", None: "nobody knows whether it is right"}[row["right"]]
        typer.echo(f"  prompt    {one_line(row['chat'][-1]['content'])}")
        for name, prefix in (("chosen", ""), ("rejected", "rejected_")):
            if row[name] is not None:
                scores = _scores((row[f"{prefix}score_then"], row[f"{prefix}score_now"]))
                label = name if row["rejected"] is not None else "bad" if row["weight"] < 0 else "answer"
                typer.echo(f"  {label:9} {one_line(row[name])}  ({scores})")
        typer.echo(f"            {right}; {when}{one_line(row['why'])}")


def _scores(scores: Sequence[float | None]) -> str:
    then, now = ("none" if score is None else f"{score:.4g}" for score in scores)
    return f"score then {then}, now {now}"


def one_line(text: str, longest: int = EXAMPLE_CHARACTERS) -> str:
    """One line of at most so many characters, of which none moves the cursor or changes colours."""
    cut = text[:longest]
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in cut)
    return shown if len(text) <= longest else f"{shown}…"
