"""The `flywheel` command: what it prints where, and how it ends."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner

from flywheel.cli import app as cli
from flywheel.cli.app import app
from flywheel.errors import EngineError
from flywheel.pipeline.iteration import Progress
from flywheel.preflight import machine as doctor
from flywheel.processes import environment
from flywheel.report import summary
from flywheel.report import terminal as show
from flywheel.store.store import Store
from tests import ROOT

RUN = "0123456789abcdef0123"

STEPS = [
    Progress(RUN, 0, "examine", 10, 10, 50, 1.0, "the base solves 0.100"),
    Progress(RUN, 1, "propose", 4, 4, 0, 0.1, None),
    Progress(RUN, 1, "sample", 2, 4, 100, 1.0, None),
    Progress(RUN, 1, "sample", 4, 4, 200, 2.0, None),
    Progress(RUN, 1, "examine", 10, 10, 50, 1.0, "promoted: solves 0.900, the incumbent 0.100"),
]
PROGRESS = pl.DataFrame(
    {
        "run": [RUN, RUN],
        "iteration": [0, 1],
        "score": [0.1, 0.9],
        "difference": [None, 0.8],
        "low": [None, 0.6],
        "high": [None, 1.0],
        "p": [None, 0.008],
        "generated": [None, 16],
        "kept": [None, 6],
        "examples": [None, 6],
        "tokens": [50, 250],
        "seconds": [1.0, 3.1],
        "decision": ["promote", "promote"],
    }
)


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """The command sets defaults for its children; here they end with each test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


class Told:
    """A store that knows the view `progress` only."""

    path = Path("runs/flywheel.duckdb")

    def sql(self, query: str, parameters: object = ()) -> pl.DataFrame:
        assert query == "from progress"
        return PROGRESS


@pytest.fixture
def happening(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Iterator[summary.Event]]:
    sentence = {"run": RUN, "sentence": "small: 1 iterations, the policy is now abc", "store": "runs/flywheel.duckdb"}
    monkeypatch.setattr(summary, "summary", lambda store, run: sentence)
    told: Any = Told()
    return lambda: summary.events(iter(STEPS), lambda: RUN, lambda: told)


def shown(happening: Iterator[summary.Event], terminal: bool = False, quiet: bool = False) -> str:
    out = io.StringIO()
    show.progress_lines(happening, Console(file=out, force_terminal=terminal, width=200, highlight=False), quiet)
    return out.getvalue()


def test_events_tell_each_step_and_iteration_when_it_ends(happening: Callable[[], Iterator[summary.Event]]) -> None:
    told = [(kind, values.get("iteration"), values.get("step")) for kind, values in happening() if kind != "at"]
    assert told == [
        ("step", 0, "examine"),
        ("iteration", 0, None),
        ("step", 1, "propose"),
        ("step", 1, "sample"),
        ("step", 1, "examine"),
        ("iteration", 1, None),
        ("end", None, None),
    ]


def test_people_see_a_line_for_each_iteration_and_the_way_to_the_history(
    happening: Callable[[], Iterator[summary.Event]],
) -> None:
    lines = shown(happening()).splitlines()
    assert lines[0] == "examine: the base solves 0.100"
    assert re.fullmatch(r" *iteration +exam +points .* decision", lines[1])
    assert re.fullmatch(
        r" *1 +0\.900 +\+80\.0 \(\+60\.0 to \+100\.0\) +0\.008 +- +6/16 +6 +250 +3\.1 +promote", lines[4]
    )
    assert lines[5] == "small: 1 iterations, the policy is now abc"
    assert lines[6:8] == ["Every row of it is in runs/flywheel.duckdb. Ask it:", '  flywheel sql "from progress"']


def test_the_judges_agreement_and_the_alarms_stand_with_the_iteration() -> None:
    notes = "alarm: j: kappa is 0.3\nred alarm: j: failed is 1"
    row = PROGRESS.to_dicts()[1] | {"agreement": 0.873, "notes": notes}
    end = summary.Event("end", {"sentence": "done", "store": "s"})
    lines = shown(iter([summary.Event("iteration", row), end])).splitlines()
    assert " 0.873 " in lines[1] and [line.strip() for line in lines[2:4]] == notes.splitlines()
    assert "\x1b[1;31m" in shown(iter([summary.Event("iteration", row), end]), terminal=True)


def test_while_judges_are_at_work_nobody_knows_yet_what_is_kept() -> None:
    end = summary.Event("end", {"sentence": "done", "store": "s"})
    row = PROGRESS.to_dicts()[1] | {"kept": None, "generated": 1024}
    assert " -/1024 " in shown(iter([summary.Event("iteration", row), end]))
    assert " 0/1024 " in shown(iter([summary.Event("iteration", row | {"kept": 0}), end]))


def test_without_a_terminal_there_is_no_colour_and_no_bar(happening: Callable[[], Iterator[summary.Event]]) -> None:
    assert "\x1b" not in shown(happening()) and "sample" not in shown(happening())


def test_in_a_terminal_there_are_bars(happening: Callable[[], Iterator[summary.Event]]) -> None:
    assert "\x1b[" in shown(happening(), terminal=True)


def test_quiet_means_the_last_line_only(happening: Callable[[], Iterator[summary.Event]]) -> None:
    assert shown(happening(), quiet=True) == "small: 1 iterations, the policy is now abc\n"


def test_programs_get_an_object_for_each_step_iteration_and_run(
    happening: Callable[[], Iterator[summary.Event]], capsys: pytest.CaptureFixture[str]
) -> None:
    show.json_lines(happening(), quiet=False)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["event"] for row in rows] == ["step", "iteration", "step", "step", "step", "iteration", "end"]
    assert rows[3]["tokens"] == 200 and rows[5]["difference"] == 0.8 and rows[5]["run"] == RUN
    show.json_lines(happening(), quiet=True)
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.fixture
def home(store: Store, tmp_path: Path) -> Path:
    rows = {"checkpoint": ["c", "c"], "step": [1, 2], "name": ["loss, or so", "[bold]"], "value": [0.5, None]}
    store.add(
        "metrics",
        pl.DataFrame(rows, schema={"checkpoint": pl.String, "step": pl.Int32, "name": pl.String, "value": pl.Float64}),
    )
    return tmp_path


def call(*argv: str, input: str | None = None) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, argv, input=input, catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def test_a_question_is_answered_as_a_table_as_json_and_as_csv(home: Path) -> None:
    question = "from metrics order by step"
    code, out, _ = call("sql", question, "--home", str(home))
    assert code == 0 and "[bold]" in out and "checkpoint" in out
    code, out, _ = call("sql", question, "--home", str(home), "--json")
    assert [json.loads(line)["value"] for line in out.splitlines()] == [0.5, None]
    code, out, _ = call("sql", question, "--home", str(home), "--csv")
    assert out.splitlines() == ["checkpoint,step,name,value", 'c,1,"loss, or so",0.5', "c,2,[bold],"]


def test_nested_columns_become_json_in_csv(home: Path) -> None:
    _, out, _ = call("sql", "select [1, 2] as several, 3 as one", "--home", str(home), "--csv")
    assert out.splitlines() == ["several,one", '"[1, 2]",3']


def test_questions_are_read_from_standard_input(home: Path) -> None:
    questions = "select 1 as a;\nselect 2 as b,\n  3 as c;\nselect 4 as d"
    code, out, _ = call("sql", "--home", str(home), "--json", input=questions)
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [{"a": 1}, {"b": 2, "c": 3}, {"d": 4}]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_an_answer_goes_into_a_file(home: Path, ending: str) -> None:
    path = home / f"answer.{ending}"
    code, out, _ = call("sql", "from metrics order by step; -- all", "--home", str(home), "--output", str(path))
    assert code == 0 and out == f"2 rows in {path}\n"
    reader = {"parquet": pl.read_parquet, "csv": pl.read_csv, "jsonl": pl.read_ndjson}[ending]
    assert reader(path)["name"].to_list() == ["loss, or so", "[bold]"]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["select 1", "--output", "a.xls"], "one of .parquet, .csv, .jsonl"),
        (["select 1", "--output", "none/a.csv"], "there is no folder none"),
        (["select 1", "--output", "old.csv"], "old.csv is there already"),
        (["select 1", "--output", "a.csv", "--json"], "leave out --json"),
        (["--output", "a.csv"], "--output takes one question, not 2"),
    ],
)
def test_an_answer_that_cannot_be_written_is_told(
    home: Path, argv: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    (home / "old.csv").touch()
    code, out, err = call("sql", *argv, "--home", str(home), input="select 1;\nselect 2;")
    assert code == 2 and out == "" and told in err and err.count("\n") == 1
    assert not (home / "a.csv").exists()


def test_nothing_can_be_written_through_questions(home: Path) -> None:
    code, _, err = call("sql", "delete from metrics", "--home", str(home))
    assert code == 2 and err.startswith("error: ") and "read-only" in err
    _, out, _ = call("sql", "select count(*) as n from metrics", "--home", str(home), "--json")
    assert json.loads(out) == {"n": 2}


def test_a_wrong_question_is_told_without_a_traceback(home: Path) -> None:
    code, out, err = call("sql", "from nowhere", "--home", str(home))
    assert code == 2 and out == "" and "nowhere" in err and "Traceback" not in err


def test_a_long_table_says_how_much_is_left_out(home: Path) -> None:
    _, out, _ = call("sql", "from range(500)", "--home", str(home))
    assert "200 of 500 rows; --csv or --json gives all of them" in out


def test_without_a_store_one_is_told_how_to_make_it(tmp_path: Path) -> None:
    for command in ("status", "sql", "report"):
        code, _, err = call(command, "--home", str(tmp_path))
        assert code == 2 and "`flywheel run RECIPE` makes one" in err
    assert not list(tmp_path.iterdir())


def test_a_recipe_that_does_not_exist_is_told_in_one_line(tmp_path: Path) -> None:
    code, _, err = call("run", "no-such-recipe", "--home", str(tmp_path))
    assert code == 2 and err.startswith("error: there is no recipe 'no-such-recipe'") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (EngineError("the engine is gone"), 2, "error: the engine is gone\n"),
        (KeyboardInterrupt(), 130, "stopped; run the same command again to go on\n"),
    ],
)
def test_errors_of_a_run_end_at_the_command(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, told: str
) -> None:
    def failing(home: Path) -> Iterator[doctor.Finding]:
        raise error

    monkeypatch.setattr(cli, "findings", failing)
    assert call("doctor") == (code, "", told)


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REPORTED_LIBRARIES", None)
    with pytest.raises(TypeError):
        call("doctor")


def test_children_are_told_how_many_cores_there_are_unless_the_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "")
    code, out, _ = call("doctor")
    assert code == 0 and "OMP_NUM_THREADS 1" in out
    assert os.environ["DO_NOT_TRACK"] == "1" and os.environ["HF_HUB_DISABLE_TELEMETRY"] == ""


def test_the_doctor_knows_versions_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", {"sqlalchemy": "2.1.0", "fastapi": "0.150.0"}.get)
    found = {finding.what: finding for finding in doctor.findings(Path("runs"))}
    assert found["sqlalchemy"].state == "bad" and "scheduler" in found["sqlalchemy"].value
    assert found["fastapi"].state == "ok" and found["torch"].value == "not installed"


def test_the_doctor_counts_a_containers_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "memory.max").write_text("1048576\n")
    monkeypatch.setattr(environment, "CGROUP", tmp_path)
    assert environment.cores() == 1 and environment.memory() == 1048576


def test_help_is_instant() -> None:
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "flywheel.cli.app", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    after = os.times()
    assert "doctor" in done.stdout
    # Processor time, which other work on the machine does not stretch much: 0.2 to 0.3 s on a quiet one.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1.0


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error(home: Path) -> None:
    argv = [sys.executable, "-m", "flywheel.cli.app", "sql", "from range(200000)", "--csv", "--home", str(home)]
    reader = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert reader.stdout is not None and reader.stderr is not None
    assert reader.stdout.readline() == "range\n"
    reader.stdout.close()
    assert reader.stderr.read() == "" and reader.wait() == 0
    reader.stderr.close()
