"""Children that answer line by line, several at a time. Each can be given up, and none outlives this process."""

import json
import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from flywheel.errors import EngineError
from flywheel.processes.supervised import supervised

WORKERS = max(1, min(4, os.cpu_count() or 1))
START_SECONDS = 120.0


@dataclass(frozen=True)
class Workers:
    """A kind of worker. It first writes one line of JSON: {}, or {"problem": why it cannot work}.

    `seconds` is how long it may take over one request, and `share` how many requests are worth another worker's start.
    A worker that is not `lasting` is good for one.
    """

    argv: Sequence[str]
    seconds: float
    share: int
    env: Mapping[str, str] | None = None
    folder: str | None = None
    lasting: bool = True

    def replies(self, requests: Sequence[bytes]) -> list[bytes | None]:
        """The reply to each line, in order: empty where it ended its worker, None where that took too long.

        Raises EngineError if no worker can start.
        """
        waiting, replies = deque(enumerate(requests)), dict[int, bytes | None]()
        workers = min(WORKERS, 1 + len(requests) // self.share)
        with ThreadPoolExecutor(workers) as threads:
            try:
                for thread in [threads.submit(self._drain, waiting, replies) for _ in range(workers)]:
                    thread.result()
            finally:
                waiting.clear()  # after an error or Ctrl-C the other threads end with the request that they are at
        return [replies[number] for number in range(len(requests))]

    def _drain(self, waiting: "deque[tuple[int, bytes]]", replies: dict[int, bytes | None]) -> None:
        """Have answered what is waiting, by a new worker whenever one had to be given up."""
        while waiting:
            with self._worker() as worker:
                for number, request in _take(waiting):
                    replies[number] = reply = _ask(worker, request, self.seconds)
                    if not reply or not self.lasting:
                        break

    @contextmanager
    def _worker(self) -> Iterator["subprocess.Popen[bytes]"]:
        """A worker that is ready."""
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        options: dict[str, Any] = {"env": self.env, "cwd": self.folder}
        with supervised(self.argv, stdin=pipe, stdout=pipe, stderr=null, bufsize=0, **options) as worker:
            try:
                if not (line := _line(worker, START_SECONDS)):
                    raise EngineError(f"a worker did not start: try {' '.join(self.argv)}")
                if problem := json.loads(line).get("problem"):
                    raise EngineError(problem)
                yield worker
            finally:
                for end in (worker.stdin, worker.stdout):
                    if end is not None:
                        end.close()


def _take(waiting: "deque[tuple[int, bytes]]") -> Iterator[tuple[int, bytes]]:
    with suppress(IndexError):  # another thread may take the last one
        while True:
            yield waiting.popleft()


def _ask(worker: "subprocess.Popen[bytes]", request: bytes, seconds: float) -> bytes | None:
    """The worker's reply; empty if it ended, None if it takes longer."""
    assert worker.stdin is not None
    try:
        worker.stdin.write(request + b"\n")
    except BrokenPipeError:
        return b""
    return _line(worker, seconds)


def _line(worker: "subprocess.Popen[bytes]", seconds: float) -> bytes | None:
    """The next line that the worker writes; empty if it ended, None if it takes longer."""
    assert worker.stdout is not None
    line, deadline = b"", time.monotonic() + seconds
    while not line.endswith(b"\n"):
        if not select.select([worker.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        piece = os.read(worker.stdout.fileno(), 65536)
        if not piece:
            return b""
        line += piece
    return line
