"""A judge that grades one answer at a time by a list of criteria, and explains its points before it gives them."""

import math
import re
from collections import deque
from dataclasses import dataclass

import polars as pl

from flywheel.errors import RecipeError
from flywheel.recipe import Asked, Sampling
from flywheel.tables import VOTES, Chat
from judges.rules import Verdict, votes
from judges.template import check_slots, conversation, fill, titled, wording

REFERENCE = wording("rubric_reference")
"""For a Rubric that is shown the known answer; one without it has the status `error`."""
POINTS = tuple(wording("points").splitlines())
"""Five points that add up (Self-Rewarding, Yuan et al. 2024, in our words)."""
SCORE = (
    r"(?i)\bscore\b(?:\s*\([^()\n]{0,40}\))?[\s*_`\"')\]]*(?:[:=：]|[-–—](?=\s))[\s*_`\"'(\[<]*"
    r"(?P<score>[-+]?\d++(?:[.,]\d{1,2}(?!\d)|\.\d++)?+)"
    r"(?![^\W_]|[.,]\d|\s*(?:%|(?:[-–—]|to)\s*\d))"  # 4,000 is another number, 0-5 a scale and no score on it
    r"(?:[\s*_`]*(?:/|out\s+of|of)[\s*_`]*(?P<of>\d+))?"
)
"""Reads `Score: 4`, and what else models make of that: `**Score:** 4.5/5`, `Score (of 5) - 4,5`, `score = [4]`."""


@dataclass(frozen=True, kw_only=True)
class Rubric:
    """How many points does an answer earn? Each of `model.sampling.n` replies is a vote; their mean is the score.

    Greedy replies would all be the same, and a mean of whole numbers ties more often the fewer they are.

    template: the wording, with {question} and {answer}, and where they are wanted {criteria}, {low}, {high} and
      {reference}; see `judges.template`.
    pattern: a regular expression whose group `score` holds the points, and `of`, if there is such a group, what they
      are out of. The last match in a reply counts.
    A reply that says no points from low to high, says them of another scale, or was cut before its end is `unparsable`.
    """

    model: Asked = Asked(sampling=Sampling(n=3, temperature=0.7, top_p=0.9, max_tokens=512))
    template: str = wording("rubric")
    criteria: tuple[str, ...] = POINTS
    low: float = 0.0
    high: float = 5.0
    pattern: str = SCORE

    def __post_init__(self) -> None:
        check_slots(self.template, "question", "answer", *(["criteria"] if self.criteria != POINTS else []))
        if not -math.inf < self.low < self.high < math.inf:
            raise RecipeError(
                f"the points of a Rubric go from low up to high, but these are {self.low} and {self.high}"
            )
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
        return questions(self.template, subjects, criteria="\n".join(self.criteria), **scale)

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """VOTES on SUBJECTS: one for each reply."""
        assert replies is not None, "a Rubric asks a model"
        found = replies.select("chat", "index", "text", "finish_reason", "generation").iter_rows()
        said = {(place, vote): reply for place, vote, *reply in found}
        known, rows, judge = answerable(self.template, subjects), [], self.name
        for place, generation in enumerate(known["generation"]):
            for vote in range(self.model.sampling.n):
                text, finish, trace = said.get((place, vote), (None, None, None))
                status, score, detail = REFUSED if text is None else self.verdict(text, finish)
                rows.append((generation, judge, vote, score, status, detail, trace))
        return pl.concat([pl.DataFrame(rows, VOTES, orient="row"), without_reference(judge, known, subjects)])

    def verdict(self, reply: str, finish_reason: str | None = "stop") -> Verdict:
        """What a reply says."""
        if finish_reason == "length":
            return Verdict("unparsable", None, "cut before its end: give the judge more max_tokens")
        last = next(iter(deque(re.finditer(self.pattern, reply), maxlen=1)), None)
        if last is None:
            return Verdict("unparsable", None, "no score")
        points, of = _number(last["score"]), last.groupdict().get("of")
        if points is None or not self.low <= points <= self.high or (of and _number(of) != self.high):
            told = " ".join(last[0].split())[:80]
            return Verdict("unparsable", None, f"{told!r} is not on the scale from {self.low:g} to {self.high:g}")
        return Verdict("ok", points, None)


REFUSED = Verdict("refused", None, "the question does not fit the model's context")


def questions(template: str, subjects: pl.DataFrame, **words: str) -> list[Chat]:
    """One question about each of SUBJECTS that is answerable; of `words` those that the template has slots for."""
    chats = []
    for chat, text, reference in answerable(template, subjects).select("chat", "text", "reference").iter_rows():
        slots = {**words, "question": conversation(chat), "answer": text, "reference": reference}
        shown = {slot: str(text) for slot, text in slots.items() if f"{{{slot}}}" in template}
        chats.append([{"role": "user", "content": fill(template, **shown)}])
    return chats


def answerable(template: str, subjects: pl.DataFrame) -> pl.DataFrame:
    """SUBJECTS, without those that lack the reference which the template shows."""
    return subjects.filter(pl.col("reference").is_not_null()) if "{reference}" in template else subjects


def without_reference(judge: str, known: pl.DataFrame, subjects: pl.DataFrame) -> pl.DataFrame:
    """VOTES on those of SUBJECTS that are not among the `known` ones."""
    others = subjects.join(known, on="generation", how="anti")
    return votes(judge, others, [Verdict("error", None, "no reference")] * len(others))


def _number(text: str | None) -> float | None:
    try:
        return float((text or "").replace(",", "."))
    except ValueError:
        return None


def _check_pattern(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise RecipeError(f"the pattern of a Rubric is no regular expression: {error}") from error
    if "score" not in groups:
        raise RecipeError(f"the pattern of a Rubric needs a group (?P<score>...) that holds the points: {pattern!r}")
