"""A user edits a part of a recipe and runs it again: what hangs on it is made again, the rest is not."""

import textwrap
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from flywheel.cli.app import app
from flywheel.engines.toy.engine import write_weights
from flywheel.store.store import Store

pytestmark = pytest.mark.slow
COUNTED = ("generations", "judgments", "runs")
RECIPE = """
    import os
    from dataclasses import dataclass, replace

    import polars as pl

    from filters.text_filters import Cap
    from flows.recipes.toy import Sums, recipe as toy
    from flywheel.store.schema import VOTES

    GOOD = 1.0

    def worth(text, reference):
        return GOOD if text.rpartition("Answer: ")[2].strip() == reference else 0.0

    @dataclass(frozen=True)
    class Mine:
        model = None
        name = "mine"

        def ask(self, subjects):
            return []

        def read(self, subjects, replies):
            rows = [
                (row["generation"], self.name, 0, worth(row["text"], row["reference"]), "ok", None, None)
                for row in subjects.iter_rows(named=True)
            ]
            return pl.DataFrame(rows, schema=VOTES, orient="row")

    @dataclass(frozen=True)
    class Enough:
        def __call__(self, judged):
            return judged.filter(pl.col("score") >= 1.0)

    def recipe(iteration):
        return replace(
            toy, name="edited", base=os.environ["FLYWHEEL_TOY_WEIGHTS"],
            judges=(Mine(),), keep=(Enough(), Cap(2 if iteration < 2 else 1)),
            prompts=Sums(side=4, first=0, last=4), exam=replace(toy.exam, prompts=Sums(side=4, first=50, last=54)),
            iterations=2,
        )
"""
EDITS = {
    "the judge's helper": ("return GOOD if", "return 2 * GOOD if", "judges.0 (Mine) has other code", "judge"),
    "a constant of the judge": ("GOOD = 1.0", "GOOD = 3.0", "judges.0 (Mine) has other code", "judge"),
    "the judge's body": ('(row["text"], row', '(row["text"].lower(), row', "judges.0 (Mine) has other code", "judge"),
    "the filter": (">= 1.0)", ">= 0.5)", "keep.0 (Enough) has other code", "select"),
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes the recipe with an edit and runs it, as a user does; gives the exit code, what was said, and the rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLYWHEEL_TOY_WEIGHTS", str(write_weights(tmp_path / "weights", 0.5, 1)))

    def flywheel(old: str = "", new: str = "", *options: str) -> tuple[int, str, dict[str, int]]:
        assert old in RECIPE
        Path("mine.py").write_text(textwrap.dedent(RECIPE).replace(old, new) if old else textwrap.dedent(RECIPE))
        done = CliRunner().invoke(app, ["run", "mine.py", "--home", "home", *options])
        store = Store(tmp_path / "home" / "flywheel.duckdb")
        counted = {
            name: store.sql(f"select count(*) from {name}").item() for name in ("generations", "judgments", "runs")
        }
        return done.exit_code, f"{done.output} {done.exception}".replace("\n", " "), counted

    return flywheel


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_noticed_and_only_what_hangs_on_it_is_made_again(edit, run):
    old, new, said, step = EDITS[edit]
    code, _, first = run()
    assert code == 0
    code, out, second = run(old, new)
    assert code == 0
    assert said in out and f"from the {step} step of iteration 1 on" in out
    assert second["runs"] == 2
    answers = Store(Path("home/flywheel.duckdb")).sql("from answers where iteration = 1")
    assert answers["generation"].n_unique() == 16 * 4, "the first answers are the same ones"
    fresh = second["judgments"] - first["judgments"]
    assert fresh >= 64 if step == "judge" else fresh < 64
    code, out, third = run(old, new)
    assert (code, third) == (0, second) and "has other code" not in out
    code, out, third = run()
    assert (code, third) == (0, second), "the first run is still there"


def test_code_that_fails_is_run_and_told(run):
    assert run()[0] == 0
    code, out, _ = run("return GOOD if", "return NOWHERE if")
    assert code == 2 and "mine.py, line 14: NameError: name 'NOWHERE' is not defined" in out


def test_a_longer_run_makes_nothing_again(run):
    _, _, first = run()
    code, out, second = run("iterations=2", "iterations=3")
    assert code == 0 and second["runs"] == 1 and second["generations"] > first["generations"]
    assert "made again" not in out


def test_another_recipe_for_a_later_iteration_makes_that_one_again(run):
    run()
    code, out, second = run("else 1)", "else 2)")
    assert code == 0 and second["runs"] == 2
    assert "keep.1.n was 1 and is 2" in out and "iteration 2" in out
    store = Store(Path("home/flywheel.duckdb"))
    made = store.sql(
        "select r.id, i.number, d.dataset from iterations i join runs r on r.id = i.run "
        "join iteration_datasets d on d.iteration = i.id where i.number > 0"
    )
    assert made.filter(pl.col("number") == 1)["dataset"].n_unique() == 1
    assert made.filter(pl.col("number") == 2)["dataset"].n_unique() == 2
    assert run("else 1)", "else 2)")[2] == second


def test_fresh_starts_anew_beside_what_is_there(run):
    _, _, first = run()
    code, out, second = run("", "", "--fresh")
    assert code == 0 and "--set seed=1000" in out
    assert second["runs"] == 2 and second["generations"] > 1.5 * first["generations"]
    assert run("", "", "--set", "seed=1000")[2] == second
