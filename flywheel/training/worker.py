"""The training child: `python -m flywheel.training.worker JOB.json`, also below `accelerate launch`.

Reads the job that `run.py` wrote, trains with TRL, and publishes the checkpoint: safetensors, tokenizer with
its chat template, `metrics.jsonl`, and `canary.json`, the log-probabilities by which an engine proves that it serves
these very weights. Says how far it is, or why it failed, in `progress.jsonl`.
"""

import gc
import json
import math
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.errors import FlywheelError, TrainingError
from flywheel.training import plan as plans
from flywheel.training.kinds import preference, reward, sft
from flywheel.training.network import adapter, load_network
from flywheel.training.plan import Spec, Task
from flywheel.training.result import finish
from flywheel.training.run import COMPLETE
from flywheel.training.settings import Lora, Reward, Sft

DISK_FULL = ("No space left on device", "Disk quota exceeded", "inline_container")  # the last is how torch.save says it


def main(path: str) -> int:
    """Train; whatever goes wrong becomes one sentence for the parent."""
    spec = read(Path(path))
    try:
        train_and_publish(spec)
    except Exception as error:
        traceback.print_exc()
        say(spec.work, error=explain(error, spec))
        return 1
    finally:
        gc.enable()
    return 0


def read(path: Path) -> Spec:
    """The job that the parent wrote."""
    raw = json.loads(path.read_text())
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in raw["settings"].items()
    }
    fields["lora"] = Lora(**raw["settings"]["lora"]) if raw["settings"]["lora"] else None
    settings = next(kind for kind in plans.PARTICULAR if kind.__name__ == raw["kind"])(**fields)
    examples, out, work = (Path(raw[name]) for name in ("examples", "out", "work"))
    return Spec(examples, raw["init_from"], raw["reference"], out, work, settings, int(raw["seed"]))


def train_and_publish(spec: Spec) -> None:
    """From the job to the published checkpoint."""
    gc.disable()  # a quarter of the time of the imports is spent looking for garbage among modules
    plans.check_options(spec.settings)
    tokenizer, model = load_network(spec)
    gc.freeze()
    gc.enable()
    examples = pl.read_parquet(spec.examples).sort("position")
    task = way(spec).prepared(spec, examples, tokenizer, model)
    trainer = build(spec, task, tokenizer, model)
    trainer.train(resume_from_checkpoint=last_checkpoint(spec.work))
    finish(spec, task, trainer, tokenizer)


def way(spec: Spec) -> Any:
    """The module that knows this kind of training."""
    if isinstance(spec.settings, Sft):
        return sft
    return reward if isinstance(spec.settings, Reward) else preference


def build(spec: Spec, task: Task, tokenizer: Any, model: Any) -> Any:
    """TRL's trainer, ready to train on the rows in their order."""
    arguments = plans.arguments(spec, task, model.num_parameters())
    options = {"callbacks": [reporter(spec, task)], "peft_config": adapter(spec.settings)}
    trainer = way(spec).trainer(spec, task, tokenizer, model, arguments, **options)
    if spec.settings.lora and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise TrainingError("LoRA cannot be merged where a model is sharded; launch without FSDP or DeepSpeed")
    trainer.train_dataset = trainer.train_dataset.select(task.places)
    trainer.create_model_card = lambda *_, **__: None  # a README for every trainer checkpoint
    return trainer


def reporter(spec: Spec, task: Task) -> Any:
    """The callback that tells the parent, stops at nan, and marks a trainer checkpoint when it is whole."""
    from accelerate import PartialState
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **options: Any) -> None:
            step, logs = state.global_step, options["logs"]
            for name in ("loss",) if args.fp16 else ("loss", "grad_norm"):
                if not math.isfinite(logs.get(name, 0.0)):
                    raise TrainingError(f"{name} is {logs[name]} at step {step}; a lower lr or more warmup may help")
            if "loss" in logs and state.is_world_process_zero:
                say(spec.work, step=step, steps=task.plan.steps, tokens=task.tokens[step - 1])

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            PartialState().wait_for_everyone()  # every rank writes a part of it
            if state.is_world_process_zero:
                newest = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                (newest / COMPLETE).touch()
                for other in newest.parent.glob("checkpoint-*"):
                    if other != newest:
                        shutil.rmtree(other)

    return Reporter()


def last_checkpoint(work: Path) -> str | None:
    """The newest trainer checkpoint that was written to its end."""
    whole = (work / "trainer").glob(f"checkpoint-*/{COMPLETE}")
    found = sorted((mark.parent for mark in whole), key=lambda path: int(path.name.rpartition("-")[2]))
    return str(found[-1]) if found else None


def say(work: Path, **line: Any) -> None:
    """One line for the parent."""
    with (work / "progress.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def leave(code: int) -> None:
    """End at once: taking down an interpreter with torch in it costs a second."""
    import torch.distributed

    if code == 0 and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def explain(error: Exception, spec: Spec) -> str:
    """One sentence for the user."""
    if isinstance(error, FlywheelError):
        return str(error)
    text = str(error).strip() or "no message"
    whole = "".join(traceback.format_exception(error))
    if any(sign in whole for sign in DISK_FULL):
        return f"the disk of {spec.work.parent} is full; make room and run again to go on"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory: {text.splitlines()[0]}; a smaller micro_batch, max_length or LoRA may fit"
    return f"the training failed: {type(error).__name__}: {text.splitlines()[0]} (log: {spec.work / 'log.txt'})"


if __name__ == "__main__":
    # transformers would import it, for a second, and use it for assisted generation alone.
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    leave(main(sys.argv[1]))
