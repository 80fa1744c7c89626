"""The store: what it takes, what it refuses, and that it gives back what it was given."""

import os
import shutil
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.errors import ExamLeak, StoreError
from flywheel.store import migrations
from flywheel.store.ids import prompt_id
from flywheel.store.migrations import SCHEMA
from flywheel.store.schema import EXAMS, KEYS, METRICS, PROMPTS, TABLES
from flywheel.store.store import ROW_GROUP, Store

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901)
CHAT = [{"role": "system", "content": ""}, {"role": "user", "content": "naïve “quotes”, emoji 🛞, \x00 and\n'lines'"}]
VALID: dict[str, Any] = {
    "chat": CHAT, "role": "answer", "finish_reason": "stop", "status": "ok", "order": "ab", "verdict": "tie",
    "origin": "synthetic", "decision": "roll back", "n": 4, "correct": 1, "unscored": 1, "stop": ["a", ""],
    "generations": ["g"], "temperature": 0.7, "created_at": NOW,
    "kept": True, "majority": None, "parent": None, "reference": None,
}  # fmt: skip
OWN = {("approvals", "status"): "asked"}
KINDS = {"checkpoints": "trained", "events": "done", "datasets": "selected"}
BY_TYPE: dict[Any, Any] = {pl.String: "'\"\\x", pl.Int32: 7, pl.Int64: 2**40, pl.Float64: -0.1, pl.Boolean: False}


def row(table: str, **values: Any) -> pl.DataFrame:
    """A valid row of a table, with some values of one's own."""
    full = {
        name: KINDS[table]
        if name == "kind"
        else OWN.get((table, name), VALID.get(name, BY_TYPE.get(dtype.base_type())))
        for name, dtype in TABLES[table].items()
    }
    return pl.DataFrame([full | values], schema=TABLES[table], orient="row")


def example(prompt: str, position: int = 0) -> pl.DataFrame:
    return row("examples", prompt=prompt, position=position)


def exam(prompt: str, name: str = "sums", position: int = 0) -> pl.DataFrame:
    return row("exams", id=f"exam of {name}", name=name, prompt=prompt, position=position)


def count(store: Store, table: str) -> int:
    return int(store.sql(f"select count(*) from {table}").item())


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_rows_come_back_as_they_went_in(store: Store, table: str) -> None:
    frame = row(table)
    assert store.add(table, frame.select(reversed(frame.columns))) == 1
    assert store.sql(f"select * from {table}").equals(frame)
    assert store.sql(f"select * from {table}").schema == TABLES[table]


@pytest.mark.slow
@pytest.mark.parametrize("table", [table for table in TABLES if KEYS[table]])
def test_adding_a_row_again_changes_nothing(store: Store, table: str) -> None:
    frame = row(table)
    twice = pl.concat([frame, frame])
    assert [store.add(table, twice), store.add(table, twice)] == [1, 0]
    assert store.sql(f"select * from {table}").equals(frame)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=6), max_size=4))
def test_each_key_is_stored_once_whatever_comes_in_what_order(
    template: Path, tmp_path: Path, batches: list[list[tuple[int, int]]]
) -> None:
    store = Store(shutil.copy(template, tmp_path / "some.duckdb"))
    seen: set[tuple[int, int]] = set()
    for batch in batches:
        rows = [("c", step, f"m{name}", 1.0) for step, name in batch]
        assert store.add("metrics", pl.DataFrame(rows, schema=METRICS, orient="row")) == len(set(batch) - seen)
        seen |= set(batch)
    assert count(store, "metrics") == len(seen)


def test_a_frame_without_rows_adds_none_and_waits_for_nobody(store: Store) -> None:
    with store.reading():
        assert store.add_all({"prompts": PROMPTS.to_frame(), "exams": EXAMS.to_frame()}) == {"prompts": 0, "exams": 0}


def test_several_tables_are_added_whole_or_not_at_all(store: Store) -> None:
    assert store.add_all({"runs": row("runs"), "draws": row("draws")}) == {"runs": 1, "draws": 1}
    with pytest.raises(StoreError, match="CHECK constraint"):
        store.add_all({"prompts": row("prompts"), "events": row("events", kind="party")})
    assert count(store, "prompts") == 0


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (row("metrics").drop("value"), "metrics.value is missing"),
        (row("metrics").with_columns(step=pl.lit(1, pl.Int64)), "metrics.step has type Int64, not Int32"),
        (row("metrics").with_columns(value=None), "metrics.value has type Null, not Float64"),
        (row("metrics").with_columns(colour=pl.lit("red")), "metrics has no column colour"),
    ],
)
def test_a_frame_of_another_shape_is_refused_by_the_name_of_its_column(
    store: Store, frame: pl.DataFrame, said: str
) -> None:
    with pytest.raises(StoreError, match=said):
        store.add("metrics", frame)


def test_a_table_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match="no table 'answers'; the tables are prompts"):
        store.add("answers", row("prompts"))


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("judgments", {"score": None}),
        ("judgments", {"status": "error"}),
        ("judgments", {"score": float("nan")}),
        ("judgments", {"score": float("inf")}),
        ("judgments", {"status": "fine"}),
        ("comparisons", {"verdict": "c"}),
        ("comparisons", {"verdict": None}),
        ("comparisons", {"status": "timeout"}),
        ("comparisons", {"order": "aa"}),
        ("generations", {"role": "joke"}),
        ("generations", {"finish_reason": None}),
        ("generations", {"text": None}),
        ("generations", {"id": None}),
        ("decisions", {"decision": "perhaps"}),
        ("checkpoints", {"kind": "stolen"}),
        ("examples", {"origin": "dreamt"}),
        ("grades", {"correct": 4}),
        ("grades", {"n": 0}),
        ("events", {"kind": "party"}),
        ("health", {"value": float("nan")}),
        ("health", {"high": float("inf")}),
    ],
)
def test_a_value_that_cannot_be_is_refused(store: Store, table: str, values: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="constraint failed"):
        store.add(table, row(table, **values))
    assert count(store, table) == 0


@pytest.mark.parametrize("status", ["unparsable", "timeout", "error", "refused"])
def test_a_failed_judgment_has_no_score(store: Store, status: str) -> None:
    assert store.add("judgments", row("judgments", status=status, score=None)) == 1


def test_an_exam_prompt_cannot_be_trained_on(store: Store) -> None:
    store.add("exams", pl.concat([exam("e1"), exam("e2", position=1)]))
    training = pl.concat([example("fine"), example("e2", 1), example("e1", 2), example("e2", 3)])
    with pytest.raises(ExamLeak, match=r"3 training rows .* exam 'sums', the first is e2"):
        store.add_all({"prompts": row("prompts"), "examples": training})
    assert count(store, "examples") == count(store, "prompts") == 0


def test_what_has_trained_cannot_become_an_exam(store: Store) -> None:
    store.add("examples", pl.concat([example("p"), example("q", 1)]))
    with pytest.raises(ExamLeak, match=r"1 training rows .* exam 'late', the first is q"):
        store.add("exams", pl.concat([exam("new", "late"), exam("q", "late", 1)]))
    assert count(store, "exams") == 0


def test_one_transaction_cannot_smuggle_an_exam_prompt_in(store: Store) -> None:
    for frames in ({"exams": exam("p"), "examples": example("p")}, {"examples": example("p"), "exams": exam("p")}):
        with pytest.raises(ExamLeak):
            store.add_all(frames)
    assert count(store, "exams") == count(store, "examples") == 0


def test_an_exam_of_the_same_chat_is_recognised_whatever_its_reference(store: Store) -> None:
    store.add("exams", exam(prompt_id(CHAT)))
    with pytest.raises(ExamLeak):
        store.add("examples", example(prompt_id([dict(message) for message in CHAT])))


@pytest.mark.parametrize(
    "statement",
    ["delete from runs", "update runs set name = 'x'", "drop table runs", "create table t (i int)",
     "drop view progress", "insert into runs select * from runs", "alter table runs drop column name",
     "select 1; truncate runs", "copy runs to 'runs.csv'", "copy (select 1) to 'flywheel.duckdb' (format csv)",
     "export database 'all'", "select 1; copy runs from 'runs.csv'"],
)  # fmt: skip
def test_questions_cannot_write(store: Store, statement: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add("runs", row("runs"))
    monkeypatch.chdir(store.path.parent)
    before = {path: path.read_bytes() for path in store.path.parent.iterdir()}
    with pytest.raises(StoreError, match="read-only"):
        store.sql(statement)
    assert {path: path.read_bytes() for path in store.path.parent.iterdir()} == before


def test_questions_take_parameters_by_position_and_by_name(store: Store) -> None:
    store.add("prompts", row("prompts", id="'; drop table prompts; --"))
    for query, parameters in (
        ("select chat from prompts where id = ?", ["'; drop table prompts; --"]),
        ("select chat from prompts where id = $id", {"id": "'; drop table prompts; --"}),
        ("select chat from prompts where list_contains($ids, id)", {"ids": ["'; drop table prompts; --"]}),
    ):
        assert store.sql(query, parameters).item().to_list() == CHAT


def test_sums_are_whole_numbers_and_intervals_are_text(store: Store) -> None:
    store.add("draws", row("draws"))
    assert store.sql("select sum(n) as n, count(*) as c from draws").schema == {"n": pl.Int64, "c": pl.Int64}
    assert store.sql(f"select sum({10**30}::hugeint) as large from range(3)").item() == 3 * 10**30
    assert store.sql("select interval 90 minutes as a, [interval 1 day] as a").row(0) == ("01:30:00", "[1 day]")


def test_a_question_that_is_wrong_says_where(store: Store) -> None:
    with pytest.raises(StoreError, match="nowhere does not exist"):
        store.sql("select * from nowhere")
    with pytest.raises(StoreError, match="syntax error"):
        store.sql("selct 1")
    assert store.sql("").is_empty()


def test_questions_nest_but_nothing_is_written_meanwhile(store: Store) -> None:
    with store.reading() as connection:
        assert connection.sql("select 1").fetchall() == [(1,)]
        assert count(store, "runs") == 0
        with pytest.raises(StoreError, match="reading"):
            store.add("runs", row("runs"))
    assert store.add("runs", row("runs")) == 1


@pytest.mark.slow
def test_threads_of_one_process_take_turns(store: Store) -> None:
    failures: list[Exception] = []

    def work(thread: int) -> None:
        try:
            for step in range(4):
                store.add("metrics", row("metrics", checkpoint=f"c{thread}", step=step))
                assert store.sql("select count(*) from metrics where checkpoint = $c", {"c": f"c{thread}"}).item() == (
                    step + 1
                )
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert count(store, "metrics") == 24


def test_a_thread_that_waits_too_long_says_so(store: Store) -> None:
    impatient, said = Store(store.path, wait=0.1), list[str]()

    def work() -> None:
        try:
            impatient.add("runs", row("runs"))
        except StoreError as error:
            said.append(str(error))

    with store.reading():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert "another thread" in said[0]


@pytest.mark.slow
def test_small_batches_are_merged_and_large_ones_are_not_written_again(store: Store) -> None:
    for batch in range(24):
        rows = [("c", batch * 1000 + step, "loss", 0.5) for step in range(1000)]
        store.add("metrics", pl.DataFrame(rows, schema=METRICS, orient="row"))
    groups = store.sql(
        """select sum(count)::bigint as rows from pragma_storage_info('metrics')
           where column_name = 'step' and segment_type = 'INTEGER' group by row_group_id"""
    )["rows"]
    assert groups.sum() == 24_000
    assert len(groups) < 8 and max(groups.to_list()) <= ROW_GROUP


def test_nothing_is_left_beside_the_file(store: Store) -> None:
    store.add("runs", row("runs"))
    store.sql("from runs")
    assert os.listdir(store.path.parent) == [store.path.name]


# What a file may be


def test_the_tables_are_those_that_are_declared(store: Store) -> None:
    there = set(store.sql("select table_name from duckdb_tables()")["table_name"])
    assert there == {*TABLES, "schema_version"}
    for table, schema in TABLES.items():
        assert list(store.sql(f"from {table}").schema.items()) == list(schema.items())


def test_a_folder_is_made_where_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a 'quoted' folder" / "b" / "flywheel.duckdb"
    assert Store(str(path)).add("runs", row("runs")) == 1
    assert os.listdir(path.parent) == ["flywheel.duckdb"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/flywheel.duckdb cannot be made: .*"):
        Store(tmp_path / "file" / "flywheel.duckdb")
    with pytest.raises(StoreError, match="Is a directory"):
        Store(tmp_path)
    assert os.listdir(tmp_path) == ["file"]


def damaged(start: float, bytes_: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(start * len(data))] + bytes_ + data[int(start * len(data)) + len(bytes_) :]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: b"", "no DuckDB file"),
        (lambda data: b"id,text\n1,hello\n" * 1000, "no DuckDB file"),
        (lambda data: data[:9000], "damaged"),
        (lambda data: data[: len(data) // 2], "damaged"),
        (damaged(0.01, b"\xff" * 2000), "damaged"),
    ],
)
def test_a_file_that_is_no_store_is_refused_and_left_as_it_was(
    template: Path, tmp_path: Path, change: Callable[[bytes], bytes], said: str
) -> None:
    path = tmp_path / "odd.duckdb"
    path.write_bytes(change(template.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(StoreError, match=said):
        Store(path).sql("from progress")
    assert path.read_bytes() == before


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "other.duckdb")) as connection:
        connection.execute("create table precious (i int)")
    with pytest.raises(StoreError, match="no flywheel store"):
        Store(tmp_path / "other.duckdb")


def test_a_store_of_a_newer_program_is_refused_with_both_versions(store: Store) -> None:
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("insert into schema_version values (99, '7.8.9', '', timestamp '2999-01-01')")
    with pytest.raises(StoreError, match=r"schema version 99, made by flywheel 7\.8\.9, .* versions up to \d+: update"):
        Store(store.path)


# Migrations


NEWEST = len(list(SCHEMA.glob("[0-9]*.sql")))


def newer(folder: Path, sql: str) -> Path:
    """A schema folder with one migration more."""
    shutil.copytree(SCHEMA, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / f"{NEWEST + 1:03}_more.sql").write_text(sql)
    return folder


def schema_of(version: int, folder: Path) -> Path:
    """A schema folder with the first migrations alone, and no views, as those of today want tables of later ones."""
    folder.mkdir()
    for file in sorted(SCHEMA.glob("[0-9]*.sql"))[:version]:
        shutil.copy(file, folder)
    (folder / "views.sql").touch()
    return folder


def own_row(table: str) -> pl.DataFrame:
    """A row that may be there with those of all other tables: an exam's prompt is nobody else's."""
    return row(table, prompt="of the exam") if table == "exams" else row(table)


def filled(path: Path) -> dict[str, pl.DataFrame]:
    """Puts a row into each table that the file has, in the columns that it has there; gives what it then holds."""
    with duckdb.connect(str(path)) as connection:
        there = [name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()]
        for table in set(there) - {"schema_version"}:
            columns = [name for name, *_ in connection.execute(f"describe {table}").fetchall()]
            rows = own_row(table).select(columns)
            connection.register("rows", rows)
            connection.execute(f"insert into {table} by name from rows")
            connection.unregister("rows")
        return {table: connection.sql(f"from {table}").pl() for table in there}


@pytest.mark.slow
@pytest.mark.parametrize("version", range(1, NEWEST))
def test_a_store_of_each_earlier_version_is_brought_up_with_all_its_rows(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "SCHEMA", schema_of(version, tmp_path / "old"))
    path = Store(tmp_path / "flywheel.duckdb").path
    before = filled(path)
    assert before["runs"].height == 1 and before["schema_version"]["version"].to_list() == [version]
    monkeypatch.setattr(migrations, "SCHEMA", SCHEMA)
    store = Store(path)
    for table, rows in before.items():
        if table != "schema_version":
            assert store.sql(f"from {table}").select(rows.columns).equals(rows), table
    assert store.sql("select version from schema_version order by version")["version"].to_list() == [version, NEWEST]
    assert {table: store.add(table, own_row(table)) for table in TABLES} == {
        table: int(table not in before or not KEYS[table]) for table in TABLES
    }
    assert store.sql("from progress").height == 1
    with duckdb.connect(str(path)) as connection, pytest.raises(duckdb.ConstraintException):
        connection.execute("update judgments set status = 'error'")


def test_a_store_is_brought_up_over_several_versions_and_then_refused_by_the_old_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "SCHEMA", schema_of(1, tmp_path / "one"))
    old = Store(tmp_path / "flywheel.duckdb")
    old.add("runs", row("runs"))
    monkeypatch.setattr(migrations, "SCHEMA", newer(tmp_path / "two", "alter table runs add column mood varchar;"))
    new = Store(old.path)
    assert new.sql("select name, mood from runs").row(0) == (row("runs")["name"][0], None)
    assert new.sql("select version from schema_version order by version")["version"].to_list() == [1, NEWEST + 1]
    assert new.sql("from progress").is_empty()
    assert count(Store(old.path), "schema_version") == 2
    monkeypatch.setattr(migrations, "SCHEMA", tmp_path / "one")
    with pytest.raises(StoreError, match=f"schema version {NEWEST + 1}"):
        Store(old.path)


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "SCHEMA", schema_of(1, tmp_path / "one"))
    path = Store(tmp_path / "flywheel.duckdb").path
    broken = newer(tmp_path / "two", "alter table runs add column mood varchar; alter table nowhere add column x int;")
    monkeypatch.setattr(migrations, "SCHEMA", broken)
    with pytest.raises(StoreError, match="nowhere"):
        Store(path)
    monkeypatch.setattr(migrations, "SCHEMA", tmp_path / "one")
    assert "mood" not in Store(path).sql("from runs").columns


def test_changed_views_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Store(tmp_path / "flywheel.duckdb").path
    changed = tmp_path / "schema"
    shutil.copytree(SCHEMA, changed, ignore=shutil.ignore_patterns("__pycache__"))
    views = changed / "views.sql"
    views.write_text(views.read_text() + "create or replace view funnel as select 42 as answer;")
    monkeypatch.setattr(migrations, "SCHEMA", changed)
    assert Store(path).sql("from funnel").item() == 42
