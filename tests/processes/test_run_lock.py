"""One process at a time goes on with a run."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flywheel.errors import AlreadyRunning, StoreError
from flywheel.processes import run_lock
from flywheel.processes.run_lock import alone

HOLDER = """
import pathlib, subprocess, sys
from flywheel.processes.run_lock import alone
with alone(pathlib.Path(sys.argv[1]), "r1", "mine"):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has the lock of run r1, and has a child; the child's id is on its standard output."""
    monkeypatch.setattr(run_lock, "RUN_LOCK_SECONDS", 0.2)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "PREFECT__FLOW_RUN_ID": "f-1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        yield process
        process.kill()


def told_child(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_who_comes_second_is_told_who_is_there_and_the_kernel_frees_what_a_killed_one_held(
    tmp_path: Path, held: "subprocess.Popen[str]"
) -> None:
    child = told_child(held)
    try:
        sentence = rf"run r1 \(mine\) is going on in process {held.pid} \(Prefect flow run f-1\) since .* UTC: wait for"
        with pytest.raises(AlreadyRunning, match=sentence), alone(tmp_path, "r1", "mine"):
            pass
        with alone(tmp_path, "r2", "another"), alone(tmp_path / "elsewhere", "r1", "mine"):
            pass
        held.send_signal(signal.SIGKILL)
        held.wait()
        with alone(tmp_path, "r1", "mine"):
            os.kill(child, 0)  # the child of the dead lives on, without the lock
    finally:
        os.kill(child, signal.SIGKILL)


def test_two_of_one_process_are_two_and_the_lock_is_free_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "RUN_LOCK_SECONDS", 0.1)
    with alone(tmp_path, "r1", "mine"):
        with pytest.raises(AlreadyRunning, match=f"in process {os.getpid()} since"), alone(tmp_path, "r1", "mine"):
            pass
        with pytest.raises(AlreadyRunning), alone(tmp_path, "r1", "mine"):  # whoever was refused took nothing away
            pass
    with alone(tmp_path, "r1", "mine"):
        pass


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file")
    with pytest.raises(StoreError, match=r"locks/r1.lock cannot be written"), alone(tmp_path, "r1", "mine"):
        pass
