"""A judge that grades one answer at a time by a list of criteria, and explains its points before it gives them."""

import math
import re
from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from flywheel.errors import RecipeError
from flywheel.protocols import Asked, Sampling, Verdict
from flywheel.store.schema import VOTES, Chat
from flywheel.text.thoughts import THOUGHTS, Markers, after_thought
from judges.models.prompts import check_slots, conversation, fill, titled, wording
from judges.models.scores import Points, decimal, score_of
from judges.models.shown import ENDLESS, referenced, shown_answers, unasked

REFERENCE = wording("rubric_reference")
"""For a Rubric that is shown the known answer; one without it has the status `error`."""
POINTS = tuple(wording("points").splitlines())
"""Five points that add up (Self-Rewarding, Yuan et al. 2024, in our words)."""


@dataclass(frozen=True, kw_only=True)
class Rubric:
    """How many points does an answer earn? Each of `model.sampling.n` replies is a vote; their mean is the score.

    Greedy replies would all be the same, and a mean of whole numbers ties more often the fewer they are.

    template: the wording, with {question} and {answer}, and where they are wanted {criteria}, {low}, {high} and
      {reference}; see `judges.models.prompts`.
    pattern: None reads `Score: 4` in the ways in which models write it, also as a rating or a grade; see
      `scores.py`. Else a regular expression whose group `score` holds the points, and `of`, if there is such a
      group, what they are out of; its last match in a reply counts.
    thoughts: what begins and ends a thought, in replies and in answers; what follows the last one is read, or shown.
    A reply that says no points from low to high, or was cut before its end, is `unparsable`; so is one that says them
    of another scale, as 4/10 is not 2 of 5: nobody knows whether that judge had read the criteria.
    """

    version: ClassVar[int] = 2  # reads more forms and fewer wrong ones, and no thoughts
    model: Asked = Asked(sampling=Sampling(n=3, temperature=0.7, top_p=0.9, max_tokens=512))
    template: str = wording("rubric")
    criteria: tuple[str, ...] = POINTS
    low: float = 0.0
    high: float = 5.0
    pattern: str | None = None
    thoughts: Markers = THOUGHTS

    def __post_init__(self) -> None:
        check_slots(self.template, "question", "answer", *(["criteria"] if self.criteria != POINTS else []))
        if not -math.inf < self.low < self.high < math.inf:
            raise RecipeError(
                f"the points of a Rubric go from low up to high, but these are {self.low} and {self.high}"
            )
        if self.pattern is not None:
            _check_pattern(self.pattern)

    @property
    def name(self) -> str:
        """A hash of all fields, the wording too."""
        return titled(self)

    @property
    def scale(self) -> tuple[float, float]:
        """The fewest and the most points."""
        return (self.low, self.high)

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        """One question about each answer."""
        scale = {"low": f"{self.low:g}", "high": f"{self.high:g}"}
        asked = answerable(self.template, subjects, self.thoughts)
        return questions(self.template, asked, criteria="\n".join(self.criteria), **scale)

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """VOTES on SUBJECTS: one for each reply."""
        assert replies is not None, "a Rubric asks a model"
        found = replies.select("chat", "index", "text", "finish_reason", "generation").iter_rows()
        said = {(place, vote): reply for place, vote, *reply in found}
        known, rows, judge = answerable(self.template, subjects, self.thoughts), [], self.name
        for place, generation in enumerate(known["generation"]):
            for vote in range(self.model.sampling.n):
                text, finish, trace = said.get((place, vote), (None, None, None))
                status, score, detail = REFUSED if text is None else self.verdict(text, finish)
                rows.append((generation, judge, vote, score, status, detail, trace))
        others = unasked(judge, known, subjects, self.thoughts)
        return pl.concat([pl.DataFrame(rows, VOTES, orient="row"), others])

    def verdict(self, reply: str, finish_reason: str | None = "stop") -> Verdict:
        """What a reply says."""
        if finish_reason == "length":
            return Verdict("unparsable", None, "cut before its end: give the judge more max_tokens")
        if finish_reason != "stop":
            return Verdict("unparsable", None, f"did not end by itself: {finish_reason}")
        words = after_thought(reply, self.thoughts)
        if words is None:
            return ENDLESS
        said = score_of(words) if self.pattern is None else _matched(self.pattern, words)
        if said is None:
            return Verdict("unparsable", None, "no score")
        if said.value is None or not self.low <= said.value <= self.high or said.of not in (None, self.high):
            scale = f"from {self.low:g} to {self.high:g}"
            return Verdict("unparsable", None, f"{said.told!r} is not one number on the scale {scale}")
        return Verdict("ok", said.value, None)


REFUSED = Verdict("refused", None, "the question does not fit the model's context")


def questions(template: str, subjects: pl.DataFrame, **words: str) -> list[Chat]:
    """One question about each of SUBJECTS; of `words` those that the template has slots for."""
    chats = []
    for chat, text, reference in subjects.select("chat", "text", "reference").iter_rows():
        slots = {**words, "question": conversation(chat), "answer": text, "reference": reference}
        shown = {slot: str(text) for slot, text in slots.items() if f"{{{slot}}}" in template}
        chats.append([{"role": "user", "content": fill(template, **shown)}])
    return chats


def answerable(template: str, subjects: pl.DataFrame, thoughts: Markers) -> pl.DataFrame:
    """SUBJECTS as they are shown, without those that lack the reference which the template shows."""
    return shown_answers(referenced(subjects) if "{reference}" in template else subjects, thoughts)


def _matched(pattern: str, words: str) -> Points | None:
    """What the last match of a user's own pattern holds."""
    last = next(iter(deque(re.finditer(pattern, words), maxlen=1)), None)
    if last is None:
        return None
    told, of = " ".join(last[0].split())[:80], last.groupdict().get("of")
    try:
        return Points(decimal(last["score"]), decimal(of) if of else None, told)
    except (ValueError, AttributeError):  # a group may hold no number, or nothing at all
        return Points(None, None, told)


def _check_pattern(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise RecipeError(f"the pattern of a Rubric is no regular expression: {error}") from error
    if "score" not in groups:
        raise RecipeError(f"the pattern of a Rubric needs a group (?P<score>...) that holds the points: {pattern!r}")
