"""The ids that the program gives to the shipped recipes: run, iterations, draws, exams, and the names of their parts.

    python -m tests.stores.make ids

An exam's id hashes its prompts, so it is left out where those are on the Hub.
"""

import json
from pathlib import Path
from typing import Any

from flywheel.load import load, shipped
from flywheel.tables import content_id
from flywheel.turn import Turn, exam_id, run_id

from flywheel.errors import FlywheelError
from flywheel.recipe import Recipe, Scratch, describe, named


def write_ids(path: Path) -> None:
    """One object for each shipped recipe."""
    path.write_text(json.dumps({name: ids(name) for name in shipped()}, indent=1) + "\n", encoding="utf-8")


def ids(name: str) -> dict[str, Any]:
    """The ids of a recipe, and those of each of its iterations."""
    first = load(name)
    run = run_id(first)
    found = {"run": run, **base(first), **exam(first, run)}
    return {**found, "iterations": [iteration(name, run, number) for number in range(first.iterations + 1)]}


def base(recipe: Recipe) -> dict[str, str]:
    """The checkpoint that is built, if one is."""
    return {"base": content_id("scratch", describe(recipe.base))} if isinstance(recipe.base, Scratch) else {}


def exam(recipe: Recipe, run: str) -> dict[str, str]:
    """The draw, the judge and, where the prompts are at hand, the id of the exam."""
    turn = at(recipe, run, 0)
    known = {"exam draw": turn.draw(recipe.exam.sampling, recipe.seed), "exam judge": recipe.exam.judge.name}
    try:
        return {**known, "exam": exam_id(turn, recipe.exam.prompts()["id"].to_list())}
    except FlywheelError:
        return known


def iteration(name: str, run: str, number: int) -> dict[str, Any]:
    """The id and the draws of an iteration, and how its parts are named."""
    recipe = load(name, max(number, 1))
    turn = at(recipe, run, number)
    asked = [*recipe.judges, *([recipe.meta.judge] if recipe.meta else [])]
    return {
        "id": turn.id,
        "draw": turn.draw(recipe.sampling, turn.seed),
        "judges": {judge.name: turn.draw(judge.model.sampling, turn.seed) if judge.model else None for judge in asked},
        "gold": recipe.gold.name if recipe.gold else None,
        "proposer": recipe.proposer.name if recipe.proposer else None,
        "keep": [named(keep) for keep in recipe.keep],
        "pick": named(recipe.pick),
        "meta": [named(part) for part in (*recipe.meta.keep, recipe.meta.pick)] if recipe.meta else None,
        "train": content_id("train", describe(recipe.train)),
    }


def at(recipe: Recipe, run: str, number: int) -> Turn:
    """A turn that nothing is done in."""
    missing: Any = None
    return Turn(recipe, run, number, missing, missing, Path(), None)
