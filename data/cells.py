"""One value of a table as text, as a chat, or as JSON."""

import decimal
import json
import math
from typing import Any

from flywheel.exchange.arrow import Written
from flywheel.store.schema import Chat, Message

RENDERED = (
    "tool_calls",
    "function_call",
    "reasoning_content",
    "reasoning",
    "thinking",
    "refusal",
    "images",
    "audio",
    "videos",
)
"""Keys of a message beside role and content that chat templates show to the model: without them it says something else.
Others, such as a name, are left out."""


class NoText(Exception):
    """A value that cannot be taken; the message says what it is, as in `a list, which is no text`."""


def text_of(value: Any) -> str | None:
    """Text as it is; numbers, true and false as they are written."""
    if value is None or isinstance(value, str):
        return None if value is None else _whole(value)
    if isinstance(value, Written):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | decimal.Decimal) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    if isinstance(value, list | dict):
        kind = "a list" if isinstance(value, list) else "an object"
        raise NoText(
            f"{kind}, which is neither text nor a number (a judge that wants it reads it in meta): {_shown(value)},"
        )
    raise NoText(f"{_shown(value)}, which is no text,")


def chat_of(value: list[Any] | dict[str, Any]) -> Chat:
    """Messages with role and content. Of what else they have, nothing that the model would see may be lost."""
    if isinstance(value, dict):
        raise NoText(f"neither text nor chats, which are lists of messages with role and content: {_shown(value)},")
    return [_message(each) for each in value]


def _message(value: Any) -> Message:
    if not isinstance(value, dict) or not {"role", "content"} <= value.keys():
        raise NoText(f"neither text nor chats, which are lists of messages with role and content: {_shown(value)},")
    for name in RENDERED:
        if value.get(name):
            raise NoText(f"a message with {name}, which prompts cannot have here: {_shown(value[name])},")
    if not isinstance(value["role"], str):
        raise NoText(f"a message without a role: {_shown(value)},")
    return {"role": _whole(value["role"]), "content": _content(value["content"])}


def _content(value: Any) -> str:
    """What a message says: text, or a list with one part that is text."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        part = {name: each for name, each in value[0].items() if each is not None}
        if part.get("type", "text") == "text" and part.keys() <= {"type", "text"}:
            value = part.get("text")
    if isinstance(value, list | dict):
        raise NoText(f"a message whose content is not one text: {_shown(value)},")
    return text_of(value) or ""


def json_of(value: Any) -> str | None:
    """Text as it is, and JSON of what is none."""
    if value is None or isinstance(value, str):
        return None if value is None else _whole(value)
    try:
        return _whole(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_number))
    except (TypeError, ValueError, RecursionError) as error:
        raise NoText(f"what is no JSON ({error})") from error


def _number(value: Any) -> float:
    if isinstance(value, decimal.Decimal):
        return float(value)
    raise TypeError(f"{_shown(value)} has no JSON")


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NoText(f"half a character, which is no text, at place {error.start + 1} of {_shown(text)}") from error
    return text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
