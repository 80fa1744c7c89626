"""Values of tables: JSON columns, dates and numbers are what they say; what is no text is refused with its row."""

import datetime
import decimal
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from data.files import Jsonl, Parquet
from data.human import Agreeing, ranked
from flywheel.errors import SourceError
from flywheel.exchange.arrow import decoded, rows
from judges.models.rubric import Rubric

DAY, MOON = datetime.datetime(1969, 7, 20), datetime.datetime(1969, 7, 20, 20, 17, 40)


def lines(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def parquet(folder: Path, **columns: Any) -> Path:
    pyarrow.parquet.write_table(pa.table(columns), folder / "rows.parquet")
    return folder / "rows.parquet"


def told(source: Any) -> str:
    with pytest.raises(SourceError) as caught:
        source()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def asked(text: Any) -> dict[str, Any]:
    return {"question": [{"role": "user", "content": text}], "answer": "1"}


@pytest.mark.parametrize(
    ("stored", "value"),
    [
        ('"Paris"', "Paris"),
        ('"a\\/b \\u00e9 \\ud83d\\ude00"', "a/b é 😀"),
        ('"007"', "007"),
        *((text, text) for text in ("007", "5", "-0", "1e5", "1.50", "NaN", "true", "Paris", "", '"', ' "a"', " 6 ")),
        ('"To be" or "not"', '"To be" or "not"'),
        ('"no\nJSON"', '"no\nJSON"'),
        ("[1,", "[1,"),
        ("9" * 5000, "9" * 5000),
        ("null", None),
        (None, None),
        ('["a",1.5]', ["a", 1.5]),
        ('{"a":{"b":"007"}}', {"a": {"b": "007"}}),
    ],
)
def test_a_value_of_a_json_column_is_what_it_says_and_never_a_number_made_of_a_text(stored: Any, value: Any) -> None:
    assert decoded(stored) == value


def test_json_columns_are_read_wherever_they_stand(tmp_path: Path) -> None:
    chat = pa.array([['{"role":"user","content":"hi","name":"Bob"}'], ['{"role":"user","content":"007"}']])
    message = pa.struct([("role", pa.string()), ("content", pa.json_())])
    parts = [[{"role": "user", "content": said}] for said in ('"hi"', '[{"type":"text","text":"you"}]')]
    path = parquet(
        tmp_path,
        question=pa.array(['"Which?"', "007"], pa.json_()),
        answer=pa.array(['"Paris"', None], pa.json_()),
        chat=chat.cast(pa.list_(pa.json_())),
        parts=pa.array(parts).cast(pa.list_(message)),
        meta=pa.array(['{"a": 1}', "[2]"], pa.json_()),
    )
    frame = Parquet(path, meta="meta")()
    assert [chat[0]["content"] for chat in frame["chat"].to_list()] == ["Which?", "007"]
    assert frame["reference"].to_list() == ["Paris", None] and frame["meta"].to_list() == ['{"a":1}', "[2]"]
    assert Parquet(path, meta=("meta", "answer"))()["meta"].to_list() == [
        '{"meta":{"a":1},"answer":"Paris"}',
        '{"meta":[2],"answer":null}',
    ]
    for column, texts in (("chat", ["hi", "007"]), ("parts", ["hi", "you"])):
        frame = Parquet(path, prompt=column)()
        assert frame["chat"].to_list() == [[{"role": "user", "content": text}] for text in texts]
    assert Parquet(path).rows(["question", "answer"]).rows() == [("Which?", "Paris"), ("007", None)]


@pytest.mark.parametrize(
    ("kind", "values", "texts"),
    [
        (pa.date32(), [DAY.date()], ["1969-07-20"]),
        (pa.timestamp("s"), [DAY, None, DAY], ["1969-07-20", None, "1969-07-20"]),
        (pa.timestamp("ns"), [MOON, DAY], ["1969-07-20T20:17:40", "1969-07-20T00:00:00"]),
        (pa.timestamp("ms"), [MOON.replace(microsecond=5000)], ["1969-07-20T20:17:40.005000"]),
        (pa.timestamp("us", tz="UTC"), [DAY.replace(tzinfo=datetime.UTC)], ["1969-07-20T00:00:00+00:00"]),
        (pa.time64("us"), [MOON.time()], ["20:17:40"]),
        (pa.float32(), [0.1, 18.0], ["0.1", "18.0"]),
        (pa.float64(), [0.1, 2.0], ["0.1", "2.0"]),
        (pa.decimal128(5, 2), [decimal.Decimal("1.50")], ["1.50"]),
        (pa.bool_(), [True, False], ["true", "false"]),
        (pa.int8(), [7], ["7"]),
        (pa.dictionary(pa.int8(), pa.string()), ["a", "b"], ["a", "b"]),
    ],
)
def test_dates_and_numbers_of_a_table_are_text_by_one_rule(tmp_path: Path, kind: Any, values: Any, texts: Any) -> None:
    questions = [str(at) for at in range(len(values))]
    path = parquet(tmp_path, question=questions, answer=pa.array(values, kind))
    assert Parquet(path)()["reference"].to_list() == texts


def test_times_in_the_rows_after_the_first_batch_count_and_nested_ones_are_text_too(tmp_path: Path) -> None:
    table = pa.table({"at": pa.array([DAY, DAY, MOON]), "in": pa.array([{"d": [DAY]}] * 3)})
    assert [row["at"][10:] for row in rows(lambda: table.to_batches(max_chunksize=2))] == [
        "T00:00:00",
        "T00:00:00",
        "T20:17:40",
    ]
    assert next(rows(table.to_batches))["in"] == {"d": ["1969-07-20"]}
    path = parquet(tmp_path, question=["a"] * 3, answer=["b"] * 3, when=table["in"])
    assert Parquet(path, meta="when")()["meta"].to_list() == ['{"d":["1969-07-20"]}']


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["1", "one"], "holds a list, which is neither text nor a number"),
        ([], "holds a list"),
        ({"value": "1"}, "holds an object, which is neither text nor a number"),
        ("a\ud83d", "holds half a character, which is no text, at place 2"),
        (float("nan"), "holds nan, which is no text"),
    ],
)
def test_what_is_no_text_is_refused_with_its_row(tmp_path: Path, value: Any, words: str) -> None:
    path = lines(tmp_path, {"question": "a", "answer": "1"}, {"question": "b", "answer": value})
    assert (problem := told(Jsonl(path))).startswith(f"{path}: column 'answer' {words}")
    assert problem.endswith("in row 2, counted from 1")
    if not isinstance(value, str | float):
        meta = Jsonl(path, reference=None, meta="answer")()["meta"]
        assert [json.loads(text) for text in meta] == [1, value]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": {"text": "a"}}, "'question' holds neither text nor chats"),
        (asked([{"type": "image"}, {"type": "text", "text": "a"}]), "a message whose content is not one text"),
        (asked([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "a message whose content is not one"),
        (asked({"text": "a"}), "a message whose content is not one text"),
        ({"question": [{"role": None, "content": "a"}]}, "a message without a role"),
        *(
            ({"question": [{"role": "user", "content": "a", name: ["x"]}]}, f"a message with {name}")
            for name in ("tool_calls", "reasoning_content", "thinking", "images")
        ),
        (asked("a\udc00b"), "half a character"),
    ],
)
def test_chats_that_say_more_than_their_texts_are_refused(tmp_path: Path, row: Any, words: str) -> None:
    path = lines(tmp_path, asked("x"), row)
    assert words in told(Jsonl(path, reference=None))


def test_a_content_of_one_part_that_is_text_and_keys_without_a_value_are_what_they_say(tmp_path: Path) -> None:
    message = {
        "role": "user",
        "content": [{"type": "text", "text": "hi", "image": None}],
        "tool_calls": [],
        "name": "B",
    }
    (chat,) = Jsonl(lines(tmp_path, {"question": [message]}), reference=None)()["chat"].to_list()
    assert chat == [{"role": "user", "content": "hi"}]


def test_a_key_may_come_late_and_a_number_stays_as_it_is_written(tmp_path: Path) -> None:
    first = [{"question": f"{at}"} for at in range(1500)]
    texts = ["1.50", "1e5", "1E400", "12345678901234567890123", "true", "-0.0"]
    path = lines(tmp_path, *first, *(f'{{"question": "n{text}", "answer": {text}}}' for text in texts))
    assert Jsonl(path)()["reference"].to_list() == [None] * 1500 + texts
    assert Jsonl(path, limit=3)()["reference"].to_list() == [None] * 3
    assert "has no column 'meta'; its columns are question, answer" in told(Jsonl(path, meta="meta", limit=3))
    assert "holds what is no JSON" in told(Jsonl(path, reference=None, meta="answer"))


def test_a_byte_order_mark_is_no_letter(tmp_path: Path) -> None:
    path = lines(tmp_path, "\ufeff" + json.dumps({"question": "a", "answer": "1"}))
    assert Jsonl(path)()["reference"].to_list() == ["1"]


def test_columns_are_numbers_where_all_values_are_and_else_text(tmp_path: Path) -> None:
    path = lines(tmp_path, {"a": 1, "b": 1, "c": 1, "d": True, "e": [1]}, {"a": None, "b": 2.5, "c": "x", "d": None})
    assert Jsonl(path).rows(["a", "b", "c", "d"]).rows() == [(1, 1.0, "1", True), (None, 2.5, "x", None)]
    with pytest.raises(SourceError, match=r"column 'e' holds a list, .* in row 1"):
        Jsonl(path).rows(["e"])


def test_ranks_may_be_text_but_must_be_numbers(tmp_path: Path) -> None:
    ranks = ["10", 9, "8"]
    said = [
        {"question": "q", "reply": f"r{rank}", "rank": rank, "judgment": f"Score: {at}"}
        for at, rank in enumerate(ranks)
    ]
    worked = Agreeing(rows=Jsonl(lines(tmp_path, *said)), judge=Rubric())()
    assert len(worked) == 3
    with pytest.raises(SourceError, match="column 'rank' holds 'best', which is no rank"):
        Agreeing(rows=Jsonl(lines(tmp_path, *said, {**said[0], "rank": "best"})), judge=Rubric())()
    tree = {"message_id": 1, "parent_id": None, "text": "Why?", "role": "prompter", "lang": "en", "rank": None}
    reply = {"message_id": 2, "parent_id": 1, "text": 7, "role": "assistant", "lang": "en", "rank": "0"}
    assert ranked(Jsonl(lines(tmp_path, tree, reply))).rows() == [("Why?", "7", 0)]


SCRIPT = """
import json, sys
import datasets
from data.human import Oasst
from data.imported import Imported
from data.files import Hub, Parquet
from flywheel.errors import FlywheelError
from flywheel.exchange.forms.records import records
datasets.disable_progress_bars()
home = sys.argv[1]
for name in ("mixed", "dates", "times", "chats", "parts", "tools", "meta", "trees"):
    folder = f"{home}/{name}"
    data = datasets.load_dataset(folder, split="train")
    data.to_parquet(f"{home}/{name}.parquet")
    data.save_to_disk(f"{home}/saved/{name}")
    fields = {"meta": "meta"} if name == "meta" else {}
    sources = [Hub(folder, "train", **fields), Hub(f"{home}/saved/{name}", "train", **fields),
               Parquet(f"{home}/{name}.parquet", **fields)]
    if name == "trees":
        sources = [Oasst(messages=source) for source in sources]
    for source in sources:
        try:
            found = source().select("chat", "reference", "meta").rows()
            print(json.dumps([name, [[chat[-1]["content"], *more] for chat, *more in found]]))
        except FlywheelError as error:
            print(json.dumps([name, str(error).partition(": ")[2]]))
print(json.dumps(["records", [record["answer"] for _, record in records(f"{home}/saved/mixed")]]))
print(json.dumps(["records", [record["answer"] for _, record in records(f"{home}/mixed.parquet")]]))
print(json.dumps(["imported", Imported(f"{home}/chats.parquet")()["completion"].to_list()]))
"""


@pytest.mark.slow
def test_what_datasets_makes_of_json_and_dates_is_undone_for_each_kind_of_source(tmp_path: Path) -> None:
    tools = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]}
    texts = ["Paris", "007", "5", "true", "1e5", "a/b é"]
    chat = asked("hi")["question"]
    tree = {"message_id": "a", "parent_id": None, "text": "Why?", "role": "prompter", "lang": "en", "rank": None}
    sets: dict[str, list[dict[str, Any]]] = {
        "mixed": [{"question": text, "answer": text} for text in texts] + [{"question": "n", "answer": 7}],
        "dates": [{"question": "moon", "answer": "1969-07-20"}, {"question": "later", "answer": "2001-01-02"}],
        "times": [
            {"question": "moon", "answer": "1969-07-20T20:17:40"},
            {"question": "x", "answer": "2001-01-02 00:00:00"},
        ],
        "chats": [
            {"question": chat, "answer": "x"},
            {"question": [{**chat[0], "content": "ho", "name": "Bob"}], "answer": "y"},
        ],
        "parts": [asked("hi"), asked([{"type": "text", "text": "ho"}])],
        "tools": [asked("hi"), {"question": [*chat, tools], "answer": "1"}],
        "meta": [
            {"question": "a", "answer": "x", "meta": {"a": 1}},
            {"question": "b", "answer": "x", "meta": {"b": ["2"]}},
        ],
        "trees": [tree, {**tree, "message_id": "b", "parent_id": "a", "text": 7, "role": "assistant", "rank": 0}],
    }
    for name, rows_ in sets.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_))
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answers = [*texts, "7"]
    refused = "column 'question' holds a message with tool_calls, which prompts cannot have here: "
    expected: dict[str, Any] = {
        "mixed": [[text, text, None] for text in texts] + [["n", "7", None]],
        "dates": [["moon", "1969-07-20", None], ["later", "2001-01-02", None]],
        "times": [["moon", "1969-07-20T20:17:40", None], ["x", "2001-01-02T00:00:00", None]],
        "chats": [["hi", "x", None], ["ho", "y", None]],
        "parts": [["hi", "1", None], ["ho", "1", None]],
        "meta": [["a", "x", '{"a":1}'], ["b", "x", '{"b":["2"]}']],
        "trees": [["Why?", "7", None]],
        "records": answers,
        "imported": ["x", "y"],
    }
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 8 * 3 + 3
    for name, value in found:
        assert value.startswith(refused) if name == "tools" else value == expected[name], name
