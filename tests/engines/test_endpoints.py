"""Several endpoints: they share the work, and one that fails costs no answer."""

import socket
from collections.abc import Iterator

import pytest

from flywheel.engines.http import client as asking
from flywheel.engines.http.endpoints import Endpoints
from flywheel.engines.table import open_engine
from flywheel.errors import EngineError, PromptTooLong, WeightsError
from flywheel.protocols import Sampling
from tests.engines.test_endpoint import Server, completion, listening_server, load, reply
from tests.engines.test_vllm import CHATS, SEEDS

MANY, MANY_SEEDS = CHATS * 10, list(range(10 * len(SEEDS)))


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Server]]:
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.01)
    with listening_server() as first, listening_server() as second:
        first.delay = second.delay = 0.02
        yield first, second


def shared(servers: tuple[Server, Server], attempts: int = 2) -> Endpoints:
    return Endpoints(",".join(server.url for server in servers), attempts=attempts, concurrency=4)


@pytest.mark.slow
def test_two_servers_share_the_work_and_answer_as_one_would(servers: tuple[Server, Server]) -> None:
    assert isinstance(open_engine("http://one:8000, https://two"), Endpoints)
    model = shared(servers).load("toy-model")
    hosts = [server.url.removeprefix("http://") for server in servers]
    assert model.card == (f"endpoint {hosts[0]},{hosts[1]}", "endpoint", 100)
    sampling = Sampling(n=2)
    frame = model.chat(MANY, sampling, MANY_SEEDS)
    asked = [len(server.asked) for server in servers]
    assert sum(asked) == len(MANY) and min(asked) > len(MANY) / 4
    assert frame.equals(load(servers[0]).chat(MANY, sampling, MANY_SEEDS))


@pytest.mark.slow
def test_a_server_that_fails_in_the_middle_costs_no_answer_and_is_left_alone(servers: tuple[Server, Server]) -> None:
    first, second = servers
    engine = shared(servers)
    first.replies = [reply("no", 500)] * 100
    first.replies[:6] = [reply(completion({"messages": [{"content": "?"}], "seed": 0}, 1))] * 6
    frame = engine.load("toy-model").chat(MANY, Sampling(), MANY_SEEDS)
    assert frame["chat"].to_list() == list(range(len(MANY)))
    assert len(second.asked) == len(MANY) - 6
    before = len(first.asked)
    engine.load("toy-model").chat(MANY, Sampling(), MANY_SEEDS)
    assert len(first.asked) == before


@pytest.mark.slow
def test_what_was_answered_before_all_servers_failed_is_not_asked_again(servers: tuple[Server, Server]) -> None:
    first, second = servers
    engine = shared(servers)
    for server in servers:
        server.replies = [reply(completion({"messages": [{"content": "?"}], "seed": 0}, 1))] * 5
        server.replies += [reply("no", 500)] * 8
    with pytest.raises(EngineError, match="answers 500"):
        engine.load("toy-model").chat(MANY, Sampling(), MANY_SEEDS)
    before = len(first.asked) + len(second.asked)
    first.replies, second.replies = [], []
    assert len(engine.load("toy-model").chat(MANY, Sampling(), MANY_SEEDS)) == len(MANY)
    assert len(first.asked) + len(second.asked) == before + len(MANY) - 10


@pytest.mark.slow
def test_a_server_that_is_not_there_is_left_out_and_other_weights_are_refused(servers: tuple[Server, Server]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    engine = Endpoints(f"{nobody},{servers[1].url}", attempts=2)
    assert len(engine.load("toy-model").chat(MANY, Sampling(), MANY_SEEDS)) == len(MANY)
    with pytest.raises(EngineError, match="cannot be reached"):
        Endpoints(f"{nobody},{nobody}", attempts=1).load("toy-model")
    with pytest.raises(WeightsError, match="serves toy-model, not other"):
        shared(servers).load("other")


def test_a_prompt_that_is_too_long_for_one_is_so_for_all(servers: tuple[Server, Server]) -> None:
    for server in servers:
        server.replies = [reply({"error": {"message": "maximum context length is 100 tokens"}}, 400)]
    with pytest.raises(PromptTooLong):
        shared(servers).load("toy-model").chat(CHATS, Sampling(), SEEDS)
