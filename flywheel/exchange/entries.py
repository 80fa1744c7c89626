"""What a record from elsewhere says: a prompt, and an answer to it or a better and a worse one.

Columns are known by the names that are in use; `prompt=my_column` names another one.

    prompts        prompt
    generations    prompt, answer                          or messages, the last of them the answer
    preferences    prompt, chosen, rejected                or chosen and rejected with the whole chat (UltraFeedback)
                   prompt, answer, label (true or false)   KTO's
                   prompt, response_A, response_B, label   "A>B" or "B>A": JudgeBench's

A prompt is text or messages with role and content; so is an answer, whose last message must be the assistant's.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import polars as pl

from flywheel.errors import SourceError
from flywheel.exchange.records import Record
from flywheel.tables import CHAT, Chat, prompt_id, schema

Kind = Literal["prompts", "generations", "preferences"]
KINDS: tuple[Kind, ...] = ("prompts", "generations", "preferences")
NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "chat", "question", "instruction"),
    "answer": ("answer", "completion", "output", "response"),
    "messages": ("messages",),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "response_A": ("response_A",),
    "response_B": ("response_B",),
    "label": ("label",),
    "score": ("score",),
    "chosen_score": ("chosen_score", "score_chosen"),
    "rejected_score": ("rejected_score", "score_rejected"),
    "generator": ("generator",),
    "reference": ("reference",),
    "meta": ("meta",),
    "source": ("source", "dataset"),
}
"""The fields of an entry, and the columns that are taken for them."""
FORMS: Mapping[Kind, tuple[tuple[str, ...], ...]] = {
    "prompts": (("prompt",),),
    "generations": (("prompt", "answer"), ("messages",)),
    "preferences": (
        ("chosen", "rejected"),
        ("prompt", "response_A", "response_B", "label"),
        ("prompt", "answer", "label"),
    ),
}
BETTER = {"A>B": ("response_A", "response_B"), "B>A": ("response_B", "response_A")}
ENTRIES = schema(
    {
        "prompt": pl.String,  # id
        "chat": CHAT,
        "reference": pl.String,
        "meta": pl.String,
        "source": pl.String,
        "generator": pl.String,
        "text": pl.String,  # the answer, or the better of two; NULL where there is none
        "score": pl.Float64,
        "other": pl.String,  # the worse one
        "other_score": pl.Float64,
    }
)
CHUNK = 4096


def entries(rows: Iterable[tuple[str, Record]], kind: Kind, columns: Sequence[str] = ()) -> pl.DataFrame:
    """ENTRIES of records with their places; columns as in "prompt=question". SourceError names the first bad record."""
    own, frames, chunk = _own(columns), [ENTRIES.to_frame()], list[Record]()
    for where, record in rows:
        chunk.append(_entry(_fields(record, kind, own, where), kind, where))
        if len(chunk) == CHUNK:
            frames.append(pl.DataFrame(chunk, schema=ENTRIES, orient="row"))
            chunk = []
    return pl.concat([*frames, pl.DataFrame(chunk, schema=ENTRIES, orient="row")])


def _own(columns: Sequence[str]) -> dict[str, str]:
    """The user's names of columns, by field."""
    pairs = [item.strip().partition("=") for column in columns for item in column.split(",")]
    for field, _, column in pairs:
        if field not in NAMES or not column:
            raise SourceError(f"--columns wants FIELD=COLUMN, with a field of {', '.join(NAMES)}; not {field!r}")
    return {field: column for field, _, column in pairs}


def _fields(record: Record, kind: Kind, own: Mapping[str, str], where: str) -> Record:
    """The values of a record by field, in the first form that it has."""
    for column in own.values():
        if column not in record:
            raise SourceError(f"{where} has no column {column!r}; its columns are {', '.join(record) or 'none'}")
    found = {}
    for field, names in NAMES.items():
        name = own.get(field) or next((name for name in names if name in record), None)
        if name is not None:
            found[field] = record[name]
            if name == "instruction" and isinstance(record.get("input"), str) and record["input"].strip():
                found[field] = f"{record[name]}\n\n{record['input']}"  # as Alpaca has it
    if not any(set(form) <= set(found) for form in FORMS[kind]):
        forms = ", or ".join(" and ".join(form) for form in FORMS[kind])
        raise SourceError(
            f"{where} has {', '.join(record) or 'no columns'}: {kind} need {forms}; "
            "--columns prompt=NAME says which column is what"
        )
    return found


def _entry(fields: Record, kind: Kind, where: str) -> Record:
    """One row of ENTRIES."""
    chat = _chat(fields["prompt"], where) if fields.get("prompt") is not None else []
    values: Record = {
        name: _plain(fields.get(name), name, where) for name in ("reference", "meta", "source", "generator")
    }
    before = chat
    for part, score, value, worth in _parts(fields, kind, where):
        answered, values[part] = _completed(before, value, where)
        if part == "other" and "text" in values and answered != chat:
            raise SourceError(f"{where}: the two answers are not to the same prompt")
        chat, values[score] = answered, _number(worth, where)
    if not chat:
        raise SourceError(f"{where} has no prompt")
    return {**values, "chat": chat, "prompt": prompt_id(chat)}


def _parts(fields: Record, kind: Kind, where: str) -> Iterator[tuple[str, str, Any, Any]]:
    """Where an answer and its score go in ENTRIES, and both."""
    if kind == "generations":
        yield "text", "score", fields["answer"] if "answer" in fields else fields["messages"], fields.get("score")
    elif kind == "preferences" and {"chosen", "rejected"} <= set(fields):
        yield "text", "score", fields["chosen"], fields.get("chosen_score")
        yield "other", "other_score", fields["rejected"], fields.get("rejected_score")
    elif kind == "preferences" and "answer" in fields:
        if not isinstance(fields["label"], bool):
            raise SourceError(f"{where}: label must be true or false, not {fields['label']!r}")
        yield (
            ("text", "score", fields["answer"], 1.0)
            if fields["label"]
            else ("other", "other_score", fields["answer"], 0.0)
        )
    elif kind == "preferences":
        if fields["label"] not in BETTER:
            raise SourceError(f"{where}: label must be {' or '.join(BETTER)}, not {fields['label']!r}")
        better, worse = BETTER[fields["label"]]
        yield "text", "score", fields[better], None
        yield "other", "other_score", fields[worse], None


def _chat(value: Any, where: str) -> Chat:
    """A prompt as messages; it must say something."""
    chat = (
        [{"role": "user", "content": _text(value, "the prompt", where)}]
        if isinstance(value, str)
        else _messages(value, where)
    )
    if not chat or not all(message["content"].strip() for message in chat if message["role"] != "assistant"):
        raise SourceError(f"{where}: the prompt is blank")
    return chat


def _completed(chat: Chat, value: Any, where: str) -> tuple[Chat, str]:
    """The chat before an answer, and the answer: text, or messages that go on from the chat or repeat it."""
    if not isinstance(value, list):
        return chat, _text(value, "an answer", where)
    messages = _messages(value, where)
    if not messages or messages[-1]["role"] != "assistant":
        raise SourceError(f"{where}: the last message of an answer must be the assistant's")
    before, text = messages[:-1], messages[-1]["content"]
    repeats = not chat or chat[-1] in before
    return (before if before and repeats else [*chat, *before]), text


def _messages(value: Any, where: str) -> Chat:
    if not isinstance(value, list) or not all(
        isinstance(each, dict) and {"role", "content"} <= set(each) for each in value
    ):
        raise SourceError(f"{where}: a chat must be text, or messages with role and content, not {_shown(value)}")
    return [{name: _text(each[name], f"a message's {name}", where) for name in ("role", "content")} for each in value]


def _text(value: Any, what: str, where: str) -> str:
    if not isinstance(value, str):
        raise SourceError(f"{where}: {what} must be text, not {_shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise SourceError(
            f"{where}: {what} holds half a character at place {error.start + 1}, which is no text"
        ) from error
    return value


def _plain(value: Any, what: str, where: str) -> str | None:
    """Text; JSON of what is none."""
    if value is None or isinstance(value, str):
        return value if value is None else _text(value, what, where)
    return json.dumps(value, ensure_ascii=False, default=str)


def _number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
        raise SourceError(f"{where}: a score must be a number, not {_shown(value)}")
    return float(value)


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
