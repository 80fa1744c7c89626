"""Which answers are kept: frame to frame, one class per rule.

Each is a frozen dataclass and a `Filter` (`protocols.py`): it gets JUDGED and gives back fewer of its rows, in the
order that they had; which ones hangs on what the rows hold, not on their order. An answer without a score passes no
filter that looks at scores: no judgment is no praise. Nothing is computed before the step collects the frame.
"""

from dataclasses import dataclass

import polars as pl

from filters.expressions import TINY, _check_share, lot, place, score, scored
from flywheel.errors import RecipeError


@dataclass(frozen=True)
class Correct:
    """Answers whose score is at least `threshold`."""

    threshold: float = 1.0

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to the rows of it that stay."""
        return judged.filter(score >= self.threshold)


@dataclass(frozen=True)
class Best:
    """The `n` answers to each prompt that have the highest scores; of equal ones the first by index.

    With n = 1: RAFT (Dong et al. 2023).
    """

    n: int = 1

    def __post_init__(self) -> None:
        if self.n < 1:
            raise RecipeError(f"Best keeps at least one answer for each prompt, but n is {self.n}")

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to the rows of it that stay."""
        return scored(judged).filter(place(-score).over("prompt") <= self.n)


@dataclass(frozen=True)
class TopFraction:
    """The answers with the highest scores of the whole iteration: at most `share` of all that have a score.

    Where the border cuts through equal scores, the first by index stay.
    """

    share: float

    def __post_init__(self) -> None:
        _check_share("TopFraction", self.share)

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to the rows of it that stay."""
        return scored(judged).filter(place(-score) <= self.share * pl.len() + TINY)


@dataclass(frozen=True)
class ScoreGap:
    """All answers to the prompts whose best and worst scores are at least `least` apart."""

    least: float

    def __post_init__(self) -> None:
        if not self.least > 0:
            raise RecipeError(f"the gap of ScoreGap must be above 0, not {self.least}")

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to the rows of it that stay."""
        gap = score.max().over("prompt") - score.min().over("prompt")
        return scored(judged).filter(gap >= self.least - TINY)


@dataclass(frozen=True)
class DropUnanimous:
    """All answers to the prompts that have answers of different scores: the others show no better and no worse."""

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to the rows of it that stay."""
        return scored(judged).filter(score.max().over("prompt") > score.min().over("prompt"))


@dataclass(frozen=True)
class MostDisputed:
    """The one answer to each prompt on which the first judge's votes differ most; of equal ones the first by index.

    An answer with fewer than two valid votes is not disputed. The answers whose judgments are worth judging, in
    Meta-Rewarding (Wu et al. 2024).
    """

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to the rows of it that stay."""
        disputed = judged.filter(pl.col("deviation").is_not_null())
        return disputed.filter(place(-pl.col("deviation")).over("prompt") == 1)


@dataclass(frozen=True)
class LabelBalance:
    """No bin of scores makes up more than `share` of what stays: the largest bins are thinned out at random.

    A bin is `width` wide: with 1, the scores from 4 to below 5 are one. Where there are too few bins for such a share,
    all are made as large as the smallest one. 0.4 keeps a model that learns to judge from giving one score always.
    """

    share: float = 0.4
    width: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check_share("LabelBalance", self.share)
        if not self.width > 0:
            raise RecipeError(f"the width of LabelBalance must be above 0, not {self.width}")

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to the rows of it that stay."""
        bin = (score / self.width + TINY).floor().cast(pl.Int64)
        drawn = scored(judged).with_columns(nth=lot("balance", self.seed).rank("ordinal").over(bin))
        # As many rows are the nth of their bin or an earlier one as would stay if each bin kept n.
        fits = pl.col("nth") <= self.share * pl.col("nth").rank("max") + TINY
        return drawn.filter(fits | (pl.col("nth") <= pl.len().over(bin).min())).drop("nth")
