"""Worked examples of a judge's work: what is asked is the judge's own question, and what is taught is right."""

import re
from dataclasses import replace

import polars as pl
import pytest

from data.graded import Compared, Graded, Together, cases
from data.procedural import SUMS, WORDS, Worked
from flywheel.errors import RecipeError
from flywheel.protocols import Asked
from flywheel.store.schema import WORKED
from judges.models.pairwise import Pairwise
from judges.models.rubric import Rubric

rubric = Rubric(template="Grade {question} | {answer}", low=1.0)
pairwise = Pairwise(model=Asked(), template="Compare {question} | {answer_a} | {answer_b}")
graded = Graded(families=(SUMS,), judge=rubric, each=60)
compared = Compared(families=(SUMS,), judge=rubric, meta=pairwise, each=40)


def test_an_answer_earns_five_points_exactly_where_its_result_is_right() -> None:
    for chat, completion in graded().iter_rows():
        asked = re.fullmatch(r"Grade Compute (\S+) \| .*Answer: (-?\d+)", chat[0]["content"])
        assert asked is not None
        verdict = rubric.verdict(completion)
        assert verdict.score == (5.0 if eval(asked[1]) == int(asked[2]) else 1.0)


def test_the_right_share_is_about_what_is_asked_for() -> None:
    right = [completion.endswith("5") for completion in replace(graded, each=400, right=0.7)()["completion"]]
    assert 0.6 < sum(right) / len(right) < 0.8


def test_a_judgment_with_a_mistake_is_never_the_right_one() -> None:
    for case in cases((SUMS,), 200, 0.4, 0):
        assert case.judgment != case.mistaken


def test_the_right_judgment_is_shown_first_and_then_second() -> None:
    frame = compared()
    right = [case.judgment for case in cases((SUMS,), 40, 0.4, 0)]
    for place, (chat, completion) in enumerate(frame.iter_rows()):
        first, second = chat[0]["content"].split(" | ")[2:]
        assert (first, second)[place % 2] == right[place // 2]
        assert completion == f"{right[place // 2]}. Verdict: {'AB'[place % 2]}"
        assert first[-1] != second[-1], "the verdict can be told from the scores"


def test_the_same_seed_gives_the_same_examples_and_another_one_others() -> None:
    assert graded().equals(graded())
    assert not graded().equals(replace(graded, seed=1)())


def test_sources_that_are_put_together_keep_their_order_and_their_weight() -> None:
    worked = Worked(families=(SUMS,), each=5)
    both = Together(sources=(worked, worked, graded))()
    assert both.schema == WORKED
    assert both.equals(pl.concat([worked(), worked(), graded()]))


def test_a_family_without_mistakes_cannot_teach_a_judge() -> None:
    with pytest.raises(RecipeError, match="the family spell_backward needs `work` and `spoil`"):
        Graded(families=(WORDS,), judge=rubric)
