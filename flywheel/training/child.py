"""The training child: `python -m flywheel.training.child JOB.json`, also below `accelerate launch`.

Reads the job that `flywheel.training` wrote, trains with TRL, and publishes the checkpoint: safetensors, tokenizer with
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
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.errors import FlywheelError, TrainingError
from flywheel.recipe import Lora, Sft
from flywheel.training import COMPLETE
from flywheel.training import plan as plans
from flywheel.training.plan import Spec, Task
from flywheel.training.result import CANARY_TOKENS, finish, stored_dtype
from flywheel.training.rows import Rows, encode, order, stop_tokens

DISK_FULL = ("No space left on device", "Disk quota exceeded", "inline_container")  # the last is how torch.save says it


def main(path: str) -> int:
    """Train; whatever goes wrong becomes one sentence for the parent."""
    spec = read(Path(path))
    try:
        run(spec)
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
    lora = raw["settings"]["lora"]
    settings = Sft(**{**raw["settings"], "lora": Lora(**lora) if lora else None})
    return Spec(
        Path(raw["examples"]), raw["init_from"], Path(raw["out"]), Path(raw["work"]), settings, int(raw["seed"])
    )


def run(spec: Spec) -> None:
    """From the job to the published checkpoint."""
    gc.disable()  # a quarter of the time of the imports is spent looking for garbage among modules
    plans.check_options(spec.settings)
    tokenizer, model = load(spec)
    gc.freeze()
    gc.enable()
    examples = pl.read_parquet(spec.examples).sort("position")
    chats, answers = examples["chat"].to_list(), examples["chosen"].to_list()
    rows = encode(tokenizer, chats, answers, stop_tokens(tokenizer, model.generation_config))
    longest = room(spec.settings, model)
    task = prepared(spec, rows, importance(examples, spec.settings), longest)
    trainer = build(spec, task, tokenizer, model)
    trainer.train(resume_from_checkpoint=last_checkpoint(spec.work))
    finish(spec, task, trainer, tokenizer, rows.input_ids[0][: min(CANARY_TOKENS, longest)])


def load(spec: Spec) -> tuple[Any, Any]:
    """Tokenizer and model. Weights that train are fp32, also where the arithmetic is bf16; dropout is off."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.utils import disable_dropout_in_model

    tokenizer = AutoTokenizer.from_pretrained(spec.init_from)
    if not tokenizer.chat_template:
        raise TrainingError(f"the tokenizer of {spec.init_from} has no chat template")
    frozen = spec.settings.lora is not None and torch.accelerator.is_available()
    dtype = stored_dtype(spec.init_from) if frozen else torch.float32
    options = {"dtype": dtype, **spec.settings.trl.get("model_init_kwargs", {})}
    model: Any = AutoModelForCausalLM.from_pretrained(spec.init_from, **options)
    disable_dropout_in_model(model)
    for module in model.modules():
        if getattr(module, "attention_dropout", None):
            module.attention_dropout = 0.0
    return tokenizer, model


def room(settings: Sft, model: Any) -> int:
    """The longest row in tokens."""
    return min(settings.max_length, getattr(model.config, "max_position_embeddings", None) or settings.max_length)


def importance(examples: pl.DataFrame, settings: Sft) -> list[float]:
    """The weight of every example."""
    column = examples["weight"].fill_null(1.0).to_list()
    if not all(math.isfinite(weight) and weight >= 0 for weight in column):
        raise TrainingError("an example's weight must be a finite number, not below 0")
    if any(weight != 1 for weight in column) and (settings.packing or settings.trl.get("loss_type", "nll") != "nll"):
        raise TrainingError("examples have weights other than 1, which goes neither with packing nor with another loss")
    return column


def prepared(spec: Spec, rows: Rows, importance: Sequence[float], longest: int) -> Task:
    """Drop what is too long, pack where wanted, and put the rows into their order."""
    from datasets import Dataset

    kept = [i for i, ids in enumerate(rows.input_ids) if len(ids) <= longest]
    if not kept:
        raise TrainingError(f"all {len(rows.input_ids)} examples are longer than {longest} tokens; raise max_length")
    ids, labels = rows.input_ids, rows.labels
    data = Dataset.from_dict(
        {
            "input_ids": [ids[i] for i in kept],
            "labels": [labels[i] for i in kept],
            "weight": [importance[i] for i in kept],
        }
    )
    if spec.settings.packing:
        from trl.data_utils import pack_dataset

        data = pack_dataset(data.select_columns(["input_ids", "labels"]), longest, "bfd")
    lengths = [len(ids) for ids in data["input_ids"]]
    plan = plans.planned(spec.settings, len(lengths), plans.processes())
    places = order(lengths, plan.steps, plan.batch, spec.seed)
    seen = list(accumulate(lengths[place] for place in places))[plan.batch - 1 :: plan.batch]
    counts = {"examples": len(kept), "dropped": len(ids) - len(kept)}
    return Task(data.select(places), plan, seen, any(weight != 1 for weight in importance), counts)


def build(spec: Spec, task: Task, tokenizer: Any, model: Any) -> Any:
    """TRL's trainer, ready to train."""
    from trl.trainer.sft_trainer import SFTTrainer

    if spec.settings.packing:
        plans.check_packing(model)
    arguments = plans.arguments(spec.settings, task.plan, spec.seed, spec.work, model.num_parameters())
    options: dict[str, Any] = {"callbacks": [reporter(spec, task)], "peft_config": adapter(spec.settings.lora)}
    kind = SFTTrainer
    if task.weighted:
        kind, options["data_collator"] = weighted(tokenizer)
    trainer: Any = kind(model, arguments, train_dataset=task.data, processing_class=tokenizer, **options)
    if spec.settings.lora and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise TrainingError("LoRA cannot be merged where a model is sharded; launch without FSDP or DeepSpeed")
    trainer.create_model_card = lambda *_, **__: None  # a README for every trainer checkpoint
    return trainer


def adapter(lora: Lora | None) -> Any:
    """The PEFT configuration, or None for full fine-tuning."""
    if lora is None:
        return None
    from peft import LoraConfig

    modules = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=modules, task_type="CAUSAL_LM"
    )


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
