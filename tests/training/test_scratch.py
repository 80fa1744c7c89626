"""A model from nothing: an ordinary folder of weights, the same each time, with a tokenizer that loses nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flywheel.checkpoints import weights
from flywheel.store.schema import WORKED
from flywheel.training.scratch import build, pieces
from flywheel.training.settings import Scratch

pytestmark = pytest.mark.slow


def worked() -> pl.DataFrame:
    """Two kinds of worked examples."""
    rows = [
        *(([{"role": "user", "content": f"Compute {n}+{n}"}], f"{n}+{n}={2 * n}. Answer: {2 * n}") for n in range(20)),
        *(
            ([{"role": "user", "content": f"Reverse {word}"}], f"Answer: {word[::-1]}")
            for word in ("sun", "moon", "tea", "äpfel")
        ),
    ]
    return pl.DataFrame(rows * 2, schema=WORKED, orient="row")


SMALL = Scratch(text=worked, hidden=16, layers=1, heads=2, intermediate=32, context=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scratch") / "checkpoints" / "small"
    out.parent.mkdir()
    build(SMALL, out)
    return out


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_it_is_a_sealed_folder_and_nothing_is_left_beside_it(folder: Path) -> None:
    weights.check_weights(str(folder))
    assert weights.sealed(folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_same_value_gives_the_same_weights_and_another_seed_others(folder: Path, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    build(SMALL, tmp_path / "again")
    build(replace(SMALL, seed=1), tmp_path / "other")
    assert torch.equal(before, torch.random.get_rng_state()), "the caller's random numbers are its own"
    same, other = weights.identify(str(tmp_path / "again")), weights.identify(str(tmp_path / "other"))
    assert same == weights.identify(str(folder)) != other


def test_what_a_killed_build_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".small.tmp").mkdir()
    (tmp_path / ".small.tmp" / "junk.bin").touch()
    build(SMALL, tmp_path / "small")
    assert not (tmp_path / "small" / "junk.bin").exists()


def test_input_and_output_embeddings_are_apart(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert str(model.dtype) == "torch.float32" and not model.config.tie_word_embeddings
    assert model.get_input_embeddings().weight.data_ptr() != model.get_output_embeddings().weight.data_ptr()
    assert model.generation_config.eos_token_id == model.config.eos_token_id is not None


def test_digits_and_letters_are_tokens_and_shared_words_are_whole(tokenizer: Any) -> None:
    assert tokenizer.tokenize("Compute 12+345") == ["Compute ", "1", "2", "+", "3", "4", "5"]
    assert tokenizer.tokenize("1=2. Answer: -10") == ["1", "=", "2", ". Answer: ", "-", "1", "0"]
    assert tokenizer.tokenize("Answer: nus") == ["Answer: ", "n", "u", "s"]


@pytest.mark.parametrize(
    "text", ["Compute 1+2", "a  b ,c. Answer: äpfel", "x\ny", "<user", "Answer:", " Answer: Answer: "]
)
def test_no_text_of_known_characters_is_changed_by_tokens(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_an_unknown_character_is_one_unknown_token(tokenizer: Any) -> None:
    assert tokenizer("a漢字b", add_special_tokens=False)["input_ids"].count(tokenizer.unk_token_id) == 2


def test_the_chat_template_opens_and_ends_an_answer(tokenizer: Any) -> None:
    chat = [{"role": "user", "content": "Reverse sun"}]
    opened = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert opened == "<bos><user>Reverse sun<assistant>"
    answered = [*chat, {"role": "assistant", "content": "Answer: nus"}]
    assert tokenizer.apply_chat_template(answered, tokenize=False) == opened + "Answer: nus<eos>"
    assert len(tokenizer(opened, add_special_tokens=False)["input_ids"]) == 2 + 1 + 3 + 1


def test_rare_words_are_spelled() -> None:
    known = pieces([*["Say sun"] * 10, *["Say moon"] * 200])
    assert "Say " in known and "moon" in known and "sun" not in known


def test_the_length_of_a_prompt_is_known_before_the_model_is_made(tmp_path: Path) -> None:
    from flywheel.engines.local.engine import prompt_lengths as of_the_model
    from flywheel.training.scratch import prompt_lengths

    chats = [
        [{"role": "user", "content": "Compute 3+4 and é"}],
        [{"role": "user", "content": ""}, {"role": "assistant", "content": "Answer: 3"}],
    ]
    build(SMALL, tmp_path / "model")
    assert prompt_lengths(SMALL, chats) == of_the_model(str(tmp_path / "model"), chats)
