"""Bar `math`: how many answers a second MathVerify compares, and that no kind of answer is slow to a verdict.

    python -m tests.bars.math

GSM8K: each answer of the test part, right and wrong, in the forms in which models give it; the folder gsm8k is looked
for in FLYWHEEL_TEST_DATA, or in ../shared/data. MATH: `tests/judges/rules/math_forms.py`. Then kinds of strange
answers, each on its own: what ends with a verdict must not be slow, and what does not is counted apart. Every score is
compared with the right one. A worker's start, a second or two, is left out: what as many workers take for a few plain
numbers is taken off.
"""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import polars as pl

from flywheel.store.schema import SUBJECTS
from judges.rules.math.verify import MathVerify
from tests import PUBLIC
from tests.judges.rules.math_forms import rows as math_rows

DATA = PUBLIC / "gsm8k"
GSM8K_RATE, MATH_RATE, KIND_RATE, TIMEOUTS = 600, 150, 20, 0.001
COPIES = 120
FORM_COPIES = 24
PLAIN = 200
"""Numbers by which a start is measured: enough for all workers."""
Row = tuple[str, str, float | None]
KINDS: dict[str, Row] = {
    "long sum": ("\\boxed{" + "+".join(["x^2", "3x", "7"] * 12) + "}", "12x^2+36x+84+<n>", 0.0),
    "expanded product": ("\\boxed{(x+1)(x+2)(x+3)(x+4)(x+<n>)}", "(x+<n>)(x+4)(x+3)(x+2)(x+1)", 1.0),
    "nested fractions": ("\\boxed{1+\\frac{1}{1+\\frac{1}{1+\\frac{1}{1+\\frac{1}{<n>}}}}}", "<n>", 0.0),
    "nested roots": ("\\boxed{\\sqrt{2+\\sqrt{2+\\sqrt{2+\\sqrt{<n>}}}}}", "\\sqrt{<n>}", 0.0),
    "nested parentheses": ("\\boxed{" + "(" * 12 + "x+<n>" + ")" * 12 + "}", "x+<n>", 1.0),
    "matrix": ("\\boxed{\\begin{pmatrix}1&2&3\\\\4&5&6\\\\7&8&<n>\\end{pmatrix}}",
               "\\begin{pmatrix}1&2&3\\\\4&5&6\\\\7&8&<n>\\end{pmatrix}", 1.0),
    "identity": ("\\boxed{\\sin^2 x+\\cos^2 x+<n>}", "<n>+1", 1.0),
    "double angle": ("\\boxed{2\\sin(<n>x)\\cos(<n>x)}", "\\sin(<n>x)", 0.0),
    "equation": ("\\boxed{y=<n>x+3}", "<n>x-y+3=0", 1.0),
    "another equation": ("\\boxed{3x+4y+<n>=0}", "3x-y+13=0", 0.0),
    "quadratic equation": ("\\boxed{x^2-<n>x+6=0}", "x^2-5x+1=0", 0.0),
    "inequality": ("\\boxed{1<x\\le <n>2}", "(1,<n>2]", 1.0),
    "union": ("\\boxed{(-\\infty,1)\\cup(2,<n>3]}", "(-\\infty,1)\\cup(2,<n>3]", 1.0),
    "long list": ("\\boxed{" + ",".join(map(str, range(3, 40))) + ",1<n>}", ",".join(map(str, range(3, 40))), 0.0),
    "factorials": ("\\boxed{\\frac{50!}{48!<n>!}}", "\\binom{50}{2}", None),
    "large power": ("\\boxed{7^{2<n>}}", "7^{2<n>}+1", 0.0),
    "definite integral": ("\\boxed{\\int_0^1 x^<n> dx}", "\\frac{1}{<n>+1}", 1.0),
    "sum of a series": ("\\boxed{\\sum_{k=1}^{<n>} k}", "\\frac{<n>(<n>+1)}{2}", 1.0),
    "prose for a number": ("We add them up, step by step. " * 60 + "So it is <n> in all.", "<n>", 1.0),
    "prose for a formula": ("We add them up, step by step. " * 60 + "So it is $x+<n>$.", "x+<n>", 1.0),
    "prose without the formula": ("We add them up, step by step and <n>. " * 60, "x+<n>", None),
    "words": ("\\boxed{\\text{there is no such number, whatever <n> may be said of it}}", "x+<n>", None),
    "a whole solution": ("\\boxed{<n>}", "He sold 3 of them for 4 each = 12. He sold <n> more. Thus 12 + <n>.", None),
    "digits": ("\\boxed{" + "123456789" * 20 + "<n>}", "123456789" * 20 + "<n>", None),
    "towers": ("\\boxed{9^{9^{9^{<n>}}}}", "9^9", None),
}  # fmt: skip
TOWERS = 2
"""Towers are never done; each costs the whole time."""


def gsm8k() -> list[Row]:
    """Each answer in the forms in which models give it, and the next number in them."""
    lines = (DATA / "test.jsonl").read_text(encoding="utf-8").splitlines()
    keys = [json.loads(line)["answer"].partition("####")[2].strip() for line in lines]
    forms = ("#### {}", "\\boxed{{{}}}", "The answer is {}.", "So she pays ${} in all.")
    right = [(form.format(key), key, 1.0) for key in keys for form in forms]
    return right + [(form.format(int(key.replace(",", "")) + 1), key, 0.0) for key in keys for form in forms[:3]]


def kind(name: str) -> list[Row]:
    """One kind of strange answer, with other numbers in each."""
    text, reference, score = KINDS[name]
    count = TOWERS if name == "towers" else COPIES
    return [
        (text.replace("<n>", str(number)), reference.replace("<n>", str(number)), score)
        for number in range(11, 11 + count)
    ]


def judged(rows: Sequence[Row]) -> tuple[pl.DataFrame, float]:
    """VOTES, and the seconds that they took."""
    frame = pl.DataFrame(
        [{"generation": str(at), "text": text, "reference": gold} for at, (text, gold, _) in enumerate(rows)],
        schema=SUBJECTS,
    )
    started = time.perf_counter()
    votes = MathVerify().read(frame, None)
    return votes, time.perf_counter() - started


def measured(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows a second among those that end with a verdict, how many do not, and the first that are judged wrongly."""
    judge = MathVerify()
    _, start = judged([(f"\\boxed{{{number}}}", str(number), 1.0) for number in range(min(len(rows), PLAIN))])
    votes, seconds = judged(rows)
    timeouts = len(votes.filter(pl.col("status") == "timeout"))
    wrong = [
        (text[-80:], gold, score)
        for (text, gold, right), score in zip(rows, votes["score"], strict=True)
        if right is not None and score != right
    ]
    spent = max(seconds - start, 1e-3) - timeouts * judge.timeout
    rate = round((len(rows) - timeouts) / spent, 1) if len(rows) > timeouts else None
    return {"rows": len(rows), "rate": rate, "timeouts": timeouts, "wrong": len(wrong), "first wrong": wrong[:3]}


def main() -> int:
    """Measure and print the bar."""
    if not DATA.is_dir():
        sys.exit(f"GSM8K is not at {DATA}: set FLYWHEEL_TEST_DATA to the folder that holds gsm8k/test.jsonl")
    value = {"gsm8k": measured(gsm8k()), "math": measured(list(dict.fromkeys(math_rows(FORM_COPIES))))}
    kinds = {name: measured(kind(name)) for name in KINDS}
    for name, one in kinds.items():
        print(name, json.dumps(one), file=sys.stderr, flush=True)
    rates = {name: one["rate"] for name, one in kinds.items() if one["rate"] is not None}
    slowest = min(rates, key=lambda name: rates[name])
    share = sum(one["timeouts"] for one in value.values()) / sum(one["rows"] for one in value.values())
    wrong = sum(one["wrong"] for one in (*value.values(), *kinds.values()))
    value |= {"kinds": len(kinds), "slowest": {slowest: rates[slowest]}, "time-outs": share, "wrong": wrong}
    target = {"gsm8k": GSM8K_RATE, "math": MATH_RATE, "slowest": KIND_RATE, "time-outs": TIMEOUTS, "wrong": 0}
    ok = value["gsm8k"]["rate"] >= GSM8K_RATE and value["math"]["rate"] >= MATH_RATE
    ok = ok and rates[slowest] >= KIND_RATE and share <= TIMEOUTS and wrong == 0
    print(json.dumps({"bar": "math", "value": value, "target": target, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
