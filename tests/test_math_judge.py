"""MathVerify: agrees with the answer keys, and outlives whatever a model may write."""

import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import judges.math
import judges.workers
from flywheel.errors import EngineError, EngineMissing, RecipeError
from flywheel.leash import leashed
from flywheel.recipe import Judge
from flywheel.tables import SUBJECTS, VOTES
from judges.math import Item, MathVerify, grade
from judges.rules import Verdict

pytest.importorskip("math_verify", reason="math-verify is not installed")
pytestmark = pytest.mark.slow

DATA = Path(os.environ.get("FLYWHEEL_TEST_DATA", Path(__file__).parents[1].parent / "shared" / "data")) / "gsm8k"
has_gsm8k = pytest.mark.skipif(not DATA.exists(), reason=f"no GSM8K at {DATA}: point FLYWHEEL_TEST_DATA at its parent")


def judged(pairs: Sequence[tuple[str, str | None]], timeout: float = 5.0) -> list[tuple[Any, ...]]:
    """Status, score and detail for each (text, reference)."""
    judge = MathVerify(timeout)
    rows = [{"generation": f"g{i}", "text": text, "reference": gold} for i, (text, gold) in enumerate(pairs)]
    result = judge.read(pl.DataFrame(rows, schema=SUBJECTS, orient="row"), None)
    assert result.schema == VOTES
    assert result["generation"].to_list() == [f"g{i}" for i in range(len(pairs))]
    assert set(result["judge"]) <= {judge.name}
    return result.select("status", "score", "detail").rows()


def scores(pairs: Sequence[tuple[str, str | None]]) -> list[float | None]:
    return [score for _, score, _ in judged(pairs)]


def solutions(part: str) -> list[str]:
    return [json.loads(line)["answer"] for line in (DATA / f"{part}.jsonl").read_text().splitlines()]


def corrupted(solution: str, draw: random.Random) -> str:
    """The same solution with another final number."""
    work, answer = solution.split("#### ")
    changes = [
        answer + "0",
        answer + str(draw.randint(1, 9)),
        f"1{answer}",
        f"{answer}.5",
        str(1 + int(answer.replace(",", ""))),
    ]
    return f"{work}#### {draw.choice(changes if int(answer.replace(',', '')) else changes[1:])}"


@has_gsm8k
@pytest.mark.parametrize(("part", "count"), [("test", 1319), ("train", 7473)])
def test_every_solution_of_gsm8k_is_right_and_every_corrupted_one_wrong(part: str, count: int) -> None:
    known = solutions(part)
    assert len(known) == count
    keys = [solution.split("####")[1].strip() for solution in known]
    assert scores(list(zip(known, keys, strict=True))) == [1.0] * count
    draw = random.Random(0)
    wrong = [corrupted(solution, draw) for solution in known]
    assert scores(list(zip(wrong, known, strict=True))) == [0.0] * count


def test_notation_makes_no_difference() -> None:
    same = [
        ("so \\boxed{\\frac{3}{4}}", "0.75"),
        ("#### 3/4", "\\frac{3}{4}"),
        ("Answer: $1,234.50", "1234.5"),
        ("#### 2\\sqrt{3}", "$2\\sqrt3$"),
        ("\\boxed{1+x^2}", "x^2 + 1"),
        ("\\boxed{(1, 2)}", "(1,2)"),
        ("\\boxed{\\text{Monday}}", "\\text{monday}"),
        ("#### 50%", "50"),
        ("#### \u22125", "-5"),
        ("in all 12 apples", "12"),
        ("\\boxed{12 \\text{ cm}}", "We get \\boxed{12}."),
        ("#### 7", "5 + 2 = <<5+2=7>>7\n#### 7"),
    ]
    assert scores(same) == [1.0] * len(same)


def test_other_values_are_wrong() -> None:
    other = [("#### 2,125/7", "2,125"), ("#### 276,0000", "276,000"), ("#### 276 0000", "276,000"), ("#### - 5", "5")]
    other += [("\\boxed{(2,1)}", "(1,2)"), ("\\boxed{x^2-1}", "x^2+1"), ("#### 18.5", "18"), ("it is 7, not 5", "7")]
    assert scores(other) == [0.0] * len(other)


def test_the_last_marker_counts_and_a_box_before_all() -> None:
    assert (
        scores([("#### 1\n#### 2", "2"), ("\\boxed{1} or \\boxed{2}", "2"), ("Answer: 1 Answer: 2", "2")]) == [1.0] * 3
    )
    assert scores([("\\boxed{2}\n#### Notes on 3", "2"), ("####\n\n2\n3", "2"), ("answer:\n**2**", "2")]) == [1.0] * 3
    assert (
        scores([("\\boxed{\\{2\\}} ", "\\{2\\}"), ("\\boxed{2\nno brace 3", "2"), ("\\boxed{} #### 2", "2")])
        == [1.0] * 3
    )


def test_long_work_before_the_answer_does_no_harm() -> None:
    assert judged([("step 1. " * 5000 + "The answer is 42.", "42")]) == [("ok", 1.0, "42")]


def test_equal_numbers_are_spelled_alike_so_that_a_majority_can_be_counted() -> None:
    texts = ["#### 0.5", "\\boxed{\\frac{1}{2}}", "#### .50", "Answer: 1/2", "#### 1,000", "#### 1000.0"]
    assert [detail for _, _, detail in judged([(text, "1") for text in texts])] == ["0.5"] * 4 + ["1000"] * 2


def test_no_answer_no_reference_and_a_wrong_answer_are_three_things() -> None:
    assert judged([("I do not know", "5"), ("", "5"), ("6", "5"), ("5", None), ("5", " "), ("5", "\\boxed{}")]) == [
        ("unparsable", None, "no answer"),
        ("unparsable", None, "no answer"),
        ("ok", 0.0, "6"),
        ("error", None, "no reference"),
        ("error", None, "a reference of 0 characters"),
        ("error", None, "the reference cannot be read: \\boxed{}"),
    ]


def test_a_short_solution_is_no_reference_and_an_answer_of_lines_is() -> None:
    solutions = (
        "Bucks:50(.50)=25\n8 Points:25(.20)=5 bucks\nA: 5",
        "Ruins:220(.40)=88\nUnmanned:88/2=<<88/2=44>>44 castles\nA: 44",
        "Apples: 3 * 4 = 12\nPears: 12 + 2 = $14",
    )
    assert [row[:2] for row in judged([("\\boxed{5}", each) for each in solutions])] == [("error", None)] * 3
    answers = ("\\text{Area} = 5", "\\frac{1}{2}\n= 0.5", "\\begin{pmatrix}\n1 & 2\\\\\n3 & 4\n\\end{pmatrix}")
    assert scores([(f"\\boxed{{{each}}}", each) for each in answers]) == [1.0, 1.0, 1.0]


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The process groups of all workers that are started."""
    groups: list[int] = []

    @contextmanager
    def counting(*args: Any, **options: Any) -> Iterator[Any]:
        with leashed(*args, **options) as process:
            groups.append(process.pid)
            yield process

    monkeypatch.setattr(judges.workers, "leashed", counting)
    yield groups


def members(groups: list[int]) -> list[int]:
    """Processes of these groups that live: what was killed may stay a zombie until the system reaps it."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, group, *_ = stat.read_text().rpartition(")")[2].split()
            found += [int(stat.parent.name)] if int(group) in groups and state not in "ZX" else []
    return found


def assert_gone(groups: list[int]) -> None:
    deadline = time.monotonic() + 10
    while left := members(groups):
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.02)


def test_hostile_answers_cost_only_themselves_and_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = ["#### 9^9^9^9", "\\boxed{9^{9^{9^{9}}}}"]
    strange = ["#### " + "9" * 3_000_000, "9" * 3_000_000, "\x00" * 100_000, "#### \x00", "\\boxed{" * 100_000]
    strange += [
        "#### " + "(" * 900,
        "$" * 1900,
        "\\frac{" * 50,
        "}" * 500,
        "#### 1/0",
        "#### \ufffe\u202e",
        "\\boxed{\\",
    ]
    strange += ["__import__('os').abort()", "#### __import__('os').abort()"]
    texts = [text for hostile in (*endless, *strange) for text in (hostile, f"#### {len(hostile) % 97 + 43}")]
    with counted(monkeypatch) as groups:
        found = judged([*((text, "42") for text in texts), ("#### 42", "42")], timeout=2.0)
        assert [status for status, _, _ in found[: 2 * len(endless) : 2]] == ["timeout"] * len(endless)
        assert all(score is None for status, score, _ in found if status != "ok")
        assert not any(score for _, score, _ in found[:-1]) and found[-1] == ("ok", 1.0, "42")
        assert [status for status, _, _ in found[1:-1:2]] == ["ok"] * (len(texts) // 2)
        assert len(groups) > len(endless)
        assert_gone(groups)


def test_a_worker_that_dies_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker = Path(judges.math.__file__).with_name("math_worker.py").read_text()
    deadly = worker.replace("def compare(", "import os\n\n\ndef compare(", 1).replace(
        "    gold = values(", "    answer == '13' and os.abort()\n    gold = values(", 1
    )
    (tmp_path / "math_worker.py").write_text(deadly)
    monkeypatch.setattr(judges.math, "__file__", str(tmp_path / "math.py"))
    with counted(monkeypatch) as groups:
        assert [status for status, _, _ in judged([("#### 12", "12"), ("#### 13", "12"), ("#### 14", "12")])] == [
            "ok",
            "error",
            "ok",
        ]
        assert len(groups) == 2
        assert_gone(groups)


def test_an_interrupt_ends_the_workers_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(judges.math, "_verdict", interrupted)
    start = time.monotonic()
    with counted(monkeypatch) as groups, pytest.raises(KeyboardInterrupt):
        judged([(f"#### {i}", "1") for i in range(500)])
    assert_gone(groups)
    assert time.monotonic() - start < 60


def test_a_worker_that_cannot_start_is_an_error_and_not_a_verdict(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(judges.math, "__file__", str(tmp_path / "math.py"))
    with pytest.raises(EngineError, match="did not start"):
        judged([("5", "5")])
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EngineMissing, match="not installed"):
        judged([("5", "5")])


def test_equal_questions_are_asked_once_and_nothing_needs_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counting(items: Sequence[Item], timeout: float) -> list[Verdict]:
        asked.append(len(items))
        return grade(items, timeout)

    monkeypatch.setattr(judges.math, "grade", counting)
    assert scores([("#### 5", "5"), ("so: #### 5", "5"), ("#### 6", "5")] * 100) == [1.0, 1.0, 0.0] * 100
    assert asked == [2]
    with counted(monkeypatch) as groups:
        assert judged([("5", None)]) == [("error", None, "no reference")]
        assert judged([]) == []
        assert groups == []


def test_the_timeout_is_part_of_what_the_judge_is() -> None:
    assert isinstance(MathVerify(), Judge) and MathVerify().model is None
    assert MathVerify().name != MathVerify(timeout=1.0).name
    with pytest.raises(RecipeError, match="positive"):
        MathVerify(timeout=0)
