"""Calls between two processes that do not trust each other.

Values travel as plain data: what arrives is a list, a number, a text that the receiver made itself, and never an object
whose `__eq__` or `__sub__` the sender wrote. Anything else stays where it is, and the other side gets a `Remote`, with
which it can do what is listed there. A message is one line of JSON: [verb, ...] or the reply to it.
"""

import builtins
import contextlib
import importlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

LONGEST_MESSAGE = 64 << 20
"""Bytes of a message."""
SAFE_INTEGER = 1 << 63
SEQUENCES = (tuple, set, frozenset)
MADE = {
    **dict.fromkeys(("date", "datetime", "time", "timedelta"), "datetime"),
    **{"Fraction": "fractions", "Decimal": "decimal", "range": "builtins"},
}
"""Types whose values travel as what makes them: the arguments that `copyreg` would pickle."""
VALUE_KINDS = "biufcUS"
"""Kinds of numpy's types that hold values, and no objects."""
UNHEARD = (StopIteration, StopAsyncIteration)
"""Errors that would end a loop of the receiver as if nothing had happened."""


class Gone(BaseException):
    """The other side has ended, or does not keep to the rules."""


class Remote:
    """An object that lives on the other side. Never equal to anything that does not."""

    def __init__(self, rpc: "Rpc", place: int) -> None:
        self.__dict__.update(_rpc=rpc, _place=place)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """What it gives for these arguments over there."""
        return self._rpc.call(self, arguments, named)

    def __getattr__(self, name: str) -> Any:
        return self._rpc.ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._rpc.ask("set", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._rpc.ask("item", self, key)

    def __len__(self) -> int:
        return self._rpc.ask("len", self)  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        return self._rpc.ask("bool", self)  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return self._rpc.ask("str", self)  # type: ignore[no-any-return]

    def __iter__(self) -> Any:
        return self._rpc.ask("iter", self)

    def __next__(self) -> Any:
        items = self._rpc.ask("next", self)
        if not items:
            raise StopIteration
        return items[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Remote):
            return False
        return self is other or self._rpc.ask("same", self, other) is True

    __hash__ = object.__hash__


class Rpc:
    """One end of a pair of pipes. `verbs` is what the other side may ask for."""

    def __init__(self, reading: int, writing: int, verbs: Mapping[str, Callable[..., Any]]) -> None:
        self._reading, self._writing, self._verbs = os.fdopen(reading, "rb"), writing, verbs
        self._held: list[Any] = []  # what the other side knows as a Remote, by place
        self._remotes: dict[int, Remote] = {}
        self.calls = 0

    def ask(self, verb: str, *what: Any) -> Any:
        """What the other side replies; raises the error that it met, or Gone."""
        return self._reply(verb, [self._encoded(value) for value in what])[0]

    def call(self, target: Remote, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call a function over there. Lists, sets and dicts that it changes in place are changed here, too."""
        self.calls += 1
        value, *changed = self._reply("call", [self._encoded(part) for part in (target, arguments, named)])
        for mine, now in zip((*arguments, *named.values()), changed, strict=False):
            if isinstance(mine, list):
                mine[:] = now
            elif isinstance(mine, dict | set):
                mine.clear()
                mine.update(now)
            elif _is_array(mine):
                mine[...] = now
        return value

    def serve(self) -> None:
        """Do what is asked, for ever."""
        while True:
            self._do(*self._received())

    def _reply(self, verb: str, what: list[Any]) -> list[Any]:
        self._send([verb, *what])
        while True:
            answer, *rest = self._received()
            if answer == "value":
                return [self._decoded(value) for value in rest]
            if answer == "raise":
                raise _error(str(rest[0]), self._decoded(rest[1]))
            self._do(answer, *rest)

    def _do(self, verb: str, *what: Any) -> None:
        try:
            values = [self._decoded(value) for value in what]
            reply = ["value", self._encoded(self._verbs[verb](*values))]
            after = [self._encoded(value) for value in values[1:]] if verb == "call" else []
            if after != list(what[1:]) and after:
                reply += [self._encoded(value) for value in (*values[1], *values[2].values())]
        except BaseException as error:  # also SystemExit: to end is not to answer
            reply = ["raise", type(error).__name__, [part for part in error.args if isinstance(part, int | str)]]
        self._send(reply)

    def _send(self, message: list[Any]) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            try:
                data = data[os.write(self._writing, data) :]
            except OSError as error:
                raise Gone("ended") from error

    def _received(self) -> list[Any]:
        line = self._reading.readline(LONGEST_MESSAGE)
        try:
            message = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, RecursionError):
            message = None
        if isinstance(message, list) and message and isinstance(message[0], str):
            return message
        raise Gone("output" if len(line) == LONGEST_MESSAGE else "ended" if not line else "not a message")

    def _encoded(self, value: Any) -> Any:
        """JSON for a value: {tag: content} for what JSON does not know."""
        if value is None or isinstance(value, bool | float | str):
            return value
        if isinstance(value, int):
            return value if -SAFE_INTEGER < value < SAFE_INTEGER else {"int": hex(value)}
        if isinstance(value, list):
            return [self._encoded(item) for item in value]
        if isinstance(value, dict):
            return {"dict": [[self._encoded(key), self._encoded(item)] for key, item in value.items()]}
        for kind in SEQUENCES:
            if isinstance(value, kind):
                return {kind.__name__: [self._encoded(item) for item in value]}
        return self._encoded_object(value)

    def _encoded_object(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, bytes | bytearray):
            return {"bytes": value.decode("latin-1")}
        if kind is complex:
            return {"complex": [value.real, value.imag]}
        if MADE.get(kind.__name__) == kind.__module__:
            return {"made": [kind.__name__, *(self._encoded(part) for part in value.__reduce__()[1])]}
        if _is_array(value):
            return {"array": [value.dtype.str, list(value.shape), self._encoded(value.ravel().tolist())]}
        if kind.__module__ == "numpy" and hasattr(value, "tolist"):
            return self._encoded(value.tolist())
        if isinstance(value, Remote):
            return {"yours": value._place}
        self._held.append(value)
        return {"mine": len(self._held) - 1}

    def _decoded(self, value: Any) -> Any:
        """The value that JSON stands for. Raises an error of any kind for what no honest sender sends."""
        if isinstance(value, list):
            return [self._decoded(item) for item in value]
        if not isinstance(value, dict):
            return value
        ((tag, content),) = value.items()
        if tag == "dict":
            return {self._decoded(key): self._decoded(item) for key, item in content}
        return self._decoded_object(tag, content)

    def _decoded_object(self, tag: str, content: Any) -> Any:
        for kind in SEQUENCES:
            if tag == kind.__name__:
                return kind(self._decoded(item) for item in content)
        match tag:
            case "int":
                return int(content, 16)
            case "bytes":
                return content.encode("latin-1")
            case "complex":
                return complex(*content)
            case "array":
                kind, shape, values = content
                return _array(kind, shape, self._decoded(values))
            case "made":
                name, *parts = (self._decoded(part) for part in content)
                return getattr(importlib.import_module(MADE[name]), name)(*parts)
            case "mine":
                return self._remotes.setdefault(content, Remote(self, content))
            case "yours":
                return self._held[content]
        raise ValueError(f"no value has the tag {tag!r}")


def _is_array(value: Any) -> bool:
    """Whether a value is an array of numpy's that holds values, and no objects."""
    return type(value).__name__ == "ndarray" and type(value).__module__ == "numpy" and value.dtype.kind in VALUE_KINDS


def _array(kind: str, shape: list[int], values: list[Any]) -> Any:
    """An array of this side's own numpy."""
    if kind[1:2] not in VALUE_KINDS:
        raise ValueError(f"no array has the type {kind!r}")
    return importlib.import_module("numpy").array(values, kind).reshape(shape)


def _error(name: str, arguments: Any) -> Exception:
    """The error of that name, if it is a built-in one that only says that something failed."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UNHEARD):
        with contextlib.suppress(TypeError):
            return kind(*arguments)
    return RuntimeError(": ".join(str(part) for part in (name, *arguments)))
