"""Bar `overhead`: judging costs at most 5% above what the engine itself takes for the judge's questions.

    python -m tests.bars.overhead [--prompts N] [--rounds N]

A Rubric with three votes judges four answers to each prompt through the judge step's own loop, each batch stored in a
DuckDB file with its questions, replies and scores; then the local engine is given the very same chats, seeds and
parameters. The rounds are short and alternate, and the ratio is the median of theirs. Three votes on a question are one
request, so that its prompt is read once.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.engines.local.engine import Local
from flywheel.pipeline.iteration import Iteration
from flywheel.pipeline.judge_batches import judge_answers
from flywheel.pipeline.sample import answer_prompts
from flywheel.protocols import POLICY, Asked, Sampling
from flywheel.store.ids import request_seed
from flywheel.store.schema import prompts_frame
from judges.models.rubric import Rubric
from tests.bars.engine import iteration_of
from tests.bars.local_loop import SIZES, quickstart_like
from tests.conftest import write_llama

TARGET = 0.95
SHORT = "Points from {low} to {high} for the answer to {question}: {answer}"
ANSWERS, VOTES = Sampling(n=4, max_tokens=24), Sampling(n=3, max_tokens=60)


def judged(iteration: Iteration, prompts: pl.DataFrame, judge: Rubric, seed: int) -> float:
    """Tokens per second of the judge step's loop."""
    started = time.perf_counter()
    tokens = [made for _, made in judge_answers(iteration, prompts, "policy", iteration.draw(ANSWERS, 0), judge, seed)]
    return tokens[-1] / (time.perf_counter() - started)


def asked(iteration: Iteration, engine: Local, weights: str, seed: int) -> tuple[float, int]:
    """Tokens per second of the engine alone on the same questions, and how many these are."""
    draw = iteration.draw(VOTES, seed)
    query = """select p.id, p.chat from prompts p where p.id in (select prompt from generations where draw = $draw)
               order by p.id"""
    questions = iteration.store.sql(query, {"draw": draw})
    model = engine.load(weights)
    started, tokens = time.perf_counter(), 0
    for batch in questions.iter_slices(iteration.recipe.batch * ANSWERS.n):
        seeds = [request_seed(draw, id) for id in batch["id"]]
        tokens += int(model.chat(batch["chat"].to_list(), VOTES, seeds)["tokens"].sum())
    return tokens / (time.perf_counter() - started), len(questions)


def measure(home: Path, count: int, rounds: int) -> dict[str, Any]:
    """The ratio of the two."""
    weights = write_llama(home / "weights", seed=0, initializer_range=0.1, max_position_embeddings=512, **SIZES)
    engine = Local()
    iteration = iteration_of(engine, home, weights, ANSWERS)
    prompts = prompts_frame(({"chat": chat} for chat in quickstart_like(count)), "bar")
    iteration.store.add("prompts", prompts)
    for _ in answer_prompts(iteration, prompts, "policy", ANSWERS, 0, "answer"):
        pass
    ratios, rates = [], []
    for seed in range(rounds + 1):
        judge = Rubric(model=Asked(weights=POLICY, sampling=VOTES), template=SHORT + " " * seed)  # each a new judge
        ours = judged(iteration, prompts, judge, seed)
        theirs, questions = asked(iteration, engine, str(weights), seed)
        if seed:  # the first round warms up
            ratios.append(round(ours / theirs, 3))
            rates.append(ours)
    engine.close()
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratios": ratios,
        "tokens_per_second": round(statistics.median(rates)),
        "questions": questions,
        "votes": VOTES.n,
    }


def main() -> int:
    """Measure and print the bar."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--prompts", type=int, default=256)
    options.add_argument("--rounds", type=int, default=9)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        value = measure(Path(name), chosen.prompts, chosen.rounds)
    ok = value["ratio"] >= TARGET
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    print(json.dumps({"bar": "overhead", "value": value, "target": TARGET, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
