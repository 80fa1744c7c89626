"""The `sample` step: the policy answers the prompts of the iteration."""

from collections.abc import Iterator

import polars as pl

from flywheel.pipeline.generate import generations
from flywheel.pipeline.iteration import Progress, Turn, opening
from flywheel.protocols import Sampling
from flywheel.store import queries


def answer(
    turn: Turn, prompts: pl.DataFrame, checkpoint: str, sampling: Sampling, seed: int, role: str
) -> Iterator[tuple[int, int]]:
    """Store `sampling.n` generations for each of PROMPTS; yields prompts done and tokens made, batch by batch.

    A batch always holds the same prompts, whatever was killed before, so that its answers are the same to the last bit.
    """
    draw = turn.draw(sampling, seed)
    counts = queries.sampled(turn.store, checkpoint, draw).filter(pl.col("n") >= sampling.n)
    complete = set(counts["prompt"])
    done = tokens = 0
    for batch in prompts.iter_slices(turn.recipe.batch):
        done += len(batch)
        if complete.issuperset(batch["id"]):
            continue
        rows = generations(turn, batch, checkpoint, sampling, draw, role)
        turn.store.add_all({**opening(turn), "generations": rows})
        tokens += int(rows["tokens"].sum())
        yield done, tokens


def sample(turn: Turn) -> Iterator[Progress]:
    """The policy answers every proposed prompt `sampling.n` times."""
    assert turn.policy is not None
    prompts = queries.proposed(turn.store, turn.id)
    for done, tokens in answer(turn, prompts, turn.policy, turn.recipe.sampling, turn.seed, "answer"):
        yield turn.progress("sample", done, len(prompts), tokens)
