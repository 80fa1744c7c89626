"""The wheel: six steps in one direction. Start reading here.

Steps pass nothing to each other but what is in the store. Each asks the store what is missing, makes it in batches,
and adds each batch as it is done; so a resume is a re-run, a retry is safe, and a second run of the same thing costs
nothing. A step is a generator of Progress: what it has yielded is stored.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from flywheel import history
from flywheel.answers import answer
from flywheel.check import check_all
from flywheel.checkup import check_up
from flywheel.engines import Engines, open_engine
from flywheel.errors import ApprovalNeeded
from flywheel.examine import examine
from flywheel.judging import judge_answers, silence
from flywheel.learn import dataset_frames, train, warm_start
from flywheel.meta import judge_judgments, judged_judgments
from flywheel.propose import propose
from flywheel.recipe import Engine, Recipe, named
from flywheel.store import Store
from flywheel.tables import SELECTIONS
from flywheel.turn import Progress, Turn, note_event, turns

Step = Callable[[Turn], Iterator[Progress]]


def sample(turn: Turn) -> Iterator[Progress]:
    """The policy answers every proposed prompt `sampling.n` times."""
    assert turn.policy is not None
    prompts = history.proposed(turn.store, turn.id)
    for done, tokens in answer(turn, prompts, turn.policy, turn.recipe.sampling, turn.seed, "answer"):
        yield turn.progress("sample", done, len(prompts), tokens)


def judge(turn: Turn) -> Iterator[Progress]:
    """Every judge of the recipe scores every answer, the meta-judge what the first of them wrote, gold all of them.

    Then the judges themselves are measured; HealthAlarm if one has crossed a red line.
    """
    assert turn.policy is not None
    prompts = history.proposed(turn.store, turn.id)
    draw = turn.draw(turn.recipe.sampling, turn.seed)
    tokens = 0
    for judge in (*turn.recipe.judges, *([turn.recipe.gold] if turn.recipe.gold else [])):
        made = 0
        for done, made in judge_answers(turn, prompts, turn.policy, draw, judge, turn.seed):
            yield turn.progress("judge", done, len(prompts), tokens + made)
        tokens += made
    if turn.recipe.meta:
        made = 0
        for done, made in judge_judgments(turn, turn.recipe.meta):
            yield turn.progress("judge", done, len(prompts), tokens + made)
        tokens += made
    note = check_up(turn)
    if note:
        yield turn.progress("judge", len(prompts), len(prompts), tokens, note)


def select(turn: Turn) -> Iterator[Progress]:
    """The filters keep what is worth learning and the pick makes a dataset of it, with one row for each decision."""
    if history.dataset_of(turn.store, turn.id):
        return
    (judged, *_), kept, selections, examples = selected(turn)
    turn.store.add_all({"selections": selections, **dataset_frames(turn, examples, "selected")})
    silent = silence(judged, turn.recipe.judges[0].name)
    note = f"{len(judged)} answers, {kept} kept, {len(examples)} training rows" + (f"; {silent}" if silent else "")
    yield turn.progress("select", len(judged), len(judged), note=note)


class Selected(NamedTuple):
    """What a recipe makes of what its judges said in an iteration."""

    judged: list[pl.DataFrame]  # JUDGED: the answers, and after them the judgments that the meta-judge saw
    kept: int  # answers that passed the filters
    selections: pl.DataFrame
    examples: pl.DataFrame  # PICKED with `chat` and `origin`


def selected(turn: Turn) -> Selected:
    """The recipe's filters and pick on the iteration's answers, and its meta-judge's on the judgments."""
    judged = [history.judged(turn.store, turn.id, turn.titles(turn.recipe.judges))]
    kept, selections = filtered(turn, judged[0])
    examples = [with_chats(turn.recipe.pick(kept.lazy()).collect(), judged[0])]
    if turn.recipe.meta:
        judged.append(judged_judgments(turn, turn.recipe.meta))
        examples.append(with_chats(turn.recipe.meta.pick(judged[1].lazy()).collect(), judged[1]))
    return Selected(judged, len(kept), selections, pl.concat(examples))


def with_chats(picked: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
    """PICKED with the `chat` of each prompt and its `origin`."""
    chats = judged.select("prompt", "chat").unique("prompt")
    return picked.join(chats, on="prompt", maintain_order="left").with_columns(origin=pl.lit("synthetic"))


def filtered(turn: Turn, judged: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What is left after the recipe's filters, and SELECTIONS: what each of them decided about each row it saw."""
    kept, decisions = judged, []
    for position, keep in enumerate(turn.recipe.keep):
        left = keep(kept.lazy()).collect()
        stays = pl.col("generation").is_in(left["generation"].implode())
        decisions.append(
            kept.select(
                iteration=pl.lit(turn.id),
                position=pl.lit(position, pl.Int32),
                filter=pl.lit(named(keep)),
                generation="generation",
                kept=stays,
                reason=pl.when(stays).then(pl.lit("kept")).otherwise(pl.lit(f"dropped by {named(keep)}")),
            )
        )
        kept = left
    return kept, pl.concat(decisions) if decisions else SELECTIONS.to_frame()


START: tuple[Step, ...] = (warm_start, examine)
STEPS: tuple[Step, ...] = (propose, sample, judge, select, train, examine)


def spin(
    recipe_at: Callable[[int], Recipe], home: Path, *, iterations: int | None = None, engine: Engine | None = None
) -> Iterator[Progress]:
    """Turn the wheel until `iterations` (default: the recipe's) are decided; what is in the store is not made again.

    Raises FlywheelError with one clear sentence; whatever was yielded before is stored.
    """
    first = check_all(recipe_at, iterations)
    store = Store(home / "flywheel.duckdb")
    with contextlib.closing(Engines(engine or open_engine(first.engine))) as serving:
        for turn in turns(recipe_at, store, serving, home, iterations):
            yield from (turn.progress("recipe", 0, 0, note=remark) for remark in turn.remarks)
            for step in STEPS if turn.number else START:
                yield from recorded(step, turn)


def recorded(step: Step, turn: Turn) -> Iterator[Progress]:
    """The step, timed; its end or its failure is an event. A step that had nothing to do leaves none."""
    started, last = time.monotonic(), None
    try:
        for last in step(turn):
            yield last._replace(seconds=time.monotonic() - started)
    except ApprovalNeeded:
        if last:
            note_event(turn, step.__name__, "done", "waits for a human", last, time.monotonic() - started)
        raise
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"
        note_event(turn, step.__name__, "failure", detail, last, time.monotonic() - started)
        raise
    if last:
        note_event(turn, step.__name__, "done", last.note, last, time.monotonic() - started)
