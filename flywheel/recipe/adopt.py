"""A recipe meets a store from before ids left out defaults and held code: what is there keeps its ids, and is found.

Old ids are hashes of whole descriptions, which the store holds: so each can be worked out again, and told to be that of
a part at hand. The new id becomes an alias of it, once: when a part changes later, it is another part.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any

import polars as pl

from flywheel.identity import as_before, describe, is_part, names, parts, title
from flywheel.identity.changes import changes
from flywheel.protocols import Ensemble, Judge, Proposer, Sampling
from flywheel.recipe.recipe import OPERATIONAL, Recipe
from flywheel.store.ids import content_id
from flywheel.store.schema import ALIASES, now
from flywheel.store.store import Store
from flywheel.training.settings import Scratch, Training

WHOLE = 5
"""The first schema version whose ids leave out defaults."""
SAID = ("judgments", "comparisons")
OldIds = Iterator[tuple[str, str, str]]
"""An old id, the new one, and what they are of."""


def adopt(recipe: Recipe, store: Store, *more: Store) -> None:
    """Let the ids of a recipe and its parts stand for those that an older program gave the same ones in this store, and
    the names of its judges for those in `more`.
    """
    versions = store.sql("select min(version) as first from schema_version")["first"][0]
    if versions >= WHOLE:
        return
    known = store.sql("select old, new from aliases")
    old_ids, new_ids = set(known["old"]), set(known["new"])
    rows = []
    for old, new, what in _found(recipe, _Record(store, *more)):
        if old != new and old not in old_ids and new not in new_ids:
            why = f"{what}: made before ids left out what is at its default and held the code of users' parts"
            rows.append({"old": old, "new": new, "why": why, "created_at": now()})
            old_ids.add(old)
            new_ids.add(new)
    store.add("aliases", pl.DataFrame(rows, schema=ALIASES))


class _Record:
    """What the store holds of recipes that ran."""

    def __init__(self, store: Store, *more: Store) -> None:
        self.store, self.stores = store, (store, *more)
        self.runs = store.sql("select id, recipe, seed from runs order by created_at").to_dicts()
        later = store.sql("select distinct recipe from iterations")["recipe"]
        self.recipes = [json.loads(text) for text in dict.fromkeys([*(row["recipe"] for row in self.runs), *later])]

    @cached_property
    def judges(self) -> set[str]:
        named = (store.sql(f"select distinct judge from {table}") for store in self.stores for table in SAID)
        return {name for frame in named for name in frame["judge"]}

    @cached_property
    def draws(self) -> list[dict[str, Any]]:
        return self.store.sql("select id, engine, seed from draws where seed is not null").to_dicts()

    @cached_property
    def trained(self) -> list[dict[str, Any]]:
        return self.store.sql("select * from checkpoints where trainer is not null").to_dicts()

    @cached_property
    def exams(self) -> list[dict[str, Any]]:
        query = "select id, any_value(name) as name, list(prompt order by position) as prompts from exams group by id"
        return self.store.sql(query).to_dicts()

    def descriptions(self, part: Any) -> list[Any]:
        """What recipes say of a part that is this one, each once."""
        alike = [old for old in _all(self.recipes) if old.get("is") in names(type(part))]
        same = [old for old in alike if not _other(part, old)] or [_with_fields(part, old) for old in alike]
        return list({json.dumps(old): old for old in same}.values())


def _all(value: Any) -> Iterator[dict[str, Any]]:
    """Every part in descriptions."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _all(inner)


def _with_fields(part: Any, old: dict[str, Any]) -> dict[str, Any]:
    """How an older program, which described a part of this kind so, would have described this one."""
    told = dict(old)
    for field in fields(part):
        for name in (name for name in names(field) if name in old):
            value = getattr(part, field.name)
            if is_part(value) and isinstance(old[name], dict) and old[name].get("is") in names(type(value)):
                told[name] = _with_fields(value, old[name])
            elif not is_part(value):
                told[name] = list(value) if isinstance(value, tuple) else value
    return told


def _other(part: Any, old: Any, but: Sequence[str] = ()) -> bool:
    return any(change.path.partition(".")[0] not in but for change in changes(part, old))


def _found(recipe: Recipe, record: _Record) -> OldIds:
    for row in record.runs:
        old = json.loads(row["recipe"])
        if not _other(recipe, old, OPERATIONAL) and row["id"] == _run(old):
            yield row["id"], _run(describe(recipe)), f"run {recipe.name}"
    inner = {json.dumps(describe(part)): part for _, part in parts(recipe) if _has_id(part)}
    for part in inner.values():
        for old in record.descriptions(part):
            yield from _of_part(part, old, recipe, record)


def _run(described: dict[str, Any]) -> str:
    return content_id("run", {name: item for name, item in described.items() if name not in OPERATIONAL})


def _has_id(part: Any) -> bool:
    return isinstance(part, (Sampling, Scratch, Training, Judge, Ensemble, Proposer))


def _of_part(part: Any, old: dict[str, Any], recipe: Recipe, record: _Record) -> OldIds:
    """What is named by a part, of which the store says `old`."""
    if isinstance(part, Sampling):
        for draw in record.draws:
            if draw["id"] == content_id("draw", old, draw["seed"], draw["engine"]):
                yield draw["id"], content_id("draw", describe(part), draw["seed"], draw["engine"]), "draw"
    elif isinstance(part, Scratch):
        id = content_id("scratch", old)
        if len(record.store.sql("select 1 from checkpoints where id = $id", {"id": id})):
            yield id, content_id("scratch", describe(part)), "checkpoint"
    elif isinstance(part, Training):
        yield from _trained(part, old, record)
    else:
        with as_before(part, old):
            own = part.name
        if own in record.judges:
            yield own, title(part), "judge"
        if part == recipe.exam.judge:
            yield from _examined(part, old, record)


def _trained(part: Training, old: dict[str, Any], record: _Record) -> OldIds:
    for row in record.trained:
        ancestry = (row["parent"], row["reference"], row["dataset"])
        for seed in {run["seed"] for run in record.runs}:
            if row["id"] == content_id("trained", *ancestry, old, seed):
                yield row["id"], content_id("trained", *ancestry, describe(part), seed), "checkpoint"


def _examined(judge: Any, old: dict[str, Any], record: _Record) -> OldIds:
    for exam in record.exams:
        for draw in record.draws:
            named = (exam["name"], exam["prompts"])
            if exam["id"] == content_id("exam", *named, old, draw["id"]):
                yield exam["id"], content_id("exam", *named, describe(judge), draw["id"]), f"exam {exam['name']}"
