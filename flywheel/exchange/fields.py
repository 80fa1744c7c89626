"""Which column of a record is what: the names in use, those that the user gives, and what nobody may drop."""

from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.errors import SourceError
from flywheel.exchange.messages import READ, asked, messages
from flywheel.exchange.records import Record
from flywheel.exchange.values import says

NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "chat", "question", "instruction", "query", "context_messages"),
    "answer": ("answer", "completion", "output", "response"),
    "messages": ("messages", "conversations", "conversation"),
    "system": ("system", "system_prompt"),
    "history": ("history",),
    "tools": ("tools", "functions"),
    "thought": ("reasoning_content", "thinking"),
    "chosen": ("chosen",),
    "rejected": ("rejected", "rejected_response", "rejected_messages"),
    "response_A": ("response_A", "output_1", "response1", "response_a", "conversation_a", "response_0", "response_1"),
    "response_B": ("response_B", "output_2", "response2", "response_b", "conversation_b", "response_2", "response_1"),
    "label": ("label", "kto_tag"),
    "preference": ("preference",),
    "winner": ("winner",),
    "strength": ("overall_preference", "preference_strength"),
    "better": ("better_response_id",),
    "order": ("order",),
    "turn": ("turn",),
    "status": ("status",),
    "annotator": ("annotator", "judge"),
    "score": ("score",),
    "chosen_score": ("chosen_score", "score_chosen", "chosen_rating", "chosen-rating"),
    "rejected_score": ("rejected_score", "score_rejected", "rejected_rating", "rejected-rating"),
    "generator": ("generator",),
    "generator_A": ("generator_A", "generator_1", "model_a", "model_1"),
    "generator_B": ("generator_B", "generator_2", "model_b", "model_2"),
    "chosen_generator": ("chosen_generator", "chosen_model", "chosen-model"),
    "rejected_generator": ("rejected_generator", "rejected_model", "rejected-model"),
    "reference": ("reference",),
    "meta": ("meta",),
    "source": ("source", "dataset"),
}
"""The fields of an entry, and the columns that are taken for them."""
ONE = ("prompt", "answer", "messages", "system", "tools")
"""Fields of which a record may have several columns only where they say the same."""
BESIDE = ("input", "context")
"""Columns that belong to an instruction, or hold the prompt where no other column does."""
OPTIONS = ("choices", "options")
NEVER_DROPPED = ("image", "images", "video", "videos", "audio", "audios", "documents", "chat_template_kwargs")
"""Columns that change what is asked or answered and that no rule makes text of."""


def named(columns: Sequence[str]) -> dict[str, str]:
    """The user's names of columns, by field, from texts as "prompt=question"."""
    pairs = [item.strip().partition("=") for column in columns for item in column.split(",")]
    for field, _, column in pairs:
        if field not in NAMES or not column:
            raise SourceError(f"--columns wants FIELD=COLUMN, with a field of {', '.join(NAMES)}; not {field!r}")
    return {field: column for field, _, column in pairs}


def found(record: Record, own: Mapping[str, str], where: str) -> tuple[Record, dict[str, str]]:
    """The values of a record by field, and the columns that they come from."""
    for column in own.values():
        if column not in record:
            raise SourceError(f"{where} has no column {column!r}; its columns are {', '.join(record) or 'none'}")
    if held := [name for name in NEVER_DROPPED if says(record.get(name)) and name not in own.values()]:
        raise SourceError(f"{where} has {held[0]}, of which no text can be made: leave such rows or that column out")
    ignored = () if not own else _ignored(own)
    columns = {
        field: column
        for field, names in NAMES.items()
        if field not in ignored and (column := _column(record, field, names, own, where))
    }
    values = {field: record[column] for field, column in columns.items()}
    _prompt(record, own, columns, values, where)
    return values, columns


def _ignored(own: Mapping[str, str]) -> Sequence[str]:
    """Fields that a record may say in another way than the user chose: a chat, or a prompt and an answer."""
    if "messages" in own:
        return [field for field in ("prompt", "answer") if field not in own]
    return ["messages"] if "answer" in own else []


def _column(record: Record, field: str, names: Sequence[str], own: Mapping[str, str], where: str) -> str | None:
    """The column that a field is taken from; one that says something goes before one that does not."""
    if field in own:
        return own[field]
    there = [name for name in names if name in record and name not in own.values()]
    told = [name for name in there if says(record[name])]
    if field in ONE:
        for name in told[1:]:
            if not _alike(field, record[told[0]], record[name], where):
                raise SourceError(
                    f"{where}: {told[0]} and {name} differ: --columns {field}=NAME says which is the {field}"
                )
    return next(iter((*told, *there)), None)


def _alike(field: str, one: Any, other: Any, where: str) -> bool:
    if one == other or field not in ("prompt", "messages"):
        return bool(one == other)
    read = asked if field == "prompt" else messages
    return read(one, where) == read(other, where)


def _prompt(record: Record, own: Mapping[str, str], columns: dict[str, str], values: Record, where: str) -> None:
    """Put what belongs to a question into it; SourceError where nobody says how."""
    chosen = {"prompt", "messages"} & set(own)
    name = columns.get("prompt") if says(values.get("prompt")) else None
    beside = [each for each in BESIDE if says(record.get(each)) and each not in columns.values()]
    if name == "instruction" and len(beside) == 1 and isinstance(record[beside[0]], str):
        values["prompt"] = f"{record[name]}\n\n{record[beside[0]]}"  # as Alpaca has it
        columns["beside"] = beside.pop()
    elif name is None and not chosen and (beside == ["input"] or _are_messages(record, beside)):
        columns["prompt"] = beside.pop()
        values["prompt"] = record[columns["prompt"]]
    apart = [each for each in (*beside, *OPTIONS) if says(record.get(each)) and each not in columns.values()]
    apart = [each for each in apart if record[each] != values.get("prompt")]
    if apart and not chosen:
        raise SourceError(
            f"{where} has {apart[0]} beside its question, and nobody says how the two make one: "
            "--columns prompt=NAME names the column that holds all of it"
        )


def _are_messages(record: Record, columns: Sequence[str]) -> bool:
    return len(columns) == 1 and isinstance(record[columns[0]], list)


def unused(record: Record, used: Sequence[str]) -> set[str]:
    """Columns, and members of messages as in `messages.id`, that say something and that nobody read."""
    left = {name for name, value in record.items() if name not in used and says(value)}
    for name in used:
        held = record[name] if isinstance(record.get(name), list) else []
        chat = [each for each in held if isinstance(each, Mapping) and {"role", "from"} & set(each)]
        left |= {f"{name}.{key}" for each in chat for key in each if key not in READ and says(each[key])}
    return left
