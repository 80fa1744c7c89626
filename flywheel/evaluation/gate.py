"""Which checkpoint becomes the policy."""

from flywheel.evaluation.paired_test import Comparison, tell
from flywheel.recipe.recipe import Gate


def decide(comparison: Comparison, gate: Gate) -> tuple[str, str]:
    """What the gate makes of it, promote | hold | roll back, and why in words."""
    significant = comparison.p < gate.alpha and comparison.difference != 0
    if gate.promote == "always":
        return "promote", f"promoted, as every checkpoint is: {tell(comparison)}"
    if significant and comparison.difference > 0:
        return "promote", f"promoted: {tell(comparison)}"
    if significant:
        return "roll back", f"rolled back, significantly worse at level {gate.alpha:g}: {tell(comparison)}"
    if gate.promote == "not worse":
        return "promote", f"promoted, not significantly worse at level {gate.alpha:g}: {tell(comparison)}"
    return "hold", f"held, not significantly better at level {gate.alpha:g}: {tell(comparison)}"
