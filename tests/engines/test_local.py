"""The local engine beyond what every engine must do: architectures, queues of prompts, odd tokenizers, bad weights."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flywheel.engines.local import network
from flywheel.engines.local import next_token as draw
from flywheel.engines.local.engine import Local, prompt_lengths
from flywheel.errors import WeightsError
from flywheel.protocols import Sampling
from tests.conftest import CONTEXT, letter_tokenizer

pytestmark = pytest.mark.slow

CHATS = [[{"role": "user", "content": "What is " + "9" * (i * 5 % 23) + "?"}] for i in range(12)]
SEEDS = list(range(len(CHATS)))
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4}
SHARED = {**SIZES, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": CONTEXT}
SLIDING = ["sliding_attention", "full_attention"] * 2
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "GPT2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT},
    "GPTNeoX": {**SIZES, "max_position_embeddings": CONTEXT},
    "Bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4, "seq_length": CONTEXT},
    "Qwen3": SHARED,
    "Gemma2": {**SHARED, "sliding_window": 8, "query_pre_attn_scalar": 16},
    "Gemma3Text": {**SHARED, "sliding_window": 8, "layer_types": SLIDING, "query_pre_attn_scalar": 16},
    "Mistral": {**SHARED, "sliding_window": 8},
    "Qwen3_5Text": {**SHARED, **LINEAR, "layer_types": ["linear_attention", "full_attention"] * 2},
    "Lfm2": {**SHARED, "layer_types": ["conv", "full_attention"] * 2, "block_auto_adjust_ff_dim": False},
}


def build(folder: Path, architecture: str) -> tuple[Any, Any]:
    """A random model of this architecture, saved with its tokenizer."""
    import torch
    import transformers

    tokenizer = letter_tokenizer()
    ends = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=len(tokenizer), tie_word_embeddings=False, **ends, **ARCHITECTURES[architecture]
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:  # peaked enough to tell a wrong token
            parameter.data.normal_(0, 0.2)
    model.generation_config = transformers.GenerationConfig(**ends)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_greedy_as_transformers_is(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(network, "ROWS_CPU", 5)  # so that rows come and go
    model, tokenizer = build(tmp_path, architecture)
    served = Local().load(str(tmp_path))
    answers = served.chat(CHATS, Sampling(temperature=0.0, max_tokens=30), SEEDS)
    for chat, answer in zip(CHATS, answers.iter_rows(named=True), strict=True):
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=30)
            logprobs = model(made).logits[0].log_softmax(-1)
        written = made[0, ids.shape[1] :]
        assert answer["text"] == tokenizer.decode(written, skip_special_tokens=True)
        wanted = [float(logprobs[ids.shape[1] - 1 + i, token]) for i, token in enumerate(written)]
        assert answer["logprob"] == pytest.approx(sum(wanted), abs=1e-3)


def test_a_queue_of_prompts_gives_what_each_prompt_gives_alone(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chats = [[{"role": "user", "content": "a+b" * (i * 7 % 11)}] for i in range(50)]
    sampling, seeds = Sampling(n=2, max_tokens=100, temperature=0.9, top_p=0.95, stop=("x",)), list(range(50))
    whole = Local().load(str(tiny)).chat(chats, sampling, seeds)
    monkeypatch.setattr(network, "ROWS_CPU", 7)
    queued = Local().load(str(tiny)).chat(chats, sampling, seeds)
    assert queued.drop("logprob").equals(whole.drop("logprob"))
    assert queued["logprob"].to_list() == pytest.approx(whole["logprob"].to_list(), abs=1e-3)


def test_several_tokens_end_an_answer(tiny: Path, tmp_path: Path) -> None:
    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tiny / "generation_config.json").read_text())
    letter = letter_tokenizer().convert_tokens_to_ids("e")
    (tmp_path / "generation_config.json").write_text(json.dumps({**config, "eos_token_id": [1, letter]}))
    sampling = Sampling(n=20, max_tokens=60)
    before = Local().load(str(tiny)).chat(CHATS[:2], sampling, [1, 2])
    after = Local().load(str(tmp_path)).chat(CHATS[:2], sampling, [1, 2])
    assert not any("e" in text.removesuffix("e") for text in after["text"])
    for old, new in zip(before.iter_rows(named=True), after.iter_rows(named=True), strict=True):
        if "e" in old["text"]:
            assert new["text"] == old["text"].partition("e")[0] + "e"
            assert new["finish_reason"] == "stop"


@pytest.mark.parametrize("stop", ["é", "日本", " b", "a\n", "ab ab"])
def test_stop_strings_that_tokens_break_up(stop: str) -> None:
    tokenizer = byte_tokenizer()
    text = "ab ab a\n é 日本 b"
    stops = draw.Stops(tokenizer, (stop,), len(tokenizer))
    ids = tokenizer(text)["input_ids"]
    first = next(i for i in range(1, len(ids) + 1) if stop in tokenizer.decode(ids[:i]))
    assert stops.suspects(np.array(ids))[first - 1]
    assert stops.found(ids[:first])
    assert not stops.found(ids[: first - 1])
    assert stops.texts([ids]) == [text[: text.index(stop)]]


def byte_tokenizer() -> Any:
    """A token for each byte, as byte-level BPE has them at the least."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytewise)


def test_random_numbers_belong_to_seed_index_and_step() -> None:
    places = list(itertools.product(range(40), range(4), range(25)))
    seeds, indices, steps = (list(column) for column in zip(*places, strict=True))
    numbers = draw.uniforms(draw.streams(seeds, indices), np.array(steps))
    assert len(set(numbers.tolist())) == len(places)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.02
    grid = numbers.reshape(40, 4, 25)
    for a, b in ((grid[:-1], grid[1:]), (grid[:, :-1], grid[:, 1:]), (grid[..., :-1], grid[..., 1:])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.06
    alone = draw.uniforms(draw.streams([7], [2]), np.array([11]))
    assert alone[0] == grid[7, 2, 11]


def test_prompt_lengths_are_those_of_the_engine(tiny: Path) -> None:
    answers = Local().load(str(tiny)).chat(CHATS, Sampling(max_tokens=1), SEEDS)
    assert prompt_lengths(str(tiny), CHATS) == answers["prompt_tokens"].to_list()
    assert prompt_lengths(str(tiny), []) == []


def damage(folder: Path, file: str, change: Callable[[bytes], bytes]) -> None:
    (folder / file).write_bytes(change((folder / file).read_bytes()))


def without_a_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut short": (lambda folder: damage(folder, "model.safetensors", lambda b: b[:-100]), "corrupt"),
    "garbage": (lambda folder: damage(folder, "model.safetensors", lambda b: b"\xff" * len(b)), "corrupt"),
    "config": (lambda folder: damage(folder, "config.json", lambda b: b[:20]), "corrupt"),
    "unknown": (
        lambda folder: damage(folder, "config.json", lambda b: b'{"model_type": "nonsense"}'),
        "cannot be read",
    ),
    "tensor": (without_a_tensor, "incomplete: 1 tensors are missing, such as model.norm.weight"),
    "size": (
        lambda f: damage(f, "config.json", lambda b: b.replace(b'"hidden_size": 128', b'"hidden_size": 64')),
        "read",
    ),
    "tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer"),
    "template": (lambda folder: (folder / "chat_template.jinja").unlink(), "no chat template"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_weights_that_are_damaged(kind: str, tiny: Path, tmp_path: Path) -> None:
    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    harm, words = DAMAGES[kind]
    harm(tmp_path)
    with pytest.raises(WeightsError, match=words) as error:
        Local().load(str(tmp_path))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_whose_content_was_replaced_is_loaded_again(tiny: Path, tiny_other: Path, tmp_path: Path) -> None:
    engine, sampling = Local(), Sampling(max_tokens=20)
    answers = []
    for origin in (tiny, tiny_other):
        for file in origin.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        answers.append(engine.load(str(tmp_path)).chat(CHATS, sampling, SEEDS)["text"].to_list())
    assert answers[0] != answers[1]
    assert answers[1] == engine.load(str(tiny_other)).chat(CHATS, sampling, SEEDS)["text"].to_list()


def test_a_chat_that_the_template_refuses(tiny: Path, tmp_path: Path) -> None:
    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    refusing = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role!') }}{% endif %}<user>x<assistant>"
    )
    (tmp_path / "chat_template.jinja").write_text(refusing)
    chats = [CHATS[0], [{"role": "system", "content": "Be good."}]]
    with pytest.raises(WeightsError, match="chat 1: No system role!"):
        Local().load(str(tmp_path)).chat(chats, Sampling(), [1, 2])
