"""Wordings: texts with slots such as `{question}`, each filled once and never read again.

A wording is a .txt beside its judge, or a text of your own; it is a field of the judge, so another wording is another
judge. What fills a slot is only text: braces in it are braces. Wherever a wording has `{mark}` stands a code that no
answer can hold, since it is made of all that fills the slots; so an answer cannot pretend to end before its end. Nor
can it end the turn: a tokenizer would read the marks of turns in it as such, so they get a space.
"""

import re
from pathlib import Path
from typing import Any

from flywheel.errors import RecipeError
from flywheel.identity import describe, names
from flywheel.store.ids import content_id
from flywheel.store.schema import Chat

SLOT = re.compile(r"\{([a-z_]+)\}")
TURN = re.compile(
    r"<(?=\|[^<>|\s]{1,40}\|>|｜[^<>｜\s]{1,40}｜>|/?s>|</?SYS>>|(?:start|end)_of_turn>"
    r"|(?:bos|eos|pad|unk|end|system|user|assistant)>)|\[(?=/?INST\])"
)
"""Begins a mark of turns in the chat templates that are about."""


def wording(name: str) -> str:
    """The text of `name`.txt in this folder."""
    return Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8").strip()


def check_slots(template: str, *slots: str) -> None:
    """Raise RecipeError unless the template has each of these slots."""
    lacking = [f"{{{slot}}}" for slot in slots if slot not in SLOT.findall(template)]
    if lacking:
        raise RecipeError(f"the wording {template[:60]!r} lacks {' and '.join(lacking)}: put it where the text belongs")


def fill(template: str, **slots: str) -> str:
    """The template with each `{slot}` replaced by its text. Other words in braces stay. Raises RecipeError as above."""
    check_slots(template, *slots)
    texts = {
        "mark": content_id("mark", template, slots)[:8],
        **{slot: without_marks(text) for slot, text in slots.items()},
    }
    return SLOT.sub(lambda slot: texts.get(slot[1], slot[0]), template)


def without_marks(text: str) -> str:
    """The text, whose marks of turns are no marks any more."""
    return TURN.sub(r"\g<0> ", text)


def conversation(chat: Chat) -> str:
    """What was asked: the message itself where there is one, else all of them with their roles."""
    if len(chat) == 1:
        return chat[0]["content"]
    return "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in chat)


def titled(judge: Any) -> str:
    """A judge's name: the oldest of its type, and a hash of all fields, wording, model and sampling among them."""
    return f"{names(type(judge))[0]}#{content_id(describe(judge))[:8]}"
