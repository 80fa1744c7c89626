"""Answers that others have marked: our rules against the published accuracies and marks."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from flows.recipes import gsm8k as recipe
from flywheel.protocols import Judge
from judges.rules.answers import Exact, Numeric
from judges.rules.format import Choice
from tests.bars.published.counting import Counted, Row, counted, lines

SUFFIX = "_few_shot_template_0-255000"
OPTION = re.compile(r"\([A-Z]\)")
OPTIONS = "ABCDEFGHIJKLMNOPQR"
"""As many as the longest question has."""
SAID = "the answer is"
"""What the worked examples with a chain of thought end with; without one they are the bare answer."""


class Cell(NamedTuple):
    """One task in one way of prompting: the marks that we give, those of the form, and the published accuracy."""

    name: str
    ours: list[bool]
    form: list[bool]
    accuracy: float


def right(judge: Judge, pairs: list[tuple[str, str]]) -> list[bool]:
    """Which texts the judge holds to be right; what it cannot read is not."""
    subjects = pl.DataFrame(pairs, schema={"text": pl.String, "reference": pl.String}, orient="row")
    named = subjects.with_columns(generation=pl.int_range(pl.len()).cast(pl.String), meta=pl.lit(None, pl.String))
    votes = judge.read(named, None)
    return [score == 1 for score in votes["score"]]


def mark(is_right: bool) -> bool | None:
    """A mark as a Row has it."""
    return is_right or None


def cells(folder: Path) -> Iterator[Cell]:
    """The tasks of BIG-Bench Hard, answered by code-davinci-002 at once and with a chain of thought."""
    for path in sorted(folder.rglob(f"code-davinci-002-*/*{SUFFIX}.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))["outputs"]
        pairs = [(row["prediction"], row["target"]) for row in rows]
        after = SAID if path.parent.name.endswith("-cot") else None
        options = sum(bool(OPTION.fullmatch(target)) for _, target in pairs) > len(pairs) / 2
        judge = Choice(OPTIONS) if options else Exact(after=after)
        metrics = json.loads(path.with_name(f"{path.stem}_eval_metrics.jsonl").read_text(encoding="utf-8"))
        name = f"{path.name.removesuffix(f'{SUFFIX}.json')} ({path.parent.name.rpartition('-')[2]})"
        form = [bare(text, after) == target.strip() for text, target in pairs]
        yield Cell(name, right(judge, pairs), form, metrics["accuracy"])


def bare(text: str, after: str | None) -> str:
    """The answer by the form of the worked examples alone, to the letter."""
    return text.rpartition(after)[2].strip().removesuffix(".") if after else text.strip()


def percent(marks: list[bool]) -> float:
    """The accuracy as it is published, to six decimals."""
    return round(100 * sum(marks) / len(marks), 6)


def bbh(folder: Path) -> Counted:
    """The accuracy of each cell, against the `accuracy` in the file beside its answers."""
    return counted(Row(percent(cell.ours), round(cell.accuracy, 6), where=cell.name) for cell in cells(folder))


def bbh_answers(folder: Path) -> Counted:
    """Each answer's mark, against the form's: two wrong marks could make up for each other in a cell. No marks are
    published, but those of the form come to the published accuracy in every cell, or the cell's rows are lost."""
    return counted(row for cell in cells(folder) for row in answered(cell))


def answered(cell: Cell) -> Iterator[Row]:
    """The marks of a cell; where the form's are not those that were published, there is nothing to compare with."""
    known = percent(cell.form) == round(cell.accuracy, 6)
    for number, (ours, form) in enumerate(zip(cell.ours, cell.form, strict=True)):
        yield Row(mark(ours), mark(form) if known else "unknown", where=f"{cell.name} {number}")


def solutions(folder: Path) -> Iterator[tuple[str, str, bool]]:
    """Four models' solutions of GSM8K's test questions, the reference solutions, and whether they were called right."""
    for row in lines(folder, "example_model_solutions.jsonl"):
        for said in row.values():
            if isinstance(said, dict):
                yield said["solution"], row["ground_truth"], said["is_correct"]


def gsm8k(folder: Path) -> Counted:
    """`Numeric`, with the texts as they are."""
    return flagged(Numeric(after="A:"), list(solutions(folder)))


def gsm8k_recipe(folder: Path) -> Counted:
    """The judge of the recipe gsm8k, with the answer announced as its worked examples announce it."""
    told = [
        (text.replace("\nA:", "\n####"), reference.rpartition("A:")[2].strip(), flag)
        for text, reference, flag in solutions(folder)
    ]
    return flagged(recipe.recipe.judges[0], told)


def flagged(judge: Any, rows: list[tuple[str, str, bool]]) -> Counted:
    """A judge's marks against the flags."""
    ours = right(judge, [(text, reference) for text, reference, _ in rows]) if rows else []
    marked = zip(ours, rows, strict=True)
    return counted(Row(mark(said), mark(flag), where=text[-60:]) for said, (text, _, flag) in marked)
