"""What trains: JUDGED, after the filters, to PICKED. Each is a frozen dataclass and a `Pick` (`flywheel.recipe`)."""

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class Completions:
    """Every answer that is left becomes one supervised example of weight 1."""

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to PICKED."""
        return judged.select(
            "prompt",
            pl.col("text").alias("chosen"),
            pl.lit(None, dtype=pl.String).alias("rejected"),
            pl.lit(1.0).alias("weight"),
            pl.concat_list("generation").alias("generations"),
        )
