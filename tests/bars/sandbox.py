"""Bar `sandbox`: every attack on the sandbox of tested code ends as what it is, in bounded time, and leaves nothing.

    python -m tests.bars.sandbox [--isolation namespaces|limits]

Each attack (`tests/judges/sandbox/attacks.py`) is an answer that is judged on its own. What it may have
done is looked for from outside: processes that are still there, files, bytes that reached a listener. With
`--isolation limits` the attacks on files are left out, which limits alone do not hold.
"""

import argparse
import ctypes
import json
import os
import select
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from judges.sandbox.confine import Limits
from judges.sandbox.run import CLOCK_FACTOR, Isolation, grade_programs
from tests.judges.sandbox.attacks import ATTACKS, FOLDERS, TOKEN, Attack

LIMITS = Limits(seconds=1, memory=512 << 20)
SECONDS = CLOCK_FACTOR * LIMITS.seconds + 3.0
"""For one attack, with the start of a sandbox on a busy machine."""
PR_SET_CHILD_SUBREAPER = 36


@contextmanager
def adopting() -> Iterator[None]:
    """Meanwhile every orphan below becomes a child of this process, where it can be seen."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def survivors(patience: float = 5.0) -> int:
    """Processes below this one that still live when those that were killed have had time to go."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return 0
        time.sleep(0.01)
    return sum(len(file.read_text().split()) for file in Path("/proc/self/task").glob("*/children"))


@contextmanager
def witnesses() -> Iterator[tuple[list[socket.socket], Path]]:
    """Listeners on the loopback, and an empty folder for temporary files; a secret lies in the user's home."""
    secret = Path.home() / f".{TOKEN}"
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        os.chmod(folder, 0o755)  # where root becomes nobody, it must find its own
        stack.callback(secret.unlink)
        secret.write_text("secret")
        listeners = [stack.enter_context(socket.socket(type=kind)) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        listeners[0].listen()
        yield listeners, Path(folder)


def tried(attack: Attack, isolation: Isolation, listeners: list[socket.socket], folder: Path) -> dict[str, Any]:
    """The verdict on an attack, how long it took, and what is left of it."""
    item = attack.item([listener.getsockname()[1] for listener in listeners])
    started, usual = time.perf_counter(), tempfile.tempdir
    tempfile.tempdir = str(folder)
    (verdict,) = grade_programs([item], LIMITS, isolation)
    tempfile.tempdir, seconds = usual, time.perf_counter() - started
    left = {
        "processes": survivors(),
        "files": len(list(folder.iterdir())) + sum((path / TOKEN).exists() for path in FOLDERS),
        "heard": len(select.select(listeners, [], [], 0)[0]),
    }
    ok = attack.deserves(verdict) and seconds < SECONDS and not any(left.values())
    return {"ok": ok, "verdict": verdict, "seconds": round(seconds, 2), **left}


def measure(isolation: Isolation) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each attack and what became of it."""
    with adopting(), witnesses() as (listeners, folder):
        for name, attack in ATTACKS.items():
            if isolation == "namespaces" or not attack.files:
                yield name, tried(attack, isolation, listeners, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isolation", choices=["namespaces", "limits"], default="namespaces")
    options = parser.parse_args()
    rows = []
    for name, row in measure(options.isolation):
        print(name, json.dumps(row), file=sys.stderr, flush=True)
        rows.append(row)
    value = {
        "attacks": len(rows),
        "as_they_deserve": sum(row["ok"] for row in rows),
        "longest_seconds": max(row["seconds"] for row in rows),
        **{what: sum(row[what] for row in rows) for what in ("processes", "files", "heard")},
    }
    target = {"as_they_deserve": len(rows), "longest_seconds": SECONDS, "processes": 0, "files": 0, "heard": 0}
    ok = all(row["ok"] for row in rows)
    print(json.dumps({"bar": "sandbox", "value": value, "target": target, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
