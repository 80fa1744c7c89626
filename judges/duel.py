"""Judges that see two answers to a question at a time, each pair in both orders."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from flywheel.errors import RecipeError
from flywheel.recipe import Asked
from flywheel.tables import COMPARISONS, VOTES, Chat
from judges.battles import Measure, Policy, games, rated, said, verdict
from judges.template import check_slots, conversation, fill, titled, wording

META = wording("meta")
"""The wording of a Duel between judgments."""
SLOTS = ("question", "answer_a", "answer_b")
OTHER: dict[str, Literal["a", "b", "tie"]] = {"a": "b", "b": "a", "tie": "tie"}
POINTS = re.compile(r"(?i:score)\s+(?i:of\s+|for\s+)?(?i:answer\s+)?([AB])[\s:=*_]{1,6}(\d+(?:\.\d+)?)(?![.,]?\d)")
MOST = 10.0


@dataclass(frozen=True, kw_only=True)
class Duel:
    """Which of two answers is better? A `PairJudge`: an answer's score comes from all comparisons of the iteration.

    The model is asked `model.sampling.n` times in each order. A reply without a verdict is none, not a tie.

    Meta-Rewarding (Wu et al. 2024): subjects are judgments, the wording is META, the policy "weighted", the measure
    "rating". There `hide="Score:"` keeps the meta-judge from following scores, which in the paper it does ever more.
    """

    model: Asked
    template: str = wording("duel")
    policy: Policy = "consistent"
    measure: Measure = "wins"
    neighbours: int | None = None  # an answer meets so many others on either side of it in a circle; None: all others
    hide: str | None = None  # lines of an answer that hold this are not shown

    def __post_init__(self) -> None:
        _check(self.template, self.neighbours)

    @property
    def name(self) -> str:
        """A hash of all fields, the wording among them."""
        return titled(self)

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        """A question for each pair and order."""
        texts = [_without(self.hide, text) for text in subjects["text"]]
        return list(_questions(self.template, subjects, texts, self.neighbours))

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """COMPARISONS."""
        ids, words, judge, rows = subjects["generation"].to_list(), said(replies), self.name, []
        for at, game in enumerate(games(subjects, self.neighbours)):
            for vote in range(self.model.sampling.n):
                text, trace = words.get((at, vote), (None, None))
                slot = None if text is None else verdict(text)
                won = OTHER[slot] if slot and game.order == "ba" else slot
                status = "refused" if text is None else "ok" if won else "unparsable"
                rows.append((ids[game.a], ids[game.b], game.order, judge, vote, won, status, trace))
        return pl.DataFrame(rows, schema=COMPARISONS, orient="row")

    def rate(self, subjects: pl.DataFrame, comparisons: pl.DataFrame) -> pl.DataFrame:
        """VOTES: the share of its battles that an answer wins, or its rating."""
        return rated(self.name, self.policy, self.measure, subjects, comparisons)


@dataclass(frozen=True, kw_only=True)
class ScoredDuel:
    """Points from 1 to 10 for each of two answers that are seen together (Arena Learning, Luo et al. 2024).

    A vote on an answer is what it got in one reply; so its score is the mean over both orders and all that it met.
    """

    model: Asked
    template: str = wording("scored_duel")
    neighbours: int | None = None  # as in Duel

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
        return list(_questions(self.template, subjects, subjects["text"].to_list(), self.neighbours))

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """VOTES: two from each reply, without a score if it does not give points to both."""
        ids, words, judge = subjects["generation"].to_list(), said(replies), self.name
        rows: list[tuple[object, ...]] = []
        votes = Counter[str]()
        for at, game in enumerate(games(subjects, self.neighbours)):
            for vote in range(self.model.sampling.n):
                text, trace = words.get((at, vote), (None, None))
                given = None if text is None else points(text)
                status = "refused" if text is None else "ok" if given else "unparsable"
                for row, score in zip(game.shown, given or (None, None), strict=True):
                    rows.append((ids[row], judge, votes[ids[row]], score, status, None, trace))
                    votes[ids[row]] += 1
        alone = "compared with no other answer"
        rows += [(id, judge, 0, None, "error", alone, None) for id in ids if id not in votes]
        return pl.DataFrame(rows, schema=VOTES, orient="row")


def points(reply: str) -> tuple[float, float] | None:
    """The last points that a reply gives to A and to B, from 1 to 10; None unless it gives them to both."""
    given = {slot: float(number) for slot, number in POINTS.findall(reply)}
    both = given.get("A", 0.0), given.get("B", 0.0)
    return both if all(1 <= score <= MOST for score in both) else None


def _questions(template: str, subjects: pl.DataFrame, texts: Sequence[str], neighbours: int | None) -> Iterator[Chat]:
    """`texts` are what is shown of SUBJECTS."""
    asked = subjects["chat"].to_list()
    for game in games(subjects, neighbours):
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
