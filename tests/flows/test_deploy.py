"""Scheduled runs on a real Prefect server: what one command sets up, and what a worker makes of it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import deploy
from flywheel.engines.toy.engine import write_weights
from flywheel.recipe.load import load, shipped
from flywheel.recipe.recipe import run_id
from flywheel.store import queries
from flywheel.store.ids import content_id
from flywheel.store.store import Store
from tests.bars.kill import gone
from tests.flows.scheduled import ROOT, Server, family, holder, prefect_server, until

SMALL = ("exam.prompts.side=4", "prompts_per_iteration=24")
"""The toy's 72 prompts are three iterations' worth."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that was set up by our command."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as server:
        server.set_up()
        yield server


@pytest.fixture(scope="module")
def working(server: Server) -> Iterator[Server]:
    """The same with a worker."""
    with server.worker():
        yield server


def test_every_shipped_method_has_a_deployment_and_only_a_laptops_are_scheduled() -> None:
    made = {each["name"]: each for each in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    assert set(made) == set(shipped()) - {"toy"} | {"upkeep"}
    assert all(made[name]["parameters"]["recipe"] == name for name in set(made) - {"upkeep"})
    on = {name for name, each in made.items() if each["schedules"][0].get("active", True)}
    assert on == {"quickstart", "upkeep"}
    for each in made.values():
        assert each["tags"] and each["description"].endswith(".")
        for_gpu = each["work_pool"].get("work_queue_name") == "gpu"
        assert for_gpu == ("gpu" in each["tags"]) == ("Needs a GPU" in each["description"])


@pytest.mark.slow
def test_without_a_server_the_command_says_so() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    for url, sentence in (
        (None, "API_URL is not set"),
        ("http://127.0.0.1:9/api", "no Prefect server answers"),
    ):
        with temporary_settings({PREFECT_API_URL: url}), pytest.raises(deploy.FlywheelError, match=sentence):
            deploy.deploy()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_can_be_repeated_and_leaves_limits_that_somebody_set(server: Server) -> None:
    queues = server.post("work_pools/flywheel/queues/filter")
    assert {queue["name"]: queue["concurrency_limit"] for queue in queues} == {"default": None, "cpu": 1, "gpu": 1}
    before = server.deployments()
    gpu = next(queue for queue in queues if queue["name"] == "gpu")
    server.patch(f"work_queues/{gpu['id']}", concurrency_limit=2)
    server.set_up()
    assert {name: made["id"] for name, made in server.deployments().items()} == {n: m["id"] for n, m in before.items()}
    [automation] = server.post("automations/filter")
    assert automation["name"] == deploy.FOUND_DEAD.name and automation["enabled"]
    assert server.get(f"work_queues/{gpu['id']}")["concurrency_limit"] == 2
    server.patch(f"work_queues/{gpu['id']}", concurrency_limit=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_server_has_what_prefect_yaml_says_and_makes_tonights_run(server: Server) -> None:
    found = server.deployments()
    assert set(found) == set(shipped()) - {"toy"} | {"upkeep"}
    for name, made in found.items():
        [step] = made["pull_steps"]  # prefect.yaml names no folder
        assert step == {"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}
        assert made["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
        fields = made["parameter_openapi_schema"]["properties"]
        assert all(len(field.get("description", "")) > 20 for field in fields.values()), (name, fields)
        if name != "upkeep":
            assert made["global_concurrency_limit"]["limit"] == 1
            assert made["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    asked = {"deployments": {"id": {"any_": [found["quickstart"]["id"]]}}}
    until(lambda: server.post("flow_runs/filter", **asked), 240, "no run of the quickstart is scheduled")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_second_night_goes_on_with_new_prompts_and_what_shares_a_gpu_waits(working: Server, tmp_path: Path) -> None:
    def start(deployment: str, home: str) -> str:
        parameters = {"recipe": "toy", "more": 1, "overrides": list(SMALL), "home": str(tmp_path / home)}
        return working.start(f"flywheel/{deployment}", **parameters)

    nights = [start("quickstart", "nights"), start("quickstart", "nights")]
    others = [start("gsm8k", "gpu"), start("rest-em", "another")]  # other deployments, other stores, one GPU
    for pair in (nights, others):
        first, second = sorted((working.ended(id) for id in pair), key=lambda run: run["start_time"])
        assert (first["state_type"], second["state_type"]) == ("COMPLETED", "COMPLETED"), log(working)
        assert first["end_time"] <= second["start_time"]
    store, run = Store(tmp_path / "nights" / "flywheel.duckdb"), run_id(toy(working, SMALL))
    assert queries.decisions(store, run)["number"].to_list() == [0, 1, 2]
    one, two = (set(queries.proposed(store, content_id("iteration", run, n))["id"]) for n in (1, 2))
    assert len(one) == len(two) == 24 and not one & two


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_is_cancelled_ends_with_its_children_and_the_next_one_takes_it_up(
    working: Server, tmp_path: Path
) -> None:
    weights = write_weights(tmp_path / "weights", 0.3, 1, delay=0.5, train_delay=2.0)
    overrides, home = [*SMALL, f"base={weights}"], tmp_path / "home"
    parameters = {"recipe": "toy", "iterations": 1, "overrides": overrides, "home": str(home)}
    first = working.start("flywheel/quickstart", **parameters)
    until(lambda: holder(home), 240, "the run has not begun")
    who, store, run = holder(home), Store(home / "flywheel.duckdb"), run_id(load("toy", overrides=overrides))
    assert who and who["flow_run"] == first
    refused = by_hand(overrides, home)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused.stderr
    assert f"run {run} (toy) is going on in process {who['pid']} (Prefect flow run {first})" in refused.stderr
    until(lambda: len(family(who["pid"])) > 1, 240, "the trainer has not been started")
    trainer, before = family(who["pid"]), store.sql("from generations")
    working.cancel(first)
    assert working.ended(first)["state_name"] == "Cancelled"
    gone(trainer)
    assert queries.decisions(store, run)["number"].to_list() == [0]
    second = working.ended(working.start("flywheel/quickstart", **parameters))
    assert second["state_type"] == "COMPLETED", log(working)
    assert queries.decisions(store, run)["number"].to_list() == [0, 1]
    assert store.sql("from generations").filter(role="answer").equals(before.filter(role="answer"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_upkeep_copies_a_sound_store_and_keeps_the_last_copies(working: Server, tmp_path: Path) -> None:
    done = by_hand([*SMALL, f"base={working.place / 'weights'}"], tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "backups").mkdir()
    for day in (1, 2):
        (tmp_path / "backups" / f"2026-01-0{day}-060000.duckdb").touch()
    ended = working.ended(working.start("upkeep/upkeep", home=str(tmp_path), copies=2))
    assert ended["state_type"] == "COMPLETED", log(working)
    old, new = sorted((tmp_path / "backups").iterdir())
    assert old.name == "2026-01-02-060000.duckdb"
    assert Store(new).sql("from decisions").equals(Store(tmp_path / "flywheel.duckdb").sql("from decisions"))


def by_hand(overrides: list[str], home: Path) -> "subprocess.CompletedProcess[str]":
    """`flywheel run`, once, with an iteration."""
    settings = [part for setting in overrides for part in ("--set", setting)]
    command = [
        sys.executable,
        "-m",
        "flywheel.cli.app",
        "run",
        "toy",
        "--home",
        str(home),
        "--iterations",
        "1",
        *settings,
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def toy(server: Server, overrides: tuple[str, ...]) -> Any:
    """The toy as the server's runs know it."""
    return load("toy", overrides=(*overrides, f"base={server.place / 'weights'}"))


def log(server: Server) -> str:
    """The end of what the worker printed."""
    return (server.place / "worker.log").read_text()[-3000:]
