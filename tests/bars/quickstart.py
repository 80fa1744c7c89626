"""Bar `quickstart`: a real model improves itself by at least 20 points in at most 4 iterations, its control does not.

    python -m tests.bars.quickstart [--seeds 0 1 2]

For each seed: the quickstart by its command, timed from the first word to the last line; then the control, which spends
the same compute without a verifier. Both are compared with the warm-started base on the same exam, item by item.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flywheel.evaluation.paired_test import compare
from flywheel.store import queries
from flywheel.store.store import Store

SEEDS = ("seed", "base.seed", "base.text.seed", "warm_start.examples.seed", "prompts.seed", "exam.prompts.seed")
"""A seed is another model, other human data, other problems, another exam and other seeds."""
TARGET = {"points": 20.0, "p": 0.01, "seconds": 480, "iterations": 4, "items": 500}


def run(recipe: str, home: Path, seed: int, fields: Sequence[str] = SEEDS, iterations: int | None = None) -> float:
    """Seconds that the command took."""
    started = time.monotonic()
    settings = [part for field in fields for part in ("--set", f"{field}={seed}")]
    settings += ["--iterations", str(iterations)] if iterations else []
    subprocess.run(
        [sys.executable, "-m", "flywheel.cli.app", "run", recipe, "--home", str(home), *settings], check=True
    )
    return time.monotonic() - started


def gain(home: Path, name: str) -> dict[str, Any]:
    """The last policy of the run of this name against its base."""
    store = Store(home / "flywheel.duckdb")
    runs = store.sql("select id from runs where name = $name", {"name": name})
    decided = queries.decisions(store, runs["id"][0])
    first, last = decided.row(0, named=True), decided.row(-1, named=True)
    base, now = (queries.grades(store, row["policy"], row["exam"]) for row in (first, last))
    result = compare(now, base)
    return {
        "iterations": last["number"],
        "items": result.items,
        "base": round(result.incumbent, 4),
        "final": round(result.score, 4),
        "points": round(100 * result.difference, 1),
        "p": result.p,
    }


def measure(seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        seconds = run("quickstart", home, seed)
        run("control", home, seed)
        method, control = gain(home, "quickstart"), gain(home, "control")
    fine = (
        seconds <= TARGET["seconds"]
        and method["points"] >= TARGET["points"]
        and method["p"] < TARGET["p"]
        and method["iterations"] <= TARGET["iterations"]
        and method["items"] >= TARGET["items"]
        and not (control["points"] > 0 and control["p"] < 0.05)
    )
    return {"seed": seed, "seconds": round(seconds, 1), "quickstart": method, "control": control, "ok": fine}


def main() -> int:
    """Measure and print the bar."""
    options = argparse.ArgumentParser()
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    measured = [measure(seed) for seed in options.parse_args().seeds]
    ok = all(row["ok"] for row in measured)
    print(json.dumps({"bar": "quickstart", "value": measured, "target": TARGET, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
