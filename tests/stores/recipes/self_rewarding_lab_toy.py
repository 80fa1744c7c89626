"""Self-Rewarding in the lab as it is shipped, with fewer and easier problems and a wording that the toy understands."""

from dataclasses import replace

from toy_pairs import ToyDpo
from toys import WEIGHTS, easy, short

from flywheel import load

GRADE = """Grade it.
=== question {mark} ===
{question}
=== answer {mark} ===
{answer}
=== end {mark} ===
Score: 1 to 5"""
COMPARE = """Compare them.
=== question {mark} ===
{question}
=== judgment A {mark} ===
{answer_a}
=== judgment B {mark} ===
{answer_b}
=== end {mark} ===
Verdict: A, B or tie"""

shipped = load("self-rewarding-lab")
assert shipped.warm_start
families = tuple(easy(family) for family in shipped.prompts.families)
worked, _, graded, compared = shipped.warm_start.examples.sources
rubric, pairwise = replace(shipped.judges[0], template=GRADE), replace(compared.meta, template=COMPARE)
human = replace(
    shipped.warm_start.examples,
    sources=(
        *(replace(worked, families=families, each=3),) * 2,
        replace(graded, families=families, judge=rubric, each=3),
        replace(compared, families=families, judge=rubric, meta=pairwise, each=2),
    ),
)
recipe = replace(
    shipped,
    base=WEIGHTS,
    warm_start=replace(shipped.warm_start, examples=human, train=short(shipped.warm_start.train)),
    prompts=replace(shipped.prompts, families=families, each=30),
    prompts_per_iteration=10,
    judges=(rubric,),
    train=short(shipped.train, ToyDpo),
    exam=replace(shipped.exam, prompts=replace(shipped.exam.prompts, families=families, each=6)),
    engine="toy",
)
