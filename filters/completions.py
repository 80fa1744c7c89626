"""What trains: JUDGED, after the filters, to PICKED. Each is a frozen dataclass and a `Pick` (`flywheel.protocols`)."""

from dataclasses import dataclass

import polars as pl

from filters.expressions import score, scored


@dataclass(frozen=True)
class Completions:
    """Every answer that is left becomes one supervised example of weight 1."""

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to PICKED."""
        return _alone(judged, pl.lit(1.0))


@dataclass(frozen=True)
class Unpaired:
    """Every answer that has a score, as good (weight 1) from `threshold` on and as bad (weight -1) below it.

    For KTO (Ethayarajh et al. 2024), which wants no pairs. The weight's sign is the label.
    """

    threshold: float = 1.0

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to PICKED."""
        return _alone(scored(judged), pl.when(score >= self.threshold).then(1.0).otherwise(-1.0))


def _alone(judged: pl.LazyFrame, weight: pl.Expr) -> pl.LazyFrame:
    """PICKED: each answer is an example without a rejected one."""
    return judged.select(
        "prompt",
        chosen="text",
        rejected=pl.lit(None, pl.String),
        weight=weight,
        generations=pl.concat_list("generation"),
    )
