"""Bars `engine`: what our engines cost above the libraries below them, and how soon new weights are served.

    python -m tests.bars.engine [--prompts N] [--samples N] [--rounds N] [--only vllm swap local]

vllm: tokens per second of the `sample` step's own loop, each batch stored in a DuckDB file, as a share of plain
`LLM.generate` in a process of its own, on the same weights, prompts, seeds, sampling parameters and threads. The rounds
alternate; the share is the median of the rounds' ratios, so that what else the machine does meets both alike.
swap: seconds from the end of a training to the first answer of the new weights, with the canary's proof in between.
local: the local engine as a share of a hand-written batched `model.generate` loop (`local_loop.py`).
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from flywheel.engines.table import Engines
from flywheel.engines.vllm.child import Child
from flywheel.engines.vllm.engine import Vllm, environment, on_cpu
from flywheel.pipeline.iteration import Iteration
from flywheel.pipeline.sample import answer_prompts
from flywheel.protocols import Engine, Sampling
from flywheel.recipe.recipe import Exam, Recipe
from flywheel.store.ids import request_seed
from flywheel.store.schema import CHECKPOINTS, EXAMPLES, PROMPTS, now, prompts_frame
from flywheel.store.store import Store
from flywheel.training.run import Job, train
from flywheel.training.settings import Sft
from tests.bars import local_loop
from tests.conftest import write_llama

TARGET = {"vllm": 0.95, "swap": 2.0, "local": local_loop.TARGET}


def nothing() -> pl.DataFrame:
    return PROMPTS.to_frame()


def iteration_of(engine: Engine, home: Path, weights: Path, sampling: Sampling) -> Iteration:
    """An iteration whose policy is `weights`: as much of a run as sampling needs."""
    store = Store(home / "flywheel.duckdb")
    row = {"id": "policy", "kind": "base", "weights": str(weights), "created_at": now()}
    store.add("checkpoints", pl.DataFrame([row], schema=CHECKPOINTS))
    exam: Any = Exam(name="none", prompts=nothing, judge=None)  # type: ignore[arg-type]
    recipe = Recipe(
        name="bar",
        base=str(weights),
        prompts=nothing,
        judges=(),
        keep=(),
        pick=lambda frame: frame,
        train=Sft(),
        exam=exam,
        sampling=sampling,
    )
    return Iteration(recipe, "bar", 1, store, Engines(engine), home, "policy")


class Spent(NamedTuple):
    """What a round took and made; `cpu` counts the processor time of all processes that took part."""

    seconds: float
    cpu: float
    tokens: int


def sampled(iteration: Iteration, engine: Vllm, prompts: pl.DataFrame, seed: int) -> Spent:
    """A round of the sample step's loop, storing included."""
    child = grandchild(engine)
    started, worked = time.perf_counter(), time.process_time() + cpu_of(child)
    ((_, tokens),) = list(answer_prompts(iteration, prompts, "policy", iteration.recipe.sampling, seed, "answer"))[-1:]
    return Spent(time.perf_counter() - started, time.process_time() + cpu_of(child) - worked, tokens)


def grandchild(engine: Vllm) -> int:
    """The process that holds vLLM, below its keeper; 0 before the first load."""
    if engine._child is None:
        return 0
    keeper = engine._child._process.pid
    return int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0])


def cpu_of(pid: int) -> float:
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ratio_to_plain(weights: Path, home: Path, prompts: pl.DataFrame, sampling: Sampling, rounds: int) -> dict[str, Any]:
    """Our tokens per second as a share of plain vLLM's."""
    engine = Vllm()
    iteration = iteration_of(engine, home, weights, sampling)
    arguments = {"model": str(weights), **engine._arguments(on_cpu())}
    plain = Child("plain-vllm", "tests.bars.plain_vllm", arguments, environment(on_cpu(), None))
    params = {"n": sampling.n, "temperature": sampling.temperature, "max_tokens": sampling.max_tokens}
    params |= {"logprobs": 0, "flat_logprobs": True}
    texts: dict[int, set[str]] = {}

    def of_plain(seed: int) -> Spent:
        draw = iteration.draw(sampling, seed)
        seeds = [request_seed(draw, id) for id in prompts["id"]]
        made = plain.ask("generate", chats=prompts["chat"].to_list(), seeds=seeds, params=params)
        texts[seed] = set(made["texts"])
        return Spent(made["seconds"], made["cpu"], made["tokens"])

    rates: list[tuple[Spent, Spent]] = []
    try:
        sampled(iteration, engine, prompts[:16], 0), of_plain(0)  # what only the first call costs
        for seed in range(1, rounds + 1):
            if seed % 2:
                rates.append((sampled(iteration, engine, prompts, seed), of_plain(seed)))
            else:
                theirs = of_plain(seed)
                rates.append((sampled(iteration, engine, prompts, seed), theirs))
    finally:
        engine.close()
        plain.stop()
    of_seed = {"draw": iteration.draw(sampling, 1)}
    stored = set(iteration.store.sql("select text from generations where draw = $draw", of_seed)["text"])
    ratios = [round(ours.tokens / ours.seconds * theirs.seconds / theirs.tokens, 3) for ours, theirs in rates]
    cpu = [ours.tokens / ours.cpu * theirs.cpu / theirs.tokens for ours, theirs in rates]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratios": ratios,
        "ratio_per_cpu_second": round(statistics.median(cpu), 3),
        "tokens_per_second": round(statistics.median(ours.tokens / ours.seconds for ours, _ in rates)),
        "plain_tokens_per_second": round(statistics.median(theirs.tokens / theirs.seconds for _, theirs in rates)),
        "same_texts": round(len(stored & texts[1]) / len(texts[1]), 4),
    }


def seconds_to_serve(weights: Path, home: Path, rounds: int) -> dict[str, Any]:
    """From the end of a training to the first answer of its weights."""
    chat = [{"role": "user", "content": "What is 1+2?"}]
    engine, seconds, how = Vllm(), [], []
    try:
        served = weights
        engine.load(str(served)).chat([chat], Sampling(max_tokens=1), [0])  # before a training comes sampling
        for seed in range(rounds):
            engine.release()
            out = home / f"trained-{seed}"
            settings = Sft(max_steps=2, batch_size=4, lr=1e-3, max_length=128)
            job = Job(
                examples=examples(home), init_from=str(served), reference=None, out=out, settings=settings, seed=seed
            )
            for _ in train(job):
                pass
            started = time.perf_counter()
            engine.load(str(out)).chat([chat], Sampling(max_tokens=1), [seed])
            seconds.append(round(time.perf_counter() - started, 3))
            assert engine.last_load is not None
            how.append(engine.last_load)
            served = out
    finally:
        engine.close()
    return {
        "seconds": max(seconds),
        "all": seconds,
        "how": [load.how for load in how],
        "canary_difference": max(load.canary_difference or 0.0 for load in how),
    }


def examples(home: Path) -> Path:
    """A few training rows."""
    path = home / "examples.parquet"
    rows = [
        {
            "dataset": "bar",
            "position": place,
            "prompt": str(place),
            "chat": [{"role": "user", "content": f"What is {place}+{place}?"}],
            "chosen": str(2 * place),
            "rejected": None,
            "weight": 1.0,
            "origin": "real",
            "generations": [],
        }
        for place in range(16)
    ]
    pl.DataFrame(rows, schema=EXAMPLES).write_parquet(path)
    return path


def main() -> int:
    """Measure and print the bars."""
    options = argparse.ArgumentParser()
    options.add_argument("--prompts", type=int, default=256)
    options.add_argument("--samples", type=int, default=4)
    options.add_argument("--rounds", type=int, default=12)
    options.add_argument("--only", nargs="+", choices=list(TARGET), default=list(TARGET))
    chosen = options.parse_args()
    sampling = Sampling(n=chosen.samples, max_tokens=60)
    chats = local_loop.quickstart_like(chosen.prompts)
    prompts = prompts_frame(({"chat": chat} for chat in chats), "bar")
    value: dict[str, Any] = {"threads": os.environ.get("OMP_NUM_THREADS")}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        weights = write_llama(home / "weights", seed=0, initializer_range=0.1, **local_loop.SIZES)
        if "vllm" in chosen.only:
            value["vllm"] = ratio_to_plain(weights, home, prompts, sampling, chosen.rounds)
        if "swap" in chosen.only:
            value["swap"] = seconds_to_serve(weights, home, 3)
        if "local" in chosen.only:
            measured = local_loop.measure(str(weights), chats, sampling)
            value["local"] = {"ratio": round(measured.ratio, 3), "tokens_per_second": round(measured.local)}
    ok = all(value[part]["ratio"] >= TARGET[part] for part in ("vllm", "local") if part in value)
    ok = ok and ("swap" not in value or value["swap"]["seconds"] < TARGET["swap"])
    print(
        json.dumps({"bar": "engine", "value": value, "target": {part: TARGET[part] for part in chosen.only}, "ok": ok})
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
