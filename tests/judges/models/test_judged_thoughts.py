"""Answers of reasoning models: judges are shown what follows the thought, and are not asked where it has no end."""

from typing import Any

import polars as pl
import pytest

from flywheel.protocols import Asked, Judge, PairJudge, Sampling
from flywheel.store.schema import REPLIES
from judges.models.anchored import Anchor, Anchored
from judges.models.likelihood import Likelihood, Options, ReferenceLikelihood
from judges.models.listwise import Listwise
from judges.models.pairwise import Pairwise, PairwiseScored
from judges.models.reward_model import RewardModel
from judges.models.rubric import Rubric
from tests.judges.models.test_pairwise import read, subjects

ONCE = Asked(sampling=Sampling(temperature=0.0, max_tokens=64))
TEXTS = ("<think>SECRET</think>\n\nfour", "five", "<think>SECRET, and on and on", "six")
ANCHORS = (Anchor("1+1?", "2", True), Anchor("1+1?", "<think>SECRET</think>3", False))
REPLY = "<think>Score: 1, Verdict: A</think>\nScore: 3\nScore A: 4\nScore B: 5\nRanking: B > C > A\nVerdict: B"
JUDGES: list[Judge] = [
    Rubric(model=ONCE),
    Anchored(model=ONCE, anchors=ANCHORS),
    Options(options=("A", "B"), values=(1.0, 0.0)),
    Likelihood(),
    ReferenceLikelihood(),
    RewardModel(model=Asked(weights="w", engine="reward")),
    Pairwise(model=ONCE),
    PairwiseScored(model=ONCE),
    Listwise(model=ONCE),
]


def answered(judge: Judge, asked: pl.DataFrame) -> pl.DataFrame:
    """What the judge makes of its model's words, or of how likely it finds what it is asked about."""
    if not isinstance(judge, (Options, Likelihood, ReferenceLikelihood, RewardModel)):
        said = read(judge, asked, lambda question, vote: REPLY)
        return judge.rate(asked, said) if isinstance(judge, PairJudge) else said
    rows: list[dict[str, Any]] = [
        {"chat": at, "index": 0, "logprobs": [-1.0], "logprob": -1.0} for at in range(len(judge.ask(asked)))
    ]
    return judge.read(asked, pl.DataFrame(rows, schema=REPLIES))


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: type(judge).__name__)
def test_a_thought_is_not_shown_and_one_without_an_end_is_unparsable_without_a_question(judge: Judge) -> None:
    asked = subjects(*TEXTS).with_columns(reference=pl.lit("4"))
    shown = [message["content"] for chat in judge.ask(asked) for message in chat]
    assert all("and on" not in text for text in shown) and any("four" in text for text in shown)
    if not isinstance(judge, ReferenceLikelihood):  # which weighs the reasoning, the thought too
        assert all("SECRET" not in text for text in shown)
    votes = answered(judge, asked)
    found = dict(votes.select("generation", pl.struct("status", "score", "detail")).iter_rows())
    assert found["g2"] == {"status": "unparsable", "score": None, "detail": "a thought without an end"}
    assert {found[name]["status"] for name in ("g0", "g1", "g3")} == {"ok"} and len(found) == 4


@pytest.mark.parametrize("judge", JUDGES, ids=lambda judge: type(judge).__name__)
def test_where_all_are_endless_nobody_is_asked(judge: Judge) -> None:
    asked = subjects(TEXTS[2], TEXTS[2]).with_columns(reference=pl.lit("4"))
    assert judge.ask(asked) == []
    assert answered(judge, asked).select("status", "score").rows() == [("unparsable", None)] * 2


def test_what_is_read_is_what_follows_the_judges_own_thought() -> None:
    asked = subjects("four", "five")
    assert read(Rubric(model=ONCE), asked, lambda *_: REPLY)["score"].to_list() == [3, 3]
    assert read(Pairwise(model=ONCE), asked, lambda *_: REPLY)["verdict"].to_list() == ["b", "a"]
    assert set(read(Pairwise(model=ONCE), asked, lambda *_: "Verdict: A <think>or")["status"]) == {"unparsable"}


def test_without_markers_all_of_a_text_is_the_answer() -> None:
    (chat,) = Rubric(model=ONCE, thoughts=()).ask(subjects(TEXTS[2]))
    assert TEXTS[2] in chat[0]["content"]
    assert Rubric(thoughts=()).name != Rubric().name


def test_those_that_cannot_be_shown_have_no_part_in_the_circle() -> None:
    compared = read(Pairwise(model=ONCE, neighbours=1), subjects(*TEXTS), lambda *_: "Verdict: tie")
    assert {frozenset(pair) for pair in compared.select("a", "b").iter_rows()} == {
        frozenset(pair) for pair in (("g0", "g1"), ("g1", "g3"), ("g0", "g3"))
    }
