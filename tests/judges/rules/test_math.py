"""MathVerify: agrees with the answer keys, and outlives whatever a model may write."""

import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flywheel.errors import EngineError, EngineMissing, RecipeError
from flywheel.processes import pool
from flywheel.processes.supervised import supervised
from flywheel.protocols import Judge, Verdict
from flywheel.store.schema import SUBJECTS, VOTES
from judges.rules.math import verify
from judges.rules.math.verify import MathItem, MathVerify, grade_math
from tests import PUBLIC
from tests.judges.rules.math_forms import rows

pytest.importorskip("math_verify", reason="math-verify is not installed")
pytestmark = pytest.mark.slow

DATA = PUBLIC / "gsm8k"
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
        ("it is 7, not 5", "7"),
        ("\\boxed{1\\frac{1}{2}x}", "\\frac{3}{2}x"),
        ("\\boxed{2\u00bd}", "5/2"),
    ]
    assert scores(same) == [1.0] * len(same)


def test_other_values_are_wrong() -> None:
    other = [("#### 2,125/7", "2,125"), ("#### 276,0000", "276,000"), ("#### 276 0000", "276,000"), ("#### - 5", "5")]
    other += [("\\boxed{(2,1)}", "(1,2)"), ("\\boxed{x^2-1}", "x^2+1"), ("#### 18.5", "18"), ("it is 7, not 5", "5")]
    assert scores(other) == [0.0] * len(other)


def test_every_form_of_an_answer_is_right_and_its_neighbour_wrong() -> None:
    known = list(dict.fromkeys(rows(1)))
    found = scores([(text, gold) for text, gold, _ in known])
    assert [row for row, score in zip(known, found, strict=True) if score != row[2]] == []


def test_a_percentage_is_its_number_and_its_share_with_decimals_and_signs_too() -> None:
    same = [
        ("\\boxed{35.0\\%}", "35"),
        ("#### 12.5%", "0.125"),
        ("\\boxed{-35\\%}", "-35"),
        ("\\boxed{12.5}", "12.5\\%"),
    ]
    assert scores(same) == [1.0] * 4
    assert scores([("\\boxed{50\\%}", "0.5\\%"), ("\\boxed{35\\%}", "-35"), ("\\boxed{0.5}", "50")]) == [0.0] * 3


def test_tiny_numbers_differ_by_their_digits() -> None:
    other = [("\\boxed{6.63e-34}", "9.11e-31"), ("\\boxed{2^{-98}}", "2^{-99}"), ("\\boxed{1/20!}", "1/21!")]
    other += [("\\boxed{(0.0000001, 1)}", "(0.0000002, 1)"), ("\\boxed{e^{-200}}", "e^{-201}")]
    other += [
        ("\\boxed{x+10^{-20}}", "x+10^{-21}"),
        ("\\boxed{1.2345e-7}", "1.2346e-7"),
        ("\\boxed{7^{213}}", "7^{213}+1"),
    ]
    assert scores(other) == [0.0] * len(other)
    same = [
        ("\\boxed{6.63 \u00d7 10\u207b\u00b3\u2074}", "6.63e-34"),
        ("\\boxed{0.083333}", "1/12"),
        ("\\boxed{1.41421356}", "\\sqrt2"),
    ]
    same += [("\\boxed{2e-1}", "-1+2e"), ("\\boxed{2e-1}", "0.2")]  # both are meant, and the reference says which
    assert scores(same) == [1.0] * len(same)


def test_a_word_is_no_product_of_its_letters_but_letters_are() -> None:
    words = [("\\boxed{tea}", "eat"), ("Answer: god", "dog"), ("\\boxed{CAB}", "ABC"), ("Answer: York New", "New York")]
    assert scores(words) == [0.0] * len(words)
    letters = [("\\boxed{at}", "ta"), ("\\boxed{lwh}", "hlw"), ("\\boxed{nRT}", "RnT"), ("\\boxed{xyz}", "zyx")]
    assert scores([*letters, ("\\boxed{Ben, Arnold}", "Arnold, Ben"), ("Answer: Yes.", "yes")]) == [1.0] * 6


def test_numerals_are_equal_by_value_and_a_base_may_be_left_to_the_reference() -> None:
    assert (
        scores([("\\boxed{1011_2}", "11_{10}"), ("\\boxed{1011}", "1011_2"), ("\\boxed{FF_{16}}", "255")]) == [1.0] * 3
    )
    assert scores([("\\boxed{12_8}", "12"), ("\\boxed{12_8}", "12_9"), ("\\boxed{11}", "1011_2")]) == [0.0] * 3


def test_pairs_sets_lists_and_intervals_are_told_apart_in_both_directions() -> None:
    pair, crossed, closed, group, reverse = "(1,2)", "(2,1)", "[1,2]", "\\{1,2\\}", "\\{2,1\\}"
    same = [(pair, "1,2"), ("1,2", pair), (group, "2,1"), ("2,1", group), (reverse, group), (closed, "1 \\le x \\le 2")]
    same += [("1 \\le x \\le 2", closed), ("1 < x < 2", pair), ("2, 1", "1, 2"), ("\\pm 2", "2, -2")]
    other = [
        (pair, group),
        (group, pair),
        (crossed, "1,2"),
        ("2,1", pair),
        (pair, closed),
        (closed, pair),
        (closed, group),
    ]
    other += [("2", "\\pm 2"), ("\\pm 2", "2"), ("n = 1, 2, 3", "n = 2, 3, 4"), ("(3,3)", "(2,2)")]
    assert scores([(f"\\boxed{{{answer}}}", gold) for answer, gold in same]) == [1.0] * len(same)
    assert scores([(f"\\boxed{{{answer}}}", gold) for answer, gold in other]) == [0.0] * len(other)


def test_an_equation_is_not_another_because_neither_has_a_solution() -> None:
    other = [("x^2+1=0", "x^2+4=0"), ("3x+4y+14=0", "3x-y+13=0"), ("y=x^2", "y=x^3"), ("y=3", "x=3")]
    assert scores([(f"\\boxed{{{answer}}}", gold) for answer, gold in other]) == [0.0] * len(other)
    assert scores([("\\boxed{6x+8y+28=0}", "3x+4y+14=0"), ("\\boxed{2x-y+3=0}", "y=2x+3")]) == [1.0] * 2


def test_several_numbers_are_none_of_them() -> None:
    hedges = ["5 or 6", "between 5 and 6", "5 to 6", "5, 6", "maybe 5, maybe 6", "6 (or 5)", "5 apples and 6 pears"]
    hedges += ["5 feet 6 inches", "x = 5 and y = 6"]
    assert scores([(f"Answer: {hedge}", gold) for hedge in hedges for gold in "56"]) == [0.0] * 2 * len(hedges)
    assert scores([("They have 5 apples and 6 pears.", "6"), ("\\boxed{5\\text{ or }6}", "5")]) == [0.0] * 2


def test_a_number_with_what_belongs_to_it_is_that_number() -> None:
    texts = ["Answer: 12 (not 13)", "Answer: $12 for 3 people", "The answer is 12 for n = 3.", "Answer: 12, not 13"]
    texts += [
        "For n = 3 the answer is 12.",
        "Answer: 12 because 3*4=12",
        "Answer: 12 apples (3 red, 9 green)",
        "it is 12, not 5",
    ]
    texts += [
        "Answer: 3 * 4 = 12 eggs",
        "He bought 5 red and 7 blue ones, so 12 in all.",
        "Answer: about 12 km/h",
        "\\boxed{12 \\text{ for } n=3}",
    ]
    assert scores([(text, "12") for text in texts]) == [1.0] * len(texts)


def test_a_number_that_may_be_read_in_two_ways_is_no_answer() -> None:
    doubts = [("Answer: 125,96", "125.96"), ("Answer: 10:30", "10"), ("Answer: 2 and 1/4", "0.25")]
    assert [status for status, _, _ in judged(doubts)] == ["unparsable"] * 3


def test_an_answer_that_there_is_no_number_is_wrong_and_silence_is_no_answer() -> None:
    assert judged([("There is no solution.", "5"), ("I do not know", "5")]) == [
        ("ok", 0.0, "There is no solution"),
        ("unparsable", None, "no answer"),
    ]


def test_a_reference_needs_a_mark_where_it_is_a_whole_solution() -> None:
    solution = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 clips altogether."
    (refused,) = judged([("\\boxed{72}", solution)])
    assert refused[0] == "error" and "put its answer into \\boxed{}" in str(refused[2])
    marked = [
        f"{solution}\n#### 72",
        f"{solution} \\boxed72.",
        f"{solution}\nAnswer: 72",
        "\\fbox{72}",
        "It takes her 72 minutes",
    ]
    assert scores([("\\boxed{72}", gold) for gold in marked]) == [1.0] * len(marked)


def test_neither_a_thought_nor_the_next_question_is_the_answer() -> None:
    assert scores([("<think>\\boxed{5}</think>The answer is 6.", "6")]) == [1.0]
    assert judged([("<think>\\boxed{5} and then", "5")]) == [("unparsable", None, "a thought without an end")]
    assert (
        scores([("so \\boxed{6}\n\nProblem: 1+1?\nSolution: \\boxed{2}", "6"), ("#### 6\nQ: 1+1?\n#### 2", "6")])
        == [1.0] * 2
    )


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


def test_what_has_no_value_equals_no_number() -> None:
    from judges.rules.math.expressions import read_quickly, same_number
    from judges.rules.math.worker import formulas

    read_quickly()
    for text in ("1/0", "\\frac{5}{0}", "1/0 + 3"):
        for one in formulas(text, True)[:1]:
            for _ in range(3):  # what sympy knows of it changes when it is asked
                assert same_number(formulas("42", True)[0], one) is not True, text
    assert not any(scores([("#### 1/0", "42"), ("\\boxed{\\frac{1}{0}}", "42"), ("42", "\\frac{1}{0}")]))


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The process groups of all workers that are started."""
    groups: list[int] = []

    @contextmanager
    def counting(*args: Any, **options: Any) -> Iterator[Any]:
        with supervised(*args, **options) as process:
            groups.append(process.pid)
            yield process

    monkeypatch.setattr(pool, "supervised", counting)
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
    worker = Path(verify.__file__).with_name("worker.py").read_text()
    deadly = worker.replace("def compare(", "import os\n\n\ndef compare(", 1).replace(
        "    gold = values(", "    answer == '13' and os.abort()\n    gold = values(", 1
    )
    (tmp_path / "worker.py").write_text(deadly)
    monkeypatch.setattr(verify, "__file__", str(tmp_path / "verify.py"))
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

    monkeypatch.setattr(verify, "_verdict", interrupted)
    start = time.monotonic()
    with counted(monkeypatch) as groups, pytest.raises(KeyboardInterrupt):
        judged([(f"#### {i}", "1") for i in range(500)])
    assert_gone(groups)
    assert time.monotonic() - start < 60


def test_a_worker_that_cannot_start_is_an_error_and_not_a_verdict(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(verify, "__file__", str(tmp_path / "verify.py"))
    with pytest.raises(EngineError, match="did not start"):
        judged([("5", "5")])
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EngineMissing, match="not installed"):
        judged([("5", "5")])


def test_equal_questions_are_asked_once_and_nothing_needs_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counting(items: Sequence[MathItem], timeout: float) -> list[Verdict]:
        asked.append(len(items))
        return grade_math(items, timeout)

    monkeypatch.setattr(verify, "grade_math", counting)
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


def test_numbers_of_thousands_of_digits_are_compared_to_the_last() -> None:
    found = judged(
        [("\\boxed{7^{2100}}", "7^{2100}+1"), ("\\boxed{7^{2100}}", "7^{2100}"), ("\\boxed{2^{5000}}", "4^{2500}")]
    )
    assert [(status, score) for status, score, _ in found] == [("ok", 0.0), ("ok", 1.0), ("ok", 1.0)]


@pytest.mark.parametrize("mark", ["Answer: ", "#### "])
def test_a_formula_without_a_box_is_not_the_number_in_it(mark: str) -> None:
    formulas = ("5x", "12a", "x + 5", "2x + 3", "y = 2x + 3", "n - 1", "x/2", "2/x", "4 + 3i", "5√3", "5²")
    doubtful = ("2*pi", "3*sqrt(2)", "ln 2", "4!", "x > 5", "x ≥ 5", "x ≠ 5", "±5", "|x| = 5")
    found = judged([(mark + text, re.findall(r"\d+", text)[-1]) for text in (*formulas, *doubtful)])
    assert [status for status, _, _ in found] == ["ok"] * len(formulas) + ["unparsable"] * len(doubtful)
    assert not any(score for _, score, _ in found)
    right = ("x = 5", "5 m", "5 km/h", "5 V", "$5", "9 - 4 = 5", "n = 5", "5 A")
    assert {score for _, score, _ in judged([(mark + text, "5") for text in right])} == {1.0}
    assert judged([(f"{mark}x+5", "x+5"), (f"{mark}5²", "25")])[0][1] == judged([(f"{mark}5²", "25")])[0][1] == 1.0
