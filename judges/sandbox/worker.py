"""The processes of the sandbox. Standard input: an item in each line; standard output: its verdict."""

import json
import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from judges.sandbox import namespaces
from judges.sandbox.checker import ANSWER_DOES, CHECKER_DOES, Checked, ProgramItem, check_answer, ended
from judges.sandbox.confine import Limits, confine, tasks
from judges.sandbox.rpc import Gone, Rpc

READY = b"."
NO_MORE, FAILED = 3, 4
"""Exit codes of the checker where no item came, and where the answer's process could not be confined."""


def main(isolated: bool, limits: Sequence[int], shown: Sequence[str], python: Sequence[str]) -> None:
    """Serve items, with namespaces as many as come; without them one, since only the whole group's end ends all.

    `shown` are the folders that Python needs, `python` those that it imports from.
    """
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")  # the first to go when the machine's memory is short
        if isolated:
            namespaces.enter(shown)
    except OSError as error:
        return reply({"problem": str(error)})
    sys.path[:] = python
    del os.environ["PYTHONPATH"]
    reply({})
    share = Limits(*limits)
    if not isolated:
        share = share._replace(processes=share.processes + tasks())
        os.mkdir(folder := str(os.getpid()))
        os.chmod(folder, 0o777)
        os.chdir(folder)
    while run_child(supervise, isolated, share) == 0 and isolated:
        pass
    return None


def reply(value: Any, output: int = 1) -> None:
    """One line."""
    os.write(output, json.dumps(value).encode() + b"\n")


def start_child(what: Callable[..., int | None], *arguments: Any) -> int:
    """Run `what` in a child, which ends with it."""
    child = os.fork()
    if child == 0:
        random.seed(0)  # an answer may draw at random: its verdict is the same each time
        try:
            os._exit(what(*arguments) or 0)
        finally:
            os._exit(FAILED)
    return child


def run_child(what: Callable[..., int | None], *arguments: Any) -> int:
    """Run `what` in a child, to its end; gives its exit code."""
    return exit_code(os.waitpid(start_child(what, *arguments), 0)[1])


def exit_code(status: int) -> int:
    """Above 128 for a signal."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def supervise(isolated: bool, limits: Limits) -> int:
    """One item, seen by a process that nothing of it can reach."""
    if isolated:
        namespaces.new_processes()
        namespaces.new_scratch()
    os.environ.update(dict.fromkeys(("HOME", "TMPDIR"), os.getcwd()))
    code = run_child(examine, isolated, limits)
    if code not in (0, NO_MORE):
        reply(tests_ended(code))
    if isolated:
        namespaces.drop_scratch()
    return code if code == NO_MORE else 0


def tests_ended(code: int) -> Checked:
    """What it means that the checker has ended before it had a verdict."""
    if code in (128 + signal.SIGKILL, 128 + signal.SIGXCPU):
        return "timeout", None, "processor time"
    return "error", None, "the sandbox failed" if code == FAILED else f"the tests ended their process with {code}"


def examine(isolated: bool, limits: Limits) -> int:
    """The checker: start the answer's process, then read the item, then run its tests."""
    if isolated:
        namespaces.new_processes()
    asked, asking = os.pipe()
    replied, replying = os.pipe()
    keeper = start_child(keep, isolated, limits, asked, replying)
    os.close(asked)
    os.close(replying)
    if os.read(replied, 1) != READY:
        return FAILED
    line = os.fdopen(0, "rb", closefd=False).readline()
    if not line:
        return NO_MORE
    verdicts = os.dup(1)
    be_quiet(os.devnull)
    confine(limits)
    try:
        verdict = check_answer(ProgramItem(*json.loads(line)), Rpc(replied, asking, CHECKER_DOES))
    except Gone as gone:
        os.close(asking)  # ends what only has stopped talking
        verdict = ended(str(gone), exit_code(os.waitpid(keeper, 0)[1]))
    reply(verdict, verdicts)
    return 0


def keep(isolated: bool, limits: Limits, asked: int, replying: int) -> int:
    """The first process of the answer's namespace: whatever is left when the answer ends, ends with this one."""
    if isolated:
        os.setsid()
    answer = start_child(be_asked, limits, asked, replying)
    while True:
        child, status = os.wait()
        if child == answer:
            return exit_code(status)


def be_asked(limits: Limits, asked: int, replying: int) -> None:
    """The answer: does what the checker asks, with nothing open but the two pipes, and what it prints."""
    be_quiet("output")
    os.dup2(asked, 3)
    os.dup2(replying, 4)
    os.closerange(5, 1 << 16)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    confine(limits)
    os.write(4, READY)
    Rpc(3, 4, ANSWER_DOES).serve()


def be_quiet(output: str) -> None:
    """Nothing to read, and the file `output` to print to."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(written, 1)
    os.dup2(written, 2)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
