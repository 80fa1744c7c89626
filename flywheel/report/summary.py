"""What happens in a run, and what it came to: numbers of the store, for people and for programs."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import polars as pl

from flywheel.errors import StoreError
from flywheel.store import queries
from flywheel.store.store import Store

if TYPE_CHECKING:
    from flywheel.pipeline.iteration import Progress

SummaryRow = dict[str, Any]


class Event(NamedTuple):
    """A step has stored something (at) or has ended (step), an iteration or the run has ended; with its numbers."""

    kind: Literal["at", "step", "iteration", "end"]
    values: SummaryRow


def events(steps: "Iterable[Progress]", run: Callable[[], str], store: Callable[[], Store]) -> Iterator[Event]:
    """What happens in a run. `run` (its id) and `store` are first called when there is a store."""
    last: Progress | None = None
    for progress in steps:
        if last and (last.iteration, last.step) != (progress.iteration, progress.step):
            yield Event("step", last._asdict())
            if last.iteration != progress.iteration:
                yield from (Event("iteration", row) for row in progress_rows(store(), last.run, last.iteration))
        yield Event("at", progress._asdict())
        last = progress
    if last:
        yield Event("step", last._asdict())
        yield from (Event("iteration", row) for row in progress_rows(store(), last.run, last.iteration))
    yield Event("end", summary(store(), last.run if last else run()))


def progress_rows(store: Store, run: str, iteration: int) -> list[SummaryRow]:
    """The row of the view `progress` for an iteration, if it is decided."""
    rows = store.sql("from progress").filter(pl.col("run") == run, pl.col("iteration") == iteration)
    return rows.to_dicts()


def summary(store: Store, run: str) -> SummaryRow:
    """What a run came to: its last policy against its first on the same exam, where there are two; in words too."""
    from flywheel.evaluation.paired_test import compare, tell  # numpy, which `status` has no use for

    decided, row = queries.decisions(store, run), queries.row(store, "runs", run)
    assert row is not None, f"run {run} has no row"
    if decided.is_empty():
        raise StoreError(f"run {row['name']} has decided nothing yet: `flywheel run` goes on with it")
    first, last = decided.row(0, named=True), decided.row(-1, named=True)
    told = {"run": run, "name": row["name"], "iterations": last["number"], "policy": last["policy"]}
    told |= {"store": str(store.path)}
    head = f"{row['name']}: {last['number']} iterations"
    if first["policy"] == last["policy"]:
        return told | {"sentence": f"{head}, none promoted: the policy is still the first one, {first['policy']}"}
    if first["exam"] != last["exam"]:
        return told | {"sentence": f"{head}, the policy is now {last['policy']}; its exam is not the first one's"}
    before, after = (queries.grades(store, policy, first["exam"]) for policy in (first["policy"], last["policy"]))
    result = compare(after, before)
    numbers = tell(result).replace("the incumbent", "the base")
    return told | result._asdict() | {"sentence": f"{head}, the policy is now {last['policy']}: {numbers}"}
