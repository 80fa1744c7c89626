"""Meta-Rewarding in the lab as it is shipped, with the problems and the wordings of `self_rewarding_lab_toy`."""

from dataclasses import replace

from self_rewarding_lab_toy import pairwise
from self_rewarding_lab_toy import recipe as self_rewarding

from flywheel import Recipe, load


def recipe(iteration: int) -> Recipe:
    """What changes from one iteration to the next is as shipped."""
    shipped = load("meta-rewarding-lab", iteration)
    meta = replace(shipped.meta, judge=pairwise) if shipped.meta else None
    return replace(self_rewarding, name=shipped.name, meta=meta, pick=shipped.pick)
