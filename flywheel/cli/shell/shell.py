"""`flywheel sql` in a terminal: questions of several lines, names that complete, answers that fit the screen.

Each question opens the store, asks and closes it again, so a run goes on beside an open shell. Nothing can be written.
"""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import polars as pl
from prompt_toolkit import PromptSession
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flywheel.cli.shell import ask, screen
from flywheel.cli.shell.prompt import COMMAND_WORDS, COMMANDS, session
from flywheel.errors import FlywheelError
from flywheel.store.store import Store

_T = TypeVar("_T")
SCREEN_ROWS = 1000
"""Rows of an answer that come on the screen; `.export` writes all of them."""
GREETING = "Ask the history in SQL, each question ends with a semicolon. .help shows more, .views what to ask."


@dataclass
class Shell:
    """What the shell remembers from one question to the next."""

    home: Path
    console: Console
    known: Sequence[ask.Relation]
    last: str | None = None
    expanded: bool = False
    waiting_file: Path | None = None

    def say(self, text: str, style: str = "dim") -> None:
        """A line that is no answer."""
        self.console.print(Text(text, style), soft_wrap=True)

    def of_store(self, question: Callable[[Store], _T]) -> _T:
        """What the store says, when it is its turn; one is told who else has it."""
        return ask.in_turn(self.home, question, self.say)


def take_questions(home: Path, console: Console) -> None:
    """Take questions and commands until the end of the input. FlywheelError if there is no store."""
    shell = Shell(home, console, ask.in_turn(home, ask.relations, lambda told: console.print(told, highlight=False)))
    typed = session(shell.known)
    shell.say(GREETING)
    before = signal.signal(signal.SIGINT, lambda *_: None)  # at the prompt Ctrl-C is a key, and between no matter
    try:
        while _turn(shell, typed):
            pass
    finally:
        signal.signal(signal.SIGINT, before)


def _turn(shell: Shell, typed: "PromptSession[str]") -> bool:
    """One text and what comes of it; whether there is more."""
    try:
        text = typed.prompt("flywheel> ")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        heard(shell, text)
    except EOFError:
        return False
    except FlywheelError as error:
        shell.say(f"error: {error}", "red")
    except KeyboardInterrupt:
        shell.say("cancelled")
    finally:
        signal.signal(signal.SIGINT, lambda *_: None)
    return True


def heard(shell: Shell, text: str) -> None:
    """Does what a text says: a command or questions. EOFError where it says to leave."""
    text = COMMAND_WORDS.get(text.strip().rstrip(";").lower(), text.strip())
    if text.startswith("."):
        command, _, rest = text.rstrip(";").partition(" ")
        _command(shell, command, rest.strip())
    elif text:
        for question in shell.of_store(lambda store: ask.statements(store, text)):
            _question(shell, question)


def _question(shell: Shell, question: str) -> None:
    if shell.waiting_file:
        path, shell.waiting_file = shell.waiting_file, None
        _export(shell, question, path)
    else:
        began = time.monotonic()
        frame = shell.of_store(lambda store: ask.answer_question(store, question, SCREEN_ROWS + 1))
        _show(shell, frame, time.monotonic() - began)
    shell.last = question


def _show(shell: Shell, frame: pl.DataFrame, seconds: float) -> None:
    if frame.width == 0:
        shell.say("done")
        return
    some, more = frame.head(SCREEN_ROWS), len(frame) > SCREEN_ROWS
    screen.show(screen.upright(some) if shell.expanded else screen.row_lines(some, shell.console.width), shell.console)
    rows = (
        f"the first {SCREEN_ROWS} rows; .export FILE writes all" if more else f"{len(some)} row{'s' * (len(some) != 1)}"
    )
    shell.say(f"{rows}, {seconds:.2f} s")


def _export(shell: Shell, question: str, path: Path) -> None:
    rows = shell.of_store(lambda store: ask.export(store, question, path))
    shell.say(f"{rows:,} row{'s' * (rows != 1)} in {path}")


def _command(shell: Shell, command: str, rest: str) -> None:
    if command == ".quit":
        raise EOFError
    if command == ".export":
        _export_command(shell, rest)
    elif command == ".expand":
        shell.expanded = not shell.expanded
        shell.say(f"rows are shown {'one below the other' if shell.expanded else 'as lines'}")
    elif command == ".columns":
        found = _named(shell.known, rest)
        _list(shell, [(column.name, column.kind, column.comment) for column in found.columns])
    elif command in (".tables", ".views"):
        wanted = command == ".views"
        _list(shell, [(known.name, known.comment) for known in shell.known if known.is_view == wanted])
    elif command == ".help":
        _list(shell, list(COMMANDS.items()))
    else:
        raise FlywheelError(f"there is no command {command}: .help shows those that there are")


def _export_command(shell: Shell, name: str) -> None:
    if not name:
        raise FlywheelError(".export needs a file: .export answer.parquet, or one that ends in .csv or .jsonl")
    path = Path(name.strip("'\"")).expanduser()
    ask.check_file(path)
    if shell.last is None:
        shell.waiting_file = path
        shell.say(f"the next answer goes to {path}")
    else:
        _export(shell, shell.last, path)


def _named(known: Sequence[ask.Relation], name: str) -> ask.Relation:
    name = name.strip('"').lower()
    for relation in known:
        if relation.name == name:
            return relation
    raise FlywheelError(
        f"there is no table or view {name!r}: .tables and .views list them"
        if name
        else ".columns needs a table or view: .columns judged"
    )


def _list(shell: Shell, rows: Sequence[tuple[str, ...]]) -> None:
    """Names and what they mean, aligned; nothing is cut."""
    table = Table.grid(padding=(0, 3))
    for place in range(len(rows[0])):
        table.add_column(style="bold" if place == 0 else "", no_wrap=place == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    screen.show(table, shell.console)
