"""Judging the judgments: what the recipe's first judge wrote is judged in its turn, and can train the judge."""

from collections.abc import Iterator

import polars as pl

from flywheel.pipeline.iteration import Iteration
from flywheel.pipeline.judge_batches import AnswerBatches
from flywheel.protocols import Ensemble
from flywheel.recipe.recipe import Meta
from flywheel.store import queries
from flywheel.store.schema import PROMPTS


def judge_judgments(iteration: Iteration, meta: Meta) -> Iterator[tuple[int, int]]:
    """Store the meta-judge's judgments; yields questions done and tokens made, batch by batch."""
    words = worth_judging(iteration, meta)
    traces = words["trace"].implode()
    for (checkpoint, draw), asked in words.group_by("checkpoint", "draw", maintain_order=True):
        ids = asked.select(id="prompt").unique(maintain_order=True)
        questions = ids.join(queries.prompts(iteration.store, ids["id"].to_list()), on="id", maintain_order="left")
        batches = AnswerBatches(iteration, questions.select(list(PROMPTS)), str(checkpoint), str(draw), iteration.seed)
        if isinstance(meta.judge, Ensemble):
            yield from batches.ensemble(meta.judge)
        else:
            yield from batches.judge(meta.judge, lambda subjects: subjects.filter(pl.col("generation").is_in(traces)))


def worth_judging(iteration: Iteration, meta: Meta) -> pl.DataFrame:
    """What the first judge wrote, and could be read, about the answers that `meta.keep` keeps; see `history.words`."""
    answers = queries.judged(iteration.store, iteration.id, iteration.titles(iteration.recipe.judges)).lazy()
    for keep in meta.keep:
        answers = keep(answers)
    ids = answers.collect()["generation"].to_list()
    return queries.judge_words(
        iteration.store, iteration.id, ids, iteration.title(iteration.recipe.judges[0]), iteration.seed
    )


def judged_judgments(iteration: Iteration, meta: Meta) -> pl.DataFrame:
    """JUDGED of those words, by the meta-judge."""
    return queries.judged_words(iteration.store, worth_judging(iteration, meta), iteration.titles([meta.judge]))
