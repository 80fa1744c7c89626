"""The linters, as tests: so that the one command for the tests runs all that a change must pass."""

import subprocess
import sys

import pytest

from tests import ROOT


@pytest.mark.slow
@pytest.mark.timeout(1200)  # mypy's first run reads the types of torch and transformers: 80 s of CPU, then 2 s
@pytest.mark.parametrize(
    "tool", ["ruff check --quiet .", "ruff format --quiet --diff .", "mypy"], ids=lambda tool: tool
)
def test_nothing_to_complain_about(tool: str) -> None:
    told = subprocess.run([sys.executable, "-m", *tool.split()], cwd=ROOT, capture_output=True, text=True, check=False)
    assert not told.returncode, told.stdout + told.stderr
