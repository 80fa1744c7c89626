"""Answers whose worth is known, from JSONL or Parquet files: what judges are checked on.

Each row has a prompt (`chat`, `prompt` or `question`: text, or messages with role and content) and one of

    answer, gold                    an answer and its worth: true, false or a number from 0 to 1
    answers, gold                   lists of them
    chosen, rejected                two answers, the better one first
    response_A, response_B, label   two answers, and "A>B" or "B>A", as JudgeBench (Tan et al. 2024) has them

and, where a judge wants them, `reference` and `meta`. Rows with one prompt belong together.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from flywheel.errors import SourceError
from flywheel.store.ids import content_id, prompt_id
from flywheel.store.schema import Chat

PROMPT = ("chat", "prompt", "question")
FORMS = (("answer", "gold"), ("answers", "gold"), ("chosen", "rejected"), ("response_A", "response_B", "label"))
PAIRS = FORMS[2:]
"""Forms that tell which of two answers is better, but not whether it is any good."""
LABELS = {"A>B": (1.0, 0.0), "B>A": (0.0, 1.0)}

LabelledRow = dict[str, Any]
Worth = tuple[str, float]
"""An answer and its gold."""


class Labelled(NamedTuple):
    """Prompts as `prompts_frame` takes them, the answers to each with their gold, and whether gold is more than an
    order of a prompt's answers."""

    prompts: list[LabelledRow]
    answers: list[list[Worth]]
    absolute: bool


def read_labelled(paths: Sequence[Path]) -> Labelled:
    """Every prompt once. Its answers come in an order that says nothing of their worth; one that is labelled twice, and
    not alike, is left out. Raises SourceError."""
    prompts: dict[str, LabelledRow] = {}
    answers: dict[str, dict[str, set[float]]] = {}
    forms = set()
    for path in paths:
        for number, row in enumerate(_rows(path), 1):
            where = f"{path}, row {number}"
            form = _form(row, where)
            forms.add(form in PAIRS)
            prompt, worth = _read(row, form, where)
            id = prompt_id(prompt["chat"])
            prompts.setdefault(id, prompt)
            for text, gold in worth:
                answers.setdefault(id, {}).setdefault(text, set()).add(gold)
    if not prompts:
        raise SourceError("there are no labelled answers: name a file that has some")
    if len(forms) > 1:
        raise SourceError("pairs and answers that are labelled each for itself cannot be mixed: check them one by one")
    ordered = [
        [(text, gold) for text in sorted(each, key=content_id) if len(each[text]) == 1 for gold in each[text]]
        for each in answers.values()
    ]
    return Labelled(list(prompts.values()), ordered, absolute=not forms.pop())


def _rows(path: Path) -> Iterator[LabelledRow]:
    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    if path.suffix == ".parquet":
        try:
            yield from pl.read_parquet(path).iter_rows(named=True)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise SourceError(f"{path} cannot be read as Parquet: {error}") from error
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                yield {**row}
            except (ValueError, TypeError) as error:
                raise SourceError(f"{path}, line {number}: not a JSON object") from error


def _form(row: LabelledRow, where: str) -> tuple[str, ...]:
    found = [form for form in FORMS if set(form) <= set(row)]
    if not found or not set(PROMPT) & set(row):
        forms = ", or ".join(" and ".join(form) for form in FORMS)
        raise SourceError(f"{where} has {', '.join(row)}: it needs one of {', '.join(PROMPT)}; and {forms}")
    return found[0]


def _read(row: LabelledRow, form: tuple[str, ...], where: str) -> tuple[LabelledRow, list[Worth]]:
    known = {name: row[name] for name in ("reference", "meta") if isinstance(row.get(name), str)}
    worth = list(_worth(row, form))
    for text, gold in worth:
        if not isinstance(text, str) or not isinstance(gold, (bool, int, float)) or not 0 <= gold <= 1:
            raise SourceError(f"{where}: an answer must be text, and its gold true, false or a number from 0 to 1")
    if not worth:
        raise SourceError(f"{where}: {' and '.join(form)} do not fit together")
    return {"chat": _chat(row, where), **known}, [(text, float(gold)) for text, gold in worth]


def _worth(row: LabelledRow, form: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
    values = [row[name] for name in form]
    if form == ("answer", "gold"):
        yield values[0], values[1]
    elif form == ("answers", "gold") and all(isinstance(each, list) for each in values):
        yield from zip(*values, strict=False) if len(values[0]) == len(values[1]) else ()
    elif form == ("chosen", "rejected"):
        yield from zip(values, (1.0, 0.0), strict=True)
    elif form[-1] == "label" and values[2] in LABELS:
        yield from zip(values, LABELS[values[2]], strict=False)


def _chat(row: LabelledRow, where: str) -> Chat:
    value = next((row[name] for name in PROMPT if row.get(name)), None)
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if isinstance(value, list) and all(isinstance(each, dict) and {"role", "content"} <= set(each) for each in value):
        return [{"role": str(each["role"]), "content": str(each["content"])} for each in value]
    raise SourceError(f"{where}: the prompt is neither text nor messages with role and content")
