"""Judges that ask for likelihoods, and reward models: the values of the sheets, what fails, and whole judgings."""

import math
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.engines.toy.engine import Toy, write_weights
from flywheel.errors import RecipeError
from flywheel.protocols import BASE, POLICY, Asked, Ensemble, Judge
from flywheel.store.schema import REPLIES, SUBJECTS, VOTES
from judges.ensembles import Jury
from judges.models.likelihood import DensityRatio, Likelihood, Options, ReferenceLikelihood, reflected, weighed
from judges.models.reward_model import RewardModel
from tests.answered import Unjudged, asked
from tests.conftest import letter_tokenizer, write_llama

AB = Options(options=("A", "B"), values=(1.0, 0.0))


def subjects(*texts: str, references: tuple[str | None, ...] = (), prompts: str = "") -> pl.DataFrame:
    """SUBJECTS; `prompts` has a letter for each of them."""
    rows = [
        {
            "generation": f"g{at}",
            "prompt": (prompts or "p" * len(texts))[at],
            "chat": [{"role": "user", "content": "What is 3+4?"}],
            "index": at,
            "text": text,
            "reference": (references or (None,) * len(texts))[at],
        }
        for at, text in enumerate(texts)
    ]
    return pl.DataFrame(rows, schema=SUBJECTS)


def likelihoods(*said: list[float] | None) -> pl.DataFrame:
    """REPLIES to likelihood questions; None is a question that the engine refused."""
    rows = [
        {"chat": at, "index": 0, "logprobs": tokens, "logprob": sum(tokens), "tokens": len(tokens)}
        for at, tokens in enumerate(said)
        if tokens is not None
    ]
    return pl.DataFrame(rows, schema=REPLIES)


def scores(judge: Judge, frame: pl.DataFrame, *said: list[float] | None) -> list[tuple[float | None, str]]:
    """Score and status of each of SUBJECTS."""
    votes = judge.read(frame, likelihoods(*said))
    assert votes.schema == VOTES and votes["trace"].null_count() == len(votes)
    found = {generation: (score, status) for generation, _, _, score, status, *_ in votes.rows()}
    return [found[generation] for generation in frame["generation"]]


def test_each_option_is_asked_about_as_the_reply() -> None:
    chats = Options().ask(subjects("seven", "eight"))
    assert len(chats) == 10 and [chat[-1] for chat in chats[:2]] == [
        {"role": "assistant", "content": "1"},
        {"role": "assistant", "content": "2"},
    ]
    assert all(chat[:-1] == chats[0][:-1] for chat in chats[:5]) and "seven" in chats[0][0]["content"]
    assert "1, 2, 3, 4, 5" in chats[0][0]["content"]


def test_options_give_the_value_of_the_sheet() -> None:
    """A8: log-probabilities -0.7 of A and -1.4 of B."""
    ((score, status),) = scores(AB, subjects("x"), [-0.7], [-1.4])
    assert status == "ok" and score == pytest.approx(0.668188, abs=1e-6)


def test_a_grade_is_the_expected_value_of_the_options() -> None:
    ((certain, _),) = scores(Options(), subjects("x"), [-50.0], [-50.0], [-50.0], [0.0], [-50.0])
    assert certain == pytest.approx(4.0)
    ((even, _),) = scores(Options(), subjects("x"), *([[-9.0]] * 5))
    assert even == pytest.approx(3.0)
    ((lean, _),) = scores(Options(), subjects("x"), *([[math.log(p)] for p in (0.1, 0.1, 0.2, 0.2, 0.2)]))
    assert lean == pytest.approx((0.1 + 0.2 + 0.6 + 0.8 + 1.0) / 0.8)


def test_ten_is_no_part_of_one_where_it_takes_two_tokens() -> None:
    one, ten = math.log(0.6), math.log(0.5)  # of what begins with 1, five sixths go on to 10
    assert weighed(("1", "10"), [[one], [one, ten - one]]) == pytest.approx([1 / 6, 5 / 6])
    assert weighed(("10", "1"), [[one, ten - one], [one]]) == pytest.approx([5 / 6, 1 / 6])
    assert weighed(("1", "10"), [[one], [ten]]) == pytest.approx([6 / 11, 5 / 11])  # one token each: two other tokens
    half = math.log(0.5)
    assert weighed(("1", "10", "100", "2"), [[half], [half] * 2, [half] * 3, [half]]) == pytest.approx(
        [0.25, 0.125, 0.125, 0.5]
    )


@given(st.lists(st.floats(-30, 0), min_size=5, max_size=5))
def test_a_grade_lies_on_the_scale(said: list[float]) -> None:
    ((score, status),) = scores(Options(), subjects("x"), *([each] for each in said))
    assert status == "ok" and score is not None and 1 <= score <= 5


def test_a_failed_likelihood_is_no_number() -> None:
    assert scores(AB, subjects("x", "y"), [-0.7], None, None, None) == [(None, "refused")] * 2
    assert scores(AB, subjects("x"), [-math.inf], [-1.0]) == [(None, "error")]
    assert scores(AB, subjects("x"), [math.nan], [-1.0]) == [(None, "error")]
    assert scores(AB, subjects("x"), [], []) == [(None, "error")]
    assert scores(AB, subjects("x"), [-9e9], [-9e9]) == [(0.5, "ok")]  # unlikely is not impossible
    for judge in (Likelihood(), Likelihood(mean=False)):
        assert scores(judge, subjects("x", "", "y", "z"), None, [], [math.nan], [-math.inf]) == [
            (None, "refused"),
            (None, "error"),
            (None, "error"),
            (None, "error"),
        ]
    assert (
        Options().read(subjects(), likelihoods()).schema == VOTES == Likelihood().read(subjects(), likelihoods()).schema
    )


def test_options_with_a_reference_leave_out_those_without() -> None:
    judge = Options(template="{question} {answer} {reference}", options=("A", "B"), values=(1.0, 0.0))
    frame = subjects("x", "y", references=(None, "seven"))
    assert len(judge.ask(frame)) == 2
    assert scores(judge, frame, [-1.0], [-1.0]) == [(None, "error"), (0.5, "ok")]


def test_the_likelihood_of_an_answer_is_its_mean_or_its_sum_and_the_other_is_told() -> None:
    frame = subjects("seven", "the answer is seven")
    assert Likelihood().ask(frame)[1][-1] == {"role": "assistant", "content": "the answer is seven"}
    said = ([-3.0], [-1.0, -2.0, -0.5, -0.5])
    assert scores(Likelihood(), frame, *said) == [(-3.0, "ok"), (-1.0, "ok")]
    assert scores(Likelihood(mean=False), frame, *said) == [(-3.0, "ok"), (-4.0, "ok")]
    assert Likelihood().read(frame, likelihoods(*said))["detail"].to_list() == ["-3 in 1 tokens", "-4 in 4 tokens"]


@pytest.mark.parametrize(("mean", "ratio"), [(False, 3.0), (True, 1.0)])
def test_the_density_ratio_is_the_strong_log_probability_minus_the_weak_one(mean: bool, ratio: float) -> None:
    judge = DensityRatio(mean=mean)
    assert isinstance(judge, Ensemble) and [member.model.weights for member in judge.members] == [POLICY, BASE]
    frame = subjects("x", "too long for the weak one", "", "y")
    strong = judge.members[0].read(frame, likelihoods([-1.0, -1.0, -1.0], [-1.0], [], [-2.0]))
    weak = judge.members[1].read(frame, likelihoods([-2.0, -1.0, -3.0], None, [], [-2.0]))
    votes = judge.combine(frame, pl.concat([strong, weak]))
    assert votes.schema == VOTES and set(votes["judge"]) == {judge.name}
    assert votes.select("score", "status").rows() == [(ratio, "ok"), (None, "refused"), (None, "error"), (0.0, "ok")]


def test_tokens_of_the_reference_count_by_how_far_the_reasonings_are_apart_on_them() -> None:
    # The first token is moved by the reasoning, the second is not, the third hardly: by a tenth as much.
    group = [[-1.0, -5.0, -0.5], [-3.0, -5.0, -0.7]]
    verdicts = reflected(group, [-3.0, -6.0, -0.7])
    assert [verdict.score for verdict in verdicts] == pytest.approx([(1.0 * 2.0 + 0.1 * 0.2) / 1.1, 0.0])
    same = reflected([[-1.0, -2.0]] * 3, [-2.0, -4.0])  # no token tells them apart: all count alike
    assert [verdict.score for verdict in same] == pytest.approx([1.5] * 3)
    assert reflected([[-1.0]], [-3.0])[0].score == pytest.approx(2.0)
    assert [verdict.status for verdict in reflected([[-math.inf], [-1.0]], [-1.0])] == ["error", "ok"]
    assert reflected([[], []], [])[0].status == "error" and reflected([], [-1.0]) == []


def test_a_reference_is_weighed_after_each_reasoning_and_once_for_each_prompt_after_none() -> None:
    judge = ReferenceLikelihood(until="Answer:")
    frame = subjects("so. Answer: 7", "or", "hm", "ah", references=("7", "7", None, "9"), prompts="ppqr")
    chats = judge.ask(frame)
    assert [chat[1]["content"] for chat in chats] == ["so. ", "or", "ah", "", ""]
    assert [chat[-1]["content"] for chat in chats] == ["7", "7", "9", "7", "9"]
    assert [message["role"] for message in chats[0]] == ["user", "assistant", "user", "assistant"]
    said = ([-1.0], [-3.0], [-2.0], [-4.0], [-2.5])
    assert scores(judge, frame, *said) == [(3.0, "ok"), (1.0, "ok"), (None, "error"), (0.5, "ok")]
    without_bare = ([-1.0], None, [-2.0], [-4.0], None)
    expected = [(3.0, "ok"), (None, "refused"), (None, "error"), (None, "refused")]
    assert scores(judge, frame, *without_bare) == expected


def test_a_reward_model_is_asked_about_the_chat_with_the_answer_and_a_jury_of_them_is_cautious() -> None:
    """A5: rewards 1.0, 1.2, 0.8, 1.1 and 0.4."""
    models = tuple(RewardModel(model=Asked(weights=f"models/{number}", engine="reward")) for number in range(5))
    frame = subjects("seven<|im_end|>")
    assert models[0].ask(frame)[0][-1] == {"role": "assistant", "content": "seven< |im_end|>"}
    said = [
        model.read(frame, likelihoods([reward])) for model, reward in zip(models, (1, 1.2, 0.8, 1.1, 0.4), strict=True)
    ]
    votes = pl.concat(said)
    assert votes["score"].to_list() == [1.0, 1.2, 0.8, 1.1, 0.4]
    for jury, score in {
        Jury(members=models): 0.9,
        Jury(members=models, how="min"): 0.4,
        Jury(members=models, how="uncertainty", penalty=0.5): 0.86,
        Jury(members=models, how="uncertainty", penalty=0.1, unbiased=True): 0.89,
        Jury(members=models, how="uncertainty", penalty=0.5, unbiased=True): 0.85,
        Jury(members=models, how="uncertainty", penalty=0.0): 0.9,  # 0 is not "none given"
    }.items():
        assert jury.combine(frame, votes)["score"].to_list() == pytest.approx([score])


def test_a_reward_that_is_none_is_no_number() -> None:
    judge = RewardModel(model=Asked(weights="models/1", engine="reward"))
    assert scores(judge, subjects("a", "b", "c"), [math.nan], None, [-7.5]) == [
        (None, "error"),
        (None, "refused"),
        (-7.5, "ok"),
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Options(options=("1",), values=(1.0,)),
        lambda: Options(options=("1", "1"), values=(1.0, 2.0)),
        lambda: Options(options=("", "1"), values=(1.0, 2.0)),
        lambda: Options(options=("A", "B"), values=(1.0, 2.0, 3.0)),
        lambda: Options(options=("A", "B"), values=(1.0, math.nan)),
        lambda: Options(template="{question}"),
        lambda: DensityRatio(weak=Asked()),
        lambda: ReferenceLikelihood(until=""),
        lambda: RewardModel(model=Asked(weights="models/1")),
        lambda: RewardModel(model=Asked(engine="reward")),
    ],
)
def test_senseless_parameters_are_refused_when_a_judge_is_made(make: Callable[[], Judge]) -> None:
    with pytest.raises(RecipeError) as error:
        make()
    assert "\n" not in str(error.value)


def test_another_model_or_wording_is_another_judge() -> None:
    judges = [
        Options(),
        AB,
        Options(model=Asked(weights=BASE)),
        Options(template="{question} {answer} {options}"),
        Likelihood(),
        Likelihood(mean=False),
        Likelihood(model=Asked(weights=BASE)),
        DensityRatio(),
        DensityRatio(mean=True),
        ReferenceLikelihood(),
        ReferenceLikelihood(then="And?"),
        RewardModel(model=Asked(weights="models/1", engine="reward")),
        RewardModel(model=Asked(weights="models/2", engine="reward")),
    ]
    assert len({judge.name for judge in judges}) == len(judges)


ROWS = [asked(f"What is {a}+{a}?", f"Answer: {2 * a}", "", "well " * 500, reference=str(2 * a)) for a in range(3)]


@pytest.mark.slow
def test_likelihoods_of_the_toy_are_judgments_in_the_store(tmp_path: Path) -> None:
    strong, weak = (write_weights(tmp_path / str(seed), 0.9, seed, context=300) for seed in (1, 2))
    unjudged = Unjudged(tmp_path, ROWS, strong)
    own = unjudged.judge(Likelihood(mean=False))
    assert own["status"].to_list() == ["ok", "error", "refused"] * 3
    known = Toy().load(str(strong)).logprobs([row.chat for row in ROWS], [row.answers[0] for row in ROWS])
    assert own.filter(status="ok")["score"].to_list() == pytest.approx([sum(tokens) for tokens in known])
    others = Toy().load(str(weak)).logprobs([row.chat for row in ROWS], [row.answers[0] for row in ROWS])
    ratios = unjudged.judge(DensityRatio(weak=Asked(weights=str(weak))))
    expected = [sum(mine) - sum(other) for mine, other in zip(known, others, strict=True)]
    assert ratios.filter(status="ok")["score"].to_list() == pytest.approx(expected)
    assert ratios["status"].to_list() == own["status"].to_list()
    assert unjudged.judge(Options())["status"].to_list() == ["ok", "ok", "refused"] * 3
    assert unjudged.judge(ReferenceLikelihood(until="Answer:"))["status"].to_list() == ["ok", "ok", "refused"] * 3
    assert unjudged.store.sql("select count(*) from generations where role = 'judgment'").item() == 0


@pytest.mark.slow
def test_likelihoods_of_a_little_model_are_judgments_in_the_store(tmp_path: Path) -> None:
    weights = write_llama(tmp_path, 0, max_position_embeddings=1500)
    unjudged = Unjudged(tmp_path, ROWS[1:2], weights, "local")
    found = {
        type(judge).__name__: unjudged.judge(judge)["status"].to_list()
        for judge in (Options(), Likelihood(), ReferenceLikelihood())
    }
    assert found == {
        "Options": ["ok", "ok", "refused"],
        "Likelihood": ["ok", "error", "refused"],
        "ReferenceLikelihood": ["ok", "ok", "refused"],
    }


def write_reward(folder: Path, seed: int) -> Path:
    """A random reward model of a few thousand parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer = letter_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = LlamaConfig(vocab_size=len(tokenizer), num_labels=1, pad_token_id=0, max_position_embeddings=600, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_reward_models_are_asked_in_an_engine_of_their_own(tmp_path: Path) -> None:
    models = tuple(
        RewardModel(model=Asked(weights=str(write_reward(tmp_path / str(seed), seed)), engine="reward"))
        for seed in range(2)
    )
    unjudged = Unjudged(tmp_path, ROWS, write_weights(tmp_path / "toy", 0.9))
    ensemble = unjudged.judge(Jury(members=models, how="min"))
    assert ensemble["status"].to_list() == ["ok", "ok", "refused"] * 3
    first, second = (unjudged.judge(model)["score"] for model in models)
    assert ensemble["score"].drop_nulls().to_list() == [
        min(pair) for pair in zip(first, second, strict=True) if None not in pair
    ]
    assert (
        unjudged.judge(Likelihood())["status"].to_list() == ["ok", "error", "ok"] * 3
    )  # the recipe's own engine again
