"""A run on the screen: a bar for the step that is going on, a line for each iteration, and what came of it.

`events` says what happens; `progress_lines` shows it to people (bars only in a terminal), `json_lines` to programs. All
numbers come from the store.
"""

import json
from collections.abc import Callable, Iterable
from typing import NamedTuple

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from flywheel.processes.run_lock import going_on
from flywheel.report.summary import Event, SummaryRow
from flywheel.report.tables import ALARM, say
from flywheel.store import evidence, queries
from flywheel.store.lookup import meant
from flywheel.store.store import Store

SQL_EXAMPLES = (
    'flywheel sql "from progress"',
    'flywheel sql "from funnel"',
    'flywheel sql "select text, score from judged where iteration = 1 order by score desc limit 5"',
)


class Column(NamedTuple):
    """A column of the line that is printed for each iteration."""

    title: str
    width: int
    cell: Callable[[SummaryRow], str]


def _number(name: str, form: str) -> Callable[[SummaryRow], str]:
    return lambda row: "-" if row.get(name) is None else format(row[name], form)


def _difference(row: SummaryRow) -> str:
    if row.get("difference") is None:
        return "-"
    return f"{100 * row['difference']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"


def _kept(row: SummaryRow) -> str:
    kept = "-" if row.get("kept") is None else row["kept"]  # nothing is selected as long as judges are at work
    return f"{kept}/{row['generated']}" if row.get("generated") else "-"


COLUMNS = (
    Column("iteration", 9, _number("iteration", "d")),
    Column("exam", 6, _number("score", ".3f")),
    Column("points (95% interval)", 22, _difference),
    Column("p", 8, _number("p", ".2g")),
    Column("judge", 5, _number("agreement", ".3f")),
    Column("kept", 12, _kept),
    Column("examples", 8, _number("examples", "d")),
    Column("tokens", 10, _number("tokens", ",d")),
    Column("seconds", 8, _number("seconds", ".1f")),
    Column("decision", 9, lambda row: str(row.get("decision") or "-")),
)


def json_lines(happening: Iterable[Event], quiet: bool) -> None:
    """One JSON object in a line for each step and iteration that ends, and for the run; if quiet, for the run only."""
    for kind, values in happening:
        if kind == "end" or (kind != "at" and not quiet):
            print(json.dumps({"event": kind, **values}, default=str), flush=True)


def progress_lines(happening: Iterable[Event], console: Console, quiet: bool) -> None:
    """For people: a bar in a terminal, each note, a line per iteration, and the way to the history."""
    shown = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")
    times = TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
    headed = False
    with Bars(*shown, *times, console=console, transient=True, disable=quiet or not console.is_terminal) as bars:
        for kind, values in happening:
            if kind == "at":
                _move(bars, values)
            elif kind == "end":
                break
            elif not quiet and kind == "step" and values["note"]:
                say(console, f"{values['step']}: {values['note']}", "dim")
            elif not quiet and kind == "iteration":
                _iteration(console, values, headed)
                headed = True
    say(console, values["sentence"], "bold")
    if not quiet:
        say(console, f"Every row of it is in {values['store']}. Ask it:", "")
        say(console, "\n".join(f"  {example}" for example in SQL_EXAMPLES), "cyan")


def _move(bars: Bars, values: SummaryRow) -> None:
    """One bar, for the step that is going on."""
    name = f"iteration {values['iteration']}: {values['step']}"
    if [task.description for task in bars.tasks] != [name]:
        for old in bars.task_ids:
            bars.remove_task(old)
        bars.add_task(name, rate="")
    rate = f"{values['tokens'] / values['seconds']:,.0f} tokens/s" if values["tokens"] and values["seconds"] else ""
    bars.update(bars.task_ids[0], completed=values["done"], total=values["total"], rate=rate)


def _iteration(console: Console, row: SummaryRow, headed: bool) -> None:
    if not headed:
        say(console, "  ".join(column.title.rjust(column.width) for column in COLUMNS), "bold")
    style = {"promote": "green", "roll back": "red"}.get(str(row.get("decision")), "yellow")
    say(console, "  ".join(column.cell(row).rjust(column.width) for column in COLUMNS), style)
    for note in (row.get("notes") or "").splitlines():
        _note(console, " " * 11, note)


def overview(store: Store, console: Console) -> None:
    """Every run with a line for each of its iterations, and the last decision in words; then what has only begun."""
    rows, runs, going = store.sql("from progress").sort("iteration"), evidence.runs(store), going_on(store.path.parent)
    for run in runs.iter_rows(named=True):
        alike = runs.filter(name=run["name"])
        named = f"  this is what the name {run['name']} means" if _stands_for(alike, run["id"]) else ""
        goes_on = f"  goes on{going[run['id']].who}" if run["id"] in going else ""
        head = f"{run['name']}  {run['id']}  begun {run['begun']:%Y-%m-%d %H:%M} UTC"
        say(console, head + goes_on + named, "bold")
        mine = rows.filter(pl.col("run") == run["id"]).to_dicts()
        for position, row in enumerate(mine):
            _iteration(console, row, headed=position > 0)
        decided = queries.decisions(store, run["id"])
        say(console, f"{decided['reason'][-1] if len(decided) else 'nothing is decided yet'}\n", "dim")
    for id, (name, who) in going.items():
        if id not in runs["id"]:
            say(console, f"{name}  {id}  starts{who}: nothing is made yet", "bold")
    if runs.is_empty() and not going:
        say(console, f"{store.path} holds no run: one is there as soon as it has made something", "")


def _stands_for(alike: pl.DataFrame, run: str) -> bool:
    return len(alike) > 1 and bool(meant(alike)["id"] == run)


def _note(console: Console, before: str, note: str) -> None:
    say(console, before + note, ALARM["red" if note.startswith("red") else "yellow"])
