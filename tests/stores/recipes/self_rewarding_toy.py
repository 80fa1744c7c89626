"""Self-Rewarding as it is shipped, with files for the data of the Hub, on the toy engine."""

from dataclasses import replace

from toy_pairs import ToyDpo
from toys import WEIGHTS, short

from data.files import Jsonl
from data.graded import Together
from data.human import Answered, Oasst
from flywheel import Recipe, load

people = Oasst(messages=Jsonl("people.jsonl"))
held_out = Oasst(messages=Jsonl("held_out.jsonl"))
judgments = Answered(source=Jsonl("eft.jsonl", prompt="question", reference="judgment"))


def at(name: str, iteration: int) -> Recipe:
    """The shipped recipe of an iteration with less of everything, and weights that the toy can serve."""
    shipped = load(name, iteration)
    assert shipped.warm_start and shipped.proposer
    exam = replace(shipped.exam.judge, model=replace(shipped.exam.judge.model, weights=WEIGHTS))
    return replace(
        shipped,
        base=WEIGHTS,
        warm_start=replace(
            shipped.warm_start,
            examples=Together(sources=(Answered(source=people), judgments)),
            train=short(shipped.warm_start.train),
        ),
        prompts=people,
        proposer=replace(shipped.proposer, model=replace(shipped.proposer.model, weights=WEIGHTS)),
        prompts_per_iteration=5,
        sampling=replace(shipped.sampling, n=3),
        judges=tuple(
            replace(judge, model=replace(judge.model, sampling=replace(judge.model.sampling, n=2)))
            for judge in shipped.judges
        ),
        train=short(shipped.train, ToyDpo),
        exam=replace(shipped.exam, prompts=held_out, judge=exam),
        engine="toy",
    )


def recipe(iteration: int) -> Recipe:
    """That of Self-Rewarding stays the same."""
    return at("self-rewarding", iteration)
