"""Expressions that filters and picks are made of."""

import polars as pl

from flywheel.errors import RecipeError
from flywheel.store.ids import content_id

score, chars = pl.col("score"), pl.col("text").str.len_chars().cast(pl.Int64)
TINY = 1e-9
"""What adding and multiplying scores may lose: 5.1 - 4.1 counts as 1."""


def place(*by: pl.Expr) -> pl.Expr:
    """1 for the row with the smallest `by`, then 2, and so on; equal ones in the order of index, then of id."""
    return pl.struct(*by, "index", "generation").rank("ordinal")


def lot(name: str, seed: int) -> pl.Expr:
    """A random text for each row that hangs on `name`, `seed` and the generation's id alone.

    So a draw is the same on every machine, whatever the order of the rows or the hash of a library.
    """

    def drawn(generations: pl.Series) -> pl.Series:
        return pl.Series(generations.name, [content_id(name, seed, one) for one in generations], dtype=pl.String)

    return pl.col("generation").map_batches(drawn, return_dtype=pl.String, is_elementwise=True)


def scored(judged: pl.LazyFrame) -> pl.LazyFrame:
    """JUDGED without the answers that have no score."""
    return judged.filter(score.is_not_null())


def _check_share(part: str, share: float) -> None:
    if not 0 < share <= 1:
        raise RecipeError(f"the share of {part} must be above 0 and at most 1, not {share}")
