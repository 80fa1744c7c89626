"""What can fail on a Ray cluster, as the whole batch sees it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from flywheel.errors import EngineError, EngineMissing, FlywheelError, PromptTooLong

Place = tuple[str, int]
"""Of a worker: its node, and its number there."""


class Lost(EngineError):
    """A worker is gone: its process, its node, or the way to it."""


class Portion(NamedTuple):
    """What one worker is asked: the places of the items in their batch, and where the answers are to be left."""

    places: list[int]
    worker: Place
    part: str


def received(reference: Any) -> Any:
    """What a worker gives; Lost if it is gone. An error in its code is a bug, and is raised as it is."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        raise Lost(f"a worker of the Ray cluster was lost: {' '.join(str(error).split())[:300]}") from error


def failed(future: Any, portion: Portion) -> FlywheelError | None:
    """What went wrong with a portion, as the whole batch sees it."""
    import ray

    try:
        refusal = future.result()
    except ray.exceptions.RayError as error:
        return Lost(f"a task of the Ray cluster was lost: {' '.join(str(error).split())[:300]}")
    except FlywheelError as error:
        return error
    return refused(portion, refusal) if refusal else None


def refused(portion: Portion, refusal: PromptTooLong) -> PromptTooLong:
    """The same with the places that the prompts have in their batch."""
    long = {place: portion.places[place] for place in sorted(refusal.prompts)}
    words = str(refusal)
    for place, at in list(long.items())[:1]:  # engines name the first
        words = words.replace(f"prompt {place} ", f"prompt {at} ", 1)
    return PromptTooLong(words, list(long.values()))


def worst(failures: Sequence[FlywheelError]) -> FlywheelError:
    """The one to raise: what a repetition cannot cure comes first, and prompts that are too long are told together."""
    for failure in failures:
        if not isinstance(failure, EngineError) or isinstance(failure, EngineMissing):
            return failure
    long = [failure for failure in failures if isinstance(failure, PromptTooLong)]
    if long:
        return PromptTooLong(str(long[0]), [prompt for failure in long for prompt in failure.prompts])
    return failures[0]
