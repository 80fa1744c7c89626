"""The loop under Prefect: one flow run per run of a recipe, one task run per step.

    python -m flows.run quickstart --iterations 2        # a flow run, by hand

The steps are the same as without Prefect; what they made is in the store, so a retry or a second flow run goes on.
"""

import atexit
import contextlib
import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from prefect import State, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.states import Failed
from prefect.task_engine import TaskRunTimeoutError
from prefect.tasks import exponential_backoff
from pydantic import Field

from flows.approve import obtain
from flows.artifacts import key, show_iteration, show_report
from flows.engines import serving
from flows.progress import follow
from flywheel.engines.table import Engines
from flywheel.errors import ApprovalNeeded, EngineError, EngineMissing, FlywheelError, PromptTooLong
from flywheel.pipeline.examine import examine
from flywheel.pipeline.iteration import Iteration, note_event
from flywheel.pipeline.loop import START, STEPS, Step, recorded, undecided
from flywheel.preflight.recipe import check_all
from flywheel.processes.environment import QUIET, cores
from flywheel.recipe.load import load
from flywheel.recipe.runs import RecipeAt, run_in
from flywheel.store import queries
from flywheel.store.store import Store

RETRIES = 4
RETRY_SECONDS = 5.0
"""Before the first retry, then twice as long each time, plus or minus chance."""
GOAL = "flywheel.iterations"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
    retry_delay_seconds=exponential_backoff(RETRY_SECONDS),
    retry_jitter_factor=0.5,
    retry_condition_fn=worth_retrying,
)
def run_step(name: str, number: int, step: Step, iteration: Iteration) -> str | None:
    """Run one step to its end; gives its last note. Prefect does not hash or store the iteration."""
    try:
        last = follow(recorded(step, iteration), key(iteration.recipe.name, "step"), get_run_logger())
    except ApprovalNeeded as waiting:  # all that the step can do is done
        get_run_logger().info("%s: %s", name, waiting)
        return str(waiting)
    return last.note if last else None


@task(task_run_name="iteration {number}: show", cache_policy=NO_CACHE)
def show(number: int, iteration: Iteration) -> None:
    """Make the artifacts of an iteration that is decided."""
    show_iteration(iteration)


@task(task_run_name="report of {name}", cache_policy=NO_CACHE)
def write_report(name: str, iteration: Iteration) -> None:
    """Write the report of a run, and link to it."""
    get_run_logger().info("the report is at %s", show_report(iteration.store, iteration.home, iteration.run))


def in_time(step: Step, iteration: Iteration, minutes: float | None) -> str | None:
    """`run_step`, but FlywheelError where it takes longer; whatever it had started is then ended."""
    name = step.__name__
    limited = run_step.with_options(timeout_seconds=None if minutes is None else 60 * minutes)
    try:
        return limited(name, iteration.number, step, iteration)
    except TaskRunTimeoutError:
        late = f"was not done within {minutes:g} minutes (step_timeout), so it was stopped"
        note_event(iteration, name, "failure", late, seconds=60 * (minutes or 0))
        raise FlywheelError(
            f"iteration {iteration.number}: {name} {late}; what it has stored stays: run it again, or with more time"
        ) from None


def run_iteration(iteration: Iteration, minutes: float | None) -> str | None:
    """All steps of an iteration, and a human's word where the gate wants one; gives the last note."""
    note = None
    for step in STEPS if iteration.number else START:
        note = in_time(step, iteration, minutes) or note
    while iteration.number not in queries.decisions(iteration.store, iteration.run)["number"]:
        if not obtain(iteration):
            raise ApprovalNeeded(note)
        note = in_time(examine, iteration, minutes)
    show(iteration.number, iteration, return_state=True)  # a failure to show is told in its task run, and stops nothing
    return note


def last_decided(recipe_at: RecipeAt, store: Store) -> int:
    """Number of the run's last iteration with a decision; 0 if there is none."""
    return max(queries.decisions(store, run_in(recipe_at, store))["number"], default=0)


def goal(recipe_at: RecipeAt, store: Store, more: int) -> int:
    """Number of the last iteration that is asked for. A flow run that is run again from the top keeps its own."""
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None, "only a flow asks"
    if GOAL not in context.flow_run.labels:
        labels: dict[str, Any] = {GOAL: last_decided(recipe_at, store) + more}
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(context.flow_run.id, labels)
        return int(labels[GOAL])
    return int(context.flow_run.labels[GOAL])


def loop(
    recipe: str,
    iterations: int | None,
    overrides: list[str],
    home: Path,
    more: int | None,
    minutes: float | None,
    served: Callable[[str], Engines],
) -> str:
    """Run the loop of one recipe; gives the last decision in words."""
    recipe_at = partial(load, recipe, overrides=tuple(overrides))
    first = check_all(recipe_at, iterations)
    store, note, iteration = Store(home / "flywheel.duckdb"), "everything was decided already", None
    if more is not None:
        iterations = goal(recipe_at, store, more)
    with contextlib.closing(served(first.engine)) as engine:
        for iteration in undecided(recipe_at, store, engine, home, iterations):
            for remark in iteration.remarks:
                get_run_logger().info(remark)
            note = run_iteration(iteration, minutes) or note
    if iteration:
        write_report(iteration.recipe.name, iteration, return_state=True)
    return note


def flow_run_name() -> str:
    """The name of the flow run: its recipe, and how far it goes."""
    given = flow_run.parameters
    name = Path(given["recipe"]).stem
    if given.get("more") is not None:
        return f"{name}: {given['more']} more"
    return name if given.get("iterations") is None else f"{name}: up to iteration {given['iterations']}"


@flow(name="flywheel", flow_run_name=flow_run_name)
def run(
    recipe: str,
    iterations: Annotated[int, Field(ge=0)] | None = None,
    overrides: list[str] | None = None,
    home: str = "runs",
    more: Annotated[int, Field(ge=0)] | None = None,
    step_timeout: Annotated[float, Field(gt=0)] | None = None,
    task_runner: str = "thread",
    parts: str | None = None,
) -> str | State[str]:
    """Run the loop of one recipe. Gives the last decision in words; what a user can mend fails in one sentence.

    Args:
        recipe: name of a shipped recipe, or the path of a recipe file.
        iterations: how many there are to be in all; the recipe's own number if not given.
        overrides: settings as `key=value`, for instance `sampling.n=4`.
        home: the folder of the store, datasets and checkpoints.
        more: instead of `iterations`, how many there are to be beyond the last one decided: for a run every night.
        step_timeout: minutes that each step may take; after that it is stopped, and the run fails.
        task_runner: where batches are worked on: `thread` is here, `ray` on the Ray cluster of this machine, and
            `ray:ADDRESS` on another one. See docs/cluster.md.
        parts: folder or URL where the workers of a cluster leave answers; by default the folder `parts` in home.
    """
    for name, value in {**QUIET, "OMP_NUM_THREADS": str(cores())}.items():  # as the command line does
        os.environ.setdefault(name, value)
    try:
        served = partial(serving, task_runner, parts=parts or str(Path(home) / "parts"))
        return loop(recipe, iterations, overrides or [], Path(home), more, step_timeout, served)
    except FlywheelError as error:
        return Failed(message=str(error), data=error)
    except OSError as error:
        if error.errno not in FULL:
            raise
        full = FlywheelError(f"the disk of {home} is full ({error}): make room, then run it again")
        return Failed(message=str(full), data=full)


def main(
    recipe: str,
    iterations: Annotated[int | None, typer.Option(min=0)] = None,
    home: str = "runs",
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None,
    more: Annotated[int | None, typer.Option(min=0, help="Iterations beyond the last one decided.")] = None,
    step_timeout: Annotated[float | None, typer.Option(help="Minutes that each step may take.")] = None,
    task_runner: Annotated[
        str, typer.Option(help="Where batches are worked on: thread, ray or ray:ADDRESS.")
    ] = "thread",
    parts: Annotated[str | None, typer.Option(help="Folder or URL where a cluster's workers leave answers.")] = None,
) -> None:
    """Run the flow once, here and now."""
    try:
        print(run(recipe, iterations, overrides, home, more, step_timeout, task_runner, parts))
    except FlywheelError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def end_quietly() -> None:
    """Prefect's threads still hold parts of DuckDB as the process ends, which its binding would tell in 50 lines."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


if __name__ == "__main__":
    atexit.register(end_quietly)
    typer.run(main)
