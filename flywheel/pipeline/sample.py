"""The `sample` step: the policy answers the prompts of the iteration."""

from collections.abc import Iterator

import polars as pl

from flywheel.pipeline.generate import generations
from flywheel.pipeline.iteration import Iteration, Progress, opening
from flywheel.protocols import Sampling
from flywheel.store import queries


def answer_prompts(
    iteration: Iteration, prompts: pl.DataFrame, checkpoint: str, sampling: Sampling, seed: int, role: str
) -> Iterator[tuple[int, int]]:
    """Store `sampling.n` generations for each of PROMPTS; yields prompts done and tokens made, batch by batch.

    A batch always holds the same prompts, whatever was killed before, so that its answers are the same to the last bit.
    """
    draw = iteration.draw(sampling, seed)
    counts = queries.sampled(iteration.store, checkpoint, draw).filter(pl.col("n") >= sampling.n)
    complete = set(counts["prompt"])
    done = tokens = 0
    for batch in prompts.iter_slices(iteration.recipe.batch):
        done += len(batch)
        if complete.issuperset(batch["id"]):
            continue
        rows = generations(iteration, batch, checkpoint, sampling, draw, role)
        iteration.store.add_all({**opening(iteration), "generations": rows})
        tokens += int(rows["tokens"].sum())
        yield done, tokens


def sample(iteration: Iteration) -> Iterator[Progress]:
    """The policy answers every proposed prompt `sampling.n` times."""
    assert iteration.policy is not None
    prompts = queries.proposed(iteration.store, iteration.id)
    for done, tokens in answer_prompts(
        iteration, prompts, iteration.policy, iteration.recipe.sampling, iteration.seed, "answer"
    ):
        yield iteration.progress("sample", done, len(prompts), tokens)
