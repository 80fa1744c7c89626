"""The ReST-EM recipes: the constants of the paper, worked examples that are right, and data without the Hub."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from data.files import Jsonl
from filters.score_filters import Correct
from filters.text_filters import Cap
from flywheel.recipe.load import load, shipped
from flywheel.text.overlap import overlapping
from judges.rules.answers import Numeric, after_last
from judges.rules.math.verify import _boxed
from judges.rules.numerals import last_number


@pytest.mark.parametrize("name", ["rest-em", "gsm8k"])
def test_the_constants_are_those_of_the_paper(name: str) -> None:
    recipe = load(name)
    assert (recipe.sampling.n, recipe.sampling.temperature, recipe.sampling.top_k) == (32, 0.7, 40)
    assert Correct() in recipe.keep and recipe.keep[-1] == Cap(10)
    assert (recipe.init_from, recipe.iterations, recipe.warm_start) == ("base", 3, None)
    assert recipe.exam.sampling.temperature == 0
    assert recipe.judges[0] == recipe.exam.judge


def test_the_worked_examples_of_math_end_with_their_answers() -> None:
    shots = shipped()["rest-em"].with_suffix(".txt").read_text().split("Solution:")[1:-1]
    assert [_boxed(shot) for shot in shots] == [r"\frac{5}{33}", "21", "2", "168"]


def test_the_worked_examples_of_gsm8k_end_with_what_their_work_gives() -> None:
    shots = shipped()["gsm8k"].with_suffix(".txt").read_text().split("Question:")[1:-1]
    for shot, answer in zip(shots, ["63", "310", "54"], strict=True):
        work = shot.partition("####")[0]
        assert after_last("####", shot) is not None and Numeric("####").verdict(shot, answer, None).score == 1
        assert str(last_number(work)) == answer


def test_worked_examples_in_every_prompt_are_no_overlap(tmp_path: Path) -> None:
    train, exam = tmp_path / "train.jsonl", tmp_path / "exam.jsonl"
    train.write_text(
        "".join(json.dumps({"question": f"Is {i} odd?", "answer": f"#### {i % 2}"}) + "\n" for i in range(30))
    )
    exam.write_text(
        "".join(json.dumps({"question": f"Is {i} odd?", "answer": f"#### {i % 2}"}) + "\n" for i in range(29, 60))
    )
    shots = load("gsm8k").prompts.template  # type: ignore[attr-defined]
    source = Jsonl(train, reference_after="####", template=shots)
    prompts = source()
    assert overlapping(prompts, replace(source, path=exam)())["prompt"].to_list() == [prompts["id"][29]]


@pytest.mark.slow
def test_gsm8k_is_read_from_a_folder_where_settings_say_so(tmp_path: Path) -> None:
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    for part, answer in (("train", 1), ("test", 2)):
        row = {"question": f"How many of {part}?", "answer": f"Some.\n#### {answer}"}
        (folder / f"{part}.jsonl").write_text(json.dumps(row) + "\n")
    settings = [
        f"{path}.{field}" for path in ("prompts", "exam.prompts") for field in (f"name={folder}", "config=None")
    ]
    script = (
        "import sys\nfrom flywheel.recipe.load import load\n"
        "recipe = load('gsm8k', overrides=sys.argv[1:])\n"
        "print(recipe.prompts()['reference'].to_list() + recipe.exam.prompts()['reference'].to_list())"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    argv = [sys.executable, "-c", script, *settings]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "['1', '2']", done.stderr
