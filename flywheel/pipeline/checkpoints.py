"""Which checkpoint an iteration starts from, stays near, and makes."""

from pathlib import Path

import polars as pl

from flywheel.checkpoints import weights
from flywheel.engines.table import is_address
from flywheel.identity import describe
from flywheel.pipeline.iteration import Iteration
from flywheel.recipe.places import located
from flywheel.store import queries
from flywheel.store.ids import content_id
from flywheel.store.schema import CHECKPOINTS, now
from flywheel.training.settings import Scratch, Train


def found(iteration: Iteration) -> str:
    """The checkpoint that `recipe.base` names, with its row in the store; a Scratch is built first."""
    base = iteration.recipe.base
    if not isinstance(base, Scratch):
        return enrolled(iteration, base)
    id = iteration.store.known(content_id("scratch", describe(base)))
    place = Path("checkpoints") / id
    if not (iteration.home / place).is_dir():
        build_scratch(base, iteration.home / place)
    row = {"id": id, "kind": "scratch", "weights": str(place), "created_at": now()}
    iteration.store.add("checkpoints", pl.DataFrame([row], schema=CHECKPOINTS))
    return id


def enrolled(iteration: Iteration, name: str, engine: str | None = None) -> str:
    """The checkpoint of weights from elsewhere, with its row in the store: a folder, a Hub id, or, with an address as
    engine, the name that the server there has for a model.
    """
    if engine and is_address(engine):
        id, place = content_id("served", engine, name), name
    else:
        name = str(located(name))
        weights.fetch(name)
        weights.check_weights(name)
        place = str(Path(name).resolve()) if Path(name).is_dir() else name
        id = content_id("base", weights.identify(name))
    row = {"id": id, "kind": "base", "weights": place, "created_at": now()}
    iteration.store.add("checkpoints", pl.DataFrame([row], schema=CHECKPOINTS))
    return id


def build_scratch(scratch: Scratch, out: Path) -> None:
    """The folder of a model with random weights."""
    from flywheel.training.scratch import build

    out.parent.mkdir(parents=True, exist_ok=True)
    build(scratch, out)


def origin(iteration: Iteration) -> str:
    """The checkpoint that the training starts from."""
    if iteration.recipe.init_from == "previous":
        assert iteration.policy is not None
        return iteration.policy
    return base_of_run(iteration)


def base_of_run(iteration: Iteration) -> str:
    """The checkpoint that the run began with, its warm start included."""
    decided = queries.decisions(iteration.store, iteration.run)
    id = decided["policy"][0] if len(decided) else candidate(iteration)
    assert id is not None, "a base is always made"
    return str(id)


def candidate(iteration: Iteration) -> str | None:
    """The checkpoint that this iteration makes, known before it is made; None if it has nothing to train on."""
    if iteration.number == 0:
        base = found(iteration)
        return trained_id(iteration, base, iteration.recipe.warm_start.train) if iteration.recipe.warm_start else base
    return trained_id(iteration, origin(iteration), iteration.recipe.train)


def reference(iteration: Iteration, parent: str, settings: Train) -> str | None:
    """The checkpoint that a training stays near; None if it stays near none."""
    if settings.reference == "none":
        return None
    return parent if settings.reference == "init" else base_of_run(iteration)


def trained_id(iteration: Iteration, parent: str, settings: Train) -> str | None:
    """The id of the checkpoint that a training would make; None if its dataset has no rows."""
    dataset = queries.dataset_of(iteration.store, iteration.id)
    assert dataset is not None, "select comes before train"
    head = queries.row(iteration.store, "datasets", dataset)
    if head is None or not head["rows"]:
        return None
    near = reference(iteration, parent, settings)
    id = content_id("trained", parent, near, dataset, describe(settings), iteration.recipe.seed)
    return iteration.store.known(id)
