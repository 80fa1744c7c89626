"""Self-Rewarding in minutes, where the truth is known: Yuan et al., arXiv 2401.10020, with a model of 0.7 million.

The human data teach the little model to add as careless people do, who forget what is carried, and to grade as careful
people do: to work a sum out and to compare. So it judges better than it writes, and it is its own judge;
reasoning-gym's verifier looks on as `gold` and sits the exam, but keeps and picks nothing.
`self_rewarding` has the paper's constants.
"""

from data.graded import Compared, Graded, Together
from data.procedural import SUMS, Procedural, Worked
from filters.pairs import MaxMin
from filters.score_filters import ScoreGap
from filters.text_filters import Finished
from flywheel import Asked, Dpo, Exam, Gate, Recipe, Sampling, Scratch, Sft, WarmStart
from judges.models.pairwise import Pairwise
from judges.models.rubric import Rubric
from judges.rules.reasoning_gym import Gym

families = (SUMS,)
right = Gym()
rubric = Rubric(
    model=Asked(sampling=Sampling(n=3, temperature=0.7, top_p=0.9, max_tokens=48)),
    template="Grade {question} | {answer}",
    low=1.0,
)
pairwise = Pairwise(
    model=Asked(sampling=Sampling(n=1, temperature=0.7, top_p=0.9, max_tokens=56)),
    template="Compare {question} | {answer_a} | {answer_b}",
    policy="weighted",
    measure="rating",
)
worked = Worked(families=families, each=1000, careless=True)
human = Together(
    sources=(
        *(worked,) * 2,  # rehearsed, so that grading does not crowd it out
        Graded(families=families, judge=rubric, each=5000, seed=1),
        Compared(families=families, judge=rubric, meta=pairwise, each=500, seed=2),
    )
)

recipe = Recipe(
    name="self-rewarding-lab",
    base=Scratch(text=human, hidden=128, layers=3, heads=4, intermediate=384, context=256),
    warm_start=WarmStart(
        examples=human,
        train=Sft(lr=2e-3, max_steps=2400, batch_size=32, max_length=256, warmup=0.05, save_every=600),
    ),
    prompts=Procedural(families=families, part="train", each=6000),
    prompts_per_iteration=2000,
    sampling=Sampling(n=4, temperature=1.0, top_p=0.95, max_tokens=40),
    judges=(rubric,),
    gold=right,
    keep=(Finished(), ScoreGap(2.0)),
    pick=MaxMin(),
    train=Dpo(lr=1e-4, beta=1.0, epochs=3, batch_size=32, max_length=256, warmup=0.1),
    init_from="previous",
    exam=Exam(
        name="sums",
        prompts=Procedural(families=families, part="exam", each=1000),
        judge=right,
        sampling=Sampling(temperature=0.0, max_tokens=40),
    ),
    gate=Gate(promote="not worse"),
    iterations=3,
    engine="local",
)
