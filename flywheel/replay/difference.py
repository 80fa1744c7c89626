"""Two training sets of one iteration side by side: the one that trained and the one that would have.

A training row is what it teaches: prompt, chosen and rejected text, and weight. Where a row is there several times, as
many of them are kept as both sets have: first those of the same generations, then those that say the same.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl

from flywheel.protocols import AnyJudge, Scaled
from flywheel.store.ids import content_id
from flywheel.store.schema import CHAT, schema

KEY = ["prompt", "chosen", "rejected", "weight"]
ROWS = schema(
    {
        "iteration": pl.Int32,
        "outcome": pl.String,  # kept | gained | lost
        "position_then": pl.Int32,  # in the set that trained, or NULL
        "position_now": pl.Int32,  # in the set that would train, or NULL
        "prompt": pl.String,
        "chat": CHAT,
        "chosen": pl.String,
        "rejected": pl.String,
        "weight": pl.Float64,
        "generations": pl.List(pl.String),
        "score_then": pl.Float64,  # of the chosen text by the first judge, or by the judge of judgments
        "score_now": pl.Float64,
        "rejected_score_then": pl.Float64,
        "rejected_score_now": pl.Float64,
        "right": pl.Boolean,  # whether it teaches what is right, or NULL where nobody knows
        "why": pl.String,  # which filter dropped it: then, if it is gained; now, if it is lost
    }
)
FILTERS = schema(
    {
        "iteration": pl.Int32,
        "filter_then": pl.String,  # NULL where there was none of that kind
        "seen_then": pl.Int64,  # answers that came to it
        "dropped_then": pl.Int64,
        "filter_now": pl.String,
        "seen_now": pl.Int64,
        "dropped_now": pl.Int64,
    }
)
ITERATIONS = schema(
    {
        "iteration": pl.Int32,
        "answers": pl.Int64,
        "trained": pl.Int64,  # rows
        "would_train": pl.Int64,
        "kept": pl.Int64,
        "gained": pl.Int64,
        "lost": pl.Int64,
        "right_then": pl.Float64,  # share of the rows that trained, as far as it is known
        "right_now": pl.Float64,  # the same of those that would train
        "right_by": pl.String,  # the judge that knows
        "same": pl.Boolean,  # the same rows from the same answers in the same order
        "notes": pl.List(pl.String),
    }
)
RIGHT = schema({"generation": pl.String, "right": pl.Boolean})


class Truth(NamedTuple):
    """Which generations are right, and who says so."""

    judge: str | None
    right: pl.DataFrame  # RIGHT


class Side(NamedTuple):
    """One of the two sets."""

    selections: pl.DataFrame  # SELECTIONS
    examples: pl.DataFrame  # EXAMPLES
    scores: pl.DataFrame  # `generation`, `score`


class Difference(NamedTuple):
    """What is different in one iteration."""

    iteration: pl.DataFrame  # a row of ITERATIONS
    rows: pl.DataFrame  # ROWS
    filters: pl.DataFrame  # FILTERS
    examples: pl.DataFrame  # EXAMPLES that would have trained


def difference(number: int, answers: int, then: Side, now: Side, truth: Truth, notes: Sequence[str]) -> Difference:
    """Compare. `answers` is how many there are in the iteration."""
    both = matched(then.examples, now.examples)
    rows = _explained(both.with_columns(iteration=pl.lit(number, pl.Int32)), then, now, truth)
    outcomes = {name: int((rows["outcome"] == name).sum()) for name in ("kept", "gained", "lost")}
    same = then.examples.drop("dataset").equals(now.examples.drop("dataset"))
    if not same and not outcomes["gained"] and not outcomes["lost"]:
        notes = [*notes, "the same rows, but in another order, or from other answers that say the same"]
    row = {
        "iteration": number,
        "answers": answers,
        "trained": len(then.examples),
        "would_train": len(now.examples),
        **outcomes,
        "right_then": rows.filter(pl.col("outcome") != "gained")["right"].mean(),
        "right_now": rows.filter(pl.col("outcome") != "lost")["right"].mean(),
        "right_by": truth.judge,
        "same": same,
        "notes": list(notes),
    }
    return Difference(
        pl.DataFrame([row], schema=ITERATIONS), rows, _funnels(number, then.selections, now.selections), now.examples
    )


def matched(then: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Every row of two EXAMPLES once, with `outcome`; in the order of those that would train, then of the lost ones.

    Rows of the same generations are the same; of those that are left, rows that say the same.
    """
    ids, key = pl.col("generations").list.join(" "), [*KEY, "ids"]
    sides = [
        side.select(*KEY, "chat", "position", "generations", ids=ids).with_columns(nth=_nth(key))
        for side in (then, now)
    ]
    same = sides[0].join(sides[1], on=[*key, "nth"], suffix="_now", nulls_equal=True)
    rest = [
        side.filter(~pl.col("position").is_in(same[column].implode())).with_columns(nth=_nth(KEY))
        for side, column in zip(sides, ("position", "position_now"), strict=True)
    ]
    left = rest[0].join(rest[1], on=[*KEY, "nth"], how="full", coalesce=True, suffix="_now", nulls_equal=True)
    both = pl.concat([same, left], how="diagonal")
    was, stays = pl.col("position").is_not_null(), pl.col("position_now").is_not_null()
    return both.select(
        *KEY,
        position_then="position",
        position_now="position_now",
        outcome=pl.when(was & stays).then(pl.lit("kept")).when(stays).then(pl.lit("gained")).otherwise(pl.lit("lost")),
        chat=pl.coalesce("chat_now", "chat"),
        generations=pl.coalesce("generations_now", "generations"),
    ).sort("position_now", "position_then", nulls_last=True)


def _nth(key: list[str]) -> pl.Expr:
    """Which of the rows with this key it is, from 0."""
    return pl.int_range(pl.len()).over(key)


def _explained(both: pl.DataFrame, then: Side, now: Side, truth: Truth) -> pl.DataFrame:
    """ROWS: scores, what is right, and which filter it was."""
    pair = pl.col("rejected").is_not_null()
    mine = pl.col("generations").list
    both = both.with_columns(
        # A pair of one generation has a human's text as the chosen one.
        ours=pl.when(~pair | (mine.len() > 1)).then(mine.first()),
        theirs=pl.when(pair).then(mine.last()),
    )
    for name, side in (("then", then), ("now", now)):
        both = _with(both, side.scores, "ours", "score", f"score_{name}")
        both = _with(both, side.scores, "theirs", "score", f"rejected_score_{name}")
    both = _with(both, truth.right, "ours", "right", "right")
    gained, lost = (_with_reason(both, side) for side in (then, now))
    outcome = pl.col("outcome")
    return both.with_columns(
        right=pl.when(pl.col("weight") < 0).then(~pl.col("right")).otherwise("right"),
        why=pl.when(outcome == "gained").then(gained).when(outcome == "lost").then(lost),
    ).select(pl.col(name).cast(kind) for name, kind in ROWS.items())


def _with(rows: pl.DataFrame, values: pl.DataFrame, on: str, value: str, name: str) -> pl.DataFrame:
    """The rows with a value of the generation that the column `on` names."""
    known = values.select(pl.col("generation").alias(on), pl.col(value).alias(name)).unique(on)
    return rows.join(known, on=on, how="left", maintain_order="left")


def _with_reason(rows: pl.DataFrame, side: Side) -> pl.Series:
    """Why each row is not in this side: the first filter that dropped one of its generations, or that none did, and
    whether these are all in other rows of it."""
    decided = side.selections
    first = decided.filter(~pl.col("kept")).unique("generation", keep="first", maintain_order=True)
    dropped = dict(first.select("generation", "reason").iter_rows())
    seen = set(decided["generation"])
    picked = set(side.examples["generations"].explode().drop_nulls())
    reasons = []
    for generations in rows["generations"]:
        why = next((dropped[one] for one in generations if one in dropped), None)
        where = "passed the filters, but was not picked" if seen & set(generations) else "not picked"
        if len(generations) and picked.issuperset(generations):
            where = "was picked, but for another row"
        reasons.append(why or where)
    return pl.Series(reasons, dtype=pl.String)


def _funnels(number: int, then: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """FILTERS: those of now in their order, each beside the one of its kind of then; at last those that are gone."""
    kind, sides = pl.col("filter").str.extract(r"^(\w*)"), []
    for name, decided in (("then", then), ("now", now)):
        counted = decided.group_by("position", "filter", maintain_order=True).agg(
            pl.len().alias(f"seen_{name}"), (~pl.col("kept")).sum().alias(f"dropped_{name}")
        )
        counted = counted.with_columns(kind=kind, nth=pl.int_range(pl.len()).over(kind))
        sides.append(counted.rename({"position": f"position_{name}", "filter": f"filter_{name}"}))
    both = sides[0].join(sides[1], on=["kind", "nth"], how="full", coalesce=True)
    both = both.sort("position_now", "position_then", nulls_last=True).with_columns(iteration=pl.lit(number))
    return both.select(list(FILTERS)).cast(FILTERS)


def truth_of(name: str, votes: pl.DataFrame, judge: AnyJudge | None = None) -> Truth:
    """Which generations are right: those whose mean score is above the middle of the judge's scale.

    One in which a rule finds no answer is not; of one without a score it is not known. Without its judge at hand, the
    scale is from 0 to 1, and votes beyond that say nothing.
    """
    low, high = judge.scale if isinstance(judge, Scaled) else (0.0, 1.0)
    if not votes["score"].drop_nulls().is_between(low, high).all():
        return nobody_knows()
    unread = ((pl.col("status") == "unparsable") & pl.col("trace").is_null()).all()
    right = pl.when(unread).then(False).otherwise(pl.col("score").mean() > (low + high) / 2)
    return Truth(name, votes.group_by("generation").agg(right=right).cast(RIGHT))


def nobody_knows() -> Truth:
    """Where there is no judge that knows."""
    return Truth(None, RIGHT.to_frame())


def stored_scores(recipe: str, heard: pl.DataFrame, words: pl.DataFrame) -> pl.DataFrame:
    """`generation` and `score` as the filters and picks of a stored recipe (JSON) saw them.

    `heard` are all JUDGMENTS on its answers, `words` those on judgments, in the order in which they were made.
    """
    written: dict[str, Any] = json.loads(recipe)
    judges = [(written["judges"][0], heard)]
    if written.get("meta"):
        judges.append((written["meta"]["judge"], words))
    frames = [pl.DataFrame(schema={"generation": pl.String, "score": pl.Float64})]
    for described, votes in judges:
        mine = votes.filter(judge=called(described, votes["judge"].unique(maintain_order=True).to_list()))
        frames.append(mine.group_by("generation").agg(pl.col("score").mean().round(9)))
    return pl.concat(frames)


def called(described: dict[str, Any], voters: Sequence[str]) -> str | None:
    """Which of those who voted is the judge that a recipe describes: names begin with the type, then hash the rest."""
    kind = described.get("is")
    exact = described.get("called") or f"{kind}#{content_id(described)[:8]}"  # as before names stood in the record
    alike = [name for name in voters if name == exact] or [name for name in voters if name.startswith(f"{kind}")]
    return next(iter(alike or voters), None)
