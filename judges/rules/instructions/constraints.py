"""Instructions that a program can check: so many words, no commas, a keyword three times.

In the manner of IFEval (Zhou et al. 2023, arXiv 2311.07911, section 2 and table 1), in terms of our own; or in IFEval's
own, by its names, so that scores can be compared. A list of constraints is kept as a whole or it is not; `detail` says
which was the first that was not.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from flywheel.errors import RecipeError
from flywheel.protocols import Verdict
from flywheel.recipe.overrides import annotations, convert
from flywheel.text.thoughts import THOUGHTS, Markers, after_thought
from judges.rules.instructions.asked import ASKED, COUNTED_WORD, PARAGRAPH_END
from judges.rules.instructions.ifeval import Kept, instructions, variants
from judges.verdict import ENDLESS, Rule

Span = tuple[int | None, int | None]
"""The least and the most of something, both allowed; None for no bound."""
Check = Callable[[str], str | None]
"""What is wrong with a text, or None."""

SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]*_]*\s+(?![a-z])|\n+")
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
    return sum(1 for piece in end.split(text) if COUNTED_WORD.search(piece))


COUNTED: Mapping[str, Callable[[str], int]] = {
    "words": lambda text: len(COUNTED_WORD.findall(text)),
    "sentences": lambda text: pieces(SENTENCE_END, text),
    "paragraphs": lambda text: pieces(PARAGRAPH_END, text),
    "sections": lambda text: len(SECTION.findall(text)),
    "bullets": lambda text: len(BULLET.findall(text)),
    "numbered": lambda text: len(NUMBERED.findall(text)),
    "highlights": lambda text: len(HIGHLIGHT.findall(text)),
    "placeholders": lambda text: len(PLACEHOLDER.findall(text)),
    "titles": lambda text: len(TITLE.findall(text)),
    "capitals": lambda text: sum(1 for word in COUNTED_WORD.findall(text) if word.isupper() and len(word) > 1),
    "commas": lambda text: text.count(","),
}
"""What is counted, and how."""


@dataclass(frozen=True, kw_only=True)
class Constraints(Rule):
    """Right if the text keeps all constraints: those of the fields, and those of the prompt.

    The prompt's are in `meta`, under "constraints" and by the same names: {"constraints": {"words": [100, null],
    "keywords": {"wheel": [2, 2], "magic": [0, 0]}, "ends_with": "The end."}}; or as IFEval's data have them, in
    "instruction_id_list" and "kwargs", and then they mean what they mean there (`ifeval.py`). `error` where neither
    says anything.

    A sentence ends with a full stop and the like or with its line, and does not go on with a small letter; paragraphs
    have empty lines between them; a section begins with a Markdown heading or a line such as "Section 2"; `numbered`
    are list items such as "1."; `highlights` are *so* or **so**, `placeholders` [so], `titles` <<so>>; `capitals` are
    words of two capitals or more; `responses` differ and have ****** between them. Keywords are found whole. They,
    letters, the beginning, the end and `first_words`, such as (2, "then") for the second paragraph, may be in any case.
    `one_of` is all that the text may be. `language` is a code such as "en".

    With `loose`, as IFEval defines it, a constraint is also kept where the text would keep it without its first line,
    its last line or both, or without asterisks.
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
    responses: Span | None = None
    letters: Mapping[str, Span] | None = None
    first_words: tuple[tuple[int, str], ...] | None = None
    one_of: tuple[str, ...] | None = None
    language: str | None = None
    loose: bool = False
    thoughts: Markers = THOUGHTS
    version: ClassVar[int] = 2  # thoughts before the answer go

    def __post_init__(self) -> None:
        counted = {name: getattr(self, name) for name in (*COUNTED, "responses")}
        spans = {**counted, **(self.keywords or {}), **(self.letters or {})}
        for what, span in spans.items():
            if span is not None and not _is_span(span):
                raise RecipeError(f"Constraints: {what} is (least, most) such as (1, 3) or (2, None), not {span!r}")
        if self.case not in (None, "lower", "upper"):
            raise RecipeError(f"Constraints: case is 'lower' or 'upper', not {self.case!r}")
        if any(len(letter) != 1 for letter in self.letters or {}):
            raise RecipeError(f"Constraints: letters are single ones, not all of {list(self.letters or {})}")
        if any(number < 1 or not word.strip() for number, word in self.first_words or ()):
            raise RecipeError(f"Constraints: first_words are such as (1, 'Dear'), not all of {self.first_words!r}")

    def verdict(self, text: str, reference: str | None, meta: str | None) -> Verdict:
        """As Verifier. Raises EngineMissing where a language is asked for and langdetect is not installed."""
        try:
            checks = [*self.checks(), *self._of_prompt(json.loads(meta or "{}"))]
        except (AttributeError, KeyError, TypeError, ValueError, RecipeError) as error:
            return Verdict("error", None, f"no constraints in meta: {error!r}"[:200])
        if not checks:
            return Verdict("error", None, "no constraints")
        said = after_thought(text, self.thoughts)
        if said is None:
            return ENDLESS
        if not said.strip():
            return Verdict("unparsable", None, "no answer")
        texts = variants(said if said == text else said.lstrip())
        broken = next(filter(None, (_fault(check, texts if self.loose else texts[:1]) for check in checks)), None)
        return Verdict("ok", float(broken is None), broken and broken[:200])

    def _of_prompt(self, meta: Mapping[str, Any]) -> Iterator[Check]:
        kinds = {name: kind for name, kind in annotations(self).items() if name not in ("loose", "thoughts")}
        settings = meta.get("constraints", {})
        yield from Constraints(**{name: convert(value, kinds[name]) for name, value in settings.items()}).checks()
        yield from (partial(_named, name, kept) for name, kept in instructions(meta))

    def checks(self) -> Iterator[Check]:
        """What each constraint has to say of a text."""
        for what, count in COUNTED.items():
            yield from _counted(what, count, getattr(self, what))
        for word, span in (self.keywords or {}).items():
            whole = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
            yield from _counted(f"keyword {word!r}", partial(_matches, whole), span)
        for letter, span in (self.letters or {}).items():
            yield from _counted(f"letter {letter!r}", partial(_matches, re.compile(re.escape(letter), re.I)), span)
        yield from _counted("responses", responses, self.responses)
        for name, fault in ASKED.items():
            if (asked := getattr(self, name)) not in (None, "", False):
                yield partial(fault, asked)


def _is_span(span: Any) -> bool:
    if not isinstance(span, tuple | list) or len(span) != 2:
        return False
    least, most = (0 if span[0] is None else span[0]), span[1]
    return isinstance(least, int) and (most is None or (isinstance(most, int) and 0 <= least <= most))


def _counted(what: str, count: Callable[[str], int], span: Span | None) -> Iterator[Check]:
    if span is not None:
        yield lambda text: _outside(what, count(text), span)


def _outside(what: str, count: int, span: Span) -> str | None:
    """What is wrong with a count, if anything is."""
    least, most = span
    if least is not None and count < least:
        return f"{what}: {count}, at least {least}"
    return f"{what}: {count}, at most {most}" if most is not None and count > most else None


def responses(text: str) -> int:
    """How many texts that differ there are between dividers of six asterisks."""
    return len({part.strip() for part in text.split("******")} - {""})


def _matches(pattern: re.Pattern[str], text: str) -> int:
    return sum(1 for _ in pattern.finditer(text))


def _fault(check: Check, texts: list[str]) -> str | None:
    """What is wrong with the first of the texts, if anything is with each of them."""
    faults = [check(text) if text.strip() else "is empty" for text in texts]
    return faults[0] if all(faults) else None


def _named(name: str, kept: Kept, text: str) -> str | None:
    return None if kept(text) else f"{name} is not kept"
