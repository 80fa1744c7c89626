"""Answers, preferences and prompts from elsewhere as rows of the store, so that work can start from what is there.

Who answered becomes a checkpoint without weights, named by the generator; all answers of an import have one draw, whose
parameters are NULL, as nobody knows them. What is preferred is said by a judge that is named after the import. Ids hang
on the import's name and on the order of its rows, so to import a thing twice changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import polars as pl

from flywheel.answers import made_elsewhere
from flywheel.errors import SourceError
from flywheel.exchange import provenance
from flywheel.exchange.entries import Kind, entries
from flywheel.exchange.records import records
from flywheel.store import Store
from flywheel.tables import (
    CHECKPOINTS,
    COMPARISONS,
    DRAWS,
    JUDGMENTS,
    KEYS,
    PROMPTS,
    content_id,
    generation_id,
)
from flywheel.turn import now

ENGINE = "imported"
Frames = dict[str, pl.DataFrame]


class Imported(NamedTuple):
    """What came of an import: rows by table, how many of them are new, and what the user should know."""

    rows: Mapping[str, int]
    new: Mapping[str, int]
    notes: Sequence[str]


def import_files(
    store: Store,
    places: Sequence[str],
    kind: Kind,
    *,
    name: str | None = None,
    generator: str | None = None,
    columns: Sequence[str] = (),
    split: str | None = None,
    config: str | None = None,
) -> Imported:
    """Add all rows of these files, folders or Hub data sets, or none. `name` is by default the file's; `generator` says
    who answered, whatever the rows say. Raises SourceError; nothing is written before all is read and checked."""
    read: dict[str, list[pl.DataFrame]] = {}
    for place in places:
        found = entries(records(place, split, config), kind, columns)
        if found.is_empty():
            raise SourceError(f"{place} holds no rows")
        read.setdefault(name or Path(place).stem, []).append(found)
    frames = [tables(pl.concat(parts), own, kind, generator) for own, parts in read.items()]
    for own, rows in zip(read, frames, strict=True):
        _check(store, own, rows)
    whole = {
        table: pl.concat([rows[table] for rows in frames]).unique(KEYS[table], maintain_order=True)
        for table in frames[0]
    }
    notes = list(
        _notes(store, whole, pairs=sum(len(part.drop_nulls(["text", "other"])) for part in chain(*read.values())))
    )
    return Imported({table: len(rows) for table, rows in whole.items()}, store.add_all(whole), notes)


def judge_name(name: str) -> str:
    """Who says which answers of an import are preferred, and what their scores are."""
    return f"imported#{name}"


def tables(rows: pl.DataFrame, name: str, kind: Kind, generator: str | None = None) -> Frames:
    """The frames that record ENTRIES."""
    prompts = rows.unique("prompt", keep="first", maintain_order=True).select(
        pl.col("source").fill_null(name), "chat", "reference", "meta", id="prompt"
    )
    frames = {"prompts": prompts.select(PROMPTS.names()).cast(PROMPTS)}
    if kind == "prompts":
        return frames
    who = pl.lit(generator) if generator else pl.col("generator").replace("", None).fill_null(name)
    said = _said(rows.with_row_index("row").with_columns(generator=who), name, once=kind == "preferences")
    return {
        **frames,
        "checkpoints": _checkpoints(said),
        "draws": pl.DataFrame([{"id": _draw(name), "engine": ENGINE}], schema=DRAWS),
        "generations": _generations(said),
        "judgments": _judgments(said, name),
        "comparisons": _comparisons(said, name),
    }


def _draw(name: str) -> str:
    return content_id(ENGINE, name)


def _said(rows: pl.DataFrame, name: str, once: bool) -> pl.DataFrame:
    """Each answer with its `row`, `place` (0 of the better, 1 of the worse), `score`, and the `generation` that it is.

    Answers are counted for each prompt and generator, in their order; with `once`, the same text is one generation.
    """
    better, worse = (
        rows.select("row", "prompt", "generator", text=text, score=score, place=pl.lit(place))
        for place, (text, score) in enumerate((("text", "score"), ("other", "other_score")))
    )
    said = pl.concat([better, worse]).filter(pl.col("text").is_not_null()).sort("row", "place")
    answer = ["prompt", "generator", "text"] if once else ["row"]
    first = said.unique(answer, keep="first", maintain_order=True)
    numbered = first.with_columns(index=pl.int_range(pl.len(), dtype=pl.Int32).over("prompt", "generator"))
    checkpoints = {each: content_id(ENGINE, each) for each in first["generator"].unique()}
    draw = _draw(name)
    ids = [
        generation_id(prompt, checkpoints[generator], draw, index)
        for prompt, generator, index in numbered.select("prompt", "generator", "index").iter_rows()
    ]
    known = numbered.select(
        *answer,
        "index",
        generation=pl.Series(ids, dtype=pl.String),
        checkpoint=pl.col("generator").replace_strict(checkpoints, return_dtype=pl.String),
        draw=pl.lit(draw),
    )
    return said.join(known, on=answer, how="left", maintain_order="left", validate="m:1")


def _checkpoints(said: pl.DataFrame) -> pl.DataFrame:
    own = said.select("checkpoint", "generator").unique(maintain_order=True)
    rows = [{"id": id, "kind": "base", "weights": generator, "created_at": now()} for id, generator in own.iter_rows()]
    return pl.DataFrame(rows, schema=CHECKPOINTS)


def _generations(said: pl.DataFrame) -> pl.DataFrame:
    answers = said.unique("generation", keep="first", maintain_order=True)
    return made_elsewhere(answers.with_columns(id="generation"), ENGINE)


def _judgments(said: pl.DataFrame, name: str) -> pl.DataFrame:
    """An answer that was scored several times, and not alike, has several votes."""
    scored = said.filter(pl.col("score").is_not_null()).unique(["generation", "score"], maintain_order=True)
    votes = scored.with_columns(
        vote=pl.int_range(pl.len(), dtype=pl.Int32).over("generation"),
        judge=pl.lit(judge_name(name)),
        status=pl.lit("ok"),
        detail=None,
        trace=None,
    )
    return votes.select(JUDGMENTS.names()).cast(JUDGMENTS)


def _comparisons(said: pl.DataFrame, name: str) -> pl.DataFrame:
    better, worse = (said.filter(place=place).select("row", generation="generation") for place in (0, 1))
    pairs = better.join(worse, on="row", suffix="_worse", maintain_order="left")
    return (
        pairs.filter(pl.col("generation") != pl.col("generation_worse"))
        .select(
            a="generation",
            b="generation_worse",
            order=pl.lit("ab"),
            judge=pl.lit(judge_name(name)),
            vote=pl.lit(0),
            verdict=pl.lit("a"),
            status=pl.lit("ok"),
            trace=None,
        )
        .unique(maintain_order=True)
        .select(COMPARISONS.names())
        .cast(COMPARISONS)
    )


def _check(store: Store, name: str, rows: Frames) -> None:
    """SourceError if the store has something else where these rows would be: they would be left out without a word."""
    if "generations" not in rows:
        return
    told = provenance.imported(store, _draw(name), judge_name(name))
    new = rows["generations"].join(rows["judgments"].filter(vote=0), left_on="id", right_on="generation", how="left")
    both = new.select("id", "text", "score").join(told, on="id", suffix="_there")
    other = (pl.col("text") != pl.col("text_there")) | pl.col("score").ne_missing(pl.col("score_there"))
    changed = both.filter(other).height
    if changed:
        raise SourceError(
            f"an import named {name} is there already, and {changed} of its {told.height} answers differ from these: "
            "give this one another --name"
        )


def _notes(store: Store, rows: Frames, pairs: int) -> Iterator[str]:
    """What the user should know of rows that are sound."""
    prompts = rows["prompts"]
    there = provenance.references(store, prompts["id"].to_list())
    both = prompts.select("id", "reference").join(there, on="id", suffix="_there")
    other = both.filter(pl.col("reference").ne_missing(pl.col("reference_there"))).height
    if other:
        yield f"{other} prompts were there already with another reference, or one was missing; they keep what they had"
    if prompts["reference"].null_count() == len(prompts) > there.height:
        yield (
            "these prompts have no reference, and in this store they will not get one: a recipe that has the same "
            "prompts with references wants another --home"
        )
    if "comparisons" in rows and (left := pairs - rows["comparisons"].height):
        yield f"{left} pairs came twice, or hold the same text twice, and make no comparison"
