"""SIGKILL at moments of every step, parent or trainer child: run again, the tables are those of an undisturbed run."""

import os
from pathlib import Path

import pytest

from flywheel.engines.toy.engine import write_weights
from tests.bars.kill import Moment, differences, finish, kill_at, launch

SMALL = ("exam.prompts.side=4", "train.batch_size=4")
MOMENTS = [
    Moment(0, "examine", 0.0),
    Moment(0, "examine", 0.1),
    Moment(1, "propose", 0.0),
    Moment(1, "sample", 0.0),
    Moment(1, "sample", 0.15),
    Moment(1, "judge", 0.0),
    Moment(1, "select", 0.0),
    Moment(1, "train", 0.0),
    Moment(1, "train", 0.2, "child"),
    Moment(1, "train", 0.1, "child"),
    Moment(1, "examine", 0.1),
]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_in_every_step_and_run_again_a_run_ends_with_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_weights(tmp_path / "weights", 0.3, 1, delay=0.1, train_delay=0.1)
    monkeypatch.setenv("FLYWHEEL_TOY_WEIGHTS", str(weights))
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    finish("toy", calm, 1, SMALL)
    hits = [kill_at(launch("toy", stormy, 1, SMALL), moment) for moment in MOMENTS]
    finish("toy", stormy, 1, SMALL)
    assert differences(calm, stormy) == []
    assert hits.count("past") == 0 and {"child in 1:train", "parent in 1:sample"} <= set(hits), hits
