"""Estimates with 95% intervals for rows that come in groups, such as the answers to one prompt. No I/O.

Rows of a group are not independent, so an interval asks what leaving out one group at a time would change (the
jackknife over clusters). What cannot be told is None, never NaN: a correlation with a constant, an interval from one
group. A statistic is a function of sums: (..., columns) to (...), for all rows and for all but each group at once.
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Statistic = Callable[[Floats], Floats]

LEVEL = 0.975
"""Both sides of a 95% interval."""
LEAST = 1e-9
"""Share of its variance that a column must keep when a group is left out, or it counts as constant."""


class Estimate(NamedTuple):
    """A value and its interval, None where they cannot be told, and the number of rows that it rests on."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def groups_of(names: pl.Series) -> Ints:
    """A number for each row's group."""
    return names.cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)


def estimate(
    rows: Floats, groups: Ints, of: Statistic, bounds: tuple[float, float] = (-np.inf, np.inf), n: int | None = None
) -> Estimate:
    """The statistic of the sum of rows (n, columns), with the jackknife's interval by Student's t."""
    n = len(rows) if n is None else n
    if not len(rows):
        return Estimate(None, None, None, 0)
    value, without = _jackknife(_summed(rows, groups), of)
    if not np.isfinite(value):
        return Estimate(None, None, None, n)
    reach = _student(len(without) - 1) * _variance(without) ** 0.5 if len(without) > 1 else np.nan
    if not np.isfinite(reach):
        return Estimate(value, None, None, n)
    return Estimate(value, max(bounds[0], value - reach), min(bounds[1], value + reach), n)


def mean(values: Floats, groups: Ints, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
    """The mean of values (n,)."""
    return estimate(np.column_stack([values, np.ones(len(values))]), groups, _ratio, bounds)


def share(wins: Floats | NDArray[np.bool_], groups: Ints, trials: Floats | None = None) -> Estimate:
    """Wins (n,) of trials (n,; one each) with Wilson's interval.

    It counts as many independent trials as the jackknife's variance is worth, at most all of them; where nothing or
    everything is won, as many as there are groups.
    """
    trials = np.ones(len(wins)) if trials is None else trials
    sums = _summed(np.column_stack([wins, trials]), groups)
    sums, n = sums[sums[:, 1] > 0], int(trials.sum())
    if not len(sums):
        return Estimate(None, None, None, 0)
    value, without = _jackknife(sums, _ratio)
    if len(sums) == 1 or value in (0.0, 1.0):
        return Estimate(value, *wilson(value, len(sums)), n)
    spread = _variance(without) * (len(sums) - 1) / len(sums)
    worth = value * (1 - value) / spread if spread > 0 else np.inf
    return Estimate(value, *wilson(value, min(n, worth)), n)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95% interval of a share of n independent trials (Wilson 1927)."""
    z = NormalDist().inv_cdf(LEVEL)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float(max(0.0, middle - reach)), float(min(1.0, middle + reach))


def moments(*columns: Floats) -> Floats:
    """Rows whose sums `correlations` takes: products of 1 and the columns (n,), each moved to mean 0 and spread 1."""
    scaled = [np.ones(len(columns[0]))]
    for column in columns:
        centred = column - column.mean()
        spread = centred.std()
        # A constant becomes zeros exactly, whatever its rounding errors.
        scaled.append(centred / spread if spread > 1e-12 * (1 + np.abs(column).max()) else np.zeros(len(column)))
    every = np.stack(scaled, axis=1)
    return (every[:, :, None] * every[:, None, :]).reshape(len(every), -1)


def correlations(sums: Floats) -> Floats:
    """Pearson's correlations (..., columns, columns) from sums of `moments`; NaN with a constant."""
    size = int(np.sqrt(sums.shape[-1]))
    products = sums.reshape(*sums.shape[:-1], size, size)
    n = products[..., :1, :1]
    means = products[..., :1, 1:] / n
    covariances = products[..., 1:, 1:] / n - means.swapaxes(-1, -2) * means
    variances = np.diagonal(covariances, axis1=-2, axis2=-1)
    spreads = np.sqrt(np.where(variances > LEAST, variances, np.nan))
    found: Floats = covariances / (spreads[..., :, None] * spreads[..., None, :])
    return found


def correlation(x: Floats, y: Floats, groups: Ints) -> Estimate:
    """Pearson's correlation of x (n,) and y (n,); of their ranks it is Spearman's."""
    return estimate(moments(x, y), groups, lambda sums: correlations(sums)[..., 0, 1], (-1, 1)) if len(x) else NOTHING


def slope(y: Floats, x: Floats, fixed: Floats, groups: Ints) -> Estimate:
    """The standardised coefficient of x (n,) in the least squares of y (n,) on x and `fixed` (n,)."""

    def coefficient(sums: Floats) -> Floats:
        r = correlations(sums)
        alone = 1 - r[..., 1, 2] ** 2
        beta: Floats = (r[..., 0, 1] - r[..., 0, 2] * r[..., 1, 2]) / np.where(alone > LEAST, alone, np.nan)
        return beta

    return estimate(moments(y, x, fixed), groups, coefficient) if len(y) else NOTHING


NOTHING = Estimate(None, None, None, 0)


def _ratio(sums: Floats) -> Floats:
    ratio: Floats = sums[..., 0] / sums[..., 1]
    return ratio


def _summed(rows: Floats, groups: Ints) -> Floats:
    """Sums of the rows of each group, (groups, columns)."""
    places = np.unique(groups, return_inverse=True)[1]
    return np.stack([np.bincount(places, column) for column in rows.T], axis=1)


def _jackknife(sums: Floats, of: Statistic) -> tuple[float, Floats]:
    """The statistic of everything, and of everything but each group in turn (groups,)."""
    total = sums.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(of(total)), of(total - sums)


def _student(freedom: int) -> float:
    """The quantile of Student's t at LEVEL."""
    from scipy.special import stdtrit  # half a second

    return float(stdtrit(freedom, LEVEL))


def _variance(without: Floats) -> float:
    """The jackknife's variance of a statistic; NaN if leaving out some group leaves nothing to tell."""
    groups = len(without)
    return float((groups - 1) / groups * np.sum((without - without.mean()) ** 2))
