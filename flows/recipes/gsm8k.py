"""ReST-EM (Singh et al., arXiv 2312.06585) on GSM8K (Cobbe et al., arXiv 2110.14168): grade-school word problems.

Without the Hub, from a folder with train.jsonl and test.jsonl:

    flywheel run gsm8k --set prompts.name=FOLDER --set prompts.config=None \\
                       --set exam.prompts.name=FOLDER --set exam.prompts.config=None

or in a copy of this file, from any files (`from data.files import Jsonl`):

    train = Jsonl("questions.jsonl", prompt="question", reference="answer", reference_after="####", template=TEMPLATE)
    test = replace(train, path="held_out.jsonl")
"""

from dataclasses import replace
from pathlib import Path

from data.files import Hub
from flows.recipes import rest_em
from flywheel import Exam, Sampling

TEMPLATE = Path(__file__).with_name("gsm8k.txt").read_text(encoding="utf-8")
train = Hub("openai/gsm8k", split="train", config="main", reference_after="####", template=TEMPLATE)
test = replace(train, split="test")

recipe = replace(
    rest_em.recipe,
    name="gsm8k",
    prompts=train,
    sampling=replace(rest_em.recipe.sampling, max_tokens=512, stop=("\nQuestion:",)),
    train=replace(rest_em.recipe.train, max_length=1024),
    exam=Exam(
        name="gsm8k-test",
        prompts=test,
        judge=rest_em.right,
        sampling=Sampling(temperature=0.0, max_tokens=512, stop=("\nQuestion:",)),
    ),
)
