"""Learning from pairs with the trainer that only pretends."""

from dataclasses import dataclass
from typing import ClassVar

from flywheel import Dpo


@dataclass(frozen=True, kw_only=True)
class ToyDpo(Dpo):
    """For the trainer that only pretends."""

    child: ClassVar[str] = "flywheel.training.toy"
