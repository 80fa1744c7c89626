"""What the recipes here share: settings of a training that only pretends, and sums that the toy engine can read."""

from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, ClassVar

from flywheel import Sft

WEIGHTS = "toy-weights"
"""A folder beside the recipe."""
TWO_TERMS = MappingProxyType({"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2})


@dataclass(frozen=True, kw_only=True)
class ToySft(Sft):
    """For the trainer that only pretends."""

    child: ClassVar[str] = "flywheel.training.toy"


def short(settings: Any, kind: Any = ToySft) -> Any:
    """The settings of a shipped training as those of a toy's, in a few steps."""
    own = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return kind(**{**own, "epochs": 1, "max_steps": -1, "batch_size": 8, "micro_batch": None})


def easy(family: Any) -> Any:
    """Sums of two terms: of longer ones the toy knows no value."""
    return replace(family, settings=TWO_TERMS) if family.dataset == "chain_sum" else family
