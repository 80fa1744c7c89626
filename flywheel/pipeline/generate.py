"""Asking in batches: what `sample`, `judge` and `examine` have in common."""

import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

import polars as pl

from flywheel.errors import EngineError, EngineMissing, PromptTooLong
from flywheel.pipeline.checkpoints import base_of_run, enrolled
from flywheel.pipeline.iteration import Iteration, draw_frame
from flywheel.protocols import BASE, POLICY, Asked, Card, Model, Sampling
from flywheel.store.ids import generation_id, prompt_id, request_seed
from flywheel.store.schema import GENERATIONS, REPLIES, Chat, now, prompts_frame

ATTEMPTS = 3
"""How often a batch is tried when its engine fails; each time on a fresh start of the engine."""
Made = TypeVar("Made")


def attempted(iteration: Iteration, checkpoint: str, engine: str | None, do: Callable[[Model], Made]) -> Made:
    """What `do` makes with the checkpoint's model. A failed engine is started again, ATTEMPTS times in all."""
    for attempt in itertools.count(1):
        try:
            return do(iteration.engine.load(iteration.weights(checkpoint), engine))
        except (EngineMissing, PromptTooLong):
            raise
        except EngineError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError("the loop has no end")


def generations(
    iteration: Iteration,
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

    card, answers = attempted(iteration, checkpoint, engine, chat)
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


_Item = TypeVar("_Item")


def tokens_of(record: dict[str, pl.DataFrame]) -> int:
    """Tokens that were generated for a record."""
    return int(record["generations"]["tokens"].sum()) if "generations" in record else 0


def asked_checkpoint(iteration: Iteration, asked: Asked) -> str:
    """The checkpoint whose weights a judge or a proposer asks."""
    if asked.weights == POLICY:
        assert iteration.policy is not None, "iteration 0 has no policy yet"
        return iteration.policy
    return base_of_run(iteration) if asked.weights == BASE else enrolled(iteration, asked.weights, asked.engine)


def ask(
    iteration: Iteration, asker: str, asked: Asked, chats: list[Chat], seed: int, role: str = "judgment"
) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """REPLIES to the chats of a judge or a proposer, and the frames that record them; equal chats are asked once.

    A chat that does not fit the model's context has no reply.
    """
    checkpoint = asked_checkpoint(iteration, asked)
    likely = [place for place, chat in enumerate(chats) if chat[-1]["role"] == "assistant"]
    weighed = likelihoods(iteration, asked, checkpoint, {place: chats[place] for place in likely})
    places = sorted(set(range(len(chats))) - set(likely))
    if not places:
        return weighed, {}
    prompts = prompts_frame(({"chat": chats[place]} for place in places), asker)
    draw = iteration.draw(asked.sampling, seed, asked.engine)
    rows = fitting(
        lambda kept: generations(iteration, prompts[kept], checkpoint, asked.sampling, draw, role, asked.engine),
        list(range(len(prompts))),
    )
    asked_for = pl.DataFrame({"chat": places, "prompt": [prompt_id(chats[place]) for place in places]})
    words = rows.rename({"id": "generation"}).with_columns(logprobs=None)
    replies = asked_for.join(words, on="prompt").select(list(REPLIES)).cast(REPLIES)
    record = {
        "prompts": prompts,
        "draws": draw_frame(draw, asked.sampling, seed, asked.engine or iteration.recipe.engine),
        "generations": rows,
    }
    return pl.concat([replies, weighed]).sort("chat", "index"), record


def likelihoods(iteration: Iteration, asked: Asked, checkpoint: str, chats: dict[int, Chat]) -> pl.DataFrame:
    """REPLIES that say how likely the last message of each chat is after those before it; keys are places."""

    def scored(places: list[int]) -> list[tuple[int, list[float]]]:
        before, last = [chats[at][:-1] for at in places], [chats[at][-1]["content"] for at in places]
        values = attempted(iteration, checkpoint, asked.engine, lambda model: model.logprobs(before, last))
        return list(zip(places, values, strict=True))

    rows = [
        {"chat": place, "index": 0, "text": chats[place][-1]["content"], "finish_reason": "stop"}
        | {"tokens": len(values), "logprob": sum(values), "logprobs": values}
        for place, values in (fitting(scored, list(chats)) if chats else [])
    ]
    return pl.DataFrame(rows, schema=REPLIES)


def fitting(make: Callable[[list[int]], _Item], items: list[int]) -> _Item:
    """What `make` makes of those items whose prompts fit the context."""
    while True:
        try:
            return make(items)
        except PromptTooLong as error:
            items = [item for place, item in enumerate(items) if place not in error.prompts]
