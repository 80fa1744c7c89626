"""Stores that earlier programs made: nothing of them is lost, a replay finds it all, and a run goes on where it was.

See tests/stores/README.md for what is in them. What is compared holds no ids, for those may be computed anew.
"""

import importlib
import json
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
from typer.testing import CliRunner

from flywheel.cli.app import app
from flywheel.errors import ApprovalNeeded
from flywheel.identity import version
from flywheel.identity.shipped import recorded
from flywheel.pipeline.loop import iterate
from flywheel.recipe.load import load
from flywheel.store.store import Store
from judges.models.rubric import Rubric
from tests.stores.make import HERE, HOME, RECIPES, STORES, Made

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

UNREADABLE = "version-1"
"""Its judgments lack columns that were put into 001 itself later, and all of its ids are longer."""
MADE_IN = """with made as (select c.id, coalesce(min(i.number), 0) as number from checkpoints c
                   left join iteration_datasets d on d.dataset = c.dataset left join iterations i on i.id = d.iteration
                   group by c.id)"""
DRAWN = """from generations g join prompts p on p.id = g.prompt join draws d on d.id = g.draw
           join made m on m.id = g.checkpoint"""
NUMBER = "case when g.role = 'exam' then m.number else d.seed end"
OF_RUN = "join iterations i on i.id = {table}.iteration join runs r on r.id = i.run"
CONTENT = {
    "prompts": "select null, chat::varchar, reference, meta from prompts",
    "generations": f"""{MADE_IN} select {NUMBER}, p.chat::varchar, g.role, g.index, g.text, g.seed, d.n, m.number
                       {DRAWN}""",
    "judgments": f"""{MADE_IN} select {NUMBER}, g.role, g.text, g.index, j.vote, j.score, j.status, j.detail, t.text
                     {DRAWN} join judgments j on j.generation = g.id left join generations t on t.id = j.trace""",
    "comparisons": f"""{MADE_IN} select {NUMBER}, g.text, b.text, c.order, c.vote, c.verdict, c.status, t.text
                       {DRAWN} join comparisons c on c.a = g.id join generations b on b.id = c.b
                       left join generations t on t.id = c.trace""",
    "selections": f"""select i.number, r.name, s.position, g.text, g.index, s.kept from selections s
                      {OF_RUN.format(table="s")} join generations g on g.id = s.generation""",
    "examples": f"""select i.number, r.name, e.position, e.chosen, e.rejected, e.weight, e.origin, len(e.generations),
                    (select count(*) from generations g where g.id in (select unnest(e.generations)))
                    from iteration_datasets d join datasets h on h.id = d.dataset {OF_RUN.format(table="d")}
                    join examples e on e.dataset = h.id join prompts p on p.id = e.prompt""",
    "grades": f"""{MADE_IN} select m.number, x.name, x.position, q.n, q.correct, q.unscored, q.majority from grades q
                  join made m on m.id = q.checkpoint join exams x on x.id = q.exam and x.prompt = q.prompt""",
    "metrics": f"{MADE_IN} select m.number, q.step, q.name, q.value from metrics q join made m on m.id = q.checkpoint",
    "iterations": "select i.number, r.name from iterations i join runs r on r.id = i.run",
    "proposals": f"""select i.number, r.name, o.position, p.chat::varchar from proposals o
                     {OF_RUN.format(table="o")} join prompts p on p.id = o.prompt""",
    "decisions": f"""select i.number, r.name, d.decision, d.score, d.difference, d.p, d.candidate is null, m.kind
                     from decisions d {OF_RUN.format(table="d")} join checkpoints m on m.id = d.policy""",
    "health": """select h.iteration, r.name, h.measure, h.value, h.low, h.high, h.n
                 from health h join runs r on r.id = h.run""",
    "approvals": f"""select i.number, r.name, a.status, a.author from approvals a {OF_RUN.format(table="a")}
                     join checkpoints c on c.id = a.candidate""",
    "runs": "select null, name, seed from runs",
    "checkpoints": "select null, kind, parent is null, reference is null, dataset is null from checkpoints",
}
"""By table what its rows say, without ids: first the iteration for which a row was made, if that can be told."""
TWICE = {
    "generations": """select d.seed, g.text from generations g join draws d on d.id = g.draw
                      qualify count(*) over (partition by prompt, checkpoint, role, index, d.engine, d.seed, d.n,
                                             temperature, top_p, top_k, max_tokens) > 1""",
    "judgments": """select generation, judge, vote from judgments
                    qualify count(*) over (partition by generation, split_part(judge, '#', 1), vote) > 1""",
    "comparisons": """select a, b, judge from comparisons
                      qualify count(*) over (partition by a, b, "order", split_part(judge, '#', 1), vote) > 1""",
    "iterations": "select run, number from iterations qualify count(*) over (partition by run, number) > 1",
}
"""Rows that were made again under another name; each should be there once."""
TRAINED = f"""select count(*) from iteration_datasets d {OF_RUN.format(table="d")}
              join examples e on e.dataset = d.dataset
              where i.number > 0 and r.created_at = (select max(created_at) from runs)"""
"""Rows that have trained in the latest run, but for its warm start."""
Content = dict[str, Counter[tuple[Any, ...]]]


READABLE = [name for name in STORES if name != UNREADABLE]


@pytest.fixture(autouse=True)
def as_no_part_has_changed_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that mean something else since then judge, filter and read anew; here they count as what they were."""
    for name, part in recorded().items():
        kind = getattr(importlib.import_module(part["module"]), name)
        if version(kind) != 1:
            monkeypatch.setattr(kind, "version", 1)
    pattern = (HERE / "rubric_pattern.txt").read_text(encoding="utf-8").strip()  # the default of a Rubric then
    monkeypatch.setitem(Rubric.__init__.__kwdefaults__, "pattern", pattern)
    monkeypatch.setattr(Rubric.__dataclass_fields__["pattern"], "default", pattern)
    for module in [module for module in sys.modules if module.startswith("flows.recipes.")]:
        monkeypatch.delitem(sys.modules, module)


class Old(NamedTuple):
    """A store as it was unpacked."""

    made: Made
    home: Path
    content: Content

    @property
    def recipe_at(self) -> Callable[[int], Any]:
        return partial(load, self.made.recipe, overrides=self.made.settings)

    @property
    def settings(self) -> list[str]:
        return [part for setting in self.made.settings for part in ("--set", setting)]


@pytest.fixture
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Old]]:
    """Unpacks the store of a name with its recipe, and goes where they are."""
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)

    def unpack(name: str) -> Old:
        with tarfile.open(HERE / f"{name}.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
        for path in RECIPES.glob("*.*"):
            shutil.copy(path, tmp_path)
        home = Path(HOME)
        with duckdb.connect(home / "flywheel.duckdb", read_only=True) as connection:
            tables = {name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()}
            asked = {table: connection.execute(query).fetchall() for table, query in CONTENT.items() if table in tables}
        return Old(STORES[name], home, {table: Counter(rows) for table, rows in asked.items()})

    yield unpack
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def content(home: Path, tables: Content) -> Content:
    store = Store(home / "flywheel.duckdb")
    return {table: Counter(store.sql(CONTENT[table]).rows()) for table in tables}


def flywheel(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [*words, "--home", HOME], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def replayed(*words: str) -> Counter[str]:
    """What became of the rows that trained; no model may be asked for it."""
    code, out, err = flywheel("replay", *words, "--json")
    assert code == 0 and "asks" not in err
    return Counter(json.loads(line)["outcome"] for line in out.splitlines())


def grown(old: Old, iteration: int) -> dict[str, int]:
    """How many rows each table has gained; all must be there that were, and the new ones be that iteration's."""
    now = content(old.home, old.content)
    for table, rows in old.content.items():
        assert not rows - now[table], f"rows of {table} are gone"
        new = now[table] - rows
        assert {row[0] for row in new} <= {iteration, None}, f"rows of {table} were made again"
    store = Store(old.home / "flywheel.duckdb")
    assert {table: len(store.sql(query)) for table, query in TWICE.items()} == dict.fromkeys(TWICE, 0)
    return {table: (now[table] - rows).total() for table, rows in old.content.items()}


@pytest.mark.parametrize("name", ["mine", "stopped", "version-2", "version-3"])
def test_every_row_is_there_after_the_upgrade(name: str, unpacked: Callable[[str], Old]) -> None:
    old = unpacked(name)
    assert content(old.home, old.content) == old.content
    assert flywheel("store", "check") == (0, "the store is sound\n", "")


@pytest.mark.parametrize("name", ["quickstart", "meta-rewarding-lab", "self-rewarding", "mine", "version-2"])
def test_a_replay_finds_all_that_trained_and_asks_nobody(name: str, unpacked: Callable[[str], Old]) -> None:
    old = unpacked(name)
    trained = Store(old.home / "flywheel.duckdb").sql(TRAINED).item()
    assert trained and replayed(old.made.recipe, *old.settings) == {"kept": trained}


@pytest.mark.parametrize("name", READABLE)
def test_a_run_goes_on_where_it_was_and_makes_nothing_twice(name: str, unpacked: Callable[[str], Old]) -> None:
    old = unpacked(name)
    goal = old.made.iterations + 1
    if name == "toy":
        code, _, err = flywheel("run", old.made.recipe, *old.settings, "--iterations", str(goal))
        assert (code, err) == (0, "")
    else:
        go_on(old, goal)
    new = grown(old, goal)
    assert (new["runs"], new["decisions"]) == (0, 1)
    assert new["iterations"] == (name not in ("waiting", "stopped", "scratch", "version-3"))


def test_a_store_that_cannot_be_read_is_refused_and_left_alone(unpacked: Callable[[str], Old], tmp_path: Path) -> None:
    old = unpacked(UNREADABLE)
    before = (old.home / "flywheel.duckdb").read_bytes()
    code, _, err = flywheel("status")
    assert code == 2 and "was made before the ids of today" in err and "Traceback" not in err
    assert (old.home / "flywheel.duckdb").read_bytes() == before


def test_the_other_run_of_a_name_goes_on_too(unpacked: Callable[[str], Old]) -> None:
    old = unpacked("mine")
    other = old._replace(made=old.made._replace(settings=("sampling.n=2",), iterations=1))
    go_on(other, 2)
    new = grown(other, 2)
    assert (new["runs"], new["decisions"], new["iterations"]) == (0, 1, 1)


def test_what_a_replay_asked_is_not_asked_again(unpacked: Callable[[str], Old]) -> None:
    old = unpacked("mine")
    assert replayed(old.made.recipe, "--set", "judges.0.strict=true")


def go_on(old: Old, goal: int) -> None:
    """Run the loop until so many iterations are decided, and approve what waits."""
    try:
        turn(old, goal)
    except ApprovalNeeded:
        assert not any(grown(old, goal).values()), "who waits makes nothing"
        assert flywheel("approve", "--by", "ada", "--because", "good")[0] == 0
        turn(old, goal)


def turn(old: Old, goal: int) -> None:
    for at in iterate(old.recipe_at, old.home, iterations=goal):
        assert at.iteration == goal, "it began anew"
