"""Several judges that speak with one voice: a jury of all of them, or a cascade from a cheap one to a strong one.

A member's word on an answer is the mean of its valid votes. A member without one leaves the answer to the others; where
all are without, the ensemble has no score either.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, pstdev, pvariance, variance
from typing import Literal

import polars as pl

from flywheel.errors import RecipeError
from flywheel.protocols import Ensemble, Judge, PairJudge
from flywheel.store.schema import VOTES
from judges.models.prompts import titled

How = Literal["mean", "median", "min", "vote", "uncertainty"]
Means = Mapping[tuple[str, str], float]
"""The mean of a judge's valid votes on a generation, by generation and judge."""
SCORE_DECIMALS = 9
"""Decimals; what is behind them hangs on the order in which votes are added."""


def aggregate(
    scores: Sequence[float | None],
    how: How = "mean",
    *,
    weights: Sequence[float] | None = None,
    penalty: float = 0.5,
    unbiased: bool = False,
) -> float | None:
    """One score from several, of which None says nothing; None where all say nothing. Their order makes no difference.

    `vote`: the score that most give (the mean of those, where several are given most often). `min` and `uncertainty`,
    the mean minus `penalty` times the variance, are WCO and UWO (Coste et al. 2023); the variance is the population's
    in their best-of-n and the `unbiased` one in their PPO, and is not known of a single score, which then gives None.
    Only `mean` and `vote` weigh.
    """
    weighed = zip(scores, weights or [1.0] * len(scores), strict=True)
    valid = [(score, weight) for score, weight in weighed if score is not None]
    values = [score for score, _ in valid]
    if not valid or (how == "uncertainty" and len(valid) < 2):
        return None
    if how == "mean":
        return fmean(values, [weight for _, weight in valid])
    if how == "vote":
        return _most_given(valid)
    if how == "uncertainty":
        return fmean(values) - penalty * (variance(values) if unbiased else pvariance(values))
    return median(values) if how == "median" else min(values)


def _most_given(valid: Iterable[tuple[float, float]]) -> float:
    given: dict[float, list[float]] = {}
    for score, weight in valid:
        given.setdefault(score, []).append(weight)
    weights = {score: math.fsum(each) for score, each in given.items()}
    return fmean(score for score, weight in weights.items() if weight == max(weights.values()))


def means(votes: pl.DataFrame) -> Means:
    """What each judge says of each generation, from VOTES; one without a valid vote is missing."""
    spoken = votes.filter(pl.col("score").is_not_null()).group_by("generation", "judge").agg("score")
    return {(generation, judge): fmean(scores) for generation, judge, scores in spoken.iter_rows()}


@dataclass(frozen=True, kw_only=True)
class Jury:
    """Every member is asked about every answer, and `aggregate` makes one score of theirs.

    `scales` makes members comparable: a centre and a unit for each, its score counting as (score - centre) / unit; or
    "batch", the mean and the standard deviation of its scores on the answers that are put together at once, those to up
    to 1024 prompts (the common batch of Coste et al. 2023), after which a score says nothing outside of its batch.
    """

    members: tuple[Judge | PairJudge, ...]
    how: How = "mean"
    weights: tuple[float, ...] | None = None  # of the members; None: all alike
    penalty: float = 0.5  # of `uncertainty`: 0.5 in best-of-n, 0.1 in PPO
    unbiased: bool = False  # the variance of `uncertainty`
    scales: tuple[tuple[float, float], ...] | Literal["batch"] | None = None

    def __post_init__(self) -> None:
        count = len(self.members)
        _check_members(self.members, 2 if self.how == "uncertainty" else 1)
        for what, given in (("weights", self.weights), ("scales", self.scales)):
            if given not in (None, "batch") and len(given) != count:
                raise RecipeError(f"a Jury has {count} members but {len(given)} {what}: give one for each, in order")
        if self.weights and (self.how not in ("mean", "vote") or not all(0 < w < math.inf for w in self.weights)):
            raise RecipeError(f"weights of a Jury must be above 0 and go with mean or vote, not {self.how}")
        if isinstance(self.scales, tuple) and not all(0 < unit < math.inf for _, unit in self.scales):
            raise RecipeError(f"the unit of each of a Jury's scales must be above 0: {self.scales}")

    @property
    def name(self) -> str:
        """Names the members and how they are put together."""
        return titled(self)

    def due(self, subjects: pl.DataFrame, votes: pl.DataFrame, place: int) -> pl.DataFrame:
        """All SUBJECTS, for every member."""
        return subjects

    def combine(self, subjects: pl.DataFrame, votes: pl.DataFrame) -> pl.DataFrame:
        """VOTES: one for each of SUBJECTS."""
        said = means(votes)
        scales = dict(zip(self._names, self._scales(said), strict=True))
        scaled = {(of, by): (score - scales[by][0]) / scales[by][1] for (of, by), score in said.items()}
        verdicts = {
            of: aggregate(
                [scaled.get((of, by)) for by in self._names],
                self.how,
                weights=self.weights,
                penalty=self.penalty,
                unbiased=self.unbiased,
            )
            for of in subjects["generation"]
        }
        return spoken(self.name, verdicts, self._names, votes)

    @property
    def _names(self) -> list[str]:
        return [member.name for member in self.members]

    def _scales(self, said: Means) -> Sequence[tuple[float, float]]:
        if isinstance(self.scales, tuple):
            return self.scales
        if self.scales is None:
            return [(0.0, 1.0)] * len(self.members)
        return [_spread([score for (_, judge), score in said.items() if judge == name]) for name in self._names]


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """The strong judge is asked only where the cheap one is unsure, and then has the word if it can be understood.

    Unsure is a mean score from `low` to `high`, votes whose sample standard deviation is above `deviation`, or no valid
    vote. Both must score on one scale.
    """

    cheap: Judge | PairJudge
    strong: Judge | PairJudge
    low: float
    high: float
    deviation: float | None = None

    def __post_init__(self) -> None:
        _check_members(self.members, 2)
        if not self.low <= self.high:
            raise RecipeError(f"a Cascade is unsure from low to high, but low is {self.low} and high is {self.high}")

    @property
    def name(self) -> str:
        """Names the members and when the strong one is asked."""
        return titled(self)

    @property
    def members(self) -> tuple[Judge | PairJudge, ...]:
        """The cheap one, then the strong one."""
        return (self.cheap, self.strong)

    def due(self, subjects: pl.DataFrame, votes: pl.DataFrame, place: int) -> pl.DataFrame:
        """All SUBJECTS for the cheap one; for the strong one those of which the cheap one is unsure."""
        if place == 0:
            return subjects
        score, mean, deviation = pl.col("score"), pl.col("mean"), pl.col("deviation").fill_null(0.0)
        sure = (
            votes.filter(score.is_not_null(), judge=self.cheap.name)
            .group_by("generation")
            .agg(mean=score.mean().round(SCORE_DECIMALS), deviation=score.std().round(SCORE_DECIMALS))
            .filter(
                ~mean.is_between(self.low, self.high),
                deviation <= (math.inf if self.deviation is None else self.deviation),
            )
        )
        return subjects.filter(~pl.col("generation").is_in(sure["generation"].implode()))

    def combine(self, subjects: pl.DataFrame, votes: pl.DataFrame) -> pl.DataFrame:
        """VOTES: the strong one's score, or where it has none the cheap one's."""
        said, names = means(votes), [member.name for member in reversed(self.members)]
        verdicts = {of: next((said[of, by] for by in names if (of, by) in said), None) for of in subjects["generation"]}
        return spoken(self.name, verdicts, names, votes)


def _check_members(members: Sequence[Judge | PairJudge], least: int) -> None:
    if len(members) < least:
        raise RecipeError(f"this ensemble has {len(members)} members, but needs at least {least}")
    names = [member.name for member in members]
    if len(set(names)) < len(names):
        raise RecipeError(f"an ensemble asks each judge once, but its members are {', '.join(names)}")
    if any(isinstance(member, Ensemble) for member in members):
        raise RecipeError("an ensemble cannot be a member of an ensemble: name the members of both in one")


def _spread(scores: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation, or 1 where all are alike."""
    return (fmean(scores), pstdev(scores) or 1.0) if scores else (0.0, 1.0)


def spoken(
    ensemble: str, scores: Mapping[str, float | None], members: Sequence[str], votes: pl.DataFrame
) -> pl.DataFrame:
    """VOTES of an ensemble, one for each of `scores`; without one, with the status of the first vote that failed.

    Its detail is that of the first vote that succeeded, if it has a score: so a verifier's reading is not lost.
    """
    places = pl.DataFrame({"judge": members, "place": range(len(members))})
    ok, status, detail = pl.col("score").is_not_null(), pl.col("status"), pl.col("detail")
    heard = votes.join(places, on="judge").sort("place", "vote").group_by("generation")
    first = heard.agg(
        status.filter(~ok).first(),
        detail.filter(ok).drop_nulls().first(),
        why=detail.filter(~ok).first(),
    )
    found = pl.DataFrame(list(scores.items()), {"generation": pl.String, "score": pl.Float64}, orient="row")
    return (
        found.join(first, on="generation", how="left", maintain_order="left")
        .with_columns(
            judge=pl.lit(ensemble),
            vote=pl.lit(0),
            status=pl.when(ok).then(pl.lit("ok")).otherwise(status.fill_null("error")),
            detail=pl.when(ok).then(detail).otherwise("why"),
            trace=pl.lit(None),
        )
        .select(list(VOTES))
        .cast(VOTES)
    )
