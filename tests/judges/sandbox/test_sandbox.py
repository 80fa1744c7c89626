"""UnitTests: right programs pass, wrong ones fail, and hostile ones end as what they are and leave nothing."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flywheel.errors import EngineMissing, RecipeError
from flywheel.protocols import Judge, Verdict
from flywheel.store.schema import SUBJECTS, VOTES
from judges.rules.code import UnitTests
from judges.sandbox import run as sandbox
from judges.sandbox import seccomp
from judges.sandbox.checker import ProgramItem
from judges.sandbox.confine import Limits
from judges.sandbox.run import Isolation, grade_programs, problem, report
from tests import PUBLIC, ROOT
from tests.bars.sandbox import LIMITS, adopting, survivors, tried, witnesses
from tests.judges.sandbox.attacks import ATTACKS, HONEST

DATA = PUBLIC / "humaneval"
has_humaneval = pytest.mark.skipif(
    not DATA.exists(), reason=f"no HumanEval at {DATA}: point FLYWHEEL_TEST_DATA at its parent"
)
isolated = pytest.mark.usefixtures("namespaces")
QUICK = [name for name, attack in ATTACKS.items() if not attack.slow]
TESTS = "assert f(20) == 21"


def judged(*rows: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Status, score and detail for each text with its reference and meta."""
    subjects = [{"generation": f"g{number}", **row} for number, row in enumerate(rows)]
    result = UnitTests().read(pl.DataFrame(subjects, schema=SUBJECTS, orient="row"), None)
    assert result.schema == VOTES
    assert result["generation"].to_list() == [row["generation"] for row in subjects]
    return result.select("status", "score", "detail").rows()


def row(text: str, tests: str | None = TESTS, meta: Any = None) -> dict[str, Any]:
    return {"text": text, "reference": tests, "meta": meta if isinstance(meta, str | None) else json.dumps(meta)}


def run(code: str, tests: str) -> Verdict:
    (found,) = grade_programs([ProgramItem("", code, tests, None, True)], Limits(), "namespaces")
    return found


RIGHT = ("ok", 1.0, None)


@pytest.fixture(scope="module")
def namespaces() -> None:
    if reason := problem("namespaces"):
        pytest.skip(f"this machine offers no namespaces: {reason}")


ANSWERS = [
    "def f(x):\n    return x + 1\n",
    "Sure:\n```python\ndef f(x):\n    return x + 1\n```\nThat is it.",
    "```\ndef f(x):\n    return x + 1",
    "```python\ndef f(x):\n    return 0\n```\nno:\n```py\ndef f(x):\n    return x + 1\n```\n```\n21\n```",
    "```python\ndef f(x):\n    return x + 1\n```\nUse it so:\n```python\nprint(f(1))\n```",
    "import numpy\n\nclass f:\n    def __new__(cls, x):\n        return numpy.int64(x) + 1",
]


@isolated
def test_the_program_is_found_in_the_answer() -> None:
    assert judged(*map(row, ANSWERS)) == [RIGHT] * len(ANSWERS)


@isolated
def test_no_code_wrong_code_and_no_tests_are_three_things() -> None:
    code = "```python\ndef f(x):\n    return x\n```"
    texts = ["I do not know.", " \n", "```python\ndef f(x) return x\n```", code, "def g(x):\n    return 21"]
    found = judged(*map(row, texts))
    assert found[:2] == [("unparsable", None, "no code")] * 2
    assert [status for status, _, _ in found[2:]] == ["ok"] * 3
    assert [detail.partition(":")[0] for _, _, detail in found[2:]] == ["SyntaxError", "AssertionError", "NameError"]
    metas = [None, "{", "7", {"entry_point": "f"}, {"test_list": []}, {"test_list": 7}]
    assert [status for status, _, _ in judged(row(code, " "), *(row(code, None, meta) for meta in metas))] == [
        "error"
    ] * 7


@isolated
def test_tests_that_cannot_run_or_test_nothing_are_no_verdict_on_the_answer() -> None:
    broken = [
        "assert f(20) ==",
        "import no_such_module\nassert f(20) == 21",
        "def test_f():\n    assert f(20) == 0",
        "1",
    ]
    assert [status for status, _, _ in judged(*(row(HONEST, tests) for tests in broken))] == ["error"] * 4


@isolated
def test_the_forms_of_mbpp_and_humaneval_are_understood() -> None:
    listed, setup = ["assert f(20) == two(21)", "assert f(0) == 1"], "def two(x):\n    return x"
    given = "def two(x):\n    return 2 * x\n\ndef f(x):\n    '''Twice x.'''\n"
    check = "def check(candidate):\n    assert candidate(4) == two(4) == f(4)"
    meta = {"prompt": given, "entry_point": "f", "test": check}
    rows = [
        row(HONEST, json.dumps(["assert f(20) == 21", "assert f(0) == 1"])),
        row(HONEST, None, {"test_list": listed, "test_setup_code": setup}),
        row(HONEST, None, {"test_list": json.dumps(listed), "test_imports": setup.splitlines()}),
        row("    return two(x)\n", None, meta),
        row("```python\ndef f(x):\n    return x + x\n```", None, meta),
        row(given + "    return two(x)", None, meta),
        row("    return two(x)\n", check, {"prompt": given, "entry_point": "f"}),
    ]
    cheat = "```python\ndef two(x):\n    return 0\ndef f(x):\n    return 0\n```"  # what is given is not its to change
    found = judged(*rows, row(cheat, None, meta))
    assert found[:-1] == [RIGHT] * len(rows) and found[-1][:2] == ("ok", 0.0)


PROGRAMS = [
    (
        "def f(x): return x",
        "for x in (1, -1, 2**70, 1.5, -0.0, 1j, 'é\\ud800', b'\\xff', None, True): assert f(x) == x",
    ),
    ("def f(x): return x", "for x in ((1, [2]), {1: (2,)}, {(1, 2): {3}}, frozenset({1})): assert f(x) == x"),
    ("def f(x): return x", "assert type(f((1,))) is tuple and type(f({1})) is set and f(1) is not True"),
    ("import math\ndef f(): return [math.nan, math.inf]", "a, b = f()\nassert a != a and b == float('inf')"),
    (
        "from fractions import *\ndef f(): return Fraction(1, 3)",
        "from fractions import *\nassert f() == Fraction(2, 6)",
    ),
    (
        "import datetime as d\ndef f(): return d.date(2024, 2, 29)",
        "import datetime\nassert f() == datetime.date(2024, 2, 29)",
    ),
    ("from collections import *\ndef f(): return Counter('aab')", "assert f() == {'a': 2, 'b': 1}"),
    ("def f(n):\n    for i in range(n): yield i", "assert list(f(3)) == [0, 1, 2] and next(f(1)) == 0"),
    ("def f(g, x): return g(x) + 1", "assert f(lambda x: 2 * x, 4) == 9"),
    ("def f(x): x.sort()", "x = [3, 1, 2]\nf(x)\nassert x == [1, 2, 3]"),
    ("def f(x, y): x[1] = 2; y.add(3)", "x, y = {}, {1}\nf(x, y=y)\nassert x == {1: 2} and y == {1, 3}"),
    ("def f(x): raise KeyError(x)", "try: f(7)\nexcept KeyError as e: assert e.args == (7,)\nelse: assert False"),
    (
        "class P:\n    def __init__(self, x): self.x = x\ndef f(ps): return sum(p.x for p in ps)",
        "assert f([P(1), P(2)]) == 3",
    ),
    (
        "class S(list):\n    pass\nclass V:\n    n = 1\n    def up(self, by=1): self.n += by; return self",
        "v = V().up(by=3)\nv.n += 1\nassert v.n == 5",
    ),
    (
        "class V:\n    def __init__(self, x): self.x = x\n    def __eq__(self, o): return self.x == o.x",
        "assert V(1) == V(1) != V(2)",
    ),
    (
        "class L:\n    def __len__(self): return 3\n    def __getitem__(self, i): return i",
        "assert len(L()) == 3 and L()[1] == 1 and bool(L())",
    ),
    ("def sum(a, b): return a + b + 0", "assert sum(1, 2) == 3"),
    ("class A: n = 1\ndef bisect(a): return a.n", "assert bisect(A()) == 1"),
    ("import math\ndef f(x): return x / 3", "assert math.isclose(f(1), 0.3333333333333333)"),
    ("import random\ndef f(): return random.random()", "import random\nassert 0 <= f() < 1"),
    ("def f():\n    open('a', 'w').write('b')\n    return open('a').read()", "assert f() == 'b'"),
    (
        "import tempfile\ndef f():\n    with tempfile.TemporaryFile() as t: return t.write(b'abc')",
        "assert f() == 3",
    ),
    (
        "from dataclasses import dataclass\n@dataclass\nclass D:\n    x: 'int' = 1\ndef f(): return D().x",
        "assert f() == 1",
    ),
    (
        "from concurrent.futures import *\ndef f():\n    with ThreadPoolExecutor(4) as t: return [*t.map(abs, [1])]",
        "assert f() == [1]",
    ),
    ("import asyncio\nasync def g(): return 1\ndef f(): return asyncio.run(g())", "assert f() == 1"),
]


@isolated
def test_honest_programs_are_not_hindered() -> None:
    found = grade_programs(
        [ProgramItem("", code, tests, None, True) for code, tests in PROGRAMS], Limits(), "namespaces"
    )
    assert not [(code, verdict) for (code, _), verdict in zip(PROGRAMS, found, strict=True) if verdict != RIGHT]


@isolated
def test_a_verdict_says_which_test_failed() -> None:
    assert run("def f(x): return 1 / x", "assert f(1) == 1\nassert f(0) == 1")[2] == (
        "ZeroDivisionError: division by zero in assert f(0) == 1"
    )


@pytest.mark.slow
@isolated
def test_the_verdict_on_an_answer_that_draws_at_random_is_the_same_each_time() -> None:
    code = "import random\ndef f(): return [random.random(), *{'a', 'b', 'c', 'd', 'e', 'f'}]"
    found = {run(code, "x = f()\nassert not x, x").detail for _ in range(3)}
    assert len(found) == 1 and "0." in str(found)


Watched = Callable[[str, Isolation], dict[str, Any]]


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with adopting(), witnesses() as (listeners, folder):
        yield lambda name, how: tried(ATTACKS[name], how, listeners, folder)


@isolated
@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_ends_as_what_it_is_and_leaves_nothing(name: str, watched: Watched) -> None:
    found = watched(name, "namespaces")
    assert found["ok"], found


@isolated
def test_an_honest_answer_among_hostile_ones_is_not_disturbed() -> None:
    hostile = ["an early exit", "a printed verdict", "killing everybody", "a daemon", "10 GB of output", "a crash"]
    items = [ATTACKS[name].item([1, 1]) for name in hostile]
    honest = [
        ProgramItem("", HONEST, f"assert f({number}) == {number + 1}", None, True) for number in range(len(items))
    ]
    found = grade_programs([item for pair in zip(items, honest, strict=True) for item in pair], LIMITS, "namespaces")
    assert found[1::2] == [RIGHT] * len(honest)


@isolated
@pytest.mark.slow
def test_nothing_is_left_when_the_judge_itself_is_killed(tmp_path: Path) -> None:
    with adopting():
        judge = os.fork()
        if judge == 0:
            sandbox.tempfile.tempdir = str(tmp_path)
            with suppress(BaseException):
                grade_programs(
                    [ProgramItem("", "while True: pass", TESTS, None, True)] * 20, Limits(seconds=60), "namespaces"
                )
            os._exit(0)
        time.sleep(1.5)
        os.kill(judge, 9)
        assert survivors() == 0
    assert not list(tmp_path.iterdir())


@isolated
def test_equal_answers_run_once_and_nothing_needs_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = sandbox._grade
    monkeypatch.setattr(sandbox, "_grade", lambda items, *rest: asked.append(len(items)) or real(items, *rest))
    assert judged(*({"text": HONEST, "reference": TESTS} for _ in range(3))) == [RIGHT] * 3
    assert judged() == []
    assert asked == [1, 0]
    monkeypatch.setattr("flywheel.processes.supervised.supervised", None)
    assert judged({"text": HONEST, "reference": None})[0][0] == "error"


def test_a_machine_that_cannot_isolate_refuses_in_a_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("judges.sandbox.run.problem", lambda isolation: "unshare: Operation not permitted")
    with pytest.raises(EngineMissing, match=r"cannot shut in .*unshare: Operation.*UnitTests\(isolation='limits'\)"):
        grade_programs([ProgramItem("", HONEST, TESTS, None, True)], Limits(), "namespaces")
    assert report().startswith("none: ")
    monkeypatch.setattr("judges.sandbox.run.problem", lambda isolation: None if isolation == "limits" else "no")
    assert report() == "limits only, code could read and write your files: no"
    monkeypatch.setattr("judges.sandbox.run.problem", lambda isolation: None)
    assert report() == "namespaces and limits"


@isolated
@pytest.mark.skipif(shutil.which("unshare") is None, reason="the program unshare is not installed")
def test_what_a_machine_lacks_is_found_by_trying() -> None:
    forbid = "echo 0 > /proc/sys/user/max_user_namespaces"
    tell = f"{sys.executable} -c 'from judges.sandbox.run import report; print(report())'"
    argv = ["unshare", "--user", "--map-root-user", "sh", "-c", f"{forbid}; exec {tell}"]
    told = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT)
    assert told.stdout.startswith(("limits only", "none: ")), told


def test_only_known_machines_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert "riscv64" in str(problem.__wrapped__("limits"))


@pytest.fixture(scope="module")
def limits() -> None:
    if reason := problem("limits"):
        pytest.skip(f"limits alone do not work here: {reason}")


@pytest.mark.slow
@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("name", [name for name in QUICK if not ATTACKS[name].files])
def test_limits_alone_hold_most_attacks(name: str, watched: Watched) -> None:
    found = watched(name, "limits")
    assert found["ok"], found


def test_the_filter_knows_both_architectures_and_jumps_forward_only() -> None:
    for machine in seccomp.ARCHITECTURE:
        program = seccomp.instructions(machine, own=7)
        code = seccomp.assembled(program)
        assert len(code) == 8 * len(program) < 8 * 256
        jumps = [byte for at in range(0, len(code), 8) for byte in code[at + 2 : at + 4]]
        assert max(jumps) < len(program)


def test_it_is_a_rule_that_is_named_by_its_parameters() -> None:
    assert isinstance(UnitTests(), Judge) and UnitTests().model is None and UnitTests().ask(pl.DataFrame()) == []
    assert len({UnitTests().name, UnitTests(timeout=1).name, UnitTests(isolation="limits").name}) == 3
    for settings in ({"timeout": 0}, {"memory": 1}, {"isolation": "none"}):
        with pytest.raises(RecipeError):
            UnitTests(**settings)  # type: ignore[arg-type]


def problems() -> list[dict[str, str]]:
    with gzip.open(DATA / "HumanEval.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def on_humaneval(answer: Callable[[dict[str, str]], str]) -> list[tuple[Any, ...]]:
    return judged(
        *(
            {"text": answer(one), "meta": json.dumps({name: one[name] for name in ("prompt", "test", "entry_point")})}
            for one in problems()
        )
    )


@has_humaneval
@isolated
@pytest.mark.slow
@pytest.mark.parametrize(
    "form",
    [
        lambda one: one["canonical_solution"],
        lambda one: f"So:\n```python\n{one['prompt']}{one['canonical_solution']}```",
    ],
    ids=["completion", "block"],
)
def test_every_solution_of_humaneval_is_right(form: Callable[[dict[str, str]], str]) -> None:
    assert on_humaneval(form) == [RIGHT] * 164


MUTATIONS: dict[str, Callable[[dict[str, str]], str]] = {
    "returns nothing": lambda one: "    return None\n",
    "stops half way": lambda one: "    raise NotImplementedError\n",
    "wraps what is right": lambda one: (
        f"{one['canonical_solution']}\nright = {one['entry_point']}\ndef {one['entry_point']}(*x): return [right(*x)]\n"
    ),
    "exits": lambda one: "    import os\n    os._exit(0)\n",
    "equals everything": lambda one: "    class E:\n        def __eq__(self, o): return True\n    return E()\n",
    "is something else": lambda one: f"def {one['entry_point']}_(*x): return 0\n",
}


@has_humaneval
@isolated
@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_every_mutated_solution_of_humaneval_is_wrong(mutation: str) -> None:
    assert [row[:2] for row in on_humaneval(MUTATIONS[mutation])] == [("ok", 0.0)] * 164
