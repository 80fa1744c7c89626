"""Ensembles: one score from several, missing ones left out; a strong judge is asked where a cheap one is unsure."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.pairs import MaxMin
from flywheel.engines.toy.engine import write_weights
from flywheel.errors import RecipeError
from flywheel.protocols import POLICY, Asked, Ensemble, Sampling
from flywheel.recipe.load import load
from flywheel.recipe.recipe import Recipe
from flywheel.store.schema import VOTES
from judges.ensembles import Cascade, How, Jury, aggregate
from judges.models.pairwise import Pairwise
from judges.models.rubric import Rubric
from judges.rules.answers import Exact, Numeric
from tests.judges.models.test_pairwise import ONCE, subjects, turned

HOWS: tuple[How, ...] = ("mean", "median", "min", "vote", "uncertainty")
SHEET = [1.0, 1.2, 0.8, 1.1, 0.4]
NUMERIC, EXACT, AFTER = Numeric(), Exact(), Exact(after="Answer:")


def votes(*rows: tuple[str, Any, int, float | None]) -> pl.DataFrame:
    """VOTES from generation, judge, vote and score; None is `unparsable`."""
    full = [
        (of, by.name, vote, score, "unparsable" if score is None else "ok", f"{by.name} of {of}", None)
        for of, by, vote, score in rows
    ]
    return pl.DataFrame(full, schema=VOTES, orient="row")


def combined(ensemble: Ensemble, said: pl.DataFrame, answers: int = 1) -> list[tuple[Any, ...]]:
    found = ensemble.combine(subjects(*"abc"[:answers]), said)
    assert found.schema == VOTES and set(found["judge"]) == {ensemble.name} and found["trace"].null_count() == answers
    return found.select("score", "status").rows()


def test_the_sheets_numbers() -> None:
    assert aggregate(SHEET) == pytest.approx(0.9)
    assert aggregate(SHEET, "min") == 0.4 and aggregate(SHEET, "median") == 1.0
    assert aggregate(SHEET, "uncertainty") == pytest.approx(0.86)
    assert aggregate(SHEET, "uncertainty", penalty=0.1, unbiased=True) == pytest.approx(0.89)
    assert aggregate(SHEET, "uncertainty", unbiased=True) == pytest.approx(0.85)
    assert aggregate(SHEET, "uncertainty", penalty=0.0) == pytest.approx(0.9)


def test_a_vote_is_for_the_score_that_most_give() -> None:
    assert aggregate([3, 5, 3], "vote") == 3
    assert aggregate([1, 0], "vote") == 0.5
    assert aggregate([1, 0, 0], "vote", weights=[3, 1, 1]) == 1
    assert aggregate([1, None, None], "vote") == 1


@settings(deadline=None)
@given(
    scored=st.lists(st.tuples(st.none() | st.floats(-9, 9), st.floats(0.1, 9)), max_size=6),
    how=st.sampled_from(HOWS),
    weighed=st.booleans(),
    data=st.data(),
)
def test_missing_scores_do_not_count_and_order_makes_no_difference(
    scored: list[tuple[float | None, float]], how: How, weighed: bool, data: st.DataObject
) -> None:
    def score(pairs: list[tuple[float | None, float]]) -> float | None:
        return aggregate([s for s, _ in pairs], how, weights=[w for _, w in pairs] if weighed else None)

    one, valid = score(scored), [pair for pair in scored if pair[0] is not None]
    assert one == score(data.draw(st.permutations(scored))) == score(valid)
    assert (one is None) == (len(valid) < (2 if how == "uncertainty" else 1))
    assert one is None or math.isfinite(one)


def test_a_jury_takes_the_mean_of_each_members_votes_and_leaves_out_who_said_nothing() -> None:
    jury = Jury(members=(NUMERIC, EXACT, AFTER))
    assert isinstance(jury, Ensemble)
    said = [("g0", NUMERIC, 0, 1.0), ("g0", NUMERIC, 1, 0.0), ("g0", EXACT, 0, 1.0), ("g0", AFTER, 0, None)]
    assert combined(jury, votes(*said)) == [(0.75, "ok")]
    assert combined(replace(jury, weights=(3.0, 1.0, 9.0)), votes(*said)) == [(0.625, "ok")]
    assert combined(replace(jury, how="min"), votes(*said)) == [(0.5, "ok")]


def test_a_jury_without_a_word_has_no_score_and_tells_the_first_failure() -> None:
    jury = Jury(members=(NUMERIC, EXACT))
    failed = votes(("g0", EXACT, 0, None), ("g0", NUMERIC, 0, None), ("g1", EXACT, 0, 1.0)).with_columns(
        status=pl.Series(["timeout", "unparsable", "ok"])
    )
    assert combined(jury, failed, 3) == [(None, "unparsable"), (1.0, "ok"), (None, "error")]
    details = jury.combine(subjects("a", "b"), failed)["detail"].to_list()
    assert details == ["Numeric() v2 of g0", "Exact() v2 of g1"]


def test_scales_make_members_comparable() -> None:
    said = votes(("g0", NUMERIC, 0, 5.0), ("g0", EXACT, 0, 0.0), ("g1", NUMERIC, 0, 0.0), ("g1", EXACT, 0, 1.0))
    jury = Jury(members=(NUMERIC, EXACT), scales=((0.0, 5.0), (0.0, 1.0)))
    assert combined(jury, said, 2) == [(0.5, "ok"), (0.5, "ok")]
    alike = votes(*((of, by, 0, score) for of, score in (("g0", 7.0), ("g1", 9.0)) for by in (NUMERIC, EXACT)))
    assert combined(replace(jury, scales="batch"), alike, 2) == [(-1.0, "ok"), (1.0, "ok")]
    same = votes(("g0", NUMERIC, 0, 7.0), ("g1", NUMERIC, 0, 7.0))
    assert combined(replace(jury, scales="batch"), same, 2) == [(0.0, "ok"), (0.0, "ok")]


def test_pessimism_needs_two_scores() -> None:
    jury = Jury(members=(NUMERIC, EXACT), how="uncertainty", penalty=1.0)
    said = [("g0", NUMERIC, 0, 1.0), ("g0", EXACT, 0, 0.0)]
    assert combined(jury, votes(*said)) == [(0.25, "ok")]
    assert combined(jury, votes(said[0], ("g0", EXACT, 0, None))) == [(None, "unparsable")]


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_the_order_of_votes_changes_nothing(data: st.DataObject) -> None:
    scores = data.draw(st.lists(st.none() | st.floats(0, 5), min_size=8, max_size=8))
    at = [(of, by, vote) for of in ("g0", "g1") for by in (NUMERIC, EXACT) for vote in (0, 1)]
    said = votes(*((*key, score) for key, score in zip(at, scores, strict=True)))
    shuffled = said[data.draw(st.permutations(range(8)))]
    for ensemble in (Jury(members=(NUMERIC, EXACT)), Cascade(cheap=NUMERIC, strong=EXACT, low=1, high=3)):
        asked = subjects("a", "b")
        assert ensemble.combine(asked, shuffled).equals(ensemble.combine(asked, said))
        assert ensemble.due(asked, shuffled, 1).equals(ensemble.due(asked, said, 1))


def test_a_cascade_asks_the_strong_judge_where_the_cheap_one_is_unsure() -> None:
    cascade = Cascade(cheap=NUMERIC, strong=EXACT, low=0.4, high=0.6)
    assert isinstance(cascade, Ensemble) and cascade.members == (NUMERIC, EXACT)
    scores = (0.39, 0.4, 0.6, 0.61, None)
    said = votes(*((f"g{at}", NUMERIC, 0, score) for at, score in enumerate(scores)))
    asked = subjects(*"abcdef")
    assert cascade.due(asked, said.clear(), 0).equals(asked)
    assert cascade.due(asked, said, 1)["generation"].to_list() == ["g1", "g2", "g4", "g5"]


def test_a_cascade_may_ask_where_votes_are_apart() -> None:
    said = votes(
        *(
            (of, NUMERIC, vote, score)
            for of, pair in (("g0", (0, 2)), ("g1", (1, 1)))
            for vote, score in enumerate(pair)
        )
    )
    cascade = Cascade(cheap=NUMERIC, strong=EXACT, low=5, high=5)
    assert cascade.due(subjects("a", "b"), said, 1).is_empty()
    assert replace(cascade, deviation=1.0).due(subjects("a", "b"), said, 1)["generation"].to_list() == ["g0"]
    assert replace(cascade, deviation=0.0).due(subjects("a", "b"), said, 1)["generation"].to_list() == ["g0"]


def test_in_a_cascade_the_strong_judge_has_the_word_if_it_can_be_understood() -> None:
    cascade = Cascade(cheap=NUMERIC, strong=EXACT, low=0, high=1)
    said = [("g0", NUMERIC, 0, 0.5), ("g0", EXACT, 0, 1.0), ("g1", NUMERIC, 0, 0.5), ("g1", EXACT, 0, None)]
    assert combined(cascade, votes(*said), 3) == [(1.0, "ok"), (0.5, "ok"), (None, "error")]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"members": ()}, "0 members, but needs at least 1"),
        ({"members": (NUMERIC,), "how": "uncertainty"}, "1 members, but needs at least 2"),
        ({"members": (NUMERIC, NUMERIC)}, "asks each judge once"),
        ({"members": (Jury(members=(NUMERIC,)), EXACT)}, "ensemble cannot be a member of an ensemble"),
        ({"members": (NUMERIC, EXACT), "weights": (1.0,)}, "2 members but 1 weights"),
        ({"members": (NUMERIC, EXACT), "scales": ((0.0, 1.0),)}, "2 members but 1 scales"),
        ({"members": (NUMERIC, EXACT), "weights": (1.0, 0.0)}, "above 0"),
        ({"members": (NUMERIC, EXACT), "weights": (1.0, 1.0), "how": "min"}, "mean or vote"),
        ({"members": (NUMERIC, EXACT), "scales": ((0.0, 1.0), (0.0, 0.0))}, "unit"),
    ],
)
def test_a_jury_that_cannot_work_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        Jury(**wrong)


def test_a_cascade_that_cannot_work_is_refused() -> None:
    with pytest.raises(RecipeError, match="from low to high"):
        Cascade(cheap=NUMERIC, strong=EXACT, low=1, high=0)
    with pytest.raises(RecipeError, match="asks each judge once"):
        Cascade(cheap=NUMERIC, strong=NUMERIC, low=0, high=1)


def test_members_and_settings_are_part_of_the_name() -> None:
    jury = Jury(members=(NUMERIC, Pairwise(model=ONCE)))
    others = [replace(jury, how="min"), replace(jury, members=jury.members[::-1]), replace(jury, penalty=0.1)]
    others += [replace(jury, members=(NUMERIC, Pairwise(model=ONCE, policy="average")))]
    assert len({ensemble.name for ensemble in (jury, *others)}) == 5


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A small recipe of the toy, whose answers are right as often as not."""
    monkeypatch.setenv("FLYWHEEL_TOY_WEIGHTS", str(write_weights(tmp_path / "weights", 0.5, 1)))
    return load("toy", overrides=("iterations=1", "exam.prompts.side=2", "batch=8", "prompts.side=2"))


ASKED = Asked(weights=POLICY, sampling=Sampling(n=3, temperature=0.7, max_tokens=64))


@pytest.mark.slow
def test_a_cascade_in_the_wheel_asks_the_strong_judge_only_where_it_is_due(toy: Recipe, tmp_path: Path) -> None:
    cheap, strong = Rubric(model=ASKED), Numeric(after="Answer:")
    cascade = Cascade(cheap=cheap, strong=strong, low=2, high=4)
    store = turned(replace(toy, judges=(cascade,), pick=MaxMin(), keep=()), tmp_path)
    names = {"cheap": cheap.name, "strong": strong.name, "cascade": cascade.name}
    rows = store.sql(
        """select avg(score) filter (judge = $cheap) as cheap, avg(score) filter (judge = $strong) as strong,
                  avg(score) filter (judge = $cascade) as cascade
           from judgments group by generation having count(*) filter (judge = $cascade) > 0""",
        names,
    )
    unsure = pl.col("cheap").is_between(2, 4)
    assert len(rows) == 16 * 4 and 0 < rows.filter(unsure).height < rows.height
    assert rows.filter(pl.col("strong").is_not_null() != unsure).is_empty()
    assert rows.filter(pl.col("cascade") != pl.coalesce("strong", "cheap")).is_empty()


@pytest.mark.slow
def test_a_judge_that_compares_can_be_a_member_of_a_jury(toy: Recipe, tmp_path: Path) -> None:
    jury = Jury(
        members=(Pairwise(model=replace(ASKED, sampling=replace(ASKED.sampling, n=1))), Numeric(after="Answer:"))
    )
    store = turned(replace(toy, judges=(jury,), pick=MaxMin(), keep=()), tmp_path)
    rows = store.sql(
        """select avg(score) filter (judge = $jury) as jury, avg(score) filter (judge <> $jury) as members
           from judgments group by generation having count(*) = 3""",
        {"jury": jury.name},
    )
    assert len(rows) == 16 * 4 and (rows["jury"] - rows["members"]).abs().max() < 1e-9  # type: ignore[operator]
    assert len(store.sql("from examples")) > 3
