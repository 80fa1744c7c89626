"""The pictures of a run, each with its question: `marimo edit docs/notebook.py -- --home runs`.

`--run NAME` takes another run than the latest one. It is a script as well: `python docs/notebook.py --home runs` prints
what there is, and writes the pictures into a folder with `--out FOLDER`.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="flywheel")


@app.cell
def _():
    from pathlib import Path

    import marimo as mo
    import polars as pl
    from matplotlib.figure import Figure

    from flywheel.errors import FlywheelError
    from flywheel.report.summary import summary
    from flywheel.store.home import open_store
    from flywheel.store.lookup import find_run

    return Figure, FlywheelError, Path, find_run, mo, open_store, pl, summary


@app.cell
def _(FlywheelError, Path, find_run, mo, open_store, summary):
    _told = mo.cli_args()
    out = Path(str(_told["out"])) if "out" in _told else None
    try:
        store = open_store(Path(str(_told.get("home") or "runs")))
        run, name, _which = find_run(store, str(_told["run"]) if "run" in _told else None)
        _words = "\n\n".join(filter(None, (_which, summary(store, run)["sentence"])))
        _wrong = None
    except FlywheelError as _error:
        _wrong = str(_error)
    if _wrong and not mo.running_in_notebook():
        raise SystemExit(f"error: {_wrong}")
    mo.stop(_wrong is not None, mo.md(f"**There is nothing to show:** {_wrong}"))
    if not mo.running_in_notebook():
        print(_words)
    mo.md(f"# {name}\n\n{_words}")
    return name, out, run, store


@app.cell
def _(Figure, mo, out, run, store):
    def ask(question):
        """The answer to a question about the run, a Polars frame."""
        return store.sql(question, {"run": run})

    def plot(draw, rows=1):
        """A figure that `draw` has drawn on, or None where there is nothing to draw."""
        figure = Figure(figsize=(8, 3.4 * rows), layout="constrained")
        draw(figure.subplots())
        return figure

    def section(title, words, question, *shown):
        """A heading, a sentence, the question and what came of it; a script writes the pictures into `--out`."""
        pictures = [thing for thing in shown if isinstance(thing, Figure)]
        if not mo.running_in_notebook():
            print(f"{title}: {words}")
            for number, picture in enumerate(pictures if out else ()):
                out.mkdir(parents=True, exist_ok=True)
                picture.savefig(out / f"{title.lower().replace(' ', '_')}{number or ''}.png", dpi=120)
        text = f"## {title}\n{words}\n```sql\n{question.strip()}\n```"
        return mo.vstack([mo.md(text), *(thing for thing in shown if thing is not None)])

    nothing = mo.md("*This run has none.*")
    return ask, nothing, plot, section


@app.cell
def _(ask, nothing, pl, plot, section):
    _question = """
select iteration, decision, score, difference - low as below, high - difference as above from progress
where run = $run and score is not null order by iteration
"""
    _rows = ask(_question)

    def _draw(axes):
        axes.plot(_rows["iteration"], _rows["score"], color="tab:gray", alpha=0.5)
        for _decision, _colour in (("promote", "tab:green"), ("hold", "tab:orange"), ("roll back", "tab:red")):
            _some = _rows.filter(pl.col("decision") == _decision)
            _bars = _some.select("below", "above").fill_null(0).to_numpy().T
            if len(_some):
                axes.errorbar(
                    _some["iteration"], _some["score"], _bars, fmt="o", capsize=4, color=_colour, label=_decision
                )
        axes.set(xlabel="iteration", ylabel="exam", xticks=_rows["iteration"].to_list())
        axes.legend()

    section(
        "The exam",
        "The score of each iteration's candidate. The bars are the 95% interval of its difference to the incumbent.",
        _question,
        plot(_draw) if len(_rows) else nothing,
    )
    return


@app.cell
def _(ask, nothing, plot, section):
    _question = """
select iteration, judge, score, share from score_distribution
where run = $run and score is not null order by judge, iteration, score
"""
    _rows = ask(_question)

    def _draw(axes):
        for (_judge, _iteration), _some in _rows.group_by("judge", "iteration", maintain_order=True):
            axes.plot(_some["score"], _some["share"], marker=".", label=f"{_judge[:24]}, iteration {_iteration}")
        axes.set(xlabel="score", ylabel="share of the answers")
        axes.legend(fontsize="x-small")

    section(
        "Scores",
        "Which share of the answers got which score. It moves right where the model learns, or the judge gets kinder.",
        _question,
        plot(_draw) if len(_rows) else nothing,
    )
    return


@app.cell
def _(ask, nothing, plot, section):
    _question = """
select iteration, position, filter, rows_in, rows_out, reason from funnel where run = $run order by iteration, position
"""
    _rows = ask(_question)

    def _draw(axes):
        _names = [f"{row['iteration']}: {row['filter'][:40]}" for row in _rows.iter_rows(named=True)]
        axes.barh(range(len(_rows)), _rows["rows_in"], color="lightgray", label="in")
        axes.barh(range(len(_rows)), _rows["rows_out"], color="tab:green", label="out")
        axes.set(xlabel="answers", yticks=range(len(_rows)), yticklabels=_names)
        axes.invert_yaxis()
        axes.legend()

    section(
        "The funnel",
        "What went into each filter of each iteration and what came out; the reasons are in the table.",
        _question,
        plot(_draw) if len(_rows) else nothing,
        _rows if len(_rows) else None,
    )
    return


@app.cell
def _(ask, nothing, plot, section):
    _question = """
select judge, iteration, measure, value, low, high from judge_health
where run = $run and value is not null order by judge, measure, iteration
"""
    _rows = ask(_question)

    def _draw(axes):
        for (_judge, _measure), _some in _rows.group_by("judge", "measure", maintain_order=True):
            axes.plot(_some["iteration"], _some["value"], marker="o", label=f"{_measure}, {_judge[:24]}")
        axes.set(xlabel="iteration", ylabel="value", xticks=sorted(set(_rows["iteration"])))
        axes.legend(fontsize="x-small", ncols=2)

    section(
        "The judges",
        "What each judge is worth, in numbers, and whether that changes while the model learns from it.",
        _question,
        plot(_draw, rows=1.4) if len(_rows) else nothing,
    )
    return


@app.cell
def _(ask, nothing, plot, section):
    _question = """
select p.iteration, 100 * (p.score - first.score) as points, sum(p.tokens) over turns as tokens,
       sum(p.seconds) over turns as seconds
from progress p, (select arg_min(score, iteration) as score from progress where run = $run) first
where p.run = $run and p.score is not null window turns as (order by p.iteration)
order by p.iteration
"""
    _rows = ask(_question)

    def _draw(axes):
        axes.plot(_rows["tokens"], _rows["points"], marker="o", color="tab:blue")
        axes.set(xlabel="tokens so far", ylabel="points above the base")
        _other = axes.twiny()
        _other.plot(_rows["seconds"], _rows["points"], marker="s", linestyle="--", color="tab:orange")
        axes.xaxis.label.set_color("tab:blue")
        _other.set_xlabel("seconds so far", color="tab:orange")

    section(
        "What it cost",
        "Percentage points of the exam against the tokens and the seconds that all iterations up to then have taken.",
        _question,
        plot(_draw) if len(_rows) else nothing,
    )
    return


@app.cell
def _(ask, mo, nothing, section):
    from html import escape

    _question = """
with newest as (
    select d.dataset, i.policy, i.draw from iteration_datasets d join iterations i on i.id = d.iteration
    where i.run = $run order by i.number desc limit 1),
trained as (select e.* from examples e join newest n on n.dataset = e.dataset),
others as (
    select j.prompt, arg_min(j.text, coalesce(j.score, -1)) as text from judged j
    where j.run = $run and j.generation not in (select unnest(generations) from trained)
    and (j.prompt, trim(j.text)) not in (select (prompt, trim(chosen)) from trained)
    group by j.prompt)
select t.chat[-1].content as prompt, t.chosen, coalesce(t.rejected, o.text) as other
from trained t left join others o on o.prompt = t.prompt
where t.weight > 0 and coalesce(t.rejected, o.text) is not null order by t.position limit 5
"""
    _rows = ask(_question)

    def _cell(text):
        return f"<td style='vertical-align: top'><pre style='white-space: pre-wrap'>{escape(text[:2000])}</pre></td>"

    _lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in _rows.rows())
    _head = "<tr><th>prompt</th><th>chosen</th><th>not chosen</th></tr>"
    section(
        "Answers",
        "Answers that the newest dataset teaches, each beside one to the same prompt that was not chosen.",
        _question,
        mo.Html(f"<table>{_head}{_lines}</table>") if len(_rows) else nothing,
    )
    return


if __name__ == "__main__":
    app.run()
