"""Training in a child process: `train(job)` gives progress and ends when the new checkpoint is complete.

The child (`child.py`, started here or by `accelerate launch`) works in a hidden folder beside `job.out`, which appears
in one rename when everything in it is written and sealed. Killed at any moment and called again with the same job, a
training goes on from its last trainer checkpoint and ends with the same weights. Importing this loads no torch.
"""

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from flywheel.checkpoints import weights
from flywheel.errors import TrainingError
from flywheel.identity import describe
from flywheel.processes.supervised import supervised
from flywheel.root import ROOT
from flywheel.store.ids import content_id
from flywheel.store.schema import METRICS
from flywheel.training import fit
from flywheel.training.settings import Reward, Train, Training

TRAINER_POLL_SECONDS = 0.1
COMPLETE = "complete"  # the file that is written last into a trainer checkpoint
LAST_WORDS = 12  # lines of the child's log that an error quotes
KILLED = 137  # how the keeper reports a child that SIGKILL ended


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training: what to learn, from which weights, and where the result goes."""

    examples: Path  # Parquet with the columns of EXAMPLES
    init_from: str  # a folder or a Hub id
    reference: str | None  # the weights of the policy to stay near; None where the settings want none
    out: Path  # appears only when complete
    settings: Train | Reward
    seed: int
    launcher: tuple[str, ...] = ()  # such as ("accelerate", "launch", "--num_processes", "4"); empty: this python


class TrainingProgress(NamedTuple):
    """Optimizer steps and tokens so far."""

    step: int
    steps: int
    tokens: int


def train(job: Job) -> Iterator[TrainingProgress]:
    """Train in a child process, with progress after each logged step; at once if `job.out` is complete.

    TrainingError, with the child's last words, if it fails. Whoever stops iterating ends the child.
    """
    work = job.out.parent / f".{job.out.name}.training"
    if not weights.sealed(job.out):
        _prepare(job, work)
        yield from _run(job, work)
    shutil.rmtree(work, ignore_errors=True)


def metrics(out: Path, checkpoint: str) -> pl.DataFrame:
    """METRICS of a finished training, named for `checkpoint`."""
    lines = (json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines())
    rows = [(checkpoint, line["step"], line["name"], line["value"]) for line in lines]
    return pl.DataFrame(rows, schema=METRICS, orient="row")


def _prepare(job: Job, work: Path) -> None:
    """Check what can be checked without torch, and write the child's job file."""
    if job.out.exists():
        raise TrainingError(f"{job.out} exists but is not a finished checkpoint; move it away or delete it")
    examples = _read(job.examples)
    fit.check_examples(examples, job.settings)
    weights.check_weights(job.init_from)
    init_from, reference = str(weights.locate(job.init_from).absolute()), _reference(job)
    spec = {
        "examples": str(job.examples.absolute()),
        "init_from": init_from,
        "reference": reference,
        "out": str(job.out.absolute()),
        "work": str(work.absolute()),
        "kind": type(job.settings).__name__,
        "settings": _plain(job.settings),
        "seed": job.seed,
    }
    _claim(work, _fingerprint(job, examples))
    _check_disk(job, work, len(examples))
    (work / "job.json").write_text(json.dumps(spec, indent=1))


def _reference(job: Job) -> str | None:
    """Where the reference policy lies, checked."""
    wanted = job.settings.reference != "none"
    if wanted != (job.reference is not None):
        kind = type(job.settings).__name__
        raise TrainingError(f"{kind} {'wants a' if wanted else 'takes no'} reference policy")
    if job.reference is None:
        return None
    weights.check_weights(job.reference)
    return str(weights.locate(job.reference).absolute())


def _claim(work: Path, fingerprint: str) -> None:
    """Clear the place of all that this job cannot go on from: what another left, or a checkpoint without its end."""
    mark = work / "fingerprint"
    if work.exists() and not (mark.is_file() and mark.read_text() == fingerprint):
        shutil.rmtree(work)
    for checkpoint in work.glob("trainer/checkpoint-*"):
        if not (checkpoint / COMPLETE).exists():
            shutil.rmtree(checkpoint)
    for old in ("model", "progress.jsonl"):
        shutil.rmtree(work / old) if (work / old).is_dir() else (work / old).unlink(missing_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    mark.write_text(fingerprint)


def _fingerprint(job: Job, examples: pl.DataFrame) -> str:
    """Names all that the result depends on: examples, weights, settings, seed, processes."""
    policies = [_content(name) for name in (job.init_from, job.reference) if name is not None]
    return content_id(examples.to_dicts(), policies, describe(job.settings), job.seed, job.launcher)


def _content(name: str) -> str:
    """Names checked weights."""
    folder = weights.locate(name)
    # `check_weights` has just compared a sealed folder with its manifest, quicker to read than gigabytes again.
    return (folder / weights.MANIFEST).read_text() if weights.sealed(folder) else weights.identify(name)


def _read(examples: Path) -> pl.DataFrame:
    """What a training sees of EXAMPLES."""
    try:
        read = pl.read_parquet(examples, columns=["chat", "chosen", "rejected", "weight"])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise TrainingError(f"the examples in {examples} cannot be read: {error}") from error
    if read.is_empty():
        raise TrainingError(f"{examples} has no examples, so there is nothing to train on")
    return read


def _check_disk(job: Job, work: Path, rows: int) -> None:
    """The result is as large as the base; a trainer checkpoint has fp32 weights and two moments; two may exist."""
    settings, full = job.settings, 4 * weights.parameters(job.init_from)
    steps = settings.max_steps if settings.max_steps > 0 else math.ceil(settings.epochs * rows / settings.batch_size)
    saves = steps > settings.save_every and settings.lora is None
    needed = weights.size(job.init_from) + (2 * 3 * full if saves else 0)
    ours = sum(path.stat().st_size for path in work.glob("trainer/*/*") if path.is_file())
    free = weights.free_space(job.out.parent)
    if free + ours < needed:
        raise TrainingError(
            f"the disk of {job.out.parent} is too full: {free / 1e6:,.0f} MB are free, and this training needs "
            f"{(needed - ours) / 1e6:,.0f} MB; make room and run again"
        )


def _plain(settings: Training) -> dict[str, Any]:
    fields = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    lora = dataclasses.asdict(settings.lora) if settings.lora else None
    return {**fields, "lora": lora, "trl": dict(settings.trl)}


def _run(job: Job, work: Path) -> Iterator[TrainingProgress]:
    python = _launcher(job.launcher) or [sys.executable]
    argv = [*python, "-m", job.settings.child, str(work / "job.json")]
    with (work / "log.txt").open("w") as log:
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "env": _environment()}
        with supervised(argv, **options) as child:
            yield from _watch(child, work / "progress.jsonl")
    if not weights.sealed(job.out):
        raise TrainingError(_last_words(work, child.returncode))


def _launcher(launcher: tuple[str, ...]) -> list[str]:
    """The launcher's command; one that is not on the PATH may lie beside this python."""
    if not launcher:
        return []
    beside = Path(sys.executable).parent / launcher[0]
    found = shutil.which(launcher[0]) or (str(beside) if beside.exists() else None)
    if found is None:
        raise TrainingError(f"the launcher `{launcher[0]}` is not installed")
    return [found, *launcher[1:]]


def _environment() -> dict[str, str]:
    """The child finds this package wherever it is started; it asks no network, for `check_weights` found all."""
    root = str(ROOT)
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_VERBOSITY": "error"}
    quiet["TQDM_DISABLE"] = "1"  # its bars would crowd the log
    return {**quiet, **os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}  # nothing of the current folder


def _watch(child: "subprocess.Popen[Any]", path: Path) -> Iterator[TrainingProgress]:
    """What the child reports, until it ends."""
    read = 0
    while True:
        ended = child.poll() is not None
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        whole = [json.loads(line) for line in lines[read:] if line.endswith("\n")]
        read += len(whole)
        yield from (TrainingProgress(**line) for line in whole if "step" in line)
        if ended:
            return
        time.sleep(TRAINER_POLL_SECONDS)


def _last_words(work: Path, code: int | None) -> str:
    """Why the child failed: its own sentence, or the end of its log."""
    progress = work / "progress.jsonl"
    lines = [json.loads(line) for line in progress.read_text().splitlines()] if progress.exists() else []
    said = next((line["error"] for line in lines if "error" in line), None)
    if said:
        return str(said)
    if code == KILLED:
        return "the training was killed (signal 9), which is how a system out of memory ends a process"
    words = (work / "log.txt").read_text(errors="replace").strip().splitlines()[-LAST_WORDS:]
    return "the training failed; its last words:\n" + "\n".join(words)
