"""The quickstart as it is shipped, with fewer and easier problems, on the toy engine."""

from dataclasses import replace

from toys import WEIGHTS, easy, short

from flywheel import load

shipped = load("quickstart")
assert shipped.warm_start
families = tuple(easy(family) for family in shipped.prompts.families)
recipe = replace(
    shipped,
    base=WEIGHTS,
    warm_start=replace(
        shipped.warm_start,
        examples=replace(shipped.warm_start.examples, families=families, each=(6, 2)),
        train=short(shipped.warm_start.train),
    ),
    prompts=replace(shipped.prompts, families=families, each=6),
    train=short(shipped.train),
    exam=replace(shipped.exam, prompts=replace(shipped.exam.prompts, families=families, each=5)),
    engine="toy",
)
