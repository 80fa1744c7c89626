"""One chat from all that a record says of it: its prompt, its answer's chat, and what stands beside them.

`system` and `history` go in front of the chat, `tools` at the end of its system message. What a record says twice may
be said in full and in part; where it says two different things it is refused.
"""

from collections.abc import Mapping
from typing import Any

from flywheel.errors import SourceError
from flywheel.exchange.messages import messages, with_tools
from flywheel.exchange.values import says, shown, text
from flywheel.tables import Chat


def opened(chat: Chat, system: Any, history: Any, tools: Any, where: str) -> Chat:
    """A chat with what its record says beside it in front of it; SourceError where the two say different things."""
    head, body = (chat[0]["content"], chat[1:]) if chat and chat[0]["role"] == "system" else ("", chat)
    past = _history(history, where)
    if past and body[: len(past)] != past:
        if len(body) > 1:
            raise SourceError(f"{where}: the chat does not go on from its history")
        body = [*past, *body]
    told = "" if system is None else text(system, "system", where)
    if head and told.strip() and told.strip() != head.strip():
        raise SourceError(f"{where}: system and the chat's own system message differ")
    head = head or (told if told.strip() else "")
    if says(tools):
        head = with_tools(head, tools)
    return [{"role": "system", "content": head}, *body] if head else body


def _history(value: Any, where: str) -> Chat:
    """What was said before: pairs of a question and its answer, or messages."""
    if not says(value):
        return []
    if not isinstance(value, list):
        raise SourceError(f"{where}: history must be pairs of a question and its answer, not {shown(value)}")
    if all(isinstance(each, Mapping) for each in value):
        return messages(value, where)
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise SourceError(f"{where}: history must be pairs of a question and its answer, not {shown(value)}")
    roles = ("user", "assistant")
    return [
        {"role": role, "content": text(said, "history", where)}
        for pair in value
        for role, said in zip(roles, pair, strict=True)
    ]


def merged(prompt: Chat, chat: Chat, where: str) -> Chat:
    """The chat that two parts of a record tell: alike, one within the other, or the second going on from the first."""
    if _within(chat, prompt, at_end=True):
        return prompt
    if _within(prompt, chat):
        return chat
    last, first = prompt[-1]["role"], chat[0]["role"]
    if last != first and (first in ("assistant", "tool") or (first == "user" and last in ("assistant", "system"))):
        return [*prompt, *chat]
    raise SourceError(f"{where}: the prompt and the chat of the answer differ")


def _within(part: Chat, whole: Chat, at_end: bool = False) -> bool:
    """Whether the messages of a part stand in a whole one after the other."""
    last = len(whole) - len(part)
    return any(whole[start : start + len(part)] == part for start in range(max(last, 0) if at_end else 0, last + 1))
