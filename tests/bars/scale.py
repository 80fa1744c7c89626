"""Bar `scale`: a history of 10 million answers answers each question in 2 seconds, on 2 cores and with 4 GB of memory.

    python -m tests.bars.scale [--iterations 100] [--folder DIR]

The store is made by `long_history`, iteration by iteration, 100,000 answers in each. Then every view and every query of
docs/sql.md is asked, each in a process of its own, whose largest memory counts. Views with a row for each answer are
asked about one iteration, as the page says. The file must grow by as much at the end as at the beginning, and one more
iteration, its rows and the questions that the steps ask about it, must cost as much after 10 million answers as after
one million.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.store import queries
from flywheel.store.store import SHARED, Store
from tests import ROOT
from tests.bars.long_history import MODEL, PROMPTS, RULE, History, N

SECONDS, LINEAGE, GIGABYTES, GROWTH, COST = 2.0, 1.0, 4.0, 1.15, 1.5
THREADS, DUCKDB = 2, "2500MB"
"""What DuckDB may take. Python, Polars and the answer take their part of the rest."""
REPEATS, LIMIT = 3, 120
NARROWED = {
    "answers": "where iteration = $number",
    "judged": "where iteration = $number",
    "best_of_n": "where iteration = $number",
    "disagreements": "where iteration = $number",
    "near_duplicates": "where iteration = $number",
    "thoughts": "where iteration = $number",
    "verdicts": "where a = '$compared'",
    "words": "where checkpoint = '$policy'",
    "opinions": "where checkpoint = '$policy'",
    "trained_on": "where checkpoint = '$newest' and steps = 0",
    "reached": "where generation = '$generation'",
}
"""Views with a row for each answer, and what one asks of them."""
LINEAGES = {
    "what a checkpoint descends from": "from lineage where checkpoint = '$newest'",
    "how many rows taught it": "select count(*) from trained_on where checkpoint = '$newest'",
    "which checkpoints an answer reached": "from reached where generation = '$generation'",
}


def build(store: Store, iterations: int) -> dict[str, Any]:
    """Makes the store; tells what that cost at a tenth of it and at the end."""
    made = History()
    store.add_all(made.begin())
    adds: list[float] = []
    size: dict[int, int] = {}
    asked: list[dict[str, float]] = []
    tenth = max(1, iterations // 10)
    for number in range(1, iterations + 1):
        frames = made.iteration()
        adds.append(spent(partial(add, store, frames)))
        if number in {tenth, iterations // 4, iterations // 2, iterations}:
            size[number] = store.path.stat().st_size
        if number in {tenth, iterations}:
            asked.append(ask_steps(store))
    return {
        "bytes_per_answer": {rows * PROMPTS * N: round(size[rows] / rows / PROMPTS / N) for rows in size},
        "add": [round(statistics.median(part), 2) for part in (adds[:tenth], adds[-tenth:])],
        "ask": asked,
    }


def add(store: Store, frames: dict[str, pl.DataFrame]) -> None:
    """As the steps do: what one draw made by itself, and all else."""
    for table in SHARED:
        for part in frames[table].partition_by("draw", maintain_order=True):
            store.add(table, part)
    store.add_all({table: frame for table, frame in frames.items() if table not in SHARED})


def ask_steps(store: Store) -> dict[str, float]:
    """CPU seconds of what the steps ask about the newest iteration, the fewer of two attempts."""
    return {name: round(min(spent(ask), spent(ask)), 3) for name, ask in questions(store).items()}


def questions(store: Store) -> dict[str, Callable[[], Any]]:
    """The questions of `store/queries.py`, with the 12,500 prompts of an iteration in batches as a step has them."""
    newest = "select id, policy, draw from iterations order by number desc limit 1"
    iteration, policy, draw = store.sql(newest).row(0)
    candidate = store.sql("select candidate from decisions order by rowid desc limit 1").item()
    prompts = queries.proposed(store, iteration)["id"].to_list()
    exam = store.sql("select prompt from exams order by position")["prompt"].to_list()
    batch = prompts[:256]
    some = queries.replies(store, policy, draw, batch)["generation"].to_list()
    told = store.sql(f"select distinct generation from judgments where trace is not null and draw = '{draw}'")
    words = queries.judge_words(store, iteration, told["generation"].to_list(), MODEL, 0)
    assert len(words), "the newest iteration has no words of a judge"
    return {
        "proposed": lambda: queries.proposed(store, iteration),
        "sampled": lambda: queries.sampled(store, policy, draw),
        "replies": lambda: queries.replies(store, policy, draw, batch),
        "unjudged": lambda: queries.unjudged(store, policy, draw, batch, "another judge"),
        "uncompared": lambda: queries.uncompared(store, policy, draw, batch, "Duel()"),
        "compared": lambda: queries.compared(store, some, "Duel()"),
        "votes": lambda: queries.votes(store, policy, draw, some, {RULE: RULE, MODEL: MODEL}),
        "judged": lambda: queries.judged(store, iteration, {RULE: RULE, MODEL: MODEL}),
        "judged_words": lambda: queries.judged_words(store, words, RULE),
        "words": lambda: queries.judge_words(store, iteration, told["generation"].to_list(), MODEL, 0),
        "spoken": lambda: queries.spoken(store, policy, draw, prompts, RULE),
        "dataset_of": lambda: queries.dataset_of(store, iteration),
        "examples": lambda: queries.examples(store, str(queries.dataset_of(store, iteration))),
        "answered": lambda: queries.judged_answers(store, candidate, "exam", exam, RULE),
        "grades": lambda: queries.grades(store, candidate, "exam"),
        "decisions": lambda: queries.decisions(store, "run"),
        "prompts": lambda: queries.prompts(store, batch),
        "health": lambda: queries.run_health(store, "run"),
        "notes": lambda: queries.notes(store, "run", 1),
    }


def known(store: Store) -> dict[str, str]:
    """Values to ask about: the newest iteration, its policy, its checkpoint, an answer that taught, one compared."""
    query = """
        select max(i.number)::varchar as number, arg_max(i.policy, i.number) as policy,
               arg_max(d.candidate, i.number) as newest,
               (select generations[1] from examples limit 1) as generation,
               (select a from comparisons limit 1) as compared
        from iterations i join decisions d on d.iteration = i.id"""
    return store.sql(query).row(0, named=True)


def spent(what: Callable[[], object]) -> float:
    """CPU seconds: what others do on the machine does not count."""
    started = time.process_time()
    what()
    return time.process_time() - started


def clocked(what: Callable[[], object]) -> float:
    started = time.perf_counter()
    what()
    return time.perf_counter() - started


def to_ask(views: list[str]) -> dict[str, str]:
    """Every view, every query of the page, and lineage."""
    page = (ROOT / "docs" / "sql.md").read_text(encoding="utf-8")
    asked = {f"view {view}": f"from {view} {NARROWED.get(view, '')}" for view in views}
    for number, text in re.findall(r"^### (\d+)\. (.*?)(?=^##|\Z)", page, flags=re.M | re.S):
        for place, query in enumerate(re.findall(r"```sql\n(.*?)```", text, flags=re.S), 1):
            asked[f"question {number}.{place}"] = query
    return asked | {f"lineage: {name}": query for name, query in LINEAGES.items()}


def answer(path: Path, query: str) -> dict[str, Any]:
    """In a process of its own: the median of some attempts, each from the closed file to a frame, and its memory."""
    store, took, cpu = Store(path), [], time.process_time()
    rows = 0

    def ask() -> None:
        nonlocal rows
        with store.reading() as connection:
            connection.execute(f"set memory_limit = '{DUCKDB}'")
            connection.execute(f"set threads = {THREADS}")
            rows = len(connection.sql(query).pl())

    for _ in range(REPEATS):
        took.append(clocked(ask))
        if sum(took) > LIMIT / 4:
            break
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    memory = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1e6  # getrusage also knows the parent's
    cpu = (time.process_time() - cpu) / len(took)
    return {"seconds": round(statistics.median(took), 2), "cpu": round(cpu, 2), "gb": round(memory, 2), "rows": rows}


def answered(path: Path, query: str) -> dict[str, Any]:
    argv = [sys.executable, "-m", "tests.bars.scale", "--path", str(path), "--ask", query]
    try:
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {"seconds": float(LIMIT), "gb": 0.0, "error": "timeout"}
    if done.returncode:
        return {"seconds": float(LIMIT), "gb": 0.0, "error": done.stderr.strip().splitlines()[-1]}
    return dict(json.loads(done.stdout))


def measure(path: Path, iterations: int) -> dict[str, Any]:
    if path.exists():
        built = json.loads(path.with_suffix(".json").read_text())
    else:
        started = time.monotonic()
        built = build(Store(path), iterations)
        built["seconds_to_make"] = round(time.monotonic() - started)
        path.with_suffix(".json").write_text(json.dumps(built))
    store, answers = Store(path), {}
    values = known(store)
    views = store.sql("select view_name from duckdb_views() where not internal order by 1")["view_name"].to_list()
    for name, query in to_ask(views).items():
        gap = "$compared" if "verdicts" in query else "$generation"
        whole = re.sub(r"\$(\w+)", lambda found: values[found[1]], query.replace("'...'", f"'{gap}'"))
        answers[name] = answered(path, whole)
        print(name, answers[name], file=sys.stderr, flush=True)
    return {**built, "megabytes": round(path.stat().st_size / 1e6), "answers": answers}


def verdict(value: dict[str, Any]) -> dict[str, bool]:
    answers, per_answer = value["answers"], [*value["bytes_per_answer"].values()]
    first, later = (value["add"][at] + sum(value["ask"][at].values()) for at in (0, 1))
    lineages = [each["seconds"] for name, each in answers.items() if name.startswith("lineage")]
    return {
        "answers": all(each["seconds"] < SECONDS for each in answers.values()),
        "memory": all(each["gb"] < GIGABYTES for each in answers.values()),
        "lineage": max(lineages) < LINEAGE,
        "growth": max(per_answer) < GROWTH * min(per_answer),
        "one more iteration": later < COST * first,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where the store is made, and asked again if it is there")
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        print(json.dumps(answer(options.path, options.ask)))
        return 0
    load = os.getloadavg()[0]
    if options.folder:
        value = measure(options.folder / "flywheel.duckdb", options.iterations)
    else:
        with tempfile.TemporaryDirectory() as folder:
            value = measure(Path(folder) / "flywheel.duckdb", options.iterations)
    said = verdict(value)
    print(f"load average {load:.1f} before, {os.getloadavg()[0]:.1f} after, {os.cpu_count()} cores", file=sys.stderr)
    target = {"seconds": SECONDS, "lineage": LINEAGE, "gigabytes": GIGABYTES, "growth": GROWTH, "cost": COST}
    print(json.dumps({"bar": "scale", "value": value | {"met": said}, "target": target, "ok": all(said.values())}))
    return 0 if all(said.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
