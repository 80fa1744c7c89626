"""What a flow run shows of itself: artifacts with the iterations, the filters, the exam, answers and the report.

Keys are the same from run to run, as in `quickstart-progress`, so that the UI shows a history for each. What a model
wrote is never interpreted: see `markdown_line`.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from flywheel.pipeline.iteration import Iteration
from flywheel.report import html
from flywheel.store import evidence, queries
from flywheel.store.store import Store

SHOWN_CHARACTERS = 400
"""Characters of a text that are shown."""
SAMPLES, FLIPS = 5, 10
PROGRESS_COLUMNS = (
    "iteration",
    "decision",
    "score",
    "difference",
    "low",
    "high",
    "p",
    "gained",
    "lost",
    "agreement",
    "prompts",
    "generated",
    "kept",
    "examples",
    "tokens",
    "seconds",
)
PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
LINKS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)", re.I)
JOINER = "\N{WORD JOINER}"
UNSEEN = "\N{REPLACEMENT CHARACTER}"
TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of what follows them."""


def markdown_line(text: str, long: int = SHOWN_CHARACTERS) -> str:
    """One line of Markdown that shows the text as it is, and never means anything: no tag, link, table cell or code.

    Line ends become arrows, long texts are cut, control characters are replaced. Each punctuation mark is escaped,
    and an unseen joiner breaks what renderers take for an address even without a mark.
    """
    cut = f" … ({len(text):,} characters)" if len(text) > long else ""
    lines = re.sub(r"[^\S\r\n\u2028\u2029\x85]+", " ", text[:long]).strip()
    line = re.sub(r"\s*[\r\n\u2028\u2029\x85]+\s*", " ↵ ", lines)
    seen = "".join(UNSEEN if c in TURNING or unicodedata.category(c) in ("Cc", "Cs") else c for c in line)
    return PUNCTUATION.sub(r"\\\1", LINKS.sub(JOINER, seen)) + cut


def key(name: str, what: str) -> str:
    """The key of an artifact: lowercase letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"{name}-{what}".lower()).strip("-")


def markdown_table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; the cells are shown as they are."""
    lines = [names, ["---"] * len(names), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def show_iteration(iteration: Iteration) -> None:
    """Artifacts of an iteration that is decided."""
    name, store = iteration.recipe.name, iteration.store
    progress = store.sql("from progress where run = $run", {"run": iteration.run}).select(PROGRESS_COLUMNS)
    what = "Each iteration: the exam, and what it took. `difference` is to the incumbent, with its 95% interval."
    create_table_artifact(_rows(progress), key=key(name, "progress"), description=what)
    create_markdown_artifact(exam(iteration), key=key(name, "exam"))
    lost = store.sql("from funnel where run = $run and iteration = $at", {"run": iteration.run, "at": iteration.number})
    if len(lost):
        what = "the answers that each filter got and let through, and why it dropped others."
        rows = _rows(lost.select("filter", "rows_in", "rows_out", "reason"))
        create_table_artifact(rows, key=key(name, "funnel"), description=f"Iteration {iteration.number}: {what}")
    if len(samples := evidence.beside(store, iteration.id, SAMPLES)):
        create_markdown_artifact(answers_markdown(iteration.number, samples), key=key(name, "answers"))


def exam(iteration: Iteration) -> str:
    """The exam of an iteration and what was decided, in Markdown."""
    decision = queries.decisions(iteration.store, iteration.run).filter(number=iteration.number).row(0, named=True)
    parts = [f"## Iteration {iteration.number}: {decision['decision']}", markdown_line(str(decision["reason"]), 2000)]
    if decision["difference"] is not None:
        interval = f"{100 * decision['low']:+.1f} to {100 * decision['high']:+.1f}"
        points = (f"{100 * decision['difference']:+.1f}", interval, f"{decision['p']:.2g}")
        names = ("solved", "points to the incumbent", "95% interval", "p", "gained", "lost")
        row = (f"{decision['score']:.3f}", *points, decision["gained"], decision["lost"])
        parts += [markdown_table(names, [row])]
        parts += flips(iteration.store, decision["candidate"], decision["incumbent"], decision["exam"])
    return "\n\n".join(parts)


def flips(store: Store, candidate: str, incumbent: str, exam: str) -> list[str]:
    """Exam items that only one of the two solves, in Markdown; nothing if there are none."""
    found = evidence.flipped(store, candidate, incumbent, exam, FLIPS)
    if found.is_empty():
        return []
    return [f"### Items gained and lost (up to {FLIPS})", markdown_table(("", "question", "reference"), found.rows())]


def answers_markdown(number: int, samples: pl.DataFrame) -> str:
    """Answers that train beside others, in Markdown."""
    other = "rejected" if samples["paired"].all() else "dropped"
    names = ("question", "chosen" if other == "rejected" else "kept", other)
    rows = samples.select("question", "chosen", "other").rows()
    return f"## Iteration {number}: answers that train, and others to the same prompt\n\n{markdown_table(names, rows)}"


def show_report(store: Store, home: Path, run: str) -> Path:
    """Write the report of a run and link to it."""
    name = str((queries.row(store, "runs", run) or {})["name"])
    path = html.write(store, home, run).resolve()
    what = f"The report with plots: {markdown_line(str(path), 2000)}. Most browsers open a file only by its address."
    create_link_artifact(path.as_uri(), link_text=path.name, key=key(name, "report"), description=what)
    return path


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows for a table artifact: numbers short, texts without what a page could take for something else."""
    return [{name: _short(value) for name, value in row.items()} for row in frame.iter_rows(named=True)]


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if value is None or isinstance(value, int):
        return value
    return re.sub(r"[<>\[\]`|\s]+", " ", str(value))[:SHOWN_CHARACTERS]


def _cell(value: Any) -> str:
    return "" if value is None else str(value) if isinstance(value, (int, float)) else markdown_line(str(value))
