"""A store in which answers lie that nobody has judged yet, and an iteration whose policy can be asked about them."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from flows.recipes.toy import recipe as toy
from flywheel.engines.table import Engines, open_engine
from flywheel.pipeline.checkpoints import enrolled
from flywheel.pipeline.iteration import Iteration
from flywheel.pipeline.judge_batches import judge_answers
from flywheel.protocols import AnyJudge
from flywheel.store import queries
from flywheel.store.ids import generation_id
from flywheel.store.schema import GENERATIONS, JUDGMENTS, Chat, now, prompts_frame
from flywheel.store.store import Store

CHECKPOINT, DRAW = "writer", "draw"


class Answered(NamedTuple):
    """A prompt with the answers to it."""

    chat: Chat
    answers: list[str]
    reference: str | None = None


def asked(question: str, *answers: str, reference: str | None = None) -> Answered:
    """Of one message."""
    return Answered([{"role": "user", "content": question}], list(answers), reference)


class Unjudged:
    """Where they are judged. `weights` are the policy's and the base's, for the engine of that name."""

    def __init__(self, home: Path, answered: Iterable[Answered], weights: Path, engine: str = "toy") -> None:
        rows = list(answered)
        self.store = Store(home / "flywheel.duckdb")
        self.prompts = prompts_frame(({"chat": row.chat, "reference": row.reference} for row in rows), "test")
        prompts = dict(zip([str(row.chat) for row in rows], self.prompts["id"], strict=True))
        frames = [generations(prompts[str(row.chat)], row.answers) for row in rows]
        self.store.add_all({"prompts": self.prompts, "generations": pl.concat(frames)})
        recipe = replace(toy, base=str(weights), engine=engine, batch=256)
        serving = Engines(open_engine(engine))
        iteration = Iteration(recipe, "run", 0, self.store, serving, home, None)
        self.iteration = replace(iteration, policy=enrolled(iteration, str(weights)))

    def judge(self, judge: AnyJudge) -> pl.DataFrame:
        """JUDGMENTS of all the answers, in their order."""
        for _ in judge_answers(self.iteration, self.prompts, CHECKPOINT, DRAW, judge, seed=0):
            pass
        query = """select j.* from judgments j join generations g on g.id = j.generation where j.judge = $judge
                   order by list_position($prompts, j.prompt), j.index, j.vote"""
        values = {"judge": judge.name, "prompts": self.prompts["id"].to_list()}
        return self.store.sql(query, values).cast(JUDGMENTS)

    def subjects(self) -> pl.DataFrame:
        """SUBJECTS: all the answers."""
        return queries.unjudged(self.store, CHECKPOINT, DRAW, self.prompts["id"].to_list(), "nobody")


def generations(prompt: str, answers: list[str]) -> pl.DataFrame:
    """GENERATIONS of answers to one prompt."""
    return (
        pl.DataFrame(
            {
                "id": [generation_id(prompt, CHECKPOINT, DRAW, index) for index in range(len(answers))],
                "index": range(len(answers)),
                "text": answers,
            }
        )
        .select(
            "id",
            pl.lit(prompt).alias("prompt"),
            pl.lit(CHECKPOINT).alias("checkpoint"),
            pl.lit(DRAW).alias("draw"),
            "index",
            role=pl.lit("answer"),
            text="text",
            finish_reason=pl.lit("stop"),
            prompt_tokens=pl.lit(1),
            tokens=pl.lit(1),
            logprob=pl.lit(-1.0),
            seed=pl.lit(0),
            engine=pl.lit("test"),
            template=pl.lit("test"),
            created_at=pl.lit(now()),
        )
        .cast(GENERATIONS)
    )
