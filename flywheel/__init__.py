"""A self-improvement pipeline for language models.

What a recipe is made of and what it is run with has its name here: `from flywheel import Recipe, Sampling, Sft, run`.
Each is loaded when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from flywheel import root as root

if TYPE_CHECKING:  # for type checkers, what __getattr__ gives
    from flywheel.pipeline.loop import run as run
    from flywheel.protocols import BASE as BASE
    from flywheel.protocols import POLICY as POLICY
    from flywheel.protocols import Asked as Asked
    from flywheel.protocols import Sampling as Sampling
    from flywheel.recipe.load import load as load
    from flywheel.recipe.recipe import DEFAULT_ALARMS as DEFAULT_ALARMS
    from flywheel.recipe.recipe import Alarm as Alarm
    from flywheel.recipe.recipe import Exam as Exam
    from flywheel.recipe.recipe import Gate as Gate
    from flywheel.recipe.recipe import Meta as Meta
    from flywheel.recipe.recipe import Recipe as Recipe
    from flywheel.recipe.recipe import WarmStart as WarmStart
    from flywheel.training.settings import Dpo as Dpo
    from flywheel.training.settings import Kto as Kto
    from flywheel.training.settings import Lora as Lora
    from flywheel.training.settings import Orpo as Orpo
    from flywheel.training.settings import Reward as Reward
    from flywheel.training.settings import Scratch as Scratch
    from flywheel.training.settings import Sft as Sft
    from flywheel.training.settings import SimPo as SimPo

_HOMES = {
    "flywheel.recipe.recipe": ("DEFAULT_ALARMS", "Alarm", "Exam", "Gate", "Meta", "Recipe", "WarmStart"),
    "flywheel.recipe.load": ("load",),
    "flywheel.protocols": ("BASE", "POLICY", "Asked", "Sampling"),
    "flywheel.training.settings": ("Dpo", "Kto", "Lora", "Orpo", "Reward", "Scratch", "Sft", "SimPo"),
    "flywheel.pipeline.loop": ("run",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """A name of this package, from where it lives."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'flywheel' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)
