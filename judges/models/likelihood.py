"""Judges that ask a model for no words, but how likely it finds some: grades, the answer itself, the reference."""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from flywheel.errors import RecipeError
from flywheel.protocols import BASE, POLICY, Asked, Verdict
from flywheel.store.schema import Chat
from flywheel.text.thoughts import THOUGHTS, Markers
from judges.ensembles import means, spoken
from judges.models.prompts import check_slots, titled, wording
from judges.models.rubric import REFUSED, answerable, questions
from judges.models.shown import answer_chats, answer_shown, assistant, referenced, shown_answers, unasked
from judges.verdict import votes

ERROR = Verdict("error", None, "no finite log-probability")
LOGPROB_NOISE = 1e-6
"""Nats by which the log-probability of a token may differ from batch to batch."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The grade that a model may be expected to give: each option's value, weighed by the chance that it is the reply.

    So a grade lies between the options, and ties are rare (G-Eval, Liu et al. 2023; d-RLAIF, Lee et al. 2023, has 1 to
    10). With options "A" and "B" and values 1 and 0 it is the chance of A (Constitutional AI, Bai et al. 2022).
    """

    version: ClassVar[int] = 2  # is not shown thoughts
    model: Asked = Asked()
    template: str = wording("options")  # as a Rubric's, with {options}
    options: tuple[str, ...] = ("1", "2", "3", "4", "5")
    values: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0)
    thoughts: Markers = THOUGHTS  # begin and end what is not shown of an answer

    def __post_init__(self) -> None:
        check_slots(self.template, "question", "answer")
        if len(set(self.options)) < 2 or not all(self.options) or len(set(self.options)) < len(self.options):
            raise RecipeError(f"options must be two texts at least, none empty and none twice, not {self.options}")
        if len(self.values) != len(self.options) or not all(map(math.isfinite, self.values)):
            raise RecipeError(f"each of the {len(self.options)} options has one finite value, but values={self.values}")

    @property
    def name(self) -> str:
        """A hash of all fields, the wording too."""
        return titled(self)

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        return (min(self.values), max(self.values))

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        """How likely each option is as the reply to the question about each answer."""
        known = answerable(self.template, subjects, self.thoughts)
        asked = questions(self.template, known, options=", ".join(self.options))
        return [[*chat, assistant(option)] for chat in asked for option in self.options]

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """VOTES on SUBJECTS."""
        known, said = answerable(self.template, subjects, self.thoughts), _likelihoods(replies)
        count, others = len(self.options), unasked(self.name, known, subjects, self.thoughts)
        groups = [[said.get(place * count + at) for at in range(count)] for place in range(len(known))]
        verdicts = [self.verdict([each for each in group if each is not None]) for group in groups]
        return pl.concat([votes(self.name, known, verdicts), others])

    def verdict(self, said: Sequence[Sequence[float]]) -> Verdict:
        """The expected value, from the log-probabilities of each option's tokens."""
        if len(said) < len(self.options):
            return REFUSED
        if not all(tokens and math.isfinite(math.fsum(tokens)) for tokens in said):
            return ERROR
        chances = weighed(self.options, said)
        told = ", ".join(f"{option}: {chance:.3f}" for option, chance in zip(self.options, chances, strict=True))
        return Verdict("ok", round(math.fsum(map(operator.mul, chances, self.values)), 9), told)


def weighed(options: Sequence[str], said: Sequence[Sequence[float]]) -> list[float]:
    """The chance that each option is the reply, if one of them is, from the log-probabilities of its tokens.

    What begins with "1" may go on to "10": where that takes more tokens, its chance is no part of the chance of "1".
    """
    sums = [math.fsum(tokens) for tokens in said]
    chances: dict[int, float] = {}
    for at in sorted(range(len(options)), key=lambda at: -len(said[at])):
        longer = [to for to in chances if options[to].startswith(options[at]) and len(said[to]) > len(said[at])]
        chances[at] = max(0.0, math.exp(sums[at] - max(sums)) - math.fsum(chances[to] for to in longer))
    return [chances[at] / math.fsum(chances.values()) for at in range(len(options))]


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """How likely a model finds the answer: its log-probability in nats, for each token or in all; no end token counts.

    `detail` has both, since the sum favours short answers and the mean long ones.
    """

    version: ClassVar[int] = 2  # of the answer without its thoughts
    model: Asked = Asked()
    mean: bool = True
    thoughts: Markers = THOUGHTS  # begin and end what is no part of an answer

    @property
    def name(self) -> str:
        """A hash of all fields."""
        return titled(self)

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        """How likely each answer is."""
        return answer_chats(shown_answers(subjects, self.thoughts))

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """VOTES on SUBJECTS."""
        said, known = _likelihoods(replies), shown_answers(subjects, self.thoughts)
        given = votes(self.name, known, (self._verdict(said.get(place)) for place in range(len(known))))
        return pl.concat([given, unasked(self.name, known, subjects, self.thoughts)])

    def _verdict(self, tokens: Sequence[float] | None) -> Verdict:
        if tokens is None:
            return REFUSED
        if not tokens:
            return Verdict("error", None, "an empty answer")
        total = math.fsum(tokens)
        detail = f"{total:.6g} in {len(tokens)} tokens"
        return Verdict("ok", total / len(tokens) if self.mean else total, detail) if math.isfinite(total) else ERROR


@dataclass(frozen=True, kw_only=True)
class DensityRatio:
    """How much likelier a better aligned model finds the answer than its worse aligned kin (Dr.SoW, 2411.02481).

    An `Ensemble` of two Likelihoods, whose score is log p(strong) - log p(weak). Both must have one tokenizer. By
    default the pair comes for free: the policy and what the run began with, which agree until the policy has learned.
    """

    version: ClassVar[int] = 2  # as Likelihood
    strong: Asked = Asked(weights=POLICY)
    weak: Asked = Asked(weights=BASE)
    mean: bool = False
    thoughts: Markers = THOUGHTS  # as in Likelihood

    def __post_init__(self) -> None:
        if self.strong == self.weak:
            raise RecipeError(f"a DensityRatio compares two models, but both are {self.strong.weights}")

    @property
    def name(self) -> str:
        """A hash of all fields."""
        return titled(self)

    @property
    def members(self) -> tuple[Likelihood, ...]:
        """The strong one, then the weak one."""
        return tuple(
            Likelihood(model=model, mean=self.mean, thoughts=self.thoughts) for model in (self.strong, self.weak)
        )

    def due(self, subjects: pl.DataFrame, votes: pl.DataFrame, place: int) -> pl.DataFrame:
        """All SUBJECTS, for both."""
        return subjects

    def combine(self, subjects: pl.DataFrame, votes: pl.DataFrame) -> pl.DataFrame:
        """VOTES: one for each of SUBJECTS, without a score where either has none."""
        said, names = means(votes), [member.name for member in self.members]
        pairs = {of: [said.get((of, name)) for name in names] for of in subjects["generation"]}
        scores = {of: None if a is None or b is None else a - b for of, (a, b) in pairs.items()}
        return spoken(self.name, scores, names, votes)


@dataclass(frozen=True, kw_only=True)
class ReferenceLikelihood:
    """How much likelier the reference becomes by the reasoning in an answer (R3 in DRO, 2506.13351).

    A token of the reference counts by how far the answers to its prompt are apart on it, so that those which no
    reasoning moves do not drown the others; and only for what is gained over its log-probability without any reasoning,
    which the tokens before it may have made certain already. Published are these two ideas, but neither formula: here
    the weights are the standard deviations, which add up to 1, and the gain is a difference.

    Thoughts of a reasoning model are reasoning, too, and are weighed; one without an end leads to no reference.
    until: the reasoning ends where this stands for the last time ("Answer:"); None: it is all of the answer.
    then: what the user says between the reasoning and the reference.
    thoughts: what begins and ends a thought.
    """

    version: ClassVar[int] = 2  # refuses thoughts without an end
    model: Asked = Asked()
    until: str | None = None
    then: str = wording("reference_turn")
    thoughts: Markers = THOUGHTS

    def __post_init__(self) -> None:
        if self.until == "":
            raise RecipeError("`until` must not be empty; leave it out to take all of the answer for reasoning")

    @property
    def name(self) -> str:
        """A hash of all fields, the wording too."""
        return titled(self)

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        """How likely the reference is: after each answer, and then for each prompt after none."""
        known = self._known(subjects)
        bare = known.unique("prompt", keep="first", maintain_order=True).with_columns(text=pl.lit(""))
        rows = pl.concat([known, bare]).select("chat", "text", "reference").iter_rows()
        return [self._question(chat, text, reference) for chat, text, reference in rows]

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """VOTES on SUBJECTS."""
        known, said = self._known(subjects), _likelihoods(replies)
        prompts = known.with_row_index("place").group_by("prompt", maintain_order=True).agg("place")
        verdicts: dict[int, Verdict] = {}
        for at, places in enumerate(prompts["place"].to_list(), len(known)):
            group = {place: said[place] for place in places if place in said and at in said}
            verdicts |= zip(group, reflected(list(group.values()), said.get(at, [])), strict=True)
        given = [verdicts.get(place, REFUSED) for place in range(len(known))]
        return pl.concat([votes(self.name, known, given), unasked(self.name, known, subjects, self.thoughts)])

    def _known(self, subjects: pl.DataFrame) -> pl.DataFrame:
        ended = [answer_shown(text, self.thoughts) is not None for text in subjects["text"]]
        return referenced(subjects.filter(pl.Series(ended, dtype=pl.Boolean)))

    def _question(self, chat: Chat, text: str, reference: str) -> Chat:
        reasoning = text.rpartition(self.until)[0] if self.until and self.until in text else text
        return [*chat, assistant(reasoning), {"role": "user", "content": self.then}, assistant(reference)]


def reflected(group: Sequence[Sequence[float]], bare: Sequence[float]) -> list[Verdict]:
    """On each member of a group, from the log-probabilities of the reference's tokens after it, and after nothing.

    Where the members agree on every token, all tokens count the same.
    """
    if not group or not bare:
        return [Verdict("error", None, "an empty reference")] * len(group)
    with np.errstate(invalid="ignore"):  # infinities make no score
        apart = np.std(group, axis=0)
        weights = apart if np.sum(apart) > LOGPROB_NOISE * len(bare) else np.ones(len(bare))
        scores = (np.array(group) - bare) @ (weights / weights.sum())
    return [Verdict("ok", score, None) if math.isfinite(score) else ERROR for score in scores.tolist()]


def _likelihoods(replies: pl.DataFrame | None) -> Mapping[int, list[float]]:
    """The log-probabilities of the tokens that each question asked about; what the engine refused is missing."""
    assert replies is not None, "these judges ask a model"
    return dict(replies.select("chat", "logprobs").iter_rows())
