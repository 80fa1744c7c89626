"""How people write numbers, each read exactly: 1,234.50, 2 1/4, 1.5e3, 3/4, 70{,}000, \\frac{3}{4}, $-5.

What two people would read as two numbers is none: 125,96 (a decimal comma, or a list), 1.234.567, 10:30, 12_8.
"""

import re
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

from judges.rules.math.notation import VULGAR, as_typed, tidy

SIZE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
NUMBER = re.compile(
    r"(?P<sign>(?<![\w.)\]}%])-)?"  # not the hyphen of "3-4"
    r"(?:[$€£¥₹]\s?(?P<inner>-)?)?"
    r"(?:(?P<whole>[0-9]{1,3}(?:,[0-9]{3}){1,3}|[0-9]{1,9})\s+(?P<top>[0-9]{1,9})\s?/\s?(?P<below>[0-9]{1,9})(?!\.?[0-9]|/)"
    r"|(?P<body>\.?[0-9](?:[0-9]|[.,:](?=[0-9])|\s?/\s?(?=[0-9])|[eE](?=[-+]?[0-9]{1,3}(?![\w.]*\w))|(?<=[eE])[-+])*))"
)
PLAIN_NUMERAL = re.compile(rf"(?P<size>{SIZE})(?:[eE](?P<power>[-+]?[0-9]{{1,3}}))?")
RATIO = re.compile(rf"(?P<size>{SIZE})\s?/\s?(?P<under>[0-9]+)")
LIST = re.compile(r"[0-9]{1,2}(?:,[0-9]{1,2}){2,}")
INSIDE = re.compile(r"(?:√|sqrt|frac|[\^_]|[}\]]\{)\s*[{(]?-?$")
HALVES = re.compile(r"[0-9]\s?(?:-|and\s|&\s)\s?$")
GOES_ON = re.compile(r"\s*(?:\\?sqrt\b|√|\\pi\b|π|\\frac)|\s?\^|_\{?\w")
PERCENT = re.compile(r"\s*(?:%|per\s?cent\b)")
EITHER = re.compile(r"\W*\b(?:or|to)\b(?:\s+(?:maybe|perhaps|possibly|even))?\W*|\s?[-–±]\s?")
DIGIT = re.compile(rf"[\d{''.join(VULGAR)}]")
LAST_DIGIT = re.compile(rf"(?s).*[\d{''.join(VULGAR)}]")
LONGEST_NUMBER = 100
"""Characters of the longest number that is read: a longer one is no answer, and would only cost time and space."""

AROUND = 4 * LONGEST_NUMBER


class Number(NamedTuple):
    """`exact`: no decimal, which may have been rounded. `percent`: a percent sign follows."""

    value: Fraction
    exact: bool
    percent: bool = False


class FoundNumber(NamedTuple):
    """A number in a text, and where it stands; None where it is not clear which it is."""

    start: int
    end: int
    number: Number | None


def numbers(text: str) -> Iterator[FoundNumber]:
    """The numbers of a text `as_typed`, in order. Of a list such as 1,2,3 only the first and the last."""
    for match in NUMBER.finditer(text):
        body = match["body"] or ""
        if len(body) > 4 and LIST.fullmatch(body):
            first, final = body.partition(",")[0], body.rpartition(",")[2]
            yield FoundNumber(match.start(), match.end("body") - len(body) + len(first), _number(match, first))
            yield FoundNumber(match.end() - len(final), match.end(), _number(match, final, signed=False))
        else:
            yield FoundNumber(match.start(), match.end(), _number(match, body))


def first_number(text: str) -> Fraction | None:
    """The first number of a text, or None if there is none or it is not clear which it is."""
    return _value(list(islice(numbers(_around(text, last=False)), 1)))


def last_number(text: str) -> Fraction | None:
    """The last number of a text, or None if there is none or it is not clear which it is."""
    return _value(list(deque(numbers(_around(text, last=True)), maxlen=1)))


def one_number(text: str, last: bool) -> Fraction | None:
    """The last or the first number of a text, but None where it is one of several: "5 or 6", "between 5 and 7"."""
    text = _around(text, last)
    found = list(deque(numbers(text), maxlen=2) if last else islice(numbers(text), 2))
    several = len(found) == 2 and either(text, *found)
    return None if several else _value(found[-1:] if last else found[:1])


def either(text: str, one: FoundNumber, other: FoundNumber) -> bool:
    """Whether two numbers that follow each other stand for one that is either, or lies between."""
    gap, before = text[one.end : other.start], text[max(0, one.start - 12) : one.start].lower().rstrip("$* ")
    if len(gap) > 30 or before.endswith("from"):  # from 5 to 6 is a change
        return False
    return bool(EITHER.fullmatch(gap) or (before.endswith("between") and re.fullmatch(r"\W+and\W+", gap)))


def spelled(number: Fraction) -> str:
    """One spelling for equal numbers: 1,234.50 is 1234.5, and 2/6 is 1/3."""
    below, places = number.denominator, 0
    while below % 10 == 0 or below % 5 == 0 or below % 2 == 0:
        below, places = below // (10 if below % 10 == 0 else 5 if below % 5 == 0 else 2), places + 1
    if below != 1 or places == 0:
        return str(number)
    digits = str(abs(number.numerator) * 10**places // number.denominator).rjust(places + 1, "0")
    return ("-" if number < 0 else "") + f"{digits[:-places]}.{digits[-places:]}"


def _around(text: str, last: bool) -> str:
    """What stands around the last or the first digit of a text `as_typed`: it may be megabytes."""
    found = LAST_DIGIT.match(text) if last else DIGIT.search(text)
    digit = found.end() if found else 0
    return as_typed(tidy(text[max(0, digit - AROUND) : digit + AROUND]))


def _value(found: list[FoundNumber]) -> Fraction | None:
    return found[0].number.value if found and found[0].number else None


def _number(match: re.Match[str], body: str, signed: bool = True) -> Number | None:
    text = match.string
    before, after = text[max(0, match.start() - 12) : match.start()], text[match.end() : match.end() + 12]
    if INSIDE.search(before) or GOES_ON.match(after) or ("/" in body and HALVES.search(before)):
        return None
    size = _size(body) if body else _mixed(match)
    if size is None:
        return None
    minus = signed and (match["sign"] or match["inner"])
    exact = not {".", "e", "E"} & {*body}
    return Number(-size if minus else size, exact, PERCENT.match(after) is not None)


def _size(body: str) -> Fraction | None:
    if len(body) > LONGEST_NUMBER:
        return None
    if match := PLAIN_NUMERAL.fullmatch(body):
        return Fraction(match["size"].replace(",", "")) * Fraction(10) ** int(match["power"] or 0)
    match = RATIO.fullmatch(body)
    return Fraction(match["size"].replace(",", "")) / int(match["under"]) if match and int(match["under"]) else None


def _mixed(match: re.Match[str]) -> Fraction | None:
    """2 1/4; but 2 7/4 is no number."""
    whole, top, below = (int(match[part].replace(",", "")) for part in ("whole", "top", "below"))
    return whole + Fraction(top, below) if top < below else None
