"""Portions of a batch: what a worker leaves and gives back, and where workers belong."""

import pickle
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from flows.engines import serving
from flows.ray.cluster import places
from flows.ray.failures import Lost, Portion, refused, worst
from flows.ray.worker import Question, Worker, folder
from flywheel.engines.toy.engine import Toy, write_weights
from flywheel.errors import EngineError, EngineMissing, PromptTooLong, RecipeError, TrainingError, WeightsError
from flywheel.pipeline.loop import iterate
from flywheel.protocols import Sampling
from flywheel.recipe.load import load
from flywheel.store.schema import Chat

DRAWN = Sampling(n=2, max_tokens=16)


def said(content: str) -> Chat:
    return [{"role": "user", "content": content}]


CHATS = [said(f"What is {a}+3?") for a in range(5)]


@pytest.fixture
def weights(tmp_path: Path) -> str:
    return str(write_weights(tmp_path / "weights", 0.5, context=24))


def test_a_worker_leaves_what_its_engine_answers(weights: str, tmp_path: Path) -> None:
    worker, model, part = Worker("toy"), Toy().load(weights), str(tmp_path / "part.parquet")
    assert worker.load("toy", weights) == model.card
    assert worker.answer(Question("toy", weights, DRAWN), list(zip(CHATS, range(5), strict=True)), part) is None
    assert pl.read_parquet(part).equals(model.chat(CHATS, DRAWN, range(5)))
    said_before = list(zip(CHATS, ["Answer: 3", "", "a b", "c", "d"], strict=True))
    assert worker.answer(Question("toy", weights, None), said_before, part) is None
    assert pl.read_parquet(part)["logprobs"].to_list() == model.logprobs(CHATS, [text for _, text in said_before])
    worker.close()


def test_a_worker_gives_errors_back_that_survive_the_way(weights: str, tmp_path: Path) -> None:
    worker, long = Worker("toy"), said("word " * 30)
    items = list(zip([*CHATS, long], range(6), strict=True))
    failure = worker.answer(Question("toy", weights, DRAWN), items, str(tmp_path / "part.parquet"))
    arrived = pickle.loads(pickle.dumps(failure))
    assert isinstance(arrived, PromptTooLong) and arrived.prompts == {5} and str(arrived) == str(failure)
    assert not (tmp_path / "part.parquet").exists()


def test_a_worker_that_does_not_see_weights_or_parts_says_what_must_be_shared(weights: str, tmp_path: Path) -> None:
    worker = Worker("toy")
    failure = worker.load("toy", str(tmp_path / "elsewhere"))
    assert isinstance(failure, WeightsError) and "file system that all nodes share" in str(failure)
    question, items = Question("toy", weights, DRAWN), [(CHATS[0], 1)]
    failure = worker.answer(question, items, str(tmp_path / "no" / "part.parquet"))
    assert isinstance(failure, EngineError) and "Every node must see the folder of the parts" in str(failure)


def test_there_is_a_worker_for_each_gpu_or_else_for_each_node_with_a_cpu() -> None:
    def node(name: str, **resources: float) -> dict[str, object]:
        return {"NodeID": name, "Resources": resources}

    assert places([node("a", CPU=8), node("b", CPU=2), node("head")]) == {("a", 0): False, ("b", 0): False}
    assert places([node("a", CPU=8), node("b", CPU=2, GPU=2)]) == {("b", 0): True, ("b", 1): True}
    assert places([]) == {}


def test_of_several_failures_the_one_that_no_repetition_cures_is_raised() -> None:
    lost, missing, wrong = Lost("gone"), EngineMissing("no vllm"), WeightsError("no such folder")
    long = [PromptTooLong("prompt 1 has", [1, 2]), PromptTooLong("prompt 7 has", [7])]
    assert worst([lost, *long, missing]) is missing
    assert worst([lost, wrong]) is wrong
    told = worst([lost, *long])
    assert isinstance(told, PromptTooLong) and told.prompts == {1, 2, 7}
    assert worst([lost, EngineError("failed")]) is lost


def test_prompts_that_are_too_long_are_told_by_their_places_in_the_batch() -> None:
    portion = Portion([4, 6, 9], ("node", 0), "part")
    told = refused(portion, PromptTooLong("prompt 1 has 30 tokens", [1, 2]))
    assert told.prompts == {6, 9} and str(told).startswith("prompt 6 has 30 tokens")


def test_parts_lie_in_a_folder_of_their_own_that_is_gone_at_the_end(tmp_path: Path) -> None:
    with folder(str(tmp_path / "parts")) as place:
        assert Path(place).is_dir() and Path(place).parent == tmp_path / "parts"
        (Path(place) / "left.parquet").write_bytes(b"x")
    assert list((tmp_path / "parts").iterdir()) == []
    with pytest.raises(RecipeError, match="parts cannot be left at"), folder("nowhere://bucket/parts"):
        pass


def test_a_task_runner_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RecipeError, match="`thread`, `ray` or `ray:ADDRESS`"):
        serving("dask", "toy", "parts")


@pytest.mark.slow
def test_trainings_start_with_the_launcher_of_the_environment(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_LAUNCHER", "no-such-launcher --num_processes '4'")
    settings = (f"base={weights}", "exam.prompts.side=1", "prompts.side=1", "batch=64")
    with pytest.raises(TrainingError, match="`no-such-launcher` is not installed"):
        for _ in iterate(partial(load, "toy", overrides=settings), tmp_path / "home", iterations=1):
            pass
