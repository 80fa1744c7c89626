"""Settings from the command line: `sampling.n=4` on a frozen recipe gives another recipe.

The path goes into the fields of parts, the positions of tuples (`keep.1.n=3`) and the keys of mappings
(`train.trl.seed=7`). The value is read as JSON where that fits the field's type, else as text.
"""

import collections.abc
import contextlib
import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from flywheel.errors import RecipeError

PYTHON_WORDS = {"None": None, "none": None, "True": True, "False": False}

_Part = TypeVar("_Part")


def override(part: _Part, settings: Sequence[str]) -> _Part:
    """The same part with each `key=value` set. RecipeError names what is wrong and what was probably meant."""
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise RecipeError(f"a setting is written key=value, as in sampling.n=4, not {setting!r}")
        part = _set(part, key, key.split("."), text)
    return part


def convert(value: Any, annotation: Any) -> Any:
    """`value` as the type that is asked for (whole numbers become floats, lists tuples), or TypeError."""
    origin, wanted = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _convert_to_one_of(value, wanted)
    if annotation is Any or (origin is Literal and value in wanted):
        return value
    if origin is tuple and isinstance(value, (tuple, list)):
        inner = wanted[:1] * len(value) if wanted[1:] == (...,) else wanted
        return tuple(convert(item, kind) for item, kind in zip(value, inner, strict=True))
    if annotation is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if annotation is int and isinstance(value, bool):
        raise TypeError
    kind = type(None) if annotation is None else origin or annotation
    if isinstance(kind, type) and kind is not tuple and isinstance(value, kind):
        return value
    raise TypeError


def type_words(annotation: Any) -> str:
    """What a type asks for, for a message."""
    origin, wanted = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_words(kind) for kind in wanted)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in wanted)
    if origin is tuple:
        return f"a list, each item {type_words(wanted[0])}"
    if origin is collections.abc.Callable:
        return "a function or a part that can be called"
    plain = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "None"}
    return plain.get(annotation) or f"a {getattr(origin or annotation, '__name__', annotation)}"


def annotations(part: Any) -> dict[str, Any]:
    """The fields of a part with the types that they ask for."""
    hints = typing.get_type_hints(type(part))
    return {f.name: hints[f.name] for f in dataclasses.fields(part)}


def unknown(name: str, known: Sequence[str], kind: str = "Fields") -> str:
    """What was probably meant, and what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    return (f"; did you mean {close[0]!r}?" if close else ".") + f" {kind}: {', '.join(known)}"


def unknown_field(kind: Any, name: str) -> str:
    """What a field is called now, or what was probably meant, and what there is."""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    now = [field.name for field in fields if name in field.metadata.get("known_as", ())]
    return f": it is called {now[0]!r} now" if now else unknown(name, [field.name for field in fields])


def _set(part: Any, key: str, path: Sequence[str], text: str) -> Any:
    name, rest = path[0], path[1:]
    if isinstance(part, tuple):
        at = _position(part, key, name)
        changed = _set(part[at], key, rest, text) if rest else _read(text, type(part[at]), key)
        return (*part[:at], changed, *part[at + 1 :])
    if isinstance(part, Mapping):
        changed = _set(part[name], key, rest, text) if rest and name in part else _read(text, Any, key)
        return types.MappingProxyType({**part, ".".join(path): changed})
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        raise RecipeError(f"{key!r} cannot be set: {_above(key, path)} is {part!r}, which has no fields")
    fields = annotations(part)
    if name not in fields:
        raise RecipeError(f"recipe has no field {key!r}{unknown_field(part, name)}")
    changed = _set(_start(part, name, fields), key, rest, text) if rest else _read(text, fields[name], key)
    try:
        return dataclasses.replace(part, **{name: changed})
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{key}={text} does not work: {error}") from None


def _start(part: Any, name: str, fields: Mapping[str, Any]) -> Any:
    """The part to go into: where there is none yet, one with default settings (`train.lora.rank=8`)."""
    inner = getattr(part, name)
    for kind in typing.get_args(fields[name]):
        if inner is None and dataclasses.is_dataclass(kind) and isinstance(kind, type):
            try:
                return kind()
            except TypeError:
                return None  # it has fields without a default, so there is nothing to start from
    return inner


def _position(part: tuple[Any, ...], key: str, name: str) -> int:
    if not name.isdigit() or int(name) >= len(part):
        raise RecipeError(f"{key!r} cannot be set: {name!r} is not one of its positions 0 to {len(part) - 1}")
    return int(name)


def _read(text: str, annotation: Any, key: str) -> Any:
    readings: list[Any] = [text]
    with contextlib.suppress(json.JSONDecodeError):  # not JSON: it can only be meant as text
        readings.insert(0, PYTHON_WORDS[text] if text in PYTHON_WORDS else json.loads(text))
    for reading in readings:
        try:
            return convert(reading, annotation)
        except (TypeError, ValueError):
            continue
    raise RecipeError(f"{key} must be {type_words(annotation)}, not {text!r}")


def _convert_to_one_of(value: Any, kinds: Sequence[Any]) -> Any:
    exact_first = sorted(kinds, key=lambda kind: kind is not type(value))  # 1 stays 1 for float | int
    for kind in exact_first:
        try:
            return convert(value, kind)
        except (TypeError, ValueError):
            continue
    raise TypeError


def _above(key: str, path: Sequence[str]) -> str:
    return ".".join(key.split(".")[: -len(path)]) or "recipe"
