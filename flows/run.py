"""The wheel under Prefect: one flow run per run of a recipe, one task run per step.

    python -m flows.run quickstart --iterations 2        # a flow run, by hand

The steps are the same as without Prefect; what they made is in the store, so a retry or a second flow run goes on.
"""

import contextlib
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flywheel import history
from flywheel.check import check_all
from flywheel.engines import Engines, open_engine
from flywheel.errors import EngineError, EngineMissing, PromptTooLong
from flywheel.load import load
from flywheel.recipe import Recipe
from flywheel.steps import START, STEPS, Step, recorded
from flywheel.store import Store
from flywheel.turn import Turn, begin, turns

RETRIES = 2
RETRY_SECONDS = 10.0


def worth_retrying(task: object, task_run: object, state: object) -> bool:
    """Only an engine that failed may do better the next time."""
    try:
        state.result()  # type: ignore[attr-defined]
    except (EngineMissing, PromptTooLong):
        return False
    except EngineError:
        return True
    except BaseException:
        return False
    return False


@task(
    task_run_name="iteration {number}: {name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=worth_retrying,
)
def run_step(name: str, number: int, step: Step, turn: Turn) -> str | None:
    """Run one step to its end; gives its last note. Prefect does not hash or store the turn."""
    logger, last = get_run_logger(), None
    for last in recorded(step, turn):
        logger.info("%s: %s of %s, %s tokens, %.1f s", name, last.done, last.total, last.tokens, last.seconds)
    if last and last.note:
        logger.info("%s: %s", name, last.note)
    return last.note if last else None


def last_decided(recipe: Recipe, store: Store) -> int:
    """Number of the run's last iteration with a decision; 0 if there is none."""
    return max(history.decisions(store, begin(recipe, store))["number"], default=0)


@flow(name="flywheel", flow_run_name="{recipe}")
def run(
    recipe: str,
    iterations: int | None = None,
    overrides: list[str] | None = None,
    home: str = "runs",
    more: int | None = None,
) -> str:
    """Turn the wheel of one recipe. Gives the last decision in words.

    Args:
        recipe: name of a shipped recipe, or the path of a recipe file.
        iterations: how many there are to be in all; the recipe's own number if not given.
        overrides: settings as `key=value`, for instance `sampling.n=4`.
        home: the folder of the store, datasets and checkpoints.
        more: instead of `iterations`, how many there are to be beyond the last one decided: for a run every night.
    """
    recipe_at = partial(load, recipe, overrides=tuple(overrides or ()))
    first = check_all(recipe_at, iterations)
    place, note = Path(home), "everything was decided already"
    store = Store(place / "flywheel.duckdb")
    if more is not None:
        iterations = last_decided(first, store) + more
    with contextlib.closing(Engines(open_engine(first.engine))) as engine:
        for turn in turns(recipe_at, store, engine, place, iterations):
            for step in STEPS if turn.number else START:
                note = run_step(step.__name__, turn.number, step, turn) or note
    return note


def main(
    recipe: str,
    iterations: int | None = None,
    home: str = "runs",
    overrides: Annotated[list[str] | None, typer.Option("--set")] = None,
) -> None:
    """Run the flow once, here and now."""
    print(run(recipe, iterations, overrides, home))


if __name__ == "__main__":
    typer.run(main)
