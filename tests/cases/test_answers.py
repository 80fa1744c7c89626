"""Answers and their references: each rule gives the right score, or none where there is no telling."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flywheel.protocols import Judge
from flywheel.store.schema import SUBJECTS
from judges.rules.answers import Exact, Numeric
from judges.rules.format import Choice
from judges.rules.instructions.constraints import Constraints
from judges.rules.math.verify import MathVerify
from judges.rules.reasoning_gym import Gym

ANSWERS = json.loads(Path(__file__).with_name("answers.json").read_text(encoding="utf-8"))
JUDGES: dict[str, Judge] = {
    "MathVerify": MathVerify(),
    "Numeric": Numeric(),
    "Numeric after ####": Numeric(after="####"),
    "Exact": Exact(after="Answer:"),
    "Choice": Choice(),
    "Choice of ten": Choice("ABCDEFGHIJ"),
    "Constraints without commas": Constraints(commas=(0, 0)),
    "Gym": Gym(),
}
SLOW = ("MathVerify", "Gym")
PLACES = [
    (case, judge, place)
    for case, judges in ANSWERS.items()
    for judge, rows in judges.items()
    for place in range(len(rows))
]


@cache
def sum_of_numbers() -> tuple[str, str]:
    """A procedural problem's answer, and the problem as meta has it."""
    import reasoning_gym

    entry = reasoning_gym.create_dataset("chain_sum", size=1, seed=1)[0]
    kept = {key: entry[key] for key in ("question", "answer", "metadata")}
    return entry["answer"], json.dumps({"dataset": "chain_sum", "entry": kept}, default=str)


@cache
def judged(judge: str) -> dict[tuple[str, int], Any]:
    """The score of each row, or else its status: all rows at once, since a judge may start processes."""
    answer, meta = sum_of_numbers() if judge == "Gym" else ("<>", None)
    places = [(case, place) for case, name, place in PLACES if name == judge]
    rows = [ANSWERS[case][judge][place] for case, place in places]
    subjects = [
        {"generation": f"g{number}", "text": text.replace("<>", answer), "reference": reference, "meta": meta}
        for number, (text, reference, _) in enumerate(rows)
    ]
    votes = JUDGES[judge].read(pl.DataFrame(subjects, schema=SUBJECTS, orient="row"), None)
    assert votes["generation"].to_list() == [row["generation"] for row in subjects]
    scores = (score if status == "ok" else status for status, score in votes.select("status", "score").rows())
    return dict(zip(places, scores, strict=True))


@pytest.mark.parametrize(
    ("case", "judge", "place"),
    [pytest.param(*place, marks=pytest.mark.slow if place[1] in SLOW else ()) for place in PLACES],
)
def test_an_answer_gets_the_right_score(case: str, judge: str, place: int) -> None:
    text, reference, right = ANSWERS[case][judge][place]
    assert judged(judge)[case, place] == right, (text, reference)
