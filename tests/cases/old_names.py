"""Lets scripts that were written for an earlier tree find what they import: installed by the bar `cases` alone."""

import importlib
import sys
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

HOMES = {
    "data.sources": "data.files",
    "filters.keep": "filters.text_filters",
    "flywheel.engines.endpoint": "flywheel.engines.http.endpoint",
    "flywheel.engines.local": "flywheel.engines.local.engine",
    "flywheel.exchange.entries": "flywheel.exchange.forms.entries",
    "flywheel.exchange.records": "flywheel.exchange.forms.records",
    "flywheel.overlap": "flywheel.text.overlap",
    "flywheel.recipe": "flywheel.protocols flywheel.training.settings",
    "flywheel.settings": "flywheel.training.settings",
    "flywheel.tables": "flywheel.store.schema flywheel.store.ids",
    "flywheel.training": "flywheel.training.run",
    "judges.battles": "judges.models.comparisons",
    "judges.code": "judges.rules.code",
    "judges.constraints": "judges.rules.instructions.constraints",
    "judges.duel": "judges.models.pairwise",
    "judges.format": "judges.rules.format",
    "judges.gym": "judges.rules.reasoning_gym",
    "judges.listwise": "judges.models.listwise",
    "judges.math": "judges.rules.math.verify",
    "judges.rubric": "judges.models.rubric",
    "judges.rules": "judges.rules.answers",
    "judges.sandbox": "judges.sandbox.run",
}
"""Where the names of a module are now."""
RENAMED = {"judges.battles": {"verdict": "verdict_after_thought"}}


def found(module: str, name: str) -> Any:
    """What a name of an earlier module means now; AttributeError if it is gone."""
    name = RENAMED.get(module, {}).get(name, name)
    for home in map(importlib.import_module, HOMES[module].split()):
        if hasattr(home, name):
            return getattr(home, name)
    raise AttributeError(name)


class Earlier(Loader):
    """Finds earlier modules, and, below those whose names packages have now, what stood in them."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name in HOMES or name.rpartition(".")[0] in HOMES:
            return ModuleSpec(name, self)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if name in HOMES:
            vars(module)["__getattr__"] = lambda wanted: found(name, wanted)
            return
        package, _, wanted = name.rpartition(".")
        try:
            sys.modules[name] = found(package, wanted)
        except AttributeError as error:
            raise ImportError(f"no module named {name!r}") from error


def install() -> None:
    """Look there last."""
    sys.meta_path.append(Earlier())
