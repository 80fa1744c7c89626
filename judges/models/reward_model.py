"""Reward models: networks that were trained to put a number on an answer, as `flywheel.training.run` makes them.

Several are a `judges.ensembles.Jury` of them (Coste et al. 2023): how="min" is WCO and how="uncertainty" is UWO, with
scales="batch", so that it is not the one with the largest numbers that speaks.
"""

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from flywheel.errors import RecipeError
from flywheel.protocols import BASE, POLICY, Asked, Verdict
from flywheel.store.schema import Chat
from flywheel.text.thoughts import THOUGHTS, Markers
from judges.models.prompts import titled, without_marks
from judges.models.rubric import REFUSED
from judges.models.shown import answer_chats, shown_answers, unasked
from judges.verdict import votes


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """The number that a reward model gives to the chat with the answer; what it is worth only that model knows."""

    version: ClassVar[int] = 2  # is not shown thoughts
    model: Asked  # weights of its own, and the engine `reward`
    thoughts: Markers = THOUGHTS  # begin and end what is not shown of an answer

    def __post_init__(self) -> None:
        if self.model.engine != "reward" or self.model.weights in (POLICY, BASE):
            raise RecipeError(
                "a RewardModel has weights of its own and the engine reward, as in "
                f"Asked(weights='runs/checkpoints/...', engine='reward'), not {self.model}"
            )

    @property
    def name(self) -> str:
        """A hash of weights and engine."""
        return titled(self)

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        """Each chat with its answer, in which marks of turns are only text."""
        known = shown_answers(subjects, self.thoughts)
        return answer_chats(known.with_columns(text=pl.Series(map(without_marks, known["text"]), dtype=pl.String)))

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """VOTES on SUBJECTS."""
        assert replies is not None, "a RewardModel is asked"
        given, known = dict(replies.select("chat", "logprob").iter_rows()), shown_answers(subjects, self.thoughts)
        said = votes(self.name, known, (_verdict(given.get(place)) for place in range(len(known))))
        return pl.concat([said, unasked(self.name, known, subjects, self.thoughts)])


def _verdict(reward: float | None) -> Verdict:
    if reward is None:
        return REFUSED
    finite = abs(reward) < float("inf")
    return Verdict("ok", reward, None) if finite else Verdict("error", None, f"a reward of {reward}")
