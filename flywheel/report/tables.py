"""Frames on the screen, cut where they are long, and it says so."""

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flywheel.report.summary import SummaryRow

ROWS = 200
"""Rows that a table shows; all of them are to be had as CSV or JSON."""
CELL_CHARACTERS = 300
"""Characters of a cell that a table shows."""
PIPED_WIDTH = 200
ALARM = {"red": "bold red", "yellow": "yellow"}


def say(console: Console, text: str, style: str) -> None:
    """A line of text in a style."""
    console.print(Text(text, style), soft_wrap=True)


def print_table(frame: pl.DataFrame, console: Console) -> None:
    """Print a frame; long cells and many rows are cut, and it says so."""
    shown = Table(*(escape(name) for name in frame.columns), row_styles=("", "dim"))
    for row in frame.head(ROWS).iter_rows():
        shown.add_row(*(Text(_cell(value)) for value in row))
    _wide(console).print(shown)
    if len(frame) > ROWS:
        console.print(f"{ROWS} of {len(frame)} rows; --csv or --json gives all of them")


def marked_table(rows: list[SummaryRow], console: Console) -> None:
    """Print HEALTH with `alarm`, its colour or None, and `line`, which one was crossed or kept, or None."""
    shown = Table("judge", "measure", "value", "95% interval", "n", "line")
    for row in rows:
        interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        value = "-" if row["value"] is None else f"{row['value']:.3f}"
        line = f"{row['alarm']} alarm: {row['line']}" if row["alarm"] else row["line"] or ""
        cells = (row["judge"], row["measure"], value, interval, str(row["n"]), line)
        shown.add_row(*map(Text, cells), style=ALARM.get(row["alarm"], "green" if row["line"] else ""))
    _wide(console).print(shown)


def health_by_iteration(health: pl.DataFrame, progress: pl.DataFrame, console: Console) -> None:
    """Print the rows of `judge_health` of a run with a column for each iteration, and its alarms."""
    interval = pl.format("{} ({} to {})", *(pl.col(name).round(3) for name in ("value", "low", "high")))
    told = health.with_columns(told=pl.coalesce(interval, pl.col("value").round(3).cast(pl.String), pl.lit("-")))
    wide = told.pivot("iteration", index=["judge", "measure"], values="told", maintain_order=True)
    print_table(wide.rename({name: f"iteration {name}" for name in wide.columns[2:]}), console)
    for row in progress.drop_nulls("notes").iter_rows(named=True):
        say(console, "\n".join(f"iteration {row['iteration']}: {note}" for note in row["notes"].splitlines()), "yellow")


def _wide(console: Console) -> Console:
    if not console.is_terminal:
        console.width = PIPED_WIDTH  # there is no screen to fit
    return console


def _cell(value: object) -> str:
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= CELL_CHARACTERS else text[:CELL_CHARACTERS] + "…"
