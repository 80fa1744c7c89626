"""Meta-Rewarding Language Models (Wu et al., arXiv 2407.19594): the model also judges its judgments.

An instruct model is taught to judge (see `self_rewarding` for eft.jsonl). Then it answers new prompts seven times each
and judges each answer eleven times; a short one of the good answers is chosen over a long one of the bad. In the first
two iterations it also compares its judgments of the most disputed answer to each prompt, and learns the better one over
the worse. What changes from one iteration to the next is in SCHEDULE.
"""

from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from filters.pairs import MaxMin, RhoTiers
from filters.score_filters import MostDisputed
from filters.text_filters import Distinct
from flows.recipes import self_rewarding
from flywheel import Asked, Dpo, Meta, Recipe, Sampling, Sft, WarmStart
from judges.models.pairwise import META, Pairwise
from judges.models.rubric import Rubric


class Constants(NamedTuple):
    """Of one iteration."""

    rho: float
    answer_chars: int | None  # a longer chosen answer is dropped
    judgment_chars: int | None  # so is a longer chosen judgment; None: the iteration trains on answers alone
    epochs: int


SCHEDULE = (
    Constants(0.0, 2500, 1100, 6),
    Constants(0.32, None, 1000, 4),
    Constants(0.32, None, None, 2),
    Constants(0.40, None, None, 2),
)
EPOCHS = 10
"""The length of every training, of which an early checkpoint is used: the learning rate falls as if it went on."""

drawn = Sampling(temperature=0.8, top_p=0.95, max_tokens=1024)


def stopped(epochs: int) -> MappingProxyType[str, dict[str, float]]:
    """The beginning of half a cosine over EPOCHS."""
    return MappingProxyType({"lr_scheduler_kwargs": {"num_cycles": 0.5 * epochs / EPOCHS}})


def recipe(iteration: int) -> Recipe:
    """The recipe of an iteration, from 1."""
    now = SCHEDULE[min(iteration, len(SCHEDULE)) - 1]
    # Not published: max_tokens, micro_batch, max_length, warm-up, and how the meta-judge is sampled.
    pairwise = Pairwise(model=Asked(sampling=drawn), template=META, policy="weighted", measure="rating")
    meta = Meta(keep=(Distinct(), MostDisputed()), judge=pairwise, pick=MaxMin(now.judgment_chars))
    return replace(
        self_rewarding.recipe,
        name="meta-rewarding",
        base="meta-llama/Meta-Llama-3-8B-Instruct",
        warm_start=WarmStart(
            examples=self_rewarding.judgments,
            train=Sft(lr=5e-8, epochs=5, batch_size=32, micro_batch=4, max_length=4096, trl=stopped(5)),
        ),
        prompts_per_iteration=5000,
        sampling=replace(drawn, n=7),
        judges=(Rubric(model=Asked(sampling=replace(drawn, n=11))),),
        keep=(Distinct(),),
        pick=RhoTiers(now.rho, max_chosen_chars=now.answer_chars),
        meta=meta if now.judgment_chars else None,
        train=Dpo(
            beta=0.1,
            lr=5e-6,
            epochs=now.epochs,
            batch_size=32,
            micro_batch=4,
            max_length=4096,
            trl=stopped(now.epochs),
        ),
        iterations=len(SCHEDULE),
    )
