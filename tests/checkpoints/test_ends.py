"""Which tokens end an answer: what the chat template writes there stops engines and is what a training teaches."""

import json
from pathlib import Path
from typing import Any

import pytest

from flywheel.checkpoints.ends import end_tokens, turn_end
from flywheel.engines.local.engine import Local
from flywheel.errors import WeightsError
from flywheel.protocols import Sampling
from flywheel.training.result import declare_end
from flywheel.training.rows import encode, stop_tokens
from tests.conftest import letter_tokenizer

EOS, MARK, NEXT, BREAK, WORD, SIGN = 2, 10, 11, 20, 21, 12
CHAT = [{"role": "user", "content": "1+2?"}]


@pytest.mark.parametrize(
    ("last", "middle", "declared", "end"),
    [
        ([EOS], [EOS, NEXT, WORD], [EOS], None),  # Mistral, Llama 2, DeepSeek
        ([MARK, BREAK], [MARK, BREAK, NEXT, WORD], [EOS, MARK], None),  # ChatML, Gemma, Llama 3
        ([MARK, BREAK], [MARK, BREAK, NEXT, WORD], [EOS], MARK),  # ChatML, whose declared end was left alone
        ([MARK, BREAK, EOS], [MARK, BREAK, NEXT, WORD], [EOS], MARK),  # Phi-3: the declared one ends the chat alone
        ([], [NEXT, WORD], [EOS, NEXT], None),  # GLM: the next turn's header ends an answer
        ([MARK], [SIGN, NEXT, WORD], [MARK], None),  # harmony: the last answer ends otherwise
        ([BREAK], [BREAK, NEXT, WORD], [EOS], None),  # Alpaca: a line break is no end
        ([MARK, BREAK, NEXT, WORD], [MARK, BREAK, NEXT, SIGN], [EOS], MARK),  # the next turn is always begun
        ([SIGN, EOS], [SIGN, EOS, NEXT], [EOS], None),
        ([MARK], [MARK, NEXT], [], MARK),  # nothing is declared
    ],
)
def test_the_end_of_a_turn_is_found_where_none_is_declared(
    last: list[int], middle: list[int], declared: list[int], end: int | None
) -> None:
    assert turn_end(last, middle, declared, {EOS, MARK, NEXT, SIGN}) == end


class Config:
    """What a generation config says of ends."""

    def __init__(self, eos_token_id: Any) -> None:
        self.eos_token_id = eos_token_id


def chatml(special: bool = True, ending: str = "<turn>") -> Any:
    """A tokenizer whose template ends turns with another token than the declared one."""
    from tokenizers import AddedToken

    tokenizer = letter_tokenizer()
    tokenizer.add_tokens([AddedToken("<turn>", special=special, normalized=False)], special_tokens=special)
    tokenizer.chat_template = tokenizer.chat_template.replace("<end>", f"{ending}\n")
    return tokenizer


@pytest.mark.slow
@pytest.mark.parametrize("special", [True, False])
def test_engines_stop_at_what_a_training_teaches(special: bool) -> None:
    tokenizer = chatml(special)
    turn = tokenizer.convert_tokens_to_ids("<turn>")
    stops = stop_tokens(tokenizer, Config(1))
    assert stops == end_tokens(tokenizer, Config(1), Config(1)) == [1, turn]
    rows = encode(tokenizer, [CHAT], ["3"], stops)
    assert tokenizer.decode(rows.input_ids[0][rows.starts[0] :]) == "3<turn>"
    declared = Config(1)
    declare_end(tokenizer, declared)
    assert declared.eos_token_id == [1, turn]
    declare_end(tokenizer, declared)
    assert declared.eos_token_id == [1, turn]


@pytest.mark.slow
def test_where_the_declared_token_ends_a_turn_nothing_changes() -> None:
    tokenizer, config = letter_tokenizer(), Config([1, 7])
    assert end_tokens(tokenizer, config) == [1, 7]
    declare_end(tokenizer, config)
    assert config.eos_token_id == [1, 7]
    begun = tokenizer.chat_template.replace("<end>", "\n").replace(
        "<{{ message['role'] }}>", "## {{ message['role'] }}"
    )
    begun = begun.partition("{% if add")[0] + "## assistant"
    for template in ("<user>x<assistant>", tokenizer.chat_template.replace("<end>", "\n\n"), begun, None):
        tokenizer.chat_template = template
        assert end_tokens(tokenizer, Config(1)) == [1], "a template that does not tell leaves what is declared"


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["<|im_end|>", " END", "~"])
def test_a_template_that_ends_a_turn_with_mere_words_is_refused_in_one_sentence(ending: str) -> None:
    tokenizer = chatml(ending=ending)
    for tell in (end_tokens, stop_tokens):
        with pytest.raises(
            WeightsError, match="ends an answer with .*, which is no token, so no engine can stop"
        ) as told:
            tell(tokenizer, Config(1))
        assert "\n" not in str(told.value)
    tokenizer.chat_template = tokenizer.chat_template.replace("\n{% endif", "<end>{% endif")
    assert end_tokens(tokenizer, Config(1)) == [1], "words before the declared end are no end"


@pytest.mark.slow
@pytest.mark.parametrize("special", [True, False])
def test_the_local_engine_stops_at_the_templates_end_and_does_not_write_it(
    special: bool, tiny: Path, tmp_path: Path
) -> None:
    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    before = Local().load(str(tiny)).chat([CHAT], Sampling(n=40, max_tokens=60), [1])
    letters = letter_tokenizer()
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["extra_special_tokens"] = [*config.get("extra_special_tokens", []), *(["<end>"] if special else [])]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "<unk>"}))
    if not special:  # a token that is found as it is, but shown
        words = json.loads((tmp_path / "tokenizer.json").read_text())
        for token in words["added_tokens"]:
            token["special"] = token["special"] and token["content"] != "<end>"
        (tmp_path / "tokenizer.json").write_text(json.dumps(words))
    for name in ("config.json", "generation_config.json"):
        text = json.loads((tmp_path / name).read_text())
        (tmp_path / name).write_text(json.dumps({**text, "eos_token_id": letters.unk_token_id}))
    served = Local().load(str(tmp_path))
    after = served.chat([CHAT], Sampling(n=40, max_tokens=60), [1])
    stopped = before["finish_reason"] == "stop"
    assert stopped.any() and not after["text"].str.contains("<end>").any()
    same = [old == new for old, new, ended in zip(before["text"], after["text"], stopped, strict=True) if ended]
    assert sum(same) >= 0.7 * len(same), "but where <unk>, which ends answers now, came first"
