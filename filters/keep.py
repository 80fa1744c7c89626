"""Which answers are kept: frame to frame, one class per rule.

Each is a frozen dataclass and a `Filter` (`flywheel.recipe`): it gets JUDGED and gives back fewer of its rows, in the
order that they had. Nothing is computed before the step collects the frame.
"""

from dataclasses import dataclass

import polars as pl

from flywheel.errors import RecipeError
from flywheel.tables import content_id


@dataclass(frozen=True)
class Correct:
    """Answers whose score is at least `threshold`. An answer without a score never passes: no judgment is no praise."""

    threshold: float = 1.0

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to the rows of it that stay."""
        return judged.filter(pl.col("score") >= self.threshold)


@dataclass(frozen=True)
class Finished:
    """Answers that the model ended itself. One that was cut at the token limit teaches not to stop."""

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to the rows of it that stay."""
        return judged.filter(pl.col("finish_reason") == "stop")


@dataclass(frozen=True)
class Cap:
    """At most `n` answers for each prompt, drawn at random, so that easy prompts do not crowd out hard ones.

    The draw hangs on `seed` and the generations' ids alone, never on the order of the rows or on a library's hash: it
    is the same on every machine.
    """

    n: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 1:
            raise RecipeError(f"Cap keeps at least one answer for each prompt, but n is {self.n}")

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to the rows of it that stay."""
        lot = pl.col("generation").map_batches(self._lots, return_dtype=pl.String, is_elementwise=True)
        return judged.filter(lot.rank("ordinal").over("prompt") <= self.n)

    def _lots(self, generations: pl.Series) -> pl.Series:
        return pl.Series(generations.name, [content_id("cap", self.seed, one) for one in generations], dtype=pl.String)


@dataclass(frozen=True)
class Distinct:
    """The same text for one prompt is kept once: the first by index. White space at either end makes no difference."""

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to the rows of it that stay."""
        text = pl.col("text").str.strip_chars()
        first = pl.col("generation").sort_by("index", "generation").first().over("prompt", text)
        return judged.filter(pl.col("generation") == first)
