"""Relative paths in a recipe mean the recipe's folder, wherever it is run from."""

from pathlib import Path

import pytest

from flywheel.errors import RecipeError
from flywheel.recipe.load import load
from flywheel.recipe.places import located

RECIPE = """
from dataclasses import replace
from data.files import Jsonl
from flows.recipes.toy import recipe as toy
recipe = replace(toy, name="mine", prompts=Jsonl("questions.jsonl"))
"""
ROW = '{"question": "How much is 1+1?", "answer": "2"}\n'


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The recipe's folder and the one that is the current one."""
    recipe, here = tmp_path / "recipes", tmp_path / "here"
    recipe.mkdir()
    here.mkdir()
    (recipe / "mine.py").write_text(RECIPE)
    monkeypatch.chdir(here)
    return recipe, here


def test_a_file_beside_the_recipe_is_found_from_anywhere(folders):
    (folders[0] / "questions.jsonl").write_text(ROW)
    recipe = load(folders[0] / "mine.py")
    assert recipe.prompts()["reference"].to_list() == ["2"]
    assert located("questions.jsonl") == (folders[0] / "questions.jsonl").resolve()


def test_a_pattern_is_too(folders):
    for name in ("a1", "a2"):
        (folders[0] / f"{name}.jsonl").write_text(ROW.replace("1+1", name))
    recipe = load(folders[0] / "mine.py", overrides=["prompts.path=a*.jsonl"])
    assert len(recipe.prompts()) == 2


def test_a_file_in_the_current_folder_is_found_where_the_recipe_has_none(folders):
    (folders[1] / "questions.jsonl").write_text(ROW)
    assert len(load(folders[0] / "mine.py").prompts()) == 1


def test_two_files_that_could_be_meant_are_told(folders):
    for folder in folders:
        (folder / "questions.jsonl").write_text(ROW)
    recipe = load(folders[0] / "mine.py")
    with pytest.raises(RecipeError, match="questions.jsonl lies in .*recipes and in .*: give the whole path"):
        recipe.prompts()


def test_what_is_nowhere_stays_as_it_is(folders):
    load(folders[0] / "mine.py", overrides=["prompts.path=/x"])
    assert located("Qwen/Qwen3-0.6B") == Path("Qwen/Qwen3-0.6B") and located("/etc") == Path("/etc")
