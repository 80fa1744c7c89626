"""The report of a run: one HTML file, complete in itself, with plots, the decisions in words, and answers."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from flywheel import history
from flywheel.exam import bootstrap
from flywheel.lookup import find_run, short_id
from flywheel.show import summary
from flywheel.store import Store

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
LONG = 2000
"""Characters of an answer that the report shows."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .25em .8em; border-bottom: 1px solid #ddd }
td { vertical-align: top } th { text-align: left } .number { text-align: right } img { max-width: 100% }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font-size: 13px; max-width: 28em }
"""


def write(store: Store, home: Path, run: str | None = None) -> Path:
    """Write the report of a run, given by name or id (the latest one of that name; of all if None); gives its path."""
    id, name, _ = find_run(store, run)
    told, decided = summary(store, id), history.decisions(store, id)
    judged = store.sql("from judged where run = $run", {"run": id})
    parts = [
        f"<h1>{html.escape(name)}</h1><p>Run {id}, {html.escape(str(store.path))}</p>",
        f"<p><b>{html.escape(told['sentence'])}</b></p>",
        "<h2>The exam</h2>",
        _plot(_draw_exam, "exam score per iteration", _scores(store, decided)),
        "<h2>Decisions</h2>",
        _table(decided.select("number", "decision", "reason").rows(), ("iteration", "decision", "why")),
        "<h2>Where answers were lost</h2>",
        _frame(store.sql("from funnel where run = $run", {"run": id}).drop("run", "name")),
        *_judges(store, id),
        "<h2>Scores and lengths of the answers</h2>",
        _plot(_draw_scores, "scores of the answers", judged) + _plot(_draw_lengths, "lengths of the answers", judged),
        "<h2>Answers that trained, beside others to the same prompt</h2>",
        _table(_samples(store, decided, judged), ("prompt", "chosen", "not chosen")),
    ]
    path = home / "reports" / f"{name}-{short_id(store, 'run', id)}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(name)}</title>'
    path.write_text(f"{head}<style>{STYLE}</style>\n" + "\n".join(parts) + "</html>\n", encoding="utf-8")
    return path


def _scores(store: Store, decided: pl.DataFrame) -> pl.DataFrame:
    """For each iteration its candidate's exam score with a 95% interval, and the score of who samples next."""
    scores: dict[str, float] = {}
    rows = []
    for row in decided.filter(pl.col("score").is_not_null()).iter_rows(named=True):
        scores[row["candidate"]] = row["score"]
        grades = history.grades(store, row["candidate"], row["exam"])
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
    health = history.health(store, run)
    truth = health.filter(measure="right").select("iteration", truth="value")
    against_gold = health.filter(measure="spearman")["judge"].implode()
    rows = health.filter(pl.col("judge").is_in(against_gold), pl.col("measure").is_in(JUDGE_SHOWN))
    if rows.is_empty():
        return []
    wide = rows.pivot("measure", index=["iteration", "judge"], values="value", maintain_order=True)
    shown = [name for name in JUDGE_SHOWN if name in wide.columns]
    table = wide.join(truth, on="iteration", maintain_order="left").select("iteration", "judge", "truth", *shown)
    return ["<h2>The judges and the truth</h2>", _plot(_draw_judges, "judges beside the truth", table), _frame(table)]


def _draw_judges(axes: "Axes", table: pl.DataFrame) -> None:
    """The first judge: its mean score has an axis of its own, as its scale may be any."""
    first = table.filter(pl.col("judge") == table["judge"][0])
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


def _plot(draw: Any, words: str, frame: pl.DataFrame) -> str:
    from matplotlib.figure import Figure  # not pyplot, which keeps figures and looks for a screen

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    draw(figure.subplots(), frame)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}">'


def _samples(store: Store, decided: pl.DataFrame, judged: pl.DataFrame) -> list[tuple[str, str, str]]:
    """The last iteration's answers that trained, each beside one to the same prompt that was not chosen."""
    last = decided.row(-1, named=True)
    dataset = history.dataset_of(store, last["iteration"])
    if not last["number"] or dataset is None:
        return []
    examples = history.examples(store, dataset).unique("prompt", keep="first", maintain_order=True)
    chosen = examples["generations"].explode()
    left = (
        judged.filter(pl.col("iteration") == last["number"], ~pl.col("generation").is_in(chosen.implode()))
        .sort("score", nulls_last=True, maintain_order=True)
        .unique("prompt", keep="first", maintain_order=True)
    )
    pairs = (
        examples.join(left.select("prompt", "text"), on="prompt", how="left", maintain_order="left")
        .with_columns(other=pl.coalesce("rejected", "text"))
        .filter(pl.col("other").is_not_null())
        .head(SAMPLES)
    )
    return [(row["chat"][-1]["content"], row["chosen"], row["other"]) for row in pairs.iter_rows(named=True)]


def _frame(frame: pl.DataFrame) -> str:
    return _table(frame.rows(), frame.columns)


def _table(rows: Iterable[Sequence[Any]], names: Sequence[str]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in rows)
    return f"<table><tr>{head}</tr>\n{body}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, (int, float)):
        return (
            f'<td class="number">{value:.4g}</td>' if isinstance(value, float) else f'<td class="number">{value}</td>'
        )
    text = "" if value is None else str(value)
    shown = text if len(text) <= LONG else text[:LONG] + "…"
    return (
        f"<td><pre>{html.escape(shown)}</pre></td>"
        if "\n" in text or len(text) > 120
        else f"<td>{html.escape(shown)}</td>"
    )
