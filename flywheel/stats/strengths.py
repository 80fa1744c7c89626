"""The likeliest strengths of players, from their wins."""

import numpy as np

from flywheel.errors import RatingError
from flywheel.stats.estimate import Floats, Ints

CONVERGED = 1e-6  # the last step that moves two players apart, in units of ELO; what is left is about its square
FIT_STEPS = 200  # steps; a handful is usual, some dozens where players never lost
CELLS = 1 << 17  # of the matrices that are worked on at once: what a processor's cache holds


def fit(wins: Floats, sizes: Ints, start: Floats, l2: float) -> Floats:
    """Strengths of the players of all groups, (players,), from their wins; `sizes` (groups,) ascends."""
    strengths, row, cell = start.copy(), 0, 0
    for size, groups in zip(*map(np.ndarray.tolist, np.unique(sizes, return_counts=True)), strict=True):
        at_once = max(1, CELLS // size**2)
        for part in (min(at_once, groups - done) for done in range(0, groups, at_once)):
            rows, cells = slice(row, row + part * size), slice(cell, cell + part * size**2)
            row, cell = rows.stop, cells.stop
            shape = (part, size)
            strengths[rows] = _newton(wins[cells].reshape(*shape, size), start[rows].reshape(shape), l2).ravel()
    return strengths


@np.errstate(over="ignore")  # then a chance is 0, as it should be
def _newton(wins: Floats, strengths: Floats, l2: float) -> Floats:
    """The likeliest strengths (groups, players) for wins (groups, players, players), by damped Newton steps.

    Each group's sum is 0, from the start on. Of a step that moves two players apart by r, ln(1 + r) / r is gone: as the
    third derivative along it is at most r times the second, that goes uphill from anywhere (Sun and Tran-Dinh 2019).
    """
    met, diagonal = wins + wins.mT, np.arange(wins.shape[1])
    for _ in range(FIT_STEPS):
        losing = 1 / (1 + np.exp(strengths[:, :, None] - strengths[:, None, :]))  # the chance of it, for row to column
        surprise = wins * losing
        slope = surprise.sum(axis=2) - surprise.sum(axis=1) - l2 * strengths
        bend = -met * losing * losing.mT
        bend[:, diagonal, diagonal] = l2 - bend.sum(axis=2)
        step = np.linalg.solve(bend, slope[:, :, None])[:, :, 0]
        step -= step.mean(axis=1, keepdims=True)
        apart = np.maximum(np.ptp(step, axis=1, keepdims=True), CONVERGED**2)
        strengths = strengths + step * np.log1p(apart) / apart
        if apart.max() < CONVERGED:
            return strengths
    raise RatingError(
        f"these battles have no stable ratings after {FIT_STEPS} steps: a larger l2 than {l2:g} gives some"
    )
