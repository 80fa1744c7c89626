"""What is wrong with a recipe's prompts, found before any work is done."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from flywheel.errors import FlywheelError
from flywheel.protocols import Source
from flywheel.recipe.recipe import Recipe
from flywheel.store.schema import PROMPTS, Chat, prompts_frame
from flywheel.text.overlap import mostly_near, overlapping
from flywheel.training.settings import Scratch


def prompt_problems(recipe: Recipe) -> Iterator[str]:
    """Prompts that cannot be read, do not fit the context, or are examined too; and a proposer that cannot ask."""
    read: dict[str, pl.DataFrame] = {}
    for where, source in (("prompts", recipe.prompts), ("exam.prompts", recipe.exam.prompts)):
        problem = _read(where, source, read)
        if problem:
            yield problem
    yield from _wrong_proposer(recipe, read.get("prompts"))
    training = {name: read[name] for name in read if name == "prompts"}
    if recipe.warm_start:
        try:
            chats = recipe.warm_start.examples()["chat"]
            training["warm_start.examples"] = prompts_frame(({"chat": chat} for chat in chats), "worked examples")
        except FlywheelError as error:
            yield f"warm_start.examples: {error}"
    if "exam.prompts" not in read:
        return
    for where, frame in training.items():
        problem = _examined(recipe, frame, read["exam.prompts"])
        if problem:
            yield f"{where} {problem}"
    for where, frame in read.items():
        yield from _too_long(recipe.base, where, frame["chat"].to_list())


def _examined(recipe: Recipe, prompts: pl.DataFrame, exam: pl.DataFrame) -> str | None:
    """What is wrong with training prompts that are examined too, or that come too near the exam for the most part."""
    ids, examined = set(prompts["id"]), set(exam["id"])
    if ids & examined:
        return (
            f"shares {len(ids & examined)} of its {len(ids)} prompts with the exam {recipe.exam.name} "
            f"({len(examined)} prompts): nothing may train on what it is examined on"
        )
    return mostly_near(overlapping(prompts, exam, recipe.overlap), len(prompts), recipe.overlap)


def _wrong_proposer(recipe: Recipe, seeds: pl.DataFrame | None) -> Iterator[str]:
    if recipe.proposer is None:
        return
    if recipe.prompts_per_iteration is None:
        yield "prompts_per_iteration must say how many new prompts the proposer writes, and not be None"
    if seeds is not None:
        try:
            recipe.proposer.ask(seeds, PROMPTS.to_frame(), 1, recipe.seed)
        except FlywheelError as error:
            yield f"proposer: {error}"


def _read(where: str, source: Source, read: dict[str, pl.DataFrame]) -> str | None:
    """Put the source's prompts into `read`, or give what is wrong with them."""
    try:
        frame = source()
    except FlywheelError as error:
        return f"{where}: {error}"
    except ImportError as error:
        return f"{where} needs a library that is not installed: {error}"
    if frame.schema != PROMPTS:
        return f"{where} gives columns {', '.join(frame.columns)}, not those of PROMPTS: {', '.join(PROMPTS)}"
    if frame.is_empty():
        return f"{where} gives no prompts"
    read[where] = frame
    return None


def _too_long(base: str | Scratch, where: str, chats: list[Chat]) -> Iterator[str]:
    """Prompts that leave no context for an answer; known only where the model lies on this machine or is made there."""
    lengths, context = _lengths(base, chats)
    if context is None:
        return
    long = sum(length + 1 > context for length in lengths)
    if long:
        yield (
            f"{where}: {long} of {len(chats)} prompts do not fit the model's context of {context} tokens "
            f"(the longest has {max(lengths)})"
        )


def _lengths(base: str | Scratch, chats: list[Chat]) -> tuple[list[int], int | None]:
    """Tokens of each chat, and how many the model can take; None if that cannot be told here."""
    if isinstance(base, Scratch):
        from flywheel.training.scratch import prompt_lengths as spelled

        return spelled(base, chats), base.context
    folder = Path(base).expanduser()
    if not (folder / "tokenizer_config.json").is_file() or importlib.util.find_spec("transformers") is None:
        return [], None
    from flywheel.engines.local.engine import prompt_lengths

    context = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    return (prompt_lengths(base, chats), int(context)) if context else ([], None)
