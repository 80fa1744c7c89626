"""Asking and judging in batches: what `sample`, `judge` and `examine` have in common."""

from collections.abc import Iterator

import polars as pl

from flywheel import history
from flywheel.errors import EngineError, EngineMissing, PromptTooLong, RecipeError
from flywheel.recipe import Judge, Sampling
from flywheel.tables import GENERATIONS, JUDGMENTS, generation_id, request_seed
from flywheel.turn import Turn, now

ATTEMPTS = 3
"""How often a batch is tried when its engine fails; each time on a fresh start of the engine."""
JUDGED_TOGETHER = 1024
"""Prompts whose answers are judged and stored together."""


def answer(
    turn: Turn, prompts: pl.DataFrame, checkpoint: str, sampling: Sampling, seed: int, role: str
) -> Iterator[tuple[int, int]]:
    """Store `sampling.n` generations for each of PROMPTS; yields prompts done and tokens made, batch by batch.

    A batch always holds the same prompts, whatever was killed before, so that its answers are the same to the last bit.
    """
    draw = turn.draw(sampling, seed)
    counts = history.sampled(turn.store, checkpoint, draw).filter(pl.col("n") >= sampling.n)
    complete = set(counts["prompt"])
    done = tokens = 0
    for batch in prompts.iter_slices(turn.recipe.batch):
        done += len(batch)
        if complete.issuperset(batch["id"]):
            continue
        rows = generations(turn, batch, checkpoint, sampling, draw, role)
        turn.store.add("generations", rows)
        tokens += int(rows["tokens"].sum())
        yield done, tokens


def generations(
    turn: Turn, prompts: pl.DataFrame, checkpoint: str, sampling: Sampling, draw: str, role: str
) -> pl.DataFrame:
    """GENERATIONS of one batch. A failed engine is started again, ATTEMPTS times in all."""
    ids = prompts["id"].to_list()
    seeds = [request_seed(draw, id) for id in ids]
    for attempt in range(1, ATTEMPTS + 1):
        try:
            model = turn.engine.load(turn.weights(checkpoint))
            answers = model.chat(prompts["chat"].to_list(), sampling, seeds)
            break
        except (EngineMissing, PromptTooLong):
            raise
        except EngineError:
            if attempt == ATTEMPTS:
                raise
    made = [ids[position] for position in answers["chat"]]
    return answers.select(
        id=pl.Series([generation_id(*row) for row in _keys(made, checkpoint, draw, answers)], dtype=pl.String),
        prompt=pl.Series(made, dtype=pl.String),
        checkpoint=pl.lit(checkpoint),
        draw=pl.lit(draw),
        index="index",
        role=pl.lit(role),
        text="text",
        finish_reason="finish_reason",
        prompt_tokens="prompt_tokens",
        tokens="tokens",
        logprob="logprob",
        seed=pl.Series([seeds[position] for position in answers["chat"]], dtype=pl.Int64),
        engine=pl.lit(model.card.engine),
        template=pl.lit(model.card.template),
        created_at=pl.lit(now()),
    ).cast(GENERATIONS)


def _keys(prompts: list[str], checkpoint: str, draw: str, answers: pl.DataFrame) -> Iterator[tuple[str, str, str, int]]:
    for prompt, index in zip(prompts, answers["index"], strict=True):
        yield prompt, checkpoint, draw, index


def judge_answers(turn: Turn, prompts: pl.DataFrame, checkpoint: str, draw: str, judge: Judge) -> Iterator[int]:
    """Store the judge's judgments of all answers that it has not judged; yields prompts done, batch by batch."""
    done = 0
    for batch in prompts.iter_slices(JUDGED_TOGETHER):
        done += len(batch)
        subjects = history.unjudged(turn.store, checkpoint, draw, batch["id"].to_list(), judge.name)
        if subjects.is_empty():
            continue
        judgments = judge.read(subjects, None).select(list(JUDGMENTS)).cast(JUDGMENTS)
        forgotten = set(subjects["generation"]) - set(judgments["generation"])
        if forgotten:
            raise RecipeError(f"judge {judge.name} gave no judgment for {len(forgotten)} of {len(subjects)} answers")
        turn.store.add("judgments", judgments)
        yield done
