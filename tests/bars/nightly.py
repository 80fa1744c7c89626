"""Bar `nightly`: scheduled runs of a real recipe on a real Prefect server, and what stops them.

    python -m tests.bars.nightly [--recipe toy] [--keep FOLDER]

One command sets the server up. A schedule fires twice: each run adds an iteration with new prompts. A run is cancelled
half-way, and the next one takes it up. Then a run and its worker are killed with SIGKILL: the server finds it dead, and
the run that waited behind it has its place and goes on with its rows.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.engines.toy.engine import write_weights
from flywheel.recipe.load import load
from flywheel.recipe.recipe import run_id
from flywheel.store import queries
from flywheel.store.ids import content_id
from flywheel.store.store import Store
from tests.bars.kill import gone
from tests.flows.scheduled import Server, family, holder, prefect_server, until

SETTINGS = {
    "quickstart": (
        "warm_start.train.max_steps=300",
        "train.max_steps=150",
        "prompts_per_iteration=300",
        "exam.prompts.each=50",
        "batch=64",
    ),
    "toy": ("prompts_per_iteration=12", "exam.prompts.side=4"),
}
"""A run of a minute, and one that takes little but time."""
EVERY = 15
"""Seconds: how often the schedule of the bar fires; who comes too early waits."""
FOUND_DEAD = 130.0
"""Seconds that finding a dead run may take: 90 without a sign of life, and the server looks every few seconds."""
PLACE_FREE = 60.0
"""Seconds from there until the next run is on, with the start of a worker."""


class Night:
    """A home, and its runs of one deployment on a server."""

    def __init__(self, server: Server, home: Path, recipe: str) -> None:
        self.server, self.home = server, home
        overrides = list(SETTINGS[recipe])
        if recipe == "toy":
            overrides += [f"base={write_weights(home.parent / 'slow', 0.3, 1, delay=0.5, train_delay=2.0)}"]
        self.parameters = {"recipe": recipe, "more": 1, "overrides": overrides, "home": str(home)}
        self.run = run_id(load(recipe, overrides=overrides))
        self.store = Store(home / "flywheel.duckdb")

    def start(self) -> str:
        """Another flow run."""
        return self.server.start("flywheel/quickstart", **self.parameters)

    def decided(self) -> list[int]:
        """Numbers of the iterations that have a decision."""
        return queries.decisions(self.store, self.run)["number"].to_list() if self.store.path.exists() else []

    def prompts(self, number: int) -> set[str]:
        """What an iteration worked on."""
        return set(queries.proposed(self.store, content_id("iteration", self.run, number))["id"])

    def answers(self, number: int) -> pl.DataFrame:
        """Ids of what was sampled in an iteration."""
        query = "select g.id from generations g join iterations i on g.draw = i.draw where i.run = $run and number = $n"
        found: pl.DataFrame = self.store.sql(query, {"run": self.run, "n": number})
        return found

    def half_way(self, flow_run: str, number: int) -> int:
        """Waits until the flow run has sampled something of an iteration; the id of its process."""
        until(lambda: len(self.answers(number)), 240, f"iteration {number} has no answers")
        who = holder(self.home)
        assert who and who["flow_run"] == flow_run, f"{who} has the lock, not {flow_run}"
        return int(who["pid"])


def scheduled(night: Night) -> dict[str, Any]:
    """A schedule fires until two runs are done; then it goes."""
    server = night.server
    path = f"deployments/{server.deployments()['quickstart']['id']}/schedules"
    started = time.monotonic()
    parts = {"schedule": {"interval": EVERY}, "active": True, "parameters": night.parameters, "slug": "often"}
    [made] = server.post(path, parts)
    until(lambda: len(done(server)) >= 2, 600, "the schedule has not made two runs")
    server.delete(f"{path}/{made['id']}")
    until(lambda: not going_on(server), 300, "a run goes on")
    seconds = time.monotonic() - started
    states = [run["state_name"] for run in server.post("flow_runs/filter") if run["state_name"] != "Scheduled"]
    numbers = night.decided()
    apart = all(not night.prompts(a) & night.prompts(b) for a in numbers[1:] for b in numbers[1:] if a < b)
    ok = set(states) == {"Completed"} and numbers == list(range(len(states) + 1)) and apart
    return {"runs": len(states), "iterations": numbers, "prompts differ": apart, "seconds": round(seconds), "ok": ok}


def done(server: Server) -> list[dict[str, Any]]:
    """Flow runs that have completed."""
    return [run for run in server.post("flow_runs/filter") if run["state_type"] == "COMPLETED"]


def going_on(server: Server) -> list[dict[str, Any]]:
    """Flow runs that go on or are about to."""
    return [run for run in server.post("flow_runs/filter") if run["state_type"] in ("PENDING", "RUNNING", "CANCELLING")]


def cancelled(night: Night) -> dict[str, Any]:
    """A run is cancelled in the middle of its sampling; the next one ends what it began."""
    number = max(len(night.decided()), 1)
    first = night.start()
    below = family(night.half_way(first, number))
    started = time.monotonic()
    night.server.cancel(first)
    state = night.server.ended(first, 60)["state_name"]
    seconds = time.monotonic() - started
    gone(below)
    before = set(night.answers(number)["id"])
    undecided = number not in night.decided()
    second = night.server.ended(night.start(), 300)["state_name"]
    kept = before <= set(night.answers(number)["id"])
    ok = (state, second) == ("Cancelled", "Completed") and undecided and kept and number in night.decided()
    return {"state": state, "seconds": round(seconds, 1), "answers kept": len(before), "then": second, "ok": ok}


def killed(night: Night, worker: int) -> dict[str, Any]:
    """SIGKILL for the worker and for the flow run's process; another run waits behind it."""
    number = max(len(night.decided()), 1)
    first = night.start()
    pid = night.half_way(first, number)
    second = night.start()
    below = family(pid)
    for victim in (worker, pid):
        os.kill(victim, signal.SIGKILL)
    started = time.monotonic()
    gone(below)
    until(lambda: night.server.run(first)["state_type"] == "CRASHED", 300, "the killed run is not found dead")
    found = time.monotonic() - started
    with night.server.worker():
        until(lambda: night.server.run(second)["state_type"] == "RUNNING", 300, "the next run has no place")
        free = time.monotonic() - started - found
        state = night.server.ended(second, 300)["state_name"]
    ok = found <= FOUND_DEAD and free <= PLACE_FREE and state == "Completed" and number in night.decided()
    return {"found dead after": round(found), "place free after": round(free), "then": state, "ok": ok}


def main() -> int:
    """Measure and print the bar."""
    options = argparse.ArgumentParser()
    options.add_argument("--keep", type=Path, help="folder for the server, the store and the logs, which stays")
    options.add_argument("--recipe", default="quickstart", choices=SETTINGS)
    given = options.parse_args()
    with contextlib.ExitStack() as stack:
        place = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        (place / "prefect").mkdir(parents=True)
        server = stack.enter_context(prefect_server(place / "prefect"))
        started = time.monotonic()
        print(server.set_up(), flush=True)
        value: dict[str, Any] = {"set up": {"seconds": round(time.monotonic() - started, 1), "ok": True}}
        night = Night(server, place / "home", given.recipe)
        with server.worker() as worker:
            for name, measure in (("scheduled", scheduled), ("cancelled", cancelled)):
                value[name] = measure(night)
                print(name, value[name], flush=True)
            value["killed"] = killed(night, worker.pid)
    ok = all(part["ok"] for part in value.values())
    target = {"found dead after": FOUND_DEAD, "place free after": PLACE_FREE}
    print(json.dumps({"bar": "nightly", "value": value, "target": target, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
