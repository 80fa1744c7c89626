"""docs/sql.md: every query on the page runs, finds rows and has the columns that the page names."""

import json
import re
import shlex
import statistics
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from flows.recipes.toy import recipe as toy
from flywheel.cli.app import app
from flywheel.identity import describe_text
from flywheel.pipeline.iteration import versions
from flywheel.store.store import Store
from tests import ROOT
from tests.store.test_views import frame, history, judgment, judgments

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "sql.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```\nColumns: ([^\n]*)", PAGE, flags=re.S)
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
COMMANDS = [shlex.split(line, comments=True) for line in re.findall(r"^flywheel .*", PAGE, flags=re.M)]
QUESTIONS = {int(n): text for n, text in re.findall(r"^### (\d+)\. (.*?)(?=^##|\Z)", PAGE, flags=re.M | re.S)}
RULE = (1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
"""Valid scores of the rule in iteration 1, with that of the prompt that nobody solves."""
ANSWER = "g1-p1-0"
HEALTH = {"run": "r", "judge": "rubric", "measure": "accuracy", "low": 0.1, "high": 0.9}


def told() -> dict[str, pl.DataFrame]:
    """The history of the views' tests, and what that one leaves out."""
    rows, recipe = history(), describe_text(toy)
    others: list[dict[str, Any]] = [
        {"id": "g1-p4-0", "prompt": "p4", "checkpoint": "base", "draw": "d1", "index": 0, "finish_reason": "length",
         "text": "a long answer", "tokens": 500},
        {"id": "said", "prompt": "q", "checkpoint": "base", "draw": "dj", "index": 0, "role": "judgment",
         "text": "It is right. Score: 1", "tokens": 7, "prompt_tokens": 90},
    ]  # fmt: skip
    note = {"run": "r", "iteration": 1, "step": "judge", "kind": "note", "detail": "look", "tokens": 0, "seconds": 0.0}
    another = {
        "generations": frame("generations", *others),
        "judgments": judgments(others, judgment("g1-p4-0", "rule", 0.0)),
        "prompts": frame("prompts", {"id": "p4", "chat": [{"role": "user", "content": "too hard"}], "reference": "7"}),
        "proposals": frame("proposals", {"iteration": "i1", "position": 2, "prompt": "p4"}),
        "events": frame("events", note),
    }
    rows |= {table: pl.concat([rows[table], more]) for table, more in another.items()}
    first_vote = (pl.col("judge") == "rubric") & (pl.col("vote") == 0)
    again = pl.when(pl.col("id") == "g1-p1-1").then(pl.lit("Some  text!")).otherwise("text")
    why = pl.when(pl.col("score").is_null()).then(pl.lit("no number"))
    return rows | {
        "generations": rows["generations"].with_columns(text=again),
        "judgments": rows["judgments"].with_columns(trace=pl.when(first_vote).then(pl.lit("said")), detail=why),
        "examples": rows["examples"].with_columns(rejected=pl.lit("y")),
        "runs": rows["runs"].with_columns(recipe=pl.lit(recipe), versions=pl.lit(json.dumps(versions()))),
        "iterations": rows["iterations"].with_columns(recipe=pl.lit(recipe)),
        "comparisons": comparisons(),
        "metrics": frame(
            "metrics", *({"checkpoint": "t1", "step": i, "name": "loss", "value": 3.0 - i} for i in (1, 2))
        ),
        "health": frame("health", *({**HEALTH, "iteration": i, "value": i / 4} for i in (1, 2))),
    }


def comparisons() -> pl.DataFrame:
    """The first pair's verdicts are for whoever comes first, the second pair's both for `a`."""
    pair = {"a": "g1-p1-0", "judge": "duel", "trace": "said"}
    return frame(
        "comparisons",
        {**pair, "b": "g1-p1-1", "order": "ab", "verdict": "a"},
        {**pair, "b": "g1-p1-1", "order": "ba", "verdict": "b"},
        {**pair, "b": "g1-p1-2", "order": "ab", "verdict": "a"},
        {**pair, "b": "g1-p1-2", "order": "ba", "verdict": "a"},
        {**pair, "b": "g1-p1-3", "order": "ab", "verdict": "tie"},
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("sql")
    Store(home / "runs" / "flywheel.duckdb").add_all(told())
    return home


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home / "runs" / "flywheel.duckdb")


def answers(store: Store, question: int) -> list[pl.DataFrame]:
    """What the queries below that question find."""
    return [store.sql(asked(query)) for query in re.findall(r"```sql\n(.*?)```", QUESTIONS[question], flags=re.S)]


def asked(query: str) -> str:
    """With an answer's id where the page leaves a gap."""
    return query.replace("'...'", f"'{ANSWER}'")


def test_the_page_answers_twenty_questions() -> None:
    assert list(QUESTIONS) == list(range(1, 21))
    assert all("```sql" in text for text in QUESTIONS.values())
    assert len(QUERIES) == PAGE.count("```sql")


@pytest.mark.parametrize(("query", "promised"), QUERIES, ids=range(len(QUERIES)))
def test_every_query_finds_rows_with_the_columns_that_the_page_names(store: Store, query: str, promised: str) -> None:
    rows = store.sql(asked(query))
    assert rows.columns == re.findall(r"`(.*?)`", promised)
    assert len(rows) > 0 and not any(rows[name].is_null().all() for name in rows.columns)


def test_an_iteration_is_told_what_its_tokens_bought(store: Store) -> None:
    spent, by_role = answers(store, 2)
    spent = spent.sort("step")
    assert spent.select("step", "role", "tokens", "points").rows() == [
        ("judge", "judgment", 0, 25.0), ("sample", "answer", 100, 25.0), ("train", None, 7, 25.0),
    ]  # fmt: skip
    assert spent["points_per_thousand_tokens"].to_list() == pytest.approx([25 / 0.107] * 3)
    assert spent["second_share"].to_list() == pytest.approx([0, 5 / 6.5, 1.5 / 6.5])
    assert ("base", "judgment", 1, 90, 7) in by_role.rows()


def test_scores_are_spread_over_shares_that_add_up_to_one(store: Store) -> None:
    _, spread = answers(store, 6)
    rule = spread.filter(judge="rule").select("score", "answers", "share").rows()
    assert rule == [(0.0, 5, 5 / 9), (1.0, 3, 3 / 9), (None, 1, 1 / 9)]


def test_a_prompt_is_unsolved_if_none_of_its_answers_is_right(store: Store) -> None:
    (unsolved,) = answers(store, 8)
    assert unsolved.rows() == [("small", "rule", "too hard", "7", 1, 1)]


def test_answers_that_are_nearly_the_same_are_counted_apart_from_those_that_are_the_same(store: Store) -> None:
    shares, repeated, _ = answers(store, 10)
    assert shares.row(0) == (1, 9, 4 / 9, 3 / 9)
    assert repeated.rows()[0] == ("some text", 7, 2)


def test_words_belong_to_the_vote_that_was_read_of_them(store: Store) -> None:
    said = store.sql("select generation, vote, score, words, speaker from words order by generation")
    assert said.rows() == [
        ("g1-p1-0", 0, 0.0, "It is right. Score: 1", "base"), ("g1-p1-1", 0, 1.0, "It is right. Score: 1", "base"),
    ]  # fmt: skip


def test_judges_disagree_by_their_own_scales(store: Store) -> None:
    """The rubric says 1 and 2 of two answers, both of which are right by the rule."""
    (found,) = answers(store, 14)
    high = (1 - statistics.mean(RULE)) / statistics.stdev(RULE)
    assert found["distance"].to_list() == pytest.approx([high + 0.5**0.5, high - 0.5**0.5])
    assert found.select("kindest", "kindest_score", "strictest", "strictest_score").rows() == [
        ("rule", 1.0, "rubric", 1.0), ("rule", 1.0, "rubric", 2.0),
    ]  # fmt: skip


def test_a_bias_for_the_first_place_is_told_from_a_preference(store: Store) -> None:
    (bias,) = answers(store, 15)
    assert bias.rows() == [("duel", 5, 1, 0.75, 0.5)]


def test_training_curves_belong_to_their_iteration(store: Store) -> None:
    (curve,) = answers(store, 20)
    assert curve.rows() == [("small", 1, 1, 2.0), ("small", 1, 2, 1.0)]


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_the_commands_of_the_page_work(command: list[str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    words = command[1 : command.index(">")] if ">" in command else command[1:]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and done.output


def test_a_question_gives_a_polars_frame(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    names: dict[str, Any] = {}
    exec(PYTHON[0], names)
    assert isinstance(names["judged"], pl.DataFrame) and len(names["judged"]) == 17


@pytest.mark.parametrize("library", ["pandas", "datasets"])
def test_a_question_gives_the_rows_of_another_library(
    library: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(library)
    (line,) = [block for block in PYTHON if f"import {library}" in block]
    monkeypatch.chdir(home)
    names: dict[str, Any] = {}
    exec(PYTHON[0] + line, names)
    assert type(names["judged"]).__module__.partition(".")[0] == library
    assert len(names["judged"]) == 17 and sum(names["judged"]["tokens"]) == 660
    chat = next(iter(names["judged"]["chat"]))
    assert [dict(message) for message in chat] == [{"role": "user", "content": "?"}]
