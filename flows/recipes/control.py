"""The control of `quickstart` (arXiv 2312.06585): the same compute, but answers train at random, right or wrong.

What rises here rises without a verifier; what rises only there is what the verifier is worth.
"""

from dataclasses import replace

from filters.text_filters import Cap, Finished
from flows.recipes import quickstart
from flywheel import Gate

recipe = replace(
    quickstart.recipe,
    name="control",
    keep=(Finished(), Cap(2)),
    gate=Gate(promote="always"),
)
