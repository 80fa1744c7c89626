"""The store's upkeep as a flow, for a schedule: is it sound, and a copy of it."""

from datetime import UTC, datetime
from pathlib import Path

from prefect import flow, get_run_logger

from flywheel.errors import StoreError
from flywheel.store.copies import backup
from flywheel.store.home import open_store
from flywheel.store.maintenance import faults


@flow(name="upkeep", flow_run_name="upkeep of {home}")
def upkeep(home: str = "runs", copies: int = 7) -> str:
    """Look for rows that do not fit together, then copy the store; a run may go on meanwhile. Gives the copy's path.

    Args:
        home: the folder of the store, datasets and checkpoints.
        copies: how many copies to keep in its folder `backups`; older ones are deleted.
    """
    place, logger = Path(home), get_run_logger()
    store = open_store(place)
    findings = list(faults(store, place))
    for finding in findings:
        logger.warning("%s: %s: %s: %s rows, such as %s", *finding)
    if wrong := sum(finding.kind == "error" for finding in findings):
        raise StoreError(f"{store.path} is not sound, so it was not copied: see the {wrong} findings in the log")
    to = place / "backups" / f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}.duckdb"
    backup(store, to)
    for old in sorted(to.parent.glob("????-??-??-??????.duckdb"))[: -max(copies, 1)]:
        old.unlink()
    return str(to)
