"""The report of a run: one HTML file, complete in itself, with plots, decisions in words, answers and settings."""

import base64
import html
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from flywheel.evaluation.paired_test import bootstrap
from flywheel.report.page import curve, html_table, page, settings
from flywheel.report.summary import summary
from flywheel.store import queries
from flywheel.store.lookup import find_run, short_id
from flywheel.store.store import Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCORES = pl.Schema(
    {
        "iteration": pl.Int64(),
        "score": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "promoted": pl.Boolean(),
        "policy": pl.Float64(),
    }
)
SAMPLES = 5
JUDGE_SHOWN = ("score", "accuracy", "kappa", "spearman", "ranking", "precision", "generosity", "drift", "failed")


def write(store: Store, home: Path, run: str | None = None) -> Path:
    """Write the report of a run, given by name or id (the latest one of that name; of all if None); gives its path."""
    id, name, _ = find_run(store, run)
    told, decided = summary(store, id), queries.decisions(store, id)
    judged = store.sql("from judged where run = $run", {"run": id})
    parts = [
        f"<h1>{html.escape(name)}</h1><p>Run {id}, {html.escape(str(store.path))}</p>",
        f"<p><b>{html.escape(told['sentence'])}</b></p>",
        "<h2>The exam</h2>",
        _plot(_draw_exam, "exam score per iteration", _scores(store, decided)),
        "<h2>Decisions</h2>",
        html_table(decided.select("number", "decision", "reason").rows(), ("iteration", "decision", "why")),
        "<h2>Where answers were lost</h2>",
        _frame(store.sql("from funnel where run = $run", {"run": id}).drop("run", "name")),
        *_losses(store, id),
        *_judges(store, id),
        "<h2>Scores and lengths of the answers</h2>",
        _plot(_draw_scores, "scores of the answers", judged) + _plot(_draw_lengths, "lengths of the answers", judged),
        "<h2>Answers that trained, beside others to the same prompt</h2>",
        html_table(_samples(store, decided, judged), ("prompt", "chosen", "not chosen")),
        "<h2>Settings that are not the default</h2>",
        _settings(store, id),
    ]
    path = home / "reports" / f"{name}-{short_id(store, 'run', id)}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(name, parts), encoding="utf-8")
    return path


def _settings(store: Store, run: str) -> str:
    recipe = json.loads(str((queries.row(store, "runs", run) or {})["recipe"]))
    return html_table(settings(recipe), ("setting", "value"))


def _losses(store: Store, run: str) -> list[str]:
    """The loss of each training, step by step, where it told one."""
    told = store.sql("from curves where run = $run and measure = 'loss'", {"run": run})
    known = told.filter(pl.col("value").is_finite())
    lines = {
        f"iteration {number}": rows.select("step", "value").rows()
        for (number,), rows in known.group_by("iteration", maintain_order=True)
    }
    drawn = curve("loss of each training", lines, "optimizer step", "loss")
    return ["<h2>The loss of each training</h2>", drawn] if drawn else []


def _scores(store: Store, decided: pl.DataFrame) -> pl.DataFrame:
    """For each iteration its candidate's exam score with a 95% interval, and the score of who samples next."""
    scores: dict[str, float] = {}
    rows = []
    for row in decided.filter(pl.col("score").is_not_null()).iter_rows(named=True):
        scores[row["candidate"]] = row["score"]
        grades = queries.grades(store, row["candidate"], row["exam"])
        low, high = bootstrap((grades["correct"] / grades["n"]).to_numpy())
        rows.append((row["number"], row["score"], low, high, row["decision"] == "promote", scores[row["policy"]]))
    return pl.DataFrame(rows, schema=SCORES, orient="row")


def _draw_exam(axes: "Axes", scores: pl.DataFrame) -> None:
    for promoted, colour, label in ((True, "tab:green", "promoted"), (False, "tab:red", "not promoted")):
        some = scores.filter(pl.col("promoted") == promoted)
        around = [(some["score"] - some["low"]).to_list(), (some["high"] - some["score"]).to_list()]
        axes.errorbar(some["iteration"], some["score"], around, fmt="o", capsize=4, color=colour, label=label)
    axes.step(scores["iteration"], scores["policy"], where="post", color="tab:gray", alpha=0.5, label="policy")
    axes.set(xlabel="iteration", ylabel="solved (95% interval)", xticks=scores["iteration"].to_list())
    axes.legend()


def _judges(store: Store, run: str) -> list[str]:
    """What judges say beside what is true, for each iteration, where the run has a gold judge."""
    health = queries.run_health(store, run)
    truth = health.filter(measure="right").select("iteration", truth="value")
    against_gold = health.filter(measure="spearman")["judge"].implode()
    rows = health.filter(pl.col("judge").is_in(against_gold), pl.col("measure").is_in(JUDGE_SHOWN))
    if rows.is_empty():
        return []
    wide = rows.pivot("measure", index=["iteration", "judge"], values="value", maintain_order=True)
    shown = [name for name in JUDGE_SHOWN if name in wide.columns]
    rows = wide.join(truth, on="iteration", maintain_order="left").select("iteration", "judge", "truth", *shown)
    return ["<h2>The judges and the truth</h2>", _plot(_draw_judges, "judges beside the truth", rows), _frame(rows)]


def _draw_judges(axes: "Axes", rows: pl.DataFrame) -> None:
    """The first judge: its mean score has an axis of its own, as its scale may be any."""
    first = rows.filter(pl.col("judge") == rows["judge"][0])
    for name in ("truth", "accuracy", "kappa", "spearman"):
        if name in first.columns:
            axes.plot(first["iteration"], first[name], marker="o", label=name)
    other = axes.twinx()
    other.plot(first["iteration"], first["score"], marker="s", linestyle="--", color="black", label="score")
    axes.set(xlabel="iteration", ylabel="truth and agreement", xticks=first["iteration"].to_list())
    other.set(ylabel=f"score by {first['judge'][0][:30]}")
    axes.legend(handles=[*axes.get_lines(), *other.get_lines()])


def _draw_scores(axes: "Axes", judged: pl.DataFrame) -> None:
    _histograms(axes, judged, "score")
    axes.set(xlabel="score", ylabel="share of the answers")


def _draw_lengths(axes: "Axes", judged: pl.DataFrame) -> None:
    _histograms(axes, judged, "tokens")
    axes.set(xlabel="tokens", ylabel="share of the answers")


def _histograms(axes: "Axes", judged: pl.DataFrame, column: str) -> None:
    known = judged.filter(pl.col(column).is_not_null()).sort("iteration")
    bins = np.histogram_bin_edges(known[column].to_numpy(), bins=20)
    for (number,), rows in known.group_by("iteration", maintain_order=True):
        shares = np.full(len(rows), 1 / len(rows))
        axes.hist(
            rows[column].to_numpy(), bins=list(bins), weights=shares, histtype="step", label=f"iteration {number}"
        )
    if len(known):
        axes.legend()


def _frame(frame: pl.DataFrame) -> str:
    return html_table(frame.rows(), frame.columns)


def _plot(draw: Any, words: str, frame: pl.DataFrame) -> str:
    from matplotlib.figure import Figure  # not pyplot, which keeps figures and looks for a screen

    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    draw(figure.subplots(), frame)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150)
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}">'


def _samples(store: Store, decided: pl.DataFrame, judged: pl.DataFrame) -> list[tuple[str, str, str]]:
    """The last iteration's answers that trained, each beside one to the same prompt that did not, or that was rejected.

    What says the same as an answer that trained is not shown beside it, though it is another answer.
    """
    last = decided.row(-1, named=True)
    dataset = queries.dataset_of(store, last["iteration"])
    if not last["number"] or dataset is None:
        return []
    examples = queries.examples(store, dataset)
    good, bad = examples.filter(pl.col("weight") > 0), examples.filter(pl.col("weight") <= 0)
    trained = examples["generations"].explode()
    left = judged.filter(pl.col("iteration") == last["number"], ~pl.col("generation").is_in(trained.implode()))
    said = good.select("prompt", text=pl.col("chosen").str.strip_chars())
    others = pl.concat(
        [bad.select("prompt", text="chosen"), left.sort("score", nulls_last=True).select("prompt", "text")]
    )
    others = (
        others.with_columns(other="text", text=pl.col("text").str.strip_chars())
        .join(said, on=["prompt", "text"], how="anti", maintain_order="left")
        .unique("prompt", keep="first", maintain_order=True)
    )
    pairs = (
        good.unique("prompt", keep="first", maintain_order=True)
        .join(others, on="prompt", how="left", maintain_order="left")
        .with_columns(other=pl.coalesce("rejected", "other"))
        .filter(pl.col("other").is_not_null())
        .head(SAMPLES)
    )
    return [(row["chat"][-1]["content"], row["chosen"], row["other"]) for row in pairs.iter_rows(named=True)]
