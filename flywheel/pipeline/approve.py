"""A human's word on a promotion: the gate asks for it, a command or a form gives it, the store keeps it."""

import shlex
from pathlib import Path
from typing import NamedTuple

import polars as pl

from flywheel.errors import ApprovalNeeded, StoreError
from flywheel.pipeline.iteration import Iteration
from flywheel.store import evidence
from flywheel.store.lookup import find_run
from flywheel.store.schema import APPROVALS, now
from flywheel.store.store import Store


class Asked(NamedTuple):
    """A promotion that waits: ids of its iteration, candidate, incumbent and exam, and what it rests on in words."""

    iteration: str
    number: int
    candidate: str
    incumbent: str
    exam: str
    said: str


def settled(iteration: Iteration, candidate: str, reason: str, numbers: str) -> tuple[str, str]:
    """What a human made of a promotion, promote or hold, and why in words; ApprovalNeeded as long as nobody has."""
    verdict = evidence.human_verdict(iteration.store, iteration.id, candidate)
    if verdict is None:
        _add(iteration.store, iteration.id, candidate, "asked", None, reason)
        run = f"{iteration.run}{at_home(iteration.home)}"
        raise ApprovalNeeded(
            f"iteration {iteration.number} of {iteration.recipe.name} waits for a human, because its gate wants "
            f"approval. To be {reason}. Say `flywheel approve {run}` or `flywheel reject {run} --because ...`, then "
            "run the same command again"
        )
    status, author, said = verdict
    because = f" ({said})" if said else ""
    if status == "approved":
        return "promote", f"{reason}; approved by {author}{because}"
    return "hold", f"held, rejected by {author}{because}: {numbers}"


def waiting_promotion(store: Store, run: str) -> Asked | None:
    """The promotion of a run that waits for a human, if there is one."""
    found = evidence.waiting(store, run)
    return Asked(**found.row(0, named=True)) if len(found) else None


def record_verdict(store: Store, run: str | None, approve: bool, author: str, said: str) -> Asked:
    """Write down a human's verdict on what waits in a run (by name or id; None: the latest); StoreError if nothing."""
    id, name, _ = find_run(store, run, waiting=True)
    waiting = waiting_promotion(store, id)
    if waiting is None:
        raise StoreError(f"nothing of run {name} ({id}) waits for a human; `flywheel status` shows its decisions")
    _add(store, waiting.iteration, waiting.candidate, "approved" if approve else "rejected", author, said)
    return waiting


def at_home(home: Path) -> str:
    """The option that says where the store is, unless it is where commands look for it anyway."""
    return "" if str(home) == "runs" else f" --home {shlex.quote(str(home))}"


def _add(store: Store, iteration: str, candidate: str, status: str, author: str | None, said: str | None) -> None:
    row = dict(zip(APPROVALS, (iteration, candidate, status, author, said or None, now()), strict=True))
    store.add("approvals", pl.DataFrame([row], schema=APPROVALS))
