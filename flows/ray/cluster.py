"""Engines on a Ray cluster: a worker for each of its GPUs, or for each node if it has none.

A batch is cut into portions, which are tasks of Prefect's runner for Ray; each asks the worker of its node, which
leaves the answers as a Parquet file. Only the flow's process reads those, and it alone writes to the store. What came
back is kept until the whole batch has: where a worker was lost or an engine failed, the step asks for the batch again,
and only what is missing is made anew.
"""

import contextlib
import contextvars
import math
import os
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import fsspec  # type: ignore[import-untyped]
import numpy as np
import polars as pl

from flows.ray.failures import Lost, Place, Portion, failed, received, worst
from flows.ray.worker import ChatItem, Question, Worker, folder
from flows.tasks import Chats, ask
from flywheel.errors import EngineError, FlywheelError, RecipeError
from flywheel.identity import describe
from flywheel.protocols import Card
from flywheel.store.ids import content_id

PORTIONS = 2
"""Of a batch for each worker. With more of them nobody waits long for the slowest; larger ones are quicker."""
START_SECONDS, STOP_SECONDS = 120.0, 10.0


class Cluster:
    """The workers on a Ray cluster."""

    def __init__(self, address: str, engine: str, parts: str) -> None:
        self._engine, self._chats = engine, Chats()
        # A submitted task takes along what is around it. That is the flow: a step's arguments hold this very object.
        self._flow = contextvars.copy_context()
        self._workers: dict[Place, Any] = {}
        self._kept: dict[str, pl.DataFrame] = {}  # by question and item
        with contextlib.ExitStack() as stack:
            self._runner = stack.enter_context(connected(address))
            self._parts = stack.enter_context(folder(parts))
            self._stack = stack.pop_all()

    def load(self, engine: str, weights: str) -> Card:
        """Serve these weights on every worker. Where one was lost and its node is there, there is a new one."""
        self._start()
        cards = set(self._all("load", engine, weights))
        if len(cards) != 1:
            found = "; ".join(map(str, sorted(cards))) or "nothing, all of them were lost"
            raise EngineError(f"the workers of the Ray cluster must serve the same, but they serve {found}")
        return Card(*cards.pop())

    def answers(self, question: Question, items: list[ChatItem], schema: pl.Schema) -> pl.DataFrame:
        """The answers to all items, in their order; raises the worst of what failed."""
        asked = [question.engine, question.weights, describe(question.sampling)]
        keys = [content_id("asked", asked, *item) for item in items]
        failures = list(self._make(question, items, keys))
        if failures:
            raise worst(failures)
        frames = [self._kept[key] for key in keys]
        self._kept.clear()
        self._chats.add(len(items))
        places = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
        return pl.concat([schema.to_frame(), *frames]).with_columns(chat=pl.Series(places, dtype=pl.Int64))

    def release(self) -> None:
        """Give the memory of every accelerator back."""
        self._all("release")

    def close(self) -> None:
        """End every worker, and leave the cluster. Can be called twice."""
        import ray

        if self._workers:
            ray.wait(
                [worker.close.remote() for worker in self._workers.values()],
                num_returns=len(self._workers),
                timeout=STOP_SECONDS,
            )
        for worker in self._workers.values():
            ray.kill(worker)
        self._workers.clear()
        self._stack.close()

    def _make(self, question: Question, items: list[ChatItem], keys: list[str]) -> Iterator[FlywheelError]:
        """Have the workers answer what is still missing; gives what failed."""
        import ray

        missing = list({key: place for place, key in enumerate(keys) if key not in self._kept}.values())
        size = max(1, math.ceil(len(missing) / (PORTIONS * max(1, len(self._workers)))))
        waiting = deque(missing[at : at + size] for at in range(0, len(missing), size))
        idle, busy = list(self._workers), dict[Any, tuple[Any, Portion]]()
        while busy or (waiting and idle):
            while waiting and idle:
                portion = Portion(waiting.popleft(), idle.pop(), f"{self._parts}/{uuid.uuid4().hex}.parquet")
                name = self._chats.name(portion.places[0], portion.places[-1])
                chosen = [items[place] for place in portion.places]
                future = self._flow.run(self._submit, name, question, chosen, portion)
                busy[future.wrapped_future] = future, portion
            [first, *_], _ = ray.wait(list(busy))
            future, portion = busy.pop(first)
            failure = failed(future, portion)
            if failure:
                yield failure
            else:
                self._keep([keys[place] for place in portion.places], portion.part)
            if isinstance(failure, Lost):
                self._workers.pop(portion.worker, None)
            else:
                idle.append(portion.worker)
        if waiting:
            yield Lost("every worker of the Ray cluster was lost")

    def _submit(self, name: str, question: Question, items: list[ChatItem], portion: Portion) -> Any:
        """A task run on the worker's node. It needs no CPU: it waits for the worker, which has one."""
        from prefect_ray.context import remote_options  # type: ignore[import-untyped]

        work = partial(answer_portion, self._workers[portion.worker], question, items, portion.part)
        with remote_options(num_cpus=0, scheduling_strategy=on(portion.worker[0], soft=True)):
            return self._runner.submit(ask, {"name": name, "work": work})

    def _keep(self, keys: list[str], part: str) -> None:
        files, path = fsspec.url_to_fs(part)
        rows = pl.read_parquet(files.cat_file(path))
        self._kept |= {keys[place]: frame for (place,), frame in rows.partition_by("chat", as_dict=True).items()}
        files.rm(path)

    def _start(self) -> None:
        """A worker in every place that has none; workers in places that are gone are forgotten."""
        import ray

        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        found = places([node for node in nodes if node["Alive"]])
        if not found:
            raise EngineError("no node of the Ray cluster has a GPU, or a CPU, for a worker")
        self._workers = {place: worker for place, worker in self._workers.items() if place in found}
        new = {place: self._worker(*place, found[place]) for place in found if place not in self._workers}
        _, late = ray.wait(
            [worker.ready.remote() for worker in new.values()] or [ray.put(None)],
            num_returns=max(1, len(new)),
            timeout=START_SECONDS,
        )
        self._workers |= new
        if late:
            for worker in new.values():
                ray.kill(worker)
            raise EngineError(
                f"{len(late)} of {len(new)} workers did not start on the Ray cluster within {START_SECONDS:.0f} s: "
                "`ray status` shows whether something else has its GPUs or CPUs"
            )

    def _worker(self, node: str, number: int, gpu: bool) -> Any:
        import ray

        actor = ray.remote(Worker).options(
            num_cpus=0 if gpu else 1, num_gpus=1 if gpu else 0, scheduling_strategy=on(node, soft=False)
        )
        return actor.remote(self._engine)

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        """What every worker gives; raises the first error among them. The lost give nothing."""
        asked = {place: getattr(worker, method).remote(*arguments) for place, worker in self._workers.items()}
        given = []
        for place, reference in asked.items():
            try:
                given.append(received(reference))
            except Lost:
                self._workers.pop(place)
        errors = [each for each in given if isinstance(each, FlywheelError)]
        if errors:
            raise worst(errors)
        return given


def places(nodes: Sequence[dict[str, Any]]) -> dict[Place, bool]:
    """Where workers belong, and whether each has a GPU: on every GPU, or on every node with a CPU if there is none."""
    count = {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in nodes}
    if any(count.values()):
        return {(node, number): True for node, gpus in count.items() for number in range(gpus)}
    return {(node["NodeID"], 0): False for node in nodes if node["Resources"].get("CPU", 0) >= 1}


def on(node: str, soft: bool) -> Any:
    """Ray's way to say where; softly: somewhere else if the node is gone."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=soft)


def answer_portion(worker: Any, question: Question, items: list[ChatItem], part: str) -> None:
    """The portion's task, on the worker's node."""
    failure = received(worker.answer.remote(question, items, part))
    if failure:
        raise failure


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Prefect's task runner for Ray, at work; without an address on the cluster of this machine, or one for itself."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        from prefect_ray import RayTaskRunner  # type: ignore[import-untyped]
    except ImportError as error:
        raise RecipeError("the task runner `ray` needs Ray: install flywheel's extra ray") from error
    runner = RayTaskRunner(address=address or None)
    try:
        runner.__enter__()
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise RecipeError(f"there is no Ray cluster at {address or 'this machine'}: {error}") from error
    try:
        yield runner
    finally:
        runner.__exit__(None, None, None)
