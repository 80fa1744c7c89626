"""The `select` step: what is worth learning of the judged answers, as a dataset."""

from collections.abc import Iterator
from typing import NamedTuple

import polars as pl

from flywheel.identity import named
from flywheel.pipeline.iteration import Iteration, Progress
from flywheel.pipeline.meta_judge import judged_judgments
from flywheel.store import queries
from flywheel.store.ids import content_id
from flywheel.store.schema import DATASETS, EXAMPLES, ITERATION_DATASETS, SELECTIONS, now


def silence(judged: pl.DataFrame, judge: str) -> str | None:
    """That the judge gave none of JUDGED a score, and what its votes came to instead; None if it gave one."""
    if judged.is_empty() or judged["score"].count():
        return None
    statuses = judged.select(pl.col("votes").explode()).unnest("votes").filter(judge=judge)["status"]
    votes = ", ".join(f"{count} {status}" for status, count in statuses.value_counts(sort=True).iter_rows())
    return f"judge {judge} gave none of {len(judged)} answers a score (votes: {votes})"


def dataset_frames(iteration: Iteration, rows: pl.DataFrame, kind: str) -> dict[str, pl.DataFrame]:
    """The frames that record a dataset; rows are PICKED with `chat` and `origin`. Its id is a hash of its content."""
    content = rows.select("prompt", "chosen", "rejected", "weight", "origin", "generations")
    id = content_id("dataset", kind, content.rows())
    examples = rows.with_columns(dataset=pl.lit(id), position=pl.int_range(pl.len(), dtype=pl.Int32))
    real = int((rows["origin"] == "real").sum())
    head = {"id": id, "kind": kind, "rows": len(rows), "real": real, "synthetic": len(rows) - real, "created_at": now()}
    return {
        "examples": examples.select(list(EXAMPLES)).cast(EXAMPLES),
        "datasets": pl.DataFrame([head], schema=DATASETS),
        "iteration_datasets": pl.DataFrame([{"iteration": iteration.id, "dataset": id}], schema=ITERATION_DATASETS),
    }


def select(iteration: Iteration) -> Iterator[Progress]:
    """The filters keep what is worth learning and the pick makes a dataset of it, with one row for each decision."""
    if queries.dataset_of(iteration.store, iteration.id):
        return
    (judged, *_), kept, selections, examples = selected(iteration)
    iteration.store.add_all({"selections": selections, **dataset_frames(iteration, examples, "selected")})
    silent = silence(judged, iteration.recipe.judges[0].name)
    note = f"{len(judged)} answers, {kept} kept, {len(examples)} training rows" + (f"; {silent}" if silent else "")
    yield iteration.progress("select", len(judged), len(judged), note=note)


class Selected(NamedTuple):
    """What a recipe makes of what its judges said in an iteration."""

    judged: list[pl.DataFrame]  # JUDGED: the answers, and after them the judgments that the meta-judge saw
    kept: int  # answers that passed the filters
    selections: pl.DataFrame
    examples: pl.DataFrame  # PICKED with `chat` and `origin`


def selected(iteration: Iteration) -> Selected:
    """The recipe's filters and pick on the iteration's answers, and its meta-judge's on the judgments."""
    judged = [queries.judged(iteration.store, iteration.id, iteration.titles(iteration.recipe.judges))]
    kept, selections = filtered(iteration, judged[0])
    examples = [with_chats(iteration.recipe.pick(kept.lazy()).collect(), judged[0])]
    if iteration.recipe.meta:
        judged.append(judged_judgments(iteration, iteration.recipe.meta))
        examples.append(with_chats(iteration.recipe.meta.pick(judged[1].lazy()).collect(), judged[1]))
    return Selected(judged, len(kept), selections, pl.concat(examples))


def with_chats(picked: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
    """PICKED with the `chat` of each prompt and its `origin`."""
    chats = judged.select("prompt", "chat").unique("prompt")
    return picked.join(chats, on="prompt", maintain_order="left").with_columns(origin=pl.lit("synthetic"))


def filtered(iteration: Iteration, judged: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What is left after the recipe's filters, and SELECTIONS: what each of them decided about each row it saw."""
    kept, decisions = judged, []
    for position, keep in enumerate(iteration.recipe.keep):
        left = keep(kept.lazy()).collect()
        stays = pl.col("generation").is_in(left["generation"].implode())
        decisions.append(
            kept.select(
                iteration=pl.lit(iteration.id),
                position=pl.lit(position, pl.Int32),
                filter=pl.lit(named(keep)),
                generation="generation",
                kept=stays,
                reason=pl.when(stays).then(pl.lit("kept")).otherwise(pl.lit(f"dropped by {named(keep)}")),
            )
        )
        kept = left
    return kept, pl.concat(decisions) if decisions else SELECTIONS.to_frame()
