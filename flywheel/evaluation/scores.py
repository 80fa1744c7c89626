"""The scores of an exam: pass@k, maj@k, and a grade for each item. No I/O."""

from typing import Any, overload

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.store.schema import GRADES


@overload
def pass_at_k(n: int, c: int, k: int) -> float: ...
@overload
def pass_at_k(n: NDArray[np.int_], c: NDArray[np.int_], k: int) -> NDArray[np.float64]: ...
@overload
def pass_at_k(n: pl.Expr, c: pl.Expr, k: int) -> pl.Expr: ...
def pass_at_k(n: Any, c: Any, k: int) -> Any:
    """Chance that one of k answers is right, when c of n were: 1 - C(n-c, k) / C(n, k), unbiased. Needs k <= n."""
    missed: Any = 1.0
    for i in range(k):  # a factor is 0 from i = n - c on, so the product stays 0 where fewer than k answers are wrong
        missed = missed * ((n - c - i) / (n - i))
    return 1.0 - missed


def maj_at_k(judged: pl.DataFrame, k: int) -> pl.DataFrame:
    """Whether the most frequent final answer among each prompt's first k is right: `prompt`, `majority`.

    Wants `prompt`, `index`, `score` and `detail`, the final answer that the judge read. An answer that lacks it or its
    score does not vote; of two that are as frequent the one that came first wins. NULL if the judge reads none at
    all.
    """
    known = pl.col("detail").is_not_null() & pl.col("score").is_not_null()
    voting = judged.sort("prompt", "index").filter(pl.col("index") < k, known)
    if voting.is_empty():
        return judged.select("prompt", majority=pl.lit(None, pl.Boolean)).unique("prompt", maintain_order=True)
    winners = (
        voting.group_by("prompt", "detail", maintain_order=True)
        .agg(votes=pl.len(), majority=_right(pl.col("score").max()))
        .sort("votes", descending=True, maintain_order=True)  # a stable sort, so the first of equals stays first
        .unique("prompt", keep="first", maintain_order=True)
    )
    return (
        judged.select("prompt")
        .unique("prompt", maintain_order=True)
        .join(winners, on="prompt", how="left", maintain_order="left")
        .select("prompt", pl.col("majority").fill_null(False))
    )


def grade_exam(judged: pl.DataFrame, checkpoint: str, exam: str) -> pl.DataFrame:
    """GRADES from rows as maj_at_k wants them. An answer's votes count by their mean; without any, it is unscored."""
    answers = judged.group_by("prompt", "index", maintain_order=True).agg(
        pl.col("score").mean(), pl.col("detail").first()
    )
    counts = answers.group_by("prompt", maintain_order=True).agg(
        n=pl.len(), correct=_right(pl.col("score")).sum(), unscored=pl.col("score").is_null().sum()
    )
    graded = counts.join(maj_at_k(answers, answers.height), on="prompt", how="left", maintain_order="left")
    return graded.with_columns(checkpoint=pl.lit(checkpoint), exam=pl.lit(exam)).select(GRADES.names()).cast(GRADES)


def _right(score: pl.Expr) -> pl.Expr:
    return (score > 0.5).fill_null(False)
