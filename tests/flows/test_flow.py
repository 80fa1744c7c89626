"""The same loop as a real Prefect flow: a real server, flow runs, a task run for each step, and what they show."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

import flows.run
from flows.run import last_decided, run, run_step
from flywheel.engines.toy.engine import write_weights
from flywheel.errors import FlywheelError
from flywheel.recipe.load import load
from flywheel.recipe.recipe import run_id
from flywheel.store import queries
from flywheel.store.store import Store
from tests.bars.kill import contents, descendants, differences, finish, gone

if TYPE_CHECKING:
    from tests.flows.scheduled import Server

SETTINGS = ("exam.prompts.side=4", "batch=32")
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "DO_NOT_TRACK": "1",
}
FULL = re.compile("the disk is full|may not grow")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Server]":
    """A server for all tests of this file; what runs in this process talks to it."""
    from tests.flows.scheduled import prefect_server

    with (
        prefect_server(tmp_path_factory.mktemp("prefect")) as server,
        temporary_settings({PREFECT_API_URL: server.url}),
    ):
        yield server


def by_hand(server: "Server", *arguments: str, limit: str = "unlimited") -> "subprocess.CompletedProcess[str]":
    """`python -m flows.run`, which may write files of so many blocks."""
    command = ["bash", "-c", f'ulimit -f {limit}; exec "$0" -m flows.run "$@"', sys.executable, *arguments]
    return subprocess.run(command, env=server.environment, capture_output=True, text=True, check=False)


def options(settings: Sequence[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


def newest(server: "Server") -> dict[str, Any]:
    """The flow run that began last."""
    begun = {"start_time": {"is_null_": False}}
    found: list[dict[str, Any]] = server.post("flow_runs/filter", sort="START_TIME_DESC", limit=1, flow_runs=begun)
    return found[0]


def artifacts(server: "Server", flow_run: str) -> dict[str, dict[str, Any]]:
    """What a flow run shows, by key; of each key the newest."""
    asked = {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "CREATED_DESC", "limit": 200}
    return {made["key"]: made for made in reversed(server.post("artifacts/filter", **asked))}


def task_runs(server: "Server", flow_run: str, wanted: int) -> list[str]:
    """The names of a flow run's task runs in order, once the server has so many of them."""
    asked = {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "EXPECTED_START_TIME_ASC"}
    for _ in range(600):
        found = [made["name"] for made in server.post("task_runs/filter", **asked)]
        if len(found) >= wanted:
            break
        time.sleep(0.2)
    return found


def test_a_flow_run_makes_the_same_rows_as_spin_and_shows_them_and_a_second_one_makes_none(
    server: "Server", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_weights(tmp_path / "weights", 0.3, 1, train_delay=0.3)
    settings = (*SETTINGS, f"base={weights}", "train.batch_size=4")
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    finish("toy", tmp_path / "plain", 1, settings)
    home = tmp_path / "flow"
    command = ("toy", "--home", str(home), *options(settings))
    first = by_hand(server, *command, "--more", "1")
    assert first.returncode == 0, first.stderr[-3000:]
    assert "promoted: solves" in first.stdout and first.stdout.count("\n") == 1
    assert differences(tmp_path / "plain", home) == []

    made = newest(server)
    assert (made["name"], made["state_type"]) == ("toy: 1 more", "COMPLETED")
    steps = ["warm_start", "examine", "show"], ["propose", "sample", "judge", "select", "train", "examine", "show"]
    names = [f"iteration {number}: {step}" for number, names in enumerate(steps) for step in names]
    batches = [("0: examine", "1-32"), ("0: examine", "33-40"), ("1: sample", "1-32"), ("1: sample", "33-64")]
    batches += [("1: examine", "1-32"), ("1: examine", "33-40")]
    found = task_runs(server, made["id"], 17)
    assert [name for name in found if ", chats " not in name] == [*names, "report of toy"]
    assert [name for name in found if ", chats " in name] == [f"iteration {at}, chats {of}" for at, of in batches]
    check_artifacts(artifacts(server, made["id"]), home)

    before = {table: len(frame) for table, frame in contents(home)}
    second = by_hand(server, *command, "--iterations", "1")
    assert second.returncode == 0 and "decided already" in second.stdout
    assert {table: len(frame) for table, frame in contents(home)} == before
    assert newest(server)["name"] == "toy: up to iteration 1"


def check_artifacts(shown: dict[str, dict[str, Any]], home: Path) -> None:
    """The pages say what the store says."""
    assert set(shown) == {"toy-progress", "toy-exam", "toy-funnel", "toy-answers", "toy-step", "toy-report"}
    store = Store(home / "flywheel.duckdb")
    rows = json.loads(shown["toy-progress"]["data"])
    assert [(row["iteration"], row["decision"], row["kept"]) for row in rows] == store.sql(
        "select iteration, decision, kept from progress"
    ).rows()
    lost = json.loads(shown["toy-funnel"]["data"])
    assert [(row["filter"], row["rows_in"], row["rows_out"]) for row in lost] == store.sql(
        "select filter, rows_in, rows_out from funnel"
    ).rows()
    reason = str(queries.decisions(store, str(store.sql("from runs")["id"][0]))["reason"][-1])
    exam = shown["toy-exam"]["data"].replace("\\", "")
    assert "## Iteration 1: promote" in exam and reason in exam
    assert "95% interval" in exam and "| gained |" in exam
    assert "| question | kept | dropped |" in shown["toy-answers"]["data"]
    assert shown["toy-step"]["type"] == "progress" and shown["toy-step"]["data"] == 100
    link = shown["toy-report"]["data"]
    [report] = (home / "reports").glob("toy-*.html")
    assert report.as_uri() in link


def test_bad_input_fails_in_one_sentence_before_any_work(server: "Server", tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "flywheel.duckdb").write_text("no database" * 100)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"recipe": "quickstrat"}, "there is no recipe 'quickstrat'; did you mean 'quickstart'?"),
        ({"recipe": "toy", "overrides": ["sampling.m=4"]}, "recipe has no field 'sampling.m'. Fields: n, temperature"),
        ({"recipe": "toy", "overrides": ["sampling.n=many"]}, "sampling.n must be a whole number, not 'many'"),
        ({"recipe": "toy", "overrides": ["engine=gpu"]}, "recipe toy: engine: there is no engine 'gpu': there are "),
        ({"recipe": "toy", "home": str(tmp_path / "odd")}, f"{tmp_path}/odd/flywheel.duckdb: this is no DuckDB file"),
    ]
    for given, sentence in wrong:
        state = run(**{"home": home, **given}, return_state=True)
        assert state.is_failed() and state.message and state.message.startswith(sentence), state
        assert "Traceback" not in state.message and "\n" not in state.message
    assert newest(server)["state"]["message"].startswith(wrong[-1][1]), "what the UI shows"
    assert not Path(home).exists()


def test_a_wrong_type_in_the_form_is_told_with_its_field(server: "Server", tmp_path: Path) -> None:
    state = run("toy", iterations=-1, home=str(tmp_path), return_state=True)
    assert (
        state.is_failed() and "iterations" in str(state.message) and "greater than or equal to 0" in str(state.message)
    )


def test_by_hand_bad_input_and_a_full_disk_are_errors_in_a_sentence(server: "Server", tmp_path: Path) -> None:
    wrong = by_hand(server, "quickstrat")
    assert wrong.returncode == 2 and re.search("^error: there is no recipe 'quickstrat'", wrong.stderr, re.M), (
        wrong.stderr
    )
    weights = write_weights(tmp_path / "weights", 0.3, 1)
    settings = options((*SETTINGS, f"base={weights}"))
    full = by_hand(server, "toy", "--home", str(tmp_path / "home"), *settings, limit="1500")
    assert full.returncode == 2, full.stderr[-2000:]
    assert re.search(f"^error: {tmp_path / 'home'}", full.stderr, re.M), full.stderr[-2000:]
    assert FULL.search(full.stderr) and "Traceback" not in full.stderr
    assert newest(server)["state_type"] == "FAILED" and FULL.search(newest(server)["state"]["message"])


def test_a_step_that_takes_too_long_is_stopped_with_all_that_it_started(server: "Server", tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "weights", 0.3, 1, train_delay=200)
    home = tmp_path / "home"
    overrides = [*SETTINGS, f"base={weights}"]
    before = set(descendants(os.getpid()))
    with pytest.raises(FlywheelError, match="iteration 1: train was not done within 0.25 minutes"):
        run("toy", 1, overrides, str(home), step_timeout=0.25)
    gone(sorted(set(descendants(os.getpid())) - before), 20.0)
    message = newest(server)["state"]["message"]
    assert message.startswith("iteration 1: train was not done within 0.25 minutes (step_timeout), so it was stopped")
    store = Store(home / "flywheel.duckdb")
    failed = store.sql("select step, detail from events where kind = 'failure'").rows()
    assert [(step, "step_timeout" in detail) for step, detail in failed] == [("train", True)]
    write_weights(weights, 0.3, 1)
    assert last_decided(lambda iteration: load("toy", iteration, overrides), store) == 0


def test_an_engine_that_fails_is_tried_again_later_and_later_and_nothing_else_is(
    server: "Server", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_step.retry_delay_seconds == [5.0, 10.0, 20.0, 40.0] and run_step.retry_jitter_factor == 0.5
    monkeypatch.setattr(flows.run, "run_step", run_step.with_options(retry_delay_seconds=0.2))
    weights = write_weights(tmp_path / "weights", 0.3, 1, crash_after=100)
    overrides = [*SETTINGS, f"base={weights}"]
    assert "promoted" in run("toy", 1, overrides, str(tmp_path / "home"))
    store = Store(tmp_path / "home" / "flywheel.duckdb")
    assert store.sql("select detail from events where kind = 'failure'")["detail"].str.contains("EngineError").all()
    assert queries.decisions(store, run_id(load("toy", overrides=overrides)))["number"].to_list() == [0, 1]
    write_weights(tmp_path / "broken", 0.3, 1)
    (tmp_path / "broken" / "toy.json").write_text("{}")
    state = run("toy", 1, [*SETTINGS, f"base={tmp_path / 'broken'}"], str(tmp_path / "other"), return_state=True)
    assert state.is_failed() and "toy.json is corrupt" in str(state.message)
    failures = Store(tmp_path / "other" / "flywheel.duckdb").sql("select detail from events where kind = 'failure'")
    assert len(failures) == 1, failures


def saved(server: "Server", path: str) -> Any:
    """What a flow run keeps for whoever fills in its form; it comes a moment after the state."""
    for _ in range(600):
        found = httpx.get(f"{server.url}/{path}")
        if found.is_success:
            return found.json()
        time.sleep(0.2)
    pytest.fail(f"there is nothing at {path}")


def test_a_promotion_waits_in_the_ui_for_a_human(server: "Server", tmp_path: Path) -> None:
    """Two flow runs of a deployment: one form says yes, the other no."""
    from tests.flows.scheduled import until

    weights = write_weights(tmp_path / "weights", 0.3, 1)
    server.set_up()
    verdicts = {"yes": {"approve": True, "author": "anna"}, "no": {"approve": False, "because": "it *rambles*"}}
    with server.worker():
        for name, verdict in verdicts.items():
            home, overrides = str(tmp_path / name), [*SETTINGS, f"base={weights}", "gate.approval=true"]
            id = server.start("flywheel/quickstart", recipe="toy", more=1, overrides=overrides, home=home)
            until(lambda id=id: server.run(id)["state_name"] == "Suspended", 400, f"{name}: it is not suspended")  # type: ignore[misc]
            keyset = server.run(id)["state"]["state_details"]["run_input_keyset"]
            form = saved(server, f"flow_runs/{id}/input/{keyset['description']}")
            assert "toy, iteration 1" in form and "solves 0" in form.replace("\\", "") and "| gained |" in form
            schema = saved(server, f"flow_runs/{id}/input/{keyset['schema']}")
            assert set(schema["properties"]) == {"approve", "because", "author"}
            before = Store(Path(home) / "flywheel.duckdb").sql("select count(*) from generations").item()
            assert server.post(f"flow_runs/{id}/resume", run_input=verdict)["status"] == "ACCEPT"
            done = server.ended(id)
            assert done["state_type"] == "COMPLETED", done["state"]
            store = Store(Path(home) / "flywheel.duckdb")
            decided = store.sql("from progress where iteration > 0")
            assert decided["iteration"].to_list() == [1], "`more` counts from where the flow run began, not the process"
            assert decided["decision"].to_list() == ["promote" if name == "yes" else "hold"]
            assert store.sql("select count(*) from generations").item() == before, "nothing is made again"
            reason = queries.decisions(store, decided["run"][0])["reason"][-1]
            assert ("approved by anna" if name == "yes" else "rejected by somebody in the UI (it *rambles*)") in reason
