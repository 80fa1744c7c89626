"""The same wheel as a real Prefect flow: a temporary server, a flow run, a task run for each step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.engines.toy import write_weights
from tests.bars.kill import contents, differences, finish

SETTINGS = ("exam.prompts.side=4", "batch=32")
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "DO_NOT_TRACK": "1",
}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_flow_run_makes_the_same_rows_as_spin_and_a_second_one_makes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_weights(tmp_path / "weights", 0.3, 1)
    for name, value in {**QUIET, "PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONPATH": os.getcwd()}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FLYWHEEL_TOY_WEIGHTS", str(weights))
    finish("toy", tmp_path / "plain", 1, SETTINGS)
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [
        sys.executable,
        "-m",
        "flows.run",
        "toy",
        "--iterations",
        "1",
        "--home",
        str(tmp_path / "flow"),
        *settings,
    ]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr[-3000:]
    assert "iteration 1: train" in first.stderr and "promoted" in first.stdout
    assert differences(tmp_path / "plain", tmp_path / "flow") == []
    before = {table: len(frame) for table, frame in contents(tmp_path / "flow")}
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 0 and "decided already" in second.stdout
    assert {table: len(frame) for table, frame in contents(tmp_path / "flow")} == before
