"""An engine whose work is done by the workers of a Ray cluster."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from flows.ray.worker import SCORED, Question
from flywheel.protocols import Card, Sampling
from flywheel.store.schema import ANSWERS, Chat

if TYPE_CHECKING:
    from flows.ray.cluster import Cluster


class Spread:
    """An engine on every worker of a cluster."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self._cluster, self._name = cluster, name

    def load(self, weights: str) -> "RayModel":
        """As flywheel.protocols.Engine, like the rest: on all workers at once."""
        place = str(Path(weights).resolve()) if Path(weights).is_dir() else weights
        return RayModel(self._cluster, Question(self._name, place, None), self._cluster.load(self._name, place))

    def release(self) -> None:
        """Give the memory of every accelerator back."""
        self._cluster.release()

    def close(self) -> None:
        """End every worker."""
        self._cluster.close()


class RayModel:
    """The same weights on every worker."""

    def __init__(self, cluster: "Cluster", question: Question, card: Card) -> None:
        self._cluster, self._question = cluster, question
        self.card = card

    def chat(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> pl.DataFrame:
        """As flywheel.protocols.Model, like the rest."""
        question = self._question._replace(sampling=sampling)
        return self._cluster.answers(question, list(zip(chats, seeds, strict=True)), ANSWERS)

    def logprobs(self, chats: Sequence[Chat], completions: Sequence[str]) -> list[list[float]]:
        """Log-probability of each token of each completion."""
        rows = self._cluster.answers(self._question, list(zip(chats, completions, strict=True)), SCORED)
        found: list[list[float]] = rows["logprobs"].to_list()
        return found
