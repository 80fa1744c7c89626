"""Bar `kill`: a quickstart killed with SIGKILL at 20 moments ends with the tables of an undisturbed one, row by row.

    python -m tests.bars.kill [--iterations N] [--set key=value ...]

The moments cover every step of every iteration: in the middle of batches, between steps, and in the trainer child (that
is then killed itself, rather than its parent). After each kill the same command is run again in the same home.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from flywheel.store.schema import KEYS, TABLES
from flywheel.store.store import Store

TIMINGS = ("created_at",)
ORDER = ("warm_start", "propose", "sample", "judge", "select", "train", "examine")
DRIVER = """
import sys, functools, pathlib
from flywheel.recipe.load import load
from flywheel.pipeline.loop import iterate
recipe, home, iterations, *overrides = sys.argv[1:]
at = functools.partial(load, recipe, overrides=tuple(overrides))
print("ready", flush=True)
for p in iterate(at, pathlib.Path(home), iterations=int(iterations)):
    print(p.iteration, p.step, p.done, p.total, flush=True)
"""


@dataclass(frozen=True)
class Moment:
    """Kill `delay` seconds after iteration `iteration` first stored something of `step`; `victim`: parent or child."""

    iteration: int
    step: str
    delay: float
    victim: str = "parent"


def moments(iterations: int, count: int, seed: int) -> list[Moment]:
    """`count` moments over all iterations and steps, in the order in which they come."""
    generator = random.Random(seed)
    steps = ["propose", "sample", "sample", "judge", "select", "train", "train", "examine"]
    every = [(0, "warm_start"), (0, "warm_start"), (0, "examine")]
    every += [(number, step) for number in range(1, iterations + 1) for step in steps]
    chosen = sorted(generator.sample(range(len(every)), min(count, len(every))))
    chosen += sorted(generator.choices(range(len(every)), k=count - len(chosen)))
    long = {"sample": 6.0, "train": 5.0, "warm_start": 5.0, "examine": 0.4}
    found = []
    for index, (iteration, step) in enumerate(every[i] for i in sorted(chosen)):
        child = step in ("train", "warm_start") and index % 2 == 0
        delay = generator.uniform(0, long.get(step, 0.05))
        found.append(Moment(iteration, step, delay, "child" if child else "parent"))
    return found


def launch(recipe: str, home: Path, iterations: int, overrides: Sequence[str]) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-c", DRIVER, recipe, str(home), str(iterations), *overrides]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, from /proc."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, fresh = [], [pid]
    while fresh:
        fresh = [child for child, parent in parents.items() if parent in fresh]
        found += fresh
    return found


def kill_at(process: "subprocess.Popen[str]", moment: Moment) -> str:
    """Read progress until the moment, then kill. Gives what was hit, or 'past' if the moment is over already."""
    assert process.stdout is not None
    for line in process.stdout:
        words = line.split()
        if words[0] == "ready" or (int(words[0]), ORDER.index(words[1])) < (moment.iteration, ORDER.index(moment.step)):
            continue
        time.sleep(moment.delay)
        below = descendants(process.pid)
        victims = below[-1:] if moment.victim == "child" and below else [process.pid]
        for victim in victims:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                return "past"
        process.communicate()
        gone(below)
        return f"{'child' if victims != [process.pid] else 'parent'} in {words[0]}:{words[1]}"
    process.communicate()
    return "past"


def gone(pids: Sequence[int], seconds: float = 15.0) -> None:
    """No orphan may outlive the parent for long."""
    deadline = time.monotonic() + seconds
    while alive := [pid for pid in pids if Path(f"/proc/{pid}").exists() and not zombie(pid)]:
        if time.monotonic() > deadline:
            raise AssertionError(f"orphans: {alive}")
        time.sleep(0.05)


def zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def finish(recipe: str, home: Path, iterations: int, overrides: Sequence[str]) -> float:
    """Run to the end; gives the seconds."""
    started = time.monotonic()
    process = launch(recipe, home, iterations, overrides)
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    return time.monotonic() - started


def contents(home: Path) -> Iterator[tuple[str, pl.DataFrame]]:
    """Every table but events, without its timings, in the order of its keys."""
    store = Store(home / "flywheel.duckdb")
    for table in TABLES:
        if table != "events":
            frame = store.sql(f"select * from {table}")
            timings = [name for name in TIMINGS if name in frame.columns]
            frame = frame.drop(timings).sort(KEYS[table])
            if table == "metrics":
                frame = frame.filter(~pl.col("name").str.contains("runtime|second"))
            yield table, frame


def differences(left: Path, right: Path) -> list[str]:
    """Tables that differ between two homes, or that hold a row twice, in words."""
    found = []
    for (table, a), (_, b) in zip(contents(left), contents(right), strict=True):
        if len(a) != len(b):
            found.append(f"{table}: {len(a)} rows and {len(b)}")
        elif not a.equals(b):
            wrong = [name for name in a.columns if not a[name].equals(b[name])]
            found.append(f"{table}: {wrong} differ")
        if b.select(KEYS[table]).is_duplicated().any():
            found.append(f"{table}: a row is there twice")
    return found


def main() -> int:
    """Measure and print the bar."""
    options = argparse.ArgumentParser()
    options.add_argument("--recipe", default="quickstart")
    options.add_argument("--iterations", type=int, default=2)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--set", action="append", default=[], dest="overrides")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        calm, stormy = Path(folder, "calm"), Path(folder, "stormy")
        seconds = finish(given.recipe, calm, given.iterations, given.overrides)
        print(f"undisturbed: {seconds:.0f} s", flush=True)
        hits: list[str] = []
        for moment in moments(given.iterations, given.kills, given.seed):
            hit = kill_at(launch(given.recipe, stormy, given.iterations, given.overrides), moment)
            print(f"{moment}: {hit}", flush=True)
            hits += [hit] if hit != "past" else []
        finish(given.recipe, stormy, given.iterations, given.overrides)
        found = differences(calm, stormy)
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(found))
    ok = not found and len(hits) >= given.kills
    value = {"kills": len(hits), "differences": len(found), "hits": hits}
    print(json.dumps({"bar": "kill", "value": value, "target": {"kills": given.kills, "differences": 0}, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
