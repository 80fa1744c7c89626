"""ENTRIES as rows of the store.

Who answered becomes a checkpoint without weights, named by the generator; all answers of an import have one draw, whose
parameters are NULL, as nobody knows them. What is preferred is said by a judge that is named after the import, and
after the annotator where there is one. Ids hang on the import's name and on the order of its rows, so to import a thing
twice changes nothing.
"""

import polars as pl

from flywheel.exchange.forms.entries import Kind
from flywheel.pipeline.generate import made_elsewhere
from flywheel.store.ids import content_id, generation_id
from flywheel.store.schema import CHECKPOINTS, COMPARISONS, DRAWS, JUDGMENTS, PROMPTS, now

ENGINE = "imported"
Frames = dict[str, pl.DataFrame]


def judge_name(name: str) -> str:
    """Who says which answers of an import are preferred, and what their scores are; `#` and the annotator follow."""
    return f"imported#{name}"


def draw_id(name: str) -> str:
    """The draw of all answers of an import."""
    return content_id(ENGINE, name)


def tables(rows: pl.DataFrame, name: str, kind: Kind, generator: str | None = None) -> Frames:
    """The frames that record ENTRIES."""
    prompts = rows.unique("prompt", keep="first", maintain_order=True).select(
        pl.col("source").fill_null(name), "chat", "reference", "meta", id="prompt"
    )
    frames = {"prompts": prompts.select(PROMPTS.names()).cast(PROMPTS)}
    if kind == "prompts":
        return frames
    said = _said(_authors(rows, name, generator), name, once=kind != "generations")
    return {
        **frames,
        "checkpoints": _checkpoints(said),
        "draws": pl.DataFrame([{"id": draw_id(name), "engine": ENGINE}], schema=DRAWS),
        "generations": _generations(said),
        "judgments": _judgments(said),
        "comparisons": _comparisons(said),
    }


def _authors(rows: pl.DataFrame, name: str, generator: str | None) -> pl.DataFrame:
    """ENTRIES with a `row`, authors for all answers, and the `judge`."""
    who = {
        side: pl.lit(generator) if generator else pl.col(side).replace("", None).fill_null(name)
        for side in ("generator", "other_generator")
    }
    annotator = pl.col("annotator").replace("", None)
    judge = pl.concat_str(pl.lit(judge_name(name)), pl.lit("#") + annotator, ignore_nulls=True)
    return rows.with_row_index("row").with_columns(**who, judge=judge)


def _said(rows: pl.DataFrame, name: str, once: bool) -> pl.DataFrame:
    """Each answer with its `row`, `place` (0 of the better, 1 of the worse), `score`, and the `generation` that it is.

    Answers are counted for each prompt and generator, in their order; with `once`, the same text is one generation.
    """
    sides = (("text", "score", "generator"), ("other", "other_score", "other_generator"))
    better, worse = (
        rows.select("row", "prompt", "judge", "verdict", "order", generator=who, text=text, score=score, place=at)
        for at, (text, score, who) in ((pl.lit(place), side) for place, side in enumerate(sides))
    )
    said = pl.concat([better, worse]).filter(pl.col("text").is_not_null()).sort("row", "place")
    answer = ["prompt", "generator", "text"] if once else ["row"]
    first = said.unique(answer, keep="first", maintain_order=True)
    numbered = first.with_columns(index=pl.int_range(pl.len(), dtype=pl.Int32).over("prompt", "generator"))
    checkpoints = {each: content_id(ENGINE, each) for each in first["generator"].unique()}
    draw = draw_id(name)
    ids = [
        generation_id(prompt, checkpoints[generator], draw, index)
        for prompt, generator, index in numbered.select("prompt", "generator", "index").iter_rows()
    ]
    known = numbered.select(
        *answer,
        "index",
        generation=pl.Series(ids, dtype=pl.String),
        checkpoint=pl.col("generator").replace_strict(checkpoints, return_dtype=pl.String),
        draw=pl.lit(draw),
    )
    return said.join(known, on=answer, how="left", maintain_order="left", validate="m:1")


def _checkpoints(said: pl.DataFrame) -> pl.DataFrame:
    own = said.select("checkpoint", "generator").unique(maintain_order=True)
    rows = [{"id": id, "kind": "base", "weights": generator, "created_at": now()} for id, generator in own.iter_rows()]
    return pl.DataFrame(rows, schema=CHECKPOINTS)


def _generations(said: pl.DataFrame) -> pl.DataFrame:
    answers = said.unique("generation", keep="first", maintain_order=True)
    return made_elsewhere(answers.with_columns(id="generation"), ENGINE)


def _judgments(said: pl.DataFrame) -> pl.DataFrame:
    """An answer that a judge scored several times, and not alike, has several votes."""
    scored = said.filter(pl.col("score").is_not_null()).unique(["generation", "judge", "score"], maintain_order=True)
    votes = scored.with_columns(
        vote=pl.int_range(pl.len(), dtype=pl.Int32).over("generation", "judge"),
        status=pl.lit("ok"),
        detail=None,
        trace=None,
    )
    return votes.select(JUDGMENTS.names()).cast(JUDGMENTS)


def _comparisons(said: pl.DataFrame) -> pl.DataFrame:
    """A pair that comes again, in either order, keeps the places of its first time, so that both orders are one pair's;
    what a judge said of it otherwise than before, in the same order, is another vote."""
    better, worse = (said.filter(place=place) for place in (0, 1))
    pairs = better.select("row", "judge", "verdict", "order", a="generation").join(
        worse.select("row", b="generation"), on="row", maintain_order="left"
    )
    first = pl.col("a").first().over(pl.min_horizontal("a", "b"), pl.max_horizontal("a", "b"))
    turned = pl.col("a") != first
    swapped = {"order": {"ab": "ba", "ba": "ab"}, "verdict": {"a": "b"}}
    placed = pairs.filter(pl.col("a") != pl.col("b")).with_columns(
        a=pl.when(turned).then("b").otherwise("a"),
        b=pl.when(turned).then("a").otherwise("b"),
        **{name: pl.when(turned).then(pl.col(name).replace(new)).otherwise(name) for name, new in swapped.items()},
    )
    key = ["a", "b", "order", "judge"]
    told = placed.unique([*key, "verdict"], keep="first", maintain_order=True)
    return (
        told.select(
            *key,
            "verdict",
            vote=pl.int_range(pl.len(), dtype=pl.Int32).over(key),
            status=pl.when(pl.col("verdict").is_null()).then(pl.lit("unparsable")).otherwise(pl.lit("ok")),
            trace=pl.lit(None),
        )
        .select(COMPARISONS.names())
        .cast(COMPARISONS)
    )
