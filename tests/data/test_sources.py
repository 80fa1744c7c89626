"""Sources: columns to prompts, and one clear sentence for everything that can be wrong with a file."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.files import Hub, Jsonl, Parquet, Split
from flywheel.errors import RecipeError, SourceError
from flywheel.identity import describe
from flywheel.protocols import Source
from flywheel.store.ids import prompt_id
from flywheel.store.schema import PROMPTS, prompts_frame

ROWS = [
    {"question": "1 + 1?", "answer": "One and one.\n#### 2"},
    {"question": "2 + 2?", "answer": "#### 3 is wrong.\n#### 4 "},
]


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def users(frame: pl.DataFrame) -> list[str]:
    assert frame.schema == PROMPTS
    return [chat[-1]["content"] for chat in frame["chat"].to_list()]


def complaint(source: Source) -> str:
    with pytest.raises(SourceError) as caught:
        source()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_jsonl_and_parquet_give_the_prompts_that_plain_python_gives(tmp_path: Path) -> None:
    lines, table = written(tmp_path / "rows.jsonl", *ROWS), tmp_path / "rows.parquet"
    pl.DataFrame(ROWS).write_parquet(table)
    expected = prompts_frame(
        ({"chat": [{"role": "user", "content": row["question"]}], "reference": row["answer"]} for row in ROWS), "x"
    )
    for source in (Jsonl(lines), Parquet(table)):
        assert source().drop("source").equals(expected.drop("source"))
        assert source().equals(source())
    assert Jsonl(lines)()["source"].unique().to_list() == [str(lines)]


def test_the_reference_is_what_stands_after_the_last_marker(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", *ROWS, {"question": "3?", "answer": None})
    assert Jsonl(path, reference_after="####")()["reference"].to_list() == ["2", "4", None]
    assert Jsonl(path, reference=None)()["reference"].to_list() == [None] * 3
    assert "lacks '@.*' in rows 1, 2, counted from 1" in complaint(Jsonl(path, reference_after="@.*"))


def test_several_columns_become_the_fields_of_meta(tmp_path: Path) -> None:
    row = {"text": "Add one.", "test_list": ["assert f(1) == 2", "assert f('é')"], "entry": "f", "none": None}
    lines, table = written(tmp_path / "rows.jsonl", row), tmp_path / "rows.parquet"
    pl.DataFrame([row], schema_overrides={"none": pl.String}).write_parquet(table)
    columns: dict[str, Any] = {"prompt": "text", "reference": None, "meta": ("test_list", "entry", "none")}
    for source in (Jsonl(lines, **columns), Parquet(table, **columns)):
        meta = json.loads(source()["meta"][0])
        tests = meta.pop("test_list")
        assert (json.loads(tests) if isinstance(tests, str) else tests) == row["test_list"]
        assert meta == {"entry": "f", "none": None}
    assert "has no column 'tests'" in complaint(Jsonl(lines, prompt="text", reference=None, meta=("entry", "tests")))


def test_numbers_and_text_may_stand_in_one_column(tmp_path: Path) -> None:
    path = written(
        tmp_path / "rows.jsonl", *({"question": f"{i}?", "answer": a} for i, a in enumerate([18, "18", 2.5]))
    )
    assert Jsonl(path)()["reference"].to_list() == ["18", "18", "2.5"]


def test_system_and_template_surround_the_prompt_and_braces_mean_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", {"question": "{prompt} {0} {a}", "answer": "1"})
    (chat,) = Jsonl(path, system="Be {kind}.", template="Q {x}: {prompt}\nA {}:")()["chat"].to_list()
    assert chat == [
        {"role": "system", "content": "Be {kind}."},
        {"role": "user", "content": "Q {x}: {prompt} {0} {a}\nA {}:"},
    ]


@pytest.mark.parametrize("template", ["no slot", "{prompt} and {prompt}"])
def test_a_template_has_one_slot(template: str) -> None:
    with pytest.raises(RecipeError, match="exactly once"):
        Jsonl("x.jsonl", template=template)


def test_a_column_of_chats_is_taken_as_it_is(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u", "name": "extra"}]
    path = written(tmp_path / "rows.jsonl", {"messages": chat})
    source = Jsonl(path, prompt="messages", reference=None)
    expected = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert source()["chat"].to_list() == [expected]
    assert source()["id"].to_list() == [prompt_id(expected)]
    Jsonl(path, prompt="messages", reference=None)().write_parquet(tmp_path / "rows.parquet")
    assert Parquet(tmp_path / "rows.parquet", prompt="chat", reference=None, system="t")()["chat"][0].to_list()[0] == {
        "role": "system",
        "content": "t",
    }
    assert "no template" in complaint(Jsonl(path, prompt="messages", reference=None, template="Q: {prompt}"))


@pytest.mark.parametrize("value", [["a", "b"], {"text": "a"}, [{"from": "human", "value": "a"}]])
def test_what_is_neither_text_nor_chat_is_refused(tmp_path: Path, value: Any) -> None:
    path = written(tmp_path / "rows.jsonl", {"question": value, "answer": "1"})
    assert "'question' holds neither text nor chats" in complaint(Jsonl(path))


def test_a_prompt_that_comes_twice_is_kept_once_and_the_first_counts(tmp_path: Path) -> None:
    path = written(
        tmp_path / "rows.jsonl", *({"question": q, "answer": a} for q, a in zip("babca", "12345", strict=True))
    )
    assert Jsonl(path)().select("reference").to_series().to_list() == ["1", "2", "4"]
    assert users(Jsonl(path, limit=2)()) == ["b", "a"]
    assert users(Jsonl(path, limit=99)()) == ["b", "a", "c"]
    with pytest.raises(RecipeError, match="at least 1"):
        Jsonl(path, limit=0)


def test_blank_prompts_are_refused_by_row(tmp_path: Path) -> None:
    texts = ["x", "", " \n", "y", None, "\t", "", ""]
    path = written(tmp_path / "rows.jsonl", *({"question": text, "answer": "1"} for text in texts))
    assert (
        complaint(Jsonl(path))
        == f"{path}: column 'question' holds no text in rows 2, 3, 5, 6, 7 and 1 more, counted from 1"
    )
    chats = [
        [{"role": "user", "content": "x"}],
        [],
        [{"role": "user", "content": " "}],
        [{"role": "user", "content": None}],
    ]
    path = written(tmp_path / "chats.jsonl", *({"question": chat, "answer": "1"} for chat in chats))
    assert "in rows 2, 3, 4, counted from 1" in complaint(Jsonl(path))


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", {"q": "1", "a": "2"})
    assert complaint(Jsonl(path)) == f"{path} has no column 'question'; its columns are q, a"
    pl.DataFrame({"question": ["1"], "b": ["2"]}).write_parquet(tmp_path / "rows.parquet")
    assert "no column 'answer'; its columns are question, b" in complaint(Parquet(tmp_path / "rows.parquet"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"question": "x", "answer":', "line 3: not valid JSON"),
        ('{"question": "x"} and more', "line 3: not valid JSON: Extra data at character"),
        ("[1, 2]", "line 3: not a JSON object"),
        ('{"question": "x", "answer": "\xff"}', "line 3: not UTF-8"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = written(tmp_path / "rows.jsonl", *ROWS)
    path.write_bytes(path.read_bytes() + line.encode("latin-1") + b"\n")
    assert complaint(Jsonl(path)).startswith(f"{path}, {words}")


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    nowhere, empty = tmp_path / "nowhere.jsonl", tmp_path / "empty.jsonl"
    empty.touch()
    assert complaint(Jsonl(nowhere)) == f"{nowhere}: no such file"
    assert complaint(Jsonl(empty)) == f"{empty} is empty"
    assert "no *.parquet in this folder" in complaint(Parquet(tmp_path))
    empty.write_text("\n\n")
    assert str(empty) in complaint(Jsonl(empty))
    (tmp_path / "text.parquet").write_text("not parquet at all, but long enough to have a footer")
    assert "cannot be read as Parquet" in complaint(Parquet(tmp_path / "text.parquet"))


def test_a_folder_and_a_pattern_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        written(tmp_path / f"{name}.jsonl", {"question": name, "answer": "1"})
    assert users(Jsonl(tmp_path)()) == ["a", "b", "c"]
    assert users(Jsonl(str(tmp_path / "[bc].jsonl"))()) == ["b", "c"]


@dataclass(frozen=True)
class Numbered:
    """So many prompts, each a number."""

    count: int

    def __call__(self) -> pl.DataFrame:
        """PROMPTS."""
        return prompts_frame(({"chat": [{"role": "user", "content": f"{i}"}]} for i in range(self.count)), "numbers")


@pytest.mark.slow
@settings(deadline=None)
@given(count=st.integers(50, 300), more=st.integers(0, 100), share=st.floats(0.2, 0.8))
def test_a_split_is_a_partition_that_stays_when_rows_are_added(count: int, more: int, share: float) -> None:
    train, exam = (set(Split(Numbered(count), part, share)()["id"]) for part in ("train", "exam"))
    assert not train & exam
    assert train | exam == set(Numbered(count)()["id"])
    assert exam <= set(Split(Numbered(count + more), "exam", share)()["id"])
    assert train <= set(Split(Numbered(count + more), "train", share)()["id"])


@pytest.mark.slow
def test_the_exam_has_about_its_share() -> None:
    assert 900 < Split(Numbered(10_000), "exam")().height < 1100


def test_an_empty_part_and_a_senseless_share_are_refused() -> None:
    assert "the exam part of 1 prompts" in complaint(Split(Numbered(1), "exam", 1e-9))
    with pytest.raises(RecipeError):
        Split(Numbered(1), "exam", 1.5)
    with pytest.raises(RecipeError):
        Split(Numbered(1), "test")  # type: ignore[arg-type]


def test_a_source_can_be_described_without_reading_anything() -> None:
    described = describe(Split(Hub("no/where", "train", reference_after="####"), "exam"))
    assert described["source"]["name"] == "no/where"
    assert json.loads(json.dumps(described)) == described


@pytest.mark.slow
def test_the_hub_reads_local_folders_and_says_clearly_that_it_is_offline(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    for split, row in zip(("train", "test"), ROWS, strict=True):
        written(tmp_path / "plain" / f"{split}.jsonl", row)
    script = f"""
import datasets
from data.files import Hub
from flywheel.errors import SourceError
rows = {ROWS!r}
datasets.Dataset.from_list(rows).save_to_disk({str(tmp_path / "one")!r})
datasets.DatasetDict(test=datasets.Dataset.from_list(rows)).save_to_disk({str(tmp_path / "many")!r})
for name, split, config in [("plain", "test", None), ("one", "train", None), ("many", "test", None),
                            ("many", "dev", None), ("plain", "dev", None), ("plain", "test", "main")]:
    try:
        print(Hub({str(tmp_path)!r} + "/" + name, split, config, reference_after="####")()["reference"].to_list())
    except SourceError as error:
        print(error)
try:
    Hub("openai/gsm8k", "test", "main")()
except SourceError as error:
    print(error)
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == ["['4']", "['2', '4']", "['2', '4']"]
    assert "its splits are test" in lines[3]
    assert "dev" in lines[4] and "train" in lines[4]
    assert "'main'" in lines[5]
    assert "the Hugging Face Hub cannot be reached" in lines[6] and len(lines) == 7
