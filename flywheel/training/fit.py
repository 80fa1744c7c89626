"""Whether examples fit the training that they are for, told before it starts."""

import polars as pl

from flywheel.errors import TrainingError
from flywheel.text.thoughts import after_thought
from flywheel.training.settings import Kto, Reward, Sft, Training


def check_examples(examples: pl.DataFrame, settings: Training) -> None:
    """Raise TrainingError unless EXAMPLES (their `rejected` and `weight`) are what these settings learn from."""
    kind, weights = type(settings).__name__, examples["weight"].fill_null(1.0)
    alone = examples["rejected"].null_count()
    if alone and not isinstance(settings, (Sft, Kto)):
        raise TrainingError(
            f"{alone} of {len(examples)} examples have no rejected answer, and {kind} learns from pairs: take a pick "
            "that makes pairs, or train with Sft, or with Kto on answers that are labelled one by one"
        )
    endless = _endless(examples) if settings.thoughts == "leave out" else 0
    if endless:
        raise TrainingError(
            f"{endless} of {len(examples)} examples have a thought without an end, so no answer is left to learn: "
            "keep finished answers only, as filters.text_filters.Finished does, or train thoughts"
        )
    must, fits = _rule(settings, weights)
    if not fits.all():
        raise TrainingError(f"an example has the weight {weights.filter(~fits)[0]}, and {must}")


def _endless(examples: pl.DataFrame) -> int:
    """How many EXAMPLES hold an answer that is nothing but a thought, and was cut."""
    sides = examples.select("chosen", "rejected").iter_rows()
    return sum(any(text is not None and after_thought(text) is None for text in row) for row in sides)


def _rule(settings: Training, weights: pl.Series) -> tuple[str, pl.Series]:
    """What the weights must be, in words, and which of them are."""
    if isinstance(settings, Kto):
        return "Kto takes 1 for a good answer and -1 for a bad one", weights.is_in([1.0, -1.0])
    if isinstance(settings, Reward) and settings.margin:
        return "a margin must be a finite number", weights.is_finite()
    if isinstance(settings, Sft) and not settings.packing and settings.trl.get("loss_type", "nll") == "nll":
        return "Sft takes finite ones, not below 0", weights.is_finite() & (weights >= 0)
    return f"{_named(settings)} takes no other than 1", weights == 1


def _named(settings: Training) -> str:
    """The training, and what of it forbids weights."""
    if isinstance(settings, Sft):
        return "Sft with packing or with another loss"
    return "Reward without margin" if isinstance(settings, Reward) else type(settings).__name__
