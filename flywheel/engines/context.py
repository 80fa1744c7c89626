"""Whether prompts and their answers fit a model's context."""

from collections.abc import Iterable

from flywheel.errors import PromptTooLong


def check_context(wanted: Iterable[tuple[int, int, int]], context: int) -> None:
    """Raise PromptTooLong unless each (place in the call, tokens of the prompt, tokens of its answer) fits."""
    long = [(place, prompt, answer) for place, prompt, answer in wanted if prompt + answer > context]
    if long:
        place, prompt, answer = long[0]
        fit = f"with {answer} more they do not fit the context of {context}"
        raise PromptTooLong(f"prompt {place} has {prompt} tokens: {fit}", [place for place, _, _ in long])
