"""What a name, an id or the beginning of an id means, what is said of it, and which starts leave a run."""

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from flows.recipes.toy import Sums
from flows.recipes.toy import recipe as toy
from flywheel.cli.app import app
from flywheel.engines.toy.engine import write_weights
from flywheel.errors import StoreError, WeightsError
from flywheel.exchange.export import find_checkpoint, find_dataset
from flywheel.identity import describe_text
from flywheel.pipeline.loop import iterate
from flywheel.processes.run_lock import alone
from flywheel.recipe.recipe import Recipe, run_id
from flywheel.report.terminal import overview
from flywheel.store.lookup import find_run, short_id
from flywheel.store.maintenance import faults
from flywheel.store.store import Store
from tests.store.test_views import frame

pytestmark = pytest.mark.slow

BEGUN = datetime(2026, 3, 1, 12, 0)


def add_run(store: Store, id: str, name: str, decided: int | None, minutes: int = 0, waits: bool = False) -> None:
    """A run with its iterations up to `decided`, and one that goes on; each has a dataset and a candidate."""
    recipe = describe_text(toy)
    numbers = range((-1 if decided is None else decided) + 2)
    iterations = [{"id": f"{id[:5]}it{at}", "run": id, "number": at, "recipe": recipe} for at in numbers]
    run = {"id": id, "name": name, "created_at": BEGUN + timedelta(minutes=minutes)}
    made = [{"id": f"{id[:4]}data{at}", "kind": "selected", "rows": 1, "real": 1, "synthetic": 0} for at in numbers]
    decisions: list[dict[str, Any]] = [
        {"iteration": f"{id[:5]}it{at}", "candidate": f"{id[:4]}check{at}", "policy": f"{id[:4]}check{at}"}
        | {"decision": "promote", "reason": f"promoted {at}"}
        for at in numbers[:-1]
    ]
    tables = {
        "runs": [run],
        "iterations": iterations,
        "datasets": made,
        "iteration_datasets": [
            {"iteration": one["id"], "dataset": two["id"]} for one, two in zip(iterations, made, strict=True)
        ],
        "examples": [
            {"dataset": each["id"], "position": 0, "prompt": "p", "origin": "real", "generations": []} for each in made
        ],
        "decisions": decisions,
        "checkpoints": [{"id": row["candidate"]} for row in decisions],
        "approvals": [{"iteration": iterations[-1]["id"], "candidate": "c", "status": "asked"}] if waits else [],
    }
    store.add_all({table: frame(table, *rows) for table, rows in tables.items() if rows})


@pytest.fixture
def several(store: Store) -> Store:
    """Three runs of the name `mine`, of which the two newer ones broke early, and another run."""
    add_run(store, "goodrun00001", "mine", 2)
    add_run(store, "basedrun0002", "mine", 0, minutes=5)
    add_run(store, "nonerun00003", "mine", None, minutes=9)
    add_run(store, "otherrun0004", "other", 1, minutes=7)
    return store


def test_a_name_means_the_newest_run_that_has_decided_an_iteration_and_it_is_said(several: Store) -> None:
    run = find_run(several, "mine")
    assert run[:2] == ("goodrun00001", "mine")
    assert run.which == (
        "3 runs are named mine: goodrun00001 (begun 2026-03-01 12:00 UTC, has decided iteration 2) is meant, "
        "not nonerun00003 (begun 2026-03-01 12:09 UTC, has decided nothing), "
        "basedrun0002 (begun 2026-03-01 12:05 UTC, has only its base)"
    )
    assert find_checkpoint(several, "mine") == ("goodcheck2", run.which), "not the base of a later run"
    assert find_dataset(several, "mine") == ("gooddata3", run.which), "not the worked examples of a later run"
    add_run(several, "newerrun0005", "mine", 1, minutes=20)
    assert find_run(several, "mine").id == "newerrun0005"


def test_without_a_decision_it_is_the_newest_and_where_there_is_one_run_nothing_is_said(store: Store) -> None:
    add_run(store, "a00000000001", "mine", None)
    assert find_run(store, "mine") == find_run(store) == ("a00000000001", "mine", "")
    add_run(store, "b00000000002", "mine", None, minutes=1)
    assert find_run(store, "mine").id == find_run(store).id == "b00000000002"
    add_run(store, "c00000000003", "mine", 0, minutes=-1)
    assert find_run(store, "mine").id == "c00000000003"
    with pytest.raises(StoreError, match=r"run mine \(b00000000002\) has no checkpoint yet: there are those of none"):
        find_checkpoint(store, "b00000000002")


def test_without_a_name_it_is_the_newest_of_all_runs_that_has_decided_an_iteration(several: Store) -> None:
    run = find_run(several)
    assert run.id == "otherrun0004" and run.which.startswith("of 4 runs: other otherrun0004 (begun ")
    assert "not mine nonerun00003" in run.which and find_run(several, "") == run


def test_many_others_are_counted(several: Store) -> None:
    for at in range(4):
        add_run(several, f"{at}morerun0000", "mine", None, minutes=30 + at)
    assert find_run(several, "mine").which.endswith("has decided nothing) and 3 others")


def test_beginnings_of_ids_are_taken_wherever_an_id_is(several: Store) -> None:
    assert find_run(several, "goodrun00001") == ("goodrun00001", "mine", "")
    for text in ("g", "goodrun0", "goodrun0000", "goodrun…", "goodrun..."):
        run = find_run(several, text)
        assert run.id == "goodrun00001" and run.which.startswith(f"{text} is run goodrun00001 (begun ")
    assert find_dataset(several, "gooddata1") == ("gooddata1", "")
    assert find_dataset(several, "noned") == ("nonedata0", "noned is dataset nonedata0")
    assert find_dataset(several, "goodrit1") == ("gooddata1", ""), "of the iteration"
    assert find_checkpoint(several, "goodrit1") == ("goodcheck1", "")
    assert find_dataset(several, "goodru:1").id == "gooddata1" and find_checkpoint(several, "mine:0").id == "goodcheck0"
    assert find_checkpoint(several, "goodru").id == "goodcheck2"


def test_a_beginning_of_several_ids_is_refused_with_their_names(several: Store) -> None:
    add_run(several, "goodrun90009", "third", 0)
    with pytest.raises(
        StoreError, match=r"'goodrun' is the beginning of several ids, run goodrun00001, run goodrun90009"
    ):
        find_run(several, "goodrun")
    with pytest.raises(
        StoreError, match=r"several ids, dataset gooddata0, dataset gooddata1, .* and \d+ others: write"
    ):
        find_dataset(several, "good")
    assert find_run(several, "goodrun9").id == "goodrun90009"


def test_what_is_not_there_is_told_with_what_is(several: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no run 'mime'; its runs are mine, other$"):
        find_run(several, "mime")
    with pytest.raises(
        StoreError, match="no dataset 'mime': give its id, or RUN or RUN:ITERATION; .* holds no run 'mime'"
    ):
        find_dataset(several, "mime")
    with pytest.raises(
        StoreError, match=r"run mine \(goodrun00001\) has no checkpoint of iteration 7: .* those of 0, 1, 2"
    ):
        find_checkpoint(several, "mine:7")
    with pytest.raises(StoreError, match="is empty$"):
        find_run(Store(tmp_path / "new.duckdb"))


def test_of_runs_of_a_name_the_one_that_waits_is_approved(several: Store) -> None:
    add_run(several, "waitrun00006", "mine", 0, minutes=3, waits=True)
    assert find_run(several, "mine").id == "goodrun00001"
    run = find_run(several, "mine", waiting=True)
    assert run.id == find_run(several, waiting=True).id == "waitrun00006" and "waits for a human) is meant" in run.which


def test_what_is_shown_of_an_id_can_be_given_back(several: Store) -> None:
    assert short_id(several, "run", "goodrun00001") == "goodrun0"
    add_run(several, "goodrun00009", "mine", 0)
    assert short_id(several, "run", "goodrun00001") == "goodrun00001"
    assert find_run(several, short_id(several, "run", "goodrun00009")).id == "goodrun00009"


def test_the_commands_say_beside_their_output_which_run_it_is(several: Store, tmp_path: Path) -> None:
    def call(*argv: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, [*argv, "--home", str(tmp_path)], catch_exceptions=False)
        return done.exit_code, done.stdout, done.stderr

    which = find_run(several, "mine").which + "\n"
    code, out, err = call("export", "dataset", "mine", str(tmp_path / "d.jsonl"))
    assert (code, err) == (0, which) and out.startswith("1 rows of dataset gooddata3")
    code, _, err = call("judge", "health", "--run", "mine", "--json")
    assert (code, err) == (0, which)
    code, _, err = call("replay", "toy", "--run", "mine", "--iteration", "9")
    assert code == 2 and err == which + "error: run mine has no iteration 9: it has those from 0 to 3\n"
    code, _, err = call("approve", "mine")
    assert code == 2 and err == which + "error: nothing of run mine (goodrun00001) waits for a human; " \
        "`flywheel status` shows its decisions\n"  # fmt: skip


def listed(store: Store) -> str:
    out = io.StringIO()
    overview(store, Console(file=out, width=200, highlight=False))
    return out.getvalue()


def test_status_tells_what_a_name_means_and_what_goes_on(several: Store, tmp_path: Path) -> None:
    meant = [line for line in listed(several).splitlines() if "what the name" in line]
    assert meant == ["mine  goodrun00001  begun 2026-03-01 12:00 UTC  this is what the name mine means"]
    with alone(tmp_path, "nonerun00003", "mine"), alone(tmp_path, "youngrun0007", "fresh"):
        lines = listed(several).splitlines()
    assert any(line.startswith("mine  nonerun00003  begun 2026-03-01 12:09 UTC  goes on in process ") for line in lines)
    assert lines[-1].startswith("fresh  youngrun0007  starts in process ") and lines[-1].endswith("nothing is made yet")
    assert "process" not in listed(several), "what has ended goes on no more"


@pytest.fixture
def small(tmp_path: Path) -> Callable[[str], Recipe]:
    """The toy with few prompts, and a base of that name."""
    write_weights(tmp_path / "weights", 0.3, 1)
    exam = replace(toy.exam, prompts=Sums(side=2, first=50, last=55))
    return lambda base: replace(
        toy, base=str(tmp_path / base), exam=exam, prompts=Sums(side=2, first=0, last=4), batch=4
    )


def test_a_start_that_makes_nothing_leaves_no_run(small: Callable[[str], Recipe], tmp_path: Path) -> None:
    home, recipe = tmp_path / "home", small("nowhere")
    with pytest.raises(WeightsError, match="no such folder"):
        list(iterate(lambda _: recipe, home))
    store = Store(home / "flywheel.duckdb")
    assert store.sql("from runs").is_empty() and store.sql("from iterations").is_empty()
    assert store.sql("select run, kind from events").rows() == [(run_id(recipe), "failure")], "but it is not forgotten"
    assert not list(faults(store, home)) and "holds no run" in listed(store)


def test_a_run_that_was_stopped_in_its_first_exam_can_be_seen_and_goes_on(
    small: Callable[[str], Recipe], tmp_path: Path
) -> None:
    home, recipe = tmp_path / "home", small("weights")
    steps = iterate(lambda _: recipe, home)
    assert next(steps)[:4] == (run_id(recipe), 0, "examine", 4)
    store = Store(home / "flywheel.duckdb")
    assert f"toy  {run_id(recipe)}  begun" in (shown := listed(store)) and "goes on in process" in shown
    steps.close()  # type: ignore[attr-defined]
    assert find_run(store, "toy").id == run_id(recipe) and not list(faults(store, home))
    before = store.sql("from runs")
    for _ in iterate(lambda _: recipe, home, iterations=0):
        pass
    assert store.sql("from runs").equals(before) and len(store.sql("from iterations")) == 1
    done = CliRunner().invoke(app, ["report", "--run", run_id(recipe)[:5], "--home", str(home)], catch_exceptions=False)
    assert done.stdout == f"{home}/reports/toy-{run_id(recipe)[:8]}.html\n"
    shutil.rmtree(tmp_path / "weights")
    broken = replace(recipe, seed=1)
    with pytest.raises(WeightsError):
        list(iterate(lambda _: broken, home))
    assert find_run(store, "toy") == (run_id(recipe), "toy", ""), "the name still means the run that is there"
