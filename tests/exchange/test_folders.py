"""Folders: all files are read, or it is said which are not, whatever `datasets` makes of their names."""

import json
from pathlib import Path

import polars as pl
import pytest

from data.files import Hub
from data.imported import Imported
from flywheel.errors import SourceError
from flywheel.exchange.forms.records import records


def folder(path: Path, *names: str) -> str:
    """One answer in each of these files, which is the file's name."""
    for name in names:
        file, row = path / name, {"prompt": "Which?", "answer": name}
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            pl.DataFrame([row]).write_parquet(file)
        elif name.endswith(".csv"):
            pl.DataFrame([row]).write_csv(file)
        else:
            file.write_text(
                json.dumps([row] if name.endswith(".json") else row) + "\n" if "json" in name else "A text."
            )
    return str(path)


def answers(place: str, split: str | None = None) -> list[str]:
    return [record["answer"] for _, record in records(place, split)]


@pytest.mark.parametrize(
    "names",
    [
        ("chat.jsonl", "code.jsonl", "math-train.jsonl"),
        ("a.jsonl", "b-test.jsonl", "c.jsonl"),
        ("a.jsonl", "dev.jsonl", "validation_2.jsonl"),
        ("test.jsonl", "train.jsonl"),
        ("a.jsonl", "b.parquet", "c.json"),
        ("extra/a.jsonl", "train/a.jsonl"),
        ("a.jsonl", "x/y/b.jsonl"),
    ],
)
def test_every_file_of_a_folder_is_read_whatever_its_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    place = folder(tmp_path, *names, "notes.txt", "README.md", ".hidden.jsonl", "__pycache__/x.json")
    assert answers(place) == list(names)
    assert Imported(place)()["completion"].to_list() == list(names)
    where = [where for where, _ in records(place)]
    assert where[0].startswith(str(tmp_path / names[0]))


def test_files_that_cannot_be_read_together_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds b.csv beside .jsonl, .json, .parquet files"):
        answers(folder(tmp_path, "a.jsonl", "b.csv"))


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` without a network, and with a cache of its own."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("names", "split", "left"),
    [
        (("chat.jsonl", "code.jsonl", "math-train.jsonl"), "train", "chat.jsonl, code.jsonl"),
        (("a.jsonl", "b-test.jsonl"), "test", "a.jsonl"),
        (("a.jsonl", "a2.jsonl", "b.parquet"), "train", "b.parquet"),
        (("train/a.jsonl", "extra/b.jsonl"), "train", "extra/b.jsonl"),
    ],
)
def test_files_that_belong_to_no_split_are_named(tmp_path: Path, names: tuple[str, ...], split: str, left: str) -> None:
    place = folder(tmp_path / "data", *names)
    for source in (lambda: answers(place, split), Hub(place, split, prompt="prompt")):
        with pytest.raises(SourceError) as told:
            source()
        assert f"puts {left} into no split" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_a_folder_with_the_cache_of_datasets_in_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds the cache of `datasets` .*: set HF_HOME to a place elsewhere"):
        Hub(folder(tmp_path, "train.jsonl"), "train", prompt="prompt")()


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_a_split_is_taken_where_all_files_belong_to_one(tmp_path: Path) -> None:
    place = folder(tmp_path / "data", "train.jsonl", "test.jsonl", "notes.txt")
    assert answers(place, "test") == ["test.jsonl"]
    assert Hub(place, "test", prompt="prompt")()["reference"].to_list() == ["test.jsonl"]


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_a_folder_that_says_itself_what_its_splits_are_is_believed(tmp_path: Path) -> None:
    import datasets

    place = folder(tmp_path / "data", "a.jsonl", "b.jsonl", "c.jsonl")
    listed = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: a.jsonl\n---\n"
    (tmp_path / "data" / "README.md").write_text(listed)
    assert answers(place) == ["a.jsonl"] and Hub(place, "train", prompt="prompt")().height == 1
    saved = str(tmp_path / "saved")
    rows = [{"prompt": "Which?", "answer": name} for name in "xy"]
    datasets.DatasetDict(
        train=datasets.Dataset.from_list(rows), test=datasets.Dataset.from_list(rows[:1])
    ).save_to_disk(saved)
    assert answers(saved) == ["x", "y"] and answers(saved, "test") == ["x"]
    with pytest.raises(SourceError, match="its splits are train, test"):
        answers(saved, "dev")
    assert answers(folder(tmp_path / "tables", "a.csv", "b.csv")) == ["a.csv", "b.csv"]


@pytest.mark.slow
def test_a_folder_is_not_taken_for_another_of_its_name(tmp_path: Path) -> None:
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/*.parquet\n---\n"
    for above, texts in (("one", ["a", "b"]), ("two", ["c", "d", "e"])):
        folder = tmp_path / above / "mine"
        (folder / "data").mkdir(parents=True)
        (folder / "README.md").write_text(card)
        pl.DataFrame({"text": texts}).write_parquet(folder / "data" / "train.parquet")
        assert [row["text"] for _, row in records(str(folder))] == texts
