"""Which run of a store a recipe is, and what a reader should know before it goes on."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from flywheel.identity import describe
from flywheel.identity.changes import STEPS, Change, changes
from flywheel.identity.shipped import remarks
from flywheel.recipe.adopt import adopt
from flywheel.recipe.recipe import OPERATIONAL, Recipe, run_id
from flywheel.store.ids import content_id
from flywheel.store.store import Store

RecipeAt = Callable[[int], Recipe]
FAR = 1000
"""More iterations than a run has: between the seeds of two runs of a name."""


def run_in(recipe_at: RecipeAt, store: Store) -> str:
    """The id of a recipe's run in a store. Where an iteration was made with another recipe than it would be now, that
    is another run, which makes anew only what hangs on the difference.
    """
    first = recipe_at(1)
    adopt(first, store)
    run = store.known(run_id(first))
    while other := _first_other(recipe_at, store, run):
        run = content_id("run", run, *other)
    return run


def _first_other(recipe_at: RecipeAt, store: Store, run: str) -> tuple[int, object] | None:
    """The first iteration of a run that was made with another recipe, and how that recipe is now."""
    for number, stored in _iterations(store, run):
        recipe = replace(recipe_at(number), name=json.loads(stored)["name"])
        adopt(recipe, store)
        if _changes(recipe, stored):
            return number, describe(recipe)
    return None


def _iterations(store: Store, run: str) -> list[tuple[int, str]]:
    """Number and recipe of a run's iterations after the first, which the run's id holds."""
    query = "select number, recipe from iterations where run = $run and number > 1 order by number"
    return store.sql(query, {"run": run}).rows()


def _changes(recipe: Recipe, stored: str) -> list[Change]:
    found = changes(recipe, json.loads(stored))
    return [change for change in found if change.path.partition(".")[0] not in OPERATIONAL]


def resume_remarks(recipe_at: RecipeAt, store: Store, run: str) -> Iterator[str]:
    """What to say before a run goes on: what is new since the last one of its name, and what nobody can see."""
    if store.sql("select 1 from runs where id = $run", {"run": run}).is_empty():
        yield from _since_last(recipe_at, store)
    yield from remarks(recipe_at(1))


def _since_last(recipe_at: RecipeAt, store: Store) -> Iterator[str]:
    """What another run of the same name had otherwise: the last one."""
    name = recipe_at(1).name
    query = """
        select r.id, i.number, i.recipe from iterations i join runs r on r.id = i.run
        where i.number > 0 and r.id = (select id from runs where name = $name order by created_at desc limit 1)
        order by i.number"""
    for id, number, stored in store.sql(query, {"name": name}).iter_rows():
        found = _changes(replace(recipe_at(number), name=name), stored)
        if found:
            step = min((change.step for change in found), key=STEPS.index)
            since = "iteration 0" if step == "warm_start" else f"the {step} step of iteration {number}"
            yield f"{'; '.join(map(str, found))}: other than in run {id}, so from {since} on it is made again"
            return


def fresh_seed(recipe: Recipe, home: Path) -> int:
    """A seed that no run of this name has had. Iterations count up from it, so it is far from theirs."""
    place = home / "flywheel.duckdb"
    if not place.exists():
        return recipe.seed
    seeds = Store(place).sql("select max(seed) as seed from runs where name = $name", {"name": recipe.name})["seed"]
    return recipe.seed if seeds[0] is None else int(seeds[0]) + FAR
