"""Answers on a screen: a row in a line, or a row one column below the other; what is too long goes to a pager."""

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence

import polars as pl
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

NARROW = 10
"""Characters that a column has at least; where not all columns have them, the last ones are left out."""
CONTROL = {code: 0x2400 + code for code in range(32)} | dict.fromkeys(range(127, 160), "�")
"""What a model writes must not move the cursor or change colours: control characters become visible."""
IN_A_LINE = CONTROL | {ord("\n"): "⏎", ord("\t"): " "}
IN_A_TEXT = CONTROL | {ord("\n"): "\n", ord("\t"): "    "}
PAGER = "less"
PAGER_OPTIONS = "-SRFX"
"""Of less, unless $LESS says otherwise: long lines are not wrapped, colours are shown, a short text is not paged."""


def row_lines(frame: pl.DataFrame, width: int) -> RenderableType:
    """A line for each row, no wider than `width`: long cells are cut, and it says which columns are left out."""
    cells = [[_cell(value) for value in frame[name].to_list()] for name in frame.columns]
    heads = [name.translate(IN_A_LINE) for name in frame.columns]
    widths = [max(map(cell_len, (head, *column))) for head, column in zip(heads, cells, strict=True)]
    shown, widest = _fit(widths, width)
    table = Table()
    for place in range(shown):
        right = frame.dtypes[place].is_numeric()
        wide = min(widths[place], widest)
        table.add_column(
            Text(heads[place]), justify="right" if right else "left", width=wide, no_wrap=True, overflow="ellipsis"
        )
    for row in zip(*cells[:shown], strict=True):
        table.add_row(*map(Text, row))
    if shown == len(heads):
        return table
    return Group(table, Text(f"left out: {', '.join(heads[shown:])}; .expand shows them", "dim"))


def upright(frame: pl.DataFrame) -> RenderableType:
    """Each row one column below the other, with all of a long text."""
    rows: list[RenderableType] = []
    for number, row in enumerate(frame.iter_rows(named=True), 1):
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for name, value in row.items():
            table.add_row(Text(name.translate(IN_A_LINE)), Text(_spell(value).translate(IN_A_TEXT)))
        rows += [Rule(f"row {number}", align="left"), table]
    return Group(*rows)


def show(content: RenderableType, console: Console) -> None:
    """Print; through a pager where it is longer than the screen."""
    with console.capture() as captured:
        console.print(content)
    text = captured.get()
    if console.is_terminal and text.count("\n") > console.height - 2 and _page(text):
        return
    console.file.write(text)
    console.file.flush()


def _fit(widths: Sequence[int], width: int) -> tuple[int, int]:
    """How many columns fit, and the width that none of them may pass: the widest ones give way first."""
    for shown in range(len(widths), 0, -1):
        room = width - 3 * shown - 1
        for widest in range(max(widths), NARROW - 1, -1):
            if sum(min(wide, widest) for wide in widths[:shown]) <= room:
                return shown, widest
        if sum(widths[:shown]) <= room:  # narrower than NARROW by nature
            return shown, NARROW
    return 1, max(1, width - 4)


def _cell(value: object) -> str:
    return (f"{value:.4g}" if isinstance(value, float) else _spell(value))[:1000].translate(IN_A_LINE)


def _spell(value: object) -> str:
    """Nested values as JSON."""
    if isinstance(value, (list, dict)):
        return json.dumps(value, default=str, ensure_ascii=False)
    return "" if value is None else str(value)


def _page(text: str) -> bool:
    """Show it with $PAGER, or less; whether there is one. Ctrl-C is the pager's while it runs."""
    command = shlex.split(os.environ.get("PAGER") or PAGER)
    if shutil.which(command[0]) is None:
        return False
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        environment = {"LESS": PAGER_OPTIONS, "LESSCHARSET": "utf-8", **os.environ}
        subprocess.run(command, input=text, text=True, encoding="utf-8", env=environment)
    except BrokenPipeError:
        pass  # closed before its end
    finally:
        signal.signal(signal.SIGINT, before)
    return True
