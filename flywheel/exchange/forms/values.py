"""Values of records from elsewhere: what is text, what is a number, what says anything at all."""

import json
import math
from typing import Any

from flywheel.errors import SourceError


def text(value: Any, what: str, where: str) -> str:
    """Text that can be written; SourceError for anything else."""
    if not isinstance(value, str):
        raise SourceError(f"{where}: {what} must be text, not {short_value(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise SourceError(
            f"{where}: {what} holds half a character at place {error.start + 1}, which is no text"
        ) from error
    return value


def says(value: Any) -> bool:
    """Whether a value says anything: a column that other rows fill may be there with nothing in it."""
    if value is None or value is False:
        return False
    if isinstance(value, str):
        return bool(value) and not value.isspace()
    if isinstance(value, dict):
        return any(map(says, value.values()))
    return any(map(says, value)) if isinstance(value, list) else True


def decoded(value: str) -> Any:
    """What JSON says; the text itself where it is none."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def as_json(value: Any) -> str:
    """JSON without nulls: tables put them where another row has something. Text that is JSON is read first."""
    held = decoded(value) if isinstance(value, str) else value
    return held if isinstance(held, str) else json.dumps(_filled(held), ensure_ascii=False, default=str)


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _filled(each) for name, each in value.items() if each is not None}
    return [_filled(each) for each in value] if isinstance(value, list) else value


def short_value(value: Any) -> str:
    """A value as an error shows it."""
    words = "null" if value is None else repr(value)
    return words if len(words) <= 60 else f"{words[:60]}…"


def text_or_json(value: Any, what: str, where: str) -> str | None:
    """Text; JSON of what is none."""
    if value is None or isinstance(value, str):
        return value if value is None else text(value, what, where)
    return json.dumps(value, ensure_ascii=False, default=str)


def number_or_none(value: Any, where: str, what: str = "a score") -> float | None:
    """A number, or None where there is null; SourceError for anything else."""
    if value is None:
        return None
    if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
        raise SourceError(f"{where}: {what} must be a number, not {short_value(value)}")
    return float(value)
