"""Judges that see two answers to a question at a time, each pair in both orders."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import polars as pl

from flywheel.errors import RecipeError
from flywheel.protocols import Asked
from flywheel.store.schema import COMPARISONS, VOTES, Chat
from flywheel.text.thoughts import THOUGHTS, Markers, after_thought
from judges.models.comparisons import (
    Measure,
    Policy,
    Texts,
    games,
    rated,
    replies_by_vote,
    texts,
    verdict_after_thought,
)
from judges.models.prompts import check_slots, conversation, fill, titled, wording
from judges.models.scores import read
from judges.models.shown import ENDLESS
from judges.models.verdicts import NOUN
from judges.models.words import undressed

META = wording("meta")
"""The wording of a Pairwise between judgments."""
SLOTS = ("question", "answer_a", "answer_b")
OTHER: dict[str, Literal["a", "b", "tie"]] = {"a": "b", "b": "a", "tie": "tie"}
POINTS_GIVEN = re.compile(
    rf"(?i)(?<![^\W_])(?:score|rating)\s+(?:of\s+|for\s+)?(?:{NOUN}\s+)?(?P<slot>[ab])(?![^\W_])[\s)\]]*(?:[:=|]|is\b)?"
)
MOST = 10.0


@dataclass(frozen=True, kw_only=True)
class Pairwise:
    """Which of two answers is better? A `PairJudge`: an answer's score comes from all comparisons of the iteration.

    The model is asked `model.sampling.n` times in each order. A reply without a verdict is none, not a tie.

    Meta-Rewarding (Wu et al. 2024): subjects are judgments, the wording is META, the policy "weighted", the measure
    "rating". There `hide="Score:"` keeps the meta-judge from following scores, which in the paper it does ever more.
    """

    known_as: ClassVar = ("Duel",)
    version: ClassVar[int] = 2  # reads operators, ties and more forms, and no thoughts
    model: Asked
    template: str = wording("pairwise")
    policy: Policy = "consistent"
    measure: Measure = "wins"
    neighbours: int | None = None  # an answer meets so many others on either side of it in a circle; None: all others
    hide: str | None = None  # lines of an answer that hold this are not shown
    thoughts: Markers = THOUGHTS  # begin and end what is read of no reply, and shown of no answer

    def __post_init__(self) -> None:
        _check(self.template, self.neighbours)

    @property
    def name(self) -> str:
        """A hash of all fields, the wording among them."""
        return titled(self)

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        """A question for each pair and order."""
        shown = [None if text is None else _without(self.hide, text) for text in texts(subjects, self.thoughts)]
        return list(_questions(self.template, subjects, shown, self.neighbours))

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """COMPARISONS."""
        ids, words, judge, rows = subjects["generation"].to_list(), replies_by_vote(replies), self.name, []
        for at, game in enumerate(games(subjects, texts(subjects, self.thoughts), self.neighbours)):
            for vote in range(self.model.sampling.n):
                text, trace = words.get((at, vote), (None, None))
                slot = None if text is None else verdict_after_thought(text, self.thoughts)
                won = OTHER[slot] if slot and game.order == "ba" else slot
                status = "refused" if text is None else "ok" if won else "unparsable"
                rows.append((ids[game.a], ids[game.b], game.order, judge, vote, won, status, trace))
        return pl.DataFrame(rows, schema=COMPARISONS, orient="row")

    def rate(self, subjects: pl.DataFrame, comparisons: pl.DataFrame) -> pl.DataFrame:
        """VOTES: the share of its comparisons that an answer wins, or its rating."""
        return rated(self.name, self.policy, self.measure, subjects, comparisons, self.thoughts)


@dataclass(frozen=True, kw_only=True)
class PairwiseScored:
    """Points from 1 to 10 for each of two answers that are seen together (Arena Learning, Luo et al. 2024).

    A vote on an answer is what it got in one reply; so its score is the mean over both orders and all that it met.
    """

    known_as: ClassVar = ("ScoredDuel",)
    version: ClassVar[int] = 2  # reads more forms, no points of another scale, and no thoughts
    model: Asked
    template: str = wording("pairwise_scored")
    neighbours: int | None = None  # as in Pairwise
    thoughts: Markers = THOUGHTS  # as in Pairwise

    def __post_init__(self) -> None:
        _check(self.template, self.neighbours)

    @property
    def name(self) -> str:
        """A hash of all fields, the wording among them."""
        return titled(self)

    @property
    def scale(self) -> tuple[float, float]:
        """The fewest and the most points."""
        return (1.0, MOST)

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        """A question for each pair and order."""
        return list(_questions(self.template, subjects, texts(subjects, self.thoughts), self.neighbours))

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """VOTES: two from each reply, without a score if it does not give points to both."""
        ids, words, judge = subjects["generation"].to_list(), replies_by_vote(replies), self.name
        rows: list[tuple[object, ...]] = []
        votes, shown = Counter[str](), texts(subjects, self.thoughts)
        for at, game in enumerate(games(subjects, shown, self.neighbours)):
            for vote in range(self.model.sampling.n):
                text, trace = words.get((at, vote), (None, None))
                given = None if text is None else points(text, self.thoughts)
                status = "refused" if text is None else "ok" if given else "unparsable"
                for row, score in zip(game.shown, given or (None, None), strict=True):
                    rows.append((ids[row], judge, votes[ids[row]], score, status, None, trace))
                    votes[ids[row]] += 1
        alone = ("error", None, "compared with no other answer")
        for id, text in zip(ids, shown, strict=True):
            if id not in votes:
                status, score, detail = alone if text is not None else ENDLESS
                rows.append((id, judge, 0, score, status, detail, None))
        return pl.DataFrame(rows, schema=VOTES, orient="row")


def points(reply: str, thoughts: Markers = THOUGHTS) -> tuple[float, float] | None:
    """The last points that a reply gives to A and to B, from 1 to 10; None unless it gives them to both."""
    words, given = after_thought(reply, thoughts), {"a": 0.0, "b": 0.0}
    words = undressed(words or "")
    for place in POINTS_GIVEN.finditer(words):
        if said := read(words, place.end()):  # with a comma it could be two numbers
            known = said.value is not None and said.of in (None, MOST) and "," not in said.told
            given[place["slot"].lower()] = said.value or 0.0 if known else 0.0
    return (given["a"], given["b"]) if all(1 <= score <= MOST for score in given.values()) else None


def _questions(template: str, subjects: pl.DataFrame, shown: Texts, neighbours: int | None) -> Iterator[Chat]:
    asked, texts = subjects["chat"].to_list(), [text or "" for text in shown]
    for game in games(subjects, shown, neighbours):
        first, second = game.shown
        question = conversation(asked[first])
        content = fill(template, question=question, answer_a=texts[first], answer_b=texts[second])
        yield [{"role": "user", "content": content}]


def _without(hidden: str | None, text: str) -> str:
    """The lines of a text that do not hold `hidden`, in whatever case."""
    if hidden is None:
        return text
    return "\n".join(line for line in text.splitlines() if hidden.casefold() not in line.casefold())


def _check(template: str, neighbours: int | None) -> None:
    check_slots(template, *SLOTS)
    if neighbours is not None and neighbours < 1:
        raise RecipeError(
            f"an answer needs at least 1 neighbour to be compared with, or None for all, not {neighbours}"
        )
