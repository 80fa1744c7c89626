"""What a record from elsewhere says: a prompt, and an answer to it or two of them with what is thought of them.

Columns are known by the names that are in use (flywheel.exchange.fields); `prompt=my_column` names another one.

    prompts        prompt, or messages without the answer that they end in
    generations    prompt, answer                          or messages, the last of them the answer
    preferences    prompt, chosen, rejected                or chosen and rejected with the whole chat (UltraFeedback)
                   messages, rejected_response             ms-swift's; the messages end in the better answer
                   prompt, answer, label (true or false)   KTO's; also messages and label
    comparisons    prompt, output_1, output_2, preference  AlpacaEval's; also response_A, response_B and label, and
                                                           others' names (flywheel.exchange.verdicts)

Comparisons may be imported as preferences, too. The first of two answers counts as the one that was shown first, but
where `order` says "ba". Beside a prompt, `system`, `history` and `tools` belong to it (flywheel.exchange.chats); an
answer's chat may go on from the prompt or repeat it, or its last turns. What a record says twice and differently, and
what changes a question or an answer and cannot be told in text, is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import polars as pl

from flywheel.errors import SourceError
from flywheel.exchange.chats import merged, opened
from flywheel.exchange.fields import found, named, unused
from flywheel.exchange.messages import asked, messages, transcript, with_thought
from flywheel.exchange.records import Record
from flywheel.exchange.values import number, plain, says, shown, text
from flywheel.exchange.verdicts import READ, verdict
from flywheel.tables import CHAT, Chat, prompt_id, schema

Kind = Literal["prompts", "generations", "preferences", "comparisons"]

NEEDS: Mapping[Kind, str] = {
    "prompts": "prompt",
    "generations": "prompt and answer, or messages",
    "preferences": "chosen and rejected, or prompt and answer and label, or two answers and a verdict",
    "comparisons": "two answers and a verdict, as response_A, response_B and label, or output_1, output_2, preference",
}
ALWAYS = ("prompt", "beside", "messages", "system", "history", "tools", "reference", "meta", "source")
ONE = ("answer", "generator", "thought")
PAIR = ("chosen", "rejected", "chosen_score", "rejected_score", "chosen_generator", "rejected_generator", "generator")
USED: Mapping[str, Sequence[str]] = {
    "prompt": (),
    "answer": (*ONE, "score"),
    "label": (*ONE, "label"),
    "pair": (*PAIR, "status", "annotator"),
    "rejected": (*PAIR, "answer", "status", "annotator"),
    "two": ("response_A", "response_B", "generator_A", "generator_B", "generator", *READ, "order", "turn", "annotator"),
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
CHUNK = 4096


@dataclass
class Told:
    """What is to be said once of all records: the bad ones, if they are to be left out, and columns nobody read."""

    skip_bad: bool = False
    bad: list[str] = field(default_factory=list)
    unused: set[str] = field(default_factory=set)


class Answer(NamedTuple):
    """What a record says of an answer; `part` is its place in ENTRIES."""

    field: str
    part: Literal["text", "other"]
    value: Any
    score: Any = None
    generator: Any = None


def entries(
    rows: Iterable[tuple[str, Record]], kind: Kind, columns: Sequence[str] = (), told: Told | None = None
) -> pl.DataFrame:
    """ENTRIES of records with their places; columns as in "prompt=question". SourceError names the first bad record,
    unless `told` collects them."""
    own, frames, chunk, told = named(columns), [ENTRIES.to_frame()], list[Record](), told or Told()
    for where, record in rows:
        try:
            fields, taken = found(record, own, where)
            form = _form(fields, kind, record, where)
            chunk.append(_entry(fields, form, kind, where))
        except SourceError as error:
            if not told.skip_bad:
                raise
            told.bad.append(str(error))
            continue
        told.unused |= unused(record, [taken[name] for name in (*ALWAYS, *USED[form]) if name in taken])
        if len(chunk) == CHUNK:
            frames.append(pl.DataFrame(chunk, schema=ENTRIES, orient="row"))
            chunk = []
    return pl.concat([*frames, pl.DataFrame(chunk, schema=ENTRIES, orient="row")])


def _form(fields: Record, kind: Kind, record: Record, where: str) -> str:
    """How a record says what its kind needs."""
    there = set(fields)
    answered = bool({"answer", "messages"} & there)
    two = {"response_A", "response_B"} <= there and bool(set(READ) & there)
    forms = {
        "prompts": {"prompt": bool({"prompt", "messages"} & there)},
        "generations": {"answer": {"prompt", "answer"} <= there or "messages" in there},
        "preferences": {
            "pair": {"chosen", "rejected"} <= there,
            "two": two,
            "rejected": answered and "rejected" in there,
            "label": answered and "label" in there,
        },
        "comparisons": {"two": two},
    }
    form = next((form for form, fits in forms[kind].items() if fits), None)
    if form is None:
        raise SourceError(
            f"{where} has {', '.join(record) or 'no columns'}: {kind} need {NEEDS[kind]}; "
            "--columns prompt=NAME says which column is what"
        )
    return form


def _entry(fields: Record, form: str, kind: Kind, where: str) -> Record:
    """One row of ENTRIES."""
    names = ("reference", "meta", "source", "annotator")
    values: Record = {name: plain(fields.get(name), name, where) for name in names}
    answers, told = _answers(fields, form, where)
    texts, chat = _chat(fields, answers, kind, where)
    for answer, said in zip(answers, texts, strict=True):
        side = {"text": ("score", "generator"), "other": ("other_score", "other_generator")}[answer.part]
        who = answer.generator if says(answer.generator) else fields.get("generator")
        values |= {answer.part: said, side[0]: number(answer.score, where), side[1]: plain(who, "generator", where)}
    return {**values, **told, "chat": chat, "prompt": prompt_id(chat)}


def _answers(fields: Record, form: str, where: str) -> tuple[list[Answer], Record]:
    """The answers of a record, and the verdict on them."""
    answer = "answer" if "answer" in fields else "messages"
    if form == "prompt":
        return [], {}
    if form == "answer":
        return [Answer(answer, "text", fields[answer], fields.get("score"))], {}
    if form == "label":
        if not isinstance(fields["label"], bool):
            raise SourceError(f"{where}: label must be true or false, not {shown(fields['label'])}")
        return [Answer(answer, "text" if fields["label"] else "other", fields[answer], float(fields["label"]))], {}
    if form == "two":
        return _two(fields, where)
    tie = isinstance(fields.get("status"), str) and fields["status"].strip().lower() == "tie"
    both = (("chosen" if form == "pair" else answer, "text", "chosen"), ("rejected", "other", "rejected"))
    found = [
        Answer(name, part, fields[name], fields.get(f"{side}_score"), fields.get(f"{side}_generator"))
        for name, part, side in both
    ]
    return found, {"verdict": "tie" if tie else "a", "order": "ab"}


def _two(fields: Record, where: str) -> tuple[list[Answer], Record]:
    """Two answers in their places, the better one first, and the verdict."""
    winner, share = verdict(fields, where)
    worth = {"A": None if share is None else 1 - share, "B": share}
    sides = ("B", "A") if winner == "B" else ("A", "B")
    found = [
        Answer(f"response_{side}", part, _judged(fields, side, where), worth[side], fields.get(f"generator_{side}"))
        for side, part in zip(sides, ("text", "other"), strict=True)
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


def _chat(fields: Record, answers: Sequence[Answer], kind: Kind, where: str) -> tuple[list[str], Chat]:
    """What the answers say, and the chat that all of them answer."""
    prompt = asked(fields["prompt"], where) if fields.get("prompt") is not None else []
    alone = not prompt and "messages" not in fields
    parts = [_completed(answer.value, alone, where) for answer in answers]
    if "messages" in fields and all(answer.field != "messages" for answer in answers):
        prompt = _told_twice(prompt, messages(fields["messages"], where), parts, kind, where)
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


def _told_twice(prompt: Chat, chat: Chat, parts: Sequence[tuple[Chat, str]], kind: Kind, where: str) -> Chat:
    """The prompt where messages stand beside a prompt or beside answers: they must say the same."""
    before = chat[:-1] if chat and chat[-1]["role"] == "assistant" else chat
    if kind == "prompts":
        whole = merged(prompt, before, where)
        head = [message for message in whole[:1] if message["role"] == "system"]
        return [*head, *prompt] if prompt and prompt[: len(head)] != head else prompt or whole
    if before is not chat and (len(parts) == 0 or chat[-1]["content"] != parts[0][1]):
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
