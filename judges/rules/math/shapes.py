"""What two answers must have in common besides what math-verify compares: brackets, bases, and digits.

(a, b) is a pair or an open interval, which are written alike, and {a, b} a set: one is never the other. Without
brackets, a, b is any of the two: in order against a pair, in any order against a set or another such list.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from judges.rules.numerals import Number, spelled

OPENING, CLOSING = "([{⟨", ")]}⟩"
BRACKETS = {"()": "pair", "⟨⟩": "set"}
BASED = re.compile(
    r"\(?([0-9A-Za-z]+)\)?(?:_\s*(?:\{\s*(?:\\text\s*\{)?\s*(?:base\s*)?(\w+)\s*\}?\s*\}|(\d+))"
    r"|\s*\(?(?:in )?base[\s-](\w+)\)?)"
)
BASES = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "sixteen": 16,
}
MILLIONTH = Fraction(1, 10**6)


class Numeral(NamedTuple):
    """Digits, and what they come to in their base."""

    digits: str
    value: int


def numeral(tidied: str) -> Numeral | None:
    """12_8, 12_{10}, FF_{16}, 101 base 2."""
    match = BASED.fullmatch(tidied.strip(" $"))
    if match is None or not re.search(r"^\d|\w\d|[A-Fa-f]{2}", match[1]):
        return None
    name = next(part for part in match.groups()[1:] if part)
    base = BASES.get(name.lower(), int(name) if name.isdecimal() and len(name) < 3 else 0)
    if not 2 <= base <= 36 or any(int(digit, 36) >= base for digit in match[1]):
        return None
    return Numeral(match[1].lower().lstrip("0"), int(match[1], base))


def same(gold: Number, answer: Number) -> bool:
    """Whether two numbers are equal. A percentage is equal to its number and to its hundredth: 50% to 50 and to 0.5."""
    if gold.percent == answer.percent:
        return _equal(gold.value, answer.value, gold.exact and answer.exact)
    share, other = (gold, answer) if gold.percent else (answer, gold)
    exact = gold.exact and answer.exact
    return _equal(share.value, other.value, exact) or _equal(share.value / 100, other.value, exact)


def near(one: Fraction, other: Fraction) -> bool:
    """Whether two numbers, one of them a decimal, are equal to six decimals and to six significant digits.

    A decimal of six places may be rounded: 0.083333 is a twelfth. That is no excuse below a ten-thousandth.
    """
    size, gap = max(abs(one), abs(other)), abs(one - other)
    if round(one, 6) != round(other, 6):
        return False
    if gap <= size * MILLIONTH:
        return True
    coarse, fine = sorted((one, other), key=_places)
    return size * 10**4 >= 1 and 6 <= _places(coarse) < 100 and round(fine, int(_places(coarse))) == coarse


def unlike(gold: str, answer: str) -> bool:
    """Whether one is a pair and the other a set."""
    return {kind(gold), kind(answer)} == {"pair", "set"}


def ordered(gold: str, answer: str) -> bool:
    """Whether a list without brackets stands for the pair that was given as an answer, and so has an order."""
    return (kind(gold), kind(answer)) == ("list", "pair")


def kind(tidied: str) -> str | None:
    """`pair`, `set` or `list` (values without brackets); None for anything else."""
    text = re.sub(r"\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])|[$\s]", "", tidied)
    text = re.sub(r"^.*(?:(?<![<>!])=|\\in(?![a-z]))", "", text.replace("\\{", "⟨").replace("\\}", "⟩"))
    depth, commas, closed = 0, set[int](), 0
    for place, character in enumerate(text):
        depth += (character in OPENING) - (character in CLOSING)
        commas |= {depth} if character == "," else set()
        closed += depth == 0 and place < len(text) - 1
    if 0 in commas:
        return "list"
    return BRACKETS.get(text[:1] + text[-1:]) if closed == 0 and (1 in commas or text[:1] == "⟨") else None


def _equal(one: Fraction, other: Fraction, exact: bool) -> bool:
    return one == other or (not exact and near(one, other))


def _places(number: Fraction) -> float:
    """Decimal places; infinity where they do not end."""
    text = spelled(number)
    return float("inf") if "/" in text else len(text.partition(".")[2])
