"""Training of toy weights: `python -m flywheel.training.toy JOB.json`, a stand-in for `flywheel.training.worker`.

It takes the same job file, tells its progress in the same way, can be killed at any moment and goes on where it was,
and publishes a sealed folder in one rename. It learns: the skill moves half way to the share of right examples.
"""

import json
import math
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from flywheel.checkpoints import weights
from flywheel.engines.toy.engine import TOKEN, TOY_ANSWER, read_weights, solve, write_weights
from flywheel.errors import FlywheelError
from flywheel.store.ids import content_number

RATE = 0.5


class Seen(NamedTuple):
    """What the training has seen so far: steps, tokens, the weight of all examples and that of the right ones."""

    step: int = 0
    tokens: int = 0
    total: float = 0.0
    right: float = 0.0


def main(path: str) -> int:
    """Train; whatever goes wrong becomes one sentence for the parent."""
    job = json.loads(Path(path).read_text())
    try:
        toy_train(
            Path(job["examples"]),
            job["init_from"],
            Path(job["out"]),
            int(job["seed"]),
            work=Path(job["work"]),
            epochs=float(job["settings"]["epochs"]),
            max_steps=int(job["settings"]["max_steps"]),
            batch_size=int(job["settings"]["batch_size"]),
        )
    except (FlywheelError, OSError, pl.exceptions.PolarsError) as error:
        _tell(Path(job["work"]), error=str(error))
        return 1
    return 0


def toy_train(
    examples: Path,
    init_from: str,
    out: Path,
    seed: int,
    *,
    work: Path | None = None,
    epochs: float = 1.0,
    max_steps: int = -1,
    batch_size: int = 32,
) -> None:
    """Make `out` from `init_from` and a Parquet file of EXAMPLES; what is left in `work` by a killed call is used."""
    content = read_weights(init_from)
    work = work or out.parent / f".{out.name}.training"
    work.mkdir(parents=True, exist_ok=True)
    rows = pl.read_parquet(examples).sort("position").select("chat", "chosen", "weight").to_dicts()
    steps = max_steps if max_steps > 0 else math.ceil(epochs * len(rows) / batch_size)
    seen = _read_seen(work)
    while seen.step < steps:
        time.sleep(float(content.get("train_delay", 0)))
        seen = _step(seen, rows, batch_size)
        _replace(work / "seen.json", json.dumps(seen._asdict()))
        _tell(work, step=seen.step, steps=steps, tokens=seen.tokens)
    _publish(content, seen, seed, work, out)


def _step(seen: Seen, rows: list[dict[str, Any]], batch_size: int) -> Seen:
    start = seen.step * batch_size
    tokens, total, right = seen.tokens, seen.total, seen.right
    for row in (rows[i % len(rows)] for i in range(start, start + batch_size)):
        weight = 1.0 if row["weight"] is None else max(0.0, float(row["weight"]))  # a bad example teaches it nothing
        said = TOY_ANSWER.findall(row["chosen"])
        total += weight
        right += weight * (bool(said) and int(said[-1]) == solve(row["chat"]))
        tokens += 1 + len(TOKEN.findall(row["chosen"]))
    return Seen(seen.step + 1, tokens, total, right)


def _publish(content: dict[str, Any], seen: Seen, seed: int, work: Path, out: Path) -> None:
    share = seen.right / seen.total if seen.total else content["skill"]
    skill = round(content["skill"] + RATE * (share - content["skill"]), 6)
    ready = work / "ready"
    shutil.rmtree(ready, ignore_errors=True)
    origin = content_number(content["seed"], skill, seed) % 2**32
    write_weights(ready, **{**content, "skill": skill, "seed": origin})
    metric = {"step": seen.step, "name": "right", "value": share}
    (ready / "metrics.jsonl").write_text(json.dumps(metric) + "\n")
    weights.seal(ready)
    weights.publish(ready, out)


def _read_seen(work: Path) -> Seen:
    path = work / "seen.json"
    return Seen(**json.loads(path.read_text())) if path.is_file() else Seen()


def _replace(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    os.replace(part, path)


def _tell(work: Path, **line: Any) -> None:
    with (work / "progress.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
