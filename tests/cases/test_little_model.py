"""A little model: which token ends its answers, what a server makes of its opinions, and what a training teaches."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flywheel.engines.http.endpoint import Endpoint, ServedModel
from flywheel.engines.local.engine import Local
from flywheel.protocols import Card, Sampling
from flywheel.training.rows import encode, end_of_turn, stop_tokens
from tests.engines.test_endpoint import vllm_server
from tests.engines.test_vllm import STARTING


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def changed(folder: Path, name: str, **values: Any) -> None:
    """Values in a JSON file of a model's folder."""
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    (folder / name).write_text(json.dumps({**content, **values}), encoding="utf-8")


def copied(weights: Path, out: Path) -> Path:
    """A copy of a model's folder as others would publish it."""
    shutil.copytree(weights, out)
    for name in ("manifest.json", "canary.json"):
        (out / name).unlink(missing_ok=True)
    return out


def with_another_end(weights: Path, out: Path) -> Path:
    """The model with a template that ends turns with one token, where another one is declared."""
    copied(weights, out)
    template = (out / "chat_template.jinja").read_text(encoding="utf-8")
    (out / "chat_template.jinja").write_text(template.replace("{{ eos_token }}", "<eos>"), encoding="utf-8")
    special = json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8"))["extra_special_tokens"]
    changed(out, "tokenizer_config.json", eos_token="<unk>", extra_special_tokens=["<eos>", *special])
    for name in ("config.json", "generation_config.json"):
        changed(out, name, eos_token_id=3)
    return out


TRAINING = 900
"""Seconds of patience: the model is trained for the first test that wants it, half a minute where nobody else works."""
SUMS = [[user(f"Add {a} and {b}.")] for a, b in ((1, 2), (4, 5), (9, 9))]


@pytest.mark.slow
@pytest.mark.timeout(TRAINING)
@pytest.mark.parametrize("stop", [(), ("<eos>",)])
@pytest.mark.parametrize("declared", [True, False])
def test_answers_end_with_the_token_that_ends_a_turn(
    declared: bool, stop: tuple[str, ...], taught: Path, tmp_path: Path
) -> None:
    weights = taught if declared else with_another_end(taught, tmp_path / "other")
    engine = Local()
    model = engine.load(str(weights))
    answers = model.chat(SUMS, Sampling(n=1, temperature=0.0, max_tokens=40, stop=stop), [0, 0, 0])
    engine.close()
    assert answers["finish_reason"].to_list() == ["stop"] * len(SUMS)
    assert not answers["text"].str.contains("<eos>").any()


@pytest.mark.slow
@pytest.mark.parametrize("declared", [True, False])
def test_a_training_teaches_the_token_at_which_engines_stop(declared: bool, untaught: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    weights = untaught if declared else with_another_end(untaught, tmp_path / "other")
    tokenizer = AutoTokenizer.from_pretrained(weights)
    stops = stop_tokens(tokenizer, GenerationConfig.from_pretrained(weights))
    assert tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer, SUMS[0], stops)) == ["<eos>"]


OPEN = Sampling(n=8, temperature=2.0, top_p=1.0, top_k=0, max_tokens=12)
NINE = [user("Add 4 and 5.")]


def test_nothing_of_a_draw_is_left_to_a_server() -> None:
    model = ServedModel(Endpoint("http://127.0.0.1:1"), "m", Card("endpoint x (vllm 0)", "endpoint", 256))
    sent = model._body(NINE, OPEN, 7)
    assert (sent["top_k"], sent["min_p"], sent["repetition_penalty"]) == (-1, 0.0, 1.0)


@pytest.mark.vllm
@pytest.mark.timeout(TRAINING + STARTING)
def test_a_server_draws_as_it_is_told_and_not_as_the_weights_say(taught: Path, tmp_path: Path) -> None:
    weights = copied(taught, tmp_path / "m")
    changed(weights, "generation_config.json", do_sample=True, top_k=1, repetition_penalty=1.3)
    here = Local().load(str(taught)).chat([NINE], OPEN, [7])
    with vllm_server(weights, tmp_path / "log") as url:
        there = Endpoint(url).load(str(weights)).chat([NINE], OPEN, [7])
    assert min(here["text"].n_unique(), there["text"].n_unique()) >= 3


THOUGHT = ("'<assistant>' }}{% endif %}", "'<assistant><t>' }}{% endif %}")
CUT = (
    "message['content'] }}",
    "(message['content'].split('</t>')[-1] if message['role'] == 'assistant' else message['content']) }}",
)
TRIMMED = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | trim }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


class Taught:
    """What a training makes of one answer: all that is read, and the part that is learned."""

    def __init__(self, weights: Path, template: str, chat: list[dict[str, str]], answer: str, pad: str | None = None):
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(weights)
        self.tokenizer.chat_template = template
        self.tokenizer.pad_token = pad or self.tokenizer.pad_token
        rows = encode(self.tokenizer, [chat], [answer], stop_tokens(self.tokenizer, None))
        (self.ids,), (self.start,), (self.labels,) = rows.input_ids, rows.starts, rows.labels
        assert set(self.labels[: self.start]) == {-100}
        self.read = self.tokenizer.decode(self.ids[: self.start])
        self.learned = self.tokenizer.decode(self.ids[self.start :])


@pytest.fixture
def template(untaught: Path) -> str:
    return (untaught / "chat_template.jinja").read_text(encoding="utf-8")


@pytest.fixture
def thinking(template: str) -> str:
    """A template that begins a thought, and leaves out those of earlier turns."""
    return template.replace(*THOUGHT).replace(*CUT)


@pytest.mark.slow
def test_a_text_begins_once_and_only_the_answer_and_its_end_are_learned(untaught: Path, template: str) -> None:
    row = Taught(untaught, template, [user("Add 1 and 2.")], "Answer: 3")
    assert row.ids.count(row.tokenizer.bos_token_id) == 1
    assert row.learned == "Answer: 3<eos>"


@pytest.mark.slow
def test_a_thought_that_the_prompt_begins_is_learned_though_later_turns_would_lose_it(
    untaught: Path, thinking: str
) -> None:
    row = Taught(untaught, thinking, [user("Add 1 and 2.")], "one two</t>Answer: 3")
    assert row.learned == "one two</t>Answer: 3<eos>" and row.read.endswith("<assistant><t>")
    row = Taught(untaught, thinking, [user("a"), assistant("x</t>y"), user("b")], "z</t>w")
    assert (row.read, row.learned) == ("<bos><user>a<assistant>y<eos><user>b<assistant><t>", "z</t>w<eos>")


@pytest.mark.slow
def test_the_end_is_learned_where_it_fills_rows_up_as_well(untaught: Path, template: str) -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    row = Taught(untaught, template, [user("Add 1 and 2.")], "Answer: 3", pad="<eos>")
    short = {"input_ids": [*row.ids[: row.start], row.ids[-1]], "labels": [*row.labels[: row.start], row.labels[-1]]}
    collator = DataCollatorForLanguageModeling(pad_token_id=row.tokenizer.pad_token_id)
    batch = collator([{"input_ids": row.ids, "labels": row.labels}, short])
    assert all(row.tokenizer.eos_token_id in labels for labels in batch["labels"].tolist())


@pytest.mark.slow
def test_spaces_that_were_sampled_stay_where_a_template_trims(untaught: Path) -> None:
    assert Taught(untaught, TRIMMED, [user(" q ")], "  a  ").learned == "  a  <eos>"
