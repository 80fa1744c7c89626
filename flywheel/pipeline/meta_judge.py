"""Judging the judgments: what the recipe's first judge wrote is judged in its turn, and can train the judge."""

from collections.abc import Iterator

import polars as pl

from flywheel.pipeline.iteration import Turn
from flywheel.pipeline.judge_batches import Bench
from flywheel.protocols import Panel
from flywheel.recipe.recipe import Meta
from flywheel.store import queries
from flywheel.store.schema import PROMPTS


def judge_judgments(turn: Turn, meta: Meta) -> Iterator[tuple[int, int]]:
    """Store the meta-judge's judgments; yields questions done and tokens made, batch by batch."""
    words = worth_judging(turn, meta)
    traces = words["trace"].implode()
    for (checkpoint, draw), asked in words.group_by("checkpoint", "draw", maintain_order=True):
        ids = asked.select(id="prompt").unique(maintain_order=True)
        questions = ids.join(queries.prompts(turn.store, ids["id"].to_list()), on="id", maintain_order="left")
        bench = Bench(turn, questions.select(list(PROMPTS)), str(checkpoint), str(draw), turn.seed)
        if isinstance(meta.judge, Panel):
            yield from bench.panel(meta.judge)
        else:
            yield from bench.judge(meta.judge, lambda subjects: subjects.filter(pl.col("generation").is_in(traces)))


def worth_judging(turn: Turn, meta: Meta) -> pl.DataFrame:
    """What the first judge wrote, and could be read, about the answers that `meta.keep` keeps; see `history.words`."""
    answers = queries.judged(turn.store, turn.id, turn.titles(turn.recipe.judges)).lazy()
    for keep in meta.keep:
        answers = keep(answers)
    ids = answers.collect()["generation"].to_list()
    return queries.words(turn.store, turn.id, ids, turn.title(turn.recipe.judges[0]), turn.seed)


def judged_judgments(turn: Turn, meta: Meta) -> pl.DataFrame:
    """JUDGED of those words, by the meta-judge."""
    return queries.judged_words(turn.store, worth_judging(turn, meta), turn.titles([meta.judge]))
