"""ReST-EM on MATH. Singh et al., "Beyond Human Data", arXiv 2312.06585.

E-step: 32 solutions of each training problem, of which those with the right final answer are kept, at most 10 for each
problem. M-step: the pretrained base, not the last checkpoint, learns them alone. Three times; the result only samples.
"""

from dataclasses import replace
from pathlib import Path

from data.files import Hub
from filters.completions import Completions
from filters.score_filters import Correct
from filters.text_filters import Cap, Finished
from flywheel import Exam, Gate, Recipe, Sampling, Sft
from judges.rules.math.verify import MathVerify

TEMPLATE = Path(__file__).with_name("rest_em.txt").read_text(encoding="utf-8")  # four worked examples
MATH = "DigitalLearningGmbH/MATH-lighteval"
train = Hub(MATH, split="train", prompt="problem", reference="solution", template=TEMPLATE)
right = MathVerify()

recipe = Recipe(
    name="rest-em",
    base="Qwen/Qwen2.5-1.5B",
    prompts=train,
    sampling=Sampling(n=32, temperature=0.7, top_k=40, max_tokens=1024, stop=("\nProblem:",)),
    judges=(right,),
    keep=(Correct(), Finished(), Cap(10)),
    pick=Completions(),
    # Learning rate, epochs and batch are not published: these are RFT's (arXiv 2308.01825), its closest relative.
    train=Sft(lr=2e-5, epochs=3, batch_size=128, micro_batch=8, max_length=2048, warmup=0.03),
    init_from="base",
    exam=Exam(
        name="math-test",
        prompts=replace(train, split="test"),
        judge=right,
        sampling=Sampling(temperature=0.0, max_tokens=1024, stop=("\nProblem:",)),
    ),
    gate=Gate(promote="not worse"),  # the paper goes on until the test score falls
    iterations=3,
    engine="vllm",
)
