"""Who goes first where many want the store: readers before writers, but nobody for ever."""

import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from flywheel.errors import StoreError
from flywheel.store import lock
from flywheel.store.schema import METRICS
from flywheel.store.store import Store
from tests.bars.concurrency import measure
from tests.store.test_store_processes import HOLDER, child, line

pytestmark = pytest.mark.slow

ROW = pl.DataFrame([("c", 1, "loss", 0.5)], schema=METRICS, orient="row")
WRITER = """
import sys
import polars as pl
from flywheel.store import lock
from flywheel.store.store import Store
from flywheel.store.schema import METRICS
lock.STORE_LOCK_SECONDS = float(sys.argv[2])
store = Store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(store.add("metrics", pl.DataFrame([("c", 1, "loss", 0.5)], schema=METRICS, orient="row")), flush=True)
"""
READER = """
import sys
import duckdb
connection = duckdb.connect(sys.argv[1], read_only=True)
print("reading", flush=True)
sys.stdin.readline()
"""


@contextmanager
def locked(folder: Path, how: int) -> Iterator[None]:
    """As a process has the folder that waits for the file."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, how)
        yield
    finally:
        os.close(opened)


def tell(process: "subprocess.Popen[str]") -> None:
    """Let it go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_four_writers_lose_nothing_and_a_reader_waits_for_a_batch_at_most(tmp_path: Path) -> None:
    value = measure(tmp_path / "flywheel.duckdb", writers=4, rows=20_000)
    assert value["rows"] == value["ids"] == value["acknowledged"] == 80_000
    assert value["ended_well"] and value["whole_batches"]
    assert value["longest_wait"] < 2 * value["longest_write"] + 1


def test_a_writer_lets_a_reader_that_waits_go_first(store: Store) -> None:
    writer = threading.Thread(target=store.add, args=("metrics", ROW))
    with locked(store.path.parent, fcntl.LOCK_SH):
        writer.start()
        time.sleep(0.3)
        assert writer.is_alive()
        assert Store(store.path.parent / "other.duckdb").sql("select 1").item() == 1  # readers wait side by side
    writer.join(5)
    assert not writer.is_alive() and store.sql("select count(*) from metrics").item() == 1


def test_a_writer_that_has_waited_long_goes_before_new_readers(store: Store) -> None:
    with child(READER, store.path) as reader, child(WRITER, store.path, 0.1) as writer:
        assert line(reader) == "reading" and line(writer) == "ready"
        tell(writer)
        time.sleep(0.5)  # the writer waits for the reader by now, and is late
        answers: list[int] = []
        new = threading.Thread(target=lambda: answers.append(store.sql("select count(*) from metrics").item()))
        new.start()
        time.sleep(0.3)
        assert not answers
        tell(reader)
        assert line(writer) == "1"
        new.join(5)
        assert answers == [1]


@pytest.mark.parametrize("how", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_who_never_goes_costs_patience_and_nothing_else(
    store: Store, monkeypatch: pytest.MonkeyPatch, how: int
) -> None:
    monkeypatch.setattr(lock, "STORE_LOCK_SECONDS", 0.2)
    with locked(store.path.parent, how):
        assert store.add("metrics", ROW) == 1
        assert store.sql("select count(*) from metrics").item() == 1


def test_a_folder_that_cannot_be_locked_is_no_hindrance(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert store.add("metrics", ROW) == 1 and store.sql("select count(*) from metrics").item() == 1


def test_a_stopped_process_that_has_the_file_is_told_apart_from_a_busy_one(store: Store) -> None:
    impatient = Store(store.path, wait=0.2)
    with child(HOLDER, store.path, 600) as holder:
        assert line(holder) == "held"
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreError, match=rf"process {holder.pid}, which is stopped: .* `kill -CONT {holder.pid}`"):
            impatient.add("metrics", ROW)
        with pytest.raises(StoreError, match=rf"process {holder.pid}, which is stopped"):
            impatient.sql("select 1")
    assert impatient.add("metrics", ROW) == 1
