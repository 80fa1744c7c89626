r"""Messages from whatever form a record says them in.

    {"role": "user", "content": "..."}          OpenAI's; the texts of content parts are joined by line breaks
    {"from": "human", "value": "..."}           ShareGPT's, and whatever else its roles are called
    {"human": "...", "assistant": "..."}        a question and its answer; also input and output, query and response
    "\n\nHuman: ...\n\nAssistant: ..."          Anthropic's transcripts

A chat holds roles and texts and nothing else. What else changes a question or an answer becomes text by these rules:

    a tool that is called   a line NAME(ARGUMENTS) after the text of the message; arguments are JSON without nulls
    tools that are there    the end of the system message: `Tools: ` and their JSON without nulls
    a thought               in front of the text of the message, within the first markers of flywheel.text.thoughts

A system message that says nothing is none.
What no rule makes text of, as pictures and sounds, is refused.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.errors import SourceError
from flywheel.exchange.forms.values import as_json, decoded, says, short_value, text
from flywheel.store.schema import Chat, Message
from flywheel.text.thoughts import THOUGHTS

ROLES: Mapping[str, str] = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "bot", "chatbot", "model"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function", "function_response", "tool_response", "ipython"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "assistant"),
    "system": "system",
}
"""What roles are called, in small letters; others stay as they are."""
CALLS = ("function_call", "tool_call")
"""Roles whose text is the JSON of calls."""
TURNS = (("human", "assistant"), ("user", "assistant"), ("input", "output"), ("query", "response"))
THINKING = ("reasoning_content", "thinking", "reasoning")
NO_TEXT = ("image", "images", "image_url", "video", "videos", "audio", "audios", "files", "documents", "refusal")
"""Members of a message that no rule makes text of."""
MESSAGE_FIELDS = ("role", "from", "content", "value")
MESSAGE_READ = (*MESSAGE_FIELDS, "tool_calls", "tool_call_id", "function_call", "tools", *THINKING)
"""Members of a message that are read."""
TRANSCRIPT = re.compile(r"\n\n(Human|Assistant):")


def read_prompt(value: Any, where: str) -> Chat:
    """A prompt: text, a transcript that waits for its answer, or messages."""
    if not isinstance(value, str):
        return messages(value, where)
    transcribed = transcript(value) if value.rstrip().endswith("\n\nAssistant:") else []
    return transcribed or [{"role": "user", "content": text(value, "the prompt", where)}]


def transcript(value: str) -> Chat:
    """The messages of one of Anthropic's transcripts, without an answer that is not there; none of other texts."""
    if not value.startswith("\n\nHuman:"):
        return []
    _, *parts = TRANSCRIPT.split(value)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    chat = [{"role": ROLES[role.lower()], "content": said.strip()} for role, said in pairs]
    return chat[:-1] if chat[-1] == {"role": "assistant", "content": ""} else chat


def messages(value: Any, where: str) -> Chat:
    """Messages as they are in a chat; SourceError for what is no message, or holds more than text can say."""
    listed = [value] if isinstance(value, dict) else value
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise SourceError(f"{where}: a chat must be text, or messages with role and content, not {short_value(value)}")
    if any("tool_call_id" in each for each in listed):
        _in_order(listed, where)
    found = [message for each in listed for message in _turn(each, where) or [_message(each, where)]]
    return [message for message in found if message["role"] != "system" or message["content"].strip()]


def _turn(each: Mapping[str, Any], where: str) -> Chat:
    """The two messages of a question and its answer."""
    for user, assistant in () if {"role", "from"} & each.keys() else TURNS:
        if isinstance(each.get(user), str) and isinstance(each.get(assistant), str):
            told = (("system", each.get("system") or ""), ("user", each[user]), ("assistant", each[assistant]))
            return [{"role": role, "content": text(said, f"a chat's {role}", where)} for role, said in told]
    return []


def _message(each: Mapping[str, Any], where: str) -> Message:
    said = each["role"] if each.get("role") is not None else each.get("from")
    content = each["content"] if each.get("content") is not None else each.get("value")
    more = {name: value for name, value in each.items() if name not in MESSAGE_FIELDS and says(value)}
    if said is None or (content is None and not more and not {"content", "value"} & each.keys()):
        raise SourceError(f"{where}: a chat must be text, or messages with role and content, not {short_value([each])}")
    name = text(said, "a message's role", where).strip()
    role = ROLES.get(name.lower(), name)
    if more or not isinstance(content, str) or name.lower() in CALLS:
        content = _body(content, more, role, name.lower() in CALLS, where)
    return {"role": role, "content": text(content, "a message's content", where)}


def _body(content: Any, more: Mapping[str, Any], role: str, is_call: bool, where: str) -> str:
    """What a message says, with its thought, its calls and its tools."""
    if held := [name for name in NO_TEXT if name in more]:
        raise SourceError(f"{where}: a message has {held[0]}, of which no text can be made: leave such rows out")
    thoughts = [text(more[key], f"a message's {key}", where) for key in THINKING if key in more]
    calls = [_call(call, where) for call in _calls(more)]
    body = "" if content is None and (calls or thoughts) else _content(content, thoughts, where)
    if is_call:
        body = _called(body, where)
    body = "\n".join(part for part in (body, *calls) if part)
    if thoughts and role != "assistant":
        raise SourceError(f"{where}: a message of the {role}'s holds a thought, which only answers have")
    return with_thought(thoughts, with_tools(body, more.get("tools")), where)


def _content(value: Any, thoughts: list[str], where: str) -> str:
    """The text of a message's content; what is a thought in it is added to `thoughts`."""
    if not isinstance(value, list):
        return text(value, "a message's content", where)
    texts = []
    for part in value:
        held = part if isinstance(part, dict) else {"text": part}
        kind = str(held.get("type") or "text")
        if kind in ("thinking", "reasoning"):
            thoughts.append(text(held.get(kind, held.get("text")), "a thought", where))
        elif kind in ("text", "input_text", "output_text"):
            texts.append(text(held.get("text"), "a part of a message", where))
        else:
            raise SourceError(f"{where}: a message has a part of type {kind!r}, of which no text can be made")
    return "\n".join(texts)


def _calls(each: Mapping[str, Any]) -> list[Any]:
    """The calls of tools in a message: today's, and the one that there was before."""
    many = each.get("tool_calls")
    if isinstance(many, str):
        many = decoded(many)
    listed = many if isinstance(many, list) else [many]
    return [call for call in (*listed, each.get("function_call")) if says(call)]


def _call(call: Any, where: str) -> str:
    held = call.get("function") or call if isinstance(call, dict) else {}
    name = held.get("name") if isinstance(held, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise SourceError(f"{where}: the call of a tool must have a name, not {short_value(call)}")
    arguments: Any = next((held[key] for key in ("arguments", "parameters", "input") if held.get(key) is not None), {})
    return f"{name}({as_json(arguments)})"


def _called(body: str, where: str) -> str:
    """Calls as text from their JSON; as they are where they are none."""
    calls = decoded(body)
    listed = calls if isinstance(calls, list) else [calls]
    named = [call for call in listed if isinstance(call, dict) and ("name" in call or "function" in call)]
    return "\n".join(_call(call, where) for call in named) if named and len(named) == len(listed) else body


def _in_order(listed: Sequence[Mapping[str, Any]], where: str) -> None:
    """Refuse results of tools in another order than their calls: a chat has no ids that would tell them apart."""
    waiting: list[Any] = []
    for each in listed:
        waiting = [call.get("id") for call in _calls(each) if isinstance(call, dict)] or waiting
        answers = each.get("tool_call_id")
        if answers is not None and answers in waiting and answers != waiting.pop(0):
            raise SourceError(f"{where}: results of tools must come in the order of their calls")


def with_thought(thoughts: Sequence[str], body: str, where: str) -> str:
    """A text with what was thought before it, in the first markers."""
    told = list(dict.fromkeys(thought.strip() for thought in thoughts if thought.strip()))
    begin, end = THOUGHTS[0]
    if not told or (begin in body and told[0] in body and len(told) == 1):
        return body
    if begin in body or len(told) > 1:
        raise SourceError(f"{where}: two thoughts that differ stand before one answer")
    return f"{begin}\n{told[0]}\n{end}\n\n{body}"


def with_tools(body: str, tools: Any) -> str:
    """The text of a system message with the tools that there are, if any."""
    if not says(decoded(tools) if isinstance(tools, str) else tools):
        return body
    told = f"Tools: {as_json(tools)}"
    return body if told in body else f"{body}\n\n{told}".lstrip()
