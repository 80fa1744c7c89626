"""The extension points: what a judge, a filter, a pick, a source and an engine must be able to do. Nothing is done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import polars as pl

from flywheel.store.schema import Chat

POLICY = "policy"
"""As the weights that a judge asks: those that are being improved."""
BASE = "base"
"""As the weights that a judge asks: those that the run began with."""

Source = Callable[[], pl.DataFrame]
"""Gives PROMPTS in an order that never changes, or raises SourceError. Nothing is read before it is called."""

Filter = Callable[[pl.LazyFrame], pl.LazyFrame]
"""JUDGED to fewer rows of it. What is missing from its result was dropped by it."""

Pick = Callable[[pl.LazyFrame], pl.LazyFrame]
"""JUDGED, after the filters, to PICKED: the rows that train."""

Worked = Callable[[], pl.DataFrame]
"""Gives WORKED examples in an order that never changes."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers are drawn, and nothing else draws them: no engine takes a default of its model or its server.

    temperature 0 is greedy. The defaults of the others are neutral: they cut and penalise nothing. A token's logit is
    penalised first, then tempered; then min_p, top_k and top_p cut, each what the one before it left.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    min_p: float = 0.0  # a token that has less than this share of the best one's chance is out
    repetition_penalty: float = 1.0  # divides logits above 0, multiplies others, of tokens in prompt or answer
    presence_penalty: float = 0.0  # off the logit of each token that the answer has
    frequency_penalty: float = 0.0  # off it as often as the answer has the token
    min_tokens: int = 0  # before which no answer ends, by a token or a stop string


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The model that a judge asks, and how. `sampling.n` is the number of votes: n answers to one question."""

    weights: str = POLICY  # POLICY, BASE, a folder or a Hub id
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=256)
    engine: str | None = None  # None: the recipe's; `reward` for a reward model


class Verdict(NamedTuple):
    """What a rule says of one answer; `score` is None unless `status` is `ok`.

    `status` is ok, unparsable (the answer is not in the form that was asked for), timeout, or error (there is nothing
    to compare with); `detail` is the final answer as it was read, or what is wrong.
    """

    status: str
    score: float | None
    detail: str | None


Subject = tuple[str, str | None, str | None]
"""An answer, and the known answer and the JSON of its prompt, where there are any."""


class Verifier(Protocol):
    """Says whether an answer is right, and asks no model: a rule. `judges.verdict.Rule` makes a judge of it."""

    def verdict(self, text: str, reference: str | None, meta: str | None) -> Verdict:
        """What it says of one answer, by the known answer and the JSON that come with the prompt, where they do."""
        ...


@runtime_checkable
class Judge(Protocol):
    """How good is an answer? Does no I/O: the step asks its questions through an engine and hands back the replies."""

    @property
    def name(self) -> str:
        """Names wording, model and sampling, so that a changed judge is another judge."""
        ...

    @property
    def model(self) -> Asked | None:
        """Whom it asks; None for a rule, which asks nobody."""
        ...

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        """Its questions about SUBJECTS, which hold all answers to each of their prompts.

        A chat that ends with an assistant's message asks how likely that message is; any other one asks for replies.
        """
        ...

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """VOTES on SUBJECTS, or a PairJudge's COMPARISONS; replies are REPLIES to what was asked, None for a rule."""
        ...


@runtime_checkable
class PairJudge(Judge, Protocol):
    """A judge that compares the answers to a prompt with each other."""

    def rate(self, subjects: pl.DataFrame, comparisons: pl.DataFrame) -> pl.DataFrame:
        """VOTES: one score for each of SUBJECTS, from all of the iteration's COMPARISONS between them."""
        ...


@runtime_checkable
class Ensemble(Protocol):
    """Several judges that speak with one voice."""

    @property
    def name(self) -> str:
        """Names the members and how they are put together."""
        ...

    @property
    def members(self) -> tuple[Judge | PairJudge, ...]:
        """In the order in which they are asked."""
        ...

    def due(self, subjects: pl.DataFrame, votes: pl.DataFrame, place: int) -> pl.DataFrame:
        """Those of SUBJECTS that the member at `place` is asked about, given the VOTES of the members before it."""
        ...

    def combine(self, subjects: pl.DataFrame, votes: pl.DataFrame) -> pl.DataFrame:
        """VOTES of the ensemble: one for each of SUBJECTS, from the members' VOTES."""
        ...


AnyJudge = Judge | PairJudge | Ensemble


@runtime_checkable
class Scaled(Protocol):
    """What a judge may be besides, so that it can be told how often it is right and not only how well it ranks.

    A judge that is not has a scale from 0 to 1 if its scores lie there, else none.
    """

    @property
    def scale(self) -> tuple[float, float]:
        """Its lowest and its highest score; above their middle it accepts an answer."""
        ...


@runtime_checkable
class Proposer(Protocol):
    """Has a model write new prompts. Does no I/O, as a Judge does none."""

    @property
    def name(self) -> str:
        """Names wording, model and sampling; the source of the prompts that it writes."""
        ...

    @property
    def model(self) -> Asked:
        """Whom it asks."""
        ...

    def ask(self, seeds: pl.DataFrame, written: pl.DataFrame, count: int, seed: int) -> list[Chat]:
        """`count` questions, always the same for a seed, from the recipe's PROMPTS and those that were written before.

        RecipeError if there are too few seeds to show.
        """
        ...

    def read(self, replies: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
        """WRITTEN: every prompt in REPLIES, with the reason where it is of no use beside the PROMPTS that are known."""
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

    def chat(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> pl.DataFrame:
        """ANSWERS, ordered by chat and index: `sampling.n` for each chat, with one seed per chat.

        The same chat, sampling and seed give the same text. `text` has no special tokens and ends before a stop string.
        `finish_reason` is `stop` for a text that ended itself alone; `logprob` is null where it is no finite number.
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


def askers(judge: AnyJudge) -> tuple[Judge, ...]:
    """The judges that a judge is made of: itself, or the members of an ensemble."""
    return judge.members if isinstance(judge, Ensemble) else (judge,)
