"""The child of `verify.py`: for each line of JSON that it is sent, compares an answer with its reference.

It runs apart because math-verify hands what a model wrote to sympy, which can be made to compute for ever or to fill
the memory. Here memory is limited, and the parent kills what takes too long. The first line that it writes, `{}`, says
that everything is imported. Numbers and words need no sympy, and are compared here exactly.
"""

import json
import re
import resource
import sys
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from judges.rules.math.notation import tidy
from judges.rules.math.shapes import Numeral, numeral, ordered, same, unlike
from judges.rules.math.wording import answer_words, formula, number_said, prose, quantity, sentence
from judges.rules.numerals import Number, spelled

MEMORY = 4 << 30
"""Bytes of address space: far above what an honest comparison takes, far below what hurts a machine."""
REPORTED_CHARACTERS = 200
"""Characters of an answer that are reported."""
LATIN_WORD = re.compile(r"[A-Za-z]{2,}[^{]*\}?")
DOUBT = re.compile(r"(?<![\d,.(\[{])\d+,\d{1,2}(?![\d,])|\d:\d\d|\d\s?(?:-|and|&)\s?\d+/\d")
"""A decimal comma or a list; a time or a ratio; a mixed number or two."""
NONE = re.compile(
    r"(?i)\b(?:cannot|can't|impossible|not possible|undefined|no (?:real )?(?:solutions?|answer)|not exist)\b"
)
"""What answers that there is no number."""
# math-verify reads 2,125/7 as 2,125, 276,0000 and 276 0000 as 276,000, and loses a sign before a space.
MISREAD = ((re.compile(r"(?<=\d),(?=\d{3})"), ""), (re.compile(r"(?<=\d) (?=\d{4})"), "; "), (re.compile(r"^- +"), "-"))


class Reading(NamedTuple):
    """What an answer is, if no formula: a number, words, or digits in a base. `text` is its tidy spelling."""

    text: str
    number: Number | None
    words: tuple[str, ...] | None
    numeral: Numeral | None


@lru_cache(maxsize=4096)
def values(text: str) -> Reading:
    """What can be read in a text without sympy."""
    text = tidy(text)
    based = numeral(text)
    return Reading(text, None if based else quantity(text), answer_words(text), based)


@lru_cache(maxsize=1024)
def formulas(text: str, latex: bool) -> list[Any]:
    """What math-verify reads in a tidy text: sympy expressions, and last the text itself; [] if there is no answer."""
    from math_verify import parse

    if not latex:
        for pattern, repair in MISREAD:
            text = pattern.sub(repair, text)
    return list(parse(f"\\boxed{{{text}}}" if latex else text, parsing_timeout=None, raise_on_error=True))


def compare(reference: str, answer: str, boxed: bool, marked: bool) -> dict[str, Any]:
    """Status, score and detail. `boxed` says that the answer is all LaTeX, `marked` that it follows a marker."""
    gold = values(reference)
    if gold.number is None and sentence(gold.text) and (one := number_said(gold.text, True)) and len(one) == 1:
        gold = gold._replace(number=one[0])
    given = values(answer)
    return plainly(gold, given, boxed, marked) or symbolically(gold, given, boxed)


def plainly(gold: Reading, given: Reading, boxed: bool, marked: bool) -> dict[str, Any] | None:
    """The verdict where no formula has to be understood, or None."""
    if gold.numeral or given.numeral:
        return worker_verdict(same_numeral(gold, given), given.text)
    if gold.number:
        if not boxed and given.number is None and (kind := formula(given.text)):
            return unclear(given.text) if kind == "unclear" else None
        found = (
            (given.number,)
            if given.number
            else number_said(given.text, marked)
            if not boxed or LATIN_WORD.search(given.text)
            else None
        )
        if found:
            shown = ", ".join(shortly(number) for number in found)
            return worker_verdict(len(found) == 1 and same(gold.number, found[0]), shown)
        if not boxed and NONE.search(given.text) and not re.search(r"[\d\\]", given.text):
            return worker_verdict(False, given.text)
        return unclear(given.text) if found == () or (not boxed and DOUBT.search(given.text)) else None
    if gold.words and given.words:
        return worker_verdict(gold.words == given.words, ", ".join(given.words))
    return worker_verdict(squeezed(gold.text) == squeezed(given.text), given.text) if prose(gold.text) else None


def symbolically(gold: Reading, given: Reading, boxed: bool) -> dict[str, Any]:
    """The verdict of math-verify, and of what it overlooks."""
    golden = formulas(gold.text, True)
    if not golden:
        return {
            "status": "error",
            "score": None,
            "detail": f"the reference cannot be read: {gold.text[:REPORTED_CHARACTERS]}",
        }
    # Around a bare number people write words; \boxed reads them as products of variables. Formulas may come without $.
    text_only = (gold.number and "\\" not in given.text) or prose(given.text)
    is_formula = boxed or (gold.number is not None and given.number is None and formula(given.text) is not None)
    ways = (True,) if is_formula else (False,) if text_only else (False, True)
    read = [found for latex in ways if (found := formulas(given.text, latex))]
    if not read:
        return {"status": "unparsable", "score": None, "detail": "no answer"}
    swapped = ordered(gold.text, given.text)
    pairs = ((one, found) for found in read for one in golden for other in found if equal(one, other, swapped))
    right = None if unlike(gold.text, given.text) else next((found for _, found in pairs), None)
    return worker_verdict(right is not None, str((right or read[0])[0]))


def equal(gold: Any, answer: Any, swapped: bool) -> bool:
    """Whether math-verify finds two of its readings equal, and nothing says that they are not."""
    from math_verify import verify
    from sympy import nan, zoo

    from judges.rules.math.expressions import as_interval, differ, same_number, surely_differ

    texts = isinstance(gold, str) or isinstance(answer, str)
    if not texts:
        if gold == answer and not gold.has(nan, zoo):
            return True
        gold, answer = as_interval(gold, answer), as_interval(answer, gold)
        if (told := same_number(gold, answer)) is not None:
            return told
        if surely_differ(gold, answer):
            return False
    sides = (answer, gold) if swapped else (gold, answer)
    right = verify(*sides, allow_set_relation_comp=True, timeout_seconds=None, raise_on_error=True)
    return right and (texts or not differ(gold, answer))


def same_numeral(gold: Reading, given: Reading) -> bool:
    """Whether digits are equal where one side names their base; an answer without one is read in the reference's."""
    if gold.numeral and given.numeral:
        return gold.numeral.value == given.numeral.value
    if given.numeral:
        return gold.number is not None and gold.number.value == given.numeral.value
    assert gold.numeral is not None
    return gold.numeral.digits == given.text.strip(" $").lower().lstrip("0")


def worker_verdict(right: bool, detail: str) -> dict[str, Any]:
    """A verdict that is one."""
    return {"status": "ok", "score": float(right), "detail": detail[:REPORTED_CHARACTERS]}


def unclear(text: str) -> dict[str, Any]:
    """What is said of a text in which it is not clear which number is meant."""
    return {"status": "unparsable", "score": None, "detail": f"no number that is clear: {text[-REPORTED_CHARACTERS:]}"}


def shortly(number: Number) -> str:
    """A number in one spelling for equal numbers."""
    text = spelled(number.value)
    if len(text) > REPORTED_CHARACTERS // 2:
        text = f"{Decimal(number.value.numerator) / Decimal(number.value.denominator):.20e}"
    return text + "%" * number.percent


def squeezed(text: str) -> str:
    """A text without what makes no difference in prose."""
    return re.sub(r"[\s$.,]|\\(?:text|mathrm)\b|[{}]", "", text).lower()


def answer_line(line: bytes) -> dict[str, Any]:
    """The reply to one line: {"reference", "answer", "boxed", "marked"} to {"status", "score", "detail"}."""
    try:
        return compare(**json.loads(line))
    except Exception as error:  # of sympy, antlr or the limits: one strange answer is data, and no reason to stop
        return {
            "status": "error",
            "score": None,
            "detail": f"{type(error).__name__}: {str(error)[:REPORTED_CHARACTERS]}",
        }


def main() -> None:
    """Reply to every line of standard input with one line."""
    from judges.rules.math.expressions import read_quickly

    read_quickly()

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    replies = sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever else prints must not pass for a reply
    replies.write(b"{}\n")
    replies.flush()
    for line in sys.stdin.buffer:
        replies.write(json.dumps(answer_line(line)).encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    main()
