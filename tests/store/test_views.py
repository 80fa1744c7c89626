"""The views: a small history, written by hand, and what each question about it must answer."""

import math
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flywheel.store.schema import DRAWN, TABLES
from flywheel.store.store import Store
from flywheel.text.thoughts import THOUGHTS, after_thought

NOW = datetime(2026, 1, 1)
BLANK: dict[str, Any] = {
    "chat": [{"role": "user", "content": "?"}], "role": "answer", "finish_reason": "stop", "text": "some text",
    "prompt_tokens": 5, "tokens": 10, "logprob": -1.0, "seed": 0, "engine": "e", "template": "t", "created_at": NOW,
    "source": "s", "recipe": "{}", "versions": "{}", "vote": 0, "status": "ok", "weights": "w", "weight": 1.0,
    "chosen": "x", "unscored": 0, "n": 1, "kind": "trained",
}  # fmt: skip
SKILL = {"p1": (1.0, 1.0, 0.0, 0.0), "p2": (0.0, 1.0, None, 0.0)}
"""Scores of the rule for the four answers to each prompt in iteration 1."""


def frame(table: str, *rows: dict[str, Any]) -> pl.DataFrame:
    full = [{name: (BLANK | row).get(name) for name in TABLES[table]} for row in rows]
    return pl.DataFrame(full, schema=TABLES[table], orient="row")


def judgments(generations: list[dict[str, Any]], *rows: dict[str, Any]) -> pl.DataFrame:
    """JUDGMENTS with what they repeat of their generations."""
    drawn = {row["id"]: {name: row[name] for name in DRAWN} for row in generations}
    return frame("judgments", *(row | drawn[row["generation"]] for row in rows))


def judgment(generation: str, judge: str, score: float | None, vote: int = 0) -> dict[str, Any]:
    status = "unparsable" if score is None else "ok"
    return {"generation": generation, "judge": judge, "vote": vote, "score": score, "status": status}


def history() -> dict[str, pl.DataFrame]:
    """Iteration 0 makes the base; 1 is promoted and trains t1; 2 starts from t1, trains t2 and is held."""
    answers = [(number, prompt, index) for number in (1, 2) for prompt in ("p1", "p2") for index in range(4)]
    names = {(number, prompt, index): f"g{number}-{prompt}-{index}" for number, prompt, index in answers}
    policy, draw = {1: "base", 2: "t1"}, {1: "d1", 2: "d2"}
    generations = [
        {"id": names[n, p, i], "prompt": p, "checkpoint": policy[n], "draw": draw[n], "index": i} for n, p, i in answers
    ]
    generations += [  # neither of them is an answer of iteration 1
        {"id": "other-prompt", "prompt": "p3", "checkpoint": "base", "draw": "d1", "index": 0},
        {"id": "exam", "prompt": "p1", "checkpoint": "base", "draw": "d1", "index": 9, "role": "exam"},
    ]
    rule = [judgment(names[1, p, i], "rule", SKILL[p][i]) for n, p, i in answers if n == 1]
    rubric = [judgment(names[1, "p1", i], "rubric", float(i + vote), vote) for i in range(2) for vote in range(3)]
    rubric.append(judgment(names[1, "p1", 0], "rubric", None, 3))
    dropped = {"kept": False, "reason": "dropped by Correct()"}
    kept = {"kept": True, "reason": "kept"}
    first = [
        {"iteration": "i1", "position": 0, "filter": "Correct()", "generation": names[1, p, i]}
        | (kept if SKILL[p][i] else dropped)
        for n, p, i in answers
        if n == 1
    ]
    second = [
        {"iteration": "i1", "position": 1, "filter": "Cap(1)", "generation": "g1-p1-0", **kept},
        {"iteration": "i1", "position": 1, "filter": "Cap(1)", "generation": "g1-p1-1", **dropped, "reason": "enough"},
        {"iteration": "i1", "position": 1, "filter": "Cap(1)", "generation": "g1-p2-1", **kept},
    ]
    grades = {"base": (1, 0, 1, 0), "t1": (1, 1, 1, 0), "t2": (1, 1, 0, 1)}
    return {
        "runs": frame("runs", {"id": "r", "name": "small", "seed": 0}),
        "prompts": frame("prompts", *({"id": p, "reference": "4"} for p in ("p1", "p2", "p3", "e0", "e1", "e2", "e3"))),
        "iterations": frame(
            "iterations",
            {"id": "i0", "run": "r", "number": 0, "draw": "d0"},
            {"id": "i1", "run": "r", "number": 1, "policy": "base", "draw": "d1"},
            {"id": "i2", "run": "r", "number": 2, "policy": "t1", "draw": "d2"},
        ),
        "proposals": frame(
            "proposals",
            *({"iteration": "i1", "position": i, "prompt": p} for i, p in enumerate(("p1", "p2"))),
            *({"iteration": "i2", "position": i, "prompt": p} for i, p in enumerate(("p1", "p2", "p1"))),
        ),
        "generations": frame("generations", *generations),
        "judgments": judgments(generations, *rule, *rubric),
        "selections": frame("selections", *first, *second),
        "datasets": frame(
            "datasets",
            {"id": "s1", "rows": 2, "real": 0, "synthetic": 2},
            {"id": "s2", "rows": 2, "real": 1, "synthetic": 1},
        ),
        "iteration_datasets": frame("iteration_datasets", {"iteration": "i1", "dataset": "s1"}),
        "examples": frame(
            "examples",
            {"dataset": "s1", "position": 0, "prompt": "p1", "origin": "synthetic", "generations": ["g1-p1-0"]},
            {"dataset": "s1", "position": 1, "prompt": "p2", "origin": "synthetic",
             "generations": ["g1-p2-1", "g1-p2-0"]},
            {"dataset": "s2", "position": 0, "prompt": "p1", "origin": "synthetic", "generations": ["g1-p1-0"]},
            {"dataset": "s2", "position": 1, "prompt": "p9", "origin": "real", "generations": []},
        ),
        "checkpoints": frame(
            "checkpoints",
            {"id": "base", "kind": "base"},
            {"id": "t1", "parent": "base", "dataset": "s1"},
            {"id": "t2", "parent": "t1", "dataset": "s2"},
        ),
        "exams": frame("exams", *({"id": "x", "name": "sums", "position": i, "prompt": f"e{i}"} for i in range(4))),
        "grades": frame(
            "grades",
            *(
                {"checkpoint": c, "exam": "x", "prompt": f"e{i}", "correct": right, "unscored": 1 - right}
                for c, results in grades.items()
                for i, right in enumerate(results)
            ),
        ),
        "decisions": frame(
            "decisions",
            {"iteration": "i0", "candidate": "base", "decision": "promote", "policy": "base", "exam": "x",
             "score": 0.5},
            {"iteration": "i1", "candidate": "t1", "incumbent": "base", "decision": "promote", "policy": "t1",
             "exam": "x", "score": 0.75, "difference": 0.25, "low": 0.1, "high": 0.4, "p": 0.01, "gained": 1,
             "lost": 0},
            {"iteration": "i2", "candidate": "t2", "incumbent": "t1", "decision": "hold", "policy": "t1",
             "exam": "x", "score": 0.75, "difference": 0.0, "gained": 1, "lost": 1},
        ),
        "events": frame(
            "events",
            {"run": "r", "iteration": 1, "step": "sample", "kind": "failure", "rows": 1, "tokens": 40, "seconds": 2.0},
            {"run": "r", "iteration": 1, "step": "sample", "kind": "done", "rows": 2, "tokens": 60, "seconds": 3.0},
            {"run": "r", "iteration": 1, "step": "train", "kind": "done", "rows": 5, "tokens": 7, "seconds": 1.5},
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("views") / "flywheel.duckdb")
    store.add_all(history())
    return store


def test_every_view_works_without_a_row_and_every_column_is_explained(tmp_path: Path) -> None:
    empty = Store(tmp_path / "flywheel.duckdb")
    views = empty.sql("select view_name, comment from duckdb_views() where not internal")
    assert len(views) == 23 and views["comment"].null_count() == 0
    with empty.reading() as connection:
        for view in views["view_name"]:
            assert not connection.sql(f"from {view}").fetchall()
    unexplained = empty.sql(
        """select table_name, column_name from duckdb_columns() where comment is null
           and table_name in (select view_name from duckdb_views() where not internal)"""
    )
    assert unexplained.rows() == []


def test_progress_has_one_row_for_each_iteration(store: Store) -> None:
    rows = store.sql("from progress").to_dicts()
    assert [(row["run"], row["name"], row["iteration"], row["decision"]) for row in rows] == [
        ("r", "small", 0, "promote"), ("r", "small", 1, "promote"), ("r", "small", 2, "hold"),
    ]  # fmt: skip
    one = {"score": 0.75, "difference": 0.25, "low": 0.1, "high": 0.4, "p": 0.01, "gained": 1, "lost": 0, "prompts": 2,
           "generated": 8, "kept": 2, "examples": 2, "tokens": 107, "seconds": 6.5, "sampled_by": "base",
           "candidate": "t1", "policy": "t1"}  # fmt: skip
    assert {name: rows[1][name] for name in one} == one
    assert (rows[0]["generated"], rows[0]["kept"], rows[0]["tokens"]) == (0, None, None)
    assert (rows[2]["prompts"], rows[2]["generated"], rows[2]["kept"]) == (2, 8, None)


def test_an_iteration_without_filters_keeps_everything(store: Store, tmp_path: Path) -> None:
    other = Store(shutil.copy(store.path, tmp_path / "flywheel.duckdb"))
    other.add("iteration_datasets", frame("iteration_datasets", {"iteration": "i2", "dataset": "s2"}))
    assert other.sql("select kept, examples from progress where iteration = 2").row(0) == (8, 2)


def test_answers_are_those_to_the_prompts_of_the_iteration(store: Store) -> None:
    counts = store.sql("select iteration, count(*), count(distinct generation) from answers group by 1 order by 1")
    assert counts.rows() == [(1, 8, 8), (2, 8, 8)]


def test_scores_are_means_over_answers_for_each_judge(store: Store) -> None:
    rows = store.sql("select iteration, judge, mean, answers, failed from scores").rows()
    assert rows == [(1, "rubric", 1.5, 2, 0), (1, "rule", 3 / 7, 8, 1)]


def test_votes_are_taken_together_and_failed_ones_are_no_numbers(store: Store) -> None:
    query = "select judge, score, votes, failed from opinions where generation = 'g1-p1-0' order by judge"
    assert store.sql(query).rows() == [("rubric", 1.0, 4, 1), ("rule", 1.0, 1, 0)]


def test_judged_has_each_answer_once_with_the_first_judge(store: Store) -> None:
    rows = store.sql("from judged order by iteration, prompt, index")
    assert len(rows) == 16
    assert rows.filter(pl.col("iteration") == 1)["judge"].unique().to_list() == ["rule"]
    assert rows.filter(pl.col("iteration") == 1)["score"].to_list() == [*SKILL["p1"], *SKILL["p2"]]
    assert rows.filter(pl.col("iteration") == 2)["score"].null_count() == 8
    assert rows["chat"][0].to_list() == BLANK["chat"] and rows["reference"][0] == "4"


def test_the_best_answer_is_the_first_of_those_with_the_highest_score(store: Store) -> None:
    rows = store.sql("select judge, prompt, generation, score, answers from best_of_n order by judge, prompt").rows()
    assert rows == [
        ("rubric", "p1", "g1-p1-1", 2.0, 2),
        ("rule", "p1", "g1-p1-0", 1.0, 4),
        ("rule", "p2", "g1-p2-1", 1.0, 4),
    ]


def test_pass_at_k_is_the_unbiased_estimator_for_every_count(tmp_path: Path) -> None:
    """n answers of which c are right, one iteration for each pair: exact to the last digits."""
    sizes = {f"{n}-{c}": (n, c) for n in (1, 2, 3, 8, 64) for c in range(0, n + 1, max(1, n // 8))}
    numbers = {name: number for number, name in enumerate(sizes, 1)}
    iterations = [{"id": i, "run": "r", "number": k, "policy": i, "draw": "d"} for i, k in numbers.items()]
    answers = [(i, f"{i}-{index}", index, float(index < c)) for i, (n, c) in sizes.items() for index in range(n)]
    generations = [{"id": id, "prompt": "p", "checkpoint": i, "draw": "d", "index": k} for i, id, k, _ in answers]
    store = Store(tmp_path / "flywheel.duckdb")
    store.add_all(
        {
            "iterations": frame("iterations", *iterations),
            "proposals": frame("proposals", *({"iteration": i, "position": 0, "prompt": "p"} for i in sizes)),
            "generations": frame("generations", *generations),
            "judgments": judgments(generations, *(judgment(id, "rule", score) for _, id, _, score in answers)),
        }
    )
    expected = {
        (numbers[i], k): 1 - math.comb(n - c, k) / math.comb(n, k)
        for i, (n, c) in sizes.items()
        for k in (1, 2, 4, 8, 16, 32, 64)
        if k <= n
    }
    found = {(row[0], row[1]): row[2] for row in store.sql("select iteration, k, rate from pass_at_k").rows()}
    assert found == pytest.approx(expected, abs=1e-12)


def test_an_answer_without_a_score_is_not_right(store: Store) -> None:
    rows = store.sql("select k, prompts, rate from pass_at_k where judge = 'rule'").rows()
    assert rows == [(1, 2, pytest.approx(3 / 8)), (2, 2, pytest.approx((5 / 6 + 1 / 2) / 2)), (4, 2, 1.0)]


def test_the_funnel_says_what_each_filter_dropped_and_why(store: Store) -> None:
    rows = store.sql("select iteration, position, filter, rows_in, rows_out, reason from funnel").rows()
    assert rows == [
        (1, 0, "Correct()", 8, 3, "dropped by Correct(): 5"),
        (1, 1, "Cap(1)", 3, 2, "enough: 1"),
    ]


def test_lineage_goes_up_to_the_base(store: Store) -> None:
    query = "select ancestor, steps, kind, dataset, rows, real from lineage where checkpoint = 't2'"
    assert store.sql(query).rows() == [
        ("t2", 0, "trained", "s2", 2, 1),
        ("t1", 1, "trained", "s1", 2, 0),
        ("base", 2, "base", None, None, None),
    ]


def test_every_row_that_trained_a_checkpoint_is_found_and_every_checkpoint_that_a_row_reached(store: Store) -> None:
    query = "select ancestor, position, generation from trained_on where checkpoint = 't2' order by all nulls last"
    assert store.sql(query).rows() == [
        ("t1", 0, "g1-p1-0"), ("t1", 1, "g1-p2-0"), ("t1", 1, "g1-p2-1"), ("t2", 0, "g1-p1-0"), ("t2", 1, None),
    ]  # fmt: skip
    rows = store.sql("from reached order by generation, checkpoint").rows()
    assert rows == [
        ("g1-p1-0", "t1", 0), ("g1-p1-0", "t2", 0), ("g1-p2-0", "t1", 0), ("g1-p2-0", "t2", 1),
        ("g1-p2-1", "t1", 0), ("g1-p2-1", "t2", 1),
    ]  # fmt: skip


def test_grades_are_summed_up_for_each_checkpoint(store: Store) -> None:
    query = "select checkpoint, name, items, score, solved, unscored from grades_by_checkpoint order by checkpoint"
    assert store.sql(query).rows() == [
        ("base", "sums", 4, 0.5, 2, 2), ("t1", "sums", 4, 0.75, 3, 1), ("t2", "sums", 4, 0.75, 3, 1),
    ]  # fmt: skip


def test_flips_are_the_items_that_only_one_of_two_solves(store: Store) -> None:
    rows = store.sql("select iteration, prompt, flip, candidate, incumbent, reference from flips").rows()
    assert rows == [
        (1, "e1", "gained", 1.0, 0.0, "4"),
        (2, "e3", "gained", 1.0, 0.0, "4"),
        (2, "e2", "lost", 0.0, 1.0, "4"),
    ]


def test_the_ledger_counts_every_attempt(store: Store) -> None:
    rows = store.sql("select iteration, step, rows, tokens, seconds, failures from ledger order by step").rows()
    assert rows == [(1, "sample", 3, 100, 5.0, 1), (1, "train", 5, 7, 1.5, 0)]


def test_near_duplicates_share_most_of_their_words_in_whatever_case_and_order(store: Store, tmp_path: Path) -> None:
    other = Store(shutil.copy(store.path, tmp_path / "flywheel.duckdb"))
    same = {"prompt": "p1", "checkpoint": "t1", "draw": "d2"}
    texts = {10: "one two three four five", 11: "Five, FOUR,\n\nthree; two. One?", 12: "one two three four nine",
             13: "one two three four five six", 14: ""}  # fmt: skip
    other.add("generations", frame("generations", *({"id": f"n{i}", "index": i, "text": t, **same}
                                                    for i, t in texts.items())))  # fmt: skip
    query = """select generation, other, similarity from near_duplicates
               where iteration = 2 and generation like 'n%' order by generation, other"""
    assert other.sql(query).rows() == [
        ("n10", "n11", 1.0), ("n10", "n13", pytest.approx(5 / 6)), ("n11", "n13", pytest.approx(5 / 6)),
    ]  # fmt: skip
    assert other.sql("select count(*) from near_duplicates where iteration = 1").item() == 6 + 6


def test_thoughts_are_told_apart_and_their_tokens_are_about_their_share(store: Store, tmp_path: Path) -> None:
    other = Store(shutil.copy(store.path, tmp_path / "flywheel.duckdb"))
    texts = ["plain", *(f"{begin}a long thought{end}\nYes." for begin, end in THOUGHTS), "a thought</think>b</think>c"]
    texts += ["<think>a</think>b<think>and on", "[THINK]"]
    rows = [{"id": f"n{i}", "index": i, "text": text, "prompt": "p1", "checkpoint": "t1", "draw": "d2", "tokens": 100}
            for i, text in enumerate(texts)]  # fmt: skip
    other.add("generations", frame("generations", *rows))
    query = """select generation, ended, chars, thought_tokens from thoughts where generation like 'n%'"""
    found = {generation: row for generation, *row in other.sql(query).iter_rows()}
    for row in rows:
        answer, text = after_thought(row["text"]), row["text"]
        chars = len(text) - len(answer or "")
        told = [answer is not None, chars, round(100 * chars / len(text))]
        assert found.get(row["id"]) == (told if chars else None)


def test_verdicts_show_what_was_compared_and_what_was_said(store: Store, tmp_path: Path) -> None:
    other = Store(shutil.copy(store.path, tmp_path / "flywheel.duckdb"))
    said = {"id": "said", "prompt": "q", "checkpoint": "base", "draw": "dj", "role": "judgment", "text": "a is better"}
    pair = {"a": "g1-p1-0", "b": "g1-p1-1", "order": "ab", "judge": "duel"}
    other.add_all({
        "generations": frame("generations", said | {"index": 0}),
        "comparisons": frame("comparisons", pair | {"verdict": "a", "trace": "said"},
                             pair | {"order": "ba", "status": "unparsable"}),
    })  # fmt: skip
    rows = other.sql('select "order", verdict, status, a_text, b_text, words from verdicts order by "order"').rows()
    assert rows == [
        ("ab", "a", "ok", "some text", "some text", "a is better"),
        ("ba", None, "unparsable", "some text", "some text", None),
    ]  # fmt: skip
