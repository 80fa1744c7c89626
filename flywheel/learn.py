"""From kept answers to new weights: datasets, the base, and the `train` step."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from flywheel import history, weights
from flywheel.identity import describe, describe_text
from flywheel.overlap import overlapping
from flywheel.places import located
from flywheel.recipe import Recipe, Scratch, Train
from flywheel.tables import (
    CHECKPOINTS,
    DATASETS,
    EXAMPLES,
    ITERATION_DATASETS,
    content_id,
    now,
    prompt_id,
    prompts_frame,
)
from flywheel.training import Job, metrics
from flywheel.training import train as run_training
from flywheel.turn import Progress, Turn, opening

LAUNCHER = "FLYWHEEL_LAUNCHER"
"""Environment variable: the command that starts a training on several devices, such as `accelerate launch ...`."""


def dataset_frames(turn: Turn, rows: pl.DataFrame, kind: str) -> dict[str, pl.DataFrame]:
    """The frames that record a dataset; rows are PICKED with `chat` and `origin`. Its id is a hash of its content."""
    content = rows.select("prompt", "chosen", "rejected", "weight", "origin", "generations")
    id = content_id("dataset", kind, content.rows())
    examples = rows.with_columns(dataset=pl.lit(id), position=pl.int_range(pl.len(), dtype=pl.Int32))
    real = int((rows["origin"] == "real").sum())
    head = {"id": id, "kind": kind, "rows": len(rows), "real": real, "synthetic": len(rows) - real, "created_at": now()}
    return {
        "examples": examples.select(list(EXAMPLES)).cast(EXAMPLES),
        "datasets": pl.DataFrame([head], schema=DATASETS),
        "iteration_datasets": pl.DataFrame([{"iteration": turn.id, "dataset": id}], schema=ITERATION_DATASETS),
    }


def warm_start(turn: Turn) -> Iterator[Progress]:
    """The base of the run: found or built, then taught by the recipe's worked examples, if it has any."""
    base, recipe = found(turn), turn.recipe
    if isinstance(recipe.base, Scratch):
        turn.store.add_all(opening(turn))
    if recipe.warm_start is None:
        return
    if history.dataset_of(turn.store, turn.id) is None:
        worked = recipe.warm_start.examples()
        prompts, rows = human_data(recipe, worked)
        turn.store.add_all({**opening(turn), "prompts": prompts, **dataset_frames(turn, rows, "worked examples")})
        if near := len(worked) - len(rows):
            note = f"{near} worked examples left out: they share {recipe.overlap} words in a row with the exam"
            yield turn.progress("warm_start", 0, 0, note=note)
    yield from trained(turn, base, recipe.warm_start.train, "warm_start")


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


def found(turn: Turn) -> str:
    """The checkpoint that `recipe.base` names, with its row in the store; a Scratch is built first."""
    base = turn.recipe.base
    if not isinstance(base, Scratch):
        return enrolled(turn, base)
    id = turn.store.known(content_id("scratch", describe(base)))
    place = Path("checkpoints") / id
    if not (turn.home / place).is_dir():
        build_scratch(base, turn.home / place)
    row = {"id": id, "kind": "scratch", "weights": str(place), "created_at": now()}
    turn.store.add("checkpoints", pl.DataFrame([row], schema=CHECKPOINTS))
    return id


def enrolled(turn: Turn, name: str, engine: str | None = None) -> str:
    """The checkpoint of weights from elsewhere, with its row in the store: a folder, a Hub id, or, with an address as
    engine, the name that the server there has for a model.
    """
    if engine and engine.startswith("http"):
        id, place = content_id("served", engine, name), name
    else:
        name = str(located(name))
        weights.fetch(name)
        weights.check(name)
        place = str(Path(name).resolve()) if Path(name).is_dir() else name
        id = content_id("base", weights.identify(name))
    row = {"id": id, "kind": "base", "weights": place, "created_at": now()}
    turn.store.add("checkpoints", pl.DataFrame([row], schema=CHECKPOINTS))
    return id


def build_scratch(scratch: Scratch, out: Path) -> None:
    """The folder of a model with random weights."""
    from flywheel.training.scratch import build

    out.parent.mkdir(parents=True, exist_ok=True)
    build(scratch, out)


def train(turn: Turn) -> Iterator[Progress]:
    """New weights from the iteration's dataset. A dataset without rows trains nothing."""
    yield from trained(turn, origin(turn), turn.recipe.train, "train")


def origin(turn: Turn) -> str:
    """The checkpoint that the training starts from."""
    if turn.recipe.init_from == "previous":
        assert turn.policy is not None
        return turn.policy
    return base_of_run(turn)


def base_of_run(turn: Turn) -> str:
    """The checkpoint that the run began with, its warm start included."""
    decided = history.decisions(turn.store, turn.run)
    id = decided["policy"][0] if len(decided) else candidate(turn)
    assert id is not None, "a base is always made"
    return str(id)


def candidate(turn: Turn) -> str | None:
    """The checkpoint that this iteration makes, known before it is made; None if it has nothing to train on."""
    if turn.number == 0:
        base = found(turn)
        return trained_id(turn, base, turn.recipe.warm_start.train) if turn.recipe.warm_start else base
    return trained_id(turn, origin(turn), turn.recipe.train)


def reference(turn: Turn, parent: str, settings: Train) -> str | None:
    """The checkpoint that a training stays near; None if it stays near none."""
    if settings.reference == "none":
        return None
    return parent if settings.reference == "init" else base_of_run(turn)


def trained_id(turn: Turn, parent: str, settings: Train) -> str | None:
    """The id of the checkpoint that a training would make; None if its dataset has no rows."""
    dataset = history.dataset_of(turn.store, turn.id)
    assert dataset is not None, "select comes before train"
    head = history.row(turn.store, "datasets", dataset)
    if head is None or not head["rows"]:
        return None
    near = reference(turn, parent, settings)
    return turn.store.known(content_id("trained", parent, near, dataset, describe(settings), turn.recipe.seed))


def trained(turn: Turn, parent: str, settings: Train, step: str) -> Iterator[Progress]:
    """Train on the iteration's dataset and record the checkpoint; Progress counts optimizer steps."""
    id, dataset = trained_id(turn, parent, settings), history.dataset_of(turn.store, turn.id)
    if id is None or dataset is None:
        yield turn.progress(step, 0, 0, note="no row was kept, so there is nothing to train on")
        return
    if history.row(turn.store, "checkpoints", id):
        return
    turn.engine.release()
    place, near = Path("checkpoints") / id, reference(turn, parent, settings)
    job = Job(
        examples=exported(turn, dataset),
        init_from=turn.weights(parent),
        reference=None if near is None else turn.weights(near),
        out=turn.home / place,
        settings=settings,
        seed=turn.recipe.seed,
        launcher=tuple(shlex.split(os.environ.get(LAUNCHER, ""))),
    )
    for at in run_training(job):
        yield turn.progress(step, at.step, at.steps, at.tokens)
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
    turn.store.add_all({"checkpoints": pl.DataFrame([row], schema=CHECKPOINTS), "metrics": metrics(job.out, id)})


def exported(turn: Turn, dataset: str) -> Path:
    """The dataset as a Parquet file for the training child, which never opens the store."""
    path = turn.home / "datasets" / f"{dataset}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        history.examples(turn.store, dataset).write_parquet(part)
        part.replace(path)
    return path
