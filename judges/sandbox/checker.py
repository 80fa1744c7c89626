"""The tests of one answer, run where the answer is not."""

import ast
import builtins
import errno
import importlib
import itertools
import operator
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from judges.sandbox.rpc import Gone, Rpc

DETAIL_CHARACTERS = 200
"""Characters of a detail."""
PROGRAM, GIVEN, TESTS = "answer", "given", "tests"


class ProgramItem(NamedTuple):
    """An answer and its tests, all Python. The answer's program is `given` and then `code`.

    `given` comes with the problem, and the tests may use it. They call `entry` under that name and as `candidate`, or
    if it is None, whatever they name and the program defines. `sure`: it is known to be code, and not just any text.
    """

    given: str
    code: str
    tests: str
    entry: str | None
    sure: bool


Checked = tuple[str, float | None, str | None]
"""Status, score and detail."""


def load_program(program: str, names: list[str]) -> dict[str, Any]:
    """Run the program as a module; those of `names` that it defines. In the answer's process."""
    module = ModuleType(PROGRAM)
    sys.modules[PROGRAM] = module
    try:
        code = compile(program, PROGRAM, "exec")
    except ValueError as error:  # a NUL, half a surrogate pair
        raise SyntaxError(str(error)) from error
    exec(code, module.__dict__)
    return {name: module.__dict__[name] for name in names if name in module.__dict__}


def call(target: Any, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """Call what the other side asked for."""
    return target(*arguments, **named)


def following(iterator: Iterator[Any]) -> list[Any]:
    """The next item, or none."""
    return list(itertools.islice(iterator, 1))


Verbs = Mapping[str, Callable[..., Any]]
ANSWER_DOES: Verbs = {
    **{
        "load": load_program,
        "call": call,
        "get": getattr,
        "set": setattr,
        "item": operator.getitem,
        "same": operator.eq,
    },
    **{"len": len, "bool": bool, "str": str, "iter": iter, "next": following},
}
CHECKER_DOES: Verbs = {"call": call}
"""Functions that a test passed to the answer: nothing else of the checker's is in reach."""


def check_answer(item: ProgramItem, rpc: Rpc) -> Checked:
    """Run the tests against the answer at the other end of `rpc`. Raises Gone when it ends."""
    try:
        tests = compile(item.tests, TESTS, "exec")
    except (SyntaxError, ValueError) as error:
        return "error", None, f"the tests do not compile: {error}"[:DETAIL_CHARACTERS]
    try:
        found = _found(item, rpc)
    except SyntaxError as error:
        return (
            ("ok", 0.0, f"SyntaxError: {error}"[:DETAIL_CHARACTERS]) if item.sure else ("unparsable", None, "no code")
        )
    except Exception as error:
        return "ok", 0.0, _said(error, item.tests)
    try:
        exec(tests, _space(item.given) | found)
    except Gone:
        raise
    except BaseException as error:
        if isinstance(error, ImportError) and not rpc.calls:
            return "error", None, f"the tests need what is not here: {error}"[:DETAIL_CHARACTERS]
        return "ok", 0.0, _said(error, item.tests)
    if not rpc.calls:
        return "error", None, "the tests call nothing that the answer defines"
    return "ok", 1.0, None


def _found(item: ProgramItem, rpc: Rpc) -> dict[str, Any]:
    """What the tests may use of the answer."""
    names, modules = _names(item.tests)
    wanted = [item.entry] if item.entry else sorted(names)
    found = rpc.ask("load", item.given + item.code, wanted)
    found = {name: found[name] for name in wanted if name in found}
    if item.entry:
        return found | ({"candidate": found[item.entry]} if found else {})
    # To the tests `math` must stay what it is, and so must `abs`, unless what they are about has such a name.
    own = {name: value for name, value in found.items() if not hasattr(builtins, name)} or found
    return own | {name: importlib.import_module(name) for name in modules if name in own}


def _names(source: str) -> tuple[set[str], set[str]]:
    """All names in the tests, and those that are used as modules of the standard library are."""
    nodes = list(ast.walk(ast.parse(source)))
    owners = {node.value.id for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}
    return {node.id for node in nodes if isinstance(node, ast.Name)}, owners & sys.stdlib_module_names


def _space(given: str) -> dict[str, Any]:
    """A module's names, with those that the problem gives."""
    space: dict[str, Any] = {"__name__": TESTS}
    try:
        exec(compile(given, GIVEN, "exec"), space)
    except Exception:  # half a function, which only the answer completes
        space = {"__name__": TESTS}
    return space


def _said(error: BaseException, tests: str) -> str:
    """Why a test failed: the limit that was met, or the error and the test's line."""
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.EFBIG):
        return "processes" if error.errno == errno.EAGAIN else "output"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == TESTS]
    line = tests.splitlines()[lines[-1] - 1].strip() if lines and lines[-1] else ""
    return " ".join(part for part in (f"{type(error).__name__}:", str(error), line and f"in {line}") if part)[
        :DETAIL_CHARACTERS
    ]


def ended(why: str, code: int) -> Checked:
    """What it means that the answer's process has ended; a code above 128 is a signal."""
    if code == 128 + signal.SIGXCPU:
        return "timeout", None, "processor time"
    if why == "output" or code == 128 + signal.SIGXFSZ:
        return "ok", 0.0, "output"
    return "ok", 0.0, f"its process ended with {f'signal {code - 128}' if code > 128 else code}"
