"""Judges in the forms of published ones: each reads replies of its form, and nothing that only looks like them."""

from collections.abc import Callable

import pytest

from flywheel.errors import RecipeError
from flywheel.protocols import Asked, Judge, PairJudge, Sampling
from judges.models import published
from judges.models.pairwise import Pairwise
from judges.models.rubric import Rubric
from tests.judges.models.test_pairwise import read, subjects

ASKED = Asked(sampling=Sampling(temperature=0.0, max_tokens=64))


@pytest.mark.parametrize(
    ("make", "reply", "points"),
    [
        (published.mt_bench, "It is clear and complete. Rating: [[7]]", 7.0),
        (published.mt_bench, "So I would rate it a [[9]]", 9.0),
        (published.mt_bench, "The assistant's answer: [[8.5]]", 8.5),
        (published.mt_bench, "[[8/10]]", 8.0),
        (published.mt_bench, "Rating: [[5, 1, 3]]", None),
        (published.mt_bench, "Rating: [[1", None),
        (published.mt_bench, "Rating: [[4/5]]", None),
        (published.mt_bench, "Rating: [[11]]", None),
        (published.mt_bench, "Rating: 7", None),
        (published.prometheus, "Feedback: it cites what it says. [RESULT] 4", 4.0),
        (published.prometheus, "It cites nothing. [RESULT] (2)", 2.0),
        (published.prometheus, "[Result: 3]", 3.0),
        (published.prometheus, "[RESULT] 3 or 4", None),
        (published.prometheus, "[RESULT] 8", None),
        (published.prometheus, "[RESULT] A", None),
        (published.ultrafeedback, "Rating: 4\nRationale: 3 of the 5 points are there.", 4.0),
        (published.ultrafeedback, "#### Output for Text 1\nRating: [2]\nRationale: no", 2.0),
        (published.ultrafeedback, "Rating: N/A\nRationale: 3 of 5", None),
        (published.helpsteer, "helpfulness: 3, correctness: 4, coherence: 4, complexity: 1, verbosity: 2", 3.0),
        (published.helpsteer, "helpfulness:2.5,correctness:4", 2.5),
        (published.helpsteer, '{"helpfulness": 3, "correctness": 4}', 3.0),
        (published.helpsteer, "helpfulness: 3-4, correctness: 4", None),
        (published.helpsteer, "helpfulness: 5", None),
        (published.helpsteer, "correctness: 4", None),
    ],
)
def test_a_grade_is_read_in_its_published_form(
    make: Callable[[Asked], Rubric], reply: str, points: float | None
) -> None:
    assert make(ASKED).verdict(reply).score == points


@pytest.mark.parametrize(
    ("make", "first", "second", "tie"),
    [
        (published.mt_bench_pair, "Hm. [[A]]", "Final verdict: [[B]]", "Final verdict: [[C]] for a tie."),
        (
            published.arena_hard,
            "Mine: 4.\nMy final verdict is: [[A>>B]]",
            "[[B>A]]",
            "My final verdict is tie: [[A=B]]",
        ),
        (published.judgebench, "Output (a)", "Output (b)", None),
        (published.prometheus_pair, "A is sound. [RESULT] A", "Feedback: hm. [RESULT] B", None),
    ],
)
def test_a_verdict_is_read_in_its_published_form(
    make: Callable[[Asked], Pairwise], first: str, second: str, tie: str | None
) -> None:
    def verdicts(reply: str) -> list[str | None]:
        return read(make(ASKED), subjects("one", "two"), lambda question, vote: reply)["verdict"].to_list()

    assert (verdicts(first), verdicts(second)) == (["a", "b"], ["b", "a"])
    assert tie is None or verdicts(tie) == ["tie", "tie"]
    assert verdicts("I cannot say.") == [None, None]


def test_each_is_a_judge_of_its_own_that_shows_all_that_it_judges() -> None:
    rubrics = [published.mt_bench(ASKED), published.prometheus(ASKED), published.ultrafeedback(ASKED)]
    rubrics += [published.helpsteer(ASKED, "correctness"), published.helpsteer(ASKED)]
    makes = (published.mt_bench_pair, published.arena_hard, published.judgebench, published.prometheus_pair)
    pairwise = [make(ASKED) for make in makes]
    judges: list[Judge] = [*rubrics, *pairwise]
    assert len({judge.name for judge in judges}) == 9
    for judge in judges:
        assert isinstance(judge, PairJudge if judge in pairwise else Judge)
        question = judge.ask(subjects("FIRST", "SECOND", question="WHY"))[0][0]["content"]
        assert "WHY" in question and "FIRST" in question and ("SECOND" in question) == (judge in pairwise)
        assert "{" not in question
    assert rubrics[3].verdict("helpfulness: 1, correctness: 4").score == 4


def test_an_attribute_that_helpsteer_lacks_is_refused() -> None:
    with pytest.raises(RecipeError, match="no attribute 'humour'"):
        published.helpsteer(ASKED, "humour")  # type: ignore[arg-type]
