"""A gate that wants a human's approval: at the command line, at a terminal, and as a form of a suspended flow run."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flywheel.cli.app import app
from flywheel.engines.toy.engine import write_weights
from flywheel.errors import ApprovalNeeded
from flywheel.pipeline.approve import waiting_promotion
from flywheel.pipeline.loop import iterate
from flywheel.recipe.load import load
from flywheel.recipe.recipe import run_id
from flywheel.store import evidence
from flywheel.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
GATE = ("exam.prompts.side=4", "batch=64", "gate.approval=true")


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """The command sets defaults for its children; here they end with each test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def settings(tmp_path: Path) -> tuple[str, ...]:
    """Of a small run of the toy whose first candidate is significantly better than its base."""
    return (*GATE, f"base={write_weights(tmp_path / 'weights', 0.3, 1)}")


def flywheel(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


def turned(home: Path, settings: Sequence[str], iterations: int = 1) -> tuple[int, str]:
    options = [part for setting in settings for part in ("--set", setting)]
    return flywheel("run", "toy", "--iterations", str(iterations), "--home", str(home), *options)


def decided(home: Path) -> list[tuple[int, str, str]]:
    store = Store(home / "flywheel.duckdb")
    rows = store.sql("""select i.number, d.decision, d.reason from decisions d join iterations i on i.id = d.iteration
                        order by 1""")
    return [row for row in rows.rows() if row[0]]


def counts(home: Path) -> dict[str, int]:
    store = Store(home / "flywheel.duckdb")
    return {table: len(store.sql(f"from {table}")) for table in ("generations", "judgments", "grades", "checkpoints")}


def test_a_promotion_waits_until_a_human_approves_it(tmp_path: Path, settings: tuple[str, ...]) -> None:
    code, said = turned(tmp_path, settings)
    assert code == 2 and said.count("error:") == 1
    run = run_id(load("toy", overrides=settings))
    assert "iteration 1 of toy waits for a human" in said and "To be promoted: solves 0." in said
    assert f"flywheel approve {run} --home {tmp_path}" in said
    assert decided(tmp_path) == []
    before = counts(tmp_path)
    assert turned(tmp_path, settings)[0] == 2, "it waits for as long as nobody says anything"
    code, said = flywheel("approve", run, "--because", "reads well", "--by", "anna", "--home", str(tmp_path))
    assert (code, said.endswith("is approved\n")) == (0, True)
    assert turned(tmp_path, settings)[0] == 0
    [(number, decision, reason)] = decided(tmp_path)
    assert (number, decision) == (1, "promote")
    assert reason.startswith("promoted: solves") and reason.endswith("; approved by anna (reads well)")
    assert counts(tmp_path) == before, "nothing is made again"
    store = Store(tmp_path / "flywheel.duckdb")
    assert len(store.sql("from events where kind = 'failure'")) == 0, "to wait is no failure"
    assert store.sql("select status from approvals order by rowid")["status"].to_list() == ["asked", "approved"]


def test_a_rejected_promotion_is_held_with_the_reason(tmp_path: Path, settings: tuple[str, ...]) -> None:
    turned(tmp_path, settings)
    assert flywheel("reject", "toy", "--because", "it rambles", "--by", "bo", "--home", str(tmp_path))[0] == 0
    code, said = flywheel("approve", "--home", str(tmp_path))
    assert code == 2 and "nothing of run toy" in said, "the first verdict counts"
    assert turned(tmp_path, settings)[0] == 0
    [(_, decision, reason)] = decided(tmp_path)
    assert decision == "hold" and reason.startswith("held, rejected by bo (it rambles): solves 0.")
    row = Store(tmp_path / "flywheel.duckdb").sql("select incumbent, policy, p from decisions where decision = 'hold'")
    assert row["policy"][0] == row["incumbent"][0] and row["p"][0] < 0.05, "what the exam said is kept beside it"


def test_a_gate_asks_nobody_about_what_it_does_not_promote(tmp_path: Path, settings: tuple[str, ...]) -> None:
    assert turned(tmp_path, (*settings, "gate.alpha=1e-30"))[0] == 0
    assert [decision for _, decision, _ in decided(tmp_path)] == ["hold"]
    assert Store(tmp_path / "flywheel.duckdb").sql("from approvals").is_empty()


def test_at_a_terminal_the_question_is_asked_at_once(tmp_path: Path, settings: tuple[str, ...]) -> None:
    options = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "flywheel.cli.app", "run", "toy", "--iterations", "1", "--home", str(tmp_path)]
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*command, *options], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    os.close(theirs)
    os.write(ours, b"n\ntoo long\n")
    said = process.communicate(timeout=120)[0].decode()
    os.close(ours)
    assert process.returncode == 0, said
    assert "Promote it?" in said and "Why not?" in said
    assert "(too long)" in decided(tmp_path)[0][2]


def test_in_python_the_run_stops_with_an_error_that_says_how_to_go_on(
    tmp_path: Path, settings: tuple[str, ...]
) -> None:
    recipe = load("toy", overrides=(*settings, "iterations=1"))
    with pytest.raises(ApprovalNeeded, match="flywheel approve"):
        list(iterate(lambda _: recipe, tmp_path))
    store = Store(tmp_path / "flywheel.duckdb")
    waiting = waiting_promotion(store, run_id(recipe))
    assert waiting is not None and (waiting.number, waiting.candidate == waiting.incumbent) == (1, False)
    flips = evidence.flipped(store, waiting.candidate, waiting.incumbent, waiting.exam, 100)
    assert set(flips["flip"]) <= {"gained", "lost"} and 0 < len(flips) <= 40
