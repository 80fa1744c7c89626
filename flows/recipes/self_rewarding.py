"""Self-Rewarding Language Models (Yuan et al., arXiv 2401.10020): the model is its own judge, and learns from that.

The base is taught by people: good replies, and judgments that agree with how people rank replies. Then, twice: a model
that stays the same writes new prompts, the policy answers each of them four times and judges each answer three times,
and learns from the best answer over the worst.

Two things are not on the Hub. One is eft.jsonl: the judge's questions and judgments that agree with people, in its
columns `question` and `judgment`; `data.human.Agreeing` makes such examples of a model's judgments. The other is a chat
template of this base: put that of Llama-2-70b-chat-hf into a folder with its weights, and --set base=FOLDER.
"""

from dataclasses import replace
from types import MappingProxyType

from data.files import Hub, Jsonl
from data.graded import Together
from data.human import Answered, Oasst
from data.self_instruct import SelfInstruct
from filters.pairs import MaxMin
from flywheel import Asked, Dpo, Exam, Gate, Recipe, Sampling, Sft, WarmStart
from judges.models.likelihood import Options
from judges.models.rubric import Rubric

people = Oasst(messages=Hub("OpenAssistant/oasst1", split="train"), limit=3200)
held_out = replace(people, messages=Hub("OpenAssistant/oasst1", split="validation"), limit=None)
judgments = Answered(source=Jsonl("eft.jsonl", prompt="question", reference="judgment"))
writer = Asked(weights="meta-llama/Llama-2-70b-chat-hf", sampling=Sampling(temperature=0.6, top_p=0.9, max_tokens=1024))
# Ours, where the paper has AlpacaEval: right is what another model most likely gives 5 points of 5.
exam = Exam(
    name="oasst-validation",
    prompts=held_out,
    judge=Options(model=Asked(weights="Qwen/Qwen2.5-32B-Instruct"), values=(0.0, 0.0, 0.0, 0.0, 1.0)),
    sampling=Sampling(temperature=0.0, max_tokens=1024),
)

# Lengths, micro_batch and warm-up are not published. Nor are epochs: the authors stopped where a judge saw no gain, in
# steps of 200. Their dropout of 0.1 is left out, as transformers' Llama has none.
sft = Sft(lr=5.5e-6, epochs=2, batch_size=16, micro_batch=2, max_length=2048, scheduler="cosine_with_min_lr")
dpo = Dpo(beta=0.1, lr=1e-6, batch_size=16, micro_batch=2, max_length=2048, scheduler="cosine_with_min_lr")

recipe = Recipe(
    name="self-rewarding",
    base="meta-llama/Llama-2-70b-hf",
    warm_start=WarmStart(
        examples=Together(sources=(Answered(source=people), judgments)),
        train=replace(sft, trl=MappingProxyType({"lr_scheduler_kwargs": {"min_lr": 1.1e-6}})),
    ),
    prompts=people,
    proposer=SelfInstruct(model=writer),
    prompts_per_iteration=8000,  # not published; 3,964 pairs came of them in the first iteration, 6,942 in the second
    sampling=Sampling(n=4, temperature=0.7, top_p=0.9, max_tokens=1024),
    judges=(Rubric(model=Asked(sampling=Sampling(n=3, temperature=0.7, top_p=0.9, max_tokens=512))),),
    keep=(),
    pick=MaxMin(),
    train=replace(dpo, trl=MappingProxyType({"lr_scheduler_kwargs": {"min_lr": 1e-7}})),
    init_from="previous",
    exam=exam,
    gate=Gate(promote="not worse"),  # the paper has none
    iterations=2,
)
