"""Bar `ray`: two nodes give at least 1.7 times the throughput of one where the work is to wait, and every row once.

    python -m tests.bars.ray [--prompts N] [--latency SECONDS] [--rounds N]

A real Ray cluster on this machine, of one node and then of two. The engine is an endpoint, a real HTTP server that
takes `latency` seconds for each answer; a worker has 64 requests under way. Measured is the loop of the `sample` step,
which stores in a DuckDB file, in a flow of a Prefect server. The workers' start is not counted.
"""

import argparse
import http.server
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow

from flows.engines import serving
from flywheel.engines.table import Engines
from flywheel.pipeline.iteration import Iteration
from flywheel.pipeline.sample import answer_prompts
from flywheel.protocols import Sampling
from flywheel.store.schema import prompts_frame
from tests.bars.engine import iteration_of

TARGET = 1.7
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # as there, all stays on the loopback interface
    "RAY_memory_monitor_refresh_ms": "0",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 200 << 20}
ANSWERS = Sampling(n=2, max_tokens=8)


@contextmanager
def cluster() -> Iterator[Any]:
    """A cluster of one node, to which more can be added."""
    os.environ.update(ENVIRONMENT)  # Ray reads it as it is imported, and its processes have it from here
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        yield made
    finally:
        for node in (*made.worker_nodes, made.head_node):  # gracefully each would take half a minute
            made.remove_node(node, allow_graceful=False)


@contextmanager
def slow_server(latency: float) -> Iterator[str]:
    """The address of a server that answers every chat after `latency` seconds."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply({"data": [{"id": "slow", "max_model_len": 1000}]} if self.path == "/v1/models" else None)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            time.sleep(latency)
            self.reply(completion(body))

        def reply(self, value: Any) -> None:
            payload = json.dumps(value).encode()
            self.send_response(404 if value is None else 200)
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 512  # of connections that wait to be taken

    with Server(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """What OpenAI's interface says, with an answer that hangs on prompt, seed and number."""
    content = [{"token": "a", "logprob": -0.5}]
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": f"{body['messages'][-1]['content']} {body['seed']} {index}"},
            "finish_reason": "stop",
            "logprobs": {"content": content},
        }
        for index in range(body["n"])
    ]
    return {"choices": choices, "usage": {"prompt_tokens": 5, "completion_tokens": body["n"]}}


@flow(name="bar")
def sampled(address: str, server: str, home: Path, count: int, rounds: int) -> list[float]:
    """Answers per second of each round; a row that is missing, or there twice, stops everything."""
    prompts = prompts_frame(({"chat": [{"role": "user", "content": f"Question {at}"}]} for at in range(count)), "bar")
    engines = serving(f"ray:{address}", server, str(home / "parts"))
    try:
        return [timed(engines, home / str(seed), prompts, seed) for seed in range(rounds + 1)][1:]
    finally:
        engines.close()


def timed(engines: Engines, home: Path, prompts: Any, seed: int) -> float:
    """Answers per second of one round."""
    home.mkdir(parents=True)
    made = iteration_of(engines, home, Path("slow"), ANSWERS)  # type: ignore[arg-type]
    iteration: Iteration = replace(made, engine=engines, recipe=replace(made.recipe, batch=len(prompts)))
    iteration.store.add("prompts", prompts)
    asked = prompts.head(64) if seed == 0 else prompts  # the first round warms up
    started = time.perf_counter()
    for _ in answer_prompts(iteration, asked, "policy", ANSWERS, seed, "answer"):
        pass
    seconds = time.perf_counter() - started
    rows = iteration.store.sql('select prompt, "index", text from generations order by all')
    wanted = sorted((prompt, index) for prompt in asked["id"] for index in range(ANSWERS.n))
    assert list(rows.select("prompt", "index").iter_rows()) == wanted, "every row once"
    assert rows["text"].n_unique() == len(rows), "each with an answer of its own"
    return len(rows) / seconds


def measure(home: Path, count: int, latency: float, rounds: int) -> dict[str, Any]:
    """Answers per second with one node and with two."""
    from prefect.testing.utilities import prefect_test_harness  # 3 s, and the tests import this file

    with prefect_test_harness(server_startup_timeout=120), cluster() as nodes, slow_server(latency) as server:
        one = sampled(nodes.address, server, home / "one", count, rounds)
        nodes.add_node(**NODE)
        two = sampled(nodes.address, server, home / "two", count, rounds)
    ratio = statistics.median(two) / statistics.median(one)
    return {
        "ratio": round(ratio, 3),
        "one": [round(each, 1) for each in one],
        "two": [round(each, 1) for each in two],
        "prompts": count,
        "latency": latency,
    }


def main() -> int:
    """Measure and print the bar."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--prompts", type=int, default=1024)
    options.add_argument("--latency", type=float, default=1.0)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        value = measure(Path(name), chosen.prompts, chosen.latency, chosen.rounds)
    ok = value["ratio"] >= TARGET
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    print(json.dumps({"bar": "ray", "value": value, "target": TARGET, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
