"""prefect.yaml on a real Prefect server: what is deployed, and a run of it by a worker."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.run import last_decided
from flywheel import history
from flywheel.engines.toy import write_weights
from flywheel.load import load, shipped
from flywheel.store import Store
from flywheel.turn import run_id
from tests.test_flow import QUIET, SETTINGS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).resolve().parent.parent
PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")


def prefect(*arguments: str) -> None:
    done = subprocess.run([*PREFECT, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until_healthy(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(480):
        assert server.poll() is None, "the server ended"
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.25)
    pytest.fail("the server did not start within two minutes")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that has the pool and all deployments."""
    place = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    with pytest.MonkeyPatch.context() as patch, (place / "server.log").open("wb") as log:
        names = {"PREFECT_HOME": str(place), "PYTHONPATH": str(ROOT), "FLYWHEEL_TOY_WEIGHTS": str(place / "weights")}
        for name, value in {**QUIET, **names, "PREFECT_API_URL": url}.items():
            patch.setenv(name, value)
        write_weights(place / "weights", 0.3, 1)
        command = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(command, cwd=place, stdout=log, stderr=log)
        try:
            wait_until_healthy(url, process)
            prefect("work-pool", "create", "flywheel", "--type", "process")
            prefect("deploy", "--all")
            yield url
        finally:
            stop(process)


def deployments(url: str) -> dict[str, dict[str, Any]]:
    found = httpx.post(f"{url}/deployments/filter", json={}).raise_for_status().json()
    return {deployment["name"]: deployment for deployment in found}


def test_every_deployment_runs_a_shipped_recipe_and_only_the_laptops_schedule_is_on(server: str) -> None:
    found = deployments(server)
    assert set(found) == {"quickstart", "gsm8k", "rest-em", "self-rewarding", "meta-rewarding"}
    assert {name: made["parameters"]["recipe"] for name, made in found.items()} == {name: name for name in found}
    assert set(found) <= set(shipped())
    for name, made in found.items():
        [schedule] = made["schedules"]
        assert schedule["active"] == (name == "quickstart")
        assert schedule["schedule"]["cron"].endswith("* * *"), "once a night"
        assert made["tags"] and made["description"] and made["work_pool_name"] == "flywheel"
        assert ("gpu" in made["tags"]) == ("GPU" in made["description"]) == (not schedule["active"])


def test_two_runs_of_one_deployment_wait_for_each_other(server: str) -> None:
    for made in deployments(server).values():
        assert made["global_concurrency_limit"]["limit"] == 1
        assert made["concurrency_options"]["collision_strategy"] == "ENQUEUE"


def test_a_deployment_names_the_folder_it_was_made_from_and_prefect_yaml_none(server: str) -> None:
    for made in deployments(server).values():
        [step] = made["pull_steps"]
        assert step == {"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}
    assert str(ROOT) not in (ROOT / "prefect.yaml").read_text()


def test_the_form_of_a_run_explains_each_parameter(server: str) -> None:
    schema = deployments(server)["quickstart"]["parameter_openapi_schema"]
    assert {"recipe", "iterations", "overrides", "home", "more"} == set(schema["properties"])
    assert all(len(field.get("description", "")) > 20 for field in schema["properties"].values()), schema
    assert schema["required"] == ["recipe"]


def test_the_server_makes_tonights_run_by_itself(server: str) -> None:
    quickstart = deployments(server)["quickstart"]["id"]
    asked = {"deployments": {"id": {"any_": [quickstart]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    for _ in range(120):
        if httpx.post(f"{server}/flow_runs/filter", json=asked).json():
            return
        time.sleep(0.5)
    pytest.fail("no run was scheduled within a minute")


def test_a_worker_runs_a_deployment_and_leaves_rows_in_the_store(server: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    parameters = {"recipe": "toy", "more": 1, "overrides": list(SETTINGS), "home": str(home)}
    prefect("deployment", "run", "flywheel/quickstart", "--params", json.dumps(parameters))
    worker = [*PREFECT, "worker", "start", "--pool", "flywheel", "--limit", "1"]
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(worker, cwd=tmp_path, stdout=log, stderr=log)
        try:
            state = ended(server)
        finally:
            stop(process)
    assert state == "COMPLETED", (tmp_path / "worker.log").read_text()[-3000:]
    store = Store(home / "flywheel.duckdb")
    recipe = load("toy", overrides=SETTINGS)
    assert history.decisions(store, run_id(recipe))["number"].to_list() == [0, 1]
    assert last_decided(recipe, store) == 1, "so the next night makes iteration 2"


def ended(url: str) -> str:
    """How the one run that was asked for ended."""
    asked = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}}}
    for _ in range(480):
        if found := httpx.post(f"{url}/flow_runs/filter", json=asked).json():
            return str(found[0]["state_type"])
        time.sleep(0.5)
    return "not ended within four minutes"
