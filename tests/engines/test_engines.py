"""What every engine must do: one suite, which all of them pass."""

import contextlib
import functools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from scipy import stats

from flywheel.engines.table import open_engine
from flywheel.engines.toy.engine import Toy, write_weights
from flywheel.errors import EngineError, PromptTooLong, RecipeError, WeightsError
from flywheel.protocols import Engine, Model, Sampling
from flywheel.store.schema import ANSWERS, Chat
from tests.conftest import CONTEXT
from tests.engines.test_endpoint import vllm_server
from tests.engines.test_vllm import STARTING

GREEDY = Sampling(temperature=0.0, max_tokens=24)
DRAWN = Sampling(max_tokens=24)
REAL = {"local", "vllm", "endpoint"}
"""Engines that serve a model, which transformers can be asked about too."""


def said(content: str) -> Chat:
    return [{"role": "user", "content": content}]


CHATS = [
    *[said(f"What is {a}+{a * 7}?" + " please" * (a % 4)) for a in range(8)],
    said(""),
    [{"role": "system", "content": "Be short."}, *said("1-2?")],
    [*said("2+2?"), {"role": "assistant", "content": "Answer: 4"}, *said("And 3+3?")],
]
SEEDS = list(range(1000, 1000 + len(CHATS)))


class Case(NamedTuple):
    """An engine, and two sets of weights that it can serve."""

    name: str
    engine: Engine
    weights: str
    others: str

    @property
    def model(self) -> Model:
        return self.engine.load(self.weights)


@pytest.fixture(
    scope="module",
    params=[
        "toy",
        pytest.param("local", marks=pytest.mark.slow),
        pytest.param("vllm", marks=[pytest.mark.vllm, pytest.mark.timeout(STARTING)]),
        pytest.param("endpoint", marks=[pytest.mark.vllm, pytest.mark.timeout(STARTING)]),
    ],
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    name: str = request.param
    if name in REAL:
        made = [request.getfixturevalue(fixture) for fixture in ("tiny", "tiny_other")]
        weights, others = (opinionated(folder, tmp_path_factory.mktemp("weights")) for folder in made)
    else:
        folder = tmp_path_factory.mktemp("toy")
        weights = write_weights(folder / "a", 0.5, seed=1, context=CONTEXT)
        others = write_weights(folder / "b", 0.5, seed=2, context=CONTEXT)
    with contextlib.ExitStack() as stack:
        if name == "endpoint":
            log = tmp_path_factory.mktemp("server") / "log"
            engine = open_engine(stack.enter_context(vllm_server(Path(weights), log)))
        else:
            engine = open_engine(name, **({"threads": 1} if name == "vllm" else {}))
        stack.callback(engine.close)
        yield Case(name, engine, str(weights), str(others))


def opinionated(folder: Path, out: Path) -> Path:
    """The weights with a generation config that would change every draw, if an engine took more than ends from it."""
    shutil.copytree(folder, out, dirs_exist_ok=True)
    config = json.loads((out / "generation_config.json").read_text())
    opinions = {
        "do_sample": True,
        "temperature": 0.1,
        "top_k": 1,
        "top_p": 0.2,
        "min_p": 0.5,
        "repetition_penalty": 3.0,
    }
    (out / "generation_config.json").write_text(json.dumps({**config, **opinions, "min_new_tokens": 5}))
    return out


@pytest.fixture
def real(case: Case) -> Case:
    if case.name not in REAL:
        pytest.skip("no model behind it")
    return case


@functools.cache
def reference(weights: str) -> tuple[Any, Any]:
    """Model and tokenizer as transformers has them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).eval()
    model.generation_config = GenerationConfig(eos_token_id=1, pad_token_id=0)
    return model, AutoTokenizer.from_pretrained(weights)


def expected(weights: str, chat: Chat, completion: str, ended: bool = False) -> tuple[list[float], Any]:
    """Log-probability of each token of the completion by a plain forward pass, and the distribution behind the chat."""
    import torch

    model, tokenizer = reference(weights)
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    answer = tokenizer(completion, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] * ended
    with torch.no_grad():
        logprobs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    start = len(prompt) - 1
    return [float(logprobs[start + i, token]) for i, token in enumerate(answer)], logprobs[start]


def texts(answers: pl.DataFrame) -> list[str]:
    return answers["text"].to_list()


def test_answers_have_their_schema_and_order(case: Case) -> None:
    answers = case.model.chat(CHATS, Sampling(n=3, max_tokens=8), SEEDS)
    assert answers.schema == ANSWERS
    assert answers["chat"].to_list() == [chat for chat in range(len(CHATS)) for _ in range(3)]
    assert answers["index"].to_list() == [0, 1, 2] * len(CHATS)
    assert set(answers["finish_reason"]) <= {"stop", "length"}
    assert (answers["logprob"] < 0).all()
    assert (answers["prompt_tokens"] > 0).all()


def test_the_card_names_engine_template_and_context(case: Case) -> None:
    card = case.model.card
    assert card.engine.startswith(f"{case.name} ")
    assert len(card.template) == 12 or case.name == card.template == "endpoint"
    assert card.context == CONTEXT


def test_the_same_seed_gives_the_same_text_whatever_is_beside_it(case: Case) -> None:
    sampling = Sampling(n=2, max_tokens=24)
    once = texts(case.model.chat(CHATS, sampling, SEEDS))
    assert texts(case.model.chat(CHATS, sampling, SEEDS)) == once
    backwards = case.model.chat(CHATS[::-1], sampling, SEEDS[::-1])
    assert texts(backwards.sort(-pl.col("chat"), "index")) == once
    for place in (0, 5, 8):
        alone = case.model.chat(CHATS[place : place + 1], sampling, SEEDS[place : place + 1])
        assert texts(alone) == once[2 * place : 2 * place + 2]


def test_another_seed_gives_another_text(case: Case) -> None:
    once = texts(case.model.chat(CHATS, DRAWN, SEEDS))
    other = texts(case.model.chat(CHATS, DRAWN, [seed + 1 for seed in SEEDS]))
    assert sum(a != b for a, b in zip(once, other, strict=True)) >= len(CHATS) // 2


def test_seeds_up_to_31_bits_and_the_same_for_all(case: Case) -> None:
    answers = case.model.chat([CHATS[0]] * 3, DRAWN, [0, 2**31 - 1, 2**31 - 1])
    first, second, third = texts(answers)
    assert second == third != first


def test_answers_of_one_seed_are_distinct(case: Case) -> None:
    answers = texts(case.model.chat([CHATS[1]], Sampling(n=8, max_tokens=24), [7]))
    assert len(set(answers)) >= 4


def test_temperature_0_does_not_depend_on_the_seed(case: Case) -> None:
    once = case.model.chat(CHATS, GREEDY, SEEDS)
    assert texts(once) == texts(case.model.chat(CHATS, GREEDY, [3] * len(CHATS)))


def test_the_best_token_alone_is_greedy(case: Case) -> None:
    greedy = texts(case.model.chat(CHATS, GREEDY, SEEDS))
    assert texts(case.model.chat(CHATS, Sampling(top_k=1, max_tokens=24), SEEDS)) == greedy


def test_greedy_is_what_transformers_generates(real: Case) -> None:
    import torch

    model, tokenizer = reference(real.weights)
    answers = real.model.chat(CHATS, GREEDY, SEEDS)
    for chat, text in zip(CHATS, texts(answers), strict=True):
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
        assert text == tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize(
    "sampling",
    [
        replace(GREEDY, repetition_penalty=1.6),
        replace(GREEDY, repetition_penalty=0.8),
        replace(GREEDY, presence_penalty=1.5, frequency_penalty=0.7),
        replace(GREEDY, frequency_penalty=-1.0),
        replace(GREEDY, min_tokens=20, repetition_penalty=1.3),  # one of these answers would end before
        replace(GREEDY, min_tokens=12, repetition_penalty=1.3, presence_penalty=0.5),
    ],
    ids=["repetition", "liked", "presence and frequency", "less frequency", "min_tokens", "all"],
)
def test_penalties_are_what_their_definitions_say(real: Case, sampling: Sampling) -> None:
    answers = real.model.chat(CHATS, sampling, SEEDS)
    assert texts(answers) == [penalised(real.weights, chat, sampling) for chat in CHATS]
    assert texts(answers) != texts(real.model.chat(CHATS, GREEDY, SEEDS))


def penalised(weights: str, chat: Chat, sampling: Sampling) -> str:
    """The greedy answer under penalties, token by token."""
    import torch
    from transformers import RepetitionPenaltyLogitsProcessor

    model, tokenizer = reference(weights)
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    prompt, answer, end = tokenizer(text, add_special_tokens=False)["input_ids"], list[int](), tokenizer.eos_token_id
    repetition = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)
    while len(answer) < sampling.max_tokens and end not in answer:
        ids = torch.tensor([prompt + answer])
        with torch.no_grad():
            logits = repetition(ids, model(ids).logits[:, -1])[0]
        for token in set(answer):
            logits[token] -= sampling.presence_penalty + sampling.frequency_penalty * answer.count(token)
        if len(answer) < sampling.min_tokens:
            logits[end] = -torch.inf
        answer.append(int(logits.argmax()))
    return str(tokenizer.decode(answer, skip_special_tokens=True))


def test_no_answer_ends_before_its_least_tokens(real: Case) -> None:
    free, bound = (real.model.chat(CHATS, Sampling(n=8, max_tokens=24, min_tokens=m), SEEDS) for m in (0, 10))
    assert free["tokens"].min() < 10 <= bound["tokens"].min()
    assert "stop" in set(bound["finish_reason"])


def test_a_stop_string_within_the_least_tokens_is_part_of_the_answer(real: Case) -> None:
    least, tried = 8, 0
    for chat in CHATS:
        whole = texts(real.model.chat([chat], replace(GREEDY, min_tokens=24), [1]))[0]
        if len(whole) < 24:  # of special tokens nothing is written, and letters cannot be counted
            continue
        early, late = whole[2:4], whole[least - 1 : least + 1]
        for stop in (early, late):
            place = whole.find(stop, least - len(stop) + 1)
            stopped = real.model.chat([chat], replace(GREEDY, min_tokens=least, stop=(stop,)), [1])
            if place >= 0 and stopped["tokens"][0] > least:
                assert texts(stopped) == [whole[:place]]
                tried += 1
        assert (
            len(texts(real.model.chat([chat], replace(GREEDY, min_tokens=least, stop=(early,)), [1]))[0]) >= least - 1
        )
    assert tried


def test_text_ends_before_a_stop_string(case: Case) -> None:
    for chat in CHATS[:4]:
        whole = texts(case.model.chat([chat], GREEDY, [1]))[0]
        stop = whole[4:7]
        assert len(stop) == 3
        answers = case.model.chat([chat], Sampling(temperature=0.0, max_tokens=24, stop=("\0", stop)), [1])
        assert answers["text"][0] == whole[: whole.index(stop)]
        assert answers["finish_reason"][0] == "stop"


def test_an_answer_that_is_cut_says_so(case: Case) -> None:
    long = case.model.chat(CHATS, DRAWN, SEEDS)
    short = case.model.chat(CHATS, Sampling(max_tokens=2), SEEDS)
    for whole, cut in zip(long.iter_rows(named=True), short.iter_rows(named=True), strict=True):
        assert cut["tokens"] <= 2
        assert whole["text"].startswith(cut["text"])
        assert cut["finish_reason"] == ("length" if whole["tokens"] > 2 else "stop")
    assert "length" in set(short["finish_reason"])


def test_an_answer_ends_where_the_context_does(case: Case) -> None:
    words = "a " * (CONTEXT // 2 - 5) if case.name in REAL else "a " * (CONTEXT - 5)
    answers = case.model.chat([said(words)], Sampling(n=8, max_tokens=500), [1])
    filled = answers.filter(pl.col("finish_reason") == "length")
    assert len(filled)
    assert (filled["prompt_tokens"] + filled["tokens"] == CONTEXT).all()


def test_a_prompt_that_is_too_long_is_refused_before_any_work(case: Case) -> None:
    chats = [CHATS[0], said("a " * CONTEXT)]
    with pytest.raises(PromptTooLong, match=rf"prompt 1 has \d+ tokens.*{CONTEXT}"):
        case.model.chat(chats, DRAWN, [1, 2])
    with pytest.raises(PromptTooLong, match="prompt 1"):
        case.model.logprobs(chats, ["b", "c"])
    assert len(case.model.chat(CHATS[:1], DRAWN, [1])) == 1


def test_nothing_is_asked(case: Case) -> None:
    answers = case.model.chat([], DRAWN, [])
    assert answers.schema == ANSWERS
    assert answers.is_empty()
    assert case.model.logprobs([], []) == []


def test_the_sampled_logprob_is_that_of_a_forward_pass(real: Case) -> None:
    """Before temperature and truncation, the end token included. Answers with unwritten special tokens are left out."""
    sampling = Sampling(n=8, max_tokens=24, temperature=1.3, top_k=70, top_p=0.98)
    compared = ended = 0
    for row in real.model.chat(CHATS, sampling, SEEDS).iter_rows(named=True):
        end = row["finish_reason"] == "stop"
        logprobs, _ = expected(real.weights, CHATS[row["chat"]], row["text"], ended=end)
        if len(logprobs) == row["tokens"]:
            assert row["logprob"] == pytest.approx(sum(logprobs), abs=1e-4)
            compared, ended = compared + 1, ended + end
    assert compared >= 20
    assert ended >= 3


def test_logprobs_are_those_of_a_forward_pass(real: Case) -> None:
    completions = ["Answer: 4", "", "x", "yes! " * 8, "\n", *["abc"[: i % 3 + 1] for i in range(len(CHATS) - 5)]]
    found = real.model.logprobs(CHATS, completions)
    for chat, completion, logprobs in zip(CHATS, completions, found, strict=True):
        assert logprobs == pytest.approx(expected(real.weights, chat, completion)[0], abs=1e-4)


def test_logprobs_agree_with_what_was_sampled(case: Case) -> None:
    answers = case.model.chat(CHATS, Sampling(max_tokens=3), SEEDS)
    scores = case.model.logprobs(CHATS, texts(answers))
    cut = [
        (row["logprob"], sum(score))
        for row, score in zip(answers.iter_rows(named=True), scores, strict=True)
        if row["finish_reason"] == "length" and row["tokens"] == len(score)
    ]
    assert len(cut) >= 4
    assert [sampled for sampled, _ in cut] == pytest.approx([scored for _, scored in cut], abs=1e-4)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(n=2000, max_tokens=1),
        Sampling(n=2000, max_tokens=1, temperature=0.6),
        Sampling(n=2000, max_tokens=1, top_k=5),
        Sampling(n=2000, max_tokens=1, top_p=0.7, temperature=1.5),
        Sampling(n=2000, max_tokens=1, min_p=0.2, temperature=1.5),
        Sampling(n=2000, max_tokens=1, min_p=0.05, top_k=9, top_p=0.8, temperature=2.0),
    ],
    ids=["plain", "temperature", "top_k", "top_p", "min_p", "all"],
)
def test_tokens_are_drawn_from_the_distribution(real: Case, sampling: Sampling) -> None:
    weights = real.weights
    _, logprobs = expected(weights, CHATS[0], "")
    chances = cut(logprobs, sampling)
    drawn = real.model.chat(CHATS[:1], sampling, [5])
    _, tokenizer = reference(weights)
    special = set(tokenizer.all_special_tokens)
    letters = {tokenizer.convert_ids_to_tokens(i): p for i, p in enumerate(chances) if p > 0}
    counts = {letter: 0 for letter in letters if letter not in special}
    for text in texts(drawn):
        if text:  # the special tokens leave no text
            counts[text] += 1
    observed = [*counts.values(), sampling.n - sum(counts.values())]
    wanted = [
        *(letters[letter] * sampling.n for letter in counts),
        sum(letters.get(s, 0) for s in special) * sampling.n,
    ]
    assert chi_square(observed, wanted) > 1e-3


def cut(logprobs: Any, sampling: Sampling) -> list[float]:
    """The probabilities that a sampling leaves, one token at a time, as the definition reads."""
    import torch

    weights = (logprobs.double() / sampling.temperature).softmax(-1)
    order = [
        token for token in weights.argsort(descending=True).tolist() if weights[token] >= sampling.min_p * weights.max()
    ]
    kept = order[: sampling.top_k] if sampling.top_k else order
    whole, reached, final = float(weights[kept].sum()), 0.0, []
    for token in kept:
        if reached >= sampling.top_p:
            break
        final.append(token)
        reached += float(weights[token]) / whole
    result = torch.zeros_like(weights)
    result[final] = weights[final] / weights[final].sum()
    chances: list[float] = result.tolist()
    return chances


def chi_square(observed: list[int], wanted: list[float]) -> float:
    """p of the observed counts; what is expected fewer than 5 times is put together."""
    pairs = sorted(zip(wanted, observed, strict=True))
    rare = [pair for pair in pairs if pair[0] < 5]
    common = [pair for pair in pairs if pair[0] >= 5]
    groups = [*common, (sum(w for w, _ in rare), sum(o for _, o in rare))] if rare else common
    groups = [group for group in groups if group[0] > 0 or group[1] > 0]
    if any(w == 0 for w, _ in groups):
        return 0.0
    return float(stats.chisquare([o for _, o in groups], [w for w, _ in groups], sum_check=False).pvalue)


def test_other_weights_are_other_weights_and_back_again(case: Case) -> None:
    if case.name == "endpoint":
        pytest.skip("a server cannot change its weights")
    once = texts(case.model.chat(CHATS, DRAWN, SEEDS))
    model = case.model
    other = case.engine.load(case.others)
    assert texts(other.chat(CHATS, DRAWN, SEEDS)) != once
    with pytest.raises(EngineError, match="no longer"):
        model.chat(CHATS, DRAWN, SEEDS)
    assert texts(case.model.chat(CHATS, DRAWN, SEEDS)) == once


def test_loading_what_is_served_is_free(case: Case) -> None:
    assert case.engine.load(case.weights) is case.engine.load(case.weights)


def test_release_and_load(case: Case) -> None:
    model = case.model
    once = texts(model.chat(CHATS, DRAWN, SEEDS))
    case.engine.release()
    case.engine.release()
    with pytest.raises(EngineError, match="no longer"):
        model.chat(CHATS, DRAWN, SEEDS)
    assert texts(case.model.chat(CHATS, DRAWN, SEEDS)) == once


@pytest.mark.parametrize(
    ("name", "make"),
    [("toy", Toy), pytest.param("local", lambda: open_engine("local"), marks=pytest.mark.slow)],
)
def test_an_engine_can_be_closed_at_any_time(
    name: str, make: Callable[[], Engine], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    engine = make()
    engine.release()
    engine.close()
    weights = request.getfixturevalue("tiny") if name in REAL else write_weights(tmp_path, 0.5)
    model = engine.load(str(weights))
    engine.close()
    engine.close()
    with pytest.raises(EngineError):
        model.chat(CHATS, DRAWN, SEEDS)
    assert len(engine.load(str(weights)).chat(CHATS[:1], DRAWN, [1])) == 1
    engine.close()


def test_a_parameter_that_an_engine_does_not_have_is_refused(tmp_path: Path) -> None:
    model = Toy().load(str(write_weights(tmp_path, 0.5)))
    with pytest.raises(RecipeError, match="the toy engine has no min_p, min_tokens"):
        model.chat(CHATS, Sampling(min_p=0.1, min_tokens=2), SEEDS)


def test_a_toy_that_dies_can_be_loaded_again(tmp_path: Path) -> None:
    engine, weights = Toy(), str(write_weights(tmp_path, 0.5, crash_after=15))
    model = engine.load(weights)
    once = texts(model.chat(CHATS, DRAWN, SEEDS))
    for _ in range(2):
        with pytest.raises(EngineError):
            model.chat(CHATS, DRAWN, SEEDS)
    assert texts(engine.load(weights).chat(CHATS, DRAWN, SEEDS)) == once


@pytest.mark.slow
def test_a_local_model_that_dies_can_be_loaded_again(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    engine = open_engine("local")
    model = engine.load(str(tiny))
    once = texts(model.chat(CHATS, DRAWN, SEEDS))
    calls: list[int] = []

    def dying(self: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 6:
            raise torch.OutOfMemoryError("out of memory\nwith details")
        return softmax(self, *args, **options)

    softmax = torch.Tensor.log_softmax
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "log_softmax", dying)
        with pytest.raises(EngineError, match=r"out of memory$"):
            model.chat(CHATS, DRAWN, SEEDS)
    with pytest.raises(EngineError, match="no longer"):
        model.chat(CHATS, DRAWN, SEEDS)
    assert texts(engine.load(str(tiny)).chat(CHATS, DRAWN, SEEDS)) == once


@pytest.mark.parametrize("name", ["toy", pytest.param("local", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "weights", ["/no/such/folder", "./nowhere", "nobody/no-such-model", "no-such-model", "{empty}"]
)
def test_weights_that_do_not_exist(name: str, weights: str, tmp_path: Path) -> None:
    weights = weights.replace("{empty}", str(tmp_path))
    with pytest.raises(WeightsError) as error:
        open_engine(name).load(weights)
    assert weights in str(error.value)
    assert "\n" not in str(error.value)
