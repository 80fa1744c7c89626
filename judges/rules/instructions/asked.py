"""What `Constraints` may ask of a text that is no count: what is wrong with a text that does not keep it."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from judges.rules.format import parsed
from judges.rules.instructions.splitters import language

COUNTED_WORD = re.compile(r"\w+(?:['’-]\w+)*")
PARAGRAPH_END = re.compile(r"\n\s*\n")


def _start(asked: str, text: str) -> str | None:
    right = text.strip().casefold().startswith(asked.strip().casefold())
    return None if right else f"does not start with {asked!r}"


def _end(asked: str, text: str) -> str | None:
    return None if text.strip().casefold().endswith(asked.strip().casefold()) else f"does not end with {asked!r}"


def _case(asked: str, text: str) -> str | None:
    return None if text == (text.lower() if asked == "lower" else text.upper()) else f"is not all in {asked} case"


def _is_json(asked: bool, text: str) -> str | None:
    try:
        parsed(text)
    except ValueError:
        return "is no JSON"
    return None


def _first_words(asked: tuple[tuple[int, str], ...], text: str) -> str | None:
    parts = [part for part in PARAGRAPH_END.split(text) if COUNTED_WORD.search(part)]
    for number, word in asked:
        first = COUNTED_WORD.search(parts[number - 1]) if number <= len(parts) else None
        if first is None or first[0].casefold() != word.strip().casefold():
            return f"paragraph {number} does not begin with {word!r}"
    return None


def _one_of(asked: tuple[str, ...], text: str) -> str | None:
    return None if text.strip() in {one.strip() for one in asked} else "is none of what it may be"


def _language(asked: str, text: str) -> str | None:
    found = language(text)
    return None if found == asked else f"is in {found or 'no language that can be told'}, not in {asked}"


ASKED: Mapping[str, Callable[[Any, str], str | None]] = {
    **{"starts_with": _start, "ends_with": _end, "case": _case, "json": _is_json},
    **{"first_words": _first_words, "one_of": _one_of, "language": _language},
}
"""What is asked that is no count, and what is wrong with a text."""
