"""`flywheel run` on the toy engine, from the outside: what it prints, that Ctrl-C is safe, and the report."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.engines.toy.engine import write_weights
from flywheel.report.html import write
from flywheel.store.store import Store
from tests import ROOT

pytestmark = pytest.mark.slow

SMALL = ("--set", "exam.prompts.side=4", "--set", "batch=64")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"), 0.3, 1)


@pytest.fixture(scope="module")
def home(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a finished run of two iterations."""
    home = tmp_path_factory.mktemp("home")
    done = flywheel("run", "toy", *SMALL, weights=weights, home=home)
    assert done.returncode == 0, done.stderr
    (home / "printed").write_text(done.stdout)
    return home


def command(*argv: str, home: Path) -> list[str]:
    return [sys.executable, "-m", "flywheel.cli.app", *argv, "--home", str(home)]


def flywheel(*argv: str, home: Path, weights: Path | None = None) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "FLYWHEEL_TOY_WEIGHTS": str(weights)}
    return subprocess.run(command(*argv, home=home), cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_a_run_prints_a_line_for_each_iteration_and_the_way_to_its_history(home: Path) -> None:
    printed = (home / "printed").read_text()
    assert "\x1b" not in printed
    assert len(re.findall(r"^ +[012]  +0\.\d{3} .*(promote|hold|roll back)$", printed, re.MULTILINE)) == 3
    assert re.search(r"^examine: promoted: solves 0\.\d+, the incumbent 0\.\d+: \+", printed, re.MULTILINE)
    assert re.search(r"^toy: 2 iterations, the policy is now [0-9A-Za-z]{12}: solves .* points", printed, re.MULTILINE)
    for question in re.findall(r'^  flywheel sql "(.+)"$', printed, re.MULTILINE):
        assert flywheel("sql", question, "--csv", home=home).stdout.count("\n") > 1, question


def test_running_again_makes_nothing_and_tells_the_same_end(home: Path, weights: Path) -> None:
    before = Store(home / "flywheel.duckdb").sql("from events")
    done = flywheel("run", "toy", *SMALL, "--quiet", home=home, weights=weights)
    assert done.stdout.count("\n") == 1 and done.stdout in (home / "printed").read_text()
    assert Store(home / "flywheel.duckdb").sql("from events").equals(before)


def test_programs_can_read_the_run(home: Path, weights: Path) -> None:
    done = flywheel("run", "toy", *SMALL, "--json", "--iterations", "3", home=home, weights=weights)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["event"] for row in rows} == {"step", "iteration", "end"}
    assert rows[-1]["iterations"] == 3 and rows[-2]["iteration"] == 3 and rows[-2]["decision"]


def test_status_shows_every_iteration(home: Path) -> None:
    printed = flywheel("status", home=home).stdout
    assert printed.startswith("toy  ") and len(re.findall(r"^ +\d  +0\.\d{3} ", printed, re.MULTILINE)) >= 3


def test_a_wrong_setting_is_told_before_anything_is_made(tmp_path: Path, weights: Path) -> None:
    done = flywheel("run", "toy", "--set", "sampling.temprature=1", home=tmp_path / "home", weights=weights)
    assert done.returncode == 2 and "did you mean 'temperature'?" in done.stderr and done.stderr.count("\n") == 1
    done = flywheel("run", "toy", "--set", "sampling.n=0", "--set", "batch=0", home=tmp_path / "home", weights=weights)
    assert done.returncode == 2 and done.stderr.count("\n") == 3
    assert not (tmp_path / "home").exists()


def test_ctrl_c_ends_a_run_that_goes_on_with_the_same_command(tmp_path: Path, weights: Path, home: Path) -> None:
    env = {**os.environ, "FLYWHEEL_TOY_WEIGHTS": str(weights)}
    argv = command("run", "toy", *SMALL, home=tmp_path)
    running = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline().startswith("examine: the base solves")
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert (running.returncode, told) == (130, "stopped; run the same command again to go on\n")
    again = flywheel("run", "toy", *SMALL, "--quiet", home=tmp_path, weights=weights)
    assert again.stdout and again.stdout in (home / "printed").read_text()


def test_the_report_holds_plots_decisions_and_answers_and_is_complete_in_itself(home: Path) -> None:
    path = Path(flywheel("report", "--run", "toy", home=home).stdout.strip())
    text = path.read_text(encoding="utf-8")
    assert path.parent == home / "reports"
    assert text.count("data:image/png;base64,") == 3
    assert "promoted: solves" in text and "Answer: " in text
    assert not re.search(r'(src|href)="(?!data:)', text)


def test_what_a_model_wrote_cannot_become_part_of_the_page(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [("<script>alert(1)</script>", "a & b", "<img src=x>\n")]
    monkeypatch.setattr("flywheel.report.html._samples", lambda store, decided, judged: samples)
    text = write(Store(home / "flywheel.duckdb"), home).read_text(encoding="utf-8")
    assert "&lt;script&gt;" in text and "a &amp; b" in text
    assert "<script" not in text and "<img src=x" not in text


def test_a_report_of_an_unknown_run_names_the_known_ones(home: Path) -> None:
    done = flywheel("report", "--run", "tyo", home=home)
    assert done.returncode == 2 and "holds no run 'tyo'; its runs are toy" in done.stderr
