"""Which prompts an iteration works on: the next ones of the recipe's source, or new ones that a model writes.

A proposer is asked in rounds, until there are enough prompts. Each round is stored as it is made. What is asked in it
hangs on the iteration's seed and on the prompts that were there before, so a run that is begun again reads the rounds
that are stored, and goes on where it stopped.
"""

import math
from collections import Counter
from collections.abc import Iterator

import polars as pl

from flywheel.errors import SourceError
from flywheel.pipeline.generate import ask, asked_checkpoint, tokens_of
from flywheel.pipeline.iteration import Iteration, Progress
from flywheel.protocols import Proposer
from flywheel.store import queries
from flywheel.store.ids import content_number, prompt_id
from flywheel.store.schema import PROMPTS, PROPOSALS, Chat
from flywheel.text.overlap import overlapping

QUESTIONS = 128
"""Of a round, at most: what a kill can lose. Not the recipe's `batch`, which may change while an iteration goes on."""
QUESTIONS_PER_PROMPT = 4
"""Questions for each prompt that is wanted, before the proposer counts as exhausted."""


def propose(iteration: Iteration) -> Iterator[Progress]:
    """The recipe's next prompts or its proposer's new ones, without those that come too near the exam."""
    yield from choose(iteration) if iteration.recipe.proposer is None else write(iteration, iteration.recipe.proposer)


def choose(iteration: Iteration) -> Iterator[Progress]:
    """Take the next prompts of the source."""
    if len(queries.proposed(iteration.store, iteration.id)):
        return
    prompts, exam = iteration.recipe.prompts(), iteration.recipe.exam.prompts()
    far = apart(prompts, exam, iteration.recipe.overlap)
    chosen = next_prompts(far, iteration.recipe.prompts_per_iteration, iteration.number)
    iteration.store.add_all({"prompts": chosen, "proposals": proposals(iteration, chosen, 0)})
    near = len(prompts) - len(far)
    note = f"{near} prompts left out: they share {iteration.recipe.overlap} words in a row with the exam"
    yield iteration.progress("propose", len(chosen), len(chosen), note=note if near else None)


def next_prompts(prompts: pl.DataFrame, count: int | None, number: int) -> pl.DataFrame:
    """The `number`th portion (from 1) of `count` prompts, round and round; all of them if count is None."""
    if count is None or count >= len(prompts):
        return prompts
    start = (number - 1) * count
    return prompts[[index % len(prompts) for index in range(start, start + count)]]


def write(iteration: Iteration, proposer: Proposer) -> Iterator[Progress]:
    """Have new prompts written, round after round; SourceError when too few come of QUESTIONS_PER_PROMPT."""
    count = iteration.recipe.prompts_per_iteration
    assert count is not None, "check_recipe() refuses a proposer without it"
    if len(queries.proposed(iteration.store, iteration.id)) >= count:
        return
    seeds, exam = iteration.recipe.prompts(), iteration.recipe.exam.prompts()
    shown = apart(seeds, exam, iteration.recipe.overlap)
    written = queries.worked_on(iteration.store, iteration.run, iteration.number)
    have = tokens = 0
    dropped = Counter[str]()
    size = min(count, QUESTIONS)
    for number in range(QUESTIONS_PER_PROMPT * math.ceil(count / size)):
        chats = proposer.ask(shown, written, size, content_number("round", iteration.seed, number))
        replies, record = heard(iteration, proposer, chats)
        usable, reasons = sifted(proposer.read(replies, pl.concat([seeds, written])), exam, iteration.recipe.overlap)
        new = usable.head(count - have)
        prompts = pl.concat([*([record["prompts"]] if record else []), new])
        iteration.store.add_all({**record, "prompts": prompts, "proposals": proposals(iteration, new, have)})
        written, have, tokens = pl.concat([written, new]), have + len(new), tokens + tokens_of(record)
        dropped.update(reasons)
        told = f"{have} prompts written in {number + 1} rounds; dropped: {counted(dropped)}"
        if record or have == count:  # not if it was stored before
            yield iteration.progress("propose", have, count, tokens, note=told if have == count else None)
        if have == count:
            return
    raise SourceError(
        f"proposer {proposer.name} is exhausted, as {count} prompts are wanted: {told}; "
        "lower prompts_per_iteration, give it more or other prompts to show, or loosen what drops most"
    )


def heard(iteration: Iteration, proposer: Proposer, chats: list[Chat]) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """REPLIES to a round's questions, from the store if all are there; else asked for, with the frames to be stored."""
    asked = proposer.model
    draw, ids = iteration.draw(asked.sampling, iteration.seed, asked.engine), [prompt_id(chat) for chat in chats]
    stored = queries.replies(iteration.store, asked_checkpoint(iteration, asked), draw, ids)
    if stored["chat"].n_unique() == len(chats):
        return stored, {}
    return ask(iteration, f"proposer {proposer.name}", asked, chats, iteration.seed, "proposal")


def sifted(written: pl.DataFrame, exam: pl.DataFrame, overlap: int) -> tuple[pl.DataFrame, list[str]]:
    """PROMPTS that can be used, of WRITTEN ones, and why each of the others cannot."""
    sound = written.filter(pl.col("reason").is_null()).select(list(PROMPTS))
    far = apart(sound, exam, overlap)
    near = [f"{overlap} words in a row with the exam"] * (len(sound) - len(far))
    return far, written["reason"].drop_nulls().to_list() + near


def apart(prompts: pl.DataFrame, exam: pl.DataFrame, overlap: int) -> pl.DataFrame:
    """PROMPTS without those that come too near the exam's."""
    return prompts.join(
        overlapping(prompts, exam, overlap), left_on="id", right_on="prompt", how="anti", maintain_order="left"
    )


def proposals(iteration: Iteration, prompts: pl.DataFrame, first: int) -> pl.DataFrame:
    """PROPOSALS of these prompts, from the position `first` on."""
    at = first + pl.int_range(pl.len(), dtype=pl.Int32)
    return prompts.select(iteration=pl.lit(iteration.id), position=at, prompt="id").cast(PROPOSALS)


def counted(reasons: Counter[str]) -> str:
    """`12 too similar, 3 too short`, or `none`."""
    return ", ".join(f"{count} ({reason})" for reason, count in reasons.most_common()) or "none"
