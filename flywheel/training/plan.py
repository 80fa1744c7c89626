"""From the settings of a recipe to those of TRL: sizes, the order of the rows, checks, and TRL's config."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from flywheel.errors import TrainingError
from flywheel.training.rows import order
from flywheel.training.settings import Dpo, Kto, Orpo, Reward, Sft, SimPo, Training

SMALL = 1_000_000_000  # parameters up to which activations are kept rather than computed again
OWN: Mapping[str, str | None] = {  # fields of TRL's configs that `trl` may not set, and what of ours does
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
    **dict.fromkeys(("output_dir", "seed", "data_seed", "dataset_kwargs", "train_sampling_strategy", "save_strategy")),
    "precompute_ref_log_probs": None,
}
PARTICULAR: Mapping[type[Training], Mapping[str, str]] = {
    Sft: {"packing": "packing"},
    Dpo: {"beta": "beta", "loss_type": "loss", "loss_weights": "loss_weights", "label_smoothing": "label_smoothing"},
    Kto: {name: name for name in ("beta", "desirable_weight", "undesirable_weight")},
    SimPo: {},
    Orpo: {},
    Reward: {"center_rewards_coefficient": "center_rewards_coefficient"},
}
"""The same for one kind of training."""


class Spec(NamedTuple):
    """The job file."""

    examples: Path
    init_from: str
    reference: str | None
    out: Path
    work: Path
    settings: Training
    seed: int


class Plan(NamedTuple):
    """The sizes of a training."""

    micro: int  # rows on one device at once
    accumulate: int
    batch: int  # rows of one optimizer step, over all devices
    steps: int


class Task(NamedTuple):
    """What is to be learned: rows, the places of those that are seen one after the other, and what is told of them."""

    data: Any
    places: Sequence[int]
    plan: Plan
    tokens: list[int]  # seen after each step
    counts: dict[str, float]
    canary: list[int]  # a row's tokens
    longest: int  # what a row may have


def longest_row(settings: Training, model: Any) -> int:
    """The longest row in tokens."""
    return min(settings.max_length, getattr(model.config, "max_position_embeddings", None) or settings.max_length)


def fitting(sizes: Sequence[int], longest: int) -> list[int]:
    """Places of the rows that are not too long; TrainingError if all are."""
    kept = [place for place, size in enumerate(sizes) if size <= longest]
    if not kept:
        raise TrainingError(f"all {len(sizes)} examples are longer than {longest} tokens; raise max_length")
    return kept


def seen(tokens: Sequence[int], places: Sequence[int], batch: int) -> list[int]:
    """Tokens after each step, given those of each row."""
    return list(accumulate(tokens[place] for place in places))[batch - 1 :: batch]


def scheduled(spec: Spec, data: Any, sizes: Sequence[int], tokens: Sequence[int], **told: Any) -> Task:
    """Rows in their order; `sizes` are the lengths by which they are batched, `tokens` those that they hold."""
    plan = planned(spec.settings, len(sizes), processes())
    places = order(sizes, plan.steps, plan.batch, spec.seed)
    return Task(data, places, plan, seen(tokens, places, plan.batch), **told)


def planned(settings: Training, rows: int, processes: int) -> Plan:
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


def config(settings: Training) -> Any:
    """The class of TRL's config for this kind of training."""
    if isinstance(settings, Sft):
        from trl.trainer.sft_config import SFTConfig

        return SFTConfig
    if isinstance(settings, Kto):
        from trl.trainer.kto_config import KTOConfig

        return KTOConfig
    if isinstance(settings, Reward):
        from trl.trainer.reward_config import RewardConfig

        return RewardConfig
    from trl.trainer.dpo_config import DPOConfig

    return DPOConfig


def check_options(settings: Training) -> None:
    """Raise TrainingError for a key of `trl` that TRL's config lacks, that has no effect, or that is set elsewhere."""
    from transformers import TrainingArguments

    # The losses of these two are ours: what DPOConfig says of its own would be read by nobody.
    ours = isinstance(settings, (SimPo, Orpo))
    name, kind = type(settings).__name__, TrainingArguments if ours else config(settings)
    known = {field.name for field in fields(kind)} | {"model_init_kwargs"}
    owned = {**OWN, **PARTICULAR[type(settings)]}
    for key in settings.trl:
        if key not in known:
            whose = "transformers'" if ours else "TRL's"
            raise TrainingError(f"{name}.trl has `{key}`, which is not a setting of {whose} {kind.__name__}")
        if key in owned:
            other = f"set {name}.{owned[key]} instead" if owned[key] else "flywheel sets it itself"
            raise TrainingError(f"{name}.trl has `{key}`; {other}")


def arguments(spec: Spec, task: Task, parameters: int) -> Any:
    """TRL's config. What `trl` sets comes last."""
    settings, plan = spec.settings, task.plan
    theirs = {key: value for key, value in settings.trl.items() if key != "model_init_kwargs"}
    ours = {**_common(settings, plan, parameters), **_particular(settings, task.counts)}
    ours |= {"output_dir": str(spec.work / "trainer"), "seed": spec.seed, "max_length": task.longest}
    try:
        return config(settings)(**{**ours, **theirs})
    except (TypeError, ValueError) as error:
        raise TrainingError(f"TRL refuses these settings: {error}") from error


def _common(settings: Training, plan: Plan, parameters: int) -> dict[str, Any]:
    import torch

    gpu = torch.accelerator.is_available()
    return {
        "max_steps": plan.steps,
        "per_device_train_batch_size": plan.micro,
        "gradient_accumulation_steps": plan.accumulate,
        "learning_rate": settings.lr,
        "lr_scheduler_type": settings.scheduler,
        "warmup_steps": int(settings.warmup * plan.steps),  # rounded up, the only step of a short training has lr 0
        "weight_decay": settings.weight_decay,
        "train_sampling_strategy": "sequential",  # the rows come in their order
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


def _particular(settings: Training, counts: Mapping[str, float]) -> dict[str, Any]:
    """What only this kind of training has."""
    named = {theirs: getattr(settings, ours) for theirs, ours in PARTICULAR[type(settings)].items()}
    if isinstance(settings, Sft):
        named["dataset_kwargs"] = {"skip_prepare_dataset": True}  # the rows come tokenized
    elif isinstance(settings, Dpo):
        weights = settings.loss_weights or (1.0,) * len(settings.loss)
        extra = settings.nll_alpha > 0
        named["loss_type"] = [*settings.loss, *["sft"] * extra]
        named["loss_weights"] = [*weights, *[settings.nll_alpha] * extra]
    elif isinstance(settings, Kto) and settings.desirable_weight is None:
        good, bad = counts["desirable"], counts["examples"] - counts["desirable"]
        named["desirable_weight"] = settings.undesirable_weight * bad / good if good and bad else 1.0
    # Whoever has a reference policy asks it once for all rows, and then needs it no more.
    return named if isinstance(settings, (Sft, Reward)) else {**named, "precompute_ref_log_probs": True}
