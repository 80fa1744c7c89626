"""Counterfactual replay: a run's stored answers judged and filtered by another recipe, without touching the record.

    from flywheel.replay.replay import replay

    replay("toy", "runs", overrides=["keep.0.threshold=0.5"]).iterations

Each iteration is judged by the code of a run, in a store that is thrown away. What models have said of its answers is
taken from the record, by the judge's name; rules, ratings and ensembles cost nothing, so they are worked out afresh.
What models are asked in a replay is kept in REPLAYS beside the record: a second replay asks nothing.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from flywheel.engines.table import Engines, open_engine
from flywheel.errors import FlywheelError, RecipeError
from flywheel.exchange import provenance
from flywheel.exchange.export import trl_rows
from flywheel.pipeline.iteration import Iteration
from flywheel.recipe.adopt import adopt
from flywheel.recipe.load import load
from flywheel.recipe.recipe import Recipe
from flywheel.replay import excerpt
from flywheel.replay.iteration import STAGES, Cost, Past, Stage
from flywheel.replay.scratch_store import drafted, said_by_models
from flywheel.store import queries
from flywheel.store.home import open_store
from flywheel.store.lookup import find_run
from flywheel.store.store import Store
from flywheel.training.settings import Kto

REPLAYS = "replays.duckdb"


class Replay(NamedTuple):
    """What came out, and what would have: see `flywheel.replay.difference` for the columns."""

    run: str
    name: str
    iterations: pl.DataFrame  # ITERATIONS
    rows: pl.DataFrame  # ROWS
    filters: pl.DataFrame  # FILTERS
    examples: dict[int, pl.DataFrame]  # EXAMPLES that would have trained, by iteration
    left_out: Sequence[str]  # why iterations are


@dataclass(frozen=True)
class Plan:
    """What is to be replayed."""

    record: Store
    run: str
    name: str
    pasts: Sequence[Past]
    left_out: Sequence[str]

    def costs(self, stage: Stage) -> list[Cost]:
        """What models are to be asked, in all iterations together."""
        found: dict[Cost, int] = {}
        for cost in (cost for past in self.pasts for cost in past.costs(stage)):
            key = cost._replace(questions=0)
            found[key] = found.get(key, 0) + cost.questions
        return [cost._replace(questions=questions) for cost, questions in found.items() if questions]

    def judge(self, stage: Stage) -> Iterator[tuple[int, str, int, int]]:
        """Judge; yields the iteration and what `Past.judge` does. What was yielded is kept, should this be stopped."""
        for past in self.pasts:
            yield from ((past.iteration.number, *at) for at in past.judge(stage))

    def replay(self) -> Replay:
        """What comes out. RecipeError if that is nothing, because no answer could be judged at all."""
        gold, examiners = excerpt.gold_judge(self.record, self.run), excerpt.examiners(self.record, self.run)
        found = [past.difference(self.record, gold, examiners) for past in self.pasts]
        iterations = pl.concat(each.iteration for each in found)
        if iterations["trained"].sum() and not iterations["would_train"].sum():
            self._refuse_strangers()
        return Replay(
            self.run,
            self.name,
            iterations,
            pl.concat(each.rows for each in found),
            pl.concat(each.filters for each in found),
            {past.iteration.number: each.examples for past, each in zip(self.pasts, found, strict=True)},
            self.left_out,
        )

    def export(self, found: Replay, folder: Path) -> None:
        """Write what would have trained in TRL's format: a JSONL and a Parquet file for each iteration with rows."""
        folder.mkdir(parents=True, exist_ok=True)
        for past in self.pasts:
            examples, recipe = found.examples[past.iteration.number], past.iteration.recipe
            if len(examples):
                known = provenance.examples(
                    past.iteration.store, examples["dataset"][0], past.iteration.title(recipe.judges[0])
                )
                _, rows = trl_rows(known, unpaired=isinstance(recipe.train, Kto))
                rows.write_ndjson(folder / f"iteration-{past.iteration.number}.jsonl")
                rows.write_parquet(folder / f"iteration-{past.iteration.number}.parquet")

    def _refuse_strangers(self) -> None:
        silent = []
        for past in self.pasts:
            judges = past.iteration.titles(past.iteration.recipe.judges)
            silent.append(list(past.silence(queries.judged(past.iteration.store, past.iteration.id, judges))))
        if all(silent):
            raise RecipeError(f"the recipe does not fit the answers of run {self.name}: {silent[0][0]}")


def replay(
    recipe: str | Path,
    home: str | Path = "runs",
    run: str | None = None,
    iterations: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
) -> Replay:
    """What a run (by name or id; None: the latest one) would have trained on with this recipe.

    Models are asked, with the recipe's engine, what nobody has asked them yet; `planned` tells first how much that is.
    """
    with planned(partial(load, recipe, overrides=overrides), Path(home), run, iterations) as plan:
        for stage in STAGES:
            for _ in plan.judge(stage):
                pass
        return plan.replay()


@contextlib.contextmanager
def planned(
    recipe_at: Callable[[int], Recipe], home: Path, run: str | None = None, iterations: Sequence[int] | None = None
) -> Iterator[Plan]:
    """These iterations of a run (None: all that have selected what trains) laid out before another recipe.

    Raises StoreError where there is no such run, FlywheelError where there is nothing to replay.
    """
    record = open_store(home)
    id, name, _ = find_run(record, run)
    rows, left_out = rows_to_replay(excerpt.iterations(record, id), iterations, name)
    recipes = [recipe_at(row["number"]) for row in rows]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flywheel-replay-")))
        engines = stack.enter_context(contextlib.closing(Engines(open_engine(recipes[0].engine))))
        pasts = []
        for row, recipe in zip(rows, recipes, strict=True):
            adopt(recipe, record, *([Store(home / REPLAYS)] if (home / REPLAYS).exists() else []))
            kept = Store(home / REPLAYS) if any(said_by_models(recipe, record).values()) else None
            draft, answers = drafted(folder / f"{row['number']}.duckdb", record, kept, row["id"], recipe)
            iteration = Iteration(recipe, id, row["number"], draft, engines, home, row["policy"])
            heard = excerpt.judgments(record, answers)
            pasts.append(Past(iteration, queries.proposed(draft, iteration.id), row, answers, heard))
        yield Plan(record, id, name, pasts, left_out)


def rows_to_replay(
    found: pl.DataFrame, wanted: Sequence[int] | None, run: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of `excerpt.iterations` to replay, and why others are left out; FlywheelError if a wanted one cannot be."""
    rows = {row["number"]: row for row in found.iter_rows(named=True)}
    if wanted is None:
        ready = [row for number, row in rows.items() if number and row["dataset"]]
        left_out = [
            _unfit(row) or f"iteration {number} has not selected what trains, but --iteration {number} replays it"
            for number, row in rows.items()
            if number and not row["dataset"]
        ]
        if not ready:
            raise FlywheelError("; ".join([f"run {run} has selected nothing that trains yet", *left_out]))
        return ready, left_out
    for number in wanted:
        if number not in rows:
            raise FlywheelError(f"run {run} has no iteration {number}: it has those from 0 to {max(rows, default=0)}")
        if why := _unfit(rows[number]):
            raise FlywheelError(f"run {run} cannot be replayed there: {why}")
    return [rows[number] for number in sorted(set(wanted))], []


def _unfit(row: dict[str, Any]) -> str | None:
    """Why there are no answers to judge, or not all of them."""
    if row["number"] == 0:
        return "iteration 0 makes the base, and what answers there are is its exam; those after it have answers"
    if not row["prompts"] or row["answered"] < row["prompts"]:
        return f"iteration {row['number']} has answered {row['answered']} of {row['prompts']} prompts"
    return None
