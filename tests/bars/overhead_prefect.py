"""Bar `overhead_prefect`: as a Prefect flow a run takes at most 3% longer, and at most 2 s for each iteration.

    python -m tests.bars.overhead_prefect [--iterations N] [--delay SECONDS] [--rounds N]

The same run by `iterate()` and as a flow run, each in a process of its own, one after the other; the flow talks to a
`prefect server` on this machine. The toy engine and its trainer only wait, so that nothing but the machine around them
takes CPU time, and both make the same rows.

`share` counts everything: the whole life of the flow's process over the other's, with Prefect's import, the start
and the end of the flow run, its artifacts and the report, which `iterate()` does not write. `seconds_per_iteration` is
what lies between the start of one iteration and the start of the next: its task runs, its log and its artifacts. Both
are medians over the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flywheel.engines.toy.engine import write_weights
from flywheel.store.store import Store
from tests.bars.kill import differences, finish
from tests.flows.scheduled import Server, prefect_server

TARGET = {"share": 0.03, "seconds_per_iteration": 2.0}


def flow(server: Server, home: Path, iterations: int, overrides: Sequence[str]) -> float:
    """Seconds that a flow run takes by hand."""
    settings = [part for setting in overrides for part in ("--set", setting)]
    command = [sys.executable, "-m", "flows.run", "toy", "--iterations", str(iterations), "--home", str(home)]
    started = time.monotonic()
    done = subprocess.run([*command, *settings], env=server.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return time.monotonic() - started


def spans(home: Path) -> list[float]:
    """Seconds from the start of each iteration to the start of the next."""
    begun = Store(home / "flywheel.duckdb").sql("select created_at from iterations order by number")["created_at"]
    return [span.total_seconds() for span in begun.diff().drop_nulls()]


def measure(server: Server, place: Path, iterations: int, overrides: Sequence[str]) -> dict[str, float]:
    """One round."""
    plain, shown = place / "plain", place / "flow"
    before = finish("toy", plain, iterations, overrides)
    after = flow(server, shown, iterations, overrides)
    assert differences(plain, shown) == [], "they did not make the same rows"
    more = [ours - theirs for ours, theirs in zip(spans(shown), spans(plain), strict=True)]
    return {
        "iterate": round(before, 1),
        "flow": round(after, 1),
        "share": round((after - before) / before, 4),
        "seconds_per_iteration": round(statistics.mean(more), 2),
    }


def main() -> int:
    """Measure and print the bar."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--iterations", type=int, default=3)
    options.add_argument("--delay", type=float, default=4.0, help="seconds for each batch and optimizer step")
    options.add_argument("--rounds", type=int, default=1)
    given = options.parse_args()
    os.environ["PYTHONPATH"] = str(Path.cwd())
    with tempfile.TemporaryDirectory() as folder, prefect_server(Path(folder, "prefect")) as server:
        weights = write_weights(Path(folder, "toy"), 0.3, 1, delay=given.delay, train_delay=given.delay)
        overrides = (f"base={weights}", "train.batch_size=64")
        rounds = []
        for number in range(given.rounds):
            rounds.append(measure(server, Path(folder, str(number)), given.iterations, overrides))
            print(rounds[-1], flush=True)
    value: dict[str, Any] = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    value["iterations"] = given.iterations
    ok = all(value[name] <= most for name, most in TARGET.items())
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    print(json.dumps({"bar": "overhead_prefect", "value": value, "target": TARGET, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
