"""A child process that answers one question at a time over a socket, and is gone when its parent is."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from flywheel import errors
from flywheel.errors import EngineError
from flywheel.processes.supervised import supervised
from flywheel.root import ROOT

VLLM_POLL_SECONDS = 0.2
TAIL_LINES, TAIL_CHARACTERS, LOG_BYTES = 10, 2000, 100_000
ERROR_LINE = re.compile(r"\b\w+(?:Error|Exception): .*")


class Child:
    """`python -m MODULE FD`, which takes its arguments and then its questions from the socket FD.

    What it prints goes to a log, whose end is quoted when it dies. A child that has failed is stopped, not mended.
    """

    def __init__(self, name: str, module: str, arguments: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self.name = name
        self.alive = True
        self._lock = threading.Lock()
        descriptor, log = tempfile.mkstemp(prefix=f"flywheel-{name}-", suffix=".log")
        self._log = Path(log)
        ours, theirs = socket.socketpair()
        self._connection: Connection[Any, Any] = Connection(ours.detach())
        self._stack = contextlib.ExitStack()
        with theirs, open(descriptor, "wb") as output:
            self._process = self._stack.enter_context(
                supervised(
                    [sys.executable, "-m", module, str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=with_our_path({**os.environ, **environment}),
                )
            )
        self._send(dict(arguments), "starting")

    def ask(self, question: str, **arguments: Any) -> Any:
        """The answer, or the error of flywheel.errors that the child names, or EngineError where it died or failed."""
        with self._lock:
            self._send((question, arguments), question)
            kind, value = self._receive(question)
        if kind == "ok":
            return value
        if kind == "refused":
            name, message, *more = value
            raise getattr(errors, name)(message, *more)
        raise self._broken(f"the {self.name} process failed in `{question}`: {value}")

    def stop(self) -> None:
        """End it and everything below it; the log goes too. Can be called twice."""
        self._end()
        self._log.unlink(missing_ok=True)

    def _send(self, message: Any, doing: str) -> None:
        if not self.alive:
            raise EngineError(f"the {self.name} process is no longer there; load the weights again")
        try:
            self._connection.send(message)
        except OSError as error:
            raise self._broken(f"the {self.name} process died before `{doing}`") from error

    def _receive(self, doing: str) -> Any:
        try:
            while not self._connection.poll(VLLM_POLL_SECONDS):
                # A grandchild may hold the socket open, so its end is no sure sign.
                if self._process.poll() is not None and not self._connection.poll(0):
                    raise EOFError
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._broken(f"the {self.name} process died{self._exit_code()} in `{doing}`") from error
        except BaseException:  # Ctrl-C: the answer would come to the next question
            self.stop()
            raise

    def _exit_code(self) -> str:
        try:
            return f" with exit code {self._process.wait(1.0)}"
        except subprocess.TimeoutExpired:  # it lives on, but has closed the socket
            return ""

    def _broken(self, sentence: str) -> EngineError:
        self._end()
        return EngineError(
            f"{sentence}; the next load starts it again. The end of its log {self._log}:\n{self._tail()}"
        )

    def _end(self) -> None:
        self.alive = False
        self._stack.close()
        self._connection.close()

    def _tail(self) -> str:
        with contextlib.suppress(OSError):
            text = self._log.read_bytes()[-LOG_BYTES:].decode("utf-8", "replace")
            # The first error is the cause; what vLLM's other processes say of it comes last.
            causes = list(dict.fromkeys(ERROR_LINE.findall(text)))[:3]
            return "\n".join([*causes, "...", "\n".join(text.splitlines()[-TAIL_LINES:])[-TAIL_CHARACTERS:]])
        return "(no log)"


def with_our_path(environment: dict[str, str]) -> dict[str, str]:
    """This very package is what the child imports, installed or not, whatever the working directory."""
    ours = str(ROOT)
    path = [ours, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    return {**environment, "PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}
