"""From rows of any origin to PROMPTS: which column is what, which rows are of no use, and each prompt's id.

What is text stays as it is. A number, or true and false, becomes the text that stands in the file. Lists and objects
are no text: they are refused, but for a prompt's messages and for `meta`.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import polars as pl

from data.cells import NoText, chat_of, json_of, text_of
from flywheel.errors import RecipeError, SourceError
from flywheel.store.ids import prompt_id
from flywheel.store.schema import PROMPTS, Chat

PROMPT_SLOT = "{prompt}"
ROWS_NAMED = 5
"""Row numbers that an error names before it says how many more there are."""

SourceRow = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """How rows become prompts: the parameters that every source of tables has.

    `prompt` names a column of text, or of chats: lists of messages with `role` and `content`. `reference_after` cuts
    the known answer out of a longer text: it is what stands after the last `reference_after`. A `template` has the slot
    {prompt} once; other braces, in it or in a prompt, mean nothing. `meta` names a column of JSON for a verifier, or
    several columns, which become the fields of an object. `limit` counts prompts.
    """

    version: ClassVar[int] = 2  # JSON columns and dates are read as what they say, lists and objects are no text

    prompt: str = "question"
    reference: str | None = "answer"
    reference_after: str | None = None
    meta: str | tuple[str, ...] | None = None
    system: str | None = None
    template: str = PROMPT_SLOT
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.template.count(PROMPT_SLOT) != 1:
            raise RecipeError(
                f"a template has the slot {PROMPT_SLOT} exactly once, but not this one: {self.template[:200]!r}"
            )
        if self.limit is not None and self.limit < 1:
            raise RecipeError(f"limit must be at least 1, not {self.limit}")
        if self.reference_after == "":
            raise RecipeError("reference_after must not be empty; leave it out to take the whole column")

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns that are read."""
        meta = self.meta if isinstance(self.meta, tuple) else (self.meta,)
        return tuple(dict.fromkeys(name for name in (self.prompt, self.reference, *meta) if name is not None))

    def check(self, there: Sequence[str], source: str) -> None:
        """Raise SourceError if a column that is wanted is not there."""
        check_columns(self.wanted, there, source)


def check_columns(wanted: Sequence[str], there: Sequence[str], source: str) -> None:
    """Raise SourceError if a column that is wanted is not there."""
    missing = [name for name in wanted if name not in there]
    if missing:
        raise SourceError(f"{source} has no column {missing[0]!r}; its columns are {', '.join(there) or 'none'}")


def prompts(rows: Iterable[SourceRow], columns: Columns, source: str, there: Mapping[str, Any]) -> pl.DataFrame:
    """PROMPTS from rows; SourceError names those that cannot be used.

    `there` has the columns that the rows have; it may fill while they are read.
    """
    found: dict[str, tuple[Any, ...]] = {}
    blank, uncut, reading = list[int](), list[int](), iter(rows)
    for number, row in enumerate(reading, 1):
        chat = _chat(row.get(columns.prompt), columns, source, number)
        id = prompt_id(chat) if chat else ""
        if not chat:
            blank.append(number)
        elif id not in found:
            reference, cut = _reference(row, columns, source, number)
            found[id] = (id, chat, reference, _meta(row, columns, source, number), source)
            uncut += [] if cut else [number]
        if len(found) == columns.limit:
            break
    if not set(columns.wanted) <= set(there):
        deque(reading, maxlen=0)  # a column may come late
    columns.check(list(there), source)
    _refuse(blank, f"{source}: column {columns.prompt!r} holds no text")
    _refuse(uncut, f"{source}: column {columns.reference!r} lacks {columns.reference_after!r}")
    if not found:
        raise SourceError(f"{source} holds no prompts")
    return pl.DataFrame(list(found.values()), schema=PROMPTS, orient="row")


def typed_table(rows: Iterable[SourceRow], names: Sequence[str], source: str, there: Mapping[str, Any]) -> pl.DataFrame:
    """These columns: numbers where all values are numbers, else text; SourceError where there is neither."""
    cells = [[row.get(name) for name in names] for row in rows]
    check_columns(names, list(there), source)
    return pl.DataFrame([_series(name, [row[at] for row in cells], source) for at, name in enumerate(names)])


def _series(name: str, values: list[Any], source: str) -> pl.Series:
    kinds = {type(value) for value in values if value is not None}
    numbers = all(issubclass(kind, int | float) and kind is not bool for kind in kinds)
    if kinds and (kinds == {bool} or numbers):
        return pl.Series(name, values, dtype=None if kinds in ({int}, {bool}) else pl.Float64)
    texts = [_told(value, name, source, number) for number, value in enumerate(values, 1)]
    return pl.Series(name, texts, dtype=pl.String)


def _chat(value: Any, columns: Columns, source: str, number: int) -> Chat:
    """A prompt's messages; none if it is blank."""
    before = [] if columns.system is None else [{"role": "system", "content": columns.system}]
    if isinstance(value, list | dict):
        if columns.template != PROMPT_SLOT:
            raise SourceError(
                f"{source}: column {columns.prompt!r} holds whole chats, so no template can be applied to it"
            )
        try:
            chat = chat_of(value)
        except NoText as error:
            _no_text(error, columns.prompt, source, number)
        return [*before, *chat] if chat and all(message["content"].strip() for message in chat) else []
    text = _told(value, columns.prompt, source, number)
    if text is None or not text.strip():
        return []
    first, last = columns.template.split(PROMPT_SLOT)
    return [*before, {"role": "user", "content": f"{first}{text}{last}"}]


def _reference(row: SourceRow, columns: Columns, source: str, number: int) -> tuple[str | None, bool]:
    """The reference, and whether `reference_after` was there to cut it."""
    whole = None if columns.reference is None else _told(row.get(columns.reference), columns.reference, source, number)
    if whole is None or columns.reference_after is None:
        return whole, True
    _, marker, after = whole.rpartition(columns.reference_after)
    return (after.strip() if marker else None), bool(marker)


def _meta(row: SourceRow, columns: Columns, source: str, number: int) -> str | None:
    if columns.meta is None:
        return None
    several = isinstance(columns.meta, tuple)
    value = {name: row.get(name) for name in columns.meta} if several else row.get(str(columns.meta))
    try:
        return json_of(value)
    except NoText as error:
        _no_text(error, ", ".join(columns.meta) if isinstance(columns.meta, tuple) else columns.meta, source, number)


def _told(value: Any, name: str, source: str, number: int) -> str | None:
    try:
        return text_of(value)
    except NoText as error:
        _no_text(error, name, source, number)


def _no_text(error: NoText, name: str, source: str, number: int) -> NoReturn:
    raise SourceError(f"{source}: column {name!r} holds {error} in row {number}, counted from 1") from error


def _refuse(numbers: Sequence[int], what: str) -> None:
    """SourceError if there is any row."""
    if numbers:
        more = f" and {len(numbers) - ROWS_NAMED} more" if len(numbers) > ROWS_NAMED else ""
        shown = ", ".join(str(number) for number in numbers[:ROWS_NAMED])
        raise SourceError(f"{what} in row{'s' if len(numbers) > 1 else ''} {shown}{more}, counted from 1")
