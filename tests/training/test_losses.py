"""The losses, TRL's and ours, on log-probabilities whose losses are known."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

from flywheel.training.kinds.losses import orpo, simpo, without_reference
from flywheel.training.plan import Plan, Spec, Task, arguments
from flywheel.training.settings import Dpo, Kto, Orpo, SimPo

pytestmark = pytest.mark.slow  # imports torch and TRL

CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED = -40.0, -60.0, -42.0, -58.0
TOKENS = (20, 30)


class Fake:
    """What TRL's losses ask of their trainer: one process, and settings that TRL's own config has accepted."""

    def __init__(self, tmp_path: Any, settings: Any) -> None:
        counts = {"examples": 2.0, "desirable": 1.0}
        task = Task(None, [0], Plan(2, 1, 2, 1), [1], counts, [], 99)
        spec = Spec(tmp_path, "base", None, tmp_path, tmp_path, settings, 0)
        self.args = arguments(spec, task, parameters=1)
        vars(self).update({key: value for key, value in vars(self.args).items() if key != "device"})
        self.loss_types = getattr(self.args, "loss_type", None)
        self.precompute_ref_logps, self.calculate_KL, self.aux_loss_enabled = True, True, False
        self.model = SimpleNamespace(training=True)
        self._metrics: Any = {"train": defaultdict(list)}
        self._total_train_tokens, self._tp_size = 0, 1
        self.accelerator = SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)

    def _compute_kl_logps(self, model: Any, batch: Any) -> Any:
        return batch["ref_KL_logps"] + 1.0  # a divergence of 1


def batch(sums: tuple[float, ...], tokens: tuple[int, ...] = TOKENS) -> tuple[Any, dict[str, Any]]:
    """A model that finds each answer as likely as `sums` say, and a batch of them after a prompt of two tokens."""
    import torch

    mask = torch.zeros(len(sums), 2 + max(tokens), dtype=torch.long)
    for row, count in zip(mask, tokens, strict=True):
        row[2 : 2 + count] = 1
    share = torch.tensor(sums) / torch.tensor(tokens)
    log_probs = share[:, None] * mask[:, 1:]
    filler = torch.zeros_like(log_probs)
    outputs = SimpleNamespace(log_probs=log_probs, entropy=filler, mean_logits=filler, is_top1=filler.bool())
    inputs = {"input_ids": mask, "attention_mask": torch.ones_like(mask), "completion_mask": mask}
    return (lambda **_: outputs), inputs


def dpo(tmp_path: Any, settings: Dpo) -> float:
    """TRL's loss of one pair."""
    import torch
    from trl.trainer.dpo_trainer import DPOTrainer

    model, inputs = batch((CHOSEN, REJECTED))
    inputs |= {"ref_chosen_logps": torch.tensor([REF_CHOSEN]), "ref_rejected_logps": torch.tensor([REF_REJECTED])}
    trainer: Any = Fake(tmp_path, settings)
    return float(DPOTrainer._compute_loss(trainer, model, inputs, False))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Dpo(), 0.513015),
        (Dpo(loss=("robust",), label_smoothing=0.1), 0.463015),
        (Dpo(loss=("ipo",)), 23.361111),
        (Dpo(loss=("sigmoid_norm",), beta=5.0), 0.360885),
        (Dpo(nll_alpha=1.0), 2.513015),
        (Dpo(loss=("sigmoid", "sft"), loss_weights=(1.0, 0.5)), 1.513015),
    ],
    ids=("sigmoid", "robust", "ipo", "sigmoid_norm", "nll_alpha", "sft"),
)
def test_trl_has_the_losses_of_the_papers(tmp_path: Any, settings: Dpo, expected: float) -> None:
    assert dpo(tmp_path, settings) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("good", "ratio", "expected"), [(True, 2.0, 0.475021), (False, -2.0, 0.425557)])
def test_trl_has_the_loss_of_kto(tmp_path: Any, good: bool, ratio: float, expected: float) -> None:
    import torch
    from trl.trainer.kto_trainer import KTOTrainer

    model, inputs = batch((CHOSEN,), (20,))
    inputs |= {"label": torch.tensor([good]), "ref_logps": torch.tensor([CHOSEN - ratio])}
    inputs |= {"ref_KL_logps": torch.tensor([-50.0])}
    trainer: Any = Fake(tmp_path, Kto())
    loss = KTOTrainer._compute_loss(trainer, model, inputs, False)  # type: ignore[no-untyped-call]
    assert float(loss) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("beta", "gamma", "expected"), [(2.0, 1.6, 1.783901), (2.5, 1.375, 1.600413)])
def test_simpo_is_that_of_its_paper(tmp_path: Any, beta: float, gamma: float, expected: float) -> None:
    import torch

    settings = SimPo(beta=beta, gamma=gamma)
    means = torch.tensor([CHOSEN / TOKENS[0]]), torch.tensor([REJECTED / TOKENS[1]])
    assert float(simpo(*means, settings)) == pytest.approx(expected, abs=1e-5)
    assert ours(tmp_path, settings, CHOSEN, REJECTED) == pytest.approx(expected, abs=1e-5)


def test_orpo_is_that_of_its_paper(tmp_path: Any) -> None:
    import torch

    settings = Orpo(beta=0.1)
    assert float(orpo(torch.tensor(-1.5), torch.tensor(-2.5), settings)) == pytest.approx(1.527106, abs=1e-5)
    assert ours(tmp_path, settings, -1.5 * TOKENS[0], -2.5 * TOKENS[1]) == pytest.approx(1.527106, abs=1e-5)


def test_an_answer_that_is_certain_does_not_end_in_nan() -> None:
    import torch

    answers = torch.tensor([0.0, -200.0], requires_grad=True)
    loss = orpo(answers[0], answers[1], Orpo())
    loss.backward()
    assert torch.isfinite(loss)
    assert answers.grad is not None and torch.isfinite(answers.grad).all()


def ours(tmp_path: Any, settings: Any, chosen: float, rejected: float) -> float:
    """Our loss of one pair by way of the trainer, which also tells what TRL's would."""
    kind = without_reference(settings)
    trainer: Any = Fake(tmp_path, settings)
    trainer._tell = lambda *told: kind._tell(trainer, *told)
    model, inputs = batch((chosen, rejected))
    loss = float(kind._compute_loss(trainer, model, inputs, False))
    told = {name: values[0] for name, values in trainer._metrics["train"].items()}
    assert told["logps/chosen"] == pytest.approx(chosen)
    assert told["rewards/rejected"] == pytest.approx(settings.beta * rejected / TOKENS[1])
    assert told["rewards/margins"] == pytest.approx(told["rewards/chosen"] - told["rewards/rejected"])
    assert told["rewards/accuracies"] == (chosen / TOKENS[0] > rejected / TOKENS[1])
    return loss
