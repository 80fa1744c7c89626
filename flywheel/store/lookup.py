"""From what a user types to what is meant: a run's name, an id, or the beginning of an id. Nothing else looks them up.

Several runs can have a name, as a recipe that was changed is another run. A name then means the newest of them that has
decided an iteration; if there is none, the newest that has examined its base, else the newest.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl

from flywheel.errors import StoreError
from flywheel.store import evidence, queries
from flywheel.store.store import Store

TABLES = {"run": "runs", "iteration": "iterations", "dataset": "datasets", "checkpoint": "checkpoints"}
"""Where the ids of each kind are."""
SHORT = 8
"""Characters of an id that are shown where the whole of it is too long."""
OTHERS = 3
"""How many that were not meant are named one by one."""
CUT = "…."
"""What an answer on a screen ends with where it was cut."""


class Run(NamedTuple):
    """A run; `which` says in words which one it is where more than one could be meant, and is empty elsewhere."""

    id: str
    name: str
    which: str


class Aim(NamedTuple):
    """What an id or RUN:ITERATION names: a thing of the wanted kind, or a run with or without an iteration of it."""

    id: str | None
    run: Run | None
    number: int | None
    which: str


def find_run(store: Store, run: str | None = None, *, waiting: bool = False) -> Run:
    """The run that a name, an id or its beginning means; None or nothing: of all runs. StoreError if none is meant, or
    several are.

    waiting: of several that are called so, the newest one that waits for a human comes first.
    """
    runs = evidence.runs(store)
    if runs.is_empty():
        raise StoreError(f"{store.path} is empty")
    alike = runs.filter(name=run) if run else runs
    if alike.is_empty():
        id = _begun_so(store, run or "", ["run"])[1]
        row = runs.filter(id=id).row(0, named=True)
        return Run(id, row["name"], "" if id == run else f"{run} is run {_told(row)} of {row['name']}")
    row = meant(alike, waiting)
    return Run(row["id"], row["name"], _which(alike, row, run))


def meant(runs: pl.DataFrame, waiting: bool = False) -> dict[str, Any]:
    """Of `evidence.runs` that are called the same, the one that is meant."""
    rank = pl.col("decided").clip(upper_bound=1).fill_null(-1) + 3 * pl.col("waits").cast(pl.Int32) * waiting
    return runs.sort(rank, maintain_order=True).row(-1, named=True)


def find(store: Store, text: str, kind: str) -> Aim:
    """What is meant where a thing of that kind is wanted: its id, a run, RUN:ITERATION, or an iteration's id.

    Ids may be cut, names win over ids. StoreError if there is nothing like it, or more than one.
    """
    name, _, number = text.rpartition(":")
    if name and number.isdecimal():
        run = find_run(store, name)
        return Aim(None, run, int(number), run.which)
    if len(evidence.runs(store).filter(name=text)):
        run = find_run(store, text)
        return Aim(None, run, None, run.which)
    found, id = _begun_so(store, text, [kind, "iteration", "run"])
    which = "" if id == text else f"{text} is {found} {id}"
    if found == kind:
        return Aim(id, None, None, which)
    row = queries.row(store, TABLES[found], id)
    assert row is not None, "it was found"
    return (
        Aim(None, find_run(store, id), None, which)
        if found == "run"
        else Aim(None, find_run(store, str(row["run"])), int(str(row["number"])), which)
    )


def short_id(store: Store, kind: str, id: str) -> str:
    """The beginning of an id that can be given back: longer than is usual where others of its kind begin alike."""
    lengths = range(SHORT, len(id))
    alone = (id[:length] for length in lengths if evidence.ids(store, TABLES[kind], id[:length]) == [id])
    return next(alone, id)


def _begun_so(store: Store, text: str, kinds: Sequence[str]) -> tuple[str, str]:
    """Kind and id of the one that has this id or begins so; the first of `kinds` is the one that is wanted."""
    start = text.rstrip(CUT)
    found = [(kind, id) for kind in kinds for id in evidence.ids(store, TABLES[kind], start)] if start else []
    found = [each for each in found if each[1] == start] or found
    if len(found) > 1:
        raise StoreError(
            f"{text!r} is the beginning of several ids, {_listed([f'{kind} {id}' for kind, id in found])}: "
            "write more of the one that you mean"
        )
    if not found:
        raise StoreError(_unknown(store, text, kinds[0]))
    return found[0]


def _unknown(store: Store, text: str, kind: str) -> str:
    names = ", ".join(sorted(set(evidence.runs(store)["name"])))
    runs = f"{store.path} holds no run {text!r}" + (f"; its runs are {names}" if names else "")
    return runs if kind == "run" else f"there is no {kind} {text!r}: give its id, or RUN or RUN:ITERATION; {runs}"


def _which(alike: pl.DataFrame, row: dict[str, Any], run: str | None) -> str:
    """Which of several runs it is, and which others there are; nothing where there is one."""
    others = alike.filter(pl.col("id") != row["id"]).reverse()
    if others.is_empty():
        return ""
    many = f"{len(alike)} runs are named {run}" if run else f"of {len(alike)} runs"
    told = [_told(other) if run else f"{other['name']} {_told(other)}" for other in others.iter_rows(named=True)]
    return f"{many}: {'' if run else row['name'] + ' '}{_told(row)} is meant, not {_listed(told)}"


def _told(run: dict[str, Any]) -> str:
    far = run["decided"]
    decided = "has decided nothing" if far is None else f"has decided iteration {far}" if far else "has only its base"
    waits = ", waits for a human" if run["waits"] else ""
    return f"{run['id']} (begun {run['begun']:%Y-%m-%d %H:%M} UTC, {decided}{waits})"


def _listed(shown: Sequence[str]) -> str:
    more = len(shown) - OTHERS
    return ", ".join(shown) if more <= 1 else f"{', '.join(shown[:OTHERS])} and {more} others"
