"""Where batches of sampling and judging are worked on: in this process, or on a Ray cluster (`flows.cluster`).

Both are Engines, so the steps do not know which. Every batch, or every portion that a worker of a cluster is given of
it, is a task run named by what it does.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext

from flows.worker import SCORED, Question
from flywheel.engines import Engines, open_engine
from flywheel.errors import PromptTooLong, RecipeError
from flywheel.recipe import Card, Engine, Model, Sampling
from flywheel.tables import ANSWERS, Chat

if TYPE_CHECKING:
    from flows.cluster import Cluster

Made = TypeVar("Made")


def serving(task_runner: str, engine: str, parts: str) -> Engines:
    """The recipe's engine and those of its judges.

    task_runner: `thread`, `ray` or `ray:ADDRESS`. parts: folder or URL where the workers of a cluster leave answers.
    RecipeError if there is no such task runner, or no cluster at the address.
    """
    kind, _, address = task_runner.partition(":")
    if task_runner == "thread":
        chats = Chats()
        return Engines(Here(open_engine(engine), chats), lambda name: Here(open_engine(name), chats))
    if kind == "ray":
        from flows.cluster import Cluster

        # Ray's own addresses begin with ray://, too.
        cluster = Cluster(task_runner if address.startswith("//") else address, engine, parts)
        return Engines(Spread(cluster, engine), partial(Spread, cluster))
    raise RecipeError(f"there is no task runner {task_runner!r}: it is `thread`, `ray` or `ray:ADDRESS`")


@task(name="ask an engine", task_run_name="{name}", cache_policy=NO_CACHE)
def ask(name: str, work: Callable[[], Made]) -> Made | PromptTooLong:
    """Do the work. A prompt that is too long is no failure: a judge's step asks again without it."""
    try:
        return work()
    except PromptTooLong as error:
        return error


class Chats:
    """Counts the chats of a step, to name its task runs."""

    def __init__(self) -> None:
        self._step, self._done = "", 0

    def name(self, first: int, last: int) -> str:
        """Of the task run for the chats from `first` to `last` of a batch."""
        context = TaskRunContext.get()
        step = context.task_run.name if context else "no step"
        if step != self._step:
            self._step, self._done = step, 0
        return f"{step}, chats {self._done + first + 1}-{self._done + last + 1}"

    def add(self, count: int) -> None:
        """So many have their answers."""
        self._done += count


class Here:
    """An engine of this process, with a task run for each batch."""

    def __init__(self, engine: Engine, chats: Chats) -> None:
        self._engine, self._chats = engine, chats

    def load(self, weights: str) -> "Watched":
        """As flywheel.recipe.Engine, like the rest."""
        return Watched(self._engine.load(weights), self._chats)

    def release(self) -> None:
        """Give the accelerator's memory back."""
        self._engine.release()

    def close(self) -> None:
        """End every process that the engine started."""
        self._engine.close()


class Watched:
    """A model whose batches are task runs."""

    def __init__(self, model: Model, chats: Chats) -> None:
        self._model, self._chats = model, chats
        self.card = model.card

    def chat(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> pl.DataFrame:
        """As flywheel.recipe.Model, like the rest."""
        return self._ask(len(chats), partial(self._model.chat, chats, sampling, seeds))

    def logprobs(self, chats: Sequence[Chat], completions: Sequence[str]) -> list[list[float]]:
        """Log-probability of each token of each completion."""
        return self._ask(len(chats), partial(self._model.logprobs, chats, completions))

    def _ask(self, count: int, work: Callable[[], Made]) -> Made:
        # Called, not submitted: it stays in this thread, where Ctrl-C ends it.
        made = ask(self._chats.name(0, count - 1), work)
        if isinstance(made, PromptTooLong):
            raise made
        self._chats.add(count)
        return made


class Spread:
    """An engine on every worker of a cluster."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self._cluster, self._name = cluster, name

    def load(self, weights: str) -> "Served":
        """As flywheel.recipe.Engine, like the rest: on all workers at once."""
        place = str(Path(weights).resolve()) if Path(weights).is_dir() else weights
        return Served(self._cluster, Question(self._name, place, None), self._cluster.load(self._name, place))

    def release(self) -> None:
        """Give the memory of every accelerator back."""
        self._cluster.release()

    def close(self) -> None:
        """End every worker."""
        self._cluster.close()


class Served:
    """The same weights on every worker."""

    def __init__(self, cluster: "Cluster", question: Question, card: Card) -> None:
        self._cluster, self._question = cluster, question
        self.card = card

    def chat(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> pl.DataFrame:
        """As flywheel.recipe.Model, like the rest."""
        question = self._question._replace(sampling=sampling)
        return self._cluster.answers(question, list(zip(chats, seeds, strict=True)), ANSWERS)

    def logprobs(self, chats: Sequence[Chat], completions: Sequence[str]) -> list[list[float]]:
        """Log-probability of each token of each completion."""
        rows = self._cluster.answers(self._question, list(zip(chats, completions, strict=True)), SCORED)
        found: list[list[float]] = rows["logprobs"].to_list()
        return found
