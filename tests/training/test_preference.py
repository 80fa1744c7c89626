"""Preference training: what pairs and labels teach, what the reference is, and that a kill changes nothing."""

import dataclasses
import json
import random
import re
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest

from filters.pairs import RightOverWrong
from flywheel.checkpoints import weights
from flywheel.checkpoints.canary import same_shape
from flywheel.engines.table import open_engine
from flywheel.engines.toy.engine import write_weights
from flywheel.errors import EngineError, PromptTooLong, RecipeError, TrainingError, WeightsError
from flywheel.pipeline.loop import iterate
from flywheel.preflight.recipe import check_recipe
from flywheel.protocols import Sampling
from flywheel.recipe.load import load
from flywheel.recipe.overrides import override
from flywheel.store.schema import EXAMPLES, Chat
from flywheel.store.store import Store
from flywheel.training import run as training
from flywheel.training import worker as child
from flywheel.training.fit import check_examples
from flywheel.training.kinds.preference import labelled
from flywheel.training.plan import Spec, check_options
from flywheel.training.rows import mismatched
from flywheel.training.run import Job, metrics, train
from flywheel.training.settings import Dpo, Kto, Lora, Orpo, Reward, Sft, SimPo, Train, Training

PAIRS = 64
SMALL: dict[str, Any] = {"lr": 1e-3, "batch_size": 8, "epochs": 4, "scheduler": "constant", "warmup": 0}
LORA = Lora(rank=8, target_modules=("q_proj", "v_proj"))
KILLED = Dpo(**SMALL, save_every=5)


def write_pairs(path: Path, weight: float = 1.0, alone: bool = False) -> Path:
    """The right sum over a wrong one that is longer; alone, right and wrong ones are rows of their own."""
    draw = random.Random(0)
    sums = [(draw.randint(1, 99), draw.randint(1, 99)) for _ in range(PAIRS)]
    chats = [[{"role": "user", "content": f"{a}+{b}=?"}] for a, b in sums]
    good, bad = [str(a + b) for a, b in sums], [f"{a + b + draw.randint(1, 9)} or so" for a, b in sums]
    label = [weight] * PAIRS
    if alone:
        chats, good, bad, label = chats * 2, good + bad, [None] * 2 * PAIRS, [1.0] * PAIRS + [-1.0] * PAIRS
    count = len(chats)
    rows = {
        "dataset": ["d"] * count,
        "position": list(range(count)),
        "prompt": [f"p{i}" for i in range(count)],
        "chat": chats,
        "chosen": good,
        "rejected": bad,
        "weight": label,
        "origin": ["synthetic"] * count,
        "generations": [[]] * count,
    }
    pl.DataFrame(rows, schema=EXAMPLES).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.parquet")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in the pairs, as labelled answers."""
    return write_pairs(tmp_path_factory.mktemp("answers") / "answers.parquet", alone=True)


def job(examples: Path, base: Path, out: Path, settings: Training, reference: Path | None = None, **more: Any) -> Job:
    near = None if reference is None else str(reference)
    return Job(examples=examples, init_from=str(base), reference=near, out=out, settings=settings, seed=5, **more)


def here(what: Job) -> dict[str, pl.Series]:
    """Each metric of a training in this process, which has paid for torch already, step by step."""
    work = what.out.parent / f"{what.out.name}.work"
    training._prepare(what, work)
    child.main(str(work / "job.json"))
    last = json.loads((work / "progress.jsonl").read_text().splitlines()[-1])
    assert "error" not in last, last["error"]
    return told(what.out)


def told(out: Path) -> dict[str, pl.Series]:
    rows = metrics(out, "c").sort("step")
    return {str(name): rows.filter(pl.col("name") == name)["value"] for name in rows["name"].unique()}


def likelihoods(folder: Path, examples: Path, side: str) -> pl.Series:
    """Log-probability of each answer on one side of the pairs, its end included, by a plain forward pass."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    sums = []
    for row in pl.read_parquet(examples).iter_rows(named=True):
        prompt = tokenizer.apply_chat_template(row["chat"], add_generation_prompt=True, return_dict=True)["input_ids"]
        answer = [*tokenizer(row[side], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            scores = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        sums.append(float(scores.gather(1, torch.tensor(answer)[:, None]).sum()))
    return pl.Series(sums)


def margin(folder: Path, examples: Path) -> pl.Series:
    """How much likelier the chosen answers are than the rejected ones, in nats."""
    return likelihoods(folder, examples, "chosen") - likelihoods(folder, examples, "rejected")


# What is learned


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        Dpo(**SMALL),
        Dpo(**SMALL, loss=("sigmoid_norm",), beta=5.0, nll_alpha=1.0),
        Dpo(**SMALL, loss=("ipo",)),
        Dpo(**{**SMALL, "lr": 1e-2}, lora=LORA),
        SimPo(**SMALL),
        Orpo(**SMALL),
    ],
    ids=("dpo", "norm-and-nll", "ipo", "lora", "simpo", "orpo"),
)
def test_pairs_make_the_chosen_answers_likelier_than_the_rejected(
    settings: Train, pairs: Path, tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "c1"
    numbers = here(job(pairs, tiny, out, settings, tiny if settings.reference == "init" else None))
    weights.check_weights(str(out))
    assert same_shape(out, tiny)
    gained = margin(out, pairs) - margin(tiny, pairs)
    assert (gained > 0).mean() > 0.9, "the implicit reward ranks the pairs it has seen"
    assert numbers["rewards/accuracies"][-8:].mean() > 0.9
    assert numbers["loss"][-8:].mean() < numbers["loss"][:8].mean()
    assert numbers["examples"][0] == PAIRS and numbers["dropped"][0] == 0
    assert numbers["lengths/chosen"][0] < numbers["lengths/rejected"][0]
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected"):
        assert len(numbers[name]) == len(numbers["grad_norm"]) == 32


@pytest.mark.slow
def test_supervised_training_learns_the_chosen_answers_of_pairs(pairs: Path, tiny: Path, tmp_path: Path) -> None:
    assert here(job(pairs, tiny, tmp_path / "c1", Sft(**SMALL)))["examples"][0] == PAIRS
    assert (likelihoods(tmp_path / "c1", pairs, "chosen") > likelihoods(tiny, pairs, "chosen")).all()


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_labels_make_the_good_answers_likelier_and_the_bad_ones_less_likely(
    lora: Lora | None, answers: Path, pairs: Path, tiny: Path, tmp_path: Path
) -> None:
    settings = Kto(**{**SMALL, "lr": 1e-2 if lora else 1e-3, "batch_size": 16}, lora=lora)
    numbers = here(job(answers, tiny, tmp_path / "c1", settings, tiny))
    for side, sign in (("chosen", 1), ("rejected", -1)):
        before, after = (likelihoods(folder, pairs, side) for folder in (tiny, tmp_path / "c1"))
        assert (sign * (after - before)).mean() > 1
    assert numbers["desirable"][0] == PAIRS and numbers["examples"][0] == 2 * PAIRS
    assert {"kl", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"} <= set(numbers)


@pytest.fixture(scope="module")
def ranked(pairs: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, pl.Series]]:
    """A reward model, and what its training told."""
    out = tmp_path_factory.mktemp("ranked") / "c1"
    return out, here(job(pairs, tiny, out, Reward(**SMALL)))


def scored(folder: Path, examples: Path) -> tuple[list[float], list[float]]:
    frame, model = pl.read_parquet(examples), open_engine("reward").load(str(folder))
    chats: list[Chat] = frame["chat"].to_list()
    good, bad = (model.logprobs(chats, frame[side].to_list()) for side in ("chosen", "rejected"))
    assert {len(numbers) for numbers in good + bad} == {1}
    return [numbers[0] for numbers in good], [numbers[0] for numbers in bad]


@pytest.mark.slow
def test_a_reward_model_ranks_its_pairs(ranked: tuple[Path, dict[str, pl.Series]], pairs: Path) -> None:
    out, numbers = ranked
    good, bad = scored(out, pairs)
    assert sum(a > b for a, b in zip(good, bad, strict=True)) > 0.9 * PAIRS
    assert numbers["rewards/accuracies"][-8:].mean() > 0.9
    assert not (out / "canary.json").exists(), "it has no log-probabilities"


@pytest.mark.slow
def test_lora_and_margins_make_a_reward_model_too(pairs: Path, tiny: Path, tmp_path: Path) -> None:
    far = write_pairs(tmp_path / "far.parquet", weight=3.0)
    settings = Reward(**{**SMALL, "lr": 1e-2}, lora=LORA, margin=True, center_rewards_coefficient=0.01)
    here(job(far, tiny, tmp_path / "c1", settings))
    good, bad = scored(tmp_path / "c1", pairs)
    assert sum(a > b for a, b in zip(good, bad, strict=True)) > 0.9 * PAIRS
    assert pl.Series(good).mean() - pl.Series(bad).mean() > 2  # type: ignore[operator]


# The reference


@pytest.mark.slow
def test_with_the_start_as_reference_the_first_reward_is_nought(pairs: Path, tiny: Path, tmp_path: Path) -> None:
    for lora in (None, LORA):
        settings = Dpo(lr=1e-3, batch_size=PAIRS, lora=lora)
        numbers = here(job(pairs, tiny, tmp_path / f"c{bool(lora)}", settings, tiny))
        assert numbers["rewards/chosen"][0] == pytest.approx(0, abs=1e-5)
        assert numbers["loss"][0] == pytest.approx(0.693147, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_other_weights_can_be_the_reference(
    lora: Lora | None, pairs: Path, tiny: Path, tiny_other: Path, tmp_path: Path
) -> None:
    settings = Dpo(lr=1e-3, batch_size=PAIRS, reference="base", lora=lora)
    numbers = here(job(pairs, tiny, tmp_path / "c1", settings, tiny_other))
    for side in ("chosen", "rejected"):
        apart = likelihoods(tiny, pairs, side) - likelihoods(tiny_other, pairs, side)
        assert numbers[f"rewards/{side}"][0] == pytest.approx(0.1 * apart.mean(), abs=1e-3)  # type: ignore[operator]


@pytest.mark.slow
def test_without_a_reference_all_answers_are_equally_likely(pairs: Path, tiny: Path, tmp_path: Path) -> None:
    settings = Dpo(lr=1e-3, batch_size=PAIRS, reference="none")
    numbers = here(job(pairs, tiny, tmp_path / "c1", settings))
    assert numbers["rewards/margins"][0] == pytest.approx(0.1 * margin(tiny, pairs).mean(), abs=1e-3)  # type: ignore[operator]


@pytest.mark.slow
def test_other_weights_can_be_the_reference_of_kto(
    answers: Path, pairs: Path, tiny: Path, tiny_other: Path, tmp_path: Path
) -> None:
    settings = Kto(lr=1e-3, batch_size=2 * PAIRS, reference="base")
    numbers = here(job(answers, tiny, tmp_path / "c1", settings, tiny_other))
    apart = likelihoods(tiny, pairs, "rejected") - likelihoods(tiny_other, pairs, "rejected")
    assert numbers["rewards/rejected"][0] == pytest.approx(0.1 * apart.mean(), abs=1e-3)  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [Dpo(lora=LORA), Dpo(), Dpo(reference="base"), Kto(), Kto(reference="base"), SimPo(), Orpo()],
    ids=lambda each: f"{type(each).__name__}-{each.reference}",
)
def test_one_copy_of_the_weights_is_in_memory(
    settings: Train, pairs: Path, tiny: Path, tiny_other: Path, tmp_path: Path
) -> None:
    import gc

    from transformers import PreTrainedModel

    def models() -> set[int]:
        gc.collect()
        found = [each for each in gc.get_objects() if isinstance(each, PreTrainedModel) and hasattr(each, "lm_head")]
        return {next(each.parameters()).data_ptr() for each in found}

    before = models()
    near = {"init": str(tiny), "base": str(tiny_other), "none": None}[settings.reference]
    spec = Spec(pairs, str(tiny), near, tmp_path / "c1", tmp_path, settings, 0)
    tokenizer, model = child.load_network(spec)
    task = child.way(spec).prepared(spec, pl.read_parquet(pairs), tokenizer, model)
    trainer = child.build(spec, task, tokenizer, model)
    assert len(models() - before) == 1 and trainer.ref_model is None


class _Toy:
    child: ClassVar[str] = "flywheel.training.toy"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyDpo(_Toy, Dpo):
    """Moves the skill of toy weights as `ToyTraining` does."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToySimPo(_Toy, SimPo):
    """The same without a reference."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "init_from", "expected"),
    [
        (ToyDpo(reference="init"), "previous", "parent"),
        (ToyDpo(reference="base"), "previous", "base"),
        (ToySimPo(), "previous", None),
    ],
    ids=("init", "base", "none"),
)
def test_the_store_knows_the_reference(
    settings: Any, init_from: Any, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_TOY_WEIGHTS", str(write_weights(tmp_path / "weights", 0.3, 1)))
    sizes = ("iterations=2", "prompts.side=4", "exam.prompts.side=2", "gate.promote=always")
    small = load("toy", overrides=sizes)
    recipe = dataclasses.replace(small, keep=(), pick=RightOverWrong(), train=settings, init_from=init_from)
    list(iterate(lambda _: recipe, tmp_path))
    made = Store(tmp_path / "flywheel.duckdb").sql("select * from checkpoints order by created_at").to_dicts()
    base, first, second = made
    assert first["parent"] == base["id"] and second["parent"] == (first if init_from == "previous" else base)["id"]
    assert first["reference"] == (None if expected is None else base["id"])
    assert second["reference"] == {"parent": first["id"], "base": base["id"], None: None}[expected]


# Kills, and several processes


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_bits(pairs: Path, tiny: Path, tmp_path: Path) -> None:
    calm = list(train(job(pairs, tiny, tmp_path / "calm" / "c1", KILLED, tiny)))
    what = job(pairs, tiny, tmp_path / "stormy" / "c1", KILLED, tiny)
    progress = train(what)
    while next(progress).step < 12:
        pass
    progress.close()  # type: ignore[attr-defined]
    assert not what.out.exists()
    assert len(list(what.out.parent.glob(".c1.training/rows/cache-*.arrow"))) == 1, "what the reference said is kept"
    again = list(train(what))
    assert again[0].step > 1, "it went on from a trainer checkpoint"
    assert again[-1] == calm[-1]
    for name in ("model.safetensors", "canary.json"):
        assert (what.out / name).read_bytes() == (tmp_path / "calm" / "c1" / name).read_bytes()
    one, two = (metrics(tmp_path / name / "c1", "c").filter(pl.col("name") != "runtime") for name in ("calm", "stormy"))
    assert one.equals(two)
    assert [path.name for path in what.out.parent.iterdir()] == ["c1"], "nothing is left beside it"


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(pairs: Path, tiny: Path, tiny_other: Path, tmp_path: Path) -> None:
    settings = Dpo(**{**SMALL, "batch_size": 16, "epochs": 1}, reference="base")
    launcher = ("accelerate", "launch", "--cpu", "--num_processes", "2", "--num_machines", "1")
    launcher += ("--mixed_precision", "no")
    list(train(job(pairs, tiny, tmp_path / "two", settings, tiny_other, launcher=launcher)))
    one, two = here(job(pairs, tiny, tmp_path / "one", settings, tiny_other)), told(tmp_path / "two")
    for name in ("loss", "rewards/chosen", "logps/rejected"):
        assert two[name].to_list() == pytest.approx(one[name].to_list(), rel=1e-3)


# The rows


@pytest.mark.slow
def test_trl_would_make_the_same_pairs(pairs: Path, tiny: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    spec = Spec(pairs, str(tiny), str(tiny), tmp_path / "c1", tmp_path, Dpo(), 0)
    tokenizer, model = child.load_network(spec)
    frame = pl.read_parquet(pairs)
    ours = child.way(spec).prepared(spec, frame, tokenizer, model).data
    sides = {
        side: [[{"role": "assistant", "content": text}] for text in frame[side]] for side in ("chosen", "rejected")
    }
    data = Dataset.from_dict({"prompt": frame["chat"].to_list(), **sides})
    config = DPOConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none")
    theirs: Any = DPOTrainer(model, args=config, train_dataset=data, processing_class=tokenizer).train_dataset
    for name in ("prompt_ids", "chosen_ids", "rejected_ids"):
        assert list(theirs[name]) == list(ours[name])


def test_the_answers_that_kto_compares_with_are_strangers_to_their_prompts() -> None:
    assert mismatched(["a", "b", "c", "d"], 4) == [3, 0, 1, 2]
    assert mismatched(["a", "a", "b", "b"], 4) == [2, 3, 0, 1], "turned by one, two would meet their own"
    assert mismatched(["a", "b", "c", "c", "d", "e"], 3) == [2, 0, 1, 5, 3, 4], "never another batch's"
    assert sorted(mismatched(["a"] * 4, 4)) == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_pair_goes_if_one_of_its_answers_is_too_long(pairs: Path, tiny: Path, tmp_path: Path) -> None:
    numbers = here(job(pairs, tiny, tmp_path / "c1", Dpo(max_length=18, max_steps=1), tiny))
    assert 0 < numbers["dropped"][0] < PAIRS and numbers["dropped"][0] + numbers["examples"][0] == PAIRS
    with pytest.raises(AssertionError, match="all 64 examples are longer than 9 tokens; raise max_length"):
        here(job(pairs, tiny, tmp_path / "c2", Dpo(max_length=9), tiny))


@pytest.mark.slow
def test_kto_makes_both_kinds_weigh_the_same(tmp_path: Path) -> None:
    from flywheel.training.plan import arguments

    rows = [([1, 2], [3], True)] * 2 + [([1, 4], [5, 6], False)] * 6
    for settings, good, bad in ((Kto(), 3.0, 1.0), (Kto(desirable_weight=1.0, undesirable_weight=0.5), 1.0, 0.5)):
        spec = Spec(tmp_path, "base", "base", tmp_path, tmp_path, settings, 0)
        made = arguments(spec, labelled(spec, rows, 9), 1)
        assert (made.desirable_weight, made.undesirable_weight) == (good, bad)


# What is said when it cannot be done


def frame(rejected: list[str | None], weight: list[float]) -> pl.DataFrame:
    return pl.DataFrame({"rejected": rejected, "weight": weight}, schema={"rejected": pl.String, "weight": pl.Float64})


@pytest.mark.parametrize("settings", [Dpo(), SimPo(), Orpo(), Reward()], ids=lambda each: type(each).__name__)
def test_pairs_are_wanted_before_the_child_starts(settings: Training) -> None:
    check_examples(frame(["no"], [1.0]), settings)
    with pytest.raises(
        TrainingError, match=f"1 of 2 examples have no rejected answer, and {type(settings).__name__} learns"
    ):
        check_examples(frame(["no", None], [1.0, 1.0]), settings)


@pytest.mark.parametrize(
    ("settings", "good", "bad", "words"),
    [
        (Dpo(), [1.0], [0.5], "weight 0.5, and Dpo takes no other than 1"),
        (Reward(), [1.0], [2.0], "weight 2.0, and Reward without margin takes no other than 1"),
        (Reward(margin=True), [2.0, -1.0], [float("inf")], "a margin must be a finite number"),
        (Kto(), [1.0, -1.0], [0.3], "weight 0.3, and Kto takes 1 for a good answer and -1 for a bad one"),
        (Sft(), [0.0, 2.0], [-1.0], "weight -1.0, and Sft takes finite ones, not below 0"),
        (Sft(packing=True), [1.0], [2.0], "Sft with packing or with another loss takes no other than 1"),
    ],
)
def test_weights_that_a_training_cannot_use(
    settings: Training, good: list[float], bad: list[float], words: str
) -> None:
    check_examples(frame(["no"] * len(good), good), settings)
    with pytest.raises(TrainingError, match=words):
        check_examples(frame(["no"] * len(bad), bad), settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Dpo(loss=()), "train.loss must be one loss at least"),
        (Dpo(loss=("sigmod",)), "train.loss must be a list, each item 'sigmoid' or 'sigmoid_norm' or"),  # type: ignore[arg-type]
        (Dpo(loss_weights=(1.0, 2.0)), "train.loss_weights has 2 numbers for 1 losses"),
        (Dpo(label_smoothing=0.1), "train.label_smoothing has no effect on these losses"),
        (Dpo(loss=("exo_pair",)), "train.label_smoothing must be more than 0 for exo_pair"),
        (Dpo(lr=0.0), "train.lr must be more than 0"),
        (Kto(desirable_weight=0.0), "train.desirable_weight must be more than 0"),
        (Reward(), "train must be a Sft or a Dpo or a Kto or a SimPo or a Orpo, not Reward"),
        (SimPo(), "pick Completions() makes no pairs, and train is SimPo, which learns from them"),
    ],
)
def test_a_recipe_is_told_what_is_wrong_with_its_training(
    settings: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_TOY_WEIGHTS", str(tmp_path))
    toy = load("toy", overrides=("prompts.side=2", "exam.prompts.side=2"))
    check_recipe(dataclasses.replace(toy, pick=RightOverWrong(), train=SimPo()))
    check_recipe(dataclasses.replace(toy, train=Kto()))
    with pytest.raises(RecipeError, match=re.escape(words)):
        check_recipe(dataclasses.replace(toy, train=settings))


def test_settings_of_a_training_can_be_overridden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_TOY_WEIGHTS", str(tmp_path))
    toy = dataclasses.replace(load("toy"), pick=RightOverWrong(), train=Dpo())
    changed = override(toy, ['train.loss=["ipo"]', "train.beta=0.5", "train.reference=base", "train.lora.rank=4"])
    assert changed.train == Dpo(loss=("ipo",), beta=0.5, reference="base", lora=Lora(rank=4))


@pytest.mark.slow
def test_a_reference_too_few_or_too_many(pairs: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="Dpo wants a reference policy"):
        next(train(job(pairs, tiny, tmp_path / "c1", Dpo())))
    with pytest.raises(TrainingError, match="SimPo takes no reference policy"):
        next(train(job(pairs, tiny, tmp_path / "c1", SimPo(), tiny)))
    with pytest.raises(WeightsError, match="no such folder"):
        next(train(job(pairs, tiny, tmp_path / "c1", Dpo(), Path("/nowhere"))))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Dpo(trl={"loss_type": ["ipo"]}), r"Dpo.trl has `loss_type`; set Dpo\.loss instead"),
        (Dpo(trl={"precompute_ref_log_probs": False}), "flywheel sets it itself"),
        (SimPo(trl={"ld_alpha": 0.5}), "SimPo.trl has `ld_alpha`, which is not a setting of transformers' Training"),
        (Kto(trl={"packing": True}), "Kto.trl has `packing`, which is not a setting of TRL's KTOConfig"),
    ],
)
def test_settings_of_trl_that_cannot_be_passed_through(settings: Training, words: str) -> None:
    check_options(Dpo(trl={"ld_alpha": 0.5, "max_grad_norm": 1.0}))
    check_options(Orpo(trl={"max_grad_norm": 1.0, "model_init_kwargs": {}}))
    with pytest.raises(TrainingError, match=words):
        check_options(settings)


@pytest.mark.slow
def test_kto_wants_batches_of_two(answers: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="a micro_batch of 2 at least"):
        here(job(answers, tiny, tmp_path / "c1", Kto(micro_batch=1), tiny))


# The engine


@pytest.mark.slow
def test_a_reward_does_not_hang_on_what_else_is_asked(
    ranked: tuple[Path, dict[str, pl.Series]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from flywheel.engines.local import reward_model as reward

    folder = ranked[0]
    chats: list[Chat] = [
        [{"role": "user", "content": "1+2=?"}],
        [{"role": "user", "content": "say something long"}],
    ] * 3
    said = ["3", "", "no", "a b c d", "3", "7" * 30]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    expected = []
    for chat, answer in zip(chats, said, strict=True):
        whole = [*chat, {"role": "assistant", "content": answer}]
        ids = tokenizer.apply_chat_template(whole, return_dict=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            expected.append([float(model(ids).logits[0, 0])])
    served = open_engine("reward").load(str(folder))
    for tokens in (reward.TOKENS_CPU, 64, 0):
        monkeypatch.setattr(reward, "TOKENS_CPU", tokens)
        assert served.logprobs(chats, said) == [pytest.approx(each, abs=1e-5) for each in expected]
    assert served.logprobs([], []) == []
    served._model.config.pad_token_id = None  # as some are: then rows cannot share a batch
    assert served.logprobs(chats[:2], said[:2]) == [pytest.approx(each, abs=1e-5) for each in expected[:2]]


@pytest.mark.slow
def test_what_a_reward_model_cannot_do(ranked: tuple[Path, dict[str, pl.Series]], tiny: Path, tiny_other: Path) -> None:
    engine = open_engine("reward")
    served = engine.load(str(ranked[0]))
    assert engine.load(str(ranked[0])) is served and served.card.context == 128
    chat: Chat = [{"role": "user", "content": "1+2=?"}]
    with pytest.raises(EngineError, match="a reward model cannot answer"):
        served.chat([chat], Sampling(), [1])
    with pytest.raises(PromptTooLong) as error:
        served.logprobs([chat, chat], ["3", "3" * 200])
    assert error.value.prompts == {1}
    with pytest.raises(WeightsError, match=r"is no reward model: 1 tensors are missing, such as score\.weight"):
        engine.load(str(tiny))
    engine.close()
    with pytest.raises(EngineError, match="no longer served"):
        served.logprobs([chat], ["3"])


def test_rows_of_like_length_share_a_batch() -> None:
    from flywheel.engines.local.reward_model import batches

    assert batches([3, 9, 1, 8], 18) == [[1, 3], [0, 2]]
    assert batches([5, 5], 0) == [[0], [1]]
    assert batches([], 10) == []
