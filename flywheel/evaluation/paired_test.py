"""The statistics of an exam: pass@k, maj@k, and whether one checkpoint is better than another. No I/O.

A promotion rests on a paired test: both checkpoints answer the same items, and what counts is the difference on each.
"""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

RESAMPLES = 10_000
NEGLIGIBLE = 1e-40  # below this a term adds nothing to a p-value that anyone would read


class Comparison(NamedTuple):
    """A candidate against the incumbent on the same items. Scores are pass@1; the interval covers 95%."""

    items: int
    score: float
    incumbent: float
    difference: float
    low: float
    high: float
    p: float  # two-sided
    gained: int  # items that only the candidate solves: with most of its answers right
    lost: int  # items that only the incumbent solves


def compare(candidate: pl.DataFrame, incumbent: pl.DataFrame, seed: int = 0) -> Comparison:
    """Compare two checkpoints' GRADES of the same exam, item by item. ValueError if the items differ."""
    pairs = candidate.select("prompt", "n", "correct").join(
        incumbent.select("prompt", "n", "correct"), on="prompt", suffix="_before", validate="1:1"
    )
    if not candidate.height == incumbent.height == pairs.height > 0:
        raise ValueError(
            f"these exams differ in their items: {candidate.height} and {incumbent.height}, "
            f"of which {pairs.height} are in both"
        )
    n, correct, n_before, correct_before = (
        pairs[name].to_numpy().astype(np.int64) for name in ("n", "correct", "n_before", "correct_before")
    )
    scale = int(np.lcm.reduce(np.concatenate([n, n_before])))  # counts in this unit are whole numbers on both sides
    differences = correct * (scale // n) - correct_before * (scale // n_before)
    low, high = bootstrap(differences / scale, seed)
    solved, solved_before = 2 * correct > n, 2 * correct_before > n_before
    return Comparison(
        items=pairs.height,
        score=float(np.mean(correct / n)),
        incumbent=float(np.mean(correct_before / n_before)),
        difference=float(differences.mean() / scale),
        low=low,
        high=high,
        p=sign_flip(differences),
        gained=int(np.sum(solved & ~solved_before)),
        lost=int(np.sum(solved_before & ~solved)),
    )


def bootstrap(differences: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """The 95% percentile interval of the mean, items resampled with replacement."""
    values, counts = np.unique(differences, return_counts=True)
    items = len(differences)
    # Few values are distinct, so to draw how often each comes is to draw the items, in a fraction of the memory.
    drawn = np.random.default_rng(seed).multinomial(items, counts / items, size=RESAMPLES)
    low, high = np.quantile(drawn @ values / items, [0.025, 0.975])
    return float(low), float(high)


def sign_flip(differences: NDArray[np.int64]) -> float:
    """Exact two-sided p of the paired permutation test: each item's sign is as likely + as -. Told as 1e-40 below that.

    Items that differ by the same amount v move the sum by v times a binomial, and the sum's distribution is the
    convolution of these. With one answer for each item there is one such binomial: the exact McNemar test.
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    total = int(sizes @ counts)
    chance = np.ones(1)  # of each number of points on the candidate's side, 0..total
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        wider = np.zeros(len(chance) + size * count)
        binomial = fair(count)
        for side in np.flatnonzero(binomial > NEGLIGIBLE).tolist():
            wider[side * size : side * size + len(chance)] += binomial[side] * chance
        chance = wider
    won = np.arange(total + 1)
    extreme = np.abs(2 * won - total) >= abs(int(differences.sum()))
    return float(min(1.0, max(NEGLIGIBLE, chance[extreme].sum())))


def fair(tosses: int) -> NDArray[np.float64]:
    """Chance of each number of heads, 0..tosses."""
    from scipy.special import gammaln

    heads = np.arange(tosses + 1)
    ways = gammaln(tosses + 1) - gammaln(heads + 1) - gammaln(tosses - heads + 1)
    return np.asarray(np.exp(ways - tosses * np.log(2)))


def tell(comparison: Comparison) -> str:
    """The numbers of a comparison in words."""
    it = comparison
    return (
        f"solves {it.score:.3f}, the incumbent {it.incumbent:.3f}: {100 * it.difference:+.1f} points "
        f"(95% interval {100 * it.low:.1f} to {100 * it.high:.1f}, p = {short(it.p)}; "
        f"{it.gained} gained, {it.lost} lost of {it.items})"
    )


def short(p: float) -> str:
    """A p-value in two digits, in one where it is tiny."""
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.0e}".replace("e-0", "e-")
