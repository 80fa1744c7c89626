"""Ratings from battles: Bradley-Terry by maximum likelihood, on the Elo scale, with bootstrap intervals. No I/O.

A battle is a row with `a`, `b` and `verdict` (a | b | tie), as in COMPARISONS, and counts as often as its `weight`
says, where there is one. A row without a verdict is no battle: a failed judgment says nothing of either player. A
policy turns COMPARISONS, which hold both orders of each pair, into battles: `by_position`, `averaged`, `consistent`.
"""

import math
from typing import NamedTuple

import numpy as np
import polars as pl

from flywheel.errors import RatingError
from flywheel.stats.estimate import Floats, Ints
from flywheel.stats.strengths import fit
from flywheel.store.schema import schema

RATINGS = schema(
    {
        "player": pl.String,
        "battles": pl.Float64,  # sum of their weights
        "wins": pl.Float64,  # likewise; a tie is half a win
        "share": pl.Float64,  # of wins; NULL if the battles weigh nothing
        "rating": pl.Float64,  # in Elo points
        "low": pl.Float64,  # median and 95% interval over resampled battles; NULL without resamples
        "median": pl.Float64,
        "high": pl.Float64,
    }
)
ELO = 400 / math.log(10)
"""Elo points that make the odds of winning e times as good."""
LEAST_L2 = 1e-6  # with less, rounding errors place players who never met

WEIGHT = pl.col("weight")
A_WINS, B_WINS = pl.col("verdict") == "a", pl.col("verdict") == "b"
POINTS_OF_A = pl.when(A_WINS).then(1.0).when(B_WINS).then(0.0).otherwise(0.5)  # of a
FIRST_WINS = pl.when(pl.col("order") == "ab").then(A_WINS).otherwise(B_WINS)
SECOND_WINS = pl.when(pl.col("order") == "ab").then(B_WINS).otherwise(A_WINS)
PAIR = ("a", "b", "judge", "vote")  # what the two orders of one comparison have in common


def position_weights(comparisons: pl.DataFrame) -> tuple[float, float]:
    """What a win counts for by who was shown first, and by who was shown second, over all of COMPARISONS.

    w1 = win_2nd / (win_1st + win_2nd) and w2 = win_1st / (win_1st + win_2nd): wins in the place that the judge favours
    are cheap (Meta-Rewarding, Wu et al. 2024). A half each where nobody wins.
    """
    first, second = comparisons.select(FIRST_WINS.sum().alias("first"), SECOND_WINS.sum().alias("second")).row(0)
    wins = first + second
    return (second / wins, first / wins) if wins else (0.5, 0.5)


def by_position(comparisons: pl.DataFrame) -> pl.DataFrame:
    """COMPARISONS as battles whose `weight` is that of the winner's place; ties weigh nothing (Meta-Rewarding's B)."""
    first, second = position_weights(comparisons)
    return comparisons.with_columns(
        weight=pl.when(FIRST_WINS).then(first).when(SECOND_WINS).then(second).otherwise(0.0)
    )


def averaged(comparisons: pl.DataFrame) -> pl.DataFrame:
    """COMPARISONS as battles that weigh 1 for each pair, judge and vote, shared between the orders with a verdict."""
    return comparisons.with_columns(weight=1 / pl.col("verdict").count().over(PAIR))


def consistent(comparisons: pl.DataFrame) -> pl.DataFrame:
    """COMPARISONS as one battle for each pair, judge and vote: won if both orders agree, else a tie.

    `verdict` is NULL where one of the orders is missing or failed. Without `order`, `status` and `trace`.
    """
    both = (pl.col("order").n_unique() == 2) & (pl.col("verdict").null_count() == 0)
    agreed = pl.when(pl.col("verdict").n_unique() == 1).then(pl.col("verdict").first()).otherwise(pl.lit("tie"))
    return (
        comparisons.with_columns(verdict=pl.when(both).then(agreed).over(PAIR))
        .unique(PAIR, keep="first", maintain_order=True)
        .drop("order", "status", "trace", strict=False)
    )


def shares(battles: pl.DataFrame, by: str | None = None) -> pl.DataFrame:
    """The first four columns of RATINGS, ordered by player; with a column `by`, for each of its groups, named first.

    Raises RatingError for rows that are no battles, or where there is none.
    """
    keys = [by] if by else []
    fought = _fought(battles)
    sides = (
        fought.select(*keys, player=player, battles=WEIGHT, wins=WEIGHT * points)
        for player, points in (("a", POINTS_OF_A), ("b", 1 - POINTS_OF_A))
    )
    counted = pl.concat(sides).group_by(*keys, "player").agg(pl.col("battles", "wins").sum())
    share = pl.when(pl.col("battles") > 0).then(pl.col("wins") / pl.col("battles"))
    return counted.with_columns(share=share).sort(*keys, "player")


def rate(
    battles: pl.DataFrame,
    *,
    by: str | None = None,
    anchor: str | None = None,
    at: float = 1000.0,
    l2: float = 0.01,
    resamples: int = 100,
    seed: int = 0,
) -> pl.DataFrame:
    """RATINGS, the best first. With a column `by`, for each of its groups, named first.

    A rating is s * 400 / ln 10, moved so that the `anchor`'s (without one: the mean) is `at`, where s maximises the sum
    of weight * ln sigmoid(s_winner - s_loser), a tie being half a win for each, minus l2 / 2 * sum of s^2. That last
    term keeps finite who never lost, and puts players who never met, not even through others, around the same mean.
    Each resample is anchored for itself (Arena Learning, Luo et al. 2024: 100 resamples, 2.5 and 97.5 percentiles).
    A fit costs a few times players^3, so some thousand players are many. Raises RatingError.
    """
    if not LEAST_L2 <= l2 < math.inf:
        raise RatingError(f"l2 is {l2:g}: it must be at least {LEAST_L2:g}, or who never lost has no rating")
    group = by or "group"
    fought = _fought(battles if by else battles.with_columns(group=pl.lit(0)))
    players = _placed(shares(fought, group), group)
    sizes = players.group_by(group, maintain_order=True).len()["len"].to_numpy()
    outcomes, generator = _outcomes(fought, players, group), np.random.default_rng(seed)
    likeliest = fit(outcomes.wins(), sizes, np.zeros(players.height), l2)
    resampled = [fit(outcomes.wins(generator), sizes, likeliest, l2) for _ in range(resamples)]
    strengths = np.stack([likeliest, *resampled])
    if anchor is not None:
        strengths = strengths - strengths[:, _anchors(players, anchor, group)]
    elo = at + ELO * strengths
    names = ("low", "median", "high")
    interval = np.quantile(elo[1:], [0.025, 0.5, 0.975], axis=0, method="weibull") if resamples else [None] * 3
    rated = {"rating": elo[0], **dict(zip(names, interval, strict=True))}
    return (
        players.hstack(pl.DataFrame(rated, schema=dict.fromkeys(rated, pl.Float64)))
        .sort(group, -pl.col("rating"), "player")
        .select(*([by] if by else []), *RATINGS)
    )


class _Outcomes(NamedTuple):
    """Battles that ended alike are one outcome. `cells` and `worth` have a row for each of the two players."""

    times: Ints  # (outcomes,) how often
    cells: Ints  # (2, outcomes) where a's wins over b, and b's over a, are added up
    worth: Floats  # (2, outcomes) what one such battle adds there
    size: int  # number of cells: for each group in turn, players^2

    def wins(self, generator: np.random.Generator | None = None) -> Floats:
        """What each player won from each other one, (size,); each battle Poisson(1) times if there is a `generator`."""
        times = self.times if generator is None else generator.poisson(self.times)
        return np.bincount(self.cells.ravel(), (self.worth * times).ravel(), self.size).astype(np.float64, copy=False)


def _fought(battles: pl.DataFrame) -> pl.DataFrame:
    """The rows that have a verdict, each with a weight."""
    weighted = battles if "weight" in battles.columns else battles.with_columns(weight=pl.lit(1.0))
    fought = weighted.filter(pl.col("verdict").is_not_null())
    if fought.is_empty():
        raise RatingError("there is nothing to rate: no comparison has a verdict")
    for wrong, what in (
        (pl.col("a") == pl.col("b"), "a player meets itself"),
        (~pl.col("verdict").is_in(["a", "b", "tie"]), "the verdict is not a, b or tie"),
        (~(WEIGHT.is_finite() & (WEIGHT >= 0)).fill_null(False), "the weight is not a number from 0 on"),
    ):
        found = fought.filter(wrong)
        if found.height:
            first = found.select("a", "b", "verdict", "weight").row(0, named=True)
            raise RatingError(f"{found.height} of {fought.height} rows are no battles, as {what}: the first is {first}")
    return fought


def _placed(players: pl.DataFrame, group: str) -> pl.DataFrame:
    """Players with their `place` in their group and the `line` of cells that holds their wins, small groups first."""
    return (
        players.with_columns(size=pl.len().cast(pl.Int64).over(group))
        .sort("size", group, "player")
        .with_columns(place=pl.int_range(pl.len()).over(group), line=pl.col("size").cum_sum() - pl.col("size"))
    )


def _outcomes(fought: pl.DataFrame, players: pl.DataFrame, group: str) -> _Outcomes:
    kind = (group, "a", "b", "verdict", "weight")
    found = fought.group_by(kind).agg(times=pl.len().cast(pl.Int64)).sort(kind)  # rows in any order: the same resamples
    for side in ("a", "b"):
        place = players.select(group, pl.col("player").alias(side), pl.col("place", "line").name.suffix(f"_{side}"))
        found = found.join(place, on=[group, side], maintain_order="left")
    found = found.select(
        "times",
        a=pl.col("line_a") + pl.col("place_b"),
        b=pl.col("line_b") + pl.col("place_a"),
        worth_a=WEIGHT * POINTS_OF_A,
        worth_b=WEIGHT * (1 - POINTS_OF_A),
    )
    return _Outcomes(
        times=found["times"].to_numpy(),
        cells=found.select("a", "b").to_numpy().T,
        worth=found.select("worth_a", "worth_b").to_numpy().T,
        size=int(players["size"].sum()),
    )


def _anchors(players: pl.DataFrame, anchor: str, group: str) -> Ints:
    """For each player the row of the anchor of their group."""
    rows = players.with_row_index("row").select(
        group, row=pl.col("row").filter(pl.col("player") == anchor).first().over(group)
    )
    lost = rows.filter(pl.col("row").is_null())
    if lost.height:
        where = f" of {group} {lost[group][0]!r}" if players[group].n_unique() > 1 else ""
        raise RatingError(
            f"the anchor {anchor!r} is not among the players{where}: anchor one who has a battle, or none"
        )
    return rows["row"].to_numpy()
