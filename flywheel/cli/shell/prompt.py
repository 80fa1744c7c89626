"""The line that is typed: its colours, its completion, and what was typed before."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.lexers import PygmentsLexer

from flywheel.cli.shell import ask

KEYWORDS = (
    "all and as asc avg between by case count desc describe distinct else end from group having ilike in is join left "
    "like limit max min not null on or order select sum summarize then union unnest using when where with"
)


COMMANDS = {
    ".help": "this list",
    ".tables": "the tables, where every row of the history is",
    ".views": "the views, which answer what everybody asks, and what each is for",
    ".columns NAME": "the columns of a table or view, and what each means",
    ".export FILE": "write all of the last answer, or of the next if there is none yet, to a .csv, .parquet or .jsonl",
    ".expand": "rows one below the other, with all of a long text; again: rows as lines",
    ".quit": "leave, as Ctrl-D does",
}
COMMAND_WORDS = {"help": ".help", "exit": ".quit", "quit": ".quit"}
"""What people write who come from other shells."""


def history_file() -> Path:
    """Where the questions of earlier days are: $XDG_STATE_HOME/flywheel/sql_history."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "flywheel" / "sql_history"


def session(known: Sequence[ask.Relation]) -> "PromptSession[str]":
    """Asks for a text, which may have several lines."""
    return PromptSession(
        history=history(),
        completer=Names(known),
        complete_while_typing=False,
        enable_history_search=True,
        lexer=PygmentsLexer.from_filename("question.sql"),
        multiline=Condition(lambda: not complete(get_app().current_buffer.text)),
        prompt_continuation="     ... ",
    )


def complete(text: str) -> bool:
    """Whether Enter asks: after a semicolon, a command, or nothing at all."""
    text = text.strip()
    return not text or text.startswith(".") or text.endswith(";") or text.lower() in COMMAND_WORDS


def history() -> History:
    """Questions may hold what is private: nobody else can read the file. Without a place for it, none is kept."""
    path = history_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)


class Names(Completer):
    """Commands, tables and views, and columns: first those of the tables and views that the question names."""

    def __init__(self, known: Sequence[ask.Relation]) -> None:
        self.known = known

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What can stand before the cursor."""
        before = document.text_before_cursor
        found = re.search(r"\S*$" if before.lstrip().startswith(".") else r"\w*$", before)
        word = found[0] if found else ""
        for name, meaning in self._offered(document.text, before).items():
            if name.lower().startswith(word.lower()):
                yield Completion(name, -len(word), display_meta=meaning)

    def _offered(self, text: str, before: str) -> dict[str, str]:
        relations = {known.name: known.comment for known in self.known}
        if before.lstrip().startswith("."):
            commands = {name.partition(" ")[0]: meaning for name, meaning in COMMANDS.items()}
            return relations if " " in before.lstrip() else commands
        if re.search(r"\b(from|join|describe|summarize)\s+\w*$", before, re.I):
            return relations
        named = set(re.findall(r"\w+", text.lower()))
        ordered = sorted(self.known, key=lambda known: known.name not in named)
        columns: dict[str, str] = {}
        for known in ordered:
            for column in known.columns:
                columns.setdefault(column.name, column.comment)
        return columns | relations | dict.fromkeys(KEYWORDS.split(), "")
