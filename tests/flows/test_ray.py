"""A real Ray cluster of two nodes on this machine, one of which is killed in the middle of a run."""

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flywheel.engines.toy.engine import write_weights
from tests.bars.kill import descendants, differences, finish, gone
from tests.bars.ray import ENVIRONMENT, NODE
from tests.bars.ray import cluster as one_node
from tests.flows.scheduled import Server, prefect_server, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(importlib.util.find_spec("prefect_ray") is None, reason="the extra ray is not installed"),
]
SETTINGS = ("exam.prompts.side=2", "prompts.side=16", "batch=128")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Of two nodes; the tests of this file kill the second one."""
    with one_node() as nodes:
        nodes.add_node(**NODE)
        yield nodes


def start(server: Server, home: Path, *options: str, **environment: str) -> "subprocess.Popen[str]":
    """A flow run of the toy by hand."""
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [sys.executable, "-m", "flows.run", "toy", "--iterations", "1", "--home", str(home), *settings, *options]
    environment = {**server.environment, **ENVIRONMENT, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def task_runs(server: Server, state: str, words: str) -> list[str]:
    """The names with these words of all task runs in a state."""
    found = server.post("task_runs/filter", task_runs={"state": {"name": {"any_": [state]}}})
    return [run["name"] for run in found if words in run["name"]]


def test_a_node_that_is_killed_in_the_middle_costs_no_row_and_doubles_none(
    server: Server, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_weights(tmp_path / "weights", 0.3, 1, delay=2.0)  # seconds for each portion
    monkeypatch.setenv("FLYWHEEL_TOY_WEIGHTS", str(weights))
    home, [victim] = tmp_path / "flow", cluster.worker_nodes
    flow = start(server, home, "--task-runner", f"ray:{cluster.address}", FLYWHEEL_TOY_WEIGHTS=str(weights))
    said: list[str] = []
    threading.Thread(target=lambda: said.extend(flow.stdout or ()), daemon=True).start()
    try:
        until(lambda: task_runs(server, "Running", ", chats "), 300, "no worker is at work")
        cluster.remove_node(victim, allow_graceful=False)
        assert flow.wait(400) == 0, "".join(said)[-3000:]
    finally:
        below = descendants(flow.pid)
        flow.kill()
        flow.wait()
        gone(below)
    finish("toy", tmp_path / "plain", 1, SETTINGS)
    assert differences(tmp_path / "plain", home) == []
    assert list((home / "parts").iterdir()) == []
    assert task_runs(server, "Completed", "iteration 1: sample, chats ")
    assert task_runs(server, "Failed", ", chats "), "the killed node had nothing in hand"
