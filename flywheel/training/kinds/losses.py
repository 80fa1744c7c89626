"""Losses on pairs that need no reference policy, and TRL's DPO trainer with one of them in place of its own.

TRL 1.16 has them among its experiments alone, where its ORPO takes the likelihood of the prompt into its loss too.
"""

from typing import Any

from flywheel.training.settings import Orpo, SimPo


def simpo(chosen: Any, rejected: Any, settings: SimPo) -> Any:
    """Meng et al. 2024: the loss of each pair, from the mean log-probabilities (nats a token) of its two answers."""
    import torch

    return -torch.nn.functional.logsigmoid(settings.beta * (chosen - rejected) - settings.gamma)


def orpo(chosen: Any, rejected: Any, settings: Orpo) -> Any:
    """Hong et al. 2024: the chosen answer's negative mean log-likelihood, and the ratio of both answers' odds."""
    import torch

    ratio = chosen - rejected - _log_complement(chosen) + _log_complement(rejected)
    return -chosen - settings.beta * torch.nn.functional.logsigmoid(ratio)


def _log_complement(logp: Any) -> Any:
    """log(1 - p). An answer that is certain has no odds, so it is taken for nearly certain."""
    import torch

    return torch.log(-torch.expm1(logp.clamp(max=-1e-6)))


def without_reference(settings: SimPo | Orpo) -> Any:
    """A DPOTrainer that loads and asks no reference policy and has this loss; it tells what DPOTrainer tells."""
    from trl.trainer.dpo_trainer import DPOTrainer

    class WithoutReference(DPOTrainer):
        def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
            mask = inputs["completion_mask"]
            labels = inputs["input_ids"].masked_fill(mask == 0, -100)
            call = {"attention_mask": inputs["attention_mask"], "labels": labels, "fused_lm_head": True}
            outputs = model(input_ids=inputs["input_ids"], use_cache=False, **call)
            sums = outputs.log_probs.sum(1)
            means = sums / mask.sum(1)
            self._tell("logps", *sums.detach().chunk(2))
            self._tell("rewards", *(settings.beta * means.detach()).chunk(2))
            chosen, rejected = means.chunk(2)
            if isinstance(settings, SimPo):
                return simpo(chosen, rejected, settings).mean()
            return orpo(chosen, rejected, settings).mean()

        def _tell(self, what: str, chosen: Any, rejected: Any) -> None:
            told = {"chosen": chosen, "rejected": rejected}
            if what == "rewards":
                told |= {"accuracies": (chosen > rejected).float(), "margins": chosen - rejected}
            for name, values in told.items():
                self._metrics["train"][f"{what}/{name}"].append(self.accelerator.gather(values).mean().item())

    return WithoutReference
