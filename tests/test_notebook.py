"""docs/notebook.py: clean, and every picture of it can be drawn of a real run."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.engines.toy.engine import write_weights
from flywheel.store.store import Store
from tests import ROOT

# Looked for, not imported: transformers takes a process that has marimo for a notebook, and wants IPython.
here = importlib.util.find_spec("marimo") is not None
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not here, reason="the notebook extra is not installed")]

NOTEBOOK = ROOT / "docs" / "notebook.py"


def run(*argv: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, *argv], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home, weights = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("weights")
    small = ("--set", "exam.prompts.side=4", "--set", "batch=64", "--set", f"base={write_weights(weights, 0.3, 1)}")
    done = run("-m", "flywheel.cli.app", "run", "toy", *small, "--quiet", "--home", str(home))
    assert done.returncode == 0, done.stderr
    return home


def test_the_notebook_is_clean() -> None:
    done = run("-m", "marimo", "check", "--strict", str(NOTEBOOK))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_cell_runs_and_shows_its_question_and_picture(home: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = run("-m", "marimo", "export", "html", str(NOTEBOOK), "-o", str(page), "--", "--home", str(home))
    assert done.returncode == 0 and "error" not in done.stderr.lower(), done.stderr
    assert page.read_text().count("data:image/png") >= 5 and "from score_distribution" in page.read_text()


def test_the_notebook_is_a_script_that_writes_its_pictures(home: Path, tmp_path: Path) -> None:
    done = run(str(NOTEBOOK), "--", "--home", str(home), "--out", str(tmp_path))
    assert done.returncode == 0 and done.stdout.startswith("toy: 2 iterations"), done.stderr
    names = {"the_exam.png", "scores.png", "the_funnel.png", "the_judges.png", "what_it_cost.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert all(path.stat().st_size > 10_000 for path in tmp_path.iterdir())


def test_an_empty_store_is_told_in_a_sentence(tmp_path: Path) -> None:
    Store(tmp_path / "flywheel.duckdb")
    done = run(str(NOTEBOOK), "--home", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path / 'flywheel.duckdb'} is empty\n"
