"""Self-Rewarding and Meta-Rewarding: the constants of the papers, and whole turns of them on the toy engine."""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar

import pytest

from data.files import Hub, Jsonl
from data.graded import Together
from data.human import Agreeing, Answered, Oasst
from data.self_instruct import SelfInstruct
from filters.pairs import MaxMin, RhoTiers
from filters.score_filters import MostDisputed
from filters.text_filters import Distinct
from flows.recipes import meta_rewarding, self_rewarding
from flows.recipes.toy import ToyTraining
from flywheel.engines.toy.engine import write_weights
from flywheel.pipeline.loop import iterate
from flywheel.preflight.recipe import check_all, check_recipe
from flywheel.protocols import BASE, POLICY, Asked, Sampling
from flywheel.recipe.load import load, shipped
from flywheel.recipe.recipe import Recipe, WarmStart
from flywheel.store.store import Store
from flywheel.training.settings import Dpo, Sft
from judges.models.pairwise import META, Pairwise
from judges.models.rubric import Rubric

NAMES = ("self-rewarding", "meta-rewarding")
META_TABLE = {1: (0.0, 2500, 1100, 6), 2: (0.32, None, 1000, 4), 3: (0.32, None, None, 2), 4: (0.40, None, None, 2)}


def draws(sampling: Sampling) -> tuple[int, float, float]:
    return sampling.n, sampling.temperature, sampling.top_p


def test_both_are_shipped() -> None:
    assert set(NAMES) <= set(shipped())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("iteration", [1, 2, 3, 4])
def test_a_model_that_stays_writes_what_the_moving_policy_answers_and_judges(name: str, iteration: int) -> None:
    recipe = load(name, iteration)
    assert isinstance(recipe.train, Dpo)
    assert (recipe.init_from, recipe.train.reference, recipe.train.beta) == ("previous", "init", 0.1)
    assert recipe.train.nll_alpha == 0 and recipe.train.loss == ("sigmoid",)
    (judge,) = recipe.judges
    assert isinstance(judge, Rubric) and judge.model.weights == POLICY and judge.scale == (0, 5)
    writer = recipe.proposer
    assert isinstance(writer, SelfInstruct)
    assert writer.model.weights == "meta-llama/Llama-2-70b-chat-hf"
    assert draws(writer.model.sampling) == (1, 0.6, 0.9)
    assert (writer.shots, writer.own_shots, writer.rouge) == (8, 2, 0.7)
    assert recipe.prompts == self_rewarding.people
    assert recipe.exam.judge.model.weights not in (POLICY, BASE, recipe.base)  # type: ignore[union-attr]


def test_the_constants_of_self_rewarding() -> None:
    recipe = load("self-rewarding")
    assert isinstance(recipe.train, Dpo) and recipe.warm_start
    assert (recipe.base, recipe.iterations, recipe.meta) == ("meta-llama/Llama-2-70b-hf", 2, None)
    assert draws(recipe.sampling) == (4, 0.7, 0.9)
    assert draws(recipe.judges[0].model.sampling) == (3, 0.7, 0.9)  # type: ignore[union-attr]
    assert recipe.pick == MaxMin() and recipe.keep == ()
    assert (recipe.train.lr, recipe.train.batch_size) == (1e-6, 16)
    sft = recipe.warm_start.train
    assert (sft.lr, sft.batch_size) == (5.5e-6, 16)
    assert recipe.warm_start.examples == Together(
        sources=(Answered(source=self_rewarding.people), self_rewarding.judgments)
    )
    assert self_rewarding.people == Oasst(messages=Hub("OpenAssistant/oasst1", split="train"), lang="en", limit=3200)


def test_the_constants_of_meta_rewarding_that_stay() -> None:
    recipe = load("meta-rewarding")
    assert recipe.warm_start
    assert (recipe.base, recipe.iterations) == ("meta-llama/Meta-Llama-3-8B-Instruct", 4)
    assert recipe.prompts_per_iteration == 5000  # of 20,000
    assert draws(recipe.sampling) == (7, 0.8, 0.95)
    assert draws(recipe.judges[0].model.sampling) == (11, 0.8, 0.95)  # type: ignore[union-attr]
    assert recipe.keep == (Distinct(),)
    sft = recipe.warm_start.train
    assert (sft.lr, sft.epochs, sft.batch_size, sft.scheduler) == (5e-8, 5, 32, "cosine")
    assert recipe.warm_start.examples == self_rewarding.judgments


@pytest.mark.parametrize("iteration", META_TABLE)
def test_the_constants_of_meta_rewarding_that_change(iteration: int) -> None:
    recipe, (rho, answer_chars, judgment_chars, epochs) = load("meta-rewarding", iteration), META_TABLE[iteration]
    assert recipe.pick == RhoTiers(rho, max_chosen_chars=answer_chars)
    assert isinstance(recipe.train, Dpo)
    assert (recipe.train.lr, recipe.train.batch_size, recipe.train.epochs) == (5e-6, 32, epochs)
    assert (recipe.meta is not None) == (iteration <= 2)
    if recipe.meta:
        assert MostDisputed() in recipe.meta.keep and recipe.meta.pick == MaxMin(max_chosen_chars=judgment_chars)
        meta = recipe.meta.judge
        assert isinstance(meta, Pairwise) and meta.template == META and meta.neighbours is None and meta.hide is None
        assert (meta.policy, meta.measure, meta.model.weights) == ("weighted", "rating", POLICY)


def test_the_schedule_is_data_and_goes_on_as_it_ends() -> None:
    assert [tuple(each) for each in meta_rewarding.SCHEDULE] == list(META_TABLE.values())
    assert load("meta-rewarding", 5) == load("meta-rewarding", 4) != load("meta-rewarding", 3)


@pytest.mark.slow
def test_learning_rates_fall_as_they_do_in_the_papers() -> None:
    import torch
    from transformers import get_scheduler

    def rates(settings: Sft | Dpo, steps: int) -> list[float]:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=settings.lr)
        kwargs = settings.trl["lr_scheduler_kwargs"] if settings.trl else {}
        schedule = get_scheduler(settings.scheduler, optimizer, 0, steps, scheduler_specific_kwargs=kwargs)
        found = []
        for _ in range(steps):
            optimizer.step()
            schedule.step()
            found.append(schedule.get_last_lr()[0])
        return found

    recipe = load("self-rewarding")
    assert recipe.warm_start and isinstance(recipe.train, Dpo)
    assert rates(recipe.warm_start.train, 50)[-1] == pytest.approx(1.1e-6)
    assert rates(recipe.train, 50)[-1] == pytest.approx(1e-7)
    for iteration, (*_, epochs) in META_TABLE.items():
        train = load("meta-rewarding", iteration).train
        assert isinstance(train, Dpo)
        whole = rates(replace(train, trl={}), 100)
        assert rates(train, 10 * epochs) == pytest.approx(whole[: 10 * epochs])
    warm = load("meta-rewarding").warm_start
    assert warm and rates(warm.train, 50) == pytest.approx(rates(replace(warm.train, trl={}), 100)[:50])


@dataclass(frozen=True, kw_only=True)
class ToyDpo(Dpo):
    """Pairs for the trainer that only pretends."""

    child: ClassVar[str] = "flywheel.training.toy"


def trees(path: Path, numbers: range) -> Jsonl:
    """Sums as Open Assistant's first questions, each with a right reply that was ranked above a wrong one."""
    rows = [
        {"message_id": f"{at} {rank}", "parent_id": parent, "text": text, "role": role, "lang": "en", "rank": rank}
        for at in numbers
        for parent, text, role, rank in (
            (None, f"Add these two: what is {at}+{at + 1}?", "prompter", None),
            (f"{at} None", f"Answer: {2 * at + 1}", "assistant", 0),
            (f"{at} None", f"Answer: {2 * at}", "assistant", 1),
        )
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Jsonl(path)


def judgments(folder: Path, judge: Rubric) -> Jsonl:
    """eft.jsonl, made as the docstring of the recipe says."""
    rows = [
        {
            "question": f"What is {at}+1?",
            "reply": f"Answer: {at + 1 + rank}",
            "rank": rank,
            "judgment": f"Score: {score}",
        }
        for at in range(6)
        for rank, score in enumerate((5, 1))
    ]
    (folder / "judged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    worked = Agreeing(rows=Jsonl(folder / "judged.jsonl"), judge=judge)()
    lines = [{"question": chat[0]["content"], "judgment": said} for chat, said in worked.rows()]
    (folder / "eft.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Jsonl(folder / "eft.jsonl", prompt="question", reference="judgment")


def locally(name: str, folder: Path, count: int) -> Callable[[int], Recipe]:
    """The recipe with small data of this machine, toy weights and the toy trainer; all else is the recipe's."""
    weights = str(write_weights(folder / "weights", 0.5, 1))
    people = Oasst(messages=trees(folder / "train.jsonl", range(40)))
    held_out = Oasst(messages=trees(folder / "validation.jsonl", range(50, 60)))
    eft = Answered(source=judgments(folder, Rubric()))

    def at(iteration: int) -> Recipe:
        recipe = load(name, iteration)
        writer, exam, train = recipe.proposer, recipe.exam, recipe.train
        assert isinstance(writer, SelfInstruct)
        own = {field.name: getattr(train, field.name) for field in fields(train)}
        return replace(
            recipe,
            base=weights,
            engine="toy",
            warm_start=WarmStart(examples=Together(sources=(Answered(source=people), eft)), train=ToyTraining()),
            prompts=people,
            proposer=replace(writer, model=replace(writer.model, weights=weights)),
            prompts_per_iteration=count,
            train=ToyDpo(**{**own, "epochs": 1}),
            exam=replace(exam, prompts=held_out, judge=replace(exam.judge, model=Asked(weights=weights))),  # type: ignore[type-var]
        )

    return at


@pytest.mark.parametrize("name", NAMES)
def test_with_local_data_the_recipe_of_every_iteration_is_sound(name: str, tmp_path: Path) -> None:
    at = locally(name, tmp_path, 12)
    check_all(at)
    for iteration in range(1, at(1).iterations + 1):
        check_recipe(at(iteration))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("self-rewarding", 24), ("meta-rewarding", 10)])
def test_a_whole_run_makes_its_pairs(name: str, count: int, tmp_path: Path) -> None:
    at = locally(name, tmp_path, count)
    for _ in iterate(at, tmp_path / "home"):
        pass
    store = Store(tmp_path / "home" / "flywheel.duckdb")
    trained = store.sql("""
        select i.number, p.source, count(*) as n, bool_and(e.rejected is not null and e.chosen != e.rejected) as pairs
        from iterations i join iteration_datasets d on d.iteration = i.id join examples e on e.dataset = d.dataset
        join prompts p on p.id = e.prompt where i.number > 0 group by all order by all""")
    assert trained["pairs"].all()
    writer, judge = at(1).proposer, at(1).judges[0]
    assert writer
    sources = {(number, source) for number, source in trained.select("number", "source").iter_rows()}
    expected = {(number, writer.name) for number in range(1, at(1).iterations + 1)}
    expected |= {(number, f"judge {judge.name}") for number in (1, 2) if name == "meta-rewarding"}
    assert sources == expected
    ancestry = store.sql("""select d.incumbent, c.parent, c.reference from decisions d
                            join checkpoints c on c.id = d.candidate where d.incumbent is not null""")
    assert len(ancestry) == at(1).iterations
    assert (ancestry["incumbent"] == ancestry["parent"]).all() and (ancestry["parent"] == ancestry["reference"]).all()
