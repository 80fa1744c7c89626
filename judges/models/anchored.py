"""A judge that compares each answer with answers to other questions of which it is known whether they are right.

Meta Ranking (arXiv 2402.12146): which of two answers is the more reliable one, each to its own question, is a question
that even a small model can answer.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl

from flywheel.errors import RecipeError, SourceError
from flywheel.protocols import Asked
from flywheel.recipe.places import located
from flywheel.store.schema import VOTES, Chat
from flywheel.text.thoughts import THOUGHTS, Markers
from judges.models.comparisons import replies_by_vote, verdict_after_thought
from judges.models.prompts import check_slots, conversation, fill, titled, wording
from judges.models.shown import answer_shown, shown_answers, unasked


@dataclass(frozen=True)
class Anchor:
    """An answer of which the truth is known."""

    question: str
    answer: str
    right: bool


def read_anchors(path: str | Path) -> tuple[Anchor, ...]:
    """Anchors from a file with JSON objects in its lines: `question`, `answer`, and `right`, which is true or false.

    Their content is what names a judge, not the path. Raises SourceError.
    """
    try:
        lines = located(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"anchors cannot be read from {path}: {error}") from error
    return tuple(_anchor(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip())


def _anchor(line: str, where: str) -> Anchor:
    try:
        row = json.loads(line)
        question, answer, right = row["question"], row["answer"], row["right"]
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{where} is no anchor: a JSON object with question, answer and right") from error
    if not (isinstance(question, str) and isinstance(answer, str) and isinstance(right, bool)):
        raise SourceError(f"{where} is no anchor: question and answer must be text, and right true or false")
    return Anchor(question, answer, right)


@dataclass(frozen=True, kw_only=True)
class Anchored:
    """Does an answer hold its own against answers that are known to be right, and beat those known to be wrong?

    Against each anchor the model is asked in both orders, `model.sampling.n` times each; where the orders do not agree
    it is a tie. A vote is the number of right anchors that the answer ties with or beats, minus the number of wrong
    ones that it loses to: from minus the wrong anchors to plus the right ones. An anchor without both verdicts does not
    count; where none counts the vote has no score.
    """

    version: ClassVar[int] = 2  # reads verdicts as a Pairwise does, and no thoughts
    model: Asked
    anchors: tuple[Anchor, ...]  # about five, of both kinds
    template: str = wording("anchors")
    thoughts: Markers = THOUGHTS  # begin and end what is read of no reply, and shown of no answer

    def __post_init__(self) -> None:
        check_slots(self.template, "question_a", "answer_a", "question_b", "answer_b")
        right = sum(anchor.right for anchor in self.anchors)
        if not 0 < right < len(self.anchors):
            raise RecipeError(
                f"anchors must be right ones and wrong ones, but {right} of these {len(self.anchors)} are right: "
                "add some of the other kind"
            )
        if any(answer_shown(anchor.answer, self.thoughts) is None for anchor in self.anchors):
            raise RecipeError("the answer of an anchor is a thought without an end: give it its end, or leave it out")

    @property
    def name(self) -> str:
        """A hash of all fields, anchors and wording among them."""
        return titled(self)

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        """Two questions for each of SUBJECTS and each anchor: the answer is shown first, then last."""
        subjects = shown_answers(subjects, self.thoughts)
        asked = zip(subjects["chat"].to_list(), subjects["text"], strict=True)
        return [
            self._question(first, second)
            for chat, text in asked
            for anchor in self.anchors
            for own, other in [
                ((conversation(chat), text), (anchor.question, answer_shown(anchor.answer, self.thoughts) or ""))
            ]
            for first, second in ((own, other), (other, own))
        ]

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """VOTES."""
        words, judge, step = replies_by_vote(replies), self.name, 2 * len(self.anchors)
        rows, asked = [], shown_answers(subjects, self.thoughts)
        for at, generation in enumerate(asked["generation"]):
            for vote in range(self.model.sampling.n):
                heard = [words.get((question, vote), ("", None)) for question in range(at * step, (at + 1) * step)]
                texts, traces = zip(*heard, strict=True)
                pairs = zip(texts[::2], texts[1::2], strict=True)
                score, detail = self._count([self._lead(*pair) for pair in pairs])
                trace = next(filter(None, traces), None)
                status = "ok" if score is not None else "unparsable" if trace else "refused"
                rows.append((generation, judge, vote, score, status, detail, trace))
        others = unasked(judge, asked, subjects, self.thoughts)
        return pl.concat([pl.DataFrame(rows, schema=VOTES, orient="row"), others])

    def _count(self, leads: list[int | None]) -> tuple[float | None, str | None]:
        met = [(anchor.right, lead) for anchor, lead in zip(self.anchors, leads, strict=True) if lead is not None]
        if not met:
            return None, "against no anchor could both verdicts be read"
        right, wrong = ([lead for kind, lead in met if kind == known] for known in (True, False))
        held, lost = sum(lead >= 0 for lead in right), sum(lead < 0 for lead in wrong)
        return held - lost, f"holds against {held} of {len(right)} right ones, loses to {lost} of {len(wrong)} wrong"

    def _question(self, first: tuple[str, str], second: tuple[str, str]) -> Chat:
        slots = {"question_a": first[0], "answer_a": first[1], "question_b": second[0], "answer_b": second[1]}
        return [{"role": "user", "content": fill(self.template, **slots)}]

    def _lead(self, shown_first: str, shown_last: str) -> int | None:
        """1 if an answer beats an anchor by both replies, where it was shown first and last, -1 if it loses, else 0."""
        first, last = (verdict_after_thought(reply, self.thoughts) for reply in (shown_first, shown_last))
        if first is None or last is None:
            return None
        return 1 if (first, last) == ("a", "b") else -1 if (first, last) == ("b", "a") else 0
