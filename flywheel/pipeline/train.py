"""From kept answers to new weights: datasets, the base, and the `train` step."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from flywheel.identity import describe_text
from flywheel.pipeline.checkpoints import found, origin, reference, trained_id
from flywheel.pipeline.iteration import Iteration, Progress, opening
from flywheel.pipeline.select import dataset_frames
from flywheel.recipe.recipe import Recipe
from flywheel.store import queries
from flywheel.store.ids import prompt_id
from flywheel.store.schema import CHECKPOINTS, now, prompts_frame
from flywheel.text.overlap import overlapping
from flywheel.training.run import Job, metrics
from flywheel.training.run import train as run_training
from flywheel.training.settings import Scratch, Train

LAUNCHER = "FLYWHEEL_LAUNCHER"
"""Environment variable: the command that starts a training on several devices, such as `accelerate launch ...`."""


def warm_start(iteration: Iteration) -> Iterator[Progress]:
    """The base of the run: found or built, then taught by the recipe's worked examples, if it has any."""
    base, recipe = found(iteration), iteration.recipe
    if isinstance(recipe.base, Scratch):
        iteration.store.add_all(opening(iteration))
    if recipe.warm_start is None:
        return
    if queries.dataset_of(iteration.store, iteration.id) is None:
        worked = recipe.warm_start.examples()
        prompts, rows = human_data(recipe, worked)
        iteration.store.add_all(
            {**opening(iteration), "prompts": prompts, **dataset_frames(iteration, rows, "worked examples")}
        )
        if near := len(worked) - len(rows):
            note = f"{near} worked examples left out: they share {recipe.overlap} words in a row with the exam"
            yield iteration.progress("warm_start", 0, 0, note=note)
    yield from trained(iteration, base, recipe.warm_start.train, "warm_start")


def human_data(recipe: Recipe, worked: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """PROMPTS and training rows of WORKED examples, without those that come too near the exam."""
    prompts = prompts_frame(({"chat": chat} for chat in worked["chat"]), "worked examples")
    near = overlapping(prompts, recipe.exam.prompts(), recipe.overlap)["prompt"].to_list()
    rows = pl.DataFrame({"chat": worked["chat"], "chosen": worked["completion"]}).with_columns(
        prompt=pl.Series([prompt_id(chat) for chat in worked["chat"]], dtype=pl.String),
        rejected=pl.lit(None, pl.String),
        weight=pl.lit(1.0),
        origin=pl.lit("real"),
        generations=pl.lit([], pl.List(pl.String)),
    )
    # A training prompt that is also worked out keeps its reference: the store keeps the row that came first.
    known = recipe.prompts().filter(pl.col("id").is_in(prompts["id"].implode()))
    prompts = pl.concat([known, prompts]).unique("id", keep="first", maintain_order=True)
    return prompts, rows.filter(~pl.col("prompt").is_in(near))


def train(iteration: Iteration) -> Iterator[Progress]:
    """New weights from the iteration's dataset. A dataset without rows trains nothing."""
    yield from trained(iteration, origin(iteration), iteration.recipe.train, "train")


def trained(iteration: Iteration, parent: str, settings: Train, step: str) -> Iterator[Progress]:
    """Train on the iteration's dataset and record the checkpoint; Progress counts optimizer steps."""
    id, dataset = trained_id(iteration, parent, settings), queries.dataset_of(iteration.store, iteration.id)
    if id is None or dataset is None:
        yield iteration.progress(step, 0, 0, note="no row was kept, so there is nothing to train on")
        return
    if queries.row(iteration.store, "checkpoints", id):
        return
    iteration.engine.release()
    place, near = Path("checkpoints") / id, reference(iteration, parent, settings)
    job = Job(
        examples=exported(iteration, dataset),
        init_from=iteration.weights(parent),
        reference=None if near is None else iteration.weights(near),
        out=iteration.home / place,
        settings=settings,
        seed=iteration.recipe.seed,
        launcher=tuple(shlex.split(os.environ.get(LAUNCHER, ""))),
    )
    for at in run_training(job):
        yield iteration.progress(step, at.step, at.steps, at.tokens)
    row = {
        "id": id,
        "kind": "trained",
        "parent": parent,
        "reference": near,
        "dataset": dataset,
        "trainer": describe_text(settings),
        "weights": str(place),
        "created_at": now(),
    }
    iteration.store.add_all({"checkpoints": pl.DataFrame([row], schema=CHECKPOINTS), "metrics": metrics(job.out, id)})


def exported(iteration: Iteration, dataset: str) -> Path:
    """The dataset as a Parquet file for the training child, which never opens the store."""
    path = iteration.home / "datasets" / f"{dataset}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        queries.examples(iteration.store, dataset).write_parquet(part)
        part.replace(path)
    return path
