"""Filters that look at the text of an answer, or at how it ended."""

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from filters.expressions import chars, lot
from flywheel.errors import RecipeError


@dataclass(frozen=True)
class Finished:
    """Answers that the model ended itself. One that was cut at the token limit teaches not to stop, and one that a
    server took away, refused or broke off is no answer."""

    version: ClassVar[int] = 2  # 1 kept whatever a server ended for other reasons than `stop` and `length`

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to the rows of it that stay."""
        return judged.filter(pl.col("finish_reason") == "stop")


@dataclass(frozen=True)
class MaxChars:
    """Answers of at most `n` characters."""

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise RecipeError(f"MaxChars lets at least one character pass, but n is {self.n}")

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to the rows of it that stay."""
        return judged.filter(chars <= self.n)


@dataclass(frozen=True)
class Cap:
    """At most `n` answers for each prompt, drawn at random, so that easy prompts do not crowd out hard ones."""

    n: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 1:
            raise RecipeError(f"Cap keeps at least one answer for each prompt, but n is {self.n}")

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to the rows of it that stay."""
        return judged.filter(lot("cap", self.seed).rank("ordinal").over("prompt") <= self.n)


@dataclass(frozen=True)
class Distinct:
    """The same text for one prompt is kept once: the first by index. White space at either end makes no difference."""

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to the rows of it that stay."""
        text = pl.col("text").str.strip_chars()
        first = pl.col("generation").sort_by("index", "generation").first().over("prompt", text)
        return judged.filter(pl.col("generation") == first)
