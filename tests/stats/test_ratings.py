"""Ratings: what battles say of players, in which unit, and what they cannot say."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
import pytest

from flywheel.errors import RatingError
from flywheel.stats.ratings import RATINGS, averaged, by_position, consistent, position_weights, rate, shares
from flywheel.store.schema import COMPARISONS
from tests.bars.ratings import battles, reference, strengths


def frame(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """Battles from (a, b, verdict) or (a, b, verdict, weight)."""
    columns = {"a": pl.String, "b": pl.String, "verdict": pl.String, "weight": pl.Float64}
    return pl.DataFrame(rows, schema=dict(list(columns.items())[: len(rows[0])]), orient="row")


def comparisons(*rows: tuple[str, str, str, str | None]) -> pl.DataFrame:
    """COMPARISONS of one judge and vote from (a, b, order, verdict)."""
    full = [
        (a, b, order, "j", 0, verdict, "unparsable" if verdict is None else "ok", None) for a, b, order, verdict in rows
    ]
    return pl.DataFrame(full, schema=COMPARISONS, orient="row")


def ratings(rated: pl.DataFrame, column: str = "rating") -> dict[str, float]:
    return dict(rated.select("player", column).iter_rows())


def gap(rows: pl.DataFrame, **options: Any) -> float:
    """Rating of x minus rating of y."""
    found = ratings(rate(rows, resamples=0, **options))
    return found["x"] - found["y"]


def ranked(players: int, count: int, seed: int = 0) -> pl.DataFrame:
    return battles(count, strengths(players, seed)["true"].to_numpy(), seed)


def apart(one: pl.DataFrame, other: pl.DataFrame, column: str = "rating") -> float:
    both = one.join(other, on="player", suffix="_other", validate="1:1")
    assert both.height == one.height == other.height
    return float((both[column] - both[f"{column}_other"]).abs().max())  # type: ignore[arg-type]


def line(players: int) -> pl.DataFrame:
    """Each beats the next, and never loses to it."""
    return frame(*[(f"p{i:02}", f"p{i + 1:02}", "a", 1000.0) for i in range(players - 1)])


def test_three_wins_in_four_are_191_elo_points() -> None:
    rows = frame(*[("x", "y", "a")] * 3000, *[("x", "y", "b")] * 1000)
    assert gap(rows) == pytest.approx(190.85, abs=5e-3)
    assert gap(rows, l2=1e-6) / (400 / np.log(10)) == pytest.approx(1.098612, abs=5e-7)


def test_without_an_anchor_the_mean_is_1000_and_the_best_comes_first() -> None:
    rated = rate(ranked(10, 500))
    assert rated.schema == RATINGS
    assert rated["rating"].mean() == pytest.approx(1000, abs=1e-9)
    assert rated["rating"].is_sorted(descending=True)
    assert rate(ranked(10, 500), at=0, resamples=0)["rating"].mean() == pytest.approx(0, abs=1e-9)


def test_an_anchor_is_at_its_rating_in_every_resample() -> None:
    rows = ranked(10, 500)
    free, tied = rate(rows), rate(rows, anchor="p3", at=1100)
    anchored = tied.row(by_predicate=pl.col("player") == "p3", named=True)
    assert [anchored[name] for name in ("rating", "low", "median", "high")] == [1100] * 4
    shift = 1100 - ratings(free)["p3"]
    assert apart(tied, free.with_columns(pl.col("rating") + shift)) < 1e-9


@pytest.mark.parametrize("l2", [1e-6, 0.01, 1.0])
def test_ratings_are_those_of_a_general_solver(l2: float) -> None:
    rows = ranked(25, 2000, seed=1)
    weights = np.random.default_rng(0).choice([0.0, 0.4, 0.6, 2.5], rows.height)
    for each in (rows, rows.with_columns(weight=weights)):
        expected = reference(each, l2).rename({"expected": "rating"})
        assert apart(rate(each, l2=l2, resamples=0), expected) < 1e-6


def test_known_strengths_are_found_and_lie_in_their_intervals() -> None:
    true = strengths(30, 2)
    rated = rate(battles(9000, true["true"].to_numpy(), 2)).join(true, on="player")
    assert rated.select(pl.corr("rating", "true", method="spearman")).item() > 0.97
    assert rated["true"].is_between(rated["low"], rated["high"]).mean() >= 0.8  # type: ignore[operator]
    assert (rated["high"] - rated["low"]).is_between(30, 200).all()
    assert rated["median"].is_between(rated["low"], rated["high"]).all()


def test_four_times_the_battles_halve_the_intervals() -> None:
    wide, narrow = (
        rate(ranked(10, count)).select((pl.col("high") - pl.col("low")).mean()).item() for count in (2000, 8000)
    )
    assert 1.6 < wide / narrow < 2.5


def test_a_tie_is_half_a_win_for_each() -> None:
    assert gap(frame(("x", "y", "tie"))) == pytest.approx(0, abs=1e-9)
    tied = frame(("x", "y", "a"), ("x", "y", "tie"), ("x", "y", "tie"), ("y", "x", "tie"))
    halves = frame(("x", "y", "a", 1.0), ("x", "y", "a", 1.5), ("x", "y", "b", 1.5))
    assert gap(tied) == pytest.approx(gap(halves), abs=1e-9)
    assert rate(tied, resamples=0).row(0, named=True) | {"rating": 0} == {
        "player": "x",
        "battles": 4,
        "wins": 2.5,
        "share": 0.625,
        "rating": 0,
        "low": None,
        "median": None,
        "high": None,
    }


def test_a_weight_is_worth_so_many_battles() -> None:
    rows = ranked(8, 200)
    thrice = rate(pl.concat([rows] * 3), resamples=0)
    weighed = rate(rows.with_columns(weight=pl.lit(3.0)), resamples=0)
    for column in ("rating", "battles", "wins"):
        assert apart(thrice, weighed, column) < 1e-9


def test_who_never_lost_has_a_finite_rating_and_a_smaller_l2_a_higher_one() -> None:
    rows = frame(*[("x", "y", "a")] * 20, ("y", "z", "a"), ("z", "y", "a"))
    gaps = [gap(rows, l2=l2) for l2 in (1.0, 0.01, 1e-6)]
    assert 100 < gaps[0] < gaps[1] < gaps[2] < 5000


def test_a_long_line_of_players_who_each_beat_the_next_is_rated() -> None:
    assert rate(line(40), resamples=0)["player"].to_list() == [f"p{i:02}" for i in range(40)]


def test_one_battle_that_outweighs_all_others_may_be_missing_from_a_resample() -> None:
    rows = frame(("x", "y", "a", 1e5), *[("x", "y", "a", 1.0)] * 10, *[("x", "y", "b", 10.0)] * 10)
    rated = rate(rows).row(0, named=True)
    assert rated["player"] == "x"
    assert rated["low"] < 1000 < rated["rating"] < rated["high"] < 2000


def test_players_who_never_met_lie_around_the_same_mean() -> None:
    near, far = frame(*[("x", "y", "a")] * 3, ("x", "y", "b")), frame(*[("u", "v", "a")] * 30, ("u", "v", "b"))
    found = ratings(rate(pl.concat([near, far])))
    assert found["x"] + found["y"] == pytest.approx(2000, abs=1e-6)
    assert found["u"] + found["v"] == pytest.approx(2000, abs=1e-6)
    assert gap(near) == pytest.approx(found["x"] - found["y"], abs=1e-6)


def test_the_order_of_the_rows_makes_no_difference_and_the_seed_does() -> None:
    rows = ranked(8, 300)
    assert rate(rows).equals(rate(rows.sample(fraction=1, shuffle=True, seed=1)))
    assert not rate(rows).equals(rate(rows, seed=1))


@pytest.mark.parametrize("cells", [1, 1 << 17])
def test_groups_are_rated_each_for_itself(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flywheel.stats.strengths.CELLS", cells)  # of a size one by one, or all at once
    parts = {"first": ranked(5, 60), "second": ranked(9, 200, seed=1), "third": ranked(5, 80, seed=2)}
    together = pl.concat(rows.with_columns(prompt=pl.lit(name)) for name, rows in parts.items())
    rated = rate(together, by="prompt", anchor="p0")
    assert rated.columns == ["prompt", *RATINGS]
    assert rated["prompt"].rle().struct.field("value").to_list() == list(parts)
    for (name,), own in rated.group_by("prompt"):
        alone = rate(parts[str(name)], anchor="p0", resamples=0)
        assert apart(own, alone) < 1e-6
        assert own["rating"].is_sorted(descending=True)
        assert own["low"].null_count() == 0


def test_a_failed_comparison_is_no_battle() -> None:
    rows = frame(("x", "y", "a"), ("x", "y", "b"), ("x", "y", "a"))
    failed = pl.concat([rows, frame(("x", "y", None), ("x", "z", None))])
    assert rate(failed).equals(rate(rows))
    assert "z" not in rate(failed)["player"]


def test_shares_count_a_tie_as_half_and_a_battle_without_weight_as_none() -> None:
    rows = frame(("x", "y", "a", 1.0), ("y", "z", "tie", 1.0), ("x", "y", "b", 3.0), ("z", "w", "tie", 0.0))
    assert shares(rows).rows() == [
        ("w", 0.0, 0.0, None),
        ("x", 4.0, 1.0, 0.25),
        ("y", 5.0, 3.5, 0.7),
        ("z", 1.0, 0.5, 0.5),
    ]
    assert shares(rows.with_columns(prompt=pl.lit("p")), "prompt").columns == ["prompt", *RATINGS.names()[:4]]


def placed(first: int, second: int) -> Iterable[tuple[str, str, str, str]]:
    """So many wins of who is shown first, and of who is shown second, half of them by a and half by b."""
    for order, wins in (("ab", first), ("ba", second)):
        yield from [("x", "y", order, "a")] * (wins // 2)
    for order, wins in (("ba", first), ("ab", second)):
        yield from [("x", "y", order, "b")] * (wins // 2)


def test_wins_in_the_favoured_place_are_cheap() -> None:
    assert position_weights(comparisons(*placed(600, 400))) == (0.4, 0.6)
    others = comparisons(("x", "y", "ab", "tie"), ("x", "y", "ba", None))
    assert position_weights(pl.concat([comparisons(*placed(600, 400)), others])) == (0.4, 0.6)
    assert position_weights(others) == (0.5, 0.5)


def test_by_position_weighs_a_win_by_the_winners_place_and_a_tie_not_at_all() -> None:
    asked = comparisons(
        ("m", "n", "ab", "a"),  # m wins when first
        ("m", "n", "ba", "a"),  # m wins when second
        ("m", "o", "ab", "b"),  # o wins when second
        ("m", "o", "ba", "b"),  # o wins when first
        ("n", "o", "ab", "a"),  # n wins when first
        ("n", "o", "ba", "tie"),
        ("n", "o", "ba", None),
    )
    first, second = position_weights(asked)
    assert (first, second) == (0.4, 0.6)
    assert by_position(asked)["weight"].to_list() == [first, second, second, first, first, 0.0, 0.0]
    found = ratings(rate(by_position(asked), resamples=0), "wins")
    assert found == pytest.approx({"m": first + second, "n": first, "o": first + second})


def test_a_judge_that_always_prefers_the_first_says_nothing() -> None:
    rated = rate(by_position(comparisons(("x", "y", "ab", "a"), ("x", "y", "ba", "b"), ("x", "y", "ab", "a"))))
    assert ratings(rated) == {"x": 1000, "y": 1000}


def test_averaged_orders_weigh_one_battle_for_each_pair() -> None:
    asked = comparisons(("x", "y", "ab", "a"), ("x", "y", "ba", "tie"), ("x", "z", "ab", "a"), ("x", "z", "ba", None))
    assert averaged(asked).filter(pl.col("verdict").is_not_null())["weight"].to_list() == [0.5, 0.5, 1.0]
    assert ratings(shares(averaged(asked)), "share") == {"x": 0.875, "y": 0.25, "z": 0.0}


@pytest.mark.parametrize(
    ("orders", "verdict"),
    [
        ({"ab": "a", "ba": "a"}, "a"),
        ({"ab": "b", "ba": "b"}, "b"),
        ({"ab": "tie", "ba": "tie"}, "tie"),
        ({"ab": "a", "ba": "b"}, "tie"),
        ({"ab": "a", "ba": "tie"}, "tie"),
        ({"ab": "a", "ba": None}, None),
        ({"ab": None, "ba": None}, None),
        ({"ba": "b"}, None),
    ],
)
def test_a_consistent_win_wants_both_orders(orders: dict[str, str | None], verdict: str | None) -> None:
    asked = comparisons(*(("x", "y", order, said) for order, said in orders.items()), ("x", "z", "ab", "a"))
    found = consistent(asked.with_columns(prompt=pl.lit("p")))
    assert found.columns == ["a", "b", "judge", "vote", "verdict", "prompt"]
    assert found["b"].to_list() == ["y", "z"]
    assert found["verdict"].to_list() == [verdict, None]


def test_votes_and_judges_are_consistent_each_for_itself() -> None:
    asked = pl.concat(
        comparisons(("x", "y", "ab", first), ("x", "y", "ba", second)).with_columns(
            vote=pl.lit(vote, pl.Int32), judge=pl.lit(judge)
        )
        for judge, vote, first, second in (("j", 0, "a", "a"), ("j", 1, "b", "a"), ("k", 0, "b", "b"))
    )
    assert consistent(asked)["verdict"].to_list() == ["a", "tie", "b"]
    assert averaged(asked)["weight"].to_list() == [0.5] * 6


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (frame(("x", "x", "a"), ("x", "y", "a")), {}, "1 of 2 rows are no battles, as a player meets itself.*'x'"),
        (frame(("x", "y", "c")), {}, "the verdict is not a, b or tie"),
        (frame(("x", "y", "a", -1.0)), {}, "the weight is not a number from 0 on"),
        (frame(("x", "y", "a", None)), {}, "the weight is not a number from 0 on"),
        (frame(("x", "y", "a", float("nan"))), {}, "the weight is not a number from 0 on"),
        (frame(("x", "y", "a")), {"anchor": "gpt"}, "the anchor 'gpt' is not among the players:"),
        (
            frame(("x", "y", "a"), ("u", "v", "b")).with_columns(prompt=pl.Series(["p", "q"])),
            {"anchor": "x", "by": "prompt"},
            "the anchor 'x' is not among the players of prompt 'q'",
        ),
        (frame(("x", "y", None)), {}, "nothing to rate"),
        (pl.DataFrame(schema=COMPARISONS), {}, "nothing to rate"),
        (frame(("x", "y", "a")), {"l2": 0.0}, "l2 is 0: it must be at least 1e-06"),
        (frame(("x", "y", "a")), {"l2": float("nan")}, "l2 is nan"),
        (line(90), {"l2": 1e-6}, "no stable ratings after 200 steps"),
    ],
)
def test_what_cannot_be_rated_is_said_in_a_sentence(rows: pl.DataFrame, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RatingError, match=message) as caught:
        rate(rows, **options)
    assert "\n" not in str(caught.value)
