"""Bar `ratings`: 200 players are ranked from 50,000 battles, with honest intervals, in less than 5 seconds.

    python -m tests.bars.ratings [--seeds 0 1 2 3 4]

For each seed players of known strengths fight (one standard deviation is 174 Elo points; one battle in five is of two
rounds, and a tie if each wins one). Their ratings must be SciPy's root of the likelihood equations, summed over single
battles, to 1e-6; their ranks those of the strengths (Spearman); and the 95% intervals must hold nine in ten of the
strengths. Then 5,000 groups of 11 are rated, each from both orders of all its pairs, as a meta-judge's battles are.
What is worst of all seeds counts.
"""

import argparse
import json
import os
import sys
import time
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import optimize, special, stats

from flywheel.stats.ratings import ELO, by_position, rate

PLAYERS, BATTLES, GROUPS, GROUP = 200, 50_000, 5_000, 11
L2, TWO_ROUNDS = 0.01, 0.2
TARGET = {"seconds": 5.0, "groups_seconds": 5.0, "spearman": 0.99, "coverage": 0.9, "difference": 1e-6}
LEAST = ("spearman", "coverage")

Floats = NDArray[np.float64]


def strengths(players: int, seed: int) -> pl.DataFrame:
    """`player` and `true`, its rating: normal, in Elo points, with mean 1000."""
    drawn = np.random.default_rng(seed).normal(size=players)
    return pl.DataFrame({"player": [f"p{i}" for i in range(players)], "true": 1000 + ELO * (drawn - drawn.mean())})


def fought(a: NDArray[np.int64], b: NDArray[np.int64], true: Floats, seed: int) -> pl.DataFrame:
    """Battles between players by number, of these true ratings."""
    generator = np.random.default_rng([seed, 1])
    rounds = generator.random((2, len(a))) < special.expit((true[a] - true[b]) / ELO)
    rounds[1] = np.where(generator.random(len(a)) < TWO_ROUNDS, rounds[1], rounds[0])
    verdict = np.array(["b", "tie", "a"])[rounds.sum(axis=0)]
    return pl.DataFrame({"a": a, "b": b, "verdict": verdict}).with_columns(
        pl.format("p{}", pl.col(side)).alias(side) for side in ("a", "b")
    )


def battles(count: int, true: Floats, seed: int) -> pl.DataFrame:
    """So many battles between players drawn at random."""
    generator, players = np.random.default_rng([seed, 2]), len(true)
    a = generator.integers(0, players, count)
    return fought(a, (a + generator.integers(1, players, count)) % players, true, seed)


def grouped(seed: int) -> pl.DataFrame:
    """COMPARISONS of the players of many groups: both orders of every pair in a group, with the group as `prompt`."""
    group, pair = np.divmod(np.arange(GROUPS * GROUP * (GROUP - 1)), GROUP * (GROUP - 1))
    a, b = (group * GROUP + side[pair // 2] for side in np.triu_indices(GROUP, 1))
    rows = fought(a, b, strengths(GROUPS * GROUP, seed)["true"].to_numpy(), seed)
    return rows.with_columns(prompt=group, order=np.where(pair % 2, "ba", "ab"))


def reference(rows: pl.DataFrame, l2: float) -> pl.DataFrame:
    """`player` and `expected`, its rating: the root of the derivative of the likelihood, summed over single battles."""
    names = np.unique(rows.select("a", "b").to_numpy())
    a, b = (np.searchsorted(names, rows[side].to_numpy()) for side in ("a", "b"))
    won = rows["verdict"].replace_strict({"a": 1.0, "b": 0.0, "tie": 0.5}).to_numpy()
    weight = rows["weight"].to_numpy() if "weight" in rows.columns else np.ones(len(won))

    def slope(s: Floats) -> Floats:
        more = weight * (won - special.expit(s[a] - s[b]))  # than was likely
        return np.bincount(a, more, len(names)) - np.bincount(b, more, len(names)) - l2 * s

    found = optimize.root(slope, np.zeros(len(names)), tol=1e-13)
    return pl.DataFrame({"player": names, "expected": 1000 + ELO * found.x}, schema_overrides={"player": pl.String})


def measure(seed: int) -> dict[str, float]:
    true = strengths(PLAYERS, seed)
    rows = battles(BATTLES, true["true"].to_numpy(), seed)
    started = time.perf_counter()
    rated = rate(rows, l2=L2, seed=seed)
    seconds = time.perf_counter() - started
    both = rated.join(true, on="player").join(reference(rows, L2), on="player")
    comparisons = grouped(seed)
    started = time.perf_counter()
    rate(by_position(comparisons), by="prompt", resamples=0)
    return {
        "seconds": round(seconds, 2),
        "groups_seconds": round(time.perf_counter() - started, 2),
        "spearman": round(float(stats.spearmanr(both["rating"], both["true"]).statistic), 4),
        "coverage": float(both.select(pl.col("true").is_between("low", "high").mean()).item()),
        "difference": float(both.select((pl.col("rating") - pl.col("expected")).abs().max()).item()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    measured: list[dict[str, Any]] = []
    for seed in parser.parse_args().seeds:
        measured.append(measure(seed))
        print(f"seed {seed}: {measured[-1]}", file=sys.stderr)
    value = {name: (min if name in LEAST else max)(each[name] for each in measured) for name in TARGET}
    ok = all(value[name] >= TARGET[name] if name in LEAST else value[name] <= TARGET[name] for name in TARGET)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    print(json.dumps({"bar": "ratings", "value": value, "target": TARGET, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
