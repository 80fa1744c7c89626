"""Supervised fine-tuning: the rows, and TRL's trainer with weights for examples."""

from typing import Any

import polars as pl

from flywheel.errors import TrainingError
from flywheel.training import plan as plans
from flywheel.training.plan import Spec, Task
from flywheel.training.result import CANARY_TOKENS
from flywheel.training.rows import encode, stop_tokens
from flywheel.training.settings import Sft


def prepared(spec: Spec, examples: pl.DataFrame, tokenizer: Any, model: Any) -> Task:
    """Drop what is too long, pack where wanted, and put the rows into their order."""
    from datasets import Dataset

    stops, thoughts = stop_tokens(tokenizer, model.generation_config), spec.settings.thoughts == "train"
    rows = encode(tokenizer, examples["chat"].to_list(), examples["chosen"].to_list(), stops, thoughts)
    ids, labels, weights = rows.input_ids, rows.labels, examples["weight"].fill_null(1.0).to_list()
    longest = plans.longest_row(spec.settings, model)
    kept = plans.fitting([len(row) for row in ids], longest)
    data = Dataset.from_dict(
        {
            "input_ids": [ids[i] for i in kept],
            "labels": [labels[i] for i in kept],
            "weight": [weights[i] for i in kept],
        }
    )
    if isinstance(spec.settings, Sft) and spec.settings.packing:
        data = packed(data, longest, model)
    lengths = [len(row) for row in data["input_ids"]]
    counts = {"examples": len(kept), "dropped": len(ids) - len(kept)}
    canary = ids[0][: min(CANARY_TOKENS, longest)]
    return plans.scheduled(spec, data, lengths, lengths, counts=counts, canary=canary, longest=longest)


def packed(data: Any, longest: int, model: Any) -> Any:
    """Several examples in one row. Without flash attention, they would see each other."""
    from trl.data_utils import pack_dataset

    used = str(getattr(model.config, "_attn_implementation", ""))
    if "flash" not in used:
        raise TrainingError(
            f"packing wants flash attention, and the model runs with `{used}`: on a machine with a GPU install it "
            "and set Sft.trl['model_init_kwargs'] = {'attn_implementation': 'flash_attention_2'}, or turn packing off"
        )
    return pack_dataset(data.select_columns(["input_ids", "labels"]), longest, "bfd")


def trainer(spec: Spec, task: Task, tokenizer: Any, model: Any, arguments: Any, **options: Any) -> Any:
    """TRL's trainer, ready to train."""
    from trl.trainer.sft_trainer import SFTTrainer

    kind = SFTTrainer
    if "weight" in task.data.column_names and any(weight != 1 for weight in task.data["weight"]):
        kind, options["data_collator"] = weighted(tokenizer)
    return kind(model, arguments, train_dataset=task.data, processing_class=tokenizer, **options)


def weighted(tokenizer: Any) -> tuple[Any, Any]:
    """SFTTrainer and collator for weights: each example's log-likelihood times its weight, over all tokens."""
    import torch
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

    plain = DataCollatorForLanguageModeling(
        pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    )

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {**plain(rows), "weight": torch.tensor([row["weight"] for row in rows])}

    class Weighted(SFTTrainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
            scale = inputs.pop("weight").unsqueeze(1)

            def scaled(**call: Any) -> Any:
                outputs = model(**call)
                outputs.log_probs = outputs.log_probs * scale
                return outputs

            return super().compute_loss(scaled, inputs, *args, **options)  # type: ignore[no-untyped-call]

    return Weighted, collate
