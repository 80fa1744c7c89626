"""Which column of a record is what: the names in use, those that the user gives, and what nobody may drop."""

from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.errors import SourceError
from flywheel.exchange.forms.messages import MESSAGE_READ, messages, read_prompt
from flywheel.exchange.forms.records import Record
from flywheel.exchange.forms.values import says

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
    "judgments": ("judgments",),
    "judge_name": ("judge_name",),
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
FIELDS = {
    column: [(field, names.index(column)) for field, names in NAMES.items() if column in names]
    for column in {column for names in NAMES.values() for column in names}
}
"""The fields that a column may be taken for, and which choice of theirs it is."""
ONE = ("prompt", "answer", "messages", "system", "tools")
"""Fields of which a record may have several columns only where they say the same."""
INSTRUCTION_COLUMNS = ("input", "context")
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


def columns_of(record: Record, own: Mapping[str, str], where: str) -> dict[str, str]:
    """The column that each field is taken from; one that says something goes before one that does not."""
    for column in own.values():
        if column not in record:
            raise SourceError(f"{where} has no column {column!r}; its columns are {', '.join(record) or 'none'}")
    found, ignored = dict(own), {*own, *_ignored(record, own)}
    best: dict[str, tuple[bool, int]] = {}
    for column in record.keys() & FIELDS.keys() - set(own.values()):
        for field, place in FIELDS[column]:
            rank = (not says(record[column]), place)
            if field not in ignored and rank < best.get(field, (True, len(NAMES[field]))):
                found[field], best[field] = column, rank
    if found.get("response_A") == found.get("response_B"):
        found.pop("response_B", None)  # one answer and no second
    if "prompt" not in ignored and not says(record.get(found.get("prompt", ""))):
        held = [name for name in INSTRUCTION_COLUMNS if says(record.get(name)) and name not in found.values()]
        if held == ["input"] or (len(held) == 1 and isinstance(record[held[0]], list)):
            found["prompt"] = held[0]
    return found


def _ignored(record: Record, own: Mapping[str, str]) -> Sequence[str]:
    """Fields that the user's choice leaves aside: a chat says all of it, and so do a prompt and an answer."""
    if "chosen" in own and isinstance(record[own["chosen"]], list) and len(record[own["chosen"]]) > 1:
        return [field for field in ("prompt", "messages") if field not in own]
    if "messages" in own:
        return [field for field in ("prompt", "answer") if field not in own]
    return ["messages"] if "answer" in own else []


def values_of(record: Record, columns: Mapping[str, str], own: Mapping[str, str], where: str) -> Record:
    """The values of these fields; SourceError where the record says one of them twice, or what cannot be kept."""
    if held := [name for name in NEVER_DROPPED if name in record and says(record[name]) and name not in own.values()]:
        raise SourceError(f"{where} has {held[0]}, of which no text can be made: leave such rows or that column out")
    values = {field: record[column] for field, column in columns.items() if column in record}
    for field in [field for field in ONE if field in values and field not in own]:
        for name in [name for name in NAMES[field] if name in record and name != columns[field]]:
            if says(record[name]) and not _alike(field, values[field], record[name], where):
                raise SourceError(
                    f"{where}: {columns[field]} and {name} differ: --columns {field}=NAME says which is the {field}"
                )
    if says(values.get("prompt")):
        values["prompt"] = _question(record, columns, own, where)
    return values


def _alike(field: str, one: Any, other: Any, where: str) -> bool:
    if one == other or field not in ("prompt", "messages"):
        return bool(one == other)
    read = read_prompt if field == "prompt" else messages
    return read(one, where) == read(other, where)


def beside(record: Record, columns: Mapping[str, str]) -> list[str]:
    """The columns that belong to an instruction."""
    held = [name for name in INSTRUCTION_COLUMNS if says(record.get(name)) and name not in columns.values()]
    return (
        held if columns.get("prompt") == "instruction" and len(held) == 1 and isinstance(record[held[0]], str) else []
    )


def _question(record: Record, columns: Mapping[str, str], own: Mapping[str, str], where: str) -> Any:
    """The prompt with what belongs to it; SourceError where nobody says how the two make one."""
    value, own_part = record[columns["prompt"]], beside(record, columns)
    parts = (*INSTRUCTION_COLUMNS, *OPTIONS) if isinstance(value, str) else INSTRUCTION_COLUMNS
    apart = [name for name in parts if says(record.get(name)) and name not in (*columns.values(), *own_part)]
    apart = [name for name in apart if record[name] != value]
    if apart and "prompt" not in own:
        raise SourceError(
            f"{where} has {apart[0]} beside its question, and nobody says how the two make one: "
            "--columns prompt=NAME names the column that holds all of it"
        )
    return f"{value}\n\n{record[own_part[0]]}" if own_part and isinstance(value, str) else value  # as Alpaca has it


def unused(record: Record, used: Sequence[str]) -> set[str]:
    """Columns, and members of messages as in `messages.id`, that say something and that nobody read."""
    left = {name for name, value in record.items() if name not in used and says(value)}
    for name in used:
        held = record[name] if isinstance(record.get(name), list) else []
        chat = [each for each in held if isinstance(each, Mapping) and {"role", "from"} & set(each)]
        left |= {f"{name}.{key}" for each in chat for key in each if key not in MESSAGE_READ and says(each[key])}
    return left
