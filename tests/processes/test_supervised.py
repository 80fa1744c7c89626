"""Children end with their parent: on leaving, and after SIGKILL of the parent, down to the grandchildren."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from flywheel.processes.supervised import supervised

FAMILY = (
    "import os, subprocess, sys, time\n"
    "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "open(sys.argv[1], 'w').write(f'{os.getpid()} {grandchild.pid}\\n')\n"
    "time.sleep(600)\n"
)
PARENT = (
    "import sys, time\n"
    "from flywheel.processes.supervised import supervised\n"
    "with supervised([sys.executable, '-c', sys.argv[1], sys.argv[2]]):\n"
    "    time.sleep(600)\n"
)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for_family(path: Path) -> list[int]:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, "the child never started"
        time.sleep(0.02)
    return [int(pid) for pid in path.read_text().split()]


def assert_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if alive(pid)]}"
        time.sleep(0.02)


def test_leaving_the_block_ends_child_and_grandchild(tmp_path: Path) -> None:
    with supervised([sys.executable, "-c", FAMILY, str(tmp_path / "pids")]):
        pids = wait_for_family(tmp_path / "pids")
        assert all(alive(pid) for pid in pids)
    assert_gone(pids)


def test_sigkill_of_the_parent_ends_child_and_grandchild(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, FAMILY, str(tmp_path / "pids")], cwd=os.getcwd())
    pids = wait_for_family(tmp_path / "pids")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert_gone(pids)


def test_the_exit_code_of_the_child_comes_back() -> None:
    with supervised([sys.executable, "-c", "raise SystemExit(7)"]) as process:
        assert process.wait(20) == 7
    with supervised([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) as process:
        assert process.wait(20) == 137
