"""One chat from all that a record says of it: its prompt, its answer's chat, and what stands beside them.

`system` and `history` go in front of the chat, `tools` at the end of its system message. What a record says twice may
be said in full and in part; where it says two different things it is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.errors import SourceError
from flywheel.exchange.forms.answers import Answer
from flywheel.exchange.forms.messages import messages, read_prompt, transcript, with_thought, with_tools
from flywheel.exchange.forms.records import Record
from flywheel.exchange.forms.values import says, short_value, text
from flywheel.store.schema import Chat


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
    head = with_tools(head or (told if told.strip() else ""), tools)
    return [{"role": "system", "content": head}, *body] if head else body


def _history(value: Any, where: str) -> Chat:
    """What was said before: pairs of a question and its answer, or messages."""
    if not says(value):
        return []
    if not isinstance(value, list):
        raise SourceError(f"{where}: history must be pairs of a question and its answer, not {short_value(value)}")
    if all(isinstance(each, Mapping) for each in value):
        return messages(value, where)
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise SourceError(f"{where}: history must be pairs of a question and its answer, not {short_value(value)}")
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
    raise SourceError(
        f"{where}: the prompt and a chat that the record holds differ: "
        "--columns messages=NAME or chosen=NAME names a chat that says all of it"
    )


def _within(part: Chat, whole: Chat, at_end: bool = False) -> bool:
    """Whether the messages of a part stand in a whole one after the other."""
    last = len(whole) - len(part)
    return any(whole[start : start + len(part)] == part for start in range(max(last, 0) if at_end else 0, last + 1))


def answered_chat(fields: Record, answers: Sequence[Answer], where: str) -> tuple[list[str], Chat]:
    """What the answers say, and the chat that all of them answer."""
    prompt = read_prompt(fields["prompt"], where) if fields.get("prompt") is not None else []
    alone = not prompt and "messages" not in fields
    parts = [_completed(answer.value, alone, where) for answer in answers]
    if "messages" in fields and all(answer.field != "messages" for answer in answers):
        prompt = _told_twice(prompt, messages(fields["messages"], where), parts, where)
    chats = [merged(prompt, before, where) for before, _ in parts] or [prompt]
    chat = next((chat for chat in chats if chat), [])
    if any(each and each != chat for each in chats):
        raise SourceError(f"{where}: the two answers are not to the same prompt")
    chat = opened(chat, fields.get("system"), fields.get("history"), fields.get("tools"), where)
    if not chat or all(message["role"] == "system" for message in chat):
        raise SourceError(f"{where} has no prompt")
    if not all(message["content"].strip() for message in chat if message["role"] not in ("assistant", "tool")):
        raise SourceError(f"{where}: the prompt is blank")
    return _thought(fields, [said for _, said in parts], where), chat


def _told_twice(prompt: Chat, chat: Chat, parts: Sequence[tuple[Chat, str]], where: str) -> Chat:
    """The prompt where messages stand beside a prompt or beside answers: they must say the same."""
    before = chat[:-1] if chat and chat[-1]["role"] == "assistant" else chat
    if not parts:
        whole = merged(prompt, before, where)
        head = [message for message in whole[:1] if message["role"] == "system"]
        return [*head, *prompt] if prompt and prompt[: len(head)] != head else prompt or whole
    if before is not chat and chat[-1]["content"] != parts[0][1]:
        raise SourceError(f"{where}: messages end in another answer than the record has beside them")
    return merged(prompt, before, where)


def _completed(value: Any, alone: bool, where: str) -> tuple[Chat, str]:
    """The chat before an answer, as far as it is told with it, and the answer. `alone`, a transcript may tell it."""
    told = transcript(value) if alone and isinstance(value, str) else []
    if not told and not isinstance(value, (list, Mapping)):
        return [], text(value, "an answer", where)
    chat = told or messages(value, where)
    if not chat or chat[-1]["role"] != "assistant":
        raise SourceError(f"{where}: the last message of an answer must be the assistant's")
    return chat[:-1], chat[-1]["content"]


def _thought(fields: Record, texts: list[str], where: str) -> list[str]:
    """The answers with the thought that a column of its own holds."""
    if not texts or not says(fields.get("thought")):
        return texts
    if len(texts) > 1:
        raise SourceError(
            f"{where} has a thought, and nobody says of which of the two answers: put it into that answer"
        )
    return [with_thought([text(fields["thought"], "a thought", where)], texts[0], where)]
