"""The pages of `docs/adding.md` work as they are written, and keep the house's rules."""

from pathlib import Path

import pytest

from tests.adding import Section, copied, follow, run, sections

pytestmark = pytest.mark.slow
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
