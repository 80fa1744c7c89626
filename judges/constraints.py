"""Instructions that a program can check: so many words, no commas, a keyword three times.

In the manner of IFEval (Zhou et al. 2023, arXiv 2311.07911, section 2 and table 1), in terms of our own. A list of
constraints is kept as a whole or it is not; `detail` says which was the first that was not.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from flywheel.errors import RecipeError
from flywheel.overrides import annotations, convert
from flywheel.recipe import named
from flywheel.tables import Chat
from judges.format import parsed
from judges.rules import Verdict, votes

Span = tuple[int | None, int | None]
"""The least and the most of something, both allowed; None for no bound."""

WORD = re.compile(r"\w+(?:['’-]\w+)*")
SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]*_]*\s+(?![a-z])|\n+")
PARAGRAPH_END = re.compile(r"\n\s*\n")
BULLET = re.compile(r"^[ \t]*[-*•+][ \t]+\S", re.MULTILINE)
NUMBERED = re.compile(r"^[ \t]*\d+[.)][ \t]+\S", re.MULTILINE)
SECTION = re.compile(
    r"^(?:#{1,6}[ \t]+\S|\W{0,3}(?i:section|part|chapter|paragraph)[ \t]+(?:\d+|[IVX]+)\b)", re.MULTILINE
)
HIGHLIGHT = re.compile(r"\*{1,2}[^\s*](?:[^*\n]*[^\s*])?\*{1,2}")
PLACEHOLDER = re.compile(r"\[[^\[\]\n]+\]")
TITLE = re.compile(r"<<[^<>\n]+>>")


def pieces(end: re.Pattern[str], text: str) -> int:
    """How many pieces with a word in them there are between the ends."""
    return sum(1 for piece in end.split(text) if WORD.search(piece))


COUNTED: Mapping[str, Callable[[str], int]] = {
    "words": lambda text: len(WORD.findall(text)),
    "sentences": lambda text: pieces(SENTENCE_END, text),
    "paragraphs": lambda text: pieces(PARAGRAPH_END, text),
    "sections": lambda text: len(SECTION.findall(text)),
    "bullets": lambda text: len(BULLET.findall(text)),
    "numbered": lambda text: len(NUMBERED.findall(text)),
    "highlights": lambda text: len(HIGHLIGHT.findall(text)),
    "placeholders": lambda text: len(PLACEHOLDER.findall(text)),
    "titles": lambda text: len(TITLE.findall(text)),
    "capitals": lambda text: sum(1 for word in WORD.findall(text) if word.isupper() and len(word) > 1),
    "commas": lambda text: text.count(","),
}
"""What is counted, and how."""


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Right if the text keeps all constraints: those of the fields, and those of the prompt.

    The prompt's are in `meta`, under "constraints" and by the same names: {"constraints": {"words": [100, null],
    "keywords": {"wheel": [2, 2], "magic": [0, 0]}, "ends_with": "The end."}}. `error` where neither says anything.

    A sentence ends with a full stop and the like or with its line, and does not go on with a small letter; paragraphs
    have empty lines between them; a section begins with a Markdown heading or a line such as "Section 2"; `numbered`
    are list items such as "1."; `highlights` are *so* or **so**, `placeholders` [so], `titles` <<so>>; `capitals` are
    words of two capitals or more. Keywords are found whole. They, the beginning and the end may be in any case.
    """

    words: Span | None = None
    sentences: Span | None = None
    paragraphs: Span | None = None
    sections: Span | None = None
    bullets: Span | None = None
    numbered: Span | None = None
    highlights: Span | None = None
    placeholders: Span | None = None
    titles: Span | None = None
    capitals: Span | None = None
    commas: Span | None = None
    keywords: Mapping[str, Span] | None = None
    starts_with: str | None = None
    ends_with: str | None = None
    case: Literal["lower", "upper"] | None = None
    json: bool | None = None
    model = None

    def __post_init__(self) -> None:
        for what, span in {**{name: getattr(self, name) for name in COUNTED}, **(self.keywords or {})}.items():
            if span is not None and not _is_span(span):
                raise RecipeError(f"Constraints: {what} is (least, most) such as (1, 3) or (2, None), not {span!r}")
        if self.case not in (None, "lower", "upper"):
            raise RecipeError(f"Constraints: case is 'lower' or 'upper', not {self.case!r}")

    @property
    def name(self) -> str:
        """Type and parameters."""
        return named(self)

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        """A rule asks nothing."""
        return []

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """VOTES on SUBJECTS."""
        pairs = zip(subjects["text"], subjects["meta"], strict=True)
        return votes(self.name, subjects, (self._verdict(text, meta) for text, meta in pairs))

    def _verdict(self, text: str, meta: str | None) -> Verdict:
        try:
            both = (self, self._of_prompt(json.loads(meta or "{}").get("constraints", {})))
        except (AttributeError, KeyError, TypeError, ValueError, RecipeError) as error:
            return Verdict("error", None, f"no constraints in meta: {error!r}"[:200])
        if all(one == Constraints() for one in both):
            return Verdict("error", None, "no constraints")
        if not text.strip():
            return Verdict("unparsable", None, "no answer")
        broken = next((fault for one in both for fault in one.faults(text)), None)
        return Verdict("ok", float(broken is None), broken and broken[:200])

    def _of_prompt(self, settings: Mapping[str, Any]) -> "Constraints":
        kinds = annotations(self)
        return Constraints(**{name: convert(value, kinds[name]) for name, value in settings.items()})

    def faults(self, text: str) -> Iterator[str]:
        """The constraints that a text does not keep, in words."""
        for what, count in COUNTED.items():
            yield from _outside(what, count(text), getattr(self, what))
        for word, span in (self.keywords or {}).items():
            whole = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
            yield from _outside(f"keyword {word!r}", len(whole.findall(text)), span)
        bare = text.strip().casefold()
        if self.starts_with and not bare.startswith(self.starts_with.strip().casefold()):
            yield f"does not start with {self.starts_with!r}"
        if self.ends_with and not bare.endswith(self.ends_with.strip().casefold()):
            yield f"does not end with {self.ends_with!r}"
        if self.case and text != (text.lower() if self.case == "lower" else text.upper()):
            yield f"is not all in {self.case} case"
        if self.json and not _is_json(text):
            yield "is no JSON"


def _is_span(span: Any) -> bool:
    if not isinstance(span, tuple | list) or len(span) != 2:
        return False
    least, most = (0 if span[0] is None else span[0]), span[1]
    return isinstance(least, int) and (most is None or (isinstance(most, int) and 0 <= least <= most))


def _outside(what: str, count: int, span: Span | None) -> Iterator[str]:
    """What is wrong with a count, if anything is."""
    least, most = span or (None, None)
    if least is not None and count < least:
        yield f"{what}: {count}, at least {least}"
    if most is not None and count > most:
        yield f"{what}: {count}, at most {most}"


def _is_json(text: str) -> bool:
    try:
        parsed(text)
    except ValueError:
        return False
    return True
