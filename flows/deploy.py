"""All that a Prefect server must have for scheduled runs, made by one command on a server that is on.

    python -m flows.deploy

The pool with its queues, the deployments of prefect.yaml, and an automation that finds runs whose process is gone.
Run it again after each change of prefect.yaml; the limits of a queue that is there already are left as they are.
"""

import contextlib
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import typer
from prefect.automations import AutomationCore, ChangeFlowRunState, EventTrigger, Posture, ResourceSpecification
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import get_current_settings
from prefect.workers.process import ProcessWorker

from flywheel.errors import FlywheelError

ROOT = Path(__file__).resolve().parent.parent
POOL = "flywheel"
QUEUES = {"gpu": 1, "cpu": 1}
"""How many runs of a queue may go on at a time, whatever their deployment: one has the GPU, or the CPUs, for itself."""
BEAT = "prefect.flow-run.heartbeat"
SILENCE = timedelta(seconds=90)
"""A run beats every 30 seconds (prefect.yaml says so); this is three beats missed."""
LIVES_OR_RESTS = ("Completed", "Failed", "Crashed", "Cancelled", "Suspended", "Paused", "AwaitingRetry")
FOUND_DEAD = AutomationCore(
    name="flywheel: a run whose process is gone has crashed",
    description="Whatever killed it and its worker, its place in the queue becomes free, and the next run goes on.",
    trigger=EventTrigger(
        after={BEAT},
        expect={BEAT, *(f"prefect.flow-run.{state}" for state in LIVES_OR_RESTS)},
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=SILENCE,
    ),
    actions=[
        ChangeFlowRunState(
            state=StateType.CRASHED,
            name="Crashed",
            force=False,
            message=f"no sign of life for {SILENCE.seconds} s; the next run goes on where this one stopped",
        )
    ],
)


def make_pool(client: SyncPrefectClient) -> None:
    """The pool, whose runs are processes of the worker's machine, and its queues."""
    template = ProcessWorker.get_default_base_job_template()
    with contextlib.suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
    for name, limit in QUEUES.items():
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_queue(name, concurrency_limit=limit, work_pool_name=POOL)


def deploy_all() -> None:
    """What prefect.yaml describes."""
    command = (sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise FlywheelError(f"`prefect deploy --all` failed:\n{done.stdout}{done.stderr}")


def watch(client: SyncPrefectClient) -> None:
    """The automation, as it is here now."""
    known = client.read_automations_by_name(FOUND_DEAD.name)
    if known:
        client.update_automation(known[0].id, FOUND_DEAD)
    else:
        client.create_automation(FOUND_DEAD)


def deploy() -> None:
    """Set a server up; FlywheelError if there is none."""
    url = get_current_settings().api.url
    if not url:
        raise FlywheelError("PREFECT_API_URL is not set: `prefect server start` says what to set it to")
    with get_client(sync_client=True) as client:
        if problem := client.api_healthcheck():
            raise FlywheelError(f"no Prefect server answers at {url} ({problem}): `prefect server start` starts one")
        make_pool(client)
        deploy_all()
        watch(client)
    queues = ", ".join(f"{name} ({limit} at a time)" for name, limit in QUEUES.items())
    print(f"{url} has the deployments of {ROOT / 'prefect.yaml'}; queues of the pool {POOL}: {queues}")
    print(f"now start a worker on the machine that is to run them: prefect worker start --pool {POOL}")


def main() -> None:
    """Set the server at PREFECT_API_URL up: pool, queues, deployments, and what finds dead runs. Can be repeated."""
    try:
        deploy()
    except FlywheelError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
