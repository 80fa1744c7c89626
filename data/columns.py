"""From a table of any origin to PROMPTS: which column is what, which rows are of no use, and each prompt's id."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from flywheel.errors import RecipeError, SourceError
from flywheel.tables import PROMPTS, prompt_id

SLOT = "{prompt}"
ROW = "row number"
SHOWN = 5
"""Row numbers that an error names before it says how many more there are."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """How rows become prompts: the parameters that every source of tables has.

    `prompt` names a column of text, or of chats: lists of messages with `role` and `content`. `reference_after` cuts
    the known answer out of a longer text: it is what stands after the last `reference_after`. A `template` has the slot
    {prompt} once; other braces, in it or in a prompt, mean nothing. `meta` names a column of JSON for a verifier, or
    several columns, which become the fields of an object. `limit` counts prompts.
    """

    prompt: str = "question"
    reference: str | None = "answer"
    reference_after: str | None = None
    meta: str | tuple[str, ...] | None = None
    system: str | None = None
    template: str = SLOT
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.template.count(SLOT) != 1:
            raise RecipeError(f"a template has the slot {SLOT} exactly once, but not this one: {self.template[:200]!r}")
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


def prompts(rows: pl.LazyFrame, columns: Columns, source: str) -> pl.DataFrame:
    """PROMPTS from a table that holds the columns wanted; SourceError names the rows that cannot be used."""
    schema = rows.collect_schema()
    chat, blank = _chats(columns) if holds_chats(schema, columns, source) else _texts(columns)
    reference, uncut = _reference(columns)
    table = (
        rows.with_row_index(ROW, offset=1)
        # A blank row's number keeps it apart from other blank ones, so that each of them is named.
        .select(chat, reference, _meta(schema, columns), pl.when(blank).then(ROW), uncut=pl.when(uncut).then(ROW))
        .unique(["chat", ROW], keep="first", maintain_order=True)
    )
    frame = (table if columns.limit is None else table.head(columns.limit)).collect(engine="streaming")
    _refuse(frame[ROW], f"{source}: column {columns.prompt!r} holds no text")
    _refuse(frame["uncut"], f"{source}: column {columns.reference!r} lacks {columns.reference_after!r}")
    if frame.is_empty():
        raise SourceError(f"{source} holds no prompts")
    # In Python, because an id is a hash of JSON: about 10 microseconds for each prompt.
    ids = pl.Series("id", [prompt_id(chat) for chat in frame["chat"].to_list()], dtype=pl.String)
    return frame.with_columns(ids, source=pl.lit(source)).select(PROMPTS.names()).cast(PROMPTS)


def holds_chats(schema: pl.Schema, columns: Columns, source: str) -> bool:
    """Whether prompts are chats and not text; SourceError for what is neither, or fits no template."""
    kind = schema[columns.prompt]
    if not kind.is_nested():
        return False
    message = kind.inner if isinstance(kind, pl.List) else None
    fields = {field.name for field in message.fields} if isinstance(message, pl.Struct) else set()
    if not {"role", "content"} <= fields:
        raise SourceError(
            f"{source}: column {columns.prompt!r} holds neither text nor chats, "
            f"which are lists of messages with role and content, but {kind}"
        )
    if columns.template != SLOT:
        raise SourceError(f"{source}: column {columns.prompt!r} holds whole chats, so no template can be applied to it")
    return True


def _texts(columns: Columns) -> tuple[pl.Expr, pl.Expr]:
    """The chats around a column of text, and which rows are blank."""
    before, after = columns.template.split(SLOT)
    text = pl.col(columns.prompt).cast(pl.String)
    user = _message("user", pl.concat_str(pl.lit(before), text, pl.lit(after)))
    return pl.concat_list(*_system(columns), user).alias("chat"), (text.str.strip_chars() == "").fill_null(True)


def _chats(columns: Columns) -> tuple[pl.Expr, pl.Expr]:
    """The chats of a column of chats, and which rows lack a message, a role or a content."""
    column, part = pl.col(columns.prompt), pl.element().struct
    said = (part.field("content").str.strip_chars() != "") & part.field("role").is_not_null()
    blank = column.list.eval(said.fill_null(False)).list.all().not_() | (column.list.len() == 0)
    messages = column.list.eval(pl.struct(part.field("role"), part.field("content")))
    return pl.concat_list(*_system(columns), messages).alias("chat"), blank.fill_null(True)


def _system(columns: Columns) -> list[pl.Expr]:
    return [] if columns.system is None else [_message("system", pl.lit(columns.system))]


def _message(role: str, content: pl.Expr) -> pl.Expr:
    return pl.struct(pl.lit(role).alias("role"), content.alias("content"))


def _reference(columns: Columns) -> tuple[pl.Expr, pl.Expr]:
    """The references, and in which rows `reference_after` is missing."""
    whole = pl.lit(None, dtype=pl.String) if columns.reference is None else pl.col(columns.reference).cast(pl.String)
    if columns.reference_after is None:
        return whole.alias("reference"), pl.lit(False)
    cut = whole.str.extract(f"(?s)^.*{re.escape(columns.reference_after)}(.*)$").str.strip_chars()
    return cut.alias("reference"), whole.is_not_null() & cut.is_null()


def _meta(schema: pl.Schema, columns: Columns) -> pl.Expr:
    if columns.meta is None:
        return pl.lit(None, dtype=pl.String).alias("meta")
    if isinstance(columns.meta, tuple):
        return pl.struct(*columns.meta).struct.json_encode().alias("meta")
    column = pl.col(columns.meta)
    as_json = column.struct.json_encode() if isinstance(schema[columns.meta], pl.Struct) else column.cast(pl.String)
    return as_json.alias("meta")


def _refuse(rows: pl.Series, what: str) -> None:
    """SourceError if any row has a number here."""
    numbers = rows.drop_nulls().sort().to_list()
    if numbers:
        more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
        shown = ", ".join(str(number) for number in numbers[:SHOWN])
        raise SourceError(f"{what} in row{'s' if len(numbers) > 1 else ''} {shown}{more}, counted from 1")
