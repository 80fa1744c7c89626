"""Learning from preferences: pairs for DPO, SimPO and ORPO, labelled answers for KTO, and TRL's trainers for them."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from flywheel.errors import TrainingError
from flywheel.training import plan as plans
from flywheel.training.kinds.losses import without_reference
from flywheel.training.network import network
from flywheel.training.plan import Spec, Task
from flywheel.training.result import CANARY_TOKENS
from flywheel.training.rows import encode, mismatched, on_disk, stop_tokens
from flywheel.training.settings import Kto, Orpo, SimPo

Tokens = list[int]


def prepared(spec: Spec, examples: pl.DataFrame, tokenizer: Any, model: Any) -> Task:
    """The rows that are not too long, tokenized as TRL's trainers want them, in their order."""
    stops, longest = stop_tokens(tokenizer, model.generation_config), plans.longest_row(spec.settings, model)

    def split(frame: pl.DataFrame, answer: str) -> list[tuple[Tokens, Tokens]]:
        thoughts = spec.settings.thoughts == "train"
        return encode(tokenizer, frame["chat"].to_list(), frame[answer].to_list(), stops, thoughts).split

    chosen = split(examples, "chosen")
    if isinstance(spec.settings, Kto):
        good = (examples["weight"].fill_null(1.0) > 0).to_list()
        pairs = examples.drop_nulls("rejected")
        bad = split(pairs, "rejected") if len(pairs) else []
        rows = [(*row, label) for row, label in zip(chosen, good, strict=True)] + [(*row, False) for row in bad]
        return labelled(spec, rows, longest)
    rejected = split(examples, "rejected")
    return paired(spec, [(*row, bad) for row, (_, bad) in zip(chosen, rejected, strict=True)], longest)


def paired(spec: Spec, rows: Sequence[tuple[Tokens, Tokens, Tokens]], longest: int) -> Task:
    """Prompts with a chosen and a rejected answer; a pair goes if one of its answers is too long."""
    from datasets import Dataset

    sizes = [len(prompt) + max(len(good), len(bad)) for prompt, good, bad in rows]
    kept = plans.fitting(sizes, longest)
    prompts, chosen, rejected = zip(*(rows[place] for place in kept), strict=True)
    columns: dict[str, Any] = {"prompt_ids": prompts, "chosen_ids": chosen, "rejected_ids": rejected}
    if spec.reference is None:  # a policy for which all answers are equally likely
        columns |= dict.fromkeys(("ref_chosen_logps", "ref_rejected_logps"), [0.0] * len(kept))
    return plans.scheduled(
        spec,
        Dataset.from_dict(columns),
        [sizes[place] for place in kept],
        [2 * len(prompt) + len(good) + len(bad) for prompt, good, bad in zip(prompts, chosen, rejected, strict=True)],
        counts={"examples": len(kept), "dropped": len(rows) - len(kept), **lengths(chosen, rejected)},
        canary=(prompts[0] + chosen[0])[:CANARY_TOKENS],
        longest=longest,
    )


def labelled(spec: Spec, rows: Sequence[tuple[Tokens, Tokens, bool]], longest: int) -> Task:
    """Answers that are good or bad, each with another's answer from its batch, from which KTO reads the divergence.

    They are shuffled and not put together by length, which might tell the good from the bad.
    """
    from datasets import Dataset

    sizes = [len(prompt) + len(answer) for prompt, answer, _ in rows]
    kept = plans.fitting(sizes, longest)
    good, bad = ([rows[place][1] for place in kept if rows[place][2] is label] for label in (True, False))
    task = plans.scheduled(
        spec,
        None,
        [1] * len(kept),
        [sizes[place] for place in kept],
        counts={"examples": len(kept), "dropped": len(rows) - len(kept), "desirable": len(good), **lengths(good, bad)},
        canary=(rows[kept[0]][0] + rows[kept[0]][1])[:CANARY_TOKENS],
        longest=longest,
    )
    if task.plan.micro < 2:
        raise TrainingError("Kto compares the answers of a batch: it wants 2 examples and a micro_batch of 2 at least")
    prompts, answers, labels = zip(*(rows[kept[place]] for place in task.places), strict=True)
    strangers = mismatched([str(prompt) for prompt in prompts], task.plan.micro)
    columns = {
        "prompt_ids": prompts,
        "completion_ids": answers,
        "KL_completion_ids": [answers[place] for place in strangers],
        "label": labels,
    }
    return task._replace(data=Dataset.from_dict(columns), places=range(len(prompts)))


def lengths(chosen: Sequence[Tokens], rejected: Sequence[Tokens]) -> dict[str, float]:
    """Mean tokens of the answers on either side that has any."""
    sides = {"lengths/chosen": chosen, "lengths/rejected": rejected}
    return {name: sum(map(len, answers)) / len(answers) for name, answers in sides.items() if answers}


def trainer(spec: Spec, task: Task, tokenizer: Any, model: Any, arguments: Any, **options: Any) -> Any:
    """TRL's trainer, ready to train. The reference has told what it has to say, and only the model is in memory."""
    settings = spec.settings
    kind = _kind(spec)
    if not isinstance(settings, (SimPo, Orpo)) and spec.reference not in (None, spec.init_from):
        options["ref_model"] = network(str(spec.reference), settings, frozen=True)
    rows = on_disk(task.data, spec.work / "rows")
    made = kind(model, args=arguments, train_dataset=rows, processing_class=tokenizer, **options)
    made.ref_model = None
    made.accelerator.free_memory()  # it holds the reference too; the model is not prepared yet
    return made


def _kind(spec: Spec) -> Any:
    """The class of TRL's trainer, which takes our rows as they are."""
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.kto_trainer import KTOTrainer

    if isinstance(spec.settings, (SimPo, Orpo)):
        kind: Any = without_reference(spec.settings)
    else:
        kind = KTOTrainer if isinstance(spec.settings, Kto) else DPOTrainer
    changed = {"_prepare_dataset": _as_it_is}
    if spec.reference is None:
        changed["_precompute_ref_logps"] = _as_it_is
    return type(kind.__name__, (kind,), changed)


def _as_it_is(_: Any, dataset: Any, *__: Any) -> Any:
    return dataset
