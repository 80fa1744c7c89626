"""What a training leaves: an ordinary checkpoint, its canary and its metrics, sealed and published."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

from flywheel.checkpoints import weights
from flywheel.checkpoints.ends import declared, end_tokens
from flywheel.errors import TrainingError
from flywheel.training.network import architecture, stored_dtype
from flywheel.training.plan import Spec, Task
from flywheel.training.settings import Reward, Training

CANARY_TOKENS = 128
SAME = ("loss", "grad_norm", "entropy", "kl", "rewards/chosen", "rewards/rejected", "rewards/accuracies")
METRIC_NAMES = {
    **{name: name for name in (*SAME, "rewards/margins", "logps/chosen", "logps/rejected")},
    "learning_rate": "lr",
    "mean_token_accuracy": "token_accuracy",
    "train_runtime": "runtime",  # seconds since the last start
    "accuracy": "rewards/accuracies",  # a reward model's
    "margin": "rewards/margins",
    "mean_reward": "rewards/mean",
}
"""What TRL tells after a step, and as what we keep it."""


def finish(spec: Spec, task: Task, trainer: Any, tokenizer: Any) -> None:
    """Save, seal and publish; only the first rank writes."""
    tmp = spec.work / "model"
    main = trainer.accelerator.is_main_process
    if main:
        shutil.rmtree(tmp, ignore_errors=True)
    if not isinstance(spec.settings, Reward):
        declare_end(tokenizer, trainer.accelerator.unwrap_model(trainer.model).generation_config)
    model = save(trainer, tmp, spec.settings, stored_dtype(spec.init_from))
    if main:
        tokenizer.save_pretrained(tmp)
        if not isinstance(spec.settings, Reward):  # which has no log-probabilities
            write_canary(model, task.canary, tmp)
        lines = metric_lines(trainer.state.log_history, task)
        (tmp / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        weights.seal(tmp)
        weights.publish(tmp, spec.out)
    trainer.accelerator.wait_for_everyone()


def save(trainer: Any, folder: Path, settings: Training, dtype: Any) -> Any:
    """Write an ordinary checkpoint, adapters merged, as `dtype`; gives back a model with those very weights."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    main = trainer.accelerator.is_main_process
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if main:
            model.save_pretrained(folder, state_dict={name: tensor.to(dtype) for name, tensor in state.items()})
        return architecture(settings).from_pretrained(folder, dtype=dtype) if main else None
    if main:
        model = (model.merge_and_unload() if settings.lora else model).to(dtype)
        model.save_pretrained(folder)
    return model


def declare_end(tokenizer: Any, generation_config: Any) -> None:
    """What was taught as the end of an answer is declared as one, for whoever serves the checkpoint elsewhere."""
    ends = end_tokens(tokenizer, generation_config)
    if ends != declared(tokenizer, generation_config):
        generation_config.eos_token_id = ends


def write_canary(model: Any, token_ids: list[int], folder: Path) -> None:
    """`canary.json`: token ids, and the log-probability in nats of each after the first, by this model."""
    import torch

    model.eval()
    with torch.no_grad():
        ids = torch.tensor([token_ids], device=model.device)
        logits = model(input_ids=ids).logits[0, :-1].float()
        logprobs = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].tolist()
    if not all(math.isfinite(value) for value in logprobs):
        raise TrainingError("the trained model's log-probabilities are not finite numbers; nothing is published")
    (folder / "canary.json").write_text(json.dumps({"token_ids": token_ids, "logprobs": logprobs}))


def metric_lines(history: list[dict[str, float]], task: Task) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    lines: list[dict[str, Any]] = []
    for row in history:
        step = int(row["step"])
        values = {name: row[key] for key, name in METRIC_NAMES.items() if key in row}
        if "loss" in row:
            values["tokens"] = task.tokens[step - 1]
        lines += [{"step": step, "name": name, "value": value} for name, value in values.items()]
    return lines + [{"step": task.plan.steps, "name": name, "value": n} for name, n in task.counts.items()]
