"""A real Prefect server on loopback that has our deployments, a worker for it, and what to ask of it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import httpx

from flywheel.engines.toy.engine import write_weights
from flywheel.processes.environment import QUIET
from tests import ROOT
from tests.bars.kill import descendants

PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")
QUICK = {  # seconds; as they come, a worker looks every 10 and a run that waits for its turn every 30
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
}
BUSY = 503
"""What Prefect answers where its database is locked for too long; its own client tries again, too."""
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Server:
    """A server's API, with what the tests ask of it."""

    def __init__(self, url: str, place: Path) -> None:
        self.url, self.place = url, place
        self._http = httpx.Client(base_url=url, timeout=120, trust_env=False)
        self.environment = {
            **os.environ,
            **QUIET,
            **QUICK,
            "PREFECT_API_URL": url,
            "PREFECT_HOME": str(place),
            "PYTHONPATH": str(ROOT),
            "FLYWHEEL_TOY_WEIGHTS": str(place / "weights"),
        }

    def post(self, path: str, *items: Any, **body: Any) -> Any:
        """The answer to a question or an order, which is an object or a list of items."""
        return self._ask("POST", path, list(items) or body).json()

    def patch(self, path: str, **body: Any) -> None:
        """Change what is at a path."""
        self._ask("PATCH", path, body)

    def delete(self, path: str) -> None:
        """Remove what is at a path."""
        self._ask("DELETE", path)

    def get(self, path: str) -> Any:
        """What is at a path."""
        return self._ask("GET", path).json()

    def _ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        answer = self._http.request(method, path, json=body)
        while answer.status_code == BUSY:
            time.sleep(1)
            answer = self._http.request(method, path, json=body)
        assert answer.is_success, f"{path}: {answer.text}"
        return answer

    def call(self, *command: str) -> str:
        """What a command prints that talks to the server and succeeds."""
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def set_up(self) -> str:
        """Our one command."""
        return self.call(sys.executable, "-m", "flows.deploy")

    def deployments(self) -> dict[str, dict[str, Any]]:
        """By name."""
        return {made["name"]: made for made in self.post("deployments/filter")}

    def start(self, deployment: str, **parameters: Any) -> str:
        """A new flow run's id."""
        id = self.get(f"deployments/name/{deployment}")["id"]
        return str(self.post(f"deployments/{id}/create_flow_run", parameters=parameters)["id"])

    def run(self, id: str) -> dict[str, Any]:
        """A flow run."""
        found: dict[str, Any] = self.get(f"flow_runs/{id}")
        return found

    def cancel(self, id: str) -> None:
        """As the page does."""
        self.post(f"flow_runs/{id}/set_state", state={"type": "CANCELLING"})

    def ended(self, id: str, seconds: float = 400) -> dict[str, Any]:
        """A flow run when it has ended."""
        until(lambda: self.run(id)["state_type"] in FINAL, seconds, f"flow run {id} has not ended")
        return self.run(id)

    @contextlib.contextmanager
    def worker(self) -> Iterator["subprocess.Popen[bytes]"]:
        """A worker of the pool, in a folder of its own; it prints to worker.log there."""
        command = [*PREFECT, "worker", "start", "--pool", "flywheel"]
        with (self.place / "worker.log").open("ab") as log:
            process = begin(command, self, log)
            with stopping(process):
                yield process


def begin(command: Sequence[str], server: Server, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """A process in a session of its own: Ctrl-C reaches the test alone, which then ends the process in order."""
    options: dict[str, Any] = {"stdout": log, "stderr": log, "start_new_session": True}
    return subprocess.Popen(command, cwd=server.place, env=server.environment, **options)


def until(done: Callable[[], object], seconds: float, otherwise: str) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{otherwise} after {seconds} s"
        time.sleep(0.5)


@contextlib.contextmanager
def stopping(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """On leaving, the process and all that it started are gone."""
    try:
        yield
    finally:
        below = descendants(process.pid)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        for pid in (process.pid, *below):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def prefect_server(place: Path) -> Iterator[Server]:
    """A server on a free port; its database, its log and toy weights are in `place`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}/api", place)
    write_weights(place / "weights", 0.3, 1)
    command = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (place / "server.log").open("wb") as log:
        process = begin(command, server, log)
        with stopping(process):
            until(lambda: _healthy(server, process), 240, "the server is not there")
            yield server


def _healthy(server: Server, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, (server.place / "server.log").read_text()[-3000:]
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{server.url}/health").is_success
    return False


def holder(home: Path) -> Mapping[str, Any] | None:
    """Who turns the one run in a home, as its lock says, or None where nobody has."""
    files = list((home / "locks").glob("*.lock"))
    text = files[0].read_text() if files else ""
    found: Mapping[str, Any] | None = json.loads(text) if text.endswith("}") else None
    return found


def family(pid: int) -> Sequence[int]:
    """A process and all below it."""
    return [pid, *descendants(pid)]
