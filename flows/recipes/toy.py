"""The machine without a model: ReST-EM on the toy engine, which only pretends to learn. For tests of the machine alone.

Everything but the engine and the trainer is real: the store, the steps, the child process, the exam and the gate.
"""

import os
from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from filters.completions import Completions
from filters.score_filters import Correct
from filters.text_filters import Cap
from flywheel import Exam, Gate, Recipe, Sampling, Sft
from flywheel.store.schema import prompts_frame
from judges.rules.answers import Numeric


@dataclass(frozen=True)
class Sums:
    """PROMPTS that ask for a + b, for every a below `side` and b from `first` to `last`."""

    side: int
    first: int
    last: int

    def __call__(self) -> pl.DataFrame:
        """The prompts, always in the same order."""
        pairs = [(a, b) for a in range(self.side) for b in range(self.first, self.last)]
        chats = [[{"role": "user", "content": f"What is {a}+{b}?"}] for a, b in pairs]
        rows = ({"chat": chat, "reference": str(a + b)} for chat, (a, b) in zip(chats, pairs, strict=True))
        return prompts_frame(rows, "sums")


@dataclass(frozen=True, kw_only=True)
class ToyTraining(Sft):
    """Moves the skill of toy weights half way to the share of right examples."""

    child: ClassVar[str] = "flywheel.training.toy"


right = Numeric(after="Answer:")
recipe = Recipe(
    name="toy",
    base=os.environ.get("FLYWHEEL_TOY_WEIGHTS", "toy-weights"),
    prompts=Sums(side=8, first=0, last=8),
    sampling=Sampling(n=4, temperature=0.7),
    judges=(right,),
    keep=(Correct(), Cap(2)),
    pick=Completions(),
    train=ToyTraining(batch_size=16),
    exam=Exam(name="larger-sums", prompts=Sums(side=20, first=50, last=60), judge=right),
    gate=Gate(promote="better"),
    iterations=2,
    batch=16,
    engine="toy",
)
