"""The store's upkeep: damage is found and named, a compacted file and a backup hold the same rows."""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from typer.testing import CliRunner

from flywheel.cli.app import app
from flywheel.engines.toy.engine import write_weights
from flywheel.errors import StoreError
from flywheel.pipeline.loop import iterate
from flywheel.recipe.load import load
from flywheel.store import copies, maintenance
from flywheel.store.copies import backup, compact
from flywheel.store.maintenance import REFERENCES, faults
from flywheel.store.schema import APPROVALS, COMPARISONS, HEALTH, KEYS, TABLES
from flywheel.store.store import Store
from tests import ROOT

pytestmark = pytest.mark.slow

NOW = datetime(2026, 1, 1)
SMALL = ("exam.prompts.side=4", "prompts.side=8", "prompts_per_iteration=16", "batch=64")
TRACED = "update judgments set trace = generation"
WRITER = """
import sys
import polars as pl
from flywheel.store.store import Store
from flywheel.store.schema import METRICS
store = Store(sys.argv[1])
checkpoint = store.sql("select min(id) from checkpoints").item()
for number in range(int(sys.argv[2])):
    rows = [(checkpoint, step, f"n{number}", 0.5) for step in range(50)]
    store.add("metrics", pl.DataFrame(rows, schema=METRICS, orient="row"))
    print(number, flush=True)
"""
KILLED = """
import os, sys
from pathlib import Path
from flywheel.store.store import Store
from flywheel.store.copies import compact
Path.replace = lambda *_: os._exit(9)
compact(Store(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a toy run, a comparison and a row of health."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLYWHEEL_TOY_WEIGHTS", str(write_weights(home / "weights", 0.3, 1)))
        list(iterate(functools.partial(load, "toy", overrides=SMALL), home, iterations=1))
    store = Store(home / "flywheel.duckdb")
    answers = store.sql("select id from generations order by id limit 2")["id"]
    run = store.sql("select id from runs").item()
    pair = (answers[0], answers[1], "ab", "duel", 0, "a", "ok", answers[0])
    store.add("comparisons", pl.DataFrame([pair], schema=COMPARISONS, orient="row"))
    store.add("health", pl.DataFrame([(run, 1, "exact", "right", 0.5, 0.1, 0.9, 4)], schema=HEALTH, orient="row"))
    iteration, candidate = store.sql("select iteration, candidate from decisions limit 1").row(0)
    said = (iteration, candidate, "asked", None, "+2 points", NOW)
    store.add("approvals", pl.DataFrame([said], schema=APPROVALS, orient="row"))
    damage(home, TRACED)
    yield home


@pytest.fixture
def home(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "home"))


def damage(home: Path, *statements: str) -> None:
    with duckdb.connect(str(home / "flywheel.duckdb")) as connection:
        for statement in statements:
            connection.execute(statement)


def found(home: Path) -> list[maintenance.Finding]:
    return list(faults(Store(home / "flywheel.duckdb"), home))


def command(*argv: str, home: Path) -> Any:
    return CliRunner().invoke(app, ["store", *argv, "--home", str(home)])


def contents(path: Path) -> dict[str, pl.DataFrame]:
    """Every table in the order of its rows: some questions rely on it."""
    store = Store(path)
    return {table: store.sql(f"select * from {table} order by rowid") for table in TABLES}


def same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> bool:
    return all(one[table].equals(other[table]) for table in TABLES)


def test_a_runs_store_is_sound_and_has_rows_in_every_table(home: Path) -> None:
    empty = [table for table, frame in contents(home / "flywheel.duckdb").items() if frame.is_empty()]
    assert empty == ["aliases"], "only what an older program made has other ids"
    assert found(home) == []
    done = command("check", home=home)
    assert (done.exit_code, done.output) == (0, "the store is sound\n")


def test_every_column_that_is_named_for_another_table_is_looked_at() -> None:
    named = {"prompt", "checkpoint", "draw", "generation", "trace", "dataset", "exam", "run", "policy", "parent"}
    columns = {f"{table}.{name}" for table, schema in TABLES.items() for name in schema if name in named}
    columns -= {f"{table}.iteration" for table in ("events", "health")}
    assert columns <= {source for sources in REFERENCES.values() for source in sources}


def test_every_row_that_names_none_is_found(home: Path) -> None:
    expected = set()
    for target, sources in REFERENCES.items():
        for source in sources:
            table, column = source.split(".")
            value = f"['{source}']" if column == "generations" else f"'{source}'"
            damage(home, f'update {table} set "{column}" = {value} where rowid = (select min(rowid) from {table})')
            expected.add(("error", source, f"no such row in {target.partition('.')[0]}", 1, source))
    assert expected <= set(found(home))


def test_every_row_that_is_there_twice_is_found(home: Path) -> None:
    tables = [table for table, keys in KEYS.items() if keys and table != "aliases"]  # it is empty here
    for table in tables:
        insert = f"insert into {table} (from {table} limit 1)"
        damage(home, insert, insert)
    twice = [each for each in found(home) if "others with the same" in each.what]
    assert [(each.kind, each.where, each.rows) for each in twice] == [("error", table, 2) for table in tables]


DAMAGE = {
    "a changed chat": (
        "update prompts set chat = [{'role': 'user', 'content': 'é'}] where rowid = 3",
        "prompts.id",
    ),
    "a changed index": ('update generations set "index" = 77 where rowid = 5', "generations.id"),
    "another draw": ('update judgments set "index" = 77 where rowid = 5', "judgments"),
    "a number for a failure": (
        "create or replace table judgments as select * replace ('error' as status) from judgments",
        "judgments.score",
    ),
    "a judgment that is not a number": (
        "create or replace table judgments as select * replace ('nan'::double as score) from judgments",
        "judgments.score",
    ),
    "a verdict for a failure": (
        "create or replace table comparisons as select * replace ('timeout' as status) from comparisons",
        "comparisons.verdict",
    ),
    "a leak": (
        "update examples set prompt = (select min(prompt) from exams) where rowid = (select min(rowid) from examples)",
        "examples.prompt",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_rows_that_contradict_each_other_are_found(home: Path, case: str) -> None:
    statement, where = DAMAGE[case]
    damage(home, statement)
    wrong = {finding.where: finding for finding in found(home)}
    assert wrong[where].rows > 0 and wrong[where].example not in ("", "None")


def test_others_get_their_turn_and_ids_are_looked_at_batch_by_batch(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "BATCH", 50)
    monkeypatch.setattr(maintenance, "TURN", 0.0)
    damage(home, 'update generations set "index" = "index" + 50')
    rows = contents(home / "flywheel.duckdb")["generations"].height
    (finding,) = (each for each in found(home) if each.where == "generations.id")
    assert finding.rows == rows > 50


def test_weights_that_are_gone_are_a_note(home: Path) -> None:
    shutil.rmtree(home / "checkpoints")
    (finding,) = found(home)
    assert (finding.kind, finding.where) == ("note", "checkpoints.weights")
    done = command("check", home=home)
    assert done.exit_code == 0 and done.output.startswith("note: checkpoints.weights: the folder is gone: ")


def test_check_ends_with_one_and_tells_programs_what_it_tells_people(home: Path) -> None:
    damage(home, "update grades set exam = 'nobody'")
    done = command("check", "--json", home=home)
    rows = [json.loads(line) for line in done.output.splitlines()]
    assert done.exit_code == 1 and [row["where"] for row in rows] == ["grades.exam"]
    assert f"error: grades.exam: no such row in exams: {rows[0]['rows']} rows, such as nobody\n" in (
        command("check", home=home).output
    )


def test_a_compacted_store_is_smaller_and_has_the_same_rows_in_the_same_order(home: Path) -> None:
    path = home / "flywheel.duckdb"
    damage(home, "create table filler as select random() as x from range(300000)", "drop table filler")
    before = contents(path)
    old, new = compact(Store(path))
    assert new == path.stat().st_size < old
    assert same(before, contents(path)) and found(home) == []
    assert [each.name for each in home.iterdir() if "duckdb" in each.name] == [path.name]
    assert len(Store(path).sql("from progress")) == 2
    with pytest.raises(duckdb.ConstraintException):
        damage(home, "update judgments set status = 'error'")
    assert Store(path).add("comparisons", before["comparisons"]) == 0


def test_a_store_that_would_lose_rows_is_not_compacted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "flywheel.duckdb"
    before = path.read_bytes()
    counts = iter(range(10**6))
    monkeypatch.setattr(copies, "_count", lambda *_: next(counts))
    with pytest.raises(StoreError, match="not compacted"):
        compact(Store(path))
    assert path.read_bytes() == before
    assert [each.name for each in home.iterdir() if "duckdb" in each.name] == [path.name]


def test_a_kill_before_the_end_of_a_compaction_leaves_the_old_file(home: Path) -> None:
    path = home / "flywheel.duckdb"
    before = path.read_bytes()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, capture_output=True)
    assert killed.returncode == 9, killed.stderr
    assert path.read_bytes() == before and found(home) == []
    compact(Store(path))
    assert [each.name for each in home.iterdir() if "duckdb" in each.name] == [path.name]


def test_nothing_is_lost_and_copies_are_sound_while_another_process_writes(home: Path, tmp_path: Path) -> None:
    path, batches = home / "flywheel.duckdb", 30
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(batches)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout and writer.stdout.readline()
    rounds = 0
    while writer.poll() is None:
        assert found(home) == []
        compact(Store(path))
        backup(Store(path), home / f"copy {rounds}")
        rounds += 1
    assert writer.returncode == 0 and rounds
    assert Store(path).sql("select count(*) from metrics where name like 'n%'").item() == 50 * batches
    for number in range(rounds):
        copy = Store(home / f"copy {number}")
        assert list(faults(copy, home)) == []
        assert copy.sql("select count(*) from metrics where name like 'n%'").item() % 50 == 0
    assert found(home) == []


def test_a_backup_is_one_file_with_the_same_rows_and_overwrites_nothing(home: Path) -> None:
    to = home / "deep" / "copy.duckdb"
    done = command("backup", str(to), home=home)
    assert done.exit_code == 0, done.output
    assert same(contents(home / "flywheel.duckdb"), contents(to))
    assert os.listdir(to.parent) == [to.name]
    before = to.read_bytes()
    again = command("backup", str(to), home=home)
    assert again.exit_code == 2 and "is there already" in again.output and to.read_bytes() == before


def test_a_backup_that_cannot_be_written_is_told(home: Path) -> None:
    (home / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        backup(Store(home / "flywheel.duckdb"), home / "file" / "copy")


def test_a_backup_has_what_a_killed_writer_left_in_its_log(home: Path) -> None:
    path = home / "flywheel.duckdb"
    script = """if True:
        import duckdb, os, sys
        connection = duckdb.connect(sys.argv[1], config={"checkpoint_threshold": "1TB"})
        connection.execute("insert into events from events")
        os._exit(0)"""
    rows = len(contents(path)["events"])
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert path.with_name(path.name + ".wal").exists()
    backup(Store(path), home / "copy")
    compact(Store(path))
    assert len(contents(home / "copy")["events"]) == len(contents(path)["events"]) == 2 * rows
    assert [each.name for each in home.iterdir() if "wal" in each.name] == []
