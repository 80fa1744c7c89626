"""What a record from elsewhere says: a prompt, and an answer to it or two of them with what is thought of them.

Columns are known by the names that are in use (flywheel.exchange.forms.fields); `prompt=my_column` names another one.

    prompts        prompt, or messages without the answer that they end in
    generations    prompt, answer                          or messages, the last of them the answer
    preferences    prompt, chosen, rejected                or chosen and rejected with the whole chat (UltraFeedback)
                   messages, rejected_response             ms-swift's; the messages end in the better answer
                   prompt, answer, label (true or false)   KTO's; also messages and label
    comparisons    prompt, output_1, output_2, preference  AlpacaEval's; also response_A, response_B and label, and
                                                           others' names (flywheel.exchange.forms.verdicts)

Comparisons may be imported as preferences, too. The first of two answers counts as the one that was shown first, but
where `order` says "ba". Beside a prompt, `system`, `history` and `tools` belong to it (`chats.py`); an
answer's chat may go on from the prompt or repeat it, or its last turns. What a record says twice and differently, and
what changes a question or an answer and cannot be told in text, is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from flywheel.errors import SourceError
from flywheel.exchange.forms.answers import each_order, read_answers
from flywheel.exchange.forms.chats import answered_chat
from flywheel.exchange.forms.fields import beside, columns_of, named, unused, values_of
from flywheel.exchange.forms.records import Record
from flywheel.exchange.forms.values import number_or_none, says, text_or_json
from flywheel.exchange.forms.verdicts import PREFERENCE_READERS
from flywheel.store.ids import prompt_id
from flywheel.store.schema import CHAT, schema

Kind = Literal["prompts", "generations", "preferences", "comparisons"]
NEEDS: Mapping[Kind, str] = {
    "prompts": "prompt",
    "generations": "prompt and answer, or messages",
    "preferences": "chosen and rejected, or prompt and answer and label, or two answers and a verdict",
    "comparisons": "two answers and a verdict, as response_A, response_B and label, or output_1, output_2, preference",
}
ALWAYS = ("prompt", "messages", "system", "history", "tools", "reference", "meta", "source")
ONE_ANSWER_FIELDS = ("answer", "generator", "thought")
PAIR = ("rejected", "chosen_score", "rejected_score", "chosen_generator", "rejected_generator", "status", "annotator")
SIDES = ("response_A", "response_B", "generator_A", "generator_B", "generator", "order", "turn", "annotator", "thought")
USED: Mapping[str, Sequence[str]] = {
    "prompt": (),
    "answer": (*ONE_ANSWER_FIELDS, "score"),
    "label": (*ONE_ANSWER_FIELDS, "label"),
    "pair": ("chosen", *PAIR, "generator", "thought"),
    "rejected": (*ONE_ANSWER_FIELDS, *PAIR),
    "two": (*SIDES, *PREFERENCE_READERS),
    "judged": (*SIDES, *PREFERENCE_READERS, "judgments", "judge_name"),
}
"""The fields that each form of a record makes use of, beside those that all do."""
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
        "other_generator": pl.String,
        "other": pl.String,  # the worse one; of two that are equal the second
        "other_score": pl.Float64,
        "verdict": pl.String,  # of two answers: a, tie, or NULL where nobody said it
        "order": pl.String,  # ab: the first of them was shown first; or ba
        "annotator": pl.String,
    }
)
CHUNK_ENTRIES = 4096


@dataclass
class Told:
    """What is to be said once of all records: how many were read, the bad ones, if they are to be left out, and the
    columns that nobody read."""

    skip_bad: bool = False
    read: int = 0
    bad: list[str] = field(default_factory=list)
    unused: set[str] = field(default_factory=set)


def entries(
    rows: Iterable[tuple[str, Record]], kind: Kind, columns: Sequence[str] = (), told: Told | None = None
) -> pl.DataFrame:
    """ENTRIES of records with their places; columns as in "prompt=question". SourceError names the first bad record,
    unless `told` collects them."""
    own, frames, chunk, told = named(columns), [ENTRIES.to_frame()], list[Record](), told or Told()
    for where, record in rows:
        try:
            found, used = _read(record, kind, own, where)
        except SourceError as error:
            if not told.skip_bad:
                raise
            told.bad.append(str(error))
            continue
        chunk += found
        told.read += 1
        told.unused |= used
        if len(chunk) >= CHUNK_ENTRIES:
            frames.append(pl.DataFrame(chunk, schema=ENTRIES, orient="row"))
            chunk = []
    return pl.concat([*frames, pl.DataFrame(chunk, schema=ENTRIES, orient="row")])


def _read(record: Record, kind: Kind, own: Mapping[str, str], where: str) -> tuple[list[Record], set[str]]:
    """The rows of a record, and its columns that nobody read."""
    try:
        there = columns_of(record, own, where)
        form = _form(set(there), kind, record, where)
        used = {field: there[field] for field in (*ALWAYS, *USED[form]) if field in there}
        fields = values_of(record, used, own, where)
        rows = [_entry(each, form, where) for each in each_order(fields, where)]
        return rows, unused(record, [*used.values(), *beside(record, used)])
    except RecursionError as error:
        raise SourceError(f"{where}: lists within lists, too deep to be used") from error


def _form(there: set[str], kind: Kind, record: Record, where: str) -> str:
    """How a record says what its kind needs."""
    said = bool({"answer", "messages"} & there)
    two = {"response_A", "response_B"} <= there
    judged = bool(set(PREFERENCE_READERS) & there)
    forms = {
        "prompts": {"prompt": bool({"prompt", "messages"} & there)},
        "generations": {"answer": {"prompt", "answer"} <= there or "messages" in there},
        "preferences": {
            "pair": {"chosen", "rejected"} <= there,
            "two": two and judged,
            "rejected": said and "rejected" in there,
            "label": said and "label" in there,
        },
        "comparisons": {"judged": two and "judgments" in there, "two": two and judged},
    }
    form = next((form for form, fits in forms[kind].items() if fits), None)
    if form is None:
        raise SourceError(
            f"{where} has {', '.join(record) or 'no columns'}: {kind} need {NEEDS[kind]}; "
            "--columns prompt=NAME says which column is what"
        )
    return form


def _entry(fields: Record, form: str, where: str) -> Record:
    """One row of ENTRIES."""
    names = ("reference", "meta", "source", "annotator")
    values: Record = {name: text_or_json(fields.get(name), name, where) for name in names}
    found, told = read_answers(fields, form, where)
    texts, chat = answered_chat(fields, found, where)
    for answer, said in zip(found, texts, strict=True):
        side = {"text": ("score", "generator"), "other": ("other_score", "other_generator")}[answer.part]
        who = answer.generator if says(answer.generator) else fields.get("generator")
        values |= {
            answer.part: said,
            side[0]: number_or_none(answer.score, where),
            side[1]: text_or_json(who, "generator", where),
        }
    return {**values, **told, "chat": chat, "prompt": prompt_id(chat)}
