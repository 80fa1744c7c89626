"""The cards of exported datasets and checkpoints: what it is, how it was made, and what is known of its worth.

What a model or a stranger wrote is shown in fences or escaped, and no exam item is shown at all.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flywheel.checkpoints.weights import HUB_ID
from flywheel.engines.penalties import NEUTRAL, NOT_EVERYWHERE
from flywheel.evaluation.paired_test import bootstrap
from flywheel.exchange import provenance
from flywheel.exchange.markup import card_table, fenced, header, inline, setting
from flywheel.store import queries
from flywheel.store.store import Store

EXAMPLES = 3
HEALTH = ("accuracy", "kappa", "spearman", "ranking", "generosity", "verbosity", "flip rate", "failed")
UNNAMED = (
    "No license was named when this was exported. Whoever shares it should name one that the licenses of the base "
    "model and of the prompts allow."
)
CAUTION = (
    "Rows of the origin `synthetic` were written by a language model and chosen by the judges and filters below, not "
    "by people: they can be wrong, biased or repetitive where the judges are, and train a model to be so."
)
TAGS = {"prompt-completion": "sft", "preference": "dpo", "unpaired preference": "kto"}
CardRow = Mapping[str, Any]


def dataset_card(
    store: Store,
    id: str,
    shape: str,
    examples: pl.DataFrame,
    judge: str | None,
    origins: Sequence[CardRow],
    license: str,
) -> str:
    """The README.md of a `hub` folder; `examples` are those of `provenance`, with the scores of `judge`."""
    real = int((examples["origin"] == "real").sum())
    synthetic = len(examples) - real
    head = {
        "license": license,
        "pretty_name": f"flywheel dataset {id}",
        "tags": ["flywheel", "trl", TAGS[shape], *(["synthetic"] if synthetic else [])],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    }
    parts = [
        f"# Dataset {id}",
        f"{len(examples)} training rows in TRL's {shape} format: {real} real, {synthetic} synthetic.",
        *([CAUTION] if synthetic else []),
        *([UNNAMED] if license == "other" else []),
        "After TRL's own columns come `weight`, `origin` (real or synthetic), `prompt_id`, `generations` (the ids of "
        "the texts that a row was made of), `checkpoints` (who wrote each of them) and `scores` "
        f"(what {inline(judge) if judge else 'the first judge'} made of each).",
        "## Where it comes from",
        *(_made(store, origin) for origin in origins[:1]),
        *([f"{len(origins) - 1} more iterations selected the very same rows."] if len(origins) > 1 else []),
        *(_mix(store, examples) if synthetic else []),
        *(part for origin in origins[:1] if origin["number"] for part in _selected(store, origin)),
        "## Examples",
        *(part for row in examples.head(EXAMPLES).iter_rows(named=True) for part in _example(row)),
    ]
    return f"{header(head)}\n" + "\n\n".join(parts) + "\n"


def _made(store: Store, origin: CardRow) -> str:
    """The iteration that selected a dataset: its recipe, its sampling, its exam, its versions."""
    recipe, number = json.loads(origin["recipe"]), origin["number"]
    rows = [
        ("recipe", recipe["name"]),
        ("run", f"{origin['run']}, seed {origin['seed']}"),
        ("iteration", number or "0, the warm start"),
        ("trained with", setting(recipe["train"] if number else recipe["warm_start"]["train"])),
        *([("answers by checkpoint", origin["policy"]), ("sampling", _sampling(origin))] if number else []),
        *(
            ("exam, none of whose prompts are here", f"{each['name']}, {each['items']} items")
            for each in _exams(store, origin)
        ),
        ("versions", _versions(origin["versions"])),
    ]
    return card_table(("what", "value"), rows)


def _exams(store: Store, origin: CardRow) -> Sequence[CardRow]:
    return provenance.exams(store, origin["run"]).to_dicts()


def _sampling(draw: CardRow) -> str:
    names = ("n", "temperature", "top_p", "top_k", "max_tokens")
    set_apart = [name for name in NOT_EVERYWHERE if draw[name] != getattr(NEUTRAL, name)]
    told = {**{name: name for name in (*names, *set_apart)}, "draw_seed": "seed", "engine": "engine"}
    return ", ".join(f"{name} {draw[column]}" for column, name in told.items() if draw[column] is not None)


def _versions(text: str) -> str:
    return ", ".join(f"{name} {version}" for name, version in json.loads(text).items())


def _mix(store: Store, examples: pl.DataFrame) -> Iterator[str]:
    """Who wrote the answers, and what those descend from."""
    yield "## Who wrote it"
    wrote = examples.select(pl.col("checkpoints").explode()).drop_nulls()["checkpoints"].value_counts(sort=True)
    rows = [
        (
            id,
            count,
            " < ".join(f"{each['ancestor']} ({each['kind']})" for each in provenance.lineage(store, id).to_dicts()),
        )
        for id, count in wrote.iter_rows()
    ]
    yield card_table(("checkpoint", "texts", "descends from"), rows)


def _selected(store: Store, origin: CardRow) -> Iterator[str]:
    """The judges with their health, and the filters with what they dropped."""
    run, number = origin["run"], origin["number"]
    yield "## Judges"
    opinions = provenance.opinions(store, run, number)
    yield card_table(("judge", "answers", "without a score", "mean score"), opinions.rows())
    health = provenance.iteration_health(store, run, number).filter(pl.col("measure").is_in(HEALTH))
    if len(health):
        yield "Measured against who knows the truth, or against themselves, with 95% intervals:"
        yield card_table(("judge", "measure", "value", "low", "high"), health.rows())
    else:
        yield "Their agreement with the truth was not measured."
    yield "## Filters"
    funnel = provenance.funnel(store, run, number).with_columns(dropped=pl.col("rows_in") - pl.col("rows_out"))
    yield (
        card_table(("filter", "answers in", "answers out", "dropped"), funnel.rows())
        if len(funnel)
        else "There were none."
    )
    yield f"Of what was left, rows were made by {inline(setting(json.loads(origin['recipe'])['pick']))}."


def _example(row: CardRow) -> Iterator[str]:
    chat = "\n".join(f"{message['role']}: {message['content']}" for message in row["chat"])
    yield f"### Row {row['position']}, {row['origin']}"
    yield fenced(chat)
    yield fenced(row["chosen"])
    if row["rejected"] is not None:
        yield "Rejected:"
        yield fenced(row["rejected"])


def checkpoint_card(store: Store, id: str, license: str) -> str:
    """The README.md of an exported checkpoint."""
    lineage, decided = provenance.lineage(store, id), provenance.decided(store, id)
    exams = [(exam, *_interval(store, id, exam["exam"])) for exam in provenance.exam_scores(store, id)]
    run = decided[-1] if decided else None
    recipe = json.loads(run["recipe"]) if run else {}
    head = {
        "license": license,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        **({"base_model": base, "base_model_relation": "finetune"} if (base := _base(lineage, id)) else {}),
        **({"datasets": hub} if (hub := sorted(set(_hub_names(recipe)))) else {}),
        "tags": ["flywheel", "trl"],
        **(
            {"model-index": [{"name": f"flywheel-{id}", "results": [_result(*each) for each in exams]}]}
            if exams
            else {}
        ),
    }
    parts = [
        f"# Checkpoint {id}",
        f"Made by the recipe {inline(run['name'])}, run {run['run']}, iteration {run['number']}." if run else "",
        *([UNNAMED] if license == "other" else []),
        "## Exams",
        *_graded(exams, decided),
        "## Ancestry",
        *_ancestry(lineage),
        *(["## Versions", inline(_versions(run["versions"]))] if run else []),
        "It has learnt from text that language models wrote; it repeats what the judges of that text let through.",
    ]
    return f"{header(head)}\n" + "\n\n".join(part for part in parts if part) + "\n"


def _interval(store: Store, checkpoint: str, exam: str) -> tuple[float, float]:
    grades = queries.grades(store, checkpoint, exam)
    return bootstrap(np.asarray(grades["correct"] / grades["n"]))


def _result(exam: CardRow, low: float, high: float) -> dict[str, Any]:
    """An exam's score as the Hub reads it."""
    name = f"pass@1 (95% interval {low:.3f} to {high:.3f}, {exam['items']} items)"
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": exam["name"], "type": exam["name"]},
        "metrics": [{"type": "pass@1", "name": name, "value": round(exam["score"], 4)}],
    }


def _graded(exams: Sequence[tuple[CardRow, float, float]], decided: Sequence[CardRow]) -> Iterator[str]:
    rows = [(exam["name"], exam["items"], exam["answers"], exam["score"], low, high) for exam, low, high in exams]
    if not rows:
        yield "It has taken none."
        return
    yield card_table(("exam", "items", "answers", "pass@1", "low (95%)", "high"), rows)
    for each in decided:
        flips = f" Items gained: {each['gained']}, lost: {each['lost']}." if each["gained"] is not None else ""
        yield f"Iteration {each['number']}: {inline(each['decision'])}. {inline(each['reason'])}.{flips}"
    yield "The items are not shown, so that nobody trains on them by accident."


def _ancestry(lineage: pl.DataFrame) -> Iterator[str]:
    rows = [
        (each["ancestor"], each["kind"], each["dataset"], each["rows"], each["real"], each["synthetic"])
        for each in lineage.to_dicts()
    ]
    yield card_table(("checkpoint", "kind", "trained on dataset", "rows", "real", "synthetic"), rows)
    for each in lineage.filter(pl.col("trainer").is_not_null()).to_dicts():
        near = f", kept near {each['reference']}" if each["reference"] else ""
        yield f"{each['ancestor']} was trained with {inline(setting(json.loads(each['trainer'])))}{near}."


def _base(lineage: pl.DataFrame, id: str) -> str | None:
    """The Hub id of the model that it descends from, if it has one."""
    root = lineage.row(-1, named=True)
    known = root["kind"] == "base" and HUB_ID.fullmatch(root["weights"]) and not Path(root["weights"]).exists()
    return str(root["weights"]) if known and root["ancestor"] != id else None


def _hub_names(recipe: Any) -> Iterator[str]:
    """The names of the Hub data sets that a recipe reads."""
    if isinstance(recipe, Mapping):
        if recipe.get("is") == "Hub":
            yield recipe["name"]
        recipe = list(recipe.values())
    if isinstance(recipe, list):
        for value in recipe:
            yield from _hub_names(value)
