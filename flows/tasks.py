"""The task run in which an engine is asked, and its name."""

from collections.abc import Callable
from typing import TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext

from flywheel.errors import PromptTooLong

Made = TypeVar("Made")


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
