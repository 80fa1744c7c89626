"""Judging in batches: rules read, judges that ask a model are asked for, and panels put votes together.

What a judge's model writes is a generation like any other, with the role `judgment`, and its question is a prompt; the
judgment's `trace` points to it.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import polars as pl

from flywheel import history
from flywheel.answers import attempted, generations
from flywheel.errors import PromptTooLong, RecipeError
from flywheel.learn import base_of_run, enrolled
from flywheel.recipe import BASE, POLICY, AnyJudge, Asked, Judge, PairJudge, Panel
from flywheel.tables import COMPARISONS, JUDGMENTS, REPLIES, VOTES, Chat, prompt_id, prompts_frame
from flywheel.turn import Turn, draw_frame

JUDGED_TOGETHER = 1024
"""Prompts whose answers a rule judges and the step stores together; a model judges the recipe's `batch`."""

Done = Iterator[tuple[int, int]]
"""Prompts done and tokens made."""
Due = Callable[[pl.DataFrame], pl.DataFrame]
"""Those of SUBJECTS that a judge is asked about."""
Item = TypeVar("Item")


def judge_answers(turn: Turn, prompts: pl.DataFrame, checkpoint: str, draw: str, judge: AnyJudge, seed: int) -> Done:
    """Store the judge's judgments of all answers that it has not judged; yields prompts done, batch by batch.

    The answers are those of `checkpoint` with the dice `draw` to PROMPTS; `seed` is that of the judge's own dice.
    """
    bench = Bench(turn, prompts, checkpoint, draw, seed)
    yield from bench.panel(judge) if isinstance(judge, Panel) else bench.judge(judge, lambda subjects: subjects)


class Bench:
    """Where the answers of one checkpoint with one draw are judged."""

    def __init__(self, turn: Turn, prompts: pl.DataFrame, checkpoint: str, draw: str, seed: int) -> None:
        self.turn, self.prompts, self.checkpoint, self.draw, self.seed = turn, prompts, checkpoint, draw, seed

    def judge(self, judge: Judge, due: Due) -> Done:
        """Each answer by itself, or the answers to a prompt with each other."""
        return self._pairs(judge, due) if isinstance(judge, PairJudge) else self._single(judge, due)

    def panel(self, panel: Panel) -> Done:
        """The members in their order, then the votes of all of them together."""
        tokens = before = 0
        for place, member in enumerate(panel.members):

            def due(subjects: pl.DataFrame, place: int = place) -> pl.DataFrame:
                return panel.due(subjects, self._votes(panel, subjects, place), place)

            for done, tokens in self.judge(member, due):
                yield done, before + tokens
            before, tokens = before + tokens, 0
        for done, ids in self._batches(JUDGED_TOGETHER):
            subjects = self._unjudged(ids, panel)
            if len(subjects):
                votes = self._votes(panel, subjects, len(panel.members))
                self._add(panel, subjects, panel.combine(subjects, votes), {})
                yield done, before

    def _single(self, judge: Judge, due: Due) -> Done:
        tokens = 0
        for done, ids in self._batches(self.turn.recipe.batch if judge.model else JUDGED_TOGETHER):
            subjects = due(self._unjudged(ids, judge))
            if len(subjects):
                said, record = self._said(judge, subjects)
                self._add(judge, subjects, said, record)
                tokens += tokens_of(record)
                yield done, tokens

    def _pairs(self, judge: PairJudge, due: Due) -> Done:
        """When all comparisons are there, each answer gets its score from all of them."""
        tokens, title = 0, self.turn.title(judge)
        for done, ids in self._batches(self.turn.recipe.batch):
            subjects = due(history.uncompared(self.turn.store, self.checkpoint, self.draw, ids, title))
            if len(subjects):
                said, record = self._said(judge, subjects)
                said = said.with_columns(judge=pl.lit(title)).select(list(COMPARISONS)).cast(COMPARISONS)
                self.turn.store.add_all({**record, "comparisons": said})
                tokens += tokens_of(record)
                yield done, tokens
        unrated = due(self._unjudged(self.prompts["id"].to_list(), judge))
        if len(unrated):
            compared = history.compared(self.turn.store, unrated["generation"].to_list(), title)
            self._add(judge, unrated, judge.rate(unrated, compared.with_columns(judge=pl.lit(judge.name))), {})
            yield len(self.prompts), tokens

    def _batches(self, size: int) -> Iterator[tuple[int, list[str]]]:
        done = 0
        for batch in self.prompts.iter_slices(size):
            done += len(batch)
            yield done, batch["id"].to_list()

    def _unjudged(self, prompts: list[str], judge: AnyJudge) -> pl.DataFrame:
        return history.unjudged(self.turn.store, self.checkpoint, self.draw, prompts, self.turn.title(judge))

    def _votes(self, panel: Panel, subjects: pl.DataFrame, place: int) -> pl.DataFrame:
        """What the members before a place said, under the names that they call themselves."""
        own, ids = self.turn.titles(panel.members[:place]), subjects["generation"].to_list()
        votes = history.votes(self.turn.store, self.checkpoint, self.draw, ids, list(own))
        return votes.with_columns(pl.col("judge").replace(own))

    def _said(self, judge: Judge, subjects: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
        """What the judge says, and the frames that record how it was asked."""
        if judge.model is None:
            return judge.read(subjects, None), {}
        replies, record = ask(self.turn, f"judge {judge.name}", judge.model, judge.ask(subjects), self.seed)
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
        votes = votes.with_columns(judge=pl.lit(self.turn.title(judge))).select(list(VOTES))
        judgments = votes.join(drawn, on="generation", maintain_order="left")
        self.turn.store.add_all({**record, "judgments": judgments.select(list(JUDGMENTS)).cast(JUDGMENTS)})


def tokens_of(record: dict[str, pl.DataFrame]) -> int:
    """Tokens that were generated for a record."""
    return int(record["generations"]["tokens"].sum()) if "generations" in record else 0


def silence(judged: pl.DataFrame, judge: str) -> str | None:
    """That the judge gave none of JUDGED a score, and what its votes came to instead; None if it gave one."""
    if judged.is_empty() or judged["score"].count():
        return None
    statuses = judged.select(pl.col("votes").explode()).unnest("votes").filter(judge=judge)["status"]
    votes = ", ".join(f"{count} {status}" for status, count in statuses.value_counts(sort=True).iter_rows())
    return f"judge {judge} gave none of {len(judged)} answers a score (votes: {votes})"


def asked_checkpoint(turn: Turn, asked: Asked) -> str:
    """The checkpoint whose weights a judge or a proposer asks."""
    if asked.weights == POLICY:
        assert turn.policy is not None, "iteration 0 has no policy yet"
        return turn.policy
    return base_of_run(turn) if asked.weights == BASE else enrolled(turn, asked.weights, asked.engine)


def ask(
    turn: Turn, asker: str, asked: Asked, chats: list[Chat], seed: int, role: str = "judgment"
) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """REPLIES to the chats of a judge or a proposer, and the frames that record them; equal chats are asked once.

    A chat that does not fit the model's context has no reply.
    """
    checkpoint = asked_checkpoint(turn, asked)
    likely = [place for place, chat in enumerate(chats) if chat[-1]["role"] == "assistant"]
    weighed = likelihoods(turn, asked, checkpoint, {place: chats[place] for place in likely})
    places = sorted(set(range(len(chats))) - set(likely))
    if not places:
        return weighed, {}
    prompts = prompts_frame(({"chat": chats[place]} for place in places), asker)
    draw = turn.draw(asked.sampling, seed, asked.engine)
    rows = fitting(
        lambda kept: generations(turn, prompts[kept], checkpoint, asked.sampling, draw, role, asked.engine),
        list(range(len(prompts))),
    )
    asked_for = pl.DataFrame({"chat": places, "prompt": [prompt_id(chats[place]) for place in places]})
    words = rows.rename({"id": "generation"}).with_columns(logprobs=None)
    replies = asked_for.join(words, on="prompt").select(list(REPLIES)).cast(REPLIES)
    record = {
        "prompts": prompts,
        "draws": draw_frame(draw, asked.sampling, seed, asked.engine or turn.recipe.engine),
        "generations": rows,
    }
    return pl.concat([replies, weighed]).sort("chat", "index"), record


def likelihoods(turn: Turn, asked: Asked, checkpoint: str, chats: dict[int, Chat]) -> pl.DataFrame:
    """REPLIES that say how likely the last message of each chat is after those before it; keys are places."""

    def scored(places: list[int]) -> list[tuple[int, list[float]]]:
        before, last = [chats[at][:-1] for at in places], [chats[at][-1]["content"] for at in places]
        values = attempted(turn, checkpoint, asked.engine, lambda model: model.logprobs(before, last))
        return list(zip(places, values, strict=True))

    rows = [
        {"chat": place, "index": 0, "text": chats[place][-1]["content"], "finish_reason": "stop"}
        | {"tokens": len(values), "logprob": sum(values), "logprobs": values}
        for place, values in (fitting(scored, list(chats)) if chats else [])
    ]
    return pl.DataFrame(rows, schema=REPLIES)


def fitting(make: Callable[[list[int]], Item], items: list[int]) -> Item:
    """What `make` makes of those items whose prompts fit the context."""
    while True:
        try:
            return make(items)
        except PromptTooLong as error:
            items = [item for place, item in enumerate(items) if place not in error.prompts]
