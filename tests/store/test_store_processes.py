"""The store among processes: who waits for whom, and what a kill or a full disk leaves."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from flywheel.errors import StoreError
from flywheel.store.schema import METRICS
from flywheel.store.store import Store
from tests import ROOT

pytestmark = pytest.mark.slow

ROWS = 50
"""Rows of a batch, in each of two tables."""
COUNTS = """select (select count(*) from metrics) as metrics, (select count(*) from proposals) as proposals"""
WRITER = f"""
import sys, time
import polars as pl
from flywheel.store.store import Store
from flywheel.store.schema import METRICS, PROPOSALS
path, first, batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = Store(path)
for batch in range(first, first + batches):
    metrics = pl.DataFrame([("c", row, f"b{{batch}}", 0.5) for row in range({ROWS})], schema=METRICS, orient="row")
    proposals = pl.DataFrame([(f"b{{batch}}", row, "p" * 99) for row in range({ROWS})], schema=PROPOSALS, orient="row")
    store.add_all({{"metrics": metrics, "proposals": proposals}})
    print(batch, flush=True)
    time.sleep(0.005)
"""
HOLDER = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""
FULL = """
import resource, sys
import polars as pl
from flywheel.errors import StoreError
from flywheel.store.store import Store
from flywheel.store.schema import METRICS
store = Store(sys.argv[1])
names = [f"{i:09}" * 9 for i in range(40_000)]
frame = pl.DataFrame({"checkpoint": ["c"] * 40_000, "step": range(40_000), "name": names,
                      "value": [0.5] * 40_000}, schema=METRICS)
print(store.add("metrics", frame[:100]))
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    store.add("metrics", frame)
except StoreError as error:
    print(error)
print(Store(sys.argv[1]).sql("select count(*) from metrics").item())
"""


@contextlib.contextmanager
def child(script: str, *arguments: object) -> "Iterator[subprocess.Popen[str]]":
    argv = [sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_reader_sees_whole_batches_while_another_process_writes(store: Store) -> None:
    seen: list[int] = []
    with child(WRITER, store.path, 0, 20) as writer:
        while writer.poll() is None:
            row = store.sql(COUNTS).row(0)
            assert row[0] == row[1] and row[0] % ROWS == 0
            seen.append(row[0])
            time.sleep(0.05)
        assert writer.returncode == 0
    assert seen == sorted(seen) and len(set(seen)) > 1
    assert store.sql(COUNTS).row(0) == (20 * ROWS, 20 * ROWS)


def test_two_writers_and_the_readers_all_get_their_turn(store: Store) -> None:
    with child(WRITER, store.path, 0, 10) as one, child(WRITER, store.path, 5, 10) as other:
        while one.poll() is None or other.poll() is None:
            store.sql(COUNTS)
        assert one.returncode == other.returncode == 0
    assert store.sql(COUNTS).row(0) == (15 * ROWS, 15 * ROWS)


@pytest.mark.parametrize("write", [False, True])
def test_a_process_that_keeps_the_file_is_named(store: Store, write: bool) -> None:
    impatient = Store(store.path, wait=0.2)
    with child(HOLDER, store.path, 600) as holder:
        assert line(holder) == "held"
        with pytest.raises(StoreError, match=rf"in use by process {holder.pid}, .* wait for it or end it"):
            if write:
                impatient.add("metrics", pl.DataFrame([("c", 1, "loss", 0.5)], schema=METRICS, orient="row"))
            else:
                impatient.sql("select 1")


def test_one_waits_until_the_file_is_free(store: Store) -> None:
    with child(HOLDER, store.path, 0.5) as holder:
        assert line(holder) == "held"
        assert store.add("metrics", pl.DataFrame([("c", 1, "loss", 0.5)], schema=METRICS, orient="row")) == 1


def test_processes_that_make_the_same_store_at_once_make_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "flywheel.duckdb"
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(child(WRITER, path, number, 1)) for number in range(4)]
        assert [writer.wait() for writer in writers] == [0] * 4
    assert Store(path).sql(COUNTS).row(0) == (4 * ROWS, 4 * ROWS)
    assert Store(path).sql("select count(*) from schema_version").item() == 1
    assert os.listdir(path.parent) == [path.name]


def test_a_kill_loses_no_batch_that_was_acknowledged_and_leaves_no_half(store: Store) -> None:
    generator, first = random.Random(0), 0
    for _ in range(20):
        with child(WRITER, store.path, first, 10_000) as writer:
            acknowledged = int(line(writer))
            time.sleep(generator.uniform(0, 0.2))
            writer.send_signal(signal.SIGKILL)
            assert writer.stdout is not None
            rest = writer.stdout.read().split()
        acknowledged = max([acknowledged, *map(int, rest)])
        metrics, proposals = store.sql(COUNTS).row(0)
        assert metrics == proposals and metrics % ROWS == 0
        assert acknowledged + 1 <= metrics // ROWS <= acknowledged + 2
        per_batch = store.sql("select name, count(*) as n, count(distinct step) as d from metrics group by name")
        assert per_batch.filter((pl.col("n") != ROWS) | (pl.col("d") != ROWS)).is_empty()
        first = metrics // ROWS - 1  # one is added again: a resume does not know what a kill left


def full(path: Path, *arguments: object) -> list[str]:
    argv = [sys.executable, "-c", FULL, str(path), *map(str, arguments)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_file_that_may_not_grow_stays_whole_and_goes_on_later(tmp_path: Path) -> None:
    path = tmp_path / "flywheel.duckdb"
    added, said, left = full(path, 1 << 20)
    assert added == "100" and left in ("100", "40000")
    assert said.startswith(str(path)) and "may not grow" in said
    assert full(path) == ["0", "40000"]


def test_a_full_disk_is_told_in_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("only root can mount a small disk to fill it")
    try:
        added, said, left = full(disk / "flywheel.duckdb")
        assert added == "100" and left in ("100", "40000")
        assert "the disk is full" in said and "\n" not in said
        shutil.copy(disk / "flywheel.duckdb", tmp_path)
    finally:
        subprocess.run(["umount", disk], check=True)
    assert full(tmp_path / "flywheel.duckdb") == ["0", "40000"]
