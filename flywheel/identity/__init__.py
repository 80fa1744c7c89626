"""What makes a part of a recipe what it is: the value that its ids are hashes of.

A part is its type, its fields that are not at their default, and its meaning: the `version` of one that comes with the
program, the code of one that a user wrote. Where a module lives is no part of it, so fields with a default can be added
and modules can move. A part or field that gets another name says so, and keeps its ids:

    class Grader:
        known_as: ClassVar = ("Rubric",)                            # all its names before, the oldest first
        low: float = field(default=0.0, metadata={"known_as": ("least",)})

A shipped part has a `version: ClassVar[int]`, which is raised when it means something else; without it that is 1.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flywheel.identity.reach import code_of
from flywheel.identity.source import module_of, shipped_in
from flywheel.store.ids import content_id

__all__ = ["code_of", "describe", "describe_text", "is_part", "named", "parts", "shipped_in", "title"]


MADE = ("is", "called", "code", "version")
"""What the description of a part holds beside its fields."""


def is_part(value: Any) -> bool:
    """Whether a value is a part with fields."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def parts(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything that a part holds, itself first, each with its path."""
    yield path, value
    inner: Iterator[tuple[str, Any]] = iter(())
    if is_part(value):
        inner = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
    elif isinstance(value, Mapping):
        inner = ((str(key), item) for key, item in value.items())
    elif isinstance(value, (tuple, list)):
        inner = ((str(at), item) for at, item in enumerate(value))
    for name, item in inner:
        yield from parts(item, f"{path}.{name}" if path else name)


def names(part: Any) -> tuple[str, ...]:
    """All names of a class, function or field, the oldest first."""
    if isinstance(part, dataclasses.Field):
        return (*part.metadata.get("known_as", ()), part.name)
    before = getattr(part, "__dict__", {}).get("known_as", ())
    return (*before, part.__qualname__ if not isinstance(part, type) else part.__name__)


def default(field: "dataclasses.Field[Any]") -> Any:
    """What a field holds if nothing is said; MISSING where something must be."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def version(kind: Any) -> int:
    """Which meaning of a shipped part this is."""
    found = getattr(kind, "version", 1)
    return found if isinstance(found, int) else 1


def meaning(kind: Any) -> dict[str, Any]:
    """What a class or function means beyond its name and fields: the version of a shipped one, the code of another."""
    if shipped_in(module_of(kind)) is None:
        return {"code": code_of(kind).hash}
    return {"version": version(kind)} if version(kind) != 1 else {}


_BEFORE: ContextVar[Mapping[int, Any]] = ContextVar("before", default=MappingProxyType({}))


@contextlib.contextmanager
def as_before(part: Any, old: Any) -> Iterator[None]:
    """Meanwhile a part and those in it are called as by an older program, which described them so."""
    known = _BEFORE.set(dict(_pairs(part, old)))
    try:
        yield
    finally:
        _BEFORE.reset(known)


def _pairs(value: Any, old: Any) -> Iterator[tuple[int, Any]]:
    """Each part in a value with its description."""
    if is_part(value) and isinstance(old, dict):
        yield id(value), old
        for field in dataclasses.fields(value):
            for name in names(field):
                yield from _pairs(getattr(value, field.name), old.get(name))
    elif isinstance(value, (tuple, list)) and isinstance(old, list):
        for item, described in zip(value, old, strict=False):
            yield from _pairs(item, described)


def describe(value: Any, whole: bool = False) -> Any:
    """A JSON value that is the same for what means the same, all the way down; `whole` is for the record, and has what
    is at its default and how judges are called, too.

    TypeError for what cannot be part of a recipe.
    """
    if is_part(value):
        return _BEFORE.get().get(id(value)) or _describe_part(value, whole)
    if isinstance(value, Mapping):
        return {str(key): describe(item, whole) for key, item in sorted(value.items())}
    if isinstance(value, (tuple, list)):
        return [describe(item, whole) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)  # 1 and 1.0 mean the same
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if callable(value) and hasattr(value, "__qualname__"):
        return {"is": names(value)[0], **meaning(value)}
    raise TypeError(f"{value!r} cannot be part of a recipe: use frozen dataclasses, functions and plain values")


def _describe_part(part: Any, whole: bool) -> dict[str, Any]:
    kind, fields = type(part), {}
    for field in dataclasses.fields(part):
        item = getattr(part, field.name)
        if whole or item != default(field):
            fields[names(field)[0]] = describe(item, whole)
    called = {"called": title(part)} if whole and hasattr(part, "name") and "name" not in fields else {}
    return {"is": names(kind)[0], **meaning(kind), **called, **fields}


def describe_text(value: Any) -> str:
    """All of a part as text, defaults too, for the record."""
    return json.dumps(describe(value, whole=True), ensure_ascii=False, sort_keys=True)


def named(part: Any) -> str:
    """A short name for a part: its type and its fields that are not default, or a hash of them where they are long."""
    if not is_part(part):
        return str(getattr(part, "__name__", part))
    changed = [f for f in dataclasses.fields(part) if getattr(part, f.name) != default(f)]
    shown = ", ".join(f"{names(f)[0]}={getattr(part, f.name)!r}" for f in changed)
    kind = names(type(part))[0]
    told = f"{kind}({shown})"
    if len(told) > 60 or " at 0x" in told:
        return f"{kind}#{content_id(describe(part))[:8]}"
    raised = version(type(part)) if shipped_in(module_of(type(part))) else 1
    return told if raised == 1 else f"{told} v{raised}"


def title(part: Any) -> str:
    """The name under which the store keeps what a judge says: its own, and the code in it that a user wrote."""
    codes = list(_codes(describe(part)))
    return f"{part.name}@{content_id(codes)[:8]}" if codes else str(part.name)


def _codes(described: Any) -> Iterator[str]:
    if isinstance(described, dict):
        if "is" in described and "code" in described:
            yield described["code"]
        for item in described.values():
            yield from _codes(item)
    elif isinstance(described, list):
        for item in described:
            yield from _codes(item)
