"""Comparisons, ties and authors from elsewhere, and rows that are left out: what becomes of them in the store."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from data.imported import Imported
from flywheel.cli.app import app
from flywheel.errors import SourceError
from flywheel.exchange.export import export_dataset
from flywheel.exchange.importing import import_files
from flywheel.stats import ratings
from flywheel.store import maintenance
from flywheel.store.schema import DATASETS, EXAMPLES, now
from flywheel.store.store import Store

pytestmark = pytest.mark.slow  # a store of its own for each

Rows = Sequence[Mapping[str, Any]]


def lines(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def annotation(question: str, one: str, two: str, preference: float | None, who: str = "gpt4") -> dict[str, Any]:
    """A row as AlpacaEval's annotations have them: a baseline's answer and that of the model."""
    return {
        **{"instruction": question, "output_1": one, "generator_1": "base", "output_2": two, "generator_2": "model"},
        **{"annotator": who, "preference": preference, "dataset": "helpful", "price_per_example": 0.01},
    }


ANNOTATIONS = [
    annotation("q1", "x", "y", 1.9),
    annotation("q2", "x", "y", 1.2),
    annotation("q3", "x", "y", 1.5),
    annotation("q4", "x", "y", None),
]


def compared(store: Store) -> list[tuple[Any, ...]]:
    query = """select p.chat[-1].content, ca.weights, a.text, cb.weights, b.text, c."order", c.verdict, c.status,
               c.judge from comparisons c join generations a on a.id = c.a join generations b on b.id = c.b
               join checkpoints ca on ca.id = a.checkpoint join checkpoints cb on cb.id = b.checkpoint
               join prompts p on p.id = a.prompt and p.id = b.prompt order by c.rowid"""
    return store.sql(query).rows()


def test_annotations_become_comparisons_of_two_authors_by_their_annotator(tmp_path: Path) -> None:
    store, path = Store(tmp_path / "s.duckdb"), lines(tmp_path / "mine.jsonl", ANNOTATIONS)
    done = import_files(store, [path], "comparisons")
    judge = "imported#mine#gpt4"
    assert compared(store) == [
        ("q1", "model", "y", "base", "x", "ba", "a", "ok", judge),
        ("q2", "base", "x", "model", "y", "ab", "a", "ok", judge),
        ("q3", "base", "x", "model", "y", "ab", "tie", "ok", judge),
        ("q4", "base", "x", "model", "y", "ab", None, "unparsable", judge),
    ]
    query = """select avg(score) from judgments j join checkpoints c on c.id = j.checkpoint
               where c.weights = $who and j.judge = $judge"""
    rates = {who: store.sql(query, {"who": who, "judge": judge}).item() for who in ("model", "base")}
    assert rates == pytest.approx({"model": (0.9 + 0.2 + 0.5) / 3, "base": (0.1 + 0.8 + 0.5) / 3})
    assert "columns that were not used: price_per_example" in done.notes
    assert not list(maintenance.faults(store, tmp_path))
    assert not any(import_files(store, [path], "comparisons").new.values())
    learnt = Imported(path, kind="comparisons")()
    assert learnt["completion"].to_list() == ["y", "x"]  # a tie and a verdict that is missing teach nothing


def test_both_orders_of_a_pair_are_one_pairs_and_every_policy_sees_them(tmp_path: Path) -> None:
    def row(question: str, one: str, two: str, label: str) -> dict[str, str]:
        return {"prompt": question, "response_A": one, "response_B": two, "label": label}

    agreed = [row("q1", "good", "bad", "A>B"), row("q1", "bad", "good", "B>A")]
    torn = [row("q2", "good", "bad", "A>B"), row("q2", "bad", "good", "A>B")]
    store = Store(tmp_path / "s.duckdb")
    import_files(store, [lines(tmp_path / "mine.jsonl", [*agreed, *torn])], "comparisons")
    assert [(row[0], row[2], row[4], *row[5:7]) for row in compared(store)] == [
        ("q1", "good", "bad", "ab", "a"),
        ("q1", "good", "bad", "ba", "a"),
        ("q2", "good", "bad", "ab", "a"),
        ("q2", "good", "bad", "ba", "b"),
    ]
    frame = store.sql("from comparisons order by rowid")
    assert ratings.consistent(frame)["verdict"].to_list() == ["a", "tie"]
    assert ratings.position_weights(frame) == (0.25, 0.75)


def test_a_judge_who_saw_both_orders_is_told_apart_from_the_label(tmp_path: Path) -> None:
    row = {
        **{"pair_id": "1", "question": "q", "response_model": "m", "response_A": "good", "response_B": "bad"},
        **{"label": "A>B", "judge_name": "arena", "judgments": [{"decision": "A=B"}, {"decision": "B>A"}]},
    }
    path, store = lines(tmp_path / "mine.jsonl", [row]), Store(tmp_path / "s.duckdb")
    import_files(store, [path], "comparisons", columns=["generator=response_model"])
    assert [(row[2], row[4], *row[5:7], row[8]) for row in compared(store)] == [
        ("good", "bad", "ab", "a", "imported#mine"),
        ("good", "bad", "ab", "tie", "imported#mine#arena"),
        ("good", "bad", "ba", "a", "imported#mine#arena"),  # shown second, the good one is B
    ]
    other = Store(tmp_path / "other.duckdb")
    import_files(other, [path], "preferences")
    assert [row[6:] for row in compared(other)] == [("a", "ok", "imported#mine")]


def test_a_tie_aborts_no_file_and_both_answers_keep_their_authors(tmp_path: Path) -> None:
    pairs = [
        {"prompt": "q1", "response_A": "x", "response_B": "y", "label": "A=B", "model_a": "one", "model_b": "two"},
        {"prompt": "q2", "chosen": "x", "rejected": "y", "chosen_model": "one", "rejected_model": "two"},
        {"prompt": "q3", "chosen": "x", "rejected": "y", "status": "tie", "generator": "both"},
        {"prompt": "q4", "chosen": "same", "rejected": "same", "chosen_model": "one", "rejected_model": "two"},
        {"prompt": "q5", "chosen": "x", "rejected": "y"},
    ]
    store, path = Store(tmp_path / "s.duckdb"), lines(tmp_path / "mine.jsonl", pairs)
    import_files(store, [path], "preferences")
    assert [(*row[:5], row[6]) for row in compared(store)] == [
        ("q1", "one", "x", "two", "y", "tie"),
        ("q2", "one", "x", "two", "y", "a"),
        ("q3", "both", "x", "both", "y", "tie"),
        ("q4", "one", "same", "two", "same", "a"),
        ("q5", "mine", "x", "mine", "y", "a"),
    ]
    assert Imported(path, kind="preferences")()["completion"].to_list() == ["x", "same", "x"]


def test_another_verdict_under_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    store, path = Store(tmp_path / "s.duckdb"), tmp_path / "mine.jsonl"
    row = {"prompt": "q", "response_A": "x", "response_B": "y", "label": "A>B"}
    import_files(store, [lines(path, [row])], "preferences")
    for label in ("B>A", "A=B"):
        with pytest.raises(SourceError, match="named mine is there already, and .* of .* --name"):
            import_files(store, [lines(path, [{**row, "label": label}])], "preferences")
    assert store.sql("select count(*) from comparisons").item() == 1
    more = import_files(store, [lines(path, [row, {**row, "prompt": "r"}])], "preferences")
    assert (more.new["comparisons"], more.new["prompts"]) == (1, 1)


def test_prompts_that_differ_in_their_system_are_two(tmp_path: Path) -> None:
    rows = [
        {"system": "Answer in French.", "question": "Sky?", "chosen": "Bleu.", "rejected": "Blue."},
        {"system": "Answer in English.", "question": "Sky?", "chosen": "Blue.", "rejected": "Bleu."},
        {"system": " ", "question": "Sky?", "chosen": "Blue.", "rejected": "Bleu."},
    ]
    store = Store(tmp_path / "s.duckdb")
    import_files(store, [lines(tmp_path / "mine.jsonl", rows)], "preferences")
    assert sorted(store.sql("select len(chat) from prompts").rows()) == [(1,), (2,), (2,)]
    assert [row[2] for row in compared(store)] == ["Bleu.", "Blue.", "Blue."]


@pytest.mark.parametrize("table", [True, False])
def test_bad_rows_are_left_out_counted_and_named_where_the_user_says_so(tmp_path: Path, table: bool) -> None:
    rows = [{"prompt": None if at % 2 else f"q{at}", "answer": "a"} for at in range(10)]
    path = tmp_path / ("rows.parquet" if table else "rows.jsonl")
    if table:
        pl.DataFrame(rows).write_parquet(path)
    else:
        lines(path, rows)
        with path.open("a") as file:
            file.write('{"prompt": "cut\n')
    command = ["import", str(path), "--kind", "generations", "--home", str(tmp_path)]
    refused = CliRunner().invoke(app, command)
    assert (refused.exit_code, "2 has no prompt" in refused.stderr) == (2, True)
    assert "--skip-bad leaves such rows out" in refused.stderr
    done = CliRunner().invoke(app, [*command, "--skip-bad"])
    assert done.exit_code == 0, done.stderr
    left, whole = (5, 10) if table else (6, 11)
    (note,) = [line for line in done.stderr.splitlines() if "left out" in line]
    assert note.startswith(f"note: {left} of {whole} rows were left out: {path}, ")
    assert "2 has no prompt; " in note and note.endswith(f"; and {left - 3} more")
    assert "5 generations (5 new)" in done.stdout


def test_a_file_of_bad_rows_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [{"prompt": None, "answer": "a"}] * 2)
    with pytest.raises(SourceError, match=r"holds no rows that can be used: .*line 1 has no prompt"):
        import_files(Store(tmp_path / "s.duckdb"), [path], "generations", skip_bad=True)


def test_what_references_are_missing_is_said_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    notes = [
        import_files(store, [lines(tmp_path / f"{name}.jsonl", [{"prompt": name}])], "prompts").notes
        for name in ("first", "second")
    ]
    assert [len(each) for each in notes] == [1, 0]
    assert "without reference answers" in notes[0][0] and "another --home" in notes[0][0]


def test_prompts_survive_an_import_an_export_and_an_import(tmp_path: Path) -> None:
    call = {"function": {"name": "find", "arguments": {"what": "sky"}}}
    rows = [
        {"conversations": [{"from": "human", "value": "Sky?"}, {"from": "gpt", "value": "Blue."}], "system": "Kurz."},
        {"instruction": "And now?", "output": "Red.", "history": [["Sky?", "Blue."]]},
        {
            "tools": [{"name": "find", "default": None}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Sky?"}, {"type": "text", "text": "Where?"}]},
                {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "Look."},
                {"role": "tool", "content": ""},
                {"role": "assistant", "content": "Up.", "thinking": "Hm."},
            ],
        },
    ]
    first, second = Store(tmp_path / "a.duckdb"), Store(tmp_path / "b.duckdb")
    import_files(first, [lines(tmp_path / "mine.jsonl", rows)], "generations")
    found = first.sql(
        "select p.id as prompt, p.chat, g.text as chosen, g.id from generations g join prompts p on p.id = g.prompt"
    )
    fixed = {"dataset": pl.lit("d"), "rejected": pl.lit(None), "weight": pl.lit(1.0), "origin": pl.lit("synthetic")}
    examples = found.with_row_index("position").with_columns(**fixed, generations=pl.concat_list("id"))
    head = {"id": "d", "kind": "selected", "rows": 3, "real": 0, "synthetic": 3, "created_at": now()}
    first.add_all(
        {
            "examples": examples.select(EXAMPLES.names()).cast(EXAMPLES),  # as a run's selection would
            "datasets": pl.DataFrame([head], schema=DATASETS),
        }
    )
    export_dataset(first, "d", tmp_path / "out.jsonl")
    import_files(second, [str(tmp_path / "out.jsonl")], "generations")
    told = "select p.id, p.chat, g.text from generations g join prompts p on p.id = g.prompt order by p.id"
    assert second.sql(told).rows() == first.sql(told).rows()
    assert len(second.sql(told)) == 3
