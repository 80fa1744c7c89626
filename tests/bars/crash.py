"""Bar `crash`: a process that writes is killed with SIGKILL at 100 random moments; no batch is lost or in part.

    python -m tests.bars.crash [--kills 100] [--seed 0]

A batch is one transaction over prompts, generations and their judgments; the writer names it once it is stored. Some
kills come while the file is being made or opened, most in the middle of a batch. After each the file must open, hold
every batch that was named and no part of another; at the end `flywheel store check` must find nothing.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.store.ids import generation_id
from flywheel.store.schema import CHECKPOINTS, DRAWS, GENERATIONS, JUDGMENTS, prompts_frame
from flywheel.store.store import Store
from tests import ROOT

PROMPTS, N, NOW = 125, 8, datetime(2026, 1, 1)
EARLY, START, GOING = 0.2, 2.0, 0.5
"""Share of the kills in the first START seconds of a process; the others come within GOING of its first batch."""
COUNTS = """
    select batch, prompts, generations, judgments from
    (select source as batch, count(*) as prompts from prompts group by source)
    left join (select p.source as batch, count(*) as generations from generations g join prompts p on p.id = g.prompt
               group by p.source) using (batch)
    left join (select p.source as batch, count(*) as judgments from judgments j join prompts p on p.id = j.prompt
               group by p.source) using (batch)"""
ORPHANS = """select (select count(*) from generations anti join prompts on prompts.id = generations.prompt)
             + (select count(*) from judgments anti join generations on generations.id = judgments.generation)"""


def batch(number: int) -> dict[str, pl.DataFrame]:
    chats = [[{"role": "user", "content": f"question {row} of batch {number}"}] for row in range(PROMPTS)]
    prompts = prompts_frame(({"chat": chat} for chat in chats), f"batch {number}")
    text = random.Random(number).randbytes(400).hex()
    same = {"checkpoint": "base", "draw": "drawn"}
    rows = [
        {"id": generation_id(prompt, "base", "drawn", index), "prompt": prompt, "index": index, "text": text[index:],
         "role": "answer", "finish_reason": "stop", "seed": 0, "engine": "e", "template": "t", "created_at": NOW}
        for prompt in prompts["id"] for index in range(N)
    ]  # fmt: skip
    votes = [
        {"generation": row["id"], "judge": "rule", "vote": 0, "score": 1.0, "status": "ok", **same,
         "prompt": row["prompt"], "index": row["index"]}
        for row in rows
    ]  # fmt: skip
    return {
        "prompts": prompts,
        "generations": pl.DataFrame([row | same for row in rows], schema=GENERATIONS),
        "judgments": pl.DataFrame(votes, schema=JUDGMENTS),
    }


def write(path: Path, first: int) -> None:
    """Adds batches until it is killed."""
    store = Store(path)
    drawn = pl.DataFrame([("drawn", "e", N, 1.0, 1.0, 0, 9, [], 0, 0.0, 1.0, 0.0, 0.0, 0)], schema=DRAWS, orient="row")
    base = pl.DataFrame([("base", "base", None, None, None, None, "w", NOW)], schema=CHECKPOINTS, orient="row")
    store.add_all({"draws": drawn, "checkpoints": base})
    for number in range(first, first + 10_000):
        store.add_all(batch(number))
        print(number, flush=True)


def killed(path: Path, first: int, generator: random.Random) -> list[int]:
    """The batches that a writer named before it was killed."""
    argv = [sys.executable, "-m", __spec__.name, "--write", str(first), "--path", str(path)]
    child = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    named = []
    try:
        if generator.random() < EARLY:
            threading.Timer(generator.uniform(0, START), child.kill).start()
        else:
            named.append(int(child.stdout.readline()))
            threading.Timer(generator.uniform(0, GOING), child.kill).start()
        return named + [int(line) for line in child.stdout.read().split()]
    finally:
        child.kill()
        child.wait()


def measure(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    path, generator = folder / "flywheel.duckdb", random.Random(seed)
    named: set[int] = set()
    lost = parts = unnamed = early = 0
    for _ in range(kills):
        new = killed(path, max(named, default=-1) + 1, generator)
        early += not new
        named.update(new)
        if not path.exists():
            continue
        store = Store(path)
        counts = store.sql(COUNTS)
        there = {int(name.split()[1]) for name in counts["batch"]}
        whole = (counts["prompts"] == PROMPTS) & (counts["generations"] == PROMPTS * N)
        parts += int((~(whole & (counts["judgments"] == PROMPTS * N)).fill_null(False)).sum())
        parts += store.sql(ORPHANS).item()
        lost += len(named - there)
        unnamed += len(there - named)
        named |= there
    argv = [sys.executable, "-m", "flywheel.cli.app", "store", "check", "--home", str(folder)]
    check = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    left = sorted(name for name in os.listdir(folder) if name != path.name)
    return {
        "kills": kills,
        "before_the_first_batch": early,
        "batches": len(named),
        "lost": lost,
        "in_part": parts,
        "stored_but_not_named": unnamed,
        "check": (check.stdout + check.stderr).strip(),
        "left_beside_the_file": left,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write is not None:
        write(options.path, options.write)
        return 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        value = measure(Path(folder), options.kills, options.seed)
    ok = value["lost"] == value["in_part"] == 0 and value["check"] == "the store is sound" and value["batches"] > 0
    print(f"{time.monotonic() - started:.0f} s, load average {os.getloadavg()[0]:.1f}", file=sys.stderr)
    target = {"lost": 0, "in_part": 0, "check": "the store is sound"}
    print(json.dumps({"bar": "crash", "value": value, "target": target, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
