"""Programs: in whichever form a model gives one, its tests decide."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flywheel.store.schema import SUBJECTS
from judges.rules.code import UnitTests
from judges.sandbox.run import problem

PROGRAMS = json.loads(Path(__file__).with_name("programs.json").read_text(encoding="utf-8"))


@cache
def judged() -> dict[str, tuple[Any, ...]]:
    """Status, score and detail of each program; all in one sandbox."""
    subjects = [
        {"generation": name, "text": row["text"], "meta": json.dumps(row["meta"])} for name, row in PROGRAMS.items()
    ]
    judge = UnitTests(isolation="namespaces" if problem("namespaces") is None else "limits")
    votes = judge.read(pl.DataFrame(subjects, schema=SUBJECTS, orient="row"), None)
    return {row[0]: row[1:] for row in votes.select("generation", "status", "score", "detail").rows()}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_judged_by_its_tests(name: str) -> None:
    if problem("namespaces") and (reason := problem("limits")):
        pytest.skip(f"this machine cannot hold a program: {reason}")
    status, score, detail = judged()[name]
    assert (status, score) == ("ok", PROGRAMS[name]["right"]), detail
