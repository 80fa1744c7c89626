"""A reward model by Bradley and Terry's law: the chosen conversation gets a higher number than the rejected one."""

from typing import Any

import polars as pl

from flywheel.engines.local.reward_model import conversations
from flywheel.training import plan as plans
from flywheel.training.kinds.preference import lengths
from flywheel.training.plan import Spec, Task
from flywheel.training.result import CANARY_TOKENS
from flywheel.training.rows import thoughtless
from flywheel.training.settings import Reward


def prepared(spec: Spec, examples: pl.DataFrame, tokenizer: Any, model: Any) -> Task:
    """Whole conversations, tokenized as they are when the model is served; a pair goes if one of them is too long."""
    from datasets import Dataset

    chats = examples["chat"].to_list()
    sides = [examples[side].to_list() for side in ("chosen", "rejected")]
    if spec.settings.thoughts == "leave out":
        sides = [[thoughtless("", answer) for answer in answers] for answers in sides]
    chosen, rejected = (conversations(tokenizer, chats, answers) for answers in sides)
    sizes = [max(len(good), len(bad)) for good, bad in zip(chosen, rejected, strict=True)]
    longest = plans.longest_row(spec.settings, model)
    kept = plans.fitting(sizes, longest)
    columns: dict[str, list[Any]] = {
        "chosen_ids": [chosen[place] for place in kept],
        "rejected_ids": [rejected[place] for place in kept],
    }
    if isinstance(spec.settings, Reward) and spec.settings.margin:
        columns["margin"] = examples["weight"].fill_null(1.0)[kept].to_list()
    return plans.scheduled(
        spec,
        Dataset.from_dict(columns),
        [sizes[place] for place in kept],
        [len(chosen[place]) + len(rejected[place]) for place in kept],
        counts={
            "examples": len(kept),
            "dropped": len(sizes) - len(kept),
            **lengths(columns["chosen_ids"], columns["rejected_ids"]),
        },
        canary=chosen[kept[0]][:CANARY_TOKENS],
        longest=longest,
    )


def trainer(spec: Spec, task: Task, tokenizer: Any, model: Any, arguments: Any, **options: Any) -> Any:
    """TRL's trainer, ready to train."""
    from trl.trainer.reward_trainer import RewardTrainer

    return RewardTrainer(model, arguments, train_dataset=task.data, processing_class=tokenizer, **options)
