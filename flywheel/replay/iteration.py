"""One iteration of a run before another recipe: what models must be asked, and what would have trained."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import polars as pl

from flywheel.identity import names
from flywheel.pipeline.iteration import Iteration
from flywheel.pipeline.judge_batches import judge_answers
from flywheel.pipeline.meta_judge import judge_judgments, worth_judging
from flywheel.pipeline.select import dataset_frames, selected, silence
from flywheel.protocols import AnyJudge, Asked, Judge, PairJudge, askers
from flywheel.replay import excerpt
from flywheel.replay.difference import (
    Difference,
    Side,
    Truth,
    called,
    difference,
    nobody_knows,
    stored_scores,
    truth_of,
)
from flywheel.store import queries
from flywheel.store.ids import prompt_id
from flywheel.store.store import Store

Stage = Literal["judges", "meta"]
STAGES: tuple[Stage, ...] = ("judges", "meta")
"""The answers are judged, then what the first judge wrote about them."""


class Cost(NamedTuple):
    """What one judge is asked in a replay."""

    judge: str
    weights: str  # POLICY, BASE, a folder or a Hub id
    engine: str
    replies: int  # to each question
    at_most: bool  # a member of an ensemble may be asked less, when those before it have spoken
    questions: int


@dataclass(frozen=True)
class Past:
    """One iteration of a run before another recipe; the iteration's store is a Draft."""

    iteration: Iteration
    prompts: pl.DataFrame  # PROMPTS
    row: dict[str, Any]  # of excerpt.iterations
    answers: list[str]
    heard: pl.DataFrame  # JUDGMENTS on them in the record

    def judge(self, stage: Stage) -> Iterator[tuple[str, int, int]]:
        """Ask what is not known yet; yields a judge's name, and of how many prompts (meta: judgments) it has done."""
        recipe = self.iteration.recipe
        if stage == "judges":
            for judge in recipe.judges:
                yield from ((judge.name, done, len(self.prompts)) for done, _ in self._judged_by(judge))
        elif recipe.meta:
            total = len(worth_judging(self.iteration, recipe.meta))
            yield from (
                (recipe.meta.judge.name, done, total) for done, _ in judge_judgments(self.iteration, recipe.meta)
            )

    def costs(self, stage: Stage) -> Iterator[Cost]:
        """What models are still to be asked; of the judge of judgments known only when the judges have spoken."""
        iteration, meta = self.iteration, self.iteration.recipe.meta
        if stage == "judges":
            for judge in iteration.recipe.judges:
                yield from costs_of(
                    iteration, judge, self.prompts["id"].to_list(), self.row["policy"], self.row["draw"]
                )
        elif meta:
            words = worth_judging(iteration, meta)
            for (checkpoint, draw), asked in words.group_by("checkpoint", "draw", maintain_order=True):
                questions = asked["prompt"].unique(maintain_order=True).to_list()
                yield from costs_of(iteration, meta.judge, questions, str(checkpoint), str(draw), asked["trace"])

    def difference(self, record: Store, gold: str | None, examiners: Sequence[str]) -> Difference:
        """The training set that comes out, beside the one that did."""
        iteration = self.iteration
        judged, _, selections, examples = selected(iteration)
        frames = dataset_frames(iteration, examples, "selected")
        iteration.store.add_all(frames)
        now = Side(selections, frames["examples"], pl.concat(frame.select("generation", "score") for frame in judged))
        selections, examples = excerpt.selected(record, iteration.id, self.row["dataset"])
        words = examples["generations"].explode().drop_nulls().unique(maintain_order=True)
        about = excerpt.judgments(record, words.filter(~words.is_in(self.answers)).to_list())
        then = Side(selections, examples, stored_scores(self.row["recipe"], self.heard, about))
        return difference(
            iteration.number, len(judged[0]), then, now, self._truth(gold, examiners), list(self._notes(judged[0]))
        )

    def _judged_by(self, judge: AnyJudge) -> Iterator[tuple[int, int]]:
        iteration = self.iteration
        return judge_answers(iteration, self.prompts, self.row["policy"], self.row["draw"], judge, iteration.seed)

    def _truth(self, gold: str | None, examiners: Sequence[str]) -> Truth:
        """By what the run's gold judge said, else the judge of its exam, else by a rule that the recipe takes for the
        truth. A judge that is itself tried out here does not tell whether it is right."""
        known = self.heard.filter(pl.col("judge") == pl.lit(gold))
        if gold and len(known):
            return truth_of(gold, known)
        tried = {each.name for judge in self.iteration.recipe.judges for each in (judge, *askers(judge))}
        for judge in (self.iteration.recipe.gold, self.iteration.recipe.exam.judge):
            if judge is None:
                continue
            title = self.iteration.title(judge)
            if title in examiners and len(said := self.heard.filter(judge=title)):
                return truth_of(title, said, judge)
            if (title in examiners or judge.name not in tried) and not any(map(_model, askers(judge))):
                for _ in self._judged_by(judge):
                    pass
                return truth_of(title, self._votes(judge), judge)
        said = self.heard.filter(pl.col("judge").is_in(examiners))
        return truth_of(said["judge"][0], said) if said["judge"].n_unique() == 1 else nobody_knows()

    def _votes(self, judge: AnyJudge) -> pl.DataFrame:
        """Its JUDGMENTS now."""
        return excerpt.judgments(self.iteration.store, self.answers).filter(judge=self.iteration.title(judge))

    def _notes(self, judged: pl.DataFrame) -> Iterator[str]:
        """What a reader of the numbers should know."""
        if self.row["dataset"] is None:
            yield "it has not selected what trains yet, so every row is gained"
        yield from self.silence(judged)
        then = json.loads(self.row["recipe"])["judges"]
        voters = self.heard["judge"].unique(maintain_order=True).to_list()
        for judge, described in zip(self.iteration.recipe.judges, then, strict=False):
            if described.get("is") not in names(type(judge)):
                continue
            mean, was = pl.col("score").mean().round(9), called(described, voters)  # perhaps with other code
            before = self.heard.filter(judge=was).group_by("generation").agg(before=mean)
            both = before.join(self._votes(judge).group_by("generation").agg(after=mean), on="generation")
            count = both.select(pl.col("before").ne_missing(pl.col("after")).sum()).item()
            if count:
                yield f"{judge.name} now says something else of {count} of {len(both)} answers than it did then"

    def silence(self, judged: pl.DataFrame) -> Iterator[str]:
        """That the first judge has no score for any answer, and why."""
        first = self.iteration.recipe.judges[0]
        silent = silence(judged, first.name)
        if silent:
            why = self._votes(first)["detail"].drop_nulls().value_counts(sort=True)
            yield silent + (f", mostly: {why['detail'][0]}" if len(why) else "")


def _model(judge: Judge) -> Asked | None:
    return judge.model


def costs_of(
    iteration: Iteration,
    judge: AnyJudge,
    prompts: Sequence[str],
    checkpoint: str,
    draw: str,
    only: pl.Series | None = None,
) -> Iterator[Cost]:
    """What is to be asked about the answers to these prompts by this checkpoint and draw, or about `only` some.

    Equal questions, as those about answers that say the same, are asked once.
    """
    for place, member in enumerate(askers(judge)):
        if member.model is None:
            continue
        unknown = queries.uncompared if isinstance(member, PairJudge) else queries.unjudged
        subjects = unknown(iteration.store, checkpoint, draw, prompts, iteration.title(member))
        if only is not None:
            subjects = subjects.filter(pl.col("generation").is_in(only.implode()))
        questions = len({prompt_id(chat) for chat in member.ask(subjects)}) if len(subjects) else 0
        engine = member.model.engine or iteration.recipe.engine
        yield Cost(member.name, member.model.weights, engine, member.model.sampling.n, place > 0, questions)
