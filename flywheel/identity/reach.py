"""What a part's code does, as a hash: of its source and of all that it reaches in files that belong to it.

Reached are functions, classes, constants and modules by the names that the code reads, as far as they lie in the part's
own package or in a file of the user's, and the text files beside these that the code names. No comment, docstring or
blank counts, and no line of a file that is not reached: so another `iterations` in a recipe changes no part of it.
"""

import dataclasses
import enum
import functools
import hashlib
import inspect
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from flywheel.identity.source import (
    compiled,
    definition,
    file_of,
    imported,
    is_local,
    looked_up,
    module_of,
    shipped_in,
    tree_of,
    tree_text,
)

TEXTS = r"py|txt|md|json|jsonl|ya?ml|toml|csv|tsv|j2|jinja2?"
NAMED = re.compile(rf"[\w.\-]*\.(?:{TEXTS})(?=['\"\\])")
"""A text file or a script, or only an ending of such, in the strings of a syntax tree."""
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
VALUE_TYPES = (str, bytes, int, float, complex, type(None), type(Ellipsis), range)
HOLDERS = (FunctionType, type, ModuleType, MethodType, functools.partial, property)


class Code(NamedTuple):
    """What is known of a part's code."""

    hash: str
    unseen: tuple[
        str, ...
    ]  # what it reaches that has no source: a change of these is not noticed, or on this Python only


def code_of(part: Any) -> Code:
    """The code of a class or function."""
    return _code_of(part)


@functools.cache
def _code_of(part: Any) -> Code:
    reach = _Reach(module_of(part))
    reach.follow(part, getattr(part, "__qualname__", type(part).__qualname__))
    lines = "\n".join(f"{name} {text}" for name, text in sorted(reach.texts.items()))
    return Code(_hash(lines.encode("utf-8", "surrogatepass")), tuple(reach.unseen))


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=6).hexdigest()


class _Reach:
    """All that is reached from one part, each thing once: `texts` by name."""

    def __init__(self, module: str) -> None:
        self.package, self.folder, self.file = module.partition(".")[0], shipped_in(module), file_of(module)
        self.texts: dict[str, str] = {}
        self.unseen: list[str] = []
        self.known: list[Any] = []  # kept, so that no id is given to another object

    def belongs(self, module: str) -> bool:
        """Whether a module's code counts for this part."""
        if self.folder:
            return shipped_in(module) == self.folder
        return shipped_in(module) is None and (module.partition(".")[0] == self.package or is_local(module))

    def follow(self, value: Any, name: str) -> None:
        """Take in what code holds under a name."""
        value = _unwrapped(value)
        if any(value is known for known in self.known):
            return
        if isinstance(value, ModuleType):
            self._module(value.__name__)
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, type):
            self._class(value)
        elif held := _held(value):
            for inner in held:
                self.follow(inner, name)
        elif callable(value) and hasattr(value, "__name__"):
            if self.belongs(module_of(value)):
                self.unseen.append(f"{module_of(value)}.{value.__name__}")
        else:
            self._note(f"value {name}", self._value(value, name))

    def _note(self, key: str, text: str) -> None:
        """One more text; another one of the same name gets a name of its own."""
        while self.texts.setdefault(key, text) != text:
            key += "'"

    def _function(self, function: FunctionType) -> None:
        if not self.belongs(module_of(function)):
            return
        self.known.append(function)
        node = definition(function)
        if node is None:
            self.unseen.append(function.__qualname__)
        text = compiled(function.__code__) if node is None else tree_text(node)
        self._note(f"def {function.__qualname__}", text)
        self._beside(text, module_of(function))
        names = looked_up(node) if node is not None else set(function.__code__.co_names)
        self._names(names - set(function.__code__.co_varnames), function.__globals__)
        for module in imported(node, module_of(function)) if node is not None else ():
            self._module(module)
        for cell, name in zip(function.__closure__ or (), function.__code__.co_freevars, strict=True):
            with suppress(ValueError):  # nothing in it yet
                self.follow(cell.cell_contents, f"{function.__qualname__}.{name}")
        for place, default in enumerate((*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())):
            self.follow(default, f"{function.__qualname__}.{place}")

    def _names(self, names: set[str], known: Mapping[str, Any]) -> None:
        for name in sorted(names & known.keys() - {"__file__", "__name__"}):  # where it lives says nothing
            self.follow(known[name], name)

    def _class(self, kind: type) -> None:
        if not self.belongs(kind.__module__):
            if shipped_in(kind.__module__):  # its version says when it means something else
                self._note(f"shipped {kind.__qualname__}", str(getattr(kind, "version", 1)))
            return
        self.known.append(kind)
        node = definition(kind)
        if node is None:
            self.unseen.append(kind.__qualname__)
        text = "" if node is None else tree_text(node)
        self._note(f"class {kind.__qualname__}", text)
        self._beside(text, kind.__module__)
        module = inspect.getmodule(kind)
        self._names(looked_up(node) if node is not None else set(), vars(module) if module else {})
        for name, value in sorted(vars(kind).items()):
            if not name.startswith("__") or (isinstance(value, FunctionType) and definition(value) is not None):
                self.follow(value, f"{kind.__qualname__}.{name}")

    def _module(self, module: str) -> None:
        """All of a module that belongs to the part, and the modules that it imports."""
        key, file = f"module {module.rpartition('.')[2]}", file_of(module)
        if not self.belongs(module) or key in self.texts or file is None:
            return
        tree = tree_of(file) if file.suffix == ".py" else None
        if tree is None:
            self.unseen.append(module)
        self.texts[key] = "" if tree is None else tree_text(tree)
        self._beside(self.texts[key], module)
        for inner in sorted(imported(tree, module)) if tree else ():
            self._module(inner)

    def _beside(self, text: str, module: str) -> None:
        """The text files and scripts beside a module that its code names, in full or by their ending."""
        file = file_of(module)
        for named in sorted(set(NAMED.findall(text))) if file else ():
            for path in sorted(file.parent.glob(f"*{named}" if named.startswith(".") else named)) if file else ():
                tree = tree_of(path) if path.suffix == ".py" else None
                self.texts[f"file {path.name}"] = _hash(path.read_bytes() if tree is None else tree_text(tree).encode())
                for inner in sorted(imported(tree, module)) if tree else ():
                    self._module(inner)

    def _value(self, value: Any, name: str) -> str:
        """A constant as text, the same for the same value; functions and classes in it are followed."""
        value = _unwrapped(value)
        if isinstance(value, HOLDERS):
            self.follow(value, name)
            return f"<{getattr(value, '__qualname__', type(value).__name__)}>"
        if isinstance(value, enum.Enum):
            return f"{type(value).__qualname__}.{value.name}"
        if isinstance(value, VALUE_TYPES):
            return repr(value)
        if isinstance(value, Path):
            return "" if self.file and self.file.is_relative_to(value) else value.name  # where a part lies says nothing
        if isinstance(value, re.Pattern):
            return f"{value.pattern!r} {value.flags}"
        if isinstance(value, Mapping):
            return f"{{{', '.join(f'{key!r}: {self._value(item, name)}' for key, item in value.items())}}}"
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(self._value(item, name) for item in value)}]"
        if isinstance(value, (set, frozenset)):
            return f"{{{', '.join(sorted(self._value(item, name) for item in value))}}}"
        return self._object(value, name)

    def _object(self, value: Any, name: str) -> str:
        """Something else: its class, and its content where that can be told."""
        kind = type(value)
        if any(value is known for known in self.known):
            return kind.__qualname__
        self.known.append(value)
        if shipped_in(kind.__module__) or self.belongs(kind.__module__):
            self.follow(kind, kind.__qualname__)
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)} if _is_part(value) else {}
            return f"{kind.__qualname__}{self._value(fields or getattr(value, '__dict__', {}), name)}"
        with suppress(Exception):  # a table or an array
            content = value.to_dict(as_series=False) if hasattr(value, "to_dict") else value.tolist()
            return f"{kind.__qualname__} {content!r}"
        return ADDRESS.sub("", repr(value))


def _is_part(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _held(value: Any) -> tuple[Any, ...]:
    """What stands in something that wraps functions."""
    if isinstance(value, MethodType):
        return value.__func__, value.__self__
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    return (value.fget, value.fset) if isinstance(value, property) else ()


def _unwrapped(value: Any) -> Any:
    """The function in a method of a class, a cached property or a cache."""
    if isinstance(value, (staticmethod, classmethod)):
        return _unwrapped(value.__func__)
    if isinstance(value, functools.cached_property):
        return _unwrapped(value.func)
    return _unwrapped(value.__wrapped__) if hasattr(value, "cache_info") and hasattr(value, "__wrapped__") else value
