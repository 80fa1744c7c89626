"""The answers of a record, each with its author and its score, and what the record says of two of them."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from flywheel.errors import SourceError
from flywheel.exchange.forms.messages import messages
from flywheel.exchange.forms.records import Record
from flywheel.exchange.forms.values import says, short_value
from flywheel.exchange.forms.verdicts import PREFERENCE_READERS, read_preference

PartKind = Literal["text", "other"]


class Answer(NamedTuple):
    """What a record says of an answer; `part` is its place in ENTRIES."""

    field: str
    part: PartKind
    value: Any
    score: Any = None
    generator: Any = None


def read_answers(fields: Record, form: str, where: str) -> tuple[list[Answer], Record]:
    """The answers of a record, and the verdict on them."""
    if form == "prompt":
        return [], {}
    if form in ("two", "judged"):
        return _two(fields, where)
    answer = "answer" if "answer" in fields else "messages"
    value = fields.get("answer") if "answer" in fields or form == "pair" else messages(fields["messages"], where)
    if form == "answer":
        return [Answer(answer, "text", value, fields.get("score"))], {}
    if form == "label":
        if not isinstance(fields["label"], bool):
            raise SourceError(f"{where}: label must be true or false, not {short_value(fields['label'])}")
        return [Answer(answer, "text" if fields["label"] else "other", value, float(fields["label"]))], {}
    tie = isinstance(fields.get("status"), str) and fields["status"].strip().lower() == "tie"
    name, chosen = ("chosen", fields["chosen"]) if form == "pair" else (answer, value)
    found = [
        Answer(name, "text", chosen, fields.get("chosen_score"), fields.get("chosen_generator")),
        Answer("rejected", "other", fields["rejected"], fields.get("rejected_score"), fields.get("rejected_generator")),
    ]
    return found, {"verdict": "tie" if tie else "a", "order": "ab"}


def _two(fields: Record, where: str) -> tuple[list[Answer], Record]:
    """Two answers in their places, the better one first, and the verdict."""
    winner, share = read_preference(fields, where)
    worth = {"A": None if share is None else round(1 - share, 12), "B": share}
    sides = ("B", "A") if winner == "B" else ("A", "B")
    parts: tuple[PartKind, PartKind] = ("text", "other")
    found = [
        Answer(f"response_{side}", part, _judged(fields, side, where), worth[side], fields.get(f"generator_{side}"))
        for side, part in zip(sides, parts, strict=True)
    ]
    first = "B" if fields.get("order") == "ba" else "A"
    told = "tie" if winner == "tie" else None if winner is None else "a"
    return found, {"verdict": told, "order": "ab" if sides[0] == first else "ba"}


def _judged(fields: Record, side: str, where: str) -> Any:
    """An answer that was compared: of a chat what there was at the turn that is meant."""
    value, turn = fields[f"response_{side}"], fields.get("turn")
    if not isinstance(value, list) or not isinstance(turn, int):
        return value
    chat = messages(value, where)
    ends = [place for place, message in enumerate(chat, 1) if message["role"] == "assistant"]
    if not 1 <= turn <= len(ends):
        raise SourceError(f"{where}: turn {turn} is judged in a chat of {len(ends)}")
    return chat[: ends[turn - 1]]


def each_order(fields: Record, where: str) -> Iterator[Record]:
    """The fields of a record once for each verdict in it: JudgeBench's outputs have a label, which is no judge's, and
    the decisions of a judge who saw the two answers in this order and then in the other, in the letters that he saw."""
    judgments = fields.get("judgments")
    if not says(judgments):
        yield fields
        return
    if not isinstance(judgments, list) or len(judgments) > 2 or not all(isinstance(each, dict) for each in judgments):
        raise SourceError(f"{where}: judgments must be one for each order, not {short_value(judgments)}")
    if set(PREFERENCE_READERS) & set(fields):
        yield fields
    bare = {name: value for name, value in fields.items() if name not in PREFERENCE_READERS}
    for place, judgment in enumerate(judgments):
        seen = dict(bare) if place == 0 else _exchanged(bare)
        yield {**seen, "label": judgment.get("decision"), "order": "ab", "annotator": fields.get("judge_name")}


def _exchanged(fields: Record) -> Record:
    """The fields with A for B."""
    other = {
        f"{name}_{side}": f"{name}_{'AB'.replace(side, '')}" for name in ("response", "generator") for side in "AB"
    }
    return {other.get(name, name): value for name, value in fields.items()}
