"""Runs code that nobody has read, with its tests, as safely as this machine allows.

With namespaces, for root and wherever user namespaces are allowed, the code sees Python, the system's libraries and an
empty folder, and nothing of the machine: no file of anybody's, no network, no process. With limits alone it cannot
reach the network either, nor send a signal to another process, nor take more than its share; but it can read and write
what this user can. Either way it is gone when it was judged. See `judges.sandbox` for how.
"""

import json
import os
import platform
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

from flywheel.errors import EngineError, EngineMissing
from flywheel.processes.pool import Workers
from flywheel.protocols import Verdict
from flywheel.root import ROOT
from judges.sandbox.checker import ProgramItem
from judges.sandbox.confine import Limits
from judges.sandbox.seccomp import supported

Isolation = Literal["namespaces", "limits"]
CLOCK_FACTOR = 12
"""Seconds by the clock for each second of processor time that code may take: it may wait, or the machine be busy."""
PROGRAMS_PER_WORKER = 8
"""Answers that are worth the tenth of a second in which another worker starts."""
TRIAL = ProgramItem("", "import heapq, json\n\ndef f(x):\n    return json.loads(x)", "assert f('1') == 1", None, True)

REFUSALS = {
    "namespaces": "this machine cannot shut in the code that it would run ({}): allow user namespaces here, or accept "
    "with UnitTests(isolation='limits') that the code can read and write your files",
    "limits": "this machine cannot put limits on the code that it would run: {}",
}


def grade_programs(items: Sequence[ProgramItem], limits: Limits, isolation: Isolation) -> list[Verdict]:
    """One verdict for each item, in order. Raises EngineMissing if this machine cannot do that."""
    if items and (reason := problem(isolation)):
        raise EngineMissing(REFUSALS[isolation].format(reason))
    return _grade(items, limits, isolation)


@cache
def problem(isolation: Isolation) -> str | None:
    """Why code cannot be run like that here, or None. Tries it, once."""
    if platform.system() != "Linux" or not supported():
        return f"it does not run Linux on x86_64 or aarch64, but {platform.system()} on {platform.machine()}"
    try:
        (verdict,) = _grade([TRIAL], Limits(), isolation)
    except EngineError as error:
        return str(error)
    root = f" (root becomes nobody, who must be able to read {sys.base_prefix})" if os.getuid() == 0 else ""
    return None if verdict.score else f"a trial failed: {verdict.detail}{root}"


def report() -> str:
    """What this machine offers, in a line."""
    reason = problem("namespaces")
    if reason is None:
        return "namespaces and limits"
    worse = problem("limits")
    return f"none: {worse}" if worse else f"limits only, code could read and write your files: {reason}"


def _grade(items: Sequence[ProgramItem], limits: Limits, isolation: Isolation) -> list[Verdict]:
    with _folder(isolation) as folder:
        workers = Workers(
            [sys.executable, "-S", "-s", "-P", "-m", "judges.sandbox.worker", json.dumps(_settings(limits, isolation))],
            CLOCK_FACTOR * limits.seconds,
            PROGRAMS_PER_WORKER,
            env=_environment(),
            folder=folder,
            lasting=isolation == "namespaces",
        )
        replies = workers.replies([json.dumps(item).encode() for item in items])
        return [_verdict(reply, workers.seconds) for reply in replies]


@contextmanager
def _folder(isolation: Isolation) -> Iterator[str | None]:
    """Where code may write that has no root of its own; None where it has."""
    if isolation == "namespaces":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="flywheel-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o711)  # where root becomes nobody, nobody works in a folder below
        yield folder


def _settings(limits: Limits, isolation: Isolation) -> dict[str, object]:
    """The arguments of `judges.sandbox.worker.main`."""
    installed = [folder for folder in sys.path if Path(folder).name in ("site-packages", "dist-packages")]
    imports = (sysconfig.get_path("stdlib"), sysconfig.get_config_var("DESTSHARED"), *installed)
    python = [os.path.realpath(folder) for folder in imports if folder]
    shown = [os.path.realpath(Path(sys.base_prefix) / "lib"), *python]
    return {"isolated": isolation == "namespaces", "limits": limits, "shown": shown, "python": python}


def _environment() -> dict[str, str]:
    """Nothing of this process's, where keys may be."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    root = str(ROOT)
    same = {"PYTHONHASHSEED": "0", "TZ": "UTC", "LANG": "C.UTF-8"}  # so that a verdict is the same each time
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**kept, **same, **threads, "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1"}


def _verdict(reply: bytes | None, seconds: float) -> Verdict:
    if reply is None:
        return Verdict("timeout", None, f"no verdict within {seconds:g} s")
    return Verdict(*json.loads(reply)) if reply else Verdict("error", None, "the sandbox ended")
