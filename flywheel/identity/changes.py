"""Where a recipe is another one than a record says, in words, and from which step on that matters."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from flywheel.identity import MADE, default, describe, is_part, meaning, names, version

STEPS = ("warm_start", "propose", "sample", "judge", "select", "train", "examine")
FIRST_STEP: Mapping[str, str] = {
    "base": "warm_start",
    "warm_start": "warm_start",
    "seed": "warm_start",
    "exam": "warm_start",  # what comes too near the exam is left out of all that trains
    "overlap": "warm_start",
    "prompts": "propose",
    "proposer": "propose",
    "prompts_per_iteration": "propose",
    "sampling": "sample",
    "engine": "sample",
    "judges": "judge",
    "meta": "judge",
    "gold": "judge",
    "keep": "select",
    "pick": "select",
    "train": "train",
    "init_from": "train",
    "gate": "examine",
}
"""The first step that each field of a recipe has a say in."""


class Change(NamedTuple):
    """What is another than it was: where in the recipe, and how."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path} {self.text}"

    @property
    def step(self) -> str:
        """The first step that it has a say in."""
        return FIRST_STEP.get(self.path.partition(".")[0], "warm_start")


def changes(value: Any, stored: Any, path: str = "") -> Iterator[Change]:
    """How a part differs from its whole description in the store; one from before code counted says nothing of code."""
    if is_part(value):
        yield from _part(value, stored, path)
    elif isinstance(value, (tuple, list)) and isinstance(stored, list) and len(value) == len(stored):
        for place, (item, old) in enumerate(zip(value, stored, strict=True)):
            yield from changes(item, old, _join(path, str(place)))
    elif isinstance(value, Mapping) and isinstance(stored, dict) and set(map(str, value)) == set(stored):
        for key, item in value.items():
            yield from changes(item, stored[str(key)], _join(path, str(key)))
    elif callable(value) and isinstance(stored, str):  # how functions were told before their code counted
        if stored.rpartition(".")[2] not in names(value):
            yield Change(path, f"was {stored} and is {names(value)[-1]}")
    elif callable(value) and isinstance(stored, dict):
        yield from _meaning(value, stored, path)
    elif json.dumps(describe(value, whole=True)) != json.dumps(describe(stored, whole=True)):  # true is not 1
        yield Change(path, f"was {_short(stored)} and is {_short(describe(value))}")


def _part(value: Any, stored: Any, path: str) -> Iterator[Change]:
    kind = type(value)
    if not isinstance(stored, dict) or stored.get("is") not in names(kind):
        yield Change(path, f"was {_short(stored)} and is {_short(describe(value))}{_alias(value, stored)}")
        return
    yield from _meaning(kind, stored, path)
    known = set(MADE)
    for field in fields(value):
        item, old = getattr(value, field.name), [name for name in names(field) if name in stored]
        known |= set(old)
        if old:
            yield from changes(item, stored[old[0]], _join(path, field.name))
        elif item != default(field):
            yield Change(_join(path, field.name), f"is {_short(describe(item))}, and was not there")
    for name in sorted(set(stored) - known):
        yield Change(
            _join(path, name),
            f"was {_short(stored[name])}, and {kind.__name__} has no such field: if it has another name now, say "
            f'metadata={{"known_as": ("{name}",)}} there',
        )


def _meaning(kind: Any, stored: dict[str, Any], path: str) -> Iterator[Change]:
    """Another name, version or code."""
    name, now = names(kind)[-1], meaning(kind)
    if stored.get("is") not in names(kind):
        yield Change(path, f"was {_short(stored)} and is {name}")
    elif "code" in now and stored.get("code", now["code"]) != now["code"]:
        yield Change(path, f"({name}) has other code")
    elif "code" not in now and stored.get("version", 1) != version(kind):
        yield Change(path, f"({name}) means something else since its version {version(kind)}")


def _alias(value: Any, stored: Any) -> str:
    """How to say that a part has only got another name."""
    if not isinstance(stored, dict) or not any(True for _ in fields(value)):
        return ""
    if set(stored) - set(MADE) != {names(f)[0] for f in fields(value)}:
        return ""
    return f': if that is only another name, say known_as = ("{stored.get("is")}",) in {type(value).__name__}'


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _short(described: Any) -> str:
    """A description in a few words."""
    if isinstance(described, dict) and "is" in described:
        inner = [f"{key}={_short(item)}" for key, item in described.items() if key not in MADE]
        text = f"{described['is']}({', '.join(inner)})"
        return text if len(text) <= 60 else f"{described['is']}(...)"
    text = json.dumps(described, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
