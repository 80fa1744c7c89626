"""Markdown of which no word, whoever wrote it, is more than a word: for cards that hold what a model wrote."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flywheel.identity import MADE

SPECIAL = re.compile(r"([\\`*_\[\]#!|<>~$&@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
"""What can be markup within a line: emphasis, code, links, pictures, HTML, tables, formulas, mentions, addresses."""
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
"""Control characters, and those that turn the direction of the text around them."""
TEXT_CHARACTERS = 400
"""Characters of a text that is shown."""


def inline(value: Any) -> str:
    """A value within a line: one line of plain text, with a backslash before each character that could be markup."""
    if isinstance(value, float):
        value = f"{value:.4g}"
    text = "" if value is None else " ".join(UNSEEN.sub("\ufffd", str(value)).split())
    return SPECIAL.sub(r"\\\1", text)


def fenced(text: str, language: str = "text") -> str:
    """A block that shows a text as it is, cut where it is long; its fence is longer than any in the text."""
    shown = UNSEEN.sub("\ufffd", text.replace("\r\n", "\n"))
    if len(shown) > TEXT_CHARACTERS:
        shown = f"{shown[:TEXT_CHARACTERS]}…"
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence}{language}\n{shown}\n{fence}"


def card_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table."""
    lines = [[*names], ["---"] * len(names), *([inline(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def header(values: Mapping[str, Any]) -> str:
    """The YAML block at the head of a card."""
    import yaml

    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{text}---\n"


def setting(value: Any) -> str:
    """A part of a recipe, from its JSON, as it is written in one: Sft(lr=1e-05, epochs=1); long texts are left out."""
    if isinstance(value, Mapping):
        inner = {name: item for name, item in value.items() if name not in MADE and item is not None}
        named = [f"{name}={setting(item)}" for name, item in inner.items() if len(setting(item)) <= 60]
        return f"{value.get('is', '')}({', '.join(named)})"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(setting(item) for item in value)}]"
    return str(value)
