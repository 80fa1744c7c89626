"""A recipe: one method of the literature as a frozen value, and the seams that its parts fit.

A recipe file defines `recipe`, a `Recipe`, or a function `recipe(iteration) -> Recipe` where constants change from
one iteration to the next. Its parts are frozen dataclasses whose fields are their parameters: that is what names them
in the store and in a run's identity.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import polars as pl

from flywheel.tables import Chat, content_id

POLICY = "policy"
"""As a judge's `model`: the weights that are being improved."""

Source = Callable[[], pl.DataFrame]
"""Gives PROMPTS in an order that never changes, or raises SourceError. Nothing is read before it is called."""

Filter = Callable[[pl.LazyFrame], pl.LazyFrame]
"""JUDGED to fewer rows of it. What is missing from its result was dropped by it."""

Pick = Callable[[pl.LazyFrame], pl.LazyFrame]
"""JUDGED, after the filters, to PICKED: the rows that train."""

Worked = Callable[[], pl.DataFrame]
"""Gives WORKED examples in an order that never changes."""


@runtime_checkable
class Judge(Protocol):
    """How good is an answer? Does no I/O: the step asks its questions through an engine and hands back the replies."""

    @property
    def name(self) -> str:
        """Names wording, model and sampling, so that a changed judge is another judge."""
        ...

    @property
    def model(self) -> str | None:
        """Weights, POLICY, or None for a rule, which is never asked anything."""
        ...

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        """One chat for each row of SUBJECTS, in order."""
        ...

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """JUDGMENTS of SUBJECTS; replies are ANSWERS to what was asked, or None for a rule."""
        ...


class Card(NamedTuple):
    """What a loaded model says of itself."""

    engine: str  # name and version
    template: str  # hash of the chat template
    context: int  # tokens that prompt and answer may have together


class Model(Protocol):
    """Weights that are being served."""

    @property
    def card(self) -> Card:
        """What the model says of itself."""
        ...

    def chat(self, chats: Sequence[Chat], sampling: "Sampling", seeds: Sequence[int]) -> pl.DataFrame:
        """ANSWERS, ordered by chat and index: `sampling.n` for each chat, with one seed per chat.

        The same chat, sampling and seed give the same text. `text` has no special tokens and ends before a stop string.
        Raises PromptTooLong before any work if a prompt and one token do not fit the context (an answer that would run
        over it is truncated with finish_reason `length`); EngineError if the engine fails.
        """
        ...

    def logprobs(self, chats: Sequence[Chat], completions: Sequence[str]) -> list[list[float]]:
        """Log-probability in nats of each token of each completion (without the end token) after its chat."""
        ...


class Engine(Protocol):
    """Serves one set of weights at a time. Nothing starts before the first `load`."""

    def load(self, weights: str) -> Model:
        """Serve these weights (a folder or a Hub id), by swapping where that is proven right, else by a restart."""
        ...

    def release(self) -> None:
        """Give the accelerator's memory back before a training; the next `load` takes it again."""
        ...

    def close(self) -> None:
        """End every process that the engine started. Can be called twice."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers are drawn. temperature 0 is greedy; top_k 0 and top_p 1 cut nothing."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters, merged into the weights when the training ends (Hu et al. 2021)."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"


@dataclass(frozen=True, kw_only=True)
class Sft:
    """Supervised fine-tuning with TRL; the loss is on the completion only. batch_size counts sequences per step."""

    child: ClassVar[str] = (
        "flywheel.training.child"  # the module that runs a Job with these settings, in a process of its own
    )
    lr: float = 1e-5
    epochs: float = 1.0
    max_steps: int = -1  # overrides epochs where positive
    batch_size: int = 32
    micro_batch: int | None = None  # sequences on a device at once; None: batch_size
    max_length: int = 2048
    warmup: float = 0.03  # share of the steps
    scheduler: str = "cosine"
    weight_decay: float = 0.0
    packing: bool = False  # several examples in one row; wants flash attention, which keeps them apart
    lora: Lora | None = None
    save_every: int = 200  # steps between the checkpoints from which a killed training goes on
    trl: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))  # passed through to SFTConfig


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """A small Llama-architecture model with its own tokenizer, built here with random weights."""

    text: Worked  # what the tokenizer must be able to spell
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    intermediate: int = 384
    context: int = 256
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Supervised training on human data that turns `Recipe.base` into the base of the whole run."""

    examples: Worked
    train: Sft


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Held-out prompts, a judge that is not the policy, how answers are drawn, and the `ks` of pass@k and maj@k."""

    name: str
    prompts: Source
    judge: Judge
    sampling: Sampling = Sampling(temperature=0.0)
    ks: tuple[int, ...] = (1,)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Which new checkpoint becomes the policy. `better`: significantly better than the incumbent at level alpha, by a
    paired two-sided test; `not worse`: not significantly worse; `always`: every one, for controls and for measuring."""

    promote: Literal["better", "not worse", "always"] = "better"
    alpha: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One method: what each of the six steps uses."""

    name: str
    base: str | Scratch  # a folder, a Hub id, or a model to build
    prompts: Source
    judges: tuple[Judge, ...]  # the first one's mean score is `score` in filters and picks
    keep: tuple[Filter, ...]
    pick: Pick
    train: Sft
    exam: Exam
    sampling: Sampling = Sampling()
    warm_start: WarmStart | None = None
    init_from: Literal["base", "previous"] = "base"
    prompts_per_iteration: int | None = None  # the next so many, round and round; None: all, each time
    gate: Gate = Gate()
    iterations: int = 3
    engine: str = "vllm"  # vllm | local | toy | the http(s) address of an OpenAI-compatible server
    batch: int = 256  # prompts that are sampled and stored together: what a kill can lose
    overlap: int = 13  # a prompt that shares so many words in a row with an exam prompt is not trained on
    seed: int = 0


def describe(value: Any) -> Any:
    """A JSON value that holds everything that makes `value` what it is: its type and its fields, all the way down."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in sorted(value.items())}
    if isinstance(value, (tuple, list)):
        return [describe(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    raise TypeError(f"{value!r} cannot be part of a recipe: use frozen dataclasses, functions and plain values")


def named(part: Any) -> str:
    """A short name for a part: its type and its fields that are not default, or a hash of them where they are long."""
    if not dataclasses.is_dataclass(part):
        return str(getattr(part, "__name__", part))
    shown = [
        f"{f.name}={getattr(part, f.name)!r}" for f in dataclasses.fields(part) if getattr(part, f.name) != f.default
    ]
    text = f"{type(part).__name__}({', '.join(shown)})"
    return text if len(text) <= 60 else f"{type(part).__name__}#{content_id(describe(part))[:8]}"


def describe_text(value: Any) -> str:
    """`describe` as text, the same for the same value."""
    return json.dumps(describe(value), ensure_ascii=False, sort_keys=True)
