"""What each field of a recipe and of its parts must be, besides its type."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from flywheel.health.measures import MEASURES
from flywheel.protocols import Sampling
from flywheel.recipe.recipe import Alarm, Exam, Gate, Recipe, WarmStart
from flywheel.training.settings import Dpo, Kto, Lora, Orpo, Scratch, SimPo, Training

Rule = tuple[Callable[[Any], bool], str]

NAME_LETTERS = re.compile(r"[A-Za-z0-9_.-]+")
LEAST_ONE: Rule = (lambda v: v is None or v >= 1, "at least 1")
LEAST_ZERO: Rule = (lambda v: v >= 0, "at least 0")
POSITIVE: Rule = (lambda v: v > 0, "more than 0")
SHARE: Rule = (lambda v: 0 <= v < 1, "at least 0 and less than 1")
PLAIN_NAME: Rule = (lambda v: NAME_LETTERS.fullmatch(v) is not None, "letters, digits, '_', '.' and '-' only")

RULES: Mapping[type, Mapping[str, Rule]] = {
    Recipe: {
        "name": PLAIN_NAME,
        "judges": (lambda v: len(v) > 0, "one judge at least"),
        "prompts_per_iteration": LEAST_ONE,
        "iterations": LEAST_ONE,
        "batch": LEAST_ONE,
        "overlap": LEAST_ONE,
    },
    Exam: {"name": PLAIN_NAME},
    Gate: {"alpha": (lambda v: 0 < v < 1, "between 0 and 1")},
    Alarm: {"measure": (MEASURES.__contains__, f"one of {', '.join(MEASURES)}")},
    WarmStart: {},  # only the types are checked
    Sampling: {
        "n": LEAST_ONE,
        "temperature": LEAST_ZERO,
        "top_p": (lambda v: 0 < v <= 1, "more than 0 and at most 1"),
        "top_k": LEAST_ZERO,
        "max_tokens": LEAST_ONE,
        "min_p": (lambda v: 0 <= v <= 1, "at least 0 and at most 1"),
        "repetition_penalty": (lambda v: 0 < v < math.inf, "more than 0 and finite"),
        "presence_penalty": (lambda v: -2 <= v <= 2, "at least -2 and at most 2"),
        "frequency_penalty": (lambda v: -2 <= v <= 2, "at least -2 and at most 2"),
        "min_tokens": LEAST_ZERO,
    },
    Training: {
        "lr": POSITIVE,
        "epochs": POSITIVE,
        "batch_size": LEAST_ONE,
        "micro_batch": LEAST_ONE,
        "max_length": LEAST_ONE,
        "warmup": SHARE,
        "weight_decay": LEAST_ZERO,
        "save_every": LEAST_ONE,
    },
    Dpo: {
        "beta": POSITIVE,
        "loss": (lambda v: len(v) > 0, "one loss at least"),
        "label_smoothing": (lambda v: 0 <= v < 0.5, "at least 0 and less than 0.5"),
        "nll_alpha": LEAST_ZERO,
    },
    Kto: {
        "beta": POSITIVE,
        "desirable_weight": (lambda v: v is None or v > 0, "more than 0"),
        "undesirable_weight": POSITIVE,
    },
    SimPo: {"beta": POSITIVE, "gamma": LEAST_ZERO},
    Orpo: {"beta": POSITIVE},
    Lora: {"rank": LEAST_ONE, "alpha": LEAST_ONE, "dropout": SHARE},
    Scratch: dict.fromkeys(("hidden", "layers", "heads", "intermediate", "context"), LEAST_ONE),
}
"""What each field must be, besides its type."""


def rules(part: Any) -> Mapping[str, Rule] | None:
    """The rules for the fields of a part, its own kind's before its parents'; None for a part without any."""
    found = [RULES[kind] for kind in type(part).__mro__ if kind in RULES]
    return {name: rule for known in reversed(found) for name, rule in known.items()} if found else None
