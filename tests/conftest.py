"""Empty stores, and tiny models with random weights, made anew for each test session."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from flywheel.store.store import Store

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;?!+-*/=()<>'\"\n"
SPECIAL = ("<pad>", "<end>", "<user>", "<assistant>", "<system>", "<unk>")
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CONTEXT = 128


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without a row, to be copied: that is faster than to make one."""
    return Store(tmp_path_factory.mktemp("template") / "flywheel.duckdb").path


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Store:
    """A store without a row."""
    return Store(shutil.copy(template, tmp_path / "flywheel.duckdb"), wait=20)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Llama of 300,000 parameters that spells letter by letter."""
    return write_llama(tmp_path_factory.mktemp("tiny"), seed=0)


@pytest.fixture(scope="session")
def tiny_other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with other weights."""
    return write_llama(tmp_path_factory.mktemp("tiny_other"), seed=1)


@pytest.fixture(scope="session")
def tiny_tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one matrix for input and output embeddings."""
    return write_llama(tmp_path_factory.mktemp("tiny_tied"), seed=2, tie_word_embeddings=True)


def write_llama(folder: Path, seed: int, **config: Any) -> Path:
    """A random Llama, with weights large enough that its distributions are neither flat nor certain."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = letter_tokenizer()
    # Heads of 32: vLLM's CPU kernels know no smaller ones.
    sizes = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    settings = {**sizes, **ends, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "initializer_range": 0.2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **{**settings, **config}))
        model.generation_config = GenerationConfig(**ends)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def letter_tokenizer() -> Any:
    """A token for each letter, and a chat template that every role fits."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *LETTERS))}
    letters = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    letters.pre_tokenizer = pre_tokenizers.Split(pattern="", behavior="isolated")
    letters.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=letters,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unk>",
        additional_special_tokens=["<user>", "<assistant>", "<system>"],
        model_max_length=CONTEXT,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
