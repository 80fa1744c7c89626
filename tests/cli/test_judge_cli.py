"""`flywheel judge`: judges on labelled answers, and a run's judges iteration by iteration."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from flywheel.cli.app import app
from flywheel.engines.toy.engine import write_weights
from flywheel.errors import SourceError
from flywheel.replay.judge_trial import STORE
from flywheel.replay.labelled import read_labelled
from flywheel.store.schema import HEALTH, PROMPTS, RUNS, now, prompts_frame
from flywheel.store.store import Store
from tests import PUBLIC

JUDGEBENCH = PUBLIC / "judgebench"
RULE = """
from dataclasses import replace
from flows.recipes.toy import recipe as toy
from flywheel.recipe.recipe import Alarm
from judges.rules.answers import Exact
recipe = replace(toy, judges=(Exact(),){more})
"""
RUBRIC = """
import os
from dataclasses import replace
from flows.recipes.toy import recipe as toy
from flywheel import Asked, Sampling
from judges.models.pairwise import Pairwise
from judges.models.rubric import Rubric
words = Sampling(n={n}, temperature=0.7, max_tokens=40)
weights = os.environ['FLYWHEEL_TOY_WEIGHTS']
recipe = replace(toy, base=weights, judges=(Rubric(model=Asked(sampling=words)), Pairwise(model=Asked(sampling=words))))
"""
ROWS = [
    {"question": "a?", "reference": "yes", "answer": "yes", "gold": True},
    {"question": "a?", "reference": "yes", "answer": "no", "gold": False},
    {"question": "b?", "reference": "no", "answer": "yes", "gold": 1},
    {"question": "b?", "reference": "no", "answer": "no", "gold": 0.9},
]


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_TOY_WEIGHTS", str(write_weights(tmp_path / "weights", 0.8, 1)))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, *rows: Any) -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    return write


def call(*argv: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(each) for each in argv], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def check(recipe: Path, data: Path, home: Path, *more: str) -> tuple[int, str, str]:
    return call("judge", "check", recipe, "--data", data, "--home", home, *more)


def test_a_rule_is_checked_on_labelled_answers(write: Callable[..., Path], tmp_path: Path) -> None:
    recipe, data = write("mine.py", RULE.format(more="")), write("data.jsonl", *ROWS)
    code, out, _ = check(recipe, data, tmp_path, "--json")
    found = {row["measure"]: row for row in map(json.loads, out.splitlines())}
    assert code == 0
    assert (found["accuracy"]["value"], found["accuracy"]["n"]) == (0.75, 4)
    assert found["ranking"]["value"] == 1.0 and found["failed"]["value"] == 0.0
    assert found["kappa"] | {"alarm": None, "line": "at least 0.4"} == found["kappa"]
    assert set(found["accuracy"]) == {"judge", "measure", "value", "low", "high", "n", "alarm", "line"}


def test_a_check_leaves_the_store_of_runs_alone(write: Callable[..., Path], tmp_path: Path) -> None:
    recipe, data = write("mine.py", RULE.format(more="")), write("data.jsonl", *ROWS)
    check(recipe, data, tmp_path / "home")
    assert [path.name for path in (tmp_path / "home").iterdir()] == [STORE]


@pytest.mark.slow
def test_people_see_a_table_with_the_lines_that_are_kept_and_crossed(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    alarms = "alarms=(Alarm('accuracy', at_least=0.99, red=True), Alarm('failed', at_most=0.5))"
    recipe = write("mine.py", RULE.format(more=f", {alarms}"))
    data = write("data.jsonl", *(row | {"question": f"{row['question']}{at}"} for row in ROWS for at in range(20)))
    code, out, err = check(recipe, data, tmp_path)
    assert (code, err) == (1, "") and "\x1b" not in out
    told = {line.split("│")[2].strip(): line for line in out.splitlines() if line.count("│") == 7}
    assert "red alarm: below 0.99" in told["accuracy"] and "at most 0.5" in told["failed"]
    code, out, _ = check(recipe, data, tmp_path, "--quiet")
    assert code == 1 and out.count("Exact()") == 1
    assert check(recipe, data, tmp_path, "--quiet", "--set", "alarms.0.at_least=0.5")[:2] == (0, "")


@pytest.mark.slow
def test_judges_that_ask_a_model_are_asked_once(write: Callable[..., Path], tmp_path: Path) -> None:
    recipe = write("mine.py", RUBRIC.format(n=2))
    rows = [
        {"prompt": f"What is {a}+{b}?", "answers": [f"Answer: {a + b}", f"Answer: {a + b + 1}"], "gold": [1, 0]}
        for a in range(5)
        for b in range(4)
    ]
    code, out, err = check(recipe, write("data.jsonl", *rows), tmp_path, "--json")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    found = {(row["judge"].partition("#")[0], row["measure"]): row["value"] for row in rows}
    assert found["Rubric", "accuracy"] > 0.7 and found["Duel", "verdict accuracy"] > 0.7
    store = Store(tmp_path / STORE)
    asked = store.sql("select count(*) from generations where role = 'judgment'").item()
    assert asked == 2 * 40 + 2 * 2 * 20
    assert check(recipe, tmp_path / "data.jsonl", tmp_path, "--json")[1] == out
    assert store.sql("select count(*) from generations where role = 'judgment'").item() == asked


@pytest.mark.slow
def test_pairs_tell_how_well_a_judge_ranks_and_nothing_absolute(write: Callable[..., Path], tmp_path: Path) -> None:
    recipe = write("mine.py", RULE.format(more=""))
    pairs = [{"question": "a?", "reference": "yes", "response_A": "no", "response_B": "yes", "label": "B>A"}]
    others = [{"prompt": "b?", "reference": "no", "chosen": "no", "rejected": "yes"}]
    for name, rows in (("ab.jsonl", pairs), ("chosen.jsonl", others)):
        code, out, _ = check(recipe, write(name, *rows), tmp_path, "--json")
        found = {row["measure"]: row["value"] for row in map(json.loads, out.splitlines())}
        assert code == 0 and found["ranking"] == 1.0 and not {"accuracy", "kappa", "spearman"} & set(found)


def test_the_policy_of_a_warm_start_is_made_by_a_run(write: Callable[..., Path], tmp_path: Path) -> None:
    warm = "recipe = replace(recipe, warm_start=WarmStart(examples=toy.prompts, train=Sft()))"
    recipe = write("mine.py", f"{RUBRIC.format(n=2)}\nfrom flywheel import Sft, WarmStart\n{warm}")
    code, _, err = check(recipe, write("data.jsonl", *ROWS), tmp_path)
    assert code == 2 and "ask the model that its warm start makes" in err and "`flywheel run` makes it" in err


# Labelled answers


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["{"], r"data.jsonl, line 1: not a JSON object"),
        (["[1]"], r"line 1: not a JSON object"),
        ([{"question": "a?"}], r"row 1 has question: it needs one of chat, prompt, question; and answer and gold, or"),
        ([{"answer": "a", "gold": 1}], r"row 1 has answer, gold: it needs one of chat"),
        ([ROWS[0], ROWS[1] | {"gold": 2}], r"row 2: an answer must be text, and its gold true, false or a number"),
        ([ROWS[0] | {"gold": "yes"}], "its gold true, false or"),
        ([ROWS[0] | {"answer": None}], "an answer must be text"),
        ([{"prompt": "a", "answers": ["x", "y"], "gold": [1]}], r"row 1: answers and gold do not fit together"),
        ([{"prompt": "a", "response_A": "x", "response_B": "y", "label": "A=B"}], r"and label do not fit together"),
        ([{"prompt": 5, "answer": "x", "gold": 1}], r"the prompt is neither text nor messages"),
        ([ROWS[0], {"prompt": "a", "chosen": "x", "rejected": "y"}], "cannot be mixed"),
        ([], "there are no labelled answers"),
    ],
)
def test_what_is_wrong_with_labelled_answers_is_told_with_its_row(
    write: Callable[..., Path], rows: list[Any], said: str
) -> None:
    with pytest.raises(SourceError, match=said):
        read_labelled([write("data.jsonl", *rows)])


def test_a_file_that_is_not_there_is_named(tmp_path: Path, write: Callable[..., Path]) -> None:
    code, _, err = check(write("mine.py", RULE.format(more="")), tmp_path / "none.jsonl", tmp_path)
    assert code == 2 and "there is no file" in err and "none.jsonl" in err
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(SourceError, match="bad.parquet cannot be read as Parquet"):
        read_labelled([tmp_path / "bad.parquet"])


def test_answers_to_one_prompt_come_together_from_every_file_and_form(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    chat = [{"role": "user", "content": "a?"}]
    rows = pl.DataFrame([{"chat": chat, "answers": ["no", "perhaps"], "gold": [0.0, 0.5]}])
    rows.write_parquet(tmp_path / "a.parquet")
    found = read_labelled([write("data.jsonl", ROWS[0]), tmp_path / "a.parquet"])
    assert found.absolute and found.prompts == [{"chat": chat, "reference": "yes"}]
    assert sorted(found.answers[0]) == [("no", 0.0), ("perhaps", 0.5), ("yes", 1.0)]


def test_an_answer_that_is_labelled_both_ways_is_left_out(write: Callable[..., Path]) -> None:
    found = read_labelled([write("data.jsonl", ROWS[0], ROWS[1], ROWS[0], ROWS[1] | {"gold": True})])
    assert found.answers == [[("yes", 1.0)]]


def test_the_order_of_a_pair_does_not_tell_which_one_is_better(write: Callable[..., Path]) -> None:
    rows = [{"prompt": f"{at}?", "chosen": f"good {at}", "rejected": f"bad {at}"} for at in range(40)]
    first = [answers[0][1] for answers in read_labelled([write("data.jsonl", *rows)]).answers]
    assert 8 < sum(first) < 32


@pytest.mark.skipif(
    not JUDGEBENCH.exists(), reason=f"no JudgeBench at {JUDGEBENCH}: point FLYWHEEL_TEST_DATA at its parent"
)
def test_judgebench_is_read_as_it_is_published() -> None:
    found = read_labelled(sorted(JUDGEBENCH.glob("*.jsonl")))
    assert not found.absolute and len(found.prompts) > 200
    assert sorted({tuple(sorted(gold for _, gold in answers)) for answers in found.answers})[-1] == (0.0, 1.0)
    assert prompts_frame(found.prompts, "test").schema == PROMPTS


# A run's judges


@pytest.mark.slow
def test_a_runs_judges_are_shown_iteration_by_iteration(tmp_path: Path) -> None:
    store = Store(tmp_path / "flywheel.duckdb")
    run = {"id": "r", "name": "mine", "recipe": "{}", "versions": "{}", "seed": 0, "created_at": now()}
    store.add("runs", pl.DataFrame([run], schema=RUNS))
    rows = [("r", 1, "j", "kappa", 0.5, 0.4, 0.6, 90), ("r", 2, "j", "kappa", 0.25, None, None, 90),
            ("r", 2, "j", "spearman", None, None, None, 90)]  # fmt: skip
    store.add("health", pl.DataFrame(rows, schema=HEALTH, orient="row"))
    code, out, _ = call("judge", "health", "--home", tmp_path)
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    assert code == 0 and "iteration 1" in out and "iteration 2" in out
    assert cells == [["j", "kappa", "0.5 (0.4 to 0.6)", "0.25"], ["j", "spearman", "", "-"]]
    code, out, _ = call("judge", "health", "--home", tmp_path, "--run", "mine", "--json")
    assert [json.loads(line)["change"] for line in out.splitlines()] == [None, -0.25, None]
    code, _, err = call("judge", "health", "--home", tmp_path, "--run", "other")
    assert code == 2 and "holds no run 'other'; its runs are mine" in err


def test_without_a_store_there_is_no_health(tmp_path: Path) -> None:
    code, _, err = call("judge", "health", "--home", tmp_path)
    assert code == 2 and "`flywheel run RECIPE` makes one" in err
