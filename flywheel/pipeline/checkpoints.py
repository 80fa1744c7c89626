"""Which checkpoint an iteration starts from, stays near, and makes."""

from pathlib import Path

import polars as pl

from flywheel.checkpoints import weights
from flywheel.engines.table import is_address
from flywheel.identity import describe
from flywheel.pipeline.iteration import Turn
from flywheel.recipe.places import located
from flywheel.store import queries
from flywheel.store.ids import content_id
from flywheel.store.schema import CHECKPOINTS, now
from flywheel.training.settings import Scratch, Train


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
    if engine and is_address(engine):
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


def origin(turn: Turn) -> str:
    """The checkpoint that the training starts from."""
    if turn.recipe.init_from == "previous":
        assert turn.policy is not None
        return turn.policy
    return base_of_run(turn)


def base_of_run(turn: Turn) -> str:
    """The checkpoint that the run began with, its warm start included."""
    decided = queries.decisions(turn.store, turn.run)
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
    dataset = queries.dataset_of(turn.store, turn.id)
    assert dataset is not None, "select comes before train"
    head = queries.row(turn.store, "datasets", dataset)
    if head is None or not head["rows"]:
        return None
    near = reference(turn, parent, settings)
    return turn.store.known(content_id("trained", parent, near, dataset, describe(settings), turn.recipe.seed))
