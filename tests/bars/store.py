"""Bar `store`: 50,000 generation rows a second go in, batch by batch, and a million of them answer within 0.3 seconds.

    python -m tests.bars.store [--rows 1000000] [--folder DIR]

A row has 1 KB of text; a batch has 10,000 rows and is committed, with the file opened and closed around it, before the
next one starts. Then every row is judged, and three questions are asked through the store's views, each from an
opened file to a Polars frame, the median of five. Memory, not disk, is what the texts are kept in meanwhile.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flywheel.store.ids import content_id
from flywheel.store.schema import DRAWS, GENERATIONS, ITERATIONS, JUDGMENTS, PROPOSALS, RUNS
from flywheel.store.store import Store

BATCH, N, TEXT = 10_000, 8, 1024
PER_ITERATION = 5  # batches
ROWS_PER_SECOND, SECONDS = 50_000, 0.3
NOW = datetime(2026, 1, 1)
QUESTIONS = {
    "mean score per iteration": "select iteration, judge, mean from scores",
    "pass@k per iteration": "select iteration, judge, k, rate from pass_at_k",
    "best of n per prompt": "select iteration, prompt, generation, score from best_of_n",
}


def texts() -> pl.Series:
    """A batch of texts of random words, some frequent and many rare, as in a language."""
    generator = np.random.default_rng(0)
    words = ["".join(map(chr, generator.integers(97, 123, generator.integers(1, 12)))) for _ in range(5000)]
    ranks = np.minimum(generator.zipf(1.2, (BATCH, TEXT // 2)) - 1, len(words) - 1)
    return pl.Series([" ".join(words[rank] for rank in row)[:TEXT] for row in ranks])


def batches(rows: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """GENERATIONS with the number of their iteration."""
    pool, generator = texts(), np.random.default_rng(1)
    for number in range(rows // BATCH):
        iteration, part = number // PER_ITERATION + 1, number % PER_ITERATION
        place = np.arange(BATCH) // N + part * (BATCH // N)
        columns: dict[str, Any] = {
            "id": [content_id("g", number, row) for row in range(BATCH)],
            "prompt": [content_id("p", index) for index in place.tolist()],
            "checkpoint": [content_id("checkpoint", iteration)] * BATCH,
            "draw": [content_id("draw", iteration)] * BATCH,
            "index": np.arange(BATCH) % N,
            "role": ["answer"] * BATCH,
            "text": pool.shuffle(seed=number),
            "finish_reason": np.where(generator.random(BATCH) < 0.9, "stop", "length"),
            "prompt_tokens": generator.integers(20, 200, BATCH // N).repeat(N),
            "tokens": generator.integers(50, 300, BATCH),
            "logprob": -100 * generator.random(BATCH),
            "seed": generator.integers(0, 2**31, BATCH // N).repeat(N),
            "engine": ["vllm 0.32.0"] * BATCH,
            "template": [content_id("template")] * BATCH,
            "created_at": [NOW] * BATCH,
        }
        yield iteration, pl.DataFrame({name: pl.Series(columns[name], dtype=GENERATIONS[name]) for name in GENERATIONS})


def judgments(generations: pl.DataFrame, seed: int) -> pl.DataFrame:
    right = np.random.default_rng(seed).random(len(generations)) < 0.4
    return (
        generations.select(
            "prompt",
            "checkpoint",
            "draw",
            "index",
            generation="id",
            judge=pl.lit("Numeric(after='Answer:')"),
            vote=0,
            score=pl.Series(right),
            status=pl.lit("ok"),
        )
        .with_columns(detail=pl.lit("42"), trace=None)
        .select(list(JUDGMENTS))
        .cast(JUDGMENTS)
    )


def begin(store: Store, iterations: int, prompts: int) -> None:
    """One run; every iteration works on the same prompts."""
    run = {"id": "run", "name": "bar", "recipe": "{}", "versions": "{}", "seed": 0, "created_at": NOW}
    rows: list[tuple[object, ...]] = []
    draws: list[tuple[object, ...]] = []
    asked: list[tuple[object, ...]] = []
    for number in range(1, iterations + 1):
        id, draw = content_id("iteration", number), content_id("draw", number)
        rows.append((id, "run", number, content_id("checkpoint", number), draw, "{}", NOW))
        draws.append((draw, "vllm", N, 1.0, 1.0, 0, 300, [], number, 0.0, 1.0, 0.0, 0.0, 0))
        asked += [(id, index, content_id("p", index)) for index in range(prompts)]
    store.add_all(
        {
            "runs": pl.DataFrame([run], schema=RUNS),
            "iterations": pl.DataFrame(rows, schema=ITERATIONS, orient="row"),
            "draws": pl.DataFrame(draws, schema=DRAWS, orient="row"),
            "proposals": pl.DataFrame(asked, schema=PROPOSALS, orient="row"),
        }
    )


def seconds(what: Callable[[], object]) -> float:
    started = time.perf_counter()
    what()
    return time.perf_counter() - started


def measure(rows: int, folder: Path) -> dict[str, Any]:
    store = Store(folder / "flywheel.duckdb")
    begin(store, -(-rows // (BATCH * PER_ITERATION)), BATCH * PER_ITERATION // N)
    adding, judging = [], []
    for iteration, frame in batches(rows):
        adding.append(seconds(lambda frame=frame: store.add("generations", frame)))  # type: ignore[misc]
        votes = judgments(frame, iteration)
        judging.append(seconds(lambda votes=votes: store.add("judgments", votes)))  # type: ignore[misc]
    tenth = max(1, len(adding) // 10)
    return {
        "rows_per_second": round(rows / sum(adding)),
        "last_batches_to_first": round(statistics.median(adding[-tenth:]) / statistics.median(adding[:tenth]), 2),
        "judgments_per_second": round(rows / sum(judging)),
        "megabytes": round(store.path.stat().st_size / 1e6),
        "seconds": {
            name: round(statistics.median(seconds(lambda query=query: store.sql(query)) for _ in range(5)), 3)  # type: ignore[misc]
            for name, query in QUESTIONS.items()
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the store is made; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        value = measure(options.rows, Path(folder))
    ok = value["rows_per_second"] >= ROWS_PER_SECOND and max(value["seconds"].values()) < SECONDS
    target = {"rows_per_second": ROWS_PER_SECOND, "seconds": SECONDS}
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    print(json.dumps({"bar": "store", "value": value, "target": target, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
