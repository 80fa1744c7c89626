"""Meta-Rewarding in minutes, where the truth is known: Wu et al., arXiv 2407.19594, on the model of self_rewarding_lab.

The little model judges its judgments, too: of each problem's most disputed answer they meet in pairs, in both orders,
and the best over the worst of them train the judge, in the first two iterations only. `meta_rewarding` has the paper's
constants.
"""

from dataclasses import replace

from filters.pairs import MaxMin, RhoTiers
from filters.score_filters import MostDisputed, ScoreGap
from filters.text_filters import Finished
from flows.recipes.self_rewarding_lab import pairwise
from flows.recipes.self_rewarding_lab import recipe as self_rewarding
from flywheel import Meta, Recipe

RHO = {1: 0.0, 2: 0.32, 3: 0.32}
meta = Meta(keep=(Finished(), ScoreGap(2.0), MostDisputed()), judge=pairwise, pick=MaxMin())


def recipe(iteration: int) -> Recipe:
    """The judge learns in iterations 1 and 2 only; the tiers of the actor's pairs widen."""
    return replace(
        self_rewarding,
        name="meta-rewarding-lab",
        meta=meta if iteration <= 2 else None,
        pick=RhoTiers(RHO.get(iteration, 0.4)),
    )
