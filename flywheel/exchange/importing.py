"""Answers, preferences and prompts from elsewhere, checked and added to the store, so that work can start from what is
there; which rows they become is told in flywheel.exchange.rows."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import polars as pl

from flywheel.errors import SourceError
from flywheel.exchange import provenance
from flywheel.exchange.forms.entries import Kind, Told, entries
from flywheel.exchange.forms.records import records
from flywheel.exchange.rows import Frames, draw_id, judge_name, tables
from flywheel.store.schema import KEYS
from flywheel.store.store import Store

BAD_ROWS_NAMED = 3
"""Bad rows that are named before it is only said how many more there are."""


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
    skip_bad: bool = False,
) -> Imported:
    """Add all rows of these files, folders or Hub data sets, or none. `name` is by default the file's; `generator` says
    who answered, whatever the rows say; with `skip_bad` bad rows are left out and counted. Raises SourceError; nothing
    is written before all is read and checked."""
    read, told = dict[str, list[pl.DataFrame]](), Told(skip_bad)
    for place in places:
        found = _read(place, kind, columns, split, config, told)
        read.setdefault(name or Path(place).stem, []).append(found)
    frames = [tables(pl.concat(parts), own, kind, generator) for own, parts in read.items()]
    for own, rows in zip(read, frames, strict=True):
        _check(store, own, rows)
    whole = {
        table: pl.concat([rows[table] for rows in frames]).unique(KEYS[table], maintain_order=True)
        for table in frames[0]
    }
    parts = list(chain(*read.values()))
    notes = [*_left_out(told), *_notes(store, whole, parts)]
    return Imported({table: len(rows) for table, rows in whole.items()}, store.add_all(whole), notes)


def _read(
    place: str, kind: Kind, columns: Sequence[str], split: str | None, config: str | None, told: Told
) -> pl.DataFrame:
    """ENTRIES of a place; where sound rows stand before a bad one, its error says what may be done."""
    before, bad = told.read, len(told.bad)
    try:
        found = entries(records(place, split, config, told.bad if told.skip_bad else None), kind, columns, told)
    except SourceError as error:
        raise SourceError(f"{error} (--skip-bad leaves such rows out)" if told.read > before else str(error)) from error
    if found.is_empty():
        raise SourceError(f"{place} holds no rows" + "".join(f" that can be used: {why}" for why in told.bad[bad:][:1]))
    return found


def _check(store: Store, name: str, rows: Frames) -> None:
    """SourceError if the store has something else where these rows would be: they would be left out without a word."""
    if "generations" not in rows:
        return
    answers = rows["generations"].select("id", "text")
    scores = rows["judgments"].filter(vote=0).select("judge", "score", id="generation")
    told = provenance.imported(store, draw_id(name), judge_name(name))
    there = told.select("id", "text").unique()
    scored = told.select("id", "judge", "score").drop_nulls("judge")
    changed = _changed(_with_scores(answers, scores), _with_scores(there, scored), ["id"])
    if changed:
        raise SourceError(
            f"an import named {name} is there already, and {changed} of its {there.height} answers differ from these: "
            "give this one another --name"
        )
    said = _by_pair(provenance.compared(store, judge_name(name)))
    changed = _changed(_by_pair(rows["comparisons"]), said, ["low", "high", "judge"])
    if changed:
        raise SourceError(
            f"an import named {name} is there already, and says otherwise of {changed} of these pairs: "
            "give this one another --name"
        )


def _with_scores(answers: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """What is said of each answer, as one text."""
    each = scores.group_by("id").agg(said=pl.format("{} {}", "judge", "score").sort().str.join("\n"))
    told = pl.format("{}\n{}", "text", pl.col("said").fill_null(""))
    return answers.join(each, on="id", how="left").select("id", told=told)


def _by_pair(comparisons: pl.DataFrame) -> pl.DataFrame:
    """What is said of each pair, as one text."""
    verdict = pl.col("verdict").fill_null("none")
    told = comparisons.select(
        "judge",
        low=pl.min_horizontal("a", "b"),
        high=pl.max_horizontal("a", "b"),
        told=pl.format("{} {} {} {}", "a", "order", "vote", verdict),
    )
    return told.group_by("low", "high", "judge").agg(pl.col("told").sort().str.join("\n"))


def _changed(new: pl.DataFrame, there: pl.DataFrame, key: Sequence[str]) -> int:
    both = new.join(there, on=key, suffix="_there")
    return both.filter(pl.col("told") != pl.col("told_there")).height


def _left_out(told: Told) -> Iterator[str]:
    """What was read and is not there."""
    if told.bad:
        bad, first = len(told.bad), "; ".join(told.bad[:BAD_ROWS_NAMED])
        more = f"; and {bad - BAD_ROWS_NAMED} more" if bad > BAD_ROWS_NAMED else ""
        yield f"{bad} of {bad + told.read} rows were left out: {first}{more}"
    if told.unused:
        yield f"columns that were not used: {', '.join(sorted(told.unused))}"


def _notes(store: Store, rows: Frames, parts: Sequence[pl.DataFrame]) -> Iterator[str]:
    """What the user should know of rows that are sound."""
    prompts = rows["prompts"]
    there = provenance.references(store, prompts["id"].to_list())
    both = prompts.select("id", "reference").join(there, on="id", suffix="_there")
    other = both.filter(pl.col("reference").ne_missing(pl.col("reference_there"))).height
    if other:
        yield f"{other} prompts were there already with another reference, or one was missing; they keep what they had"
    if prompts["reference"].null_count() == len(prompts) > there.height and not provenance.lacks_reference(store):
        yield (
            "these prompts come without reference answers, and a prompt keeps what it first came with: "
            "to train on the same prompts with references, use another --home (this is said once)"
        )
    pairs = sum(len(part.drop_nulls(["text", "other"])) for part in parts)
    if "comparisons" in rows and (left := pairs - rows["comparisons"].height):
        yield f"{left} pairs came twice, or hold the same text twice, and make no comparison"
