"""What the shipped parts mean: for each its module, its version, and the hash of its code when that was written down.

The version says when a part means something else, so that what it made before is not taken for what it would make now.
Code that changes without a new version is a mistake or means the same: `python -m flywheel.identity.shipped` writes
down which, and the tests refuse what is not written down.
"""

import functools
import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from flywheel.identity import is_part, names, parts, version
from flywheel.identity.reach import code_of
from flywheel.identity.source import module_of, shipped_in

RECORD = Path(__file__).with_name("shipped.json")


@functools.cache
def recorded() -> Mapping[str, Mapping[str, Any]]:
    """Of each shipped part, by its name: module, version, code, names before (the oldest first) and modules before."""
    return dict(json.loads(RECORD.read_text(encoding="utf-8")))


def remarks(recipe: Any) -> Iterator[str]:
    """Shipped parts of a recipe whose code is not as written down, and users' parts whose code cannot be seen."""
    kinds = {type(part) if is_part(part) else part for _, part in parts(recipe) if is_part(part) or callable(part)}
    for kind in sorted(kinds, key=lambda kind: str(kind.__qualname__)):
        name, code = names(kind)[-1], code_of(kind)
        if shipped_in(module_of(kind)) is not None:
            known = recorded().get(name, {"version": version(kind), "code": code.hash})
            if known["version"] == version(kind) and known["code"] != code.hash:
                yield (
                    f"{name} is not as it was shipped, but its version is still {known['version']}: what it made "
                    "before is taken for what it would make now; raise its version, or make a part of your own of it"
                )
        elif code.unseen:
            yield (
                f"{name} has code that cannot be read ({', '.join(code.unseen)}): when that changes nothing is made "
                "again by itself, but `flywheel run --fresh` does"
            )


def found() -> dict[str, dict[str, Any]]:
    """The same for the parts as they are now: every dataclass of the modules that recipes are made of."""
    kinds: dict[str, Any] = {}
    for module in map(importlib.import_module, _modules()):
        for kind in vars(module).values():
            if isinstance(kind, type) and is_dataclass(kind) and module_of(kind) == module.__name__:
                kinds[names(kind)[-1]] = kind
    return {
        name: {
            "module": module_of(kind),
            "version": version(kind),
            "code": code_of(kind).hash,
            "before": list(names(kind)[:-1]),
        }
        for name, kind in sorted(kinds.items())
    }


def _modules() -> list[str]:
    inner = [
        module.name
        for folder in ("judges", "filters", "data", "flows.recipes")
        for module in pkgutil.walk_packages(importlib.import_module(folder).__path__, f"{folder}.")
        if not module.ispkg
    ]
    return ["flywheel.recipe.recipe", "flywheel.protocols", "flywheel.training.settings", *inner]


if __name__ == "__main__":
    before = recorded() if RECORD.exists() else {}
    after = found()
    for name, part in after.items():  # where it was before, for recipes that look for it there
        known = [before[old] for old in (name, *reversed(part["before"])) if old in before]
        old = known[0] if known else {"modules": [], "module": part["module"]}
        moved = {*old.get("modules", ()), old["module"]} - {part["module"]}
        part["modules"] = sorted(moved)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(part, sort_keys=True)}" for name, part in after.items())
    RECORD.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            print(f"{name}: was {before.get(name)}, is {after.get(name)}", file=sys.stderr)
