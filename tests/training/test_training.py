"""Training: what is learned, that a kill changes nothing, and what is said when it cannot be done."""

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flywheel.checkpoints import weights
from flywheel.errors import TrainingError, WeightsError
from flywheel.store.schema import EXAMPLES, METRICS
from flywheel.training import fit
from flywheel.training import run as training
from flywheel.training import worker as child
from flywheel.training.kinds import sft
from flywheel.training.network import load_network
from flywheel.training.plan import Spec, planned
from flywheel.training.rows import IGNORED, encode, end_of_turn, order, stop_tokens, thoughtless
from flywheel.training.run import Job, TrainingProgress, metrics, train
from flywheel.training.settings import Lora, Sft
from flywheel.training.worker import explain, last_checkpoint
from tests import ROOT
from tests.bars.kill import gone

SETTINGS = Sft(lr=1e-3, epochs=10, batch_size=8, save_every=7, scheduler="constant", warmup=0)
STEPS = 120
PARENT = """
import pathlib, sys
from tests.training.test_training import job, train
for progress in train(job(*map(pathlib.Path, sys.argv[1:]))):
    print(progress.step, flush=True)
"""


def write_examples(path: Path, n: int = 96, weight: float = 1.0) -> Path:
    draw = random.Random(0)
    pairs = [(draw.randint(1, 999), draw.randint(1, 999)) for _ in range(n)]
    rows = {
        "dataset": ["d"] * n,
        "position": list(range(n)),
        "prompt": [f"p{i}" for i in range(n)],
        "chat": [[{"role": "user", "content": f"{a}+{b}=?"}] for a, b in pairs],
        "chosen": [str(a + b) for a, b in pairs],
        "rejected": [None] * n,
        "weight": [weight] * n,
        "origin": ["synthetic"] * n,
        "generations": [[f"g{i}"] for i in range(n)],
    }
    pl.DataFrame(rows, schema=EXAMPLES).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_examples(tmp_path_factory.mktemp("examples") / "examples.parquet")


def job(examples: Path, base: Path, out: Path, settings: Sft = SETTINGS, **more: Any) -> Job:
    return Job(examples=examples, init_from=str(base), reference=None, out=out, settings=settings, seed=5, **more)


@pytest.fixture(scope="module")
def trained(
    examples: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[TrainingProgress]]:
    """An undisturbed training, and what it said."""
    out = tmp_path_factory.mktemp("trained") / "c1"
    return out, list(train(job(examples, tiny, out)))


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


def here(what: Job) -> dict[str, Any]:
    """The last thing that the child said, run in this process, which has paid for torch already."""
    work = what.out.parent / "work"
    training._prepare(what, work)
    child.main(str(work / "job.json"))
    last: dict[str, Any] = json.loads((work / "progress.jsonl").read_text().splitlines()[-1])
    return last


def logprobs(folder: Path, token_ids: list[int]) -> list[float]:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([token_ids])
    with torch.no_grad():
        scores = model(ids).logits[0, :-1].log_softmax(-1)
    return [float(value) for value in scores.gather(1, ids[0, 1:, None])[:, 0]]


# What is learned


def test_left_out_thoughts_are_cut_off_and_one_that_the_prompt_begins_is_closed() -> None:
    assert thoughtless("<user>1+2=?<assistant>", "<think>hm</think>\n\n3") == "3"
    assert thoughtless("<user>1+2=?<assistant>", " 3") == " 3"
    assert thoughtless("<user>1+2=?<assistant><think>\n", "hm</think>\n\n3") == "\n</think>\n\n3"
    with pytest.raises(TrainingError, match="a thought without an end"):
        thoughtless("<user>1+2=?<assistant>", "<think>hm")


def test_an_endless_thought_is_refused_before_the_training_where_thoughts_are_left_out() -> None:
    rows = pl.DataFrame({"chosen": ["3", "<think>hm"], "rejected": [None, None], "weight": [1.0, 1.0]})
    fit.check_examples(rows, Sft())
    with pytest.raises(TrainingError, match="1 of 2 examples have a thought without an end"):
        fit.check_examples(rows, Sft(thoughts="leave out"))


@pytest.mark.slow
def test_thoughts_are_learned_or_left_out(tokenizer: Any) -> None:
    chats, said = [[{"role": "user", "content": "1+2=?"}]] * 2, ["<think>1, 2</think>\n3", "3"]
    stops = [tokenizer.eos_token_id]
    whole, rest = encode(tokenizer, chats, said, stops), encode(tokenizer, chats, said, stops, thoughts=False)
    assert len(whole.input_ids[0]) > len(whole.input_ids[1]) and whole.input_ids[1] == rest.input_ids[1]
    assert rest.input_ids[0] == rest.input_ids[1] and rest.starts == whole.starts


@pytest.mark.slow
def test_the_loss_is_on_what_an_engine_would_have_sampled(tokenizer: Any) -> None:
    chats = [[{"role": "user", "content": "1+2=?"}], [{"role": "user", "content": "hello"}]]
    rows = encode(tokenizer, chats, ["3", " bye\n"], [tokenizer.eos_token_id])
    for chat, answer, ids, labels in zip(chats, ["3", " bye\n"], rows.input_ids, rows.labels, strict=True):
        seen = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
        sampled = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        assert ids == seen + sampled
        assert labels == [IGNORED] * len(seen) + sampled


@pytest.mark.slow
def test_trl_would_make_the_same_rows(tokenizer: Any, tiny: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    chats = [[{"role": "system", "content": "add"}, {"role": "user", "content": "1+2=?"}]] * 2
    completions = [[{"role": "assistant", "content": answer}] for answer in ("3", "three")]
    data = Dataset.from_dict({"prompt": chats, "completion": completions})
    config = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none")
    trl = SFTTrainer(AutoModelForCausalLM.from_pretrained(tiny), config, train_dataset=data, processing_class=tokenizer)
    rows = encode(tokenizer, chats, ["3", "three"], [tokenizer.eos_token_id])
    made: Any = trl.train_dataset
    assert rows.input_ids == list(made["input_ids"])
    assert rows.labels == list(made["labels"])


@pytest.mark.slow
def test_a_template_that_rewrites_finished_answers_changes_nothing(tokenizer: Any, tiny: Path) -> None:
    from transformers import AutoTokenizer

    thinking = AutoTokenizer.from_pretrained(tiny)
    thinking.chat_template = tokenizer.chat_template.replace("<end>", "<end>\n").replace(
        "{{ message['content'] }}",
        "{% if message['role'] == 'assistant' %}(thought){% endif %}{{ message['content'] | trim }}",
    )
    chat = [{"role": "user", "content": "hi"}]
    rows = encode(thinking, [chat], [" yes "], [thinking.eos_token_id])
    assert thinking.decode(rows.input_ids[0][rows.starts[0] :]) == " yes <end>"
    thinking.chat_template = thinking.chat_template.replace("<end>", "")
    assert end_of_turn(thinking, chat, [thinking.eos_token_id]) == [thinking.eos_token_id]


def test_stop_tokens_are_those_of_tokenizer_and_generation_config() -> None:
    class Has:
        def __init__(self, eos_token_id: Any) -> None:
            self.eos_token_id = eos_token_id

    assert stop_tokens(Has(1), Has([7, 1])) == [1, 7]
    assert stop_tokens(Has(None), Has(7)) == [7]
    with pytest.raises(TrainingError, match="no end-of-sequence token"):
        stop_tokens(Has(None), Has(None))


@pytest.mark.slow
def test_a_training_learns_and_publishes_a_whole_checkpoint(
    trained: tuple[Path, list[TrainingProgress]], tiny: Path
) -> None:
    out, said = trained
    weights.check_weights(str(out))
    assert [progress.step for progress in said] == list(range(1, STEPS + 1))
    assert {progress.steps for progress in said} == {STEPS}
    numbers = metrics(out, "c1")
    assert numbers.schema == METRICS
    loss = numbers.filter(pl.col("name") == "loss").sort("step")["value"].to_list()
    assert len(loss) == STEPS and sum(loss[-6:]) < 0.7 * sum(loss[:6])
    last = {row["name"]: row["value"] for row in numbers.filter(pl.col("step") == STEPS).to_dicts()}
    assert last["examples"] == 96 and last["dropped"] == 0 and last["tokens"] == said[-1].tokens
    assert {"lr", "grad_norm", "token_accuracy", "runtime"} <= set(last)
    assert (out / "chat_template.jinja").read_text() == (tiny / "chat_template.jinja").read_text()
    assert [path.name for path in out.parent.iterdir()] == ["c1"], "nothing is left beside it"


@pytest.mark.slow
def test_the_canary_is_what_the_saved_weights_say(trained: tuple[Path, list[TrainingProgress]]) -> None:
    canary = json.loads((trained[0] / "canary.json").read_text())
    again = logprobs(trained[0], canary["token_ids"])
    assert len(again) == len(canary["token_ids"]) - 1
    assert canary["logprobs"] == pytest.approx(again, abs=1e-5)


@pytest.mark.slow
def test_what_is_complete_is_not_made_again(
    trained: tuple[Path, list[TrainingProgress]], examples: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "supervised", None)
    assert list(train(job(examples, tiny, trained[0]))) == []


@pytest.mark.slow
def test_lora_ends_in_an_ordinary_checkpoint(examples: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "c1"
    settings = Sft(lr=1e-2, batch_size=16, save_every=3, lora=Lora(rank=4, target_modules=("q_proj", "v_proj")))
    assert here(job(examples, tiny, out, settings))["step"] == 6
    weights.check_weights(str(out))
    assert not list(out.glob("adapter*"))
    assert weights.parameters(str(out)) == weights.parameters(str(tiny))
    canary = json.loads((out / "canary.json").read_text())
    assert canary["logprobs"] == pytest.approx(logprobs(out, canary["token_ids"]), abs=1e-4)
    assert canary["logprobs"] != pytest.approx(logprobs(tiny, canary["token_ids"]), abs=1e-2)


@pytest.mark.slow
def test_weights_scale_each_example(examples: Path, tiny: Path, tmp_path: Path) -> None:
    frame = pl.read_parquet(examples).with_columns(weight=pl.Series([2.0, 0.0] * 48))
    frame.write_parquet(tmp_path / "weighted.parquet")
    settings = Sft(batch_size=8, epochs=1)
    spec = Spec(tmp_path / "weighted.parquet", str(tiny), None, tmp_path / "c1", tmp_path, settings, 0)
    losses, expected = weighted_losses(spec)
    assert losses == pytest.approx(expected, rel=1e-4)


def weighted_losses(spec: Spec) -> tuple[list[float], list[float]]:
    """The trainer's losses of its first batches, and the same by hand."""
    import torch

    tokenizer, model = load_network(spec)
    task = sft.prepared(spec, pl.read_parquet(spec.examples), tokenizer, model)
    trainer = child.build(spec, task, tokenizer, model)
    losses, expected = [], []
    for batch in list(trainer.get_train_dataloader())[:3]:
        with torch.no_grad():
            losses.append(float(trainer.compute_loss(model.train(), dict(batch))))
            scores = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].log_softmax(-1)
        target = batch["labels"][:, 1:]
        known = scores.gather(2, target.clamp(min=0)[..., None])[..., 0] * (target != IGNORED)
        expected.append(float(-(known.sum(1) * batch["weight"]).sum() / (target != IGNORED).sum()))
    return losses, expected


# The order


def test_every_batch_is_full_and_every_epoch_whole() -> None:
    lengths = [random.Random(i).randint(5, 50) for i in range(37)]
    places = order(lengths, steps=14, batch=8, seed=3)
    assert len(places) == 14 * 8
    assert set(Counter(places).values()) <= {3, 4}  # 112 places for 37 rows
    assert places == order(lengths, steps=14, batch=8, seed=3)
    assert places != order(lengths, steps=14, batch=8, seed=4)
    assert max(lengths) == max(lengths[place] for place in places[:8]), "the longest batch comes first"


def test_like_lengths_are_put_together() -> None:
    lengths = [random.Random(i).randint(5, 500) for i in range(640)]
    places = [lengths[place] for place in order(lengths, steps=80, batch=8, seed=0)]
    padded = sum(8 * max(places[i : i + 8]) for i in range(0, len(places), 8))
    assert padded < 1.2 * sum(places)


def test_sizes_of_a_training() -> None:
    assert planned(Sft(batch_size=32, epochs=2), 100, 1) == (32, 1, 32, 7)
    assert planned(Sft(batch_size=32, micro_batch=4), 100, 2) == (4, 4, 32, 4)
    assert planned(Sft(batch_size=32, epochs=3), 5, 1) == (5, 1, 5, 3)
    assert planned(Sft(batch_size=32, micro_batch=4), 10, 2) == (4, 1, 8, 2)
    assert planned(Sft(batch_size=32, max_steps=9), 1000, 1).steps == 9
    with pytest.raises(TrainingError, match="batch_size 32 is not a multiple of micro_batch 5 on 2 processes"):
        planned(Sft(batch_size=32, micro_batch=5), 100, 2)


# Kills


def start(*paths: Path) -> "subprocess.Popen[str]":
    root = str(ROOT)
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.Popen([sys.executable, "-c", PARENT, *paths], stdout=subprocess.PIPE, text=True, env=environment)


def child_processes(marker: str) -> list[int]:
    """Living processes whose command line names `marker`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if marker in line and "flywheel.training.worker" in line:
                found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for orphans in /proc")
def test_killed_at_any_step_it_ends_with_the_same_bits_and_leaves_no_orphan(
    trained: tuple[Path, list[TrainingProgress]], examples: Path, tiny: Path, tmp_path: Path
) -> None:
    what = job(examples, tiny, tmp_path / "c1")
    for stop in (10, 50, 90):
        parent = start(examples, tiny, what.out)
        assert parent.stdout
        while int(parent.stdout.readline() or STEPS) < stop:
            pass
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        gone(child_processes(str(tmp_path)))
    assert (tmp_path / ".c1.training").exists()
    said = list(train(what))
    assert said[0].step > 1, "it went on from a trainer checkpoint"
    for name in ("model.safetensors", "canary.json", "config.json", "tokenizer.json"):
        assert (tmp_path / "c1" / name).read_bytes() == (trained[0] / name).read_bytes()
    told = metrics(tmp_path / "c1", "c").filter(pl.col("name") != "runtime")
    assert told.equals(metrics(trained[0], "c").filter(pl.col("name") != "runtime"))


@pytest.mark.slow
def test_whoever_stops_listening_ends_the_child(examples: Path, tiny: Path, tmp_path: Path) -> None:
    progress = train(job(examples, tiny, tmp_path / "c1", replace(SETTINGS, epochs=1000)))
    next(progress)
    children = child_processes(str(tmp_path))
    assert children
    progress.close()  # type: ignore[attr-defined]
    gone(children)
    assert not (tmp_path / "c1").exists()


def test_a_trainer_checkpoint_counts_when_it_is_marked_complete(tmp_path: Path) -> None:
    for step in (7, 14, 100):
        (tmp_path / "trainer" / f"checkpoint-{step}").mkdir(parents=True)
    assert last_checkpoint(tmp_path) is None
    for step in (7, 14):
        (tmp_path / "trainer" / f"checkpoint-{step}" / "complete").touch()
    assert last_checkpoint(tmp_path) == str(tmp_path / "trainer" / "checkpoint-14")


@pytest.mark.slow
def test_what_another_job_left_is_not_gone_on_from(examples: Path, tiny: Path, tmp_path: Path) -> None:
    left = tmp_path / ".c1.training"
    for settings, kept in ((SETTINGS, True), (Sft(lr=0.5), False)):
        training._prepare(job(examples, tiny, tmp_path / "c1"), left)
        for name in ("checkpoint-7", "checkpoint-14"):
            (left / "trainer" / name).mkdir(parents=True, exist_ok=True)
        (left / "trainer" / "checkpoint-7" / "complete").touch()
        training._prepare(job(examples, tiny, tmp_path / "c1", settings), left)
        assert [path.name for path in left.glob("trainer/*")] == ["checkpoint-7"] * kept


# Several processes


@pytest.mark.slow
def test_accelerate_launch_gives_one_checkpoint_and_the_same_losses(examples: Path, tiny: Path, tmp_path: Path) -> None:
    settings = Sft(lr=1e-3, batch_size=16, max_steps=5, save_every=2, scheduler="constant", warmup=0)
    launcher = (
        "accelerate",
        "launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
    )
    assert len(list(train(job(examples, tiny, tmp_path / "two", settings, launcher=launcher)))) == 5
    assert len(list(train(job(examples, tiny, tmp_path / "one", settings)))) == 5
    weights.check_weights(str(tmp_path / "two"))
    one, two = (metrics(tmp_path / name, "c").filter(pl.col("name") == "loss") for name in ("one", "two"))
    assert two["value"].to_list() == pytest.approx(one["value"].to_list(), rel=1e-3)
    canary = json.loads((tmp_path / "two" / "canary.json").read_text())
    assert canary["logprobs"] == pytest.approx(logprobs(tmp_path / "one", canary["token_ids"]), abs=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


# What is said when it cannot be done


@pytest.mark.slow
def test_no_examples(tiny: Path, tmp_path: Path) -> None:
    empty = write_examples(tmp_path / "empty.parquet", n=0)
    with pytest.raises(TrainingError, match="has no examples"):
        list(train(job(empty, tiny, tmp_path / "c1")))
    with pytest.raises(TrainingError, match="cannot be read"):
        list(train(job(tmp_path / "nothing.parquet", tiny, tmp_path / "c1")))


def test_a_base_that_is_not_there(examples: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such folder"):
        list(train(job(examples, Path("/nowhere"), tmp_path / "c1")))


@pytest.mark.slow
def test_something_else_in_the_place_of_the_result(examples: Path, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "c1").mkdir()
    with pytest.raises(TrainingError, match="not a finished checkpoint"):
        list(train(job(examples, tiny, tmp_path / "c1")))


@pytest.mark.slow
def test_a_launcher_that_is_not_installed(examples: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="`no-such-launcher` is not installed"):
        list(train(job(examples, tiny, tmp_path / "c1", launcher=("no-such-launcher",))))


@pytest.mark.slow
def test_a_disk_too_small_for_the_training(
    examples: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "free_space", lambda folder: 2_000_000)
    with pytest.raises(TrainingError, match=r"2 MB are free, and this training needs \d MB"):
        list(train(job(examples, tiny, tmp_path / "c1")))


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    spec = Spec(tmp_path, "base", None, tmp_path / "c1", tmp_path / "work", Sft(), 0)
    full: list[Exception] = [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 4642624 vs 4642512"),
    ]
    for error in full:
        assert "is full" in explain(error, spec)
    assert explain(MemoryError(), spec).startswith("out of memory")
    assert "ValueError: strange" in explain(ValueError("strange"), spec)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Sft(lr=1e30, max_steps=9), r"(loss|grad_norm) is nan at step \d"),
        (Sft(trl={"learning_rat": 1}), "Sft.trl has `learning_rat`, which is not a setting of TRL's SFTConfig"),
        (Sft(trl={"learning_rate": 1}), r"Sft.trl has `learning_rate`; set Sft\.lr instead"),
        (Sft(max_length=5), "all 96 examples are longer than 5 tokens"),
        (Sft(packing=True), "packing wants flash attention"),
    ],
)
@pytest.mark.slow
def test_one_sentence_from_the_child(examples: Path, tiny: Path, tmp_path: Path, settings: Sft, words: str) -> None:
    said = here(job(examples, tiny, tmp_path / "c1", settings))
    assert re.search(words, said["error"]) and "\n" not in said["error"]
    assert not (tmp_path / "c1").exists()


@pytest.mark.slow
def test_the_sentence_reaches_the_parent(examples: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="^Sft.trl has `nonsense`, which is not a setting of TRL's SFTConfig$"):
        list(train(job(examples, tiny, tmp_path / "c1", Sft(trl={"nonsense": 1}))))


@pytest.mark.slow
def test_long_examples_are_dropped_and_counted_and_options_reach_trl(
    examples: Path, tiny: Path, tmp_path: Path
) -> None:
    settings = Sft(lr=1e-3, max_length=13, max_steps=2, trl={"max_grad_norm": 0.5})
    here(job(examples, tiny, tmp_path / "c1", settings))
    counts = {row["name"]: row["value"] for row in metrics(tmp_path / "c1", "c").to_dicts()}
    assert counts["dropped"] > 0 and counts["examples"] > 0
    assert counts["dropped"] + counts["examples"] == 96


def test_importing_training_loads_no_torch() -> None:
    code = "import sys, flywheel.training.run; print(sorted({'torch', 'trl', 'datasets'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
