"""ReST-EM in minutes, on a laptop: Singh et al., "Beyond Human Data", arXiv 2312.06585, with a model of half a million.

The human data are 350 worked sums and 650 reversed words, from which a model with random weights starts. Then it learns
from itself: four answers to each of 3000 new problems, of which those that reasoning-gym's verifier finds right train
the warm-started base again, at most two for each problem. `control` is the same without a verifier.
"""

from data.procedural import SUMS, WORDS, Procedural, Worked
from filters.completions import Completions
from filters.score_filters import Correct
from filters.text_filters import Cap, Finished
from flywheel import Exam, Gate, Recipe, Sampling, Scratch, Sft, WarmStart
from judges.rules.reasoning_gym import Gym

families = (SUMS, WORDS)
worked = Worked(families=families, each=(350, 650))
right = Gym()
sft = Sft(lr=2e-3, max_steps=800, batch_size=24, max_length=96, warmup=0.05, save_every=400)

recipe = Recipe(
    name="quickstart",
    base=Scratch(text=worked, hidden=128, layers=2, heads=4, intermediate=384, context=96),
    warm_start=WarmStart(examples=worked, train=sft),
    prompts=Procedural(families=families, part="train", each=1500),
    sampling=Sampling(n=4, temperature=0.7, top_k=40, max_tokens=36),
    judges=(right,),
    keep=(Correct(), Finished(), Cap(2)),
    pick=Completions(),
    train=sft,
    init_from="base",
    exam=Exam(
        name="held-out",
        prompts=Procedural(families=families, part="exam", each=300),
        judge=right,
        sampling=Sampling(temperature=0.0, max_tokens=36),
    ),
    gate=Gate(promote="not worse"),
    iterations=3,
    engine="local",
)
