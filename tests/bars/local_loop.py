"""Bar `local_loop`: the local engine against a hand-written batched `model.generate` loop, in tokens per second.

    python -m tests.bars.local_loop [--prompts N] [--samples N] [--rounds N]

Both answer the same prompts with the same sampling, on the same weights and threads. Rounds alternate, and the ratio is
the median of theirs, so that what else the machine does meets both alike. Tokens are those that the answers have, end
tokens included: what is computed for a row that has finished counts for neither.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flywheel.engines.local.engine import Local
from flywheel.protocols import Sampling
from flywheel.store.schema import Chat
from tests.conftest import write_llama

TARGET = 0.95
BATCH = 64  # sequences in a batch of the loop: what it is fastest with on a CPU
SIZES = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4}


class Measured(NamedTuple):
    """Tokens per second of both, and the ratio of their speeds: on the clock, and in processor time."""

    local: float
    loop: float
    ratio: float
    ratio_per_cpu_second: float


def measure(weights: str, chats: Sequence[Chat], sampling: Sampling, rounds: int = 3) -> Measured:
    """Medians over the rounds."""
    engine = Local()
    model = engine.load(weights)
    loop = hand_written(weights)

    def local() -> int:
        return int(model.chat(chats, sampling, list(range(len(chats))))["tokens"].sum())

    ways: list[Callable[[], int]] = [local, lambda: loop(chats, sampling)]
    model.chat(chats[:2], sampling, [0, 1])  # what only the first call costs
    loop(chats[:2], sampling)
    rates = [tuple(_rates(way) for way in ways) for _ in range(rounds)]
    engine.close()
    return Measured(
        local=statistics.median(ours for (ours, _), _ in rates),
        loop=statistics.median(theirs for _, (theirs, _) in rates),
        ratio=statistics.median(ours / theirs for (ours, _), (theirs, _) in rates),
        ratio_per_cpu_second=statistics.median(ours / theirs for (_, ours), (_, theirs) in rates),
    )


def _rates(way: Callable[[], int]) -> tuple[float, float]:
    """Tokens per second on the clock, and of processor time."""
    started, worked = time.perf_counter(), time.process_time()
    tokens = way()
    return tokens / (time.perf_counter() - started), tokens / (time.process_time() - worked)


def hand_written(weights: str) -> Callable[[Sequence[Chat], Sampling], int]:
    """What one would write without this engine: prompts sorted by length, left-padded batches, `generate`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer: Any = AutoTokenizer.from_pretrained(weights, padding_side="left")
    dtype: Any = "auto" if device == "cuda" else torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(weights, dtype=dtype)
    model.to(device).eval()

    def answer(chats: Sequence[Chat], sampling: Sampling) -> int:
        texts = [tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) for chat in chats]
        tokens, size = 0, max(1, BATCH // sampling.n)
        for start in range(0, len(texts), size):
            batch = sorted(texts, key=len)[start : start + size]
            inputs = tokenizer(batch, add_special_tokens=False, padding=True, return_tensors="pt").to(device)
            with torch.inference_mode():
                made = model.generate(
                    **inputs,
                    do_sample=True,
                    temperature=sampling.temperature,
                    top_k=sampling.top_k,
                    top_p=sampling.top_p,
                    max_new_tokens=sampling.max_tokens,
                    num_return_sequences=sampling.n,
                )
            answers = made[:, inputs["input_ids"].shape[1] :]
            tokenizer.batch_decode(answers, skip_special_tokens=True)
            ended = answers == tokenizer.eos_token_id
            lengths = torch.where(ended.any(1), ended.int().argmax(1) + 1, answers.shape[1])
            tokens += int(lengths.sum())
        return tokens

    return answer


def quickstart_like(prompts: int) -> list[Chat]:
    """Short questions of slightly different lengths."""
    return [[{"role": "user", "content": f"What is {a * 37 % 1000}+{a}?"}] for a in range(prompts)]


def main() -> int:
    """Measure and print the bar."""
    options = argparse.ArgumentParser()
    options.add_argument("--prompts", type=int, default=256)
    options.add_argument("--samples", type=int, default=4)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    sampling = Sampling(n=chosen.samples, max_tokens=60)
    with tempfile.TemporaryDirectory() as folder:
        weights = str(write_llama(Path(folder), seed=0, initializer_range=0.1, **SIZES))
        measured = measure(weights, quickstart_like(chosen.prompts), sampling, chosen.rounds)
    value = {
        "ratio": round(measured.ratio, 2),
        "ratio_per_cpu_second": round(measured.ratio_per_cpu_second, 2),
        "tokens_per_second": round(measured.local),
        "loop_tokens_per_second": round(measured.loop),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    ok = measured.ratio >= TARGET
    print(json.dumps({"bar": "local_loop", "value": value, "target": TARGET, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
