"""Judging in batches: rules read, judges that ask a model are asked for, and ensembles put votes together.

What a judge's model writes is a generation like any other, with the role `judgment`, and its question is a prompt; the
judgment's `trace` points to it.
"""

from collections.abc import Callable, Iterator

import polars as pl

from flywheel.errors import RecipeError
from flywheel.pipeline.generate import ask, tokens_of
from flywheel.pipeline.iteration import Iteration
from flywheel.protocols import AnyJudge, Ensemble, Judge, PairJudge
from flywheel.store import queries
from flywheel.store.schema import COMPARISONS, JUDGMENTS, VOTES

JUDGED_TOGETHER = 1024
"""Prompts whose answers a rule judges and the step stores together; a model judges the recipe's `batch`."""

Done = Iterator[tuple[int, int]]
"""Prompts done and tokens made."""
Due = Callable[[pl.DataFrame], pl.DataFrame]
"""Those of SUBJECTS that a judge is asked about."""


def judge_answers(
    iteration: Iteration, prompts: pl.DataFrame, checkpoint: str, draw: str, judge: AnyJudge, seed: int
) -> Done:
    """Store the judge's judgments of all answers that it has not judged; yields prompts done, batch by batch.

    The answers are those of `checkpoint` with the `draw` to PROMPTS; `seed` is that of the judge's own draw.
    """
    batches = AnswerBatches(iteration, prompts, checkpoint, draw, seed)
    yield from (
        batches.ensemble(judge) if isinstance(judge, Ensemble) else batches.judge(judge, lambda subjects: subjects)
    )


class AnswerBatches:
    """Where the answers of one checkpoint with one draw are judged."""

    def __init__(self, iteration: Iteration, prompts: pl.DataFrame, checkpoint: str, draw: str, seed: int) -> None:
        self.iteration, self.prompts, self.checkpoint, self.draw, self.seed = iteration, prompts, checkpoint, draw, seed

    def judge(self, judge: Judge, due: Due) -> Done:
        """Each answer by itself, or the answers to a prompt with each other."""
        return self._pairs(judge, due) if isinstance(judge, PairJudge) else self._single(judge, due)

    def ensemble(self, ensemble: Ensemble) -> Done:
        """The members in their order, then the votes of all of them together."""
        tokens = before = 0
        for place, member in enumerate(ensemble.members):

            def due(subjects: pl.DataFrame, place: int = place) -> pl.DataFrame:
                return ensemble.due(subjects, self._votes(ensemble, subjects, place), place)

            for done, tokens in self.judge(member, due):
                yield done, before + tokens
            before, tokens = before + tokens, 0
        for done, ids in self._batches(JUDGED_TOGETHER):
            subjects = self._unjudged(ids, ensemble)
            if len(subjects):
                votes = self._votes(ensemble, subjects, len(ensemble.members))
                self._add(ensemble, subjects, ensemble.combine(subjects, votes), {})
                yield done, before

    def _single(self, judge: Judge, due: Due) -> Done:
        tokens = 0
        for done, ids in self._batches(self.iteration.recipe.batch if judge.model else JUDGED_TOGETHER):
            subjects = due(self._unjudged(ids, judge))
            if len(subjects):
                said, record = self._said(judge, subjects)
                self._add(judge, subjects, said, record)
                tokens += tokens_of(record)
                yield done, tokens

    def _pairs(self, judge: PairJudge, due: Due) -> Done:
        """When all comparisons are there, each answer gets its score from all of them."""
        tokens, title = 0, self.iteration.title(judge)
        for done, ids in self._batches(self.iteration.recipe.batch):
            subjects = due(queries.uncompared(self.iteration.store, self.checkpoint, self.draw, ids, title))
            if len(subjects):
                said, record = self._said(judge, subjects)
                said = said.with_columns(judge=pl.lit(title)).select(list(COMPARISONS)).cast(COMPARISONS)
                self.iteration.store.add_all({**record, "comparisons": said})
                tokens += tokens_of(record)
                yield done, tokens
        unrated = due(self._unjudged(self.prompts["id"].to_list(), judge))
        if len(unrated):
            compared = queries.compared(self.iteration.store, unrated["generation"].to_list(), title)
            self._add(judge, unrated, judge.rate(unrated, compared.with_columns(judge=pl.lit(judge.name))), {})
            yield len(self.prompts), tokens

    def _batches(self, size: int) -> Iterator[tuple[int, list[str]]]:
        done = 0
        for batch in self.prompts.iter_slices(size):
            done += len(batch)
            yield done, batch["id"].to_list()

    def _unjudged(self, prompts: list[str], judge: AnyJudge) -> pl.DataFrame:
        return queries.unjudged(self.iteration.store, self.checkpoint, self.draw, prompts, self.iteration.title(judge))

    def _votes(self, ensemble: Ensemble, subjects: pl.DataFrame, place: int) -> pl.DataFrame:
        """What the members before a place said, under the names that they call themselves."""
        own, ids = self.iteration.titles(ensemble.members[:place]), subjects["generation"].to_list()
        votes = queries.votes(self.iteration.store, self.checkpoint, self.draw, ids, list(own))
        return votes.with_columns(pl.col("judge").replace(own))

    def _said(self, judge: Judge, subjects: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
        """What the judge says, and the frames that record how it was asked."""
        if judge.model is None:
            return judge.read(subjects, None), {}
        replies, record = ask(self.iteration, f"judge {judge.name}", judge.model, judge.ask(subjects), self.seed)
        return judge.read(subjects, replies), record

    def _add(
        self, judge: AnyJudge, subjects: pl.DataFrame, votes: pl.DataFrame, record: dict[str, pl.DataFrame]
    ) -> None:
        forgotten = set(subjects["generation"]) - set(votes["generation"])
        if forgotten:
            raise RecipeError(f"judge {judge.name} gave no judgment for {len(forgotten)} of {len(subjects)} answers")
        drawn = subjects.select(
            "generation", "prompt", "index", checkpoint=pl.lit(self.checkpoint), draw=pl.lit(self.draw)
        )
        votes = votes.with_columns(judge=pl.lit(self.iteration.title(judge))).select(list(VOTES))
        judgments = votes.join(drawn, on="generation", maintain_order="left")
        self.iteration.store.add_all({**record, "judgments": judgments.select(list(JUDGMENTS)).cast(JUDGMENTS)})
