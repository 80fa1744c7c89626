"""Programs, judged by their tests in a sandbox: see `judges.sandbox.run` for what that keeps from whom."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any, ClassVar, NamedTuple

from flywheel.errors import RecipeError
from flywheel.protocols import Subject, Verdict
from flywheel.text.thoughts import THOUGHTS, Markers, after_thought
from judges.rules.format import blocks
from judges.sandbox.checker import ProgramItem
from judges.sandbox.confine import Limits
from judges.sandbox.run import Isolation, grade_programs
from judges.verdict import ENDLESS, Rule

PYTHON = ("python", "python3", "py")
DEFINED = re.compile(r"^(?:async[ \t]+def|def|class)[ \t]+(\w+)", re.MULTILINE)
CALLED = re.compile(r"(\w+)\s*\(")


class Tests(NamedTuple):
    """What a problem asks of a program: see `ProgramItem`."""

    given: str
    tests: str
    entry: str | None


@dataclass(frozen=True)
class UnitTests(Rule):
    """Right if the program in the answer passes the problem's tests.

    The tests are Python: assertions in `reference`, as text or as a JSON list, or fields of the JSON in `meta` that
    are named as in HumanEval (`test` with its `check`, `entry_point` and, where the answer may continue it, `prompt`)
    or in MBPP (`test_list`, with `test_setup_code` or `test_imports`). The program is the last Python block that
    defines what they call, or else the last block, or else the whole text if it is Python.

    `ok` with 0 is a program that fails, whatever else it does: `detail` says at which test, or that it met a limit
    ("memory", "processes", "output"). `timeout` took longer than `timeout` seconds of processor time; the clock only
    ends what takes twelve times as long, since a machine may be busy. `memory` is in MiB. A text without code is
    `unparsable`.
    """

    timeout: int = 5
    memory: int = 1024
    isolation: Isolation = "namespaces"
    thoughts: Markers = field(default=THOUGHTS, kw_only=True)
    version: ClassVar[int] = 2  # indented blocks and arrays are read; a busy machine ends no program; thoughts go

    def __post_init__(self) -> None:
        if self.timeout < 1 or self.memory < 64:
            raise RecipeError("UnitTests needs a timeout of 1 second and a memory of 64 MiB at least")
        if self.isolation not in ("namespaces", "limits"):
            raise RecipeError(f"the isolation of UnitTests is 'namespaces' or 'limits', not {self.isolation!r}")

    def verdicts(self, rows: Sequence[Subject]) -> list[Verdict]:
        """All at once. Raises EngineMissing if this machine cannot isolate code as it should."""
        found = [self._item(*row) for row in rows]
        items = list(dict.fromkeys(one for one in found if isinstance(one, ProgramItem)))  # many answers are the same
        limits = Limits(seconds=self.timeout, memory=self.memory << 20)
        graded = dict(zip(items, grade_programs(items, limits, self.isolation), strict=True))
        return [graded[one] if isinstance(one, ProgramItem) else one for one in found]

    def _item(self, text: str, reference: str | None, meta: str | None) -> ProgramItem | Verdict:
        """What to run, or the verdict where there is nothing to run."""
        try:
            tests = _tests(reference, meta)
        except (KeyError, TypeError, ValueError) as error:
            return Verdict("error", None, f"no tests in reference or meta: {error!r}"[:200])
        if (said := after_thought(text, self.thoughts)) is None:
            return ENDLESS
        if not said.strip():
            return Verdict("unparsable", None, "no code")
        called = {tests.entry} if tests.entry else set(CALLED.findall(tests.tests))
        code, sure = _program(said, called)
        # A whole function stands beside the given half of it, which it replaces; anything else continues it.
        given = tests.given + "\n" if called.intersection(DEFINED.findall(code)) else tests.given
        return ProgramItem(given, code, tests.tests, tests.entry, sure)


def _tests(reference: str | None, meta: str | None) -> Tests:
    """The problem's tests. Raises KeyError, TypeError or ValueError where there are none."""
    fields = json.loads(meta) if meta else {}
    if "entry_point" in fields:
        test, entry = fields.get("test", reference), fields["entry_point"]
        return Tests(fields.get("prompt") or "", f"{_joined(test)}\ncheck({entry})\n", entry)
    setup = [_joined(fields[name]) for name in ("test_setup_code", "test_imports") if fields.get(name)]
    return Tests("", "\n".join([*setup, _joined(fields.get("test_list", reference))]), None)


def _joined(source: Any) -> str:
    """Python from text, a list, or the JSON of a list."""
    if isinstance(source, str) and source.lstrip().startswith("["):
        source = json.loads(source)
    joined = source if isinstance(source, str) else "\n".join(source)
    if not joined.strip():
        raise ValueError("empty")
    return joined


def _program(text: str, called: set[str]) -> tuple[str, bool]:
    """The program in a text, and whether it is marked as one."""
    fenced = [(name, _flush(code, called)) for name, code in blocks(text)]
    marked = [code for language, code in fenced if language in PYTHON] or [code for name, code in fenced if not name]
    if not marked:
        return _flush(text, called), False
    defining = [code for code in marked if called.intersection(DEFINED.findall(code))]
    return (defining or marked)[-1], True


def _flush(code: str, called: set[str]) -> str:
    """The code, moved to the left where it is only there that it defines what is called."""
    moved = dedent(code)
    return moved if moved != code and called.intersection(DEFINED.findall(moved)) else code
