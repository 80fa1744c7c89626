"""The store's upkeep: whether its rows fit together, a file without dead space, and a copy to keep.

The store refuses a bad row, but not one that names a row which never came, and a file can be edited by hand.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl

from flywheel.store.ids import generation_id, prompt_id
from flywheel.store.schema import DRAWN, KEYS, TABLES
from flywheel.store.store import Store

REFERENCES: Mapping[str, tuple[str, ...]] = {
    "prompts.id": (
        "generations.prompt",
        "judgments.prompt",
        "examples.prompt",
        "exams.prompt",
        "grades.prompt",
        "proposals.prompt",
    ),
    "draws.id": ("generations.draw", "judgments.draw", "iterations.draw"),
    "generations.id": (
        "judgments.generation",
        "judgments.trace",
        "comparisons.a",
        "comparisons.b",
        "comparisons.trace",
        "selections.generation",
        "examples.generations",
    ),
    "datasets.id": ("examples.dataset", "iteration_datasets.dataset", "checkpoints.dataset"),
    "checkpoints.id": (
        "generations.checkpoint",
        "judgments.checkpoint",
        "checkpoints.parent",
        "checkpoints.reference",
        "metrics.checkpoint",
        "grades.checkpoint",
        "iterations.policy",
        "decisions.candidate",
        "decisions.incumbent",
        "decisions.policy",
        "approvals.candidate",
    ),
    "exams.id": ("grades.exam", "decisions.exam"),
    "runs.id": ("iterations.run", "events.run", "health.run"),
    "iterations.id": (
        "selections.iteration",
        "iteration_datasets.iteration",
        "proposals.iteration",
        "decisions.iteration",
        "approvals.iteration",
    ),
}
"""The columns that name a row of another table, or none where they are NULL; a list names one with each item."""
NAMELESS: Mapping[str, str] = {"events.run": "kind <> 'failure'"}
"""Rows of which one need not be there: a start that made nothing leaves its failure, and no run."""
BATCH = 100_000
"""Rows whose ids are worked out at a time."""
MEMORY = "2GB"
"""What DuckDB may take for a question before it goes to the disk; 10 million rows fit."""
TURN = 1.0
"""Seconds after which `faults` lets others write before its next question."""


class Finding(NamedTuple):
    """What is wrong with some rows of a table, and one of them. A note may be as it should."""

    kind: Literal["error", "note"]
    where: str
    what: str
    rows: int
    example: str


def faults(store: Store, home: Path) -> Iterator[Finding]:
    """All that is wrong in the store. Others may write between two questions; each question sees one state."""
    yield from _asked(store, _questions())
    yield from _misnamed(store, "prompts", ("chat",), prompt_id)
    yield from _misnamed(store, "generations", tuple(DRAWN), generation_id)
    yield from _without_weights(store, home)


def _questions() -> list[tuple[str, str, str]]:
    """Where, what is wrong there, and the SQL for the number of rows and one of them."""
    orphans = [
        (source, f"no such row in {target.partition('.')[0]}", _orphans(source, target))
        for target, sources in REFERENCES.items()
        for source in sources
    ]
    repeated = [
        (table, f"there are others with the same {', '.join(keys)}", _repeated(table, keys))
        for table, keys in KEYS.items()
        if keys
    ]
    return [*orphans, *repeated, *((where, what, query) for where, (what, query) in RULES.items())]


RULES: Mapping[str, tuple[str, str]] = {
    "judgments": (
        f"not the generation's {', '.join(DRAWN)}",
        f"""select count(*) as rows, min(j.generation) as example
            from judgments j join generations g on g.id = j.generation
            where {" or ".join(f'j."{name}" is distinct from g."{name}"' for name in DRAWN)}""",
    ),
    "judgments.score": (
        "a number where the status is not ok, or none where it is",
        """select count(*) as rows, min(generation) as example from judgments
           where (status = 'ok') is distinct from coalesce(isfinite(score), false)
           or (status <> 'ok' and score is not null)""",
    ),
    "comparisons.verdict": (
        "a verdict where the status is not ok, or none where it is",
        """select count(*) as rows, min(concat_ws(' ', a, b)) as example from comparisons
           where (status = 'ok') is distinct from (verdict is not null)""",
    ),
    "examples.prompt": (
        "an exam prompt among the training rows",
        "select count(*) as rows, min(prompt) as example from examples where prompt in (select prompt from exams)",
    ),
}
"""Where, what and how to find it: the number of rows, and one of them."""


def _asked(store: Store, questions: list[tuple[str, str, str]]) -> Iterator[Finding]:
    while questions:
        found, until = [], time.monotonic() + TURN
        with store.reading() as connection:
            connection.execute(f"set memory_limit = '{MEMORY}'")
            while questions:
                where, what, query = questions.pop(0)
                ((rows, example),) = connection.execute(query).fetchall()
                if rows:
                    found.append(Finding("error", where, what, int(rows), str(example)))
                if time.monotonic() > until:
                    break
        yield from found


def _orphans(source: str, target: str) -> str:
    (table, column), (other, id) = source.split("."), target.split(".")
    value = f'unnest("{column}")' if isinstance(TABLES[table][column], pl.List) else f'"{column}"'
    rows = f"select {value} as value from {table} where {NAMELESS.get(source, 'true')}"
    return f"""
        select count(*) as rows, min(s.value) as example from ({rows}) s
        anti join {other} t on t."{id}" = s.value where s.value is not null"""


def _repeated(table: str, keys: tuple[str, ...]) -> str:
    columns = ", ".join(f'"{key}"' for key in keys)
    return f"""
        select coalesce(sum(more), 0) as rows, min(concat_ws(' ', {columns})) as example
        from (select {columns}, count(*) - 1 as more from {table} group by {columns} having count(*) > 1)"""


def _misnamed(store: Store, table: str, columns: tuple[str, ...], name: Callable[..., str]) -> Iterator[Finding]:
    rows, example = 0, ""
    for id, *content in _rows(store, table, ("id", *columns)):
        if id != name(*content):
            rows, example = rows + 1, id
    if rows:
        yield Finding("error", f"{table}.id", f"not the hash of {', '.join(columns)}", rows, example)


def _rows(store: Store, table: str, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    names = ", ".join(f'"{name}"' for name in columns)
    query = f"select {names} from {table} where rowid >= $first and rowid < $end"
    last = store.sql(f"select max(rowid) from {table}").item()
    for first in range(0, 0 if last is None else last + 1, BATCH):
        yield from store.sql(query, {"first": first, "end": first + BATCH}).iter_rows()


def _without_weights(store: Store, home: Path) -> Iterator[Finding]:
    """Weights that are gone. A base's name is a Hub id or one that a server knows, where it is no absolute path."""
    rows = store.sql("select id, kind, weights from checkpoints").iter_rows()
    ours = [(id, weights) for id, kind, weights in rows if kind != "base" or Path(weights).is_absolute()]
    gone = [id for id, weights in ours if not (home / weights).is_dir()]
    if gone:
        yield Finding("note", "checkpoints.weights", "the folder is gone", len(gone), min(gone))
