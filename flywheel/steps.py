"""The wheel: six steps in one direction. Start reading here.

Steps pass nothing to each other but what is in the store. Each asks the store what is missing, makes it in batches,
and adds each batch as it is done; so a resume is a re-run, a retry is safe, and a second run of the same thing costs
nothing. A step is a generator of Progress: what it has yielded is stored.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from flywheel import history
from flywheel.answers import answer, judge_answers
from flywheel.check import check_all
from flywheel.engines import open_engine
from flywheel.examine import examine
from flywheel.learn import dataset_frames, train, warm_start
from flywheel.overlap import overlapping
from flywheel.recipe import Engine, Recipe, named
from flywheel.store import Store
from flywheel.tables import EVENTS, PROPOSALS, SELECTIONS
from flywheel.turn import Progress, Turn, now, turns

Step = Callable[[Turn], Iterator[Progress]]


def propose(turn: Turn) -> Iterator[Progress]:
    """Which prompts this iteration works on: the recipe's next ones, without those that come too near the exam."""
    if len(history.proposed(turn.store, turn.id)):
        return
    prompts, exam = turn.recipe.prompts(), turn.recipe.exam.prompts()
    near = overlapping(prompts, exam, turn.recipe.overlap)
    usable = prompts.filter(~pl.col("id").is_in(near["prompt"].implode()))
    chosen = next_prompts(usable, turn.recipe.prompts_per_iteration, turn.number)
    proposals = chosen.select(
        iteration=pl.lit(turn.id), position=pl.int_range(pl.len(), dtype=pl.Int32), prompt="id"
    ).cast(PROPOSALS)
    turn.store.add_all({"prompts": chosen, "proposals": proposals})
    note = (
        f"{near['prompt'].n_unique()} prompts left out: they share {turn.recipe.overlap} words in a row with the exam"
    )
    yield turn.progress("propose", len(chosen), len(chosen), note=note if len(near) else None)


def next_prompts(prompts: pl.DataFrame, count: int | None, number: int) -> pl.DataFrame:
    """The `number`th portion (from 1) of `count` prompts, round and round; all of them if count is None."""
    if count is None or count >= len(prompts):
        return prompts
    start = (number - 1) * count
    return prompts[[index % len(prompts) for index in range(start, start + count)]]


def sample(turn: Turn) -> Iterator[Progress]:
    """The policy answers every proposed prompt `sampling.n` times."""
    assert turn.policy is not None
    prompts = history.proposed(turn.store, turn.id)
    for done, tokens in answer(turn, prompts, turn.policy, turn.recipe.sampling, turn.seed, "answer"):
        yield turn.progress("sample", done, len(prompts), tokens)


def judge(turn: Turn) -> Iterator[Progress]:
    """Every judge of the recipe scores every answer."""
    assert turn.policy is not None
    prompts = history.proposed(turn.store, turn.id)
    draw = turn.draw(turn.recipe.sampling, turn.seed)
    for judge in turn.recipe.judges:
        for done in judge_answers(turn, prompts, turn.policy, draw, judge):
            yield turn.progress("judge", done, len(prompts))


def select(turn: Turn) -> Iterator[Progress]:
    """The filters keep what is worth learning and the pick makes a dataset of it, with one row for each decision."""
    if history.dataset_of(turn.store, turn.id):
        return
    judged = history.judged(turn.store, turn.id, [judge.name for judge in turn.recipe.judges])
    kept, selections = filtered(turn, judged)
    picked = turn.recipe.pick(kept.lazy()).collect()
    chats = judged.select("prompt", "chat").unique("prompt")
    examples = picked.join(chats, on="prompt", maintain_order="left").with_columns(origin=pl.lit("synthetic"))
    turn.store.add_all({"selections": selections, **dataset_frames(turn, examples, "selected")})
    note = f"{len(judged)} answers, {len(kept)} kept, {len(examples)} training rows"
    yield turn.progress("select", len(judged), len(judged), note=note)


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
    with contextlib.closing(engine or open_engine(first.engine)) as serving:
        for turn in turns(recipe_at, store, serving, home, iterations):
            for step in STEPS if turn.number else START:
                yield from recorded(step, turn)


def recorded(step: Step, turn: Turn) -> Iterator[Progress]:
    """The step, timed; its end or its failure is an event. A step that had nothing to do leaves none."""
    started, last = time.monotonic(), None
    try:
        for last in step(turn):
            yield last._replace(seconds=time.monotonic() - started)
    except Exception as error:
        note_event(turn, step, "failure", last, time.monotonic() - started, f"{type(error).__name__}: {error}")
        raise
    if last:
        note_event(turn, step, "done", last, time.monotonic() - started, last.note)


def note_event(turn: Turn, step: Step, kind: str, last: Progress | None, seconds: float, detail: str | None) -> None:
    """One row of EVENTS."""
    row = {
        "run": turn.run,
        "iteration": turn.number,
        "step": step.__name__,
        "kind": kind,
        "rows": last.done if last else 0,
        "tokens": last.tokens if last else 0,
        "seconds": seconds,
        "detail": detail,
        "created_at": now(),
    }
    turn.store.add("events", pl.DataFrame([row], schema=EVENTS))
