"""Files of the user's that have the names of our packages hide nothing, or are told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.engines.toy.engine import write_weights
from tests import ROOT

pytestmark = pytest.mark.slow
NAMES = ("filters", "judges", "data", "flows")
RECIPE = """
from dataclasses import replace
from filters.text_filters import Cap
from flows.recipes.toy import recipe as toy
from flows.recipes.toy import Sums
recipe = replace(toy, name="mine", base="weights", prompts=Sums(side=4, first=0, last=4), keep=(*toy.keep, Cap(1)),
                 iterations=1, exam=replace(toy.exam, prompts=Sums(side=4, first=50, last=54)))
"""


def python(*words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with a recipe, and modules and folders of our packages' names."""
    write_weights(tmp_path / "weights", 0.5, 1)
    (tmp_path / "mine.py").write_text(RECIPE)
    for name in ("filters", "judges"):
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").write_text("MINE = True\n")
    return tmp_path


def test_our_packages_are_found_whatever_the_current_folder_holds(folder):
    done = python("-P", "-m", "flywheel.cli.app", "run", "mine.py", "--quiet", folder=folder)
    assert done.returncode == 0, done.stderr
    done = python("-m", "flywheel.cli.app", "run", "mine.py", "--quiet", "--iterations", "2", folder=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["filters", "flows"])
def test_a_module_that_was_loaded_under_our_name_is_told_with_its_path(name, folder):
    done = python("-c", f"import {name}, flywheel", folder=folder)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: flywheel comes with a package `{name}`, but {folder}")
