"""`flywheel sql`: one question, questions from a file, or a shell."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel.cli.options import Home
from flywheel.errors import FlywheelError

if TYPE_CHECKING:
    import polars as pl


def sql(
    query: Annotated[
        str | None, typer.Argument(help="A question in SQL; without one a shell opens, or they come from the input.")
    ] = None,
    home: Home = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object per row.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="A new .parquet, .csv or .jsonl file that gets the answer, however long it is.")
    ] = None,
) -> None:
    """Ask the history, also while a run goes on. Nothing can be written."""
    form = "json" if as_json else "csv" if as_csv else "table"
    if output:
        _write(query, home, output, form)
    elif query is not None:
        _print(_answer(home, query), form)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        _shell(home, form)
    else:
        for question in _questions(home):
            _print(_answer(home, question), form)


def _shell(home: Path, form: str) -> None:
    from rich.console import Console

    from flywheel.cli.shell.shell import take_questions

    if form != "table":
        raise FlywheelError(f"--{form} needs a question; in the shell, .export FILE writes an answer")
    take_questions(home, Console(highlight=False))


def _questions(home: Path) -> Iterator[str]:
    """Questions from standard input: each ends with a semicolon, the last one with the end of the input."""
    from flywheel.store.home import open_store

    open_store(home)  # before the first question is read
    lines = list[str]()
    for line in sys.stdin:
        lines.append(line)
        if line.rstrip().endswith(";"):
            yield "".join(lines)
            lines = []
    if "".join(lines).strip():
        yield "".join(lines)


def _answer(home: Path, question: str) -> "pl.DataFrame":
    from flywheel.cli.shell.ask import answer_question, in_turn

    return in_turn(home, lambda store: answer_question(store, question), _tell)


def _write(query: str | None, home: Path, path: Path, form: str) -> None:
    from flywheel.cli.shell.ask import export, in_turn

    if form != "table":
        raise FlywheelError(f"the ending of --output tells the form: leave out --{form}")
    questions = [query] if query is not None else list(_questions(home))
    if len(questions) != 1:
        raise FlywheelError(f"--output takes one question, not {len(questions)}")
    rows = in_turn(home, lambda store: export(store, questions[0], path), _tell)
    typer.echo(f"{rows:,} row{'s' * (rows != 1)} in {path}")


def _tell(text: str) -> None:
    typer.echo(text, err=True)


def _print(frame: "pl.DataFrame", form: str = "table") -> None:
    from rich.console import Console

    from flywheel.report.tables import print_table

    if form == "json":
        sys.stdout.write(frame.write_ndjson())
    elif form == "csv":
        sys.stdout.write(_flat(frame).write_csv())
    elif frame.width == 0:
        typer.echo("done")
    else:
        print_table(frame, Console(highlight=False))


def _flat(frame: "pl.DataFrame") -> "pl.DataFrame":
    """CSV knows no lists and structs: those columns become JSON."""
    import polars as pl

    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    as_text: dict[str, Any] = {
        name: pl.Series([json.dumps(value, default=str) for value in frame[name].to_list()], dtype=pl.String)
        for name in nested
    }
    return frame.with_columns(**as_text)
