"""Verdicts and grades in the replies of published judges, against those that were published."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flywheel.protocols import Asked
from judges.models import published
from judges.models.comparisons import verdict_after_thought
from tests.bars.published.counting import Counted, Row, counted, lines

LABEL = re.compile(r"\[\[([AB](?:[<>=]{1,2}[AB])?|C)\]\]")
DECIDED = {"A>B": "a", "B>A": "b", "A=B": "tie", None: None}


def judgebench(folder: Path) -> Counted:
    """Both orders of each pair: JudgeBench takes no decision where two labels differ in any letter."""
    asked = (said for row in lines(folder, "*judge_name=arena_hard*.jsonl") for said in row["judgments"] if said)
    said = ((row["judgment"]["response"], row["decision"]) for row in asked)
    return counted(
        Row(verdict_after_thought(text), DECIDED[decision], decision is None and settled(text))
        for text, decision in said
    )


def settled(text: str) -> bool:
    """Whether the labels of a reply do not contradict each other: one side, or the last one alone is called final."""
    found = list(LABEL.finditer(text))
    sides = {"=" if "=" in label[1] else label[1][0] for label in found}
    final = [label for label in found if "final verdict" in text[: label.start()].rpartition("\n")[2].casefold()]
    return len(sides) == 1 or final == found[-1:]


def mt_bench_single(folder: Path) -> Counted:
    """Grades from 1 to 10; -1 where none was found."""
    judge = published.mt_bench(Asked())
    rows = ((judge.verdict(row["judgment"]).score, row["score"]) for row in lines(folder, "*gpt-4_single*.jsonl"))
    return counted(Row(ours, None if score == -1 else score) for ours, score in rows)


def mt_bench_pair(folder: Path) -> Counted:
    """Winners in both orders of each pair."""
    return counted(game for row in lines(folder, "*gpt-4_pair*.jsonl") for game in played(row))


def played(row: dict[str, Any]) -> Iterator[Row]:
    """Who won the two games of a pair, by our reading and as published."""
    for game, names in (("g1", ("model_1", "model_2")), ("g2", ("model_2", "model_1"))):
        said = verdict_after_thought(row[f"{game}_judgment"])
        ours = names["ab".index(said)] if said in ("a", "b") else said
        yield Row(ours, None if row[f"{game}_winner"] == "error" else row[f"{game}_winner"])
