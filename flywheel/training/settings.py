"""How a training goes: one frozen value for each kind of training. `Recipe.train` is one of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from flywheel.protocols import Worked


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters, merged into the weights when the training ends (Hu et al. 2021)."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0  # of Sft alone: where a model is compared with its reference or itself, TRL turns it off
    target_modules: str | tuple[str, ...] = "all-linear"


@dataclass(frozen=True, kw_only=True)
class Training:
    """What the settings of all trainings with TRL share. batch_size counts sequences per step, or pairs of them."""

    child: ClassVar[str] = (
        "flywheel.training.worker"  # the module that runs a Job with these settings, in a process of its own
    )
    lr: float = 1e-5
    epochs: float = 1.0
    max_steps: int = -1  # overrides epochs where positive
    batch_size: int = 32
    micro_batch: int | None = None  # sequences or pairs on a device at once; None: batch_size
    max_length: int = 2048  # tokens of prompt and answer; what is longer is dropped and counted
    warmup: float = 0.03  # share of the steps
    scheduler: str = "cosine"
    weight_decay: float = 0.0
    lora: Lora | None = None
    thoughts: Literal["train", "leave out"] = "train"  # of answers: are they learned, or what follows them alone?
    save_every: int = 200  # steps between the checkpoints from which a killed training goes on
    trl: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))  # passed through to TRL's config


Reference = Literal["none", "init", "base"]
"""The policy that a training stays near: none, the weights that it starts from, or those that the run began with."""

DpoLoss = Literal[
    "sigmoid",
    "sigmoid_norm",
    "hinge",
    "ipo",
    "robust",
    "exo_pair",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
]


@dataclass(frozen=True, kw_only=True)
class Sft(Training):
    """Supervised fine-tuning; the loss is on the completion only. Of pairs it learns the chosen answers."""

    reference: ClassVar[Reference] = "none"
    packing: bool = False  # several examples in one row; wants flash attention, which keeps them apart


@dataclass(frozen=True, kw_only=True)
class Dpo(Training):
    """Learning from pairs by TRL's losses: DPO (Rafailov et al. 2023) and its kin.

    Length-normalised DPO (Tulu 3) is `loss=("sigmoid_norm",), beta=5.0`; iterative RPO (Pang et al. 2024) is
    `nll_alpha=1.0`, and CPO (Xu et al. 2024) that with `reference="none"`. `ipo` divides by length, as TRL does.
    """

    lr: float = 1e-6
    beta: float = 0.1
    loss: tuple[DpoLoss, ...] = ("sigmoid",)
    loss_weights: tuple[float, ...] | None = None  # one for each loss; None: 1 each
    label_smoothing: float = 0.0  # share of pairs that are the wrong way round, for robust, exo_pair and aot
    nll_alpha: float = (
        0.0  # weight of the chosen answers' negative log-likelihood, the mean over the tokens of a micro_batch
    )
    reference: Reference = "init"


@dataclass(frozen=True, kw_only=True)
class Kto(Training):
    """Learning from answers that are good or bad each for itself (Ethayarajh et al. 2024, equation 7).

    An example of weight -1 is bad, any other good; a pair is one of each.
    """

    lr: float = 5e-7
    beta: float = 0.1
    desirable_weight: float | None = None  # None: so that the good and the bad ones weigh the same in sum
    undesirable_weight: float = 1.0
    reference: Literal["init", "base"] = "init"


@dataclass(frozen=True, kw_only=True)
class SimPo(Training):
    """Learning from pairs by their mean log-probability a token, without a reference (Meng et al. 2024).

    The authors tell gamma as a share of beta; here it is the margin itself.
    """

    reference: ClassVar[Reference] = "none"
    lr: float = 6e-7
    beta: float = 2.0
    gamma: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Orpo(Training):
    """Supervised fine-tuning on the chosen answers, and an odds ratio of weight beta (Hong et al. 2024)."""

    reference: ClassVar[Reference] = "none"
    lr: float = 5e-6
    beta: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Reward(Training):
    """A Bradley-Terry reward model, which gives each conversation one number. It cannot answer, so it is no policy."""

    reference: ClassVar[Reference] = "none"
    margin: bool = False  # an example's weight is how far apart the two rewards should be at least
    center_rewards_coefficient: float | None = None  # pulls the rewards' mean to 0 (Eisenstein et al. 2023, equation 2)


Train = Sft | Dpo | Kto | SimPo | Orpo
"""How a recipe trains its policy."""


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """A small Llama-architecture model with its own tokenizer, built here with random weights."""

    text: Worked  # what the tokenizer must be able to spell
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    intermediate: int = 384
    context: int = 256
    seed: int = 0
