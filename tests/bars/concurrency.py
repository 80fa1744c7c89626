"""Bar `concurrency`: four processes write 200,000 generations each into one store while a fifth reads every 0.1 s.

    python -m tests.bars.concurrency [--rows 200000] [--writers 4] [--folder DIR]

A row has 1 KB of text and a batch 10,000 rows; each writer adds every fifth batch twice, as one does that was killed
and starts again. Nothing may be lost and nothing be there twice, each read sees whole batches only, and no read waits
for more than a second for the file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.store.ids import content_id
from flywheel.store.store import Store
from tests import ROOT
from tests.bars.store import BATCH, batches

SECONDS, PAUSE, AGAIN = 1.0, 0.1, 5
SEEN = "select checkpoint, count(*) as rows, count(distinct id) as ids from generations group by checkpoint"


def write(path: Path, writer: int, rows: int) -> None:
    """Adds its rows and prints how long each batch took, with the wait for its turn."""
    store = Store(path)
    for number, (_, rows_) in enumerate(batches(rows)):
        own = pl.col("id").map_elements(lambda id: content_id(writer, id), return_dtype=pl.String)
        frame = rows_.with_columns(own, checkpoint=pl.lit(f"writer {writer}"))
        started = time.monotonic()
        added = store.add("generations", frame)
        print(json.dumps([added, round(time.monotonic() - started, 3)]), flush=True)
        if number % AGAIN == 0:
            assert store.add("generations", frame) == 0, "a batch was stored twice"


def read(store: Store) -> tuple[float, float, pl.DataFrame]:
    """Seconds until the file was open, seconds until the answer was there, the answer."""
    started = time.monotonic()
    with store.reading() as connection:
        opened = time.monotonic()
        rows = connection.sql(SEEN).pl()
    return opened - started, time.monotonic() - started, rows


def measure(path: Path, writers: int, rows: int) -> dict[str, Any]:
    store = Store(path)
    argv = [sys.executable, "-m", __spec__.name, "--rows", str(rows), "--path", str(path), "--write"]
    started = time.monotonic()
    children = [
        subprocess.Popen([*argv, str(number)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for number in range(writers)
    ]
    waits, answers, whole, before = [], [], True, 0
    try:
        while any(child.poll() is None for child in children):
            wait, answer, seen = read(store)
            waits.append(wait)
            answers.append(answer)
            total = int(seen["rows"].sum())
            whole &= total >= before and (seen["rows"] % BATCH == 0).all() and seen["rows"].equals(seen["ids"])
            before = total
            time.sleep(PAUSE)
    finally:
        for child in children:
            child.kill()
            child.wait()
    spent = time.monotonic() - started
    told = [json.loads(line) for child in children if child.stdout for line in child.stdout]
    _, _, seen = read(store)
    return {
        "ended_well": all(child.returncode == 0 for child in children),
        "rows": int(seen["rows"].sum()),
        "ids": int(seen["ids"].sum()),
        "acknowledged": sum(added for added, _ in told),
        "whole_batches": whole,
        "reads": len(waits),
        "longest_wait": round(max(waits), 3),
        "longest_read": round(max(answers), 3),
        "median_wait": round(sorted(waits)[len(waits) // 2], 3),
        "longest_write": max(seconds for _, seconds in told),
        "rows_per_second": round(writers * rows / spent),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="where the store is made; default: a temporary folder")
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write is not None:
        write(options.path, options.write, options.rows)
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        value = measure(Path(folder) / "flywheel.duckdb", options.writers, options.rows)
    whole = value["ended_well"] and value["whole_batches"]
    all_there = value["rows"] == value["ids"] == value["acknowledged"] == options.writers * options.rows
    ok = whole and all_there and value["longest_wait"] < SECONDS
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    target = {"rows": options.writers * options.rows, "longest_wait": SECONDS}
    print(json.dumps({"bar": "concurrency", "value": value, "target": target, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
