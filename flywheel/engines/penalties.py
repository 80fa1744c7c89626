"""What penalties and a least length make of logits before a token is drawn, as vLLM has them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flywheel.errors import RecipeError
from flywheel.protocols import Sampling

if TYPE_CHECKING:
    import torch

NEUTRAL = Sampling()
NOT_EVERYWHERE = ("min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "min_tokens")
"""Parameters that not every engine has."""


def changed(sampling: Sampling) -> dict[str, float]:
    """Those of them that are not neutral."""
    values = {name: getattr(sampling, name) for name in NOT_EVERYWHERE}
    return {name: value for name, value in values.items() if value != getattr(NEUTRAL, name)}


def refuse(engine: str, sampling: Sampling) -> None:
    """RecipeError where an engine that has none of them is to draw by one."""
    if found := changed(sampling):
        raise RecipeError(f"the {engine} engine has no {', '.join(found)}: leave it out, or use another")


def needed(sampling: Sampling) -> bool:
    """Whether logits depend on what was written."""
    return bool(changed(sampling).keys() - {"min_p"})


class Penalties:
    """Which tokens each row of a batch has in its prompt and its answer, and what they cost."""

    def __init__(self, sampling: Sampling, ends: Sequence[int], logits: "torch.Tensor") -> None:
        import torch

        self._sampling = sampling
        self._ends = torch.tensor(ends, dtype=torch.long, device=logits.device)
        self._counts = logits.new_zeros(logits.shape).int()
        self._seen = self._counts.bool()

    def begin(self, rows: "torch.Tensor", prompts: Sequence[Sequence[int]]) -> None:
        """These rows answer new prompts."""
        self._counts[rows] = 0
        self._seen[rows] = False
        for row, prompt in zip(rows.tolist(), prompts, strict=True):
            self._seen[row, self._ends.new_tensor(prompt)] = True

    def wrote(self, tokens: "torch.Tensor") -> None:
        """Each row has one more token."""
        self._counts.scatter_add_(1, tokens[:, None], self._counts.new_ones((len(tokens), 1)))
        self._seen.scatter_(1, tokens[:, None], True)

    def keep(self, rows: "torch.Tensor") -> None:
        """These rows alone go on."""
        self._counts, self._seen = self._counts[rows], self._seen[rows]

    def applied(self, logits: "torch.Tensor", steps: "torch.Tensor") -> "torch.Tensor":
        """The logits from which each row's token number `steps` is drawn."""
        sampling, changed = self._sampling, logits.float().clone()
        if sampling.min_tokens:
            early = (steps < sampling.min_tokens).nonzero()
            changed[early, self._ends] = float("-inf")
        if sampling.repetition_penalty != 1:
            penalty = sampling.repetition_penalty
            changed = changed.where(~self._seen, (changed / penalty).where(changed > 0, changed * penalty))
        changed -= sampling.frequency_penalty * self._counts
        changed -= sampling.presence_penalty * (self._counts > 0)
        return changed
