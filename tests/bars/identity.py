"""Bar `identity`: ids last, code counts, old stores go on, and none of that costs anything that shows.

    python -m tests.bars.identity [--rounds N] [--against COMMIT]

First the tests that prove it: every dataclass of the shipped recipes with a field added, one renamed by an alias, its
module moved, and each value changed; the ids of the shipped recipes; edits of a user's parts; stores of each earlier
version. Then the same small quickstart is run by this program and by an earlier one, in alternating rounds, each a new
process with a new home. What counts is the ratio of their times: the upper end of its 95% interval must reach TARGET.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scipy.stats import t

from tests import ROOT

TARGET = 0.98
TESTS = ("tests/identity/test_identity.py", "tests/identity/test_edits.py", "tests/store/test_old_stores.py")
BEFORE = "974fa33"  # the last program whose ids held every field and no code
SMALL = (
    *("warm_start.train.max_steps=60", "train.max_steps=60", "prompts.each=60", "exam.prompts.each=60"),
    *("warm_start.examples.each=[100,100]", "base.text.each=[100,100]"),
)


def proven() -> int:
    """How many tests pass; 0 where one of them fails or is skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", *TESTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    last = done.stdout.strip().splitlines()[-1]
    print(last, flush=True)
    return int(last.split(" passed")[0].split()[-1]) if done.returncode == 0 and "skipped" not in last else 0


def seconds(program: Path, place: str) -> float:
    """How long a small quickstart of a program takes."""
    settings = [part for setting in SMALL for part in ("--set", setting)]
    command = [
        "-m",
        "flywheel.cli",
        "run",
        "quickstart",
        "--iterations",
        "1",
        "--quiet",
        "--home",
        place,
        *settings,
    ]
    environment = {**os.environ, "PYTHONPATH": str(program), "PYTHONSAFEPATH": "1"}
    started = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=program, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def ratios(before: Path, rounds: int) -> list[float]:
    """The earlier program's time over this one's, in alternating rounds: above 1 this one is quicker."""
    found = []
    for number in range(rounds):
        took = {}
        for program in (before, ROOT) if number % 2 else (ROOT, before):
            with tempfile.TemporaryDirectory() as place:
                took[program] = seconds(program, place)
        found.append(took[before] / took[ROOT])
        print(f"round {number + 1}: {took[before]:.1f} s before, {took[ROOT]:.1f} s now", flush=True)
    return found


def measure(rounds: int, against: str) -> dict[str, Any]:
    """What the bar says."""
    passed = proven()
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        subprocess.run(
            ["git", "worktree", "add", "--detach", before, against], cwd=ROOT, check=True, capture_output=True
        )
        try:
            found = ratios(before, rounds)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", before], cwd=ROOT, check=True, capture_output=True)
    mean = statistics.mean(found)
    reach = t.ppf(0.975, rounds - 1) * statistics.stdev(found) / rounds**0.5
    numbers = {"ratio": round(mean, 3), "low": round(mean - reach, 3), "high": round(mean + reach, 3)}
    return {
        "bar": "identity",
        "tests": passed,
        "rounds": rounds,
        **numbers,
        "ok": passed > 0 and mean + reach >= TARGET,
    }


def main() -> int:
    """Measure and say so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--against", default=BEFORE)
    options = parser.parse_args()
    result = measure(options.rounds, options.against)
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
