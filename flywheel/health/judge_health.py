"""The health of a judge: how far it agrees with the truth, what sways it, whether it repeats itself and drifts. No I/O.

Measures are named and explained in `measures.py`. Each comes with a 95% interval over prompts (see
`stats/estimate.py`) where that is cheap, and is None, never NaN, where it cannot be told. Which signals are watched
follows Meta-Rewarding (Wu et al. 2024: a judge peaks, its scores rise, it comes to favour a slot and the higher score)
and, for accepted answers that are wrong, Stroebl et al. 2024 ("Inference Scaling fLaws").
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flywheel.health.measures import DIFFICULTY
from flywheel.stats.estimate import LEAST, Estimate, Floats, Ints, correlation, estimate, groups_of, mean, share, slope
from flywheel.stats.ratings import FIRST_WINS, SECOND_WINS

Bools = NDArray[np.bool_]
Measured = Iterator[tuple[str, Estimate]]
"""Measures with their estimates."""

BINS = 10  # of equal width, for the calibration error
MEAN_DECIMALS = 9  # decimals of a mean of votes; what is behind them hangs on the order in which they are added
FAILURES = ("unparsable", "timeout", "error", "refused")
RIGHT = 0.5
"""An answer is right above this gold, and accepted above this score, both on a scale from 0 to 1."""


class Evidence(NamedTuple):
    """What a judge said of some answers, and what they are worth.

    votes: VOTES with `prompt`, `chars` (length of the answer) and `gold` (0 to 1, or NULL).
    comparisons: COMPARISONS with `prompt`, `gold_a`, `gold_b` and, where a and b are judgments, their `score_a` and
      `score_b`; no rows for a judge that compares nothing.
    """

    votes: pl.DataFrame
    comparisons: pl.DataFrame
    scale: tuple[float, float] | None = (0.0, 1.0)  # the judge's lowest and highest score; None: unknown
    absolute: bool = True  # False: gold only tells which of a prompt's answers is better


def measures(evidence: Evidence) -> dict[str, Estimate]:
    """Every measure that the evidence says anything about, also those that it leaves open."""
    answers = by_answer(evidence.votes)
    golden = answers.drop_nulls(["score", "gold"])
    compares = len(evidence.comparisons) > 0
    parts = [
        _agreement(golden, evidence.scale) if evidence.scale and evidence.absolute and len(golden) else (),
        _spearman(golden) if evidence.absolute else (),
        _ranking(golden),
        _order(evidence.comparisons) if compares else (),
        _verbosity(answers, golden),
        _retest(evidence.votes),
        _failures(evidence.comparisons if compares else evidence.votes),
        _level(answers, evidence.votes, evidence.scale),
    ]
    return {name: found for part in parts for name, found in part if found.n}


def by_answer(votes: pl.DataFrame) -> pl.DataFrame:
    """Each answer once, its `score` the mean of its valid votes."""
    return votes.group_by("generation", maintain_order=True).agg(
        pl.col("prompt", "chars", "gold").first(), score=pl.col("score").mean().round(MEAN_DECIMALS)
    )


def right_share(votes: pl.DataFrame) -> Estimate:
    """Of the gold judge's votes: the share of answers that are right; one without a gold is not."""
    answers = by_answer(votes)
    return share((answers["gold"] > RIGHT).fill_null(False).to_numpy(), groups_of(answers["prompt"]))


def self_preference(answers: pl.DataFrame) -> Estimate:
    """Mean score of own answers minus that of others, in strata of gold weighed by own * others / (own + others).

    Wants `prompt`, `own`, `score` and `gold`, told apart in tenths. A stratum that lacks a side does not count.
    """
    stratum = pl.col("gold").round(1)
    both = answers.drop_nulls(["own", "score", "gold"]).filter(pl.col("own").n_unique().over(stratum) == 2)
    cells = both.select(cell=2 * stratum.rank("dense").cast(pl.Int64) - 2 + pl.col("own").cast(pl.Int64))["cell"]
    if both.is_empty():
        return Estimate(None, None, None, 0)
    rows = np.zeros((len(both), 2, int(cells.max()) + 1))  # type: ignore[arg-type]
    rows[np.arange(len(both)), 0, cells] = 1
    rows[np.arange(len(both)), 1, cells] = both["score"]

    def difference(sums: Floats) -> Floats:
        counts, totals = np.split(sums, 2, axis=-1)
        others, own = counts[..., 0::2], counts[..., 1::2]
        apart = totals[..., 1::2] / own - totals[..., 0::2] / others
        weights = own * others / (own + others)
        found: Floats = np.nansum(weights * apart, axis=-1) / np.nansum(weights, axis=-1)
        return found

    return estimate(rows.reshape(len(both), -1), groups_of(both["prompt"]), difference)


def _level(answers: pl.DataFrame, votes: pl.DataFrame, scale: tuple[float, float] | None) -> Measured:
    scored, valid = answers.drop_nulls("score"), votes.drop_nulls("score")
    scores, groups = scored["score"].to_numpy(), groups_of(scored["prompt"])
    yield "score", mean(scores, groups, scale or (-np.inf, np.inf))
    yield "deviation", Estimate(float(scores.std(ddof=1)) if len(scores) > 1 else None, None, None, len(scores))
    if scale:
        yield "saturation", share((valid["score"] >= scale[1]).to_numpy(), groups_of(valid["prompt"]))


def _agreement(golden: pl.DataFrame, scale: tuple[float, float]) -> Measured:
    """How far the judge's score is the truth, and not only orders answers as the truth does."""
    score, gold = (golden["score"].to_numpy() - scale[0]) / (scale[1] - scale[0]), golden["gold"].to_numpy()
    groups, accepted, right = groups_of(golden["prompt"]), score > RIGHT, gold > RIGHT
    yield "accuracy", share(accepted == right, groups)
    yield "kappa", estimate(np.column_stack([np.ones(len(gold)), accepted & right, accepted, right]), groups, _kappa)
    yield "true positives", share(accepted[right], groups[right])
    yield "false positives", share(accepted[~right], groups[~right])
    yield "precision", share(right[accepted], groups[accepted])
    yield from _by_difficulty(accepted, right, groups)
    yield "calibration error", _calibration_error(score, gold)
    yield "generosity", mean(score - gold, groups)


def _kappa(sums: Floats) -> Floats:
    """Cohen's kappa from sums of (1, both, accepted, right); NaN where chance alone would always agree."""
    n, both, accepted, right = np.moveaxis(sums, -1, 0)
    observed = (n - accepted - right + 2 * both) / n
    chance = (accepted * right + (n - accepted) * (n - right)) / n**2
    kappa: Floats = (observed - chance) / np.where(chance < 1, 1 - chance, np.nan)
    return kappa


def _by_difficulty(accepted: Bools, right: Bools, groups: Ints) -> Measured:
    """The precision p * TPR / (p * TPR + (1 - p) * FPR) falls with the share p of right answers: hard prompts give the
    dirtiest data (Stroebl et al. 2024)."""
    prompts = np.unique(groups, return_inverse=True)[1]
    rates = np.bincount(prompts, right) / np.bincount(prompts)
    bins = np.minimum((rates * len(DIFFICULTY)).astype(np.int64), len(DIFFICULTY) - 1)[prompts]
    for number, title in enumerate(DIFFICULTY):
        here = bins == number
        yield f"precision {title}", share(right[here & accepted], groups[here & accepted])
        kept = _share(right[here]) * _share(accepted[right])
        slipped = (1 - _share(right[here])) * _share(accepted[~right])
        implied = kept / (kept + slipped) if kept + slipped > 0 else None
        yield f"implied precision {title}", Estimate(implied, None, None, int(here.sum()))


def _share(hits: Bools) -> float:
    return float(hits.mean()) if len(hits) else np.nan


def _calibration_error(score: Floats, gold: Floats) -> Estimate:
    """Expected calibration error (Naeini et al. 2015): each bin's |mean score - mean gold|, weighed by its answers."""
    bins = np.clip((score * BINS).astype(np.int64), 0, BINS - 1)
    return Estimate(float(np.abs(np.bincount(bins, score - gold)).sum() / len(score)), None, None, len(score))


def _spearman(golden: pl.DataFrame) -> Measured:
    score, gold = golden["score"].rank("average").to_numpy(), golden["gold"].rank("average").to_numpy()
    yield "spearman", correlation(score, gold, groups_of(golden["prompt"]))


def _ranking(golden: pl.DataFrame) -> Measured:
    """Pairs are counted by the ranks of a prompt's right answers among all of its answers (Mann and Whitney 1947)."""
    right = pl.col("gold") > RIGHT
    counts = golden.group_by("prompt", maintain_order=True).agg(
        ranks=pl.col("score").rank("average").filter(right).sum(),
        right=right.sum().cast(pl.Float64),
        wrong=(~right).sum().cast(pl.Float64),
    )
    wins = (counts["ranks"] - counts["right"] * (counts["right"] + 1) / 2).to_numpy()
    yield "ranking", share(wins, groups_of(counts["prompt"]), (counts["right"] * counts["wrong"]).to_numpy())


def _verbosity(answers: pl.DataFrame, golden: pl.DataFrame) -> Measured:
    scored = answers.drop_nulls("score")
    length = np.log1p(scored["chars"].to_numpy())
    yield "verbosity", correlation(scored["score"].to_numpy(), length, groups_of(scored["prompt"]))
    score, gold, length = golden["score"].to_numpy(), golden["gold"].to_numpy(), np.log1p(golden["chars"].to_numpy())
    yield "verbosity at equal gold", slope(score, length, gold, groups_of(golden["prompt"]))


def _retest(votes: pl.DataFrame) -> Measured:
    """Krippendorff's alpha is 1 - observed / expected disagreement, both mean squared distances of two votes."""
    score, n = pl.col("score"), pl.len().cast(pl.Int64)
    several = votes.drop_nulls("score").filter(n.over("generation") > 1)
    if several.is_empty():
        return
    scaled = (score - score.mean()) / pl.when(score.std() > 0).then(score.std()).otherwise(1.0)
    distances = ((2 * pl.int_range(1, n + 1) - n - 1) * score.sort()).sum() * 2 / (n * (n - 1))
    answers = (
        several.with_columns(scaled=scaled)
        .group_by("generation", maintain_order=True)
        .agg(
            pl.col("prompt").first(),
            distance=distances,
            within=n * pl.col("scaled").var(),
            n=n,
            sum=pl.col("scaled").sum(),
            squares=(pl.col("scaled") ** 2).sum(),
        )
    )
    groups = groups_of(answers["prompt"])
    yield "retest difference", mean(answers["distance"].to_numpy(), groups, (0, np.inf))
    sums = answers.select(pl.col("within", "n", "sum", "squares").cast(pl.Float64)).to_numpy()
    yield "retest alpha", estimate(sums, groups, _alpha, (-np.inf, 1))


def _alpha(sums: Floats) -> Floats:
    within, n, total, squares = np.moveaxis(sums, -1, 0)
    expected = (squares - total**2 / n) / (n - 1)
    alpha: Floats = 1 - within / n / np.where(expected > LEAST, expected, np.nan)
    return alpha


def _failures(said: pl.DataFrame) -> Measured:
    groups = groups_of(said["prompt"])
    yield "failed", share((said["status"] != "ok").to_numpy(), groups)
    for status in FAILURES:
        if (said["status"] == status).any():
            yield status, share((said["status"] == status).to_numpy(), groups)


def _order(comparisons: pl.DataFrame) -> Measured:
    """What a judge of pairs makes of the order, of right and wrong, and of the scores of judgments."""
    spoken = comparisons.drop_nulls("verdict")
    pair = ["a", "b", "vote"]
    swapped = spoken.filter(order="ab").join(
        spoken.filter(order="ba"), on=pair, suffix="_swapped", maintain_order="left"
    )
    yield (
        "flip rate",
        share((swapped["verdict"] != swapped["verdict_swapped"]).to_numpy(), groups_of(swapped["prompt"])),
    )
    won = spoken.filter(FIRST_WINS | SECOND_WINS)
    yield "first slot", share(won.select(first=FIRST_WINS)["first"].to_numpy(), groups_of(won["prompt"]))
    a_right, b_right = pl.col("gold_a") > RIGHT, pl.col("gold_b") > RIGHT
    yield "verdict accuracy", _for_better(spoken.filter(a_right != b_right), a_right)
    unequal = pl.col("score_a") != pl.col("score_b")
    yield "anchoring", _for_better(won.filter(unequal), pl.col("score_a") > pl.col("score_b"))


def _for_better(spoken: pl.DataFrame, a_is_better: pl.Expr) -> Estimate:
    """Share of the verdicts for the better of two; a tie is half."""
    named = pl.col("verdict") == pl.when(a_is_better).then(pl.lit("a")).otherwise(pl.lit("b"))
    points = pl.when(pl.col("verdict") == "tie").then(0.5).otherwise(named.cast(pl.Float64))
    return share(spoken.select(points=points)["points"].to_numpy(), groups_of(spoken["prompt"]))
