"""The pages of `docs/adding.md` work as they are written, and keep the house's rules."""

from pathlib import Path

import pytest

from flywheel.engines.toy.engine import write_weights
from flywheel.pipeline.loop import run as run_recipe
from flywheel.recipe.load import load
from flywheel.store.schema import JUDGED, PICKED, PROMPTS, SUBJECTS
from flywheel.store.store import Store
from tests import ROOT
from tests.adding import Section, copied, follow, run, sections

pytestmark = pytest.mark.slow
OWN = (ROOT / "docs" / "own_parts.md").read_text(encoding="utf-8")
SCHEMAS = {"SUBJECTS": SUBJECTS, "JUDGED": JUDGED, "PICKED": PICKED, "PROMPTS": PROMPTS}
LARGEST = {
    "A method": ("flows/recipes/best_of_n.py", 25),
    "A judge": ("judges/rules/keyword.py", 15),
    "A filter": ("filters/few_lines.py", 12),
    "An engine": ("flywheel/engines/echo/engine.py", 60),
}


@pytest.mark.parametrize("section", sections()[:-1], ids=lambda section: section.title)
def test_a_page_works_as_it_is_written(section: Section, tmp_path: Path) -> None:
    touched = follow(section, copied(tmp_path))
    if section.title in LARGEST:
        name, most = LARGEST[section.title]
        assert touched[name] <= most
    if section.title == "An engine":  # one file of code beside its row
        assert [name for name, many in touched.items() if many] == [
            "flywheel/engines/echo/engine.py",
            "flywheel/engines/table.py",
        ]


def test_all_of_them_together_keep_the_rules_of_the_house(tmp_path: Path) -> None:
    *pages, end = sections()
    project = copied(tmp_path)
    for page in pages:
        follow(page._replace(steps=[step for step in page.steps if step["kind"] != "sh"]), project)
    run("python -m flywheel.identity.shipped 2>/dev/null", project)
    run(end.steps[-1]["text"].replace("mypy\n", ""), project)


def test_the_page_of_own_parts_runs_and_its_judge_judges(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN.partition("```python\n")[2].partition("```")[0], encoding="utf-8")
    write_weights(tmp_path / "toy-weights", skill=0.6, seed=0)
    recipe = load(tmp_path / "mine.py", overrides=["iterations=1", f"base={tmp_path / 'toy-weights'}"])
    run_recipe(recipe, tmp_path / "runs")
    store = Store(tmp_path / "runs" / "flywheel.duckdb")
    told = store.sql(
        "select status, count(*) as n, avg(score) as right from judgments where judge like 'LastWord%' group by 1"
    )
    assert told["status"].to_list() == ["ok"] and told["n"][0] == 80 and 0.1 < told["right"][0] < 1
    assert store.sql("from selections where filter like 'Short%' and not kept").height > 0


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_columns_that_the_page_tells_are_those_of_the_frames(name: str) -> None:
    rows = OWN.partition(f"| {name}: ")[2].partition("\n\n")[0].splitlines()[2:]
    told = {cells[1].strip(" `"): cells[2].strip() for cells in (row.split("|") for row in rows)}
    if name == "JUDGED":
        told = {column: str(kind).partition("(")[0] for column, kind in SUBJECTS.items()} | told
    schema = {column: str(kind) for column, kind in SCHEMAS[name].items()}
    assert told.keys() == schema.keys()
    assert all(schema[column].startswith(kind.removesuffix(")")) for column, kind in told.items())
