"""Meta-Rewarding as it is shipped, with the files of `self_rewarding_toy`, on the toy engine."""

from self_rewarding_toy import at

from flywheel import Recipe


def recipe(iteration: int) -> Recipe:
    """What changes from one iteration to the next is as shipped."""
    return at("meta-rewarding", iteration)
