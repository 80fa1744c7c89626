"""Children that end with their parent, whatever kills it.

`supervised(argv)` runs `argv` in a process group of its own below a small keeper process. The keeper holds the reading
end of a pipe whose writing end only the parent has; when the parent is gone, also by SIGKILL, the pipe closes and the
keeper kills the group. (PR_SET_PDEATHSIG alone would miss grandchildren, and fires when the *thread* that started the
child ends.)
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

PR_SET_PDEATHSIG = 1
CHILD_POLL_SECONDS = 0.05


@contextlib.contextmanager
def supervised(
    argv: Sequence[str], *, pass_fds: Sequence[int] = (), **options: Any
) -> Iterator["subprocess.Popen[Any]"]:
    """Run `argv`; on leaving, the child and everything below it is gone. Options are those of subprocess.Popen."""
    reading, writing = os.pipe()
    keeper = [sys.executable, "-I", "-S", os.path.abspath(__file__), str(reading), *argv]
    try:
        process = subprocess.Popen(keeper, pass_fds=(reading, *pass_fds), start_new_session=True, **options)
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    try:
        yield process
    finally:
        os.close(writing)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def keep(pipe: int, argv: Sequence[str]) -> int:
    """The keeper: run `argv`, kill the whole group when the pipe closes, else give back the exit code."""
    child = subprocess.Popen(argv, preexec_fn=_die_with_keeper, close_fds=False)  # noqa: PLW1509  (one thread)
    while child.poll() is None:
        if select.select([pipe], [], [], CHILD_POLL_SECONDS)[0]:
            os.killpg(0, signal.SIGKILL)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _die_with_keeper() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    os.set_inheritable(int(sys.argv[1]), False)
    sys.exit(keep(int(sys.argv[1]), sys.argv[2:]))
