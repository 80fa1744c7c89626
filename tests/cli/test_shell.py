"""The SQL shell: what it says to questions and commands, and how it behaves at a terminal."""

import fcntl
import io
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from rich.console import Console

from flywheel.cli.shell import ask, screen
from flywheel.cli.shell.prompt import Names, history_file
from flywheel.cli.shell.shell import Shell, heard
from flywheel.errors import FlywheelError
from flywheel.store.store import Store
from tests import ROOT

pytestmark = pytest.mark.slow

LONG = "select count(*) from range(1000000000) a, range(1000) b"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("shell")
    store = Store(home / "flywheel.duckdb")
    rows = {"checkpoint": ["c", "c"], "step": [1, 2], "name": ["loss", "\x1b[31m\nred"], "value": [0.5, None]}
    kinds = {"checkpoint": pl.String, "step": pl.Int32, "name": pl.String, "value": pl.Float64}
    store.add("metrics", pl.DataFrame(rows, schema=kinds))
    return home


@pytest.fixture
def shell(home: Path) -> Shell:
    known = ask.relations(Store(home / "flywheel.duckdb"))
    return Shell(home, Console(file=io.StringIO(), width=100, highlight=False), known)


def said(shell: Shell, *texts: str) -> str:
    out = io.StringIO()
    shell.console.file = out
    for text in texts:
        heard(shell, text)
    return out.getvalue()


def test_a_row_is_a_line_and_what_a_model_wrote_moves_no_cursor(shell: Shell) -> None:
    lines = said(shell, "from metrics order by step;").splitlines()
    assert lines[3].split("│")[1:5] == [" c          ", "    1 ", " loss      ", "   0.5 "]
    assert "␛[31m⏎red" in lines[4] and "2 rows" in lines[-1] and "\x1b" not in "".join(lines)


def test_several_questions_in_one_text_are_all_answered(shell: Shell) -> None:
    told = said(shell, "select 41 as a; -- first\nselect ';' as b; select 43 as c;")
    assert "41" in told and "43" in told and told.count("1 row,") == 3
    assert said(shell, "-- nothing") == ""


def test_expanded_rows_show_all_of_a_text(shell: Shell) -> None:
    told = said(shell, ".expand", "select repeat('long ', 200) || 'end' as words, [{'role': 'user'}] as chat;")
    assert "end" in told and '[{"role": "user"}]' in told and told.count("long") == 200
    assert "…" not in told


def test_the_shell_tells_what_there_is(shell: Shell) -> None:
    assert "Where the tokens and seconds of each iteration went" in said(shell, ".views")
    assert "metrics" in said(shell, ".tables") and "spending" not in said(shell, ".tables")
    assert "percentage points of the exam" in " ".join(said(shell, ".columns spending;").split())
    assert all(command in said(shell, "help") for command in (".tables", ".export FILE", ".quit"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (".columns nowhere", "there is no table or view 'nowhere': .tables and .views list them"),
        (".columns", ".columns needs a table or view"),
        (".export", ".export needs a file"),
        (".export answer.xls", "one of .parquet, .csv, .jsonl"),
        (".export /no/such/folder/answer.csv", "there is no folder /no/such/folder"),
        (".frobnicate", "there is no command .frobnicate: .help shows those that there are"),
        ("select valeu from metrics;", 'Candidate bindings: "value"'),
        ("delete from metrics;", "a question is read-only, and DELETE would write"),
        ("create table t as select 1 as a;", "a question is read-only, and CREATE would write"),
        ("copy (select 1) to 'a.csv';", "a question is read-only, and COPY would write"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(shell: Shell, text: str, told: str) -> None:
    with pytest.raises(FlywheelError) as error:
        said(shell, text)
    assert told in str(error.value)


def test_the_last_answer_is_written_whole_and_never_over_a_file(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "answer.parquet"
    told = said(shell, "select range as n, sum(range)::hugeint as s from range(2500) group by n;", f".export {path}")
    assert "the first 1000 rows; .export FILE writes all" in told and "2,500 rows in" in told.replace("\n", "")
    assert pl.read_parquet(path).schema == {"n": pl.Int64, "s": pl.Int64} and pl.read_parquet(path).height == 2500
    with pytest.raises(FlywheelError, match="is there already"):
        said(shell, f".export {path}")
    assert os.listdir(tmp_path) == ["answer.parquet"]


def test_the_next_answer_is_written_where_there_is_no_last_one(shell: Shell, tmp_path: Path) -> None:
    told = said(shell, f".export {tmp_path / 'next.csv'}", "select [1, 2] as several, 3 as one;")
    assert "the next answer goes to" in told and "1 row in" in told
    assert (tmp_path / "next.csv").read_text() == 'several,one\n"[1,2]",3\n'


def test_a_failed_export_leaves_no_file(shell: Shell, tmp_path: Path) -> None:
    with pytest.raises(FlywheelError, match="nowhere"):
        said(shell, f".export {tmp_path / 'next.csv'}", "from nowhere;")
    with pytest.raises(FlywheelError, match="abc"):
        said(
            shell,
            f".export {tmp_path / 'next.csv'}",
            "select case when range > 9000 then 'abc'::int end from range(9999);",
        )
    assert not os.listdir(tmp_path)


def test_columns_of_the_views_that_a_question_names_come_first(shell: Shell) -> None:
    def offered(text: str, cursor: int | None = None) -> list[str]:
        document = Document(text, len(text) if cursor is None else cursor)
        return [found.text for found in Names(shell.known).get_completions(document, CompleteEvent())]

    assert offered("from prog") == ["progress"]
    assert offered(".col") == [".columns"] and offered(".columns spen") == ["spending"]
    assert offered("select points_ from spending", 14) == ["points_per_thousand_tokens"]
    assert offered("select  from spending", 7)[:3] == ["run", "name", "iteration"]


def test_wide_answers_fit_the_screen() -> None:
    frame = pl.DataFrame({f"column_{i}": ["x" * 50] for i in range(20)})
    for width in (20, 80, 200):
        console = Console(file=io.StringIO(), width=width)
        with console.capture() as captured:
            console.print(screen.row_lines(frame, width))
        lines = captured.get().splitlines()
        assert len(lines[0]) <= width and "left out:" in captured.get()


def test_a_wait_for_the_store_says_who_has_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", code, str(home / "flywheel.duckdb")]
    writer = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdin is not None and writer.stdout is not None
    writer.stdout.readline()
    monkeypatch.setattr(ask, "IMPATIENT", 0.1)
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        writer.stdin.close()  # type: ignore[union-attr]

    try:
        frame = ask.in_turn(home, lambda store: ask.answer_question(store, "select 1 as a"), tell)
    finally:
        writer.stdin.close()
        writer.wait()
        writer.stdout.close()
    assert frame.rows() == [(1,)] and f"is in use by process {writer.pid}: waiting for it" in told[0]


class Terminal:
    """A shell in a process of its own, at a terminal of 24 lines and 100 columns."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            argv = [sys.executable, "-m", "flywheel.cli.app", "sql", "--home", str(home)]
            os.execve(sys.executable, argv, {**os.environ, "TERM": "xterm-256color", **environment})
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))

    def until(self, words: str, seconds: float = 60) -> str:
        """What comes on the screen until those words do."""
        shown, end = b"", time.monotonic() + seconds
        while words.encode() not in shown:
            assert time.monotonic() < end, f"{words!r} never came, but {shown!r}"
            if select.select([self.fd], [], [], 0.1)[0]:
                new = os.read(self.fd, 65536)
                if b"\x1b[6n" in new:  # where is the cursor?
                    self.type("\x1b[1;1R")
                shown += new
        return shown.decode(errors="replace")

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def ask(self, question: str, words: str) -> str:
        self.type(f"{question}\r")
        return self.until(words)

    def leave(self) -> int:
        """Ctrl-D; gives the exit code."""
        self.until("flywheel>")
        self.type("\x04")
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return code


@pytest.fixture
def terminal(home: Path, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(home, XDG_STATE_HOME=str(tmp_path), PAGER=f"tee {tmp_path / 'paged'}")
    yield terminal
    if terminal.pid:
        os.kill(terminal.pid, signal.SIGKILL)
        os.waitpid(terminal.pid, 0)
    os.close(terminal.fd)


def test_a_session_at_a_terminal(terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.until("flywheel>")
    terminal.ask("select 41 + 1 as a,\r7 as b;", "1 row,")
    assert "Traceback" not in terminal.ask("from nowhere;", "error: Catalog Error")
    terminal.ask("select 'unfinished", "...")
    terminal.type("\x03")  # gives the text up, not the shell
    terminal.until("cancelled")
    terminal.ask("from range(100);", "100 rows,")
    assert len((tmp_path / "paged").read_text().splitlines()) == 104  # what is longer than the screen is paged
    assert terminal.leave() == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    kept = history_file()
    assert "from nowhere;" in kept.read_text() and kept.stat().st_mode & 0o777 == 0o600


def test_ctrl_c_cancels_a_question_and_keeps_the_shell(terminal: Terminal) -> None:
    terminal.until("flywheel>")
    terminal.type(f"{LONG};\r")
    time.sleep(2)
    began = time.monotonic()
    terminal.type("\x03")
    assert "Traceback" not in terminal.until("cancelled") and time.monotonic() - began < 10
    terminal.ask("select 41 + 1 as answer;", "42")
    assert terminal.leave() == 0


def test_a_shell_without_a_store_says_how_to_make_one(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    assert "Traceback" not in terminal.until("`flywheel run RECIPE` makes one")
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]) == 2
    os.close(terminal.fd)
