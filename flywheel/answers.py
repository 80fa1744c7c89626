"""Asking in batches: what `sample`, `judge` and `examine` have in common."""

import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

import polars as pl

from flywheel import history
from flywheel.errors import EngineError, EngineMissing, PromptTooLong
from flywheel.recipe import Card, Model, Sampling
from flywheel.tables import GENERATIONS, generation_id, now, request_seed
from flywheel.turn import Turn, opening

ATTEMPTS = 3
"""How often a batch is tried when its engine fails; each time on a fresh start of the engine."""
Made = TypeVar("Made")


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
        turn.store.add_all({**opening(turn), "generations": rows})
        tokens += int(rows["tokens"].sum())
        yield done, tokens


def attempted(turn: Turn, checkpoint: str, engine: str | None, do: Callable[[Model], Made]) -> Made:
    """What `do` makes with the checkpoint's model. A failed engine is started again, ATTEMPTS times in all."""
    for attempt in itertools.count(1):
        try:
            return do(turn.engine.load(turn.weights(checkpoint), engine))
        except (EngineMissing, PromptTooLong):
            raise
        except EngineError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the loop has no end")


def generations(
    turn: Turn,
    prompts: pl.DataFrame,
    checkpoint: str,
    sampling: Sampling,
    draw: str,
    role: str,
    engine: str | None = None,
) -> pl.DataFrame:
    """GENERATIONS of one batch."""
    ids = prompts["id"].to_list()
    seeds = [request_seed(draw, id) for id in ids]

    def chat(model: Model) -> tuple[Card, pl.DataFrame]:
        return model.card, model.chat(prompts["chat"].to_list(), sampling, seeds)

    card, answers = attempted(turn, checkpoint, engine, chat)
    made = [ids[position] for position in answers["chat"]]
    return answers.select(
        id=pl.Series([generation_id(*row) for row in _keys(made, checkpoint, draw, answers)], dtype=pl.String),
        prompt=pl.Series(made, dtype=pl.String),
        checkpoint=pl.lit(checkpoint),
        draw=pl.lit(draw),
        index="index",
        role=pl.lit(role),
        text="text",
        prompt_tokens="prompt_tokens",
        tokens="tokens",
        logprob="logprob",
        seed=pl.Series([seeds[position] for position in answers["chat"]], dtype=pl.Int64),
        engine=pl.lit(card.engine),
        template=pl.lit(card.template),
        created_at=pl.lit(now()),
        finish_reason="finish_reason",
    ).cast(GENERATIONS)


def made_elsewhere(answers: pl.DataFrame, engine: str) -> pl.DataFrame:
    """GENERATIONS of answers that no engine here made, from their `id`, `prompt`, `checkpoint`, `draw`, `index` and
    `text`; `engine` says where they come from."""
    unknown = {name: pl.lit(None) for name in ("prompt_tokens", "tokens", "logprob")}
    same = {"role": pl.lit("answer"), "finish_reason": pl.lit("stop"), "seed": pl.lit(0), "engine": pl.lit(engine)}
    rows = answers.with_columns(**unknown, **same, template=pl.lit(""), created_at=pl.lit(now()))
    return rows.select(GENERATIONS.names()).cast(GENERATIONS)


def _keys(prompts: list[str], checkpoint: str, draw: str, answers: pl.DataFrame) -> Iterator[tuple[str, str, str, int]]:
    for prompt, index in zip(prompts, answers["index"], strict=True):
        yield prompt, checkpoint, draw, index
