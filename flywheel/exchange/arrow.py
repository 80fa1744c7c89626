"""Rows of Arrow tables as plain values: JSON columns as what they hold, dates and times as text.

`datasets` makes a JSON column (`arrow.json`) of values that are not of one kind. It writes a text as JSON, unless that
text could be read as JSON itself: Paris as `"Paris"`, but 5, 007 and true as they are. So here

- what is between quotation marks is the text within, and what is a list or an object is that;
- `null` is nothing, and anything else is the text as it stands, as nobody can tell a number from its digits.

It also makes times of texts that look like dates. Here a date is `1969-07-20` again, and a time `1969-07-20T20:17:40`;
a column (or what is nested in it) in which all times are midnight, without a zone, holds dates.
"""

import datetime
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

ArrowRow = dict[str, Any]
Batches = Callable[[], Iterable[Any]]
"""Gives the tables or record batches from the first one on, each time that it is called."""


class Written(float):
    """A number that remembers how it was written."""

    text: str

    def __new__(cls, text: str) -> "Written":
        """The number that the text says."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def rows(batches: Batches) -> Iterator[ArrowRow]:
    """Each row of the batches, with plain values."""
    days = _days(batches)
    for batch in batches():
        columns = [_values(batch.column(at), field.type, field.name in days) for at, field in enumerate(batch.schema)]
        for values in zip(*columns, strict=True):
            yield dict(zip(batch.schema.names, values, strict=True))


def decoded(text: str | None) -> Any:
    """What a value of a JSON column says."""
    if text is None or text == "null":
        return None
    if text[:1] not in ('"', "[", "{"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, so it is what somebody wrote
        return text


def _values(column: Any, kind: Any, days: bool) -> list[Any]:
    return [_plain(value, kind, days) for value in column.to_pylist()] if _needs(kind) else column.to_pylist()


def _needs(kind: Any) -> bool:
    """Whether values of this type are, or hold, what is said otherwise here."""
    from pyarrow import types

    return _is_json(kind) or types.is_temporal(kind) or _is_short(kind) or any(map(_needs, _inner(kind)))


def _plain(value: Any, kind: Any, days: bool) -> Any:
    if _is_json(kind):
        return decoded(value)
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if days else value.isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float) and _is_short(kind):
        return Written(str(_short(kind)(value)))
    if isinstance(value, list) and len(_inner(kind)) == 1:
        return [_plain(each, _inner(kind)[0], days) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each, kind.field(name).type, days) for name, each in value.items()}
    return value


def _days(batches: Batches) -> set[str]:
    """The columns whose times are all midnight."""
    from pyarrow import types

    first = next(iter(batches()), None)
    timed = [] if first is None else [field for field in first.schema if _holds(field.type, types.is_timestamp)]
    days = {field.name for field in timed}
    for batch in batches() if days else ():
        for name in list(days):
            if any(time.time() != datetime.time() or time.tzinfo for time in _times(batch.column(name).to_pylist())):
                days.remove(name)
    return days


def _times(value: Any) -> Iterator[datetime.datetime]:
    if isinstance(value, datetime.datetime):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _times(each)


def _holds(kind: Any, what: Callable[[Any], bool]) -> bool:
    return what(kind) or any(_holds(inner, what) for inner in _inner(kind))


def _inner(kind: Any) -> list[Any]:
    """The types within a list or a struct."""
    return [kind.field(at).type for at in range(kind.num_fields)]


def _is_json(kind: Any) -> bool:
    return getattr(kind, "extension_name", None) == "arrow.json"


def _is_short(kind: Any) -> bool:
    """Whether it is a float of less than 64 bits, which has other digits when it is made longer."""
    from pyarrow import types

    return bool(types.is_float16(kind) or types.is_float32(kind))


def _short(kind: Any) -> Any:
    import numpy

    return numpy.dtype(kind.to_pandas_dtype()).type
