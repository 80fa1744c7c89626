"""What runs on a node of a Ray cluster: a process that holds the engines there, and leaves answers as Parquet files.

Nothing here imports Ray or Prefect: `flows.engines` makes an actor of `Worker`.
"""

import contextlib
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fsspec  # type: ignore[import-untyped]
import polars as pl

from flywheel.engines.table import Engines, is_address, open_engine
from flywheel.errors import EngineError, FlywheelError, RecipeError, WeightsError
from flywheel.processes.environment import QUIET
from flywheel.protocols import Card, Model, Sampling
from flywheel.store.schema import Chat, schema

ChatItem = tuple[Chat, Any]
"""A chat with its seed or, for log-probabilities, with its completion."""
SCORED = schema({"chat": pl.Int64, "logprobs": pl.List(pl.Float64)})


class Question(NamedTuple):
    """What is asked about items: answers to chats, or the log-probabilities of completions."""

    engine: str
    weights: str
    sampling: Sampling | None  # None: log-probabilities


class Worker:
    """Serves with one engine for each name. An error for the user is given back, not raised: Ray would rename it."""

    def __init__(self, engine: str) -> None:
        for name, value in QUIET.items():  # as the command line does
            os.environ.setdefault(name, value)
        self._own = engine
        self._engines = Engines(open_engine(engine))

    def ready(self) -> None:
        """Answered as soon as the process is there."""

    def load(self, engine: str, weights: str) -> Card | FlywheelError:
        """The card of the weights, once they are served."""
        try:
            return self._model(engine, weights).card
        except FlywheelError as error:
            return error

    def answer(self, question: Question, items: Sequence[ChatItem], part: str) -> FlywheelError | None:
        """Leave the rows at `part`, a path or a URL: ANSWERS, or `chat` and `logprobs`."""
        try:
            model = self._model(question.engine, question.weights)
            chats, others = [chat for chat, _ in items], [other for _, other in items]
            if question.sampling is None:
                scored = model.logprobs(chats, others)
                rows = pl.DataFrame({"chat": range(len(items)), "logprobs": scored}, schema=SCORED)
            else:
                rows = model.chat(chats, question.sampling, others)
            return written(rows, part)
        except FlywheelError as error:
            return error

    def release(self) -> None:
        """Give the accelerator's memory back."""
        self._engines.release()

    def close(self) -> None:
        """End every process of every engine."""
        self._engines.close()

    def _model(self, engine: str, weights: str) -> Model:
        if Path(weights).is_absolute() and not Path(weights).is_dir() and not is_address(engine):
            raise WeightsError(
                f"{socket.gethostname()} does not see the weights {weights}: every node must see them at the same "
                "place, so keep --home on a file system that all nodes share"
            )
        return self._engines.load(weights, None if engine == self._own else engine)


def written(rows: pl.DataFrame, part: str) -> EngineError | None:
    """The rows as Parquet at `part`. Its name is that of one attempt, so nobody reads it before it is complete."""
    try:
        files, path = fsspec.url_to_fs(part)
        with files.open(path, "wb") as file:
            rows.write_parquet(file)
    except (OSError, ImportError) as error:
        return EngineError(
            f"{socket.gethostname()} cannot write {part}: {error}. Every node must see the folder of the parts: it is "
            "that of --home, or a URL such as s3://bucket/parts"
        )
    return None


@contextlib.contextmanager
def folder(parts: str) -> Iterator[str]:
    """A new folder below `parts`, which may be a URL; it is removed at the end."""
    place = f"{parts if '://' in parts else Path(parts).resolve()}/{uuid.uuid4().hex}"
    try:
        files, path = fsspec.url_to_fs(place)
        files.makedirs(path, exist_ok=True)
    except (OSError, ImportError, ValueError) as error:
        raise RecipeError(f"parts cannot be left at {parts}: {error}") from error
    try:
        yield place
    finally:
        with contextlib.suppress(FileNotFoundError):
            files.rm(path, recursive=True)
