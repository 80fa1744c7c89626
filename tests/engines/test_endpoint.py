"""Endpoints: what servers do wrong is borne or told, and vLLM's own server gives what vLLM's engine gives."""

import http.server
import json
import os
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from flywheel.engines.http import client as asking
from flywheel.engines.http.endpoint import Endpoint, ServedModel
from flywheel.engines.local.engine import Local
from flywheel.errors import EngineError, PromptTooLong, RecipeError, WeightsError
from flywheel.preflight import machine as doctor
from flywheel.processes.supervised import supervised
from flywheel.protocols import Sampling
from tests.engines.test_vllm import CHATS, SEEDS, STARTING, expected_logprobs, tiny_llama

Reply = tuple[int, bytes, dict[str, str]]


class Server:
    """Gives each chat completion the next of `replies`, or a proper one when there are none left."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.delay = 0.0
        self.most_at_once = 0
        self.knows_n = True
        self.lacks: set[str] = set()  # parameters that are refused as OpenAI's own server refuses them
        self.routes: dict[str, Any] = {}  # what else it answers
        self.url = ""
        self._now = 0
        self._lock = threading.Lock()

    def answer(self, path: str, body: dict[str, Any]) -> Reply:
        if path == "/v1/models":
            return reply({"data": [{"id": "toy-model", "max_model_len": 100}]})
        if path in self.routes:
            return reply(self.routes[path])
        if path != "/v1/chat/completions":
            return reply({"detail": "Not Found"}, 404)
        with self._lock:
            self.asked.append(body)
        if unknown := sorted(self.lacks & body.keys()):
            return reply({"error": {"message": f"Unrecognized request argument supplied: {unknown[0]}"}}, 400)
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            planned = self.replies.pop(0) if self.replies else None
        time.sleep(self.delay)
        with self._lock:
            self._now -= 1
        return planned or reply(completion(body, body["n"] if self.knows_n else 1))


def reply(value: Any, status: int = 200, **headers: str) -> Reply:
    return status, json.dumps(value).encode(), headers


def completion(body: dict[str, Any], n: int) -> dict[str, Any]:
    content = [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -0.25}]
    text = f"{body['messages'][-1]['content']}!{body['seed']}"
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": f"{text}.{index}"},
            "finish_reason": "stop",
            "logprobs": {"content": content},
        }
        for index in reversed(range(n))
    ]
    return {"choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 2 * n}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(asking, "FIRST_WAIT", 0.01)
    with listening_server() as server:
        yield server


@contextmanager
def listening_server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(length) or b"{}")
            state.keys.append(self.headers.get("authorization"))
            status, payload, headers = state.answer(self.path, body)
            if status == 0:  # hang up without a word
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {"content-length": str(len(payload)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        state.url = f"http://127.0.0.1:{listening.server_address[1]}"
        yield state
        listening.shutdown()


def load(server: Server, **options: Any) -> ServedModel:
    return Endpoint(server.url, **options).load("toy-model")


@pytest.mark.slow
def test_answers_come_in_the_order_of_chats_and_indices(server: Server) -> None:
    model = load(server)
    frame = model.chat(CHATS, Sampling(n=2, stop=("x",), top_k=5), SEEDS)
    wanted = [f"{chat[0]['content']}!{seed}.{i}" for chat, seed in zip(CHATS, SEEDS, strict=True) for i in (0, 1)]
    assert frame["text"].to_list() == wanted
    assert frame.row(1)[3:] == ("stop", 7, 2, -0.75)
    assert server.asked[0]["stop"] == ["x"] and server.asked[0]["top_k"] == 5 and server.asked[0]["max_tokens"] == 100
    assert model.card == ("endpoint " + server.url.removeprefix("http://"), "endpoint", 100)
    assert model.chat([], Sampling(), []).schema == frame.schema


def test_greedy_answers_are_asked_for_once(server: Server) -> None:
    frame = load(server).chat(CHATS[:1], Sampling(n=3, temperature=0.0), [5])
    assert [body["n"] for body in server.asked] == [1]
    assert frame["index"].to_list() == [0, 1, 2] and frame["text"].n_unique() == 1


def test_a_server_that_knows_no_n_is_asked_again_with_the_next_seeds(server: Server) -> None:
    server.knows_n = False
    frame = load(server).chat(CHATS[:1], Sampling(n=3), [5])
    assert len(frame) == 3
    assert [(body["n"], body["seed"]) for body in server.asked] == [(3, 5), (2, 6), (1, 7)]


NEUTRAL = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "min_tokens": 0,
}
SET = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 7,
    "min_p": 0.1,
    "repetition_penalty": 1.2,
    "presence_penalty": 0.3,
    "frequency_penalty": -0.4,
    "min_tokens": 2,
}


@pytest.mark.parametrize("told", [NEUTRAL, SET], ids=["neutral", "set"])
def test_every_sampling_parameter_is_sent(server: Server, told: dict[str, Any]) -> None:
    sampling = Sampling(**{**told, "top_k": max(0, told["top_k"])})
    load(server).chat(CHATS[:1], sampling, [1])
    assert {name: server.asked[0][name] for name in told} == told
    assert {field.name for field in fields(Sampling)} - {"stop"} <= {*server.asked[0]}, "a new field must be sent, too"


def test_neutral_parameters_that_a_server_does_not_know_are_left_out(server: Server) -> None:
    server.lacks = {"top_k", "min_p", "repetition_penalty", "min_tokens"}
    model = load(server)
    assert len(model.chat(CHATS[:1], Sampling(), [1])) == 1
    assert [server.lacks & body.keys() for body in server.asked][-2:] == [{"top_k"}, set()]
    assert server.asked[-1].keys() >= NEUTRAL.keys() - server.lacks
    before = len(server.asked)
    assert len(model.chat(CHATS, Sampling(), SEEDS)) == len(CHATS)
    assert len(server.asked) == before + len(CHATS), "once refused, they are never sent again"


def test_a_set_parameter_that_a_server_does_not_know_is_refused_in_one_sentence(server: Server) -> None:
    server.lacks = {"min_p", "top_k"}
    with pytest.raises(RecipeError, match=r"^min_p=0\.1 cannot be drawn here.*400: Unrecognized.*min_p$"):
        load(server).chat(CHATS[:1], Sampling(min_p=0.1), [1])


def test_a_vllm_that_refuses_a_neutral_parameter_would_put_in_its_own_so_nothing_is_left_out(server: Server) -> None:
    server.routes["/version"] = {"version": "0"}
    server.lacks = {"min_p"}
    with pytest.raises(EngineError, match="400: Unrecognized"):
        load(server).chat(CHATS[:1], Sampling(), [1])


def test_the_words_of_another_model_are_not_stored(server: Server) -> None:
    proper = completion({"messages": CHATS[0], "seed": 1}, 1)
    server.replies = [reply({**proper, "model": "toy-model"}), reply({**proper, "model": "cheaper-model"})]
    model = load(server)
    assert len(model.chat(CHATS[:1], Sampling(), [1])) == 1
    with pytest.raises(EngineError, match="answers as cheaper-model, where toy-model was asked for"):
        model.chat(CHATS[:1], Sampling(), [2])


def test_the_doctor_tells_what_a_server_would_have_changed(server: Server) -> None:
    own = {**NEUTRAL, "top_k": 0, "max_tokens": 93}
    for drawn, told in ((own, "changes no parameter"), ({**own, "top_k": 1, "min_p": 0.2}, "top_k=1, min_p=0.2 where")):
        server.routes = {"/version": {"version": "0"}, "/v1/chat/completions/render": {"sampling_params": drawn}}
        (found,) = doctor.servers(server.url)
        assert found.what == f"server {server.url}" and found.state == "ok"
        assert "serves toy-model" in found.value and told in found.value
    server.routes = {}
    (found,) = doctor.servers(server.url)
    assert "does not tell what it would draw by" in found.value
    (found,) = doctor.servers("http://127.0.0.1:9")
    assert found.state == "bad" and "cannot be reached" in found.value


@pytest.mark.slow
@pytest.mark.parametrize(
    "trouble",
    [
        reply({"error": {"message": "slow down"}}, 429, **{"retry-after": "0.02"}),
        reply({"error": {"message": "slow down"}}, 429, **{"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        reply("no", 500),
        reply({}, 503),
        (200, b'{"choices": [{"mess', {}),
        (200, b"", {}),
        reply({"choices": []}),
        reply({"choices": [{"message": None}]}),
        (200, b"{}", {"content-length": "50"}),
        (0, b"", {}),
    ],
    ids=["429", "429 date", "500", "503", "half JSON", "nothing", "no choices", "no message", "cut short", "hangs up"],
)
def test_trouble_that_passes_is_borne(server: Server, trouble: Reply) -> None:
    server.replies = [trouble, trouble]
    frame = load(server, timeout=2.0).chat(CHATS, Sampling(), SEEDS)
    assert len(frame) == len(CHATS) and len(server.asked) == len(CHATS) + 2


def test_trouble_that_stays_is_told(server: Server) -> None:
    server.replies = [reply({"error": {"message": "the GPU is on fire"}}, 500)] * 3
    with pytest.raises(EngineError, match=r"/v1/chat/completions answers 500: the GPU is on fire \(3 attempts\)"):
        load(server, attempts=3).chat(CHATS[:1], Sampling(), [1])


@pytest.mark.slow
def test_a_slow_server_is_not_waited_for_forever(server: Server) -> None:
    model = load(server, timeout=0.2, attempts=2)
    server.delay = 1.0
    with pytest.raises(EngineError, match="does not answer"):
        model.chat(CHATS[:1], Sampling(), [1])


def test_nobody_there(server: Server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EngineError, match="cannot be reached"):
        Endpoint(f"http://127.0.0.1:{port}", attempts=2).load("toy-model")
    with pytest.raises(RecipeError):
        Endpoint("http://host:not-a-port")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "message", "error", "told"),
    [
        (400, "This model's maximum context length is 100 tokens", PromptTooLong, "prompt 0 does not fit"),
        (400, "temperature must be a number", EngineError, "400: temperature"),
        (401, "bad key", EngineError, "FLYWHEEL_API_KEY"),
        (404, "no such model", EngineError, "404"),
    ],
)
def test_refusals_are_told_at_once(server: Server, status: int, message: str, error: type, told: str) -> None:
    server.replies = [reply({"error": {"message": message}}, status)]
    with pytest.raises(error, match=told):
        load(server).chat(CHATS[:1], Sampling(), [1])
    assert len(server.asked) == 1


@pytest.mark.slow
def test_answers_that_came_are_not_asked_for_again(server: Server) -> None:
    endpoint = Endpoint(server.url, attempts=1, concurrency=1)
    server.replies = [reply(completion({"messages": CHATS[0], "seed": 100}, 1)), reply("no", 500)]
    with pytest.raises(EngineError):
        endpoint.load("toy-model").chat(CHATS, Sampling(), SEEDS)
    before = len(server.asked)
    assert len(endpoint.load("toy-model").chat(CHATS, Sampling(), SEEDS)) == len(CHATS)
    assert [body["seed"] for body in server.asked[before:]] == SEEDS[1:]


@pytest.mark.slow
def test_no_more_requests_at_once_than_allowed(server: Server) -> None:
    server.delay = 0.02
    load(server, concurrency=3).chat(CHATS * 3, Sampling(), SEEDS * 3)
    assert 2 <= server.most_at_once <= 3


def test_the_key_comes_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_API_KEY", "secret")
    load(server).chat(CHATS[:1], Sampling(), [1])
    assert set(server.keys) == {"Bearer secret"}


def test_other_weights_than_the_server_has(server: Server) -> None:
    with pytest.raises(WeightsError, match=r"serves toy-model, not runs/checkpoint-2.*--model runs/checkpoint-2"):
        Endpoint(server.url).load("runs/checkpoint-2")
    named = Endpoint(server.url, model="toy-model")
    named.load("runs/checkpoint-2")
    with pytest.raises(WeightsError):  # one name cannot stand for two checkpoints
        named.load("runs/checkpoint-3")


def test_scoring_needs_vllm(server: Server) -> None:
    with pytest.raises(EngineError, match="only vLLM's own server"):
        load(server).logprobs(CHATS[:1], ["a"])


@contextmanager
def vllm_server(weights: Path, log: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(weights), "--port", str(port)]
    argv += ["--host", "127.0.0.1", "--dtype", "float32", "--enforce-eager", "--enable-scale-out"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("wb") as output, supervised(argv, env=environment, stdout=output, stderr=output) as process:
        while True:
            try:
                with urllib.request.urlopen(f"{url}/health"):
                    break
            except OSError:
                assert process.poll() is None, log.read_text()[-3000:]
                time.sleep(0.2)
        yield url


def opinionated(weights: Path) -> Path:
    """The weights with a generation config that changes what is drawn, and ends no answer as the template does."""
    config = json.loads((weights / "generation_config.json").read_text())
    opinions = {"do_sample": True, "temperature": 0.1, "top_k": 1, "min_p": 0.5, "repetition_penalty": 3.0}
    (weights / "generation_config.json").write_text(json.dumps({**config, **opinions, "eos_token_id": 5}))
    config = json.loads((weights / "tokenizer_config.json").read_text())
    special = [*config.get("extra_special_tokens", []), "<end>"]
    (weights / "tokenizer_config.json").write_text(
        json.dumps({**config, "eos_token": "<unk>", "extra_special_tokens": special})
    )
    config = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps({**config, "eos_token_id": 5}))
    return weights


@pytest.mark.vllm
@pytest.mark.timeout(STARTING)
def test_vllms_own_server(tmp_path: Path) -> None:
    weights = opinionated(tiny_llama(tmp_path / "weights", seed=3))
    with vllm_server(weights, tmp_path / "log") as url:
        model = Endpoint(url).load(str(weights))
        assert model.ends == [1], "the template's end of a turn is found over the server's own routes"
        assert "temperature=0.1, top_k=1, min_p=0.5" in next(doctor.servers(url)).value
        greedy = Sampling(temperature=0.0, max_tokens=40, repetition_penalty=1.1, presence_penalty=0.5, min_tokens=3)
        for sampling in (Sampling(temperature=0.0, max_tokens=40), greedy):
            here, there = Local().load(str(weights)).chat(CHATS, sampling, SEEDS), model.chat(CHATS, sampling, SEEDS)
            assert there.drop("logprob").equals(here.drop("logprob")) and "stop" in set(there["finish_reason"])
        assert "(vllm 0." in model.card.engine and model.card.context == 128
        sampling = Sampling(n=2, max_tokens=500, top_k=20)
        frame = model.chat(CHATS, sampling, SEEDS)
        assert frame.equals(model.chat(CHATS, sampling, SEEDS))
        assert frame["text"].n_unique() >= 2 * len(CHATS) - 1  # two may be the same short one
        for row in frame.iter_rows(named=True):
            assert row["finish_reason"] == "stop" or row["prompt_tokens"] + row["tokens"] == 128
            assert row["logprob"] < 0
        scored = model.logprobs([CHATS[0]], ["It is 1."])[0]
        assert scored == pytest.approx(expected_logprobs(weights, CHATS[0][0]["content"], "It is 1."), abs=1e-4)
        left = 128 - int(frame["prompt_tokens"][0])
        assert len(model.logprobs(CHATS[:1], ["a" * left])[0]) == left
        for content in ("x" * 500, "x" * 126):
            with pytest.raises(PromptTooLong, match=r"prompt 1 has \d+ tokens: with 1 more"):
                model.chat([CHATS[0], [{"role": "user", "content": content}]], Sampling(), [1, 2])
