"""From the settings of a recipe to those of TRL: sizes, checks, and the SFTConfig."""

import math
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from flywheel.errors import TrainingError
from flywheel.recipe import Sft

SMALL = 1_000_000_000  # parameters up to which activations are kept rather than computed again
OWN: Mapping[str, str | None] = {  # fields of SFTConfig that `Sft.trl` may not set, and what of `Sft` does
    "learning_rate": "lr",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "micro_batch",
    "gradient_accumulation_steps": "batch_size",
    "warmup_steps": "warmup",
    "lr_scheduler_type": "scheduler",
    "save_steps": "save_every",
    "max_steps": "max_steps",
    "max_length": "max_length",
    "weight_decay": "weight_decay",
    "packing": "packing",
    **dict.fromkeys(("output_dir", "seed", "data_seed", "dataset_kwargs", "train_sampling_strategy", "save_strategy")),
}


class Spec(NamedTuple):
    """The job file."""

    examples: Path
    init_from: str
    out: Path
    work: Path
    settings: Sft
    seed: int


class Plan(NamedTuple):
    """The sizes of a training."""

    micro: int  # sequences on one device at once
    accumulate: int
    batch: int  # sequences of one optimizer step, over all devices
    steps: int


class Task(NamedTuple):
    """What is to be learned: rows in their order, and the tokens seen after each step."""

    data: Any
    plan: Plan
    tokens: list[int]
    weighted: bool
    counts: dict[str, int]


def check_options(settings: Sft) -> None:
    """Raise TrainingError for a key of `Sft.trl` that SFTConfig lacks or that is set elsewhere."""
    from trl.trainer.sft_config import SFTConfig

    known = {field.name for field in fields(SFTConfig)}
    for key in settings.trl:
        if key not in known:
            raise TrainingError(f"Sft.trl has `{key}`, which is not a setting of TRL's SFTConfig")
        if key in OWN:
            other = f"set Sft.{OWN[key]} instead" if OWN[key] else "flywheel sets it itself"
            raise TrainingError(f"Sft.trl has `{key}`; {other}")


def check_packing(model: Any) -> None:
    """Without flash attention, examples in one row would see each other."""
    used = str(getattr(model.config, "_attn_implementation", ""))
    if "flash" not in used:
        raise TrainingError(
            f"packing wants flash attention, and the model runs with `{used}`: on a machine with a GPU install it "
            "and set Sft.trl['model_init_kwargs'] = {'attn_implementation': 'flash_attention_2'}, or turn packing off"
        )


def planned(settings: Sft, rows: int, processes: int) -> Plan:
    """How many steps of which size; fewer rows than a batch make the batch smaller, not the epochs fewer."""
    batch = settings.batch_size
    micro = settings.micro_batch or max(1, batch // processes)
    if batch % (micro * processes):
        raise TrainingError(
            f"batch_size {batch} is not a multiple of micro_batch {micro} on {processes} processes; change one of them"
        )
    if rows < batch:
        micro = min(micro, max(1, rows // processes))
        batch = max(1, rows // (micro * processes)) * micro * processes
    steps = settings.max_steps if settings.max_steps > 0 else max(1, math.ceil(settings.epochs * rows / batch))
    return Plan(micro, batch // (micro * processes), batch, steps)


def processes() -> int:
    """How many processes the launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def arguments(settings: Sft, plan: Plan, seed: int, work: Path, parameters: int) -> Any:
    """The SFTConfig. What `Sft.trl` sets comes last."""
    import torch
    from trl.trainer.sft_config import SFTConfig

    gpu = torch.accelerator.is_available()
    ours = {
        "output_dir": str(work / "trainer"),
        "max_steps": plan.steps,
        "per_device_train_batch_size": plan.micro,
        "gradient_accumulation_steps": plan.accumulate,
        "learning_rate": settings.lr,
        "lr_scheduler_type": settings.scheduler,
        "warmup_steps": int(settings.warmup * plan.steps),  # rounded up, the only step of a short training has lr 0
        "weight_decay": settings.weight_decay,
        "seed": seed,
        "max_length": settings.max_length,
        "packing": settings.packing,
        "dataset_kwargs": {"skip_prepare_dataset": True},  # the rows come tokenized ...
        "train_sampling_strategy": "sequential",  # ... and in their order
        "save_strategy": "steps" if plan.steps > settings.save_every else "no",
        "save_steps": settings.save_every,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would hide that a loss is nan
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not gpu,
        "bf16": gpu and torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        "gradient_checkpointing": gpu and parameters > SMALL,
        "dataloader_pin_memory": gpu,
        "ddp_find_unused_parameters": False,
        "remove_unused_columns": False,
    }
    theirs = {key: value for key, value in settings.trl.items() if key != "model_init_kwargs"}
    try:
        return SFTConfig(**{**ours, **theirs})
    except (TypeError, ValueError) as error:
        raise TrainingError(f"TRL refuses these settings: {error}") from error
