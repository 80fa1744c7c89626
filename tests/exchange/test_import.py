"""Prompts, answers and preferences from elsewhere: which rows they become, and what is refused before that."""

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
from flywheel.exchange.forms.entries import Kind, entries
from flywheel.exchange.forms.records import records
from flywheel.exchange.importing import import_files
from flywheel.exchange.rows import tables
from flywheel.store import maintenance
from flywheel.store.ids import content_id, prompt_id
from flywheel.store.schema import WORKED
from flywheel.store.store import Store
from tests import PUBLIC

pytestmark = pytest.mark.slow  # a store and files of its own for each

Rows = Sequence[Mapping[str, Any]]
ALPACA = [
    {"instruction": "Name a river.", "output": "The Nile.", "generator": "small", "dataset": "helpful"},
    {"instruction": "Say nothing.", "output": "", "generator": "small", "dataset": "helpful"},
    {"instruction": "Name a river.", "output": "The Po.", "generator": "large", "dataset": "helpful"},
]
CHAT = [
    {"role": "system", "content": "Sei höflich. 🙂"},
    {"role": "user", "content": "Wie heißt du?"},
    {"role": "assistant", "content": "Rad."},
    {"role": "user", "content": "Und\n\nweiter? 中文 \u202e\x00"},
]


def lines(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def listed(path: Path, rows: Rows) -> str:
    path.write_text(json.dumps(list(rows), indent=1, ensure_ascii=False), encoding="utf-8-sig")
    return str(path)


def parquet(path: Path, rows: Rows) -> str:
    pl.DataFrame(list(rows)).write_parquet(path)
    return str(path)


def stored(tmp_path: Path, place: str, kind: Kind = "generations", **options: Any) -> Store:
    """A store with what is imported."""
    store = Store(tmp_path / "flywheel.duckdb")
    import_files(store, [place], kind, **options)
    return store


def said(store: Store) -> list[tuple[Any, ...]]:
    query = """select c.weights, p.chat[-1].content, g.text, g.index from generations g
               join prompts p on p.id = g.prompt join checkpoints c on c.id = g.checkpoint order by g.rowid"""
    return store.sql(query).rows()


def preferred(store: Store) -> list[tuple[Any, ...]]:
    query = """select p.chat[-1].content, a.text, b.text, c.verdict, c."order", c.judge from comparisons c
               join generations a on a.id = c.a join generations b on b.id = c.b
               join prompts p on p.id = a.prompt and p.id = b.prompt order by c.rowid"""
    return store.sql(query).rows()


@pytest.mark.parametrize("write", [lines, listed, parquet])
def test_rows_are_the_same_whatever_the_file(tmp_path: Path, write: Any) -> None:
    place = write(tmp_path / ("mine.parquet" if write is parquet else "mine.json"), ALPACA)
    assert [record for _, record in records(place)] == ALPACA


def test_answers_of_several_generators_become_rows(tmp_path: Path) -> None:
    store = stored(tmp_path, lines(tmp_path / "mine.jsonl", ALPACA))
    assert said(store) == [
        ("small", "Name a river.", "The Nile.", 0),
        ("small", "Say nothing.", "", 0),
        ("large", "Name a river.", "The Po.", 0),
    ]
    assert store.sql("select id, source, reference from prompts")["source"].to_list() == ["helpful", "helpful"]
    draw = store.sql("from draws").drop("id").row(0, named=True)
    assert draw.pop("engine") == "imported" and set(draw.values()) == {None}


def test_chats_keep_every_message_and_letter(tmp_path: Path) -> None:
    rows = [
        {"messages": [*CHAT, {"role": "assistant", "content": "Nein. 😀"}]},
        {"prompt": CHAT, "completion": [{"role": "assistant", "content": "Ja."}]},
        {"prompt": CHAT, "answer": "Ja."},
    ]
    store = stored(tmp_path, lines(tmp_path / "mine.jsonl", rows), generator="rad")
    assert store.sql("select id, chat from prompts").rows() == [(prompt_id(CHAT), CHAT)]
    assert [row[2:] for row in said(store)] == [("Nein. 😀", 0), ("Ja.", 1), ("Ja.", 2)]  # drawn twice, so there twice
    assert said(store)[0][0] == "rad"


def whole(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Which?", "chosen": "this", "rejected": "that"},
        {"chosen": whole("this"), "rejected": whole("that")},
        {"prompt": "Which?", "chosen": whole("this"), "rejected": whole("that")},
        {"prompt": whole("")[:1], "chosen": whole("this")[1:], "rejected": whole("that")[1:]},
        {"question": "Which?", "response_A": "that", "response_B": "this", "label": "B>A"},
    ],
)
def test_a_preference_is_a_comparison_in_whatever_form_it_comes(tmp_path: Path, row: dict[str, Any]) -> None:
    path = lines(tmp_path / "mine.jsonl", [row])
    rows = tables(entries(records(path), "preferences"), "mine", "preferences")
    texts = dict(rows["generations"].select("id", "text").iter_rows())
    (said,) = rows["comparisons"].iter_rows(named=True)
    assert (texts[said["a"]], texts[said["b"]], said["verdict"]) == ("this", "that", "a")
    assert (said["judge"], rows["prompts"]["chat"].to_list()) == ("imported#mine", [whole("")[:1]])
    assert Imported(path, kind="preferences")().to_dicts() == [{"chat": whole("")[:1], "completion": "this"}]


def test_scores_and_labels_are_judgments_and_an_answer_of_two_pairs_is_one_row(tmp_path: Path) -> None:
    pairs = [
        {"prompt": "Which?", "chosen": "a", "rejected": "b", "score_chosen": 8, "score_rejected": 2.5},
        {"prompt": "Which?", "chosen": "a", "rejected": "c", "score_chosen": 9, "score_rejected": 2},
        {"prompt": "Good?", "completion": "yes", "label": True},
        {"prompt": "Good?", "completion": "no", "label": False},
    ]
    store = stored(tmp_path, lines(tmp_path / "mine.jsonl", pairs), "preferences")
    query = "select g.text, j.vote, j.score from judgments j join generations g on g.id = j.generation order by all"
    assert store.sql(query).rows() == [
        ("a", 0, 8),
        ("a", 1, 9),
        ("b", 0, 2.5),
        ("c", 0, 2),
        ("no", 0, 0),
        ("yes", 0, 1),
    ]
    assert [row[1:3] for row in preferred(store)] == [("a", "b"), ("a", "c")]
    assert not list(maintenance.faults(store, tmp_path))
    learnt = Imported(str(tmp_path / "mine.jsonl"), kind="preferences")()
    assert learnt.schema == WORKED
    assert learnt["completion"].to_list() == ["a", "a", "yes"]


def test_prompts_keep_reference_and_meta(tmp_path: Path) -> None:
    rows = [{"task": "1+1?", "reference": 2, "meta": {"kind": "sum"}}, {"task": "2+2?", "reference": "4", "meta": None}]
    store = stored(tmp_path, lines(tmp_path / "sums.jsonl", rows), "prompts", columns=["prompt=task"])
    query = "select chat[1].content, reference, meta, source from prompts order by all"
    assert store.sql(query).rows() == [("1+1?", "2", '{"kind": "sum"}', "sums"), ("2+2?", "4", None, "sums")]


def test_importing_twice_adds_nothing_and_more_rows_only_themselves(tmp_path: Path) -> None:
    path = lines(tmp_path / "mine.jsonl", ALPACA)
    store = stored(tmp_path, path)
    filled = ("prompts", "draws", "checkpoints", "generations")
    before = [store.sql(f"from {table}").to_dicts() for table in filled]
    again = import_files(store, [path], "generations")
    assert not any(again.new.values())
    assert [store.sql(f"from {table}").to_dicts() for table in filled] == before
    more = import_files(store, [lines(tmp_path / "mine.jsonl", [*ALPACA, ALPACA[0]])], "generations")
    assert (more.new["generations"], more.new["prompts"]) == (1, 0)


def test_other_rows_under_a_name_that_is_taken_are_refused(tmp_path: Path) -> None:
    store = stored(tmp_path, lines(tmp_path / "mine.jsonl", [{**row, "score": 1} for row in ALPACA]))
    for changed in ({"output": "The Rhine.", "score": 1}, {"score": 0}):
        path = lines(tmp_path / "mine.jsonl", [{**row, **changed} for row in ALPACA])
        with pytest.raises(SourceError, match=r"named mine is there already, and . of its 3 answers differ.* --name"):
            import_files(store, [path], "generations")
    assert import_files(store, [path], "generations", name="other").new["generations"] == 3


GOOD = {"prompt": "Why?", "answer": "So."}
PAIR = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}


@pytest.mark.parametrize(
    ("kind", "rows", "words"),
    [
        (
            "generations",
            [GOOD, {"prompt": "Why?"}],
            "line 2 has prompt: generations need prompt and answer, or messages",
        ),
        ("generations", [GOOD, {**GOOD, "answer": None}], "line 2: an answer must be text, not null"),
        ("generations", [GOOD, {**GOOD, "answer": 7}], "line 2: an answer must be text, not 7"),
        ("generations", [{**GOOD, "prompt": " \n"}], "line 1: the prompt is blank"),
        ("generations", [{**GOOD, "prompt": [{"role": "user"}]}], "line 1: a chat must be text, or messages with role"),
        ("generations", [{**GOOD, "prompt": 3.5}], "line 1: a chat must be text, or messages"),
        ("generations", [{"messages": CHAT}], "line 1: the last message of an answer must be the assistant's"),
        ("generations", [{**GOOD, "answer": "\ud800"}], "line 1: an answer holds half a character at place 1"),
        ("generations", [{**GOOD, "score": float("nan")}], "line 1: a score must be a number, not nan"),
        ("generations", [{**GOOD, "score": "8"}], "line 1: a score must be a number, not '8'"),
        ("preferences", [PAIR, GOOD], "line 2 has prompt, answer: preferences need chosen and rejected, or"),
        ("preferences", [{**GOOD, "label": "yes"}], "line 1: label must be true or false, not 'yes'"),
        ("preferences", [{"chosen": "a", "rejected": "b"}], "line 1 has no prompt"),
        (
            "preferences",
            [{"chosen": whole("a"), "rejected": [{"role": "user", "content": "x"}, *whole("b")]}],
            "line 1: the two answers are not to the same prompt",
        ),
        ("prompts", [{"text": "Why?"}], "line 1 has text: prompts need prompt; --columns prompt=NAME says"),
    ],
)
def test_a_bad_row_is_told_with_its_line(tmp_path: Path, kind: Kind, rows: Rows, words: str) -> None:
    with pytest.raises(SourceError) as told:
        entries(records(lines(tmp_path / "bad.jsonl", rows)), kind)
    assert words in str(told.value) and "bad.jsonl" in str(told.value)
    assert "\n" not in str(told.value)


def test_nothing_is_written_where_one_row_of_one_file_is_bad(tmp_path: Path) -> None:
    store, good = Store(tmp_path / "flywheel.duckdb"), lines(tmp_path / "good.jsonl", [GOOD] * 5)
    with pytest.raises(SourceError, match="bad.jsonl, line 2"):
        import_files(store, [good, lines(tmp_path / "bad.jsonl", [GOOD, {}])], "generations")
    assert not any(store.sql(f"select count(*) from {table}").item() for table in ("prompts", "generations", "draws"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"prompt": "a", "answer": "b"}\n{"prompt": ', "line 2: not valid JSON"),
        ("a.jsonl", b'{"a": 1}\n\n["a"]', "line 3: not a JSON object but list"),
        ("a.jsonl", b'{"prompt": "\xff"}', "line 1: not UTF-8"),
        ("a.json", b'[\n {"a": 1},\n {"b": \n]', "not valid JSON: Expecting value at line 4"),
        ("a.parquet", b"PAR1 and no more", "cannot be read as Parquet"),
        ("a.json", b"", "is empty"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError) as told:
        list(records(str(tmp_path / name)))
    assert words in str(told.value) and name in str(told.value)


def test_a_prompt_that_is_there_keeps_its_reference_and_the_user_is_told(tmp_path: Path) -> None:
    store = stored(tmp_path, lines(tmp_path / "sums.jsonl", [{"prompt": "1+1?", "reference": "2"}]), "prompts")
    done = import_files(store, [lines(tmp_path / "a.jsonl", [{"prompt": "1+1?", "answer": "3"}])], "generations")
    assert [note.partition(";")[0] for note in done.notes] == [
        "1 prompts were there already with another reference, or one was missing"
    ]
    assert store.sql("select reference from prompts").item() == "2"


def test_the_command_says_what_it_added_and_what_is_wrong(tmp_path: Path) -> None:
    path, runner = lines(tmp_path / "mine.jsonl", ALPACA), CliRunner()
    command = ["import", path, "--home", str(tmp_path), "--kind"]
    done = runner.invoke(app, [*command, "generations", "--checkpoint", "me"])
    assert (done.exit_code, done.stdout.strip()) == (
        0,
        "2 prompts (2 new), 1 checkpoints (1 new), 1 draws (1 new), 3 generations (3 new)",
    )
    wrong = runner.invoke(app, [*command, "preferences"])
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith(f"error: {path}, line 1 has instruction, output")
    assert runner.invoke(app, [*command, "generations", "--columns", "colour=x"]).exit_code == 2


@pytest.mark.slow
def test_many_rows_are_all_there(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {at // 4}", "answer": f"answer {at} {'x' * 200}"} for at in range(20_000)]
    store = Store(tmp_path / "flywheel.duckdb")
    done = import_files(store, [lines(tmp_path / "many.jsonl", rows)], "generations")
    assert dict(done.new) == {
        **{"prompts": 5_000, "checkpoints": 1, "draws": 1, "generations": 20_000},
        **{"judgments": 0, "comparisons": 0},
    }
    last = store.sql(
        "select text from generations where index = 3 order by prompt = $id desc limit 1",
        {"id": prompt_id([{"role": "user", "content": "question 4999"}])},
    )
    assert last.item() == f"answer 19999 {'x' * 200}"


@pytest.mark.slow
@pytest.mark.skipif(not (PUBLIC / "alpaca_eval").is_dir(), reason=f"no AlpacaEval outputs at {PUBLIC}")
def test_outputs_of_alpaca_eval_are_all_there_letter_by_letter(tmp_path: Path) -> None:
    files = [PUBLIC / "alpaca_eval" / f"{name}.json" for name in ("phi-2", "text_davinci_003")]
    store = Store(tmp_path / "flywheel.duckdb")
    import_files(store, [str(file) for file in files], "generations")
    there = {row[:3] for row in said(store)}
    rows = [row for file in files for row in json.loads(file.read_text())]
    assert there == {(row["generator"], row["instruction"], row["output"]) for row in rows}
    assert store.sql("select count(*) from generations").item() == len(rows) == 1608
    assert not list(maintenance.faults(store, tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(not (PUBLIC / "judgebench").is_dir(), reason=f"no JudgeBench at {PUBLIC}")
def test_pairs_of_judgebench_become_comparisons(tmp_path: Path) -> None:
    file = PUBLIC / "judgebench" / "claude-3-5-sonnet.jsonl"
    store = Store(tmp_path / "flywheel.duckdb")
    done = import_files(store, [str(file)], "preferences", columns=["generator=response_model"])
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    better = [("response_A", "response_B") if row["label"] == "A>B" else ("response_B", "response_A") for row in rows]
    wanted = {(row["question"], row[a], row[b]) for row, (a, b) in zip(rows, better, strict=True) if row[a] != row[b]}
    assert {row[:3] for row in preferred(store)} == wanted
    assert done.new["comparisons"] == len(wanted) == 269
    assert done.notes[-1].startswith("1 pairs came twice, or hold the same text twice")
    assert store.sql("select weights from checkpoints").item() == "claude-3-5-sonnet-20240620"


def test_ids_hang_on_the_name_of_the_import_and_of_the_generator(tmp_path: Path) -> None:
    store = stored(tmp_path, lines(tmp_path / "mine.jsonl", ALPACA[:1]))
    row = store.sql("from generations").row(0, named=True)
    assert (row["checkpoint"], row["draw"]) == (content_id("imported", "small"), content_id("imported", "mine"))
