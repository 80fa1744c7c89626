"""The loop: six steps in one direction. Start reading here.

Steps pass nothing to each other but what is in the store. Each asks the store what is missing, makes it in batches,
and adds each batch as it is done; so a resume is a re-run, a retry is safe, and a second run of the same thing costs
nothing. A step is a generator of Progress: what it has yielded is stored.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl

from flywheel.engines.table import Engines, open_engine
from flywheel.errors import ApprovalNeeded
from flywheel.pipeline.examine import enrol, examine
from flywheel.pipeline.iteration import Iteration, Progress, iteration_frames, note_event
from flywheel.pipeline.judge import judge
from flywheel.pipeline.propose import propose
from flywheel.pipeline.sample import sample
from flywheel.pipeline.select import select
from flywheel.pipeline.train import train, warm_start
from flywheel.preflight.recipe import check_all
from flywheel.processes.run_lock import alone
from flywheel.protocols import Engine
from flywheel.recipe.recipe import Recipe
from flywheel.recipe.runs import resume_remarks, run_in
from flywheel.store import queries
from flywheel.store.store import Store

Step = Callable[[Iteration], Iterator[Progress]]


START: tuple[Step, ...] = (warm_start, examine)
STEPS: tuple[Step, ...] = (propose, sample, judge, select, train, examine)


def iterate(
    recipe_at: Callable[[int], Recipe], home: Path, *, iterations: int | None = None, engine: Engine | None = None
) -> Iterator[Progress]:
    """Run the loop until `iterations` (default: the recipe's) are decided; what is in the store is not made again.

    Raises FlywheelError with one clear sentence; whatever was yielded before is stored.
    """
    first = check_all(recipe_at, iterations)
    store = Store(home / "flywheel.duckdb")
    with contextlib.closing(Engines(engine or open_engine(first.engine))) as serving:
        for iteration in undecided(recipe_at, store, serving, home, iterations):
            yield from (iteration.progress("recipe", 0, 0, note=remark) for remark in iteration.remarks)
            for step in STEPS if iteration.number else START:
                yield from recorded(step, iteration)


def run(
    recipe: Recipe | Callable[[int], Recipe],
    home: str | Path = "runs",
    *,
    iterations: int | None = None,
    engine: Engine | None = None,
) -> str:
    """Run a recipe to its end, or go on where it stopped; gives the run's id in the store HOME/flywheel.duckdb.

    `recipe` is a Recipe, or a function of the iteration's number that gives one. Raises FlywheelError with one clear
    sentence; what was made before is stored.
    """
    recipe_at = recipe if callable(recipe) else lambda _: recipe
    deque(iterate(recipe_at, Path(home), iterations=iterations, engine=engine), maxlen=0)
    return run_in(recipe_at, Store(Path(home) / "flywheel.duckdb"))


def recorded(step: Step, iteration: Iteration) -> Iterator[Progress]:
    """The step, timed; its end or its failure is an event. A step that had nothing to do leaves none."""
    started, last = time.monotonic(), None
    try:
        for last in step(iteration):
            yield last._replace(seconds=time.monotonic() - started)
    except ApprovalNeeded:
        if last:
            note_event(iteration, step.__name__, "done", "waits for a human", last, time.monotonic() - started)
        raise
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"
        note_event(iteration, step.__name__, "failure", detail, last, time.monotonic() - started)
        raise
    if last:
        note_event(iteration, step.__name__, "done", last.note, last, time.monotonic() - started)


def undecided(
    recipe_at: Callable[[int], Recipe], store: Store, engine: Engines, home: Path, iterations: int | None = None
) -> Iterator[Iteration]:
    """The iterations of a run that have no decision yet, each given out when the one before it is decided.

    AlreadyRunning if another process runs the same run in this home.
    """
    first, run = recipe_at(1), run_in(recipe_at, store)
    remarks = list(resume_remarks(recipe_at, store, run))
    with alone(home, run, first.name):
        for number in range((iterations if iterations is not None else first.iterations) + 1):
            decided = queries.decisions(store, run)
            if number in decided["number"]:
                continue
            recipe = replace(recipe_at(max(number, 1)), name=first.name)
            policy = decided.filter(pl.col("number") == number - 1)["policy"][0] if number else None
            iteration = Iteration(recipe, run, number, store, engine, home, policy, tuple(remarks))
            open_iteration(iteration)
            yield iteration
            remarks = []


def open_iteration(iteration: Iteration) -> None:
    """The exam's row and the iteration's; that of iteration 0 comes with the first thing that is made in it."""
    enrol(iteration)
    if iteration.number:
        iteration.store.add_all(iteration_frames(iteration))
