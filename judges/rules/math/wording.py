"""What an answer in words says: its number, several numbers, or nothing but words.

"$12 for 3 people" is 12, "12 (not 13)" is 12, "4 for n = 3" is 4. "5 or 6", "between 5 and 7" and "6 apples and 7
pears" are two numbers, and so none of them. Arnold is a word, and no product of six letters.
"""

import re

from judges.rules.math.notation import as_typed
from judges.rules.numerals import FoundNumber, Number, either, numbers

SENTENCE = re.compile(r"(?<=[.!?])[\s*]+(?=[A-Z$*(])|\n+")
ANNOUNCED_NUMBER = re.compile(r"(?i).*\b(?:answer|result|total)\s+(?:is|was|equals|=|:)\s*:?")
LOOSE = r"[-+]?[$€£]?\s?-?\.?\d[\d.,/]*(?:%|\b)"
NEGATED = re.compile(
    rf"(?i)[(,]?\s*\b(?:and |but )?(?:\w+n't|not|rather than|instead of)\s+(?:a |the |be |equal to )?{LOOSE}\)?"
)
CONDITION = re.compile(rf"(?i),?\s*\b(?:for|when|if|where|with|at|given|assuming)\s+[a-z]\s*(?:=|is|[<>≤≥])\s*{LOOSE}")
ASIDE = re.compile(r"\((?!\s*(?:or|and|to)\b)(?=[^()]*[A-Za-z=])[^()]*\)")
REASON = re.compile(r"(?is)(?<=\d)(?!\d).{0,40}?\b(?:because|since)\b.*")
HEAD = re.compile(
    r"(?i)\W*(?:(?:about|approximately|approx|around|roughly|exactly|only|just|maybe|perhaps|either|a total of"
    r"|[a-z]\s*=)\W*)?"
)
LISTED = re.compile(
    r"(?i)(?:\s*[a-z][\w'/-]*){0,3}\s*(?:,\s*(?:and|or)?|;|\band\b|\bor\b|&)\s*(?:[a-z]\s*=|maybe|perhaps|possibly)?\W*"
)
NUMBER_BESIDE = re.compile(
    r"(?i)(?:\s*[a-z][\w'/-]*){0,2}\s*(?:\band\b|\bor\b|&)\s*(?:maybe|perhaps|possibly)?\W*|\s*,\W*"
)
NEXT_UNIT = re.compile(
    r"(?i)\s*(?!(?:for|in|per|of|at|every|each|after|to|by|from|on|over|with|times|more|less|out|if|when)\b)[a-z'\"]+\.?\s+"
)
CONCLUDED = re.compile(r"(?i)\b(?:so|thus|therefore|hence|making|giving|total|altogether)\b")
OPERATOR = re.compile(r"\W*[-+*/×÷^]\W*|\s+[xX]\s+|\s*")
FORMULA = re.compile(r"[\\^{}_|<>√]|\d\(|\)\s?\(|\d\s?[abkn-qu-z]\b|[A-Za-z]\(|/\d+!")
UNIT = (
    r"cm|mm|km|kg|mg|ml|cl|lbs?|oz|ft|in|yd|mi|mph|kph|km/h|m/s|mins?|secs?|hrs?|th|st|nd|rd|cents?|degrees?|years?|days?|"
    r"hours?|minutes?|seconds?"
)
QUANTITY = re.compile(rf"\s?(?:%|per\s?cent(?:age)?\b)?\s*(?:(?:{UNIT})\b)?(?:\s+[A-Za-z°'\"/. -]*)?[\s.,;:$?)\]*]*")
NO_UNIT = re.compile(
    r"(?i)\b(?:[abe-fi-knp-rt-z]|and|or|not|plus|minus|times|to|over|by|divided|squared|cubed|mod|base|pi|sqrt|if|for|when"
    r"|where|is|are|half|hundred|thousand|million|billion|trillion|dozen)\b"
)
VARIABLE = re.compile(
    r"(?<![A-Za-z\\])[A-Za-z]\s*[-+*/^]|[-+*^]\s*[A-Za-z](?![A-Za-z])|/\s*[a-zA-Z](?<![dghlms])(?![A-Za-z])"
    r"|\d\s?[a-z](?![A-Za-z])|\^|\\sqrt|\\pi\b"
)
"""What makes a formula of a text around a number: x+5, 5x, 2/x, 5^{2}."""
TYPED_FUNCTION = re.compile(r"(?<![A-Za-z\\])(?:sqrt|ln|log|sin|cos|tan|exp|pi)(?![A-Za-z])|\d!")
TOWER = re.compile(r"\^\s*\w+\s*\^")
"""LaTeX reads 2^3^2 from the left, where people mean it from the right."""
RELATION = re.compile(r"[<>|]|!=|\\(?:le|ge|ne|neq|leq|geq|lt|gt|pm|mp)(?![A-Za-z])")
FUNCTION_WORDS = frozenset(
    ("sqrt", "log", "sin", "cos", "tan", "exp", "frac", "boxed", "left", "right", "leq", "geq", "neq")
)
LETTERS = re.compile(r"[A-Za-z]+")
ONLY_WORDS = re.compile(r"[A-Za-z\s,.;:'\"!?()&-]+")
PRODUCT = re.compile(r"(?i)[abcdxyz]+|[b-df-hj-np-tv-z]+|[a-z]|a[b-df-hj-np-tv-z]|[b-df-hj-np-tv-z]a")
PROSE = 6
"""Words from which on a text is no formula."""


def quantity(tidied: str) -> Number | None:
    """The number that the whole text is, with or without its unit."""
    text = as_typed(tidied)
    found = list(numbers(text)) if len(text) < 200 else []
    if len(found) != 1 or found[0].number is None or re.fullmatch(r"[\s$*(=≈+]*", text[: found[0].start]) is None:
        return None
    unit = text[found[0].end :]
    return found[0].number if QUANTITY.fullmatch(unit) and not NO_UNIT.search(unit) else None


def number_said(tidied: str, marked: bool) -> tuple[Number, ...] | None:
    """The number that a text gives as its answer, or the several numbers; None where it has to be read as a formula.

    `marked`: the text is what follows a marker, and so its number may come first.
    """
    sentences = [text for text in SENTENCE.split(as_typed(tidied)) if re.search(r"\d", text)]
    if not sentences:
        return None
    text = sentences[0 if marked else -1]
    if not marked and (announced := ANNOUNCED_NUMBER.match(text)) and re.search(r"\d", text[announced.end() :]):
        text, marked = text[announced.end() :], True
    for dropped in (NEGATED, CONDITION, REASON, ASIDE):
        text = _without(dropped, text)
    return _numbers(text, marked)


def formula(tidied: str) -> str | None:
    """`read` for an answer that is a formula and no number, `unclear` for one that LaTeX does not read as it is meant,
    or that says how large a number may be; None for numbers, and for sentences."""
    text = as_typed(tidied)
    words = {word.lower() for word in LETTERS.findall(text) if len(word) > 2}
    if words - FUNCTION_WORDS or len(text) > 60 or not re.search(r"\d", text):
        return None
    if RELATION.search(text):
        return "unclear"
    side = text.rpartition("=")[2]
    if quantity(side) is not None or not re.search(r"\d", side) or TOWER.search(side):
        return None
    if TYPED_FUNCTION.search(side):
        return "unclear"
    return "read" if VARIABLE.search(side) else None


def answer_words(tidied: str) -> tuple[str, ...] | None:
    """The words of an answer that is nothing but words, in lower case and in order; those of a list are sorted."""
    text = as_typed(tidied).replace("$", "")
    runs = LETTERS.findall(text)
    if not ONLY_WORDS.fullmatch(text) or not any(map(_word, runs)):
        return None
    parts = [" ".join(LETTERS.findall(part)).lower() for part in re.split(r"[,;&]|\band\b", text)]
    return tuple(sorted(part for part in parts if part))


def sentence(tidied: str) -> bool:
    """Whether a text is a sentence around one number: no date, no name of a thing."""
    text = as_typed(tidied)
    return len(text) < 200 and len(list(numbers(text))) == 1 and len(re.findall(r"[A-Za-z]{2,}", text)) > 2


def prose(tidied: str) -> bool:
    """Whether a text is too wordy to be a formula."""
    text = re.sub(r"\\(?:begin|end)\s*\{\w*\}|\\[A-Za-z]+", " ", tidied)
    return len(re.findall(r"[A-Za-z]{3,}", text)) >= PROSE


def _word(letters: str) -> bool:
    """Whether letters are read as a word or a name: they could be pronounced, or are three capitals or more."""
    return not PRODUCT.fullmatch(letters) or (len(letters) > 2 and letters.isupper())


def _without(pattern: re.Pattern[str], text: str) -> str:
    """The text without what the pattern finds, unless that is all there is to read."""
    rest = REASON.sub(lambda found: "", text) if pattern is REASON else pattern.sub(" ", text)
    return rest if re.search(r"\d", rest) or pattern is NEGATED else text


def _numbers(text: str, marked: bool) -> tuple[Number, ...] | None:
    if len(clauses := re.split(r"(?i),\s|;|\bor\b|\band\b", text)) > 1 and sum("=" in part for part in clauses) > 1:
        each = [_numbers(part, marked) for part in clauses]
        return None if None in each else tuple(number for part in each if part for number in part)
    if "=" in text:
        return next((one for side in (*text.split("=")[:0:-1], text) if (one := _side(side, marked))), None)
    return _side(text, marked)


def _side(text: str, marked: bool) -> tuple[Number, ...] | None:
    """The number of a text without equations."""
    found = list(numbers(text))
    if not found:
        return () if not FORMULA.search(text) else None
    if FORMULA.search(text) or "=" in text or any(one.number is None for one in found):
        return None
    first = marked and found[0].start <= HEAD.match(text).end()  # type: ignore[union-attr]
    pair = found[:2] if first else found[-2:]
    chosen = found[0] if first else found[-1]
    assert chosen.number is not None
    if len(pair) < 2:
        return (chosen.number,)
    gap = text[pair[0].end : pair[1].start]
    if OPERATOR.fullmatch(gap):
        return None
    listed = (
        LISTED.fullmatch(gap) or NEXT_UNIT.fullmatch(gap) or CONCLUDED.search(gap)
        if first
        else NUMBER_BESIDE.fullmatch(gap)
    )
    if either(text, *pair) or listed:
        return _distinct(found)
    return (chosen.number,)


def _distinct(found: list[FoundNumber]) -> tuple[Number, ...]:
    """The different numbers, in their order: 0.5 or 1/2 is one."""
    return tuple({one.number.value: one.number for one in found if one.number}.values())
