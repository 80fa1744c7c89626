"""Where batches of sampling and judging are worked on: in this process, or on a Ray cluster (`flows.ray.cluster`).

Both are Engines, so the steps do not know which. Every batch, or every portion that a worker of a cluster is given of
it, is a task run named by what it does.
"""

from collections.abc import Callable, Sequence
from functools import partial

import polars as pl

from flows.ray.engine import Spread
from flows.tasks import Chats, Made, ask
from flywheel.engines.table import Engines, open_engine
from flywheel.errors import PromptTooLong, RecipeError
from flywheel.protocols import Engine, Model, Sampling
from flywheel.store.schema import Chat


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
        from flows.ray.cluster import Cluster

        # Ray's own addresses begin with ray://, too.
        cluster = Cluster(task_runner if address.startswith("//") else address, engine, parts)
        return Engines(Spread(cluster, engine), partial(Spread, cluster))
    raise RecipeError(f"there is no task runner {task_runner!r}: it is `thread`, `ray` or `ray:ADDRESS`")


class Here:
    """An engine of this process, with a task run for each batch."""

    def __init__(self, engine: Engine, chats: Chats) -> None:
        self._engine, self._chats = engine, chats

    def load(self, weights: str) -> "Watched":
        """As flywheel.protocols.Engine, like the rest."""
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
        """As flywheel.protocols.Model, like the rest."""
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
