"""Pairs: the better answer is always the chosen one, no answer without a score is in one, and order changes nothing."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.pairs import HumanOverOwn, MaxMin, RhoTiers, RightOverWrong
from flywheel.errors import RecipeError
from flywheel.protocols import Pick
from flywheel.store.schema import PICKED
from tests.filters.test_filters import judged

Row = dict[str, Any]
PICKS: tuple[Pick, ...] = (MaxMin(), MaxMin(1), RhoTiers(0.0), RhoTiers(0.32), RhoTiers(0.49), RightOverWrong(3))
SHEET = {"score": [1, 2, 3.6, 4, 4.2, 4.4, 5], "text": ["x" * n for n in (400, 900, 1200, 800, 700, 1500, 2000)]}
"""Scores and lengths for which the tiers of Meta-Rewarding were worked out by hand."""


@st.composite
def answers(draw: st.DrawFn) -> list[Row]:
    """Rows of JUDGED in any order: few prompts, many ties, some answers unscored, empty or the same."""
    scores = st.none() | st.sampled_from([0.0, -0.0, 0.5, 0.6, 1.0, 4.9, -3.0]) | st.floats(-5, 5)
    texts = st.sampled_from(["", " ", "x", "x ", "yy", "é", "zzz"])
    made = draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), texts, scores), min_size=1, max_size=20))
    names = draw(st.permutations([f"g{i:02}" for i in range(len(made))]))
    return [dict(zip(("generation", "prompt", "index", "text", "score"), (n, *m), strict=True))
            for n, m in zip(names, made, strict=True)]  # fmt: skip


def frame(rows: list[Row]) -> pl.LazyFrame:
    return judged(**{name: [row[name] for row in rows] for name in rows[0]})


def picked(pick: Pick, judged: pl.LazyFrame) -> list[tuple[Any, ...]]:
    result = pick(judged).collect()
    assert result.schema == PICKED
    return result.rows()


def pairs(pick: Pick, judged: pl.LazyFrame) -> list[tuple[str, str]]:
    return [tuple(row[-1]) for row in picked(pick, judged)]


@pytest.mark.slow
@pytest.mark.parametrize("pick", PICKS, ids=repr)
@settings(max_examples=60, deadline=None)
@given(rows=answers())
def test_the_chosen_answer_has_the_higher_score_and_another_text(pick: Pick, rows: list[Row]) -> None:
    by_name = {row["generation"]: row for row in rows}
    for prompt, chosen, rejected, weight, generations in picked(pick, frame(rows)):
        better, worse = (by_name[name] for name in generations)
        assert better["score"] is not None and worse["score"] is not None and better["score"] > worse["score"]
        assert better["prompt"] == worse["prompt"] == prompt and weight == 1.0
        assert (better["text"], worse["text"]) == (chosen, rejected) and chosen.strip() != rejected.strip()


@pytest.mark.slow
@pytest.mark.parametrize("pick", (*PICKS, HumanOverOwn()), ids=repr)
@settings(max_examples=30, deadline=None)
@given(rows=answers(), data=st.data())
def test_the_order_of_the_rows_changes_no_pair(pick: Pick, rows: list[Row], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rows))
    human = pl.lit("x").alias("reference")
    once, again = (picked(pick, frame(order).with_columns(human)) for order in (rows, shuffled))
    assert sorted(once) == sorted(again)


def by_prompt(rows: list[Row]) -> Iterator[list[Row]]:
    valid = sorted((row for row in rows if row["score"] is not None), key=lambda row: str(row["prompt"]))
    for _, group in groupby(valid, key=lambda row: row["prompt"]):
        yield list(group)


def told(rows: list[Row], best: Callable[[Row], Any], worst: Callable[[Row], Any], rho: float) -> set[tuple[str, str]]:
    """The pairs, in plain Python."""
    found = set()
    for group in by_prompt(rows):
        scores = [row["score"] for row in group]
        reach = rho * (max(scores) - min(scores)) + 1e-9
        first = min((row for row in group if row["score"] >= max(scores) - reach), key=best)
        last = min((row for row in group if row["score"] <= min(scores) + reach), key=worst)
        if first["score"] > last["score"] and first["text"].strip() != last["text"].strip():
            found.add((first["generation"], last["generation"]))
    return found


@settings(max_examples=60, deadline=None)
@given(rows=answers())
def test_max_over_min_is_what_plain_python_finds(rows: list[Row]) -> None:
    expected = told(
        rows,
        lambda row: (-row["score"], row["index"], row["generation"]),
        lambda row: (row["score"], row["index"], row["generation"]),
        rho=1.0,  # all answers are in both tiers, so the order alone decides
    )
    assert set(pairs(MaxMin(), frame(rows))) == expected


@settings(max_examples=60, deadline=None)
@given(rows=answers(), rho=st.sampled_from([0.0, 0.1, 0.32, 0.4, 0.49]))
def test_tiers_are_what_plain_python_finds(rows: list[Row], rho: float) -> None:
    expected = told(
        rows,
        lambda row: (len(row["text"]), -row["score"], row["index"], row["generation"]),
        lambda row: (-len(row["text"]), row["score"], row["index"], row["generation"]),
        rho,
    )
    assert set(pairs(RhoTiers(rho), frame(rows))) == expected


@pytest.mark.parametrize(
    ("rho", "chosen", "rejected"),
    [(0.0, (5, 2000), (1, 400)), (0.1, (5, 2000), (1, 400)), (0.32, (4.2, 700), (2, 900)), (0.4, (4.2, 700), (2, 900))],
)
def test_tiers_as_worked_out_by_hand(rho: float, chosen: tuple[float, int], rejected: tuple[float, int]) -> None:
    [(_, better, worse, _, generations)] = picked(RhoTiers(rho), judged(**SHEET))
    found = [
        (SHEET["score"][int(name[1:])], len(text)) for name, text in zip(generations, (better, worse), strict=True)
    ]
    assert found == [chosen, rejected]


@pytest.mark.parametrize("rho", [0.5, 0.6, -0.1, float("nan")])
def test_tiers_that_meet_are_refused(rho: float) -> None:
    with pytest.raises(RecipeError, match="below 0.5"):
        RhoTiers(rho)


def test_a_score_on_the_border_of_a_tier_is_in_it() -> None:
    scores = [0.0, 0.3, 0.7, 1.0]  # 1.0 - 0.3 * 1.0 is 0.7, and 0.7 > 1.0 - 0.3 in no computer's favour
    assert pairs(RhoTiers(0.3), judged(score=scores, text=["xx", "xxx", "y", "yy"])) == [("g2", "g1")]
    assert pairs(RhoTiers(0.1), judged(score=[0.1, 0.12, 0.28, 0.3], text=["xx", "xxx", "y", "yy"])) == [("g2", "g1")]


def test_without_a_tier_the_shorter_of_the_best_stands_over_the_longer_of_the_worst() -> None:
    tied = judged(score=[5, 5, 1, 1], text=["long", "shr", "no", "never"])
    assert pairs(RhoTiers(0.0), tied) == [("g1", "g3")]
    assert pairs(MaxMin(), tied) == [("g0", "g2")]


def test_equal_scores_make_no_pair() -> None:
    equal = judged(score=[3.0, 3.0, None], text=["x", "y", "z"])
    assert [pairs(pick, equal) for pick in PICKS] == [[]] * len(PICKS)


def test_a_pair_whose_chosen_answer_is_too_long_is_dropped_not_replaced() -> None:
    rows = judged(prompt=["a", "a", "a", "b", "b"], score=[5, 4, 1, 5, 1], text=["éééé", "ok", "bad", "fine", "worse"])
    assert pairs(MaxMin(4), rows) == [("g0", "g2"), ("g3", "g4")]
    assert pairs(MaxMin(3), rows) == []
    assert pairs(RhoTiers(0.3, 3), rows) == [("g1", "g2")]


@pytest.mark.parametrize("make", [lambda: MaxMin(0), lambda: RhoTiers(0.1, 0)])
def test_a_limit_that_nothing_meets_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(RecipeError, match="at least 1"):
        make()


@pytest.mark.parametrize(("right", "wrong"), [(3, 5), (5, 3), (4, 4), (6, 4), (1, 7), (2, 0)])
def test_right_over_wrong_uses_all_answers_before_it_uses_one_again(right: int, wrong: int) -> None:
    rows = judged(score=[1.0] * right + [0.0] * wrong + [None])
    for k in range(1, right * wrong + 3):
        made = pairs(RightOverWrong(k), rows)
        assert len(made) == len(set(made)) == min(k, right * wrong)
        most, few = sorted((Counter(a for a, _ in made), Counter(b for _, b in made)), key=len, reverse=True)
        assert len(most) == min(len(made), max(right, wrong)) and len(few) == min(len(made), right, wrong)
        assert not made or max(most.values()) - min(most.values()) <= 1
        assert not made or max(few.values()) - min(few.values()) <= 2


def test_right_over_wrong_makes_no_pair_of_one_text_and_takes_the_next_instead() -> None:
    rows = judged(score=[1.0, 0.0, 0.0], text=["same", "same ", "other"])
    assert pairs(RightOverWrong(1), rows) == [("g0", "g2")]


@pytest.mark.slow
def test_right_over_wrong_draws_evenly_and_anew_for_each_seed() -> None:
    rows = judged(score=[1.0] * 4 + [0.4] * 2)
    drawn = Counter(pairs(RightOverWrong(1, seed), rows)[0] for seed in range(160))
    assert len(drawn) == 8 and all(4 <= count <= 40 for count in drawn.values()), drawn  # 20 expected, deviation 4.2


def test_right_over_wrong_wants_a_pair() -> None:
    with pytest.raises(RecipeError, match="at least one"):
        RightOverWrong(0)


def test_the_human_stands_over_every_answer_that_says_something_else() -> None:
    rows = judged(
        prompt=["a", "a", "b", "c"],
        text=["own", " human\n", "own", "own"],
        reference=["human", "human", None, "hers"],
        score=[None, 1.0, 1.0, 0.0],
    )
    assert picked(HumanOverOwn(), rows) == [("a", "human", "own", 1.0, ["g0"]), ("c", "hers", "own", 1.0, ["g3"])]


@pytest.mark.parametrize("pick", (*PICKS, HumanOverOwn()), ids=repr)
def test_no_answers_no_pairs(pick: Pick) -> None:
    assert picked(pick, judged(generation=["g"]).clear()) == []
