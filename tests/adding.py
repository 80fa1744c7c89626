"""Follows `docs/adding.md` to the letter: writes its files into a copy of the project, and runs what it says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests import ROOT

PAGE = ROOT / "docs" / "adding.md"
BLOCK = re.compile(r"(?P<before>[^\n]*)\n```(?P<kind>python|sh)\n(?P<text>.*?)```", re.S)
FILE, AFTER = re.compile(r"File `([^`]+)`:"), re.compile(r"In `([^`]+)`, after `([^`]+)`:")
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__")


class Section(NamedTuple):
    """A part of the page: its title, and what it says to do, in order."""

    title: str
    steps: list[dict[str, str]]


def sections() -> list[Section]:
    """The page, part by part; what stands before the first comes with each of them."""
    first, *parts = PAGE.read_text(encoding="utf-8").split("\n## ")
    return [Section(part.partition("\n")[0], [*steps(first), *steps(part)]) for part in parts]


def steps(text: str) -> list[dict[str, str]]:
    """The blocks of a text with the line before each."""
    return [found.groupdict() for found in BLOCK.finditer(text)]


def copied(folder: Path) -> Path:
    """The project without what is made."""
    return shutil.copytree(ROOT, folder / "project", ignore=NOT_COPIED)


def lines(text: str) -> int:
    """Those that are not blank."""
    return sum(bool(line.strip()) for line in text.splitlines())


def follow(section: Section, project: Path) -> dict[str, int]:
    """Do what the page says; gives the files that were touched, and the lines that went into each."""
    touched: dict[str, int] = {}
    for step in section.steps:
        new, added = FILE.fullmatch(step["before"]), AFTER.fullmatch(step["before"])
        if step["kind"] == "sh":
            run(step["text"], project)
        elif new:
            path = project / new[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            assert not path.exists(), f"{new[1]} is there already"
            path.write_text(step["text"], encoding="utf-8")
            touched[new[1]] = lines(step["text"])
        else:
            assert added, f"it is not said where this belongs: {step['before']!r}"
            path, before = project / added[1], (project / added[1]).read_text(encoding="utf-8")
            assert before.count(f"{added[2]}\n") == 1, f"{added[1]} has no line {added[2]!r}, or several"
            path.write_text(before.replace(f"{added[2]}\n", f"{added[2]}\n{step['text']}"), encoding="utf-8")
            touched[added[1]] = touched.get(added[1], 0) + lines(step["text"])
    return touched


def run(script: str, project: Path) -> None:
    """A script in the project, by its own code."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    known: dict[str, Any] = {**os.environ, "PATH": path, "PYTHONPATH": str(project), "MYPY_CACHE_DIR": os.devnull}
    script = re.sub(r"^flywheel ", "python -m flywheel.cli.app ", script, flags=re.M)  # whatever is installed
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=project, env=known, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
