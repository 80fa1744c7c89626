"""What people wrote and ranked: first questions with their best replies, and judgments that agree with people."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from data.files import Hub, Jsonl, Parquet
from data.human import Agreeing, Answered, Oasst, ranked
from flywheel.errors import SourceError
from flywheel.store.schema import PROMPTS, WORKED
from judges.models.rubric import Rubric

RUBRIC = Rubric()


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Jsonl:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Jsonl(path)


def message(id: str, parent: str | None, text: str, rank: int | None = None, lang: str = "en") -> dict[str, Any]:
    role = "assistant" if parent and not parent.startswith("r") else "prompter"
    return {"message_id": id, "parent_id": parent, "text": text, "role": role, "lang": lang, "rank": rank}


TREES = [
    message("q2", None, "Second?"),
    message("q1", None, "First?"),
    message("r2", "q1", "worse", 1),
    message("r1", "q1", "best", 0),
    message("q3", None, "Alone?"),
    message("r3", "q3", "never ranked"),
    message("r4", "q2", "only", 0),
    message("q4", None, "¿Qué?", lang="es"),
    message("r5", "q4", "nada", 0, lang="es"),
    message("q5", "r1", "And then?"),
    message("r6", "q5", "later in the tree", 0),
    message("q6", None, "Mixed?"),
    message("r7", "q6", "otra", 0, lang="es"),
]


def test_first_questions_come_with_the_reply_that_people_ranked_first(tmp_path: Path) -> None:
    source = Oasst(messages=written(tmp_path / "trees.jsonl", TREES))
    frame = source()
    assert frame.schema == PROMPTS
    assert [chat[0]["content"] for chat in frame["chat"].to_list()] == ["Second?", "First?"]
    assert frame["reference"].to_list() == ["only", "best"]
    assert replace(source, limit=1)()["reference"].to_list() == ["only"]
    assert replace(source, lang="es")()["reference"].to_list() == ["nada"]
    assert ranked(source.messages)["reply"].to_list() == ["only", "best", "worse"]


@pytest.mark.slow
def test_the_same_trees_are_read_from_parquet_and_from_a_folder_of_datasets(tmp_path: Path) -> None:
    import datasets

    whole = pl.DataFrame(TREES)
    whole.write_parquet(tmp_path / "trees.parquet")
    datasets.DatasetDict({"train": datasets.Dataset.from_list(TREES)}).save_to_disk(str(tmp_path / "hub"))
    for table in (Parquet(tmp_path / "trees.parquet"), Hub(str(tmp_path / "hub"), split="train")):
        assert Oasst(messages=table)()["reference"].to_list() == ["only", "best"]


def test_trees_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no column 'rank'"):
        Oasst(
            messages=written(tmp_path / "a.jsonl", [{"message_id": "1", "parent_id": None} | dict.fromkeys(KEYS, "x")])
        )()
    with pytest.raises(SourceError, match="no ranked replies to first questions in 'de'"):
        Oasst(messages=written(tmp_path / "b.jsonl", TREES), lang="de")()
    with pytest.raises(SourceError, match=r"missing.jsonl: no such file"):
        Oasst(messages=Jsonl(tmp_path / "missing.jsonl"))()
    (tmp_path / "c.jsonl").write_text('{"message_id": "1"}\nnot json\n')
    with pytest.raises(SourceError, match="line 2: not valid JSON"):
        Oasst(messages=Jsonl(tmp_path / "c.jsonl"))()


KEYS = ("text", "role", "lang")


def test_prompts_with_a_known_answer_are_worked_examples(tmp_path: Path) -> None:
    rows = [{"question": "2+2?", "judgment": "Score: 4"}, {"question": "Why?", "judgment": None}]
    source = written(tmp_path / "eft.jsonl", rows)
    worked = Answered(source=Jsonl(source.path, prompt="question", reference="judgment"))()
    assert worked.schema == WORKED
    assert worked.rows() == [([{"role": "user", "content": "2+2?"}], "Score: 4")]
    with pytest.raises(SourceError, match="has no references"):
        Answered(source=Jsonl(source.path, reference=None))()


def agreeing(folder: Path, scores: Mapping[str, Sequence[object]]) -> list[str]:
    """The judgments that are kept of those with these scores, one for each rank from 0 on."""
    rows = [
        {"question": question, "reply": f"reply {rank}", "rank": rank, "judgment": f"{question}{rank}. Score: {score}"}
        for question, each in scores.items()
        for rank, score in enumerate(each)
    ]
    return Agreeing(rows=written(folder / "judged.jsonl", rows), judge=RUBRIC)()["completion"].to_list()


@pytest.mark.parametrize(
    ("scores", "agrees"),
    [
        ([5, 3, 1], True),
        ([4.5, 4], True),
        ([3, 4], False),
        ([4, 4], False),
        ([5, 3, 4], False),
        ([5, 3, 3], False),
        ([5, "none"], False),
        ([5, 9], False),
        ([5], False),
    ],
)
def test_judgments_are_kept_where_they_rank_replies_as_people_did(
    tmp_path: Path, scores: list[object], agrees: bool
) -> None:
    kept = agreeing(tmp_path, {"other": [2.5, 0.5], "this": scores})
    assert {text[:5] for text in kept} == (
        {"other", "this0"[:5]} | {f"this{at}" for at in range(len(scores))} if agrees else {"other"}
    )


def test_two_judgments_on_a_reply_must_both_agree(tmp_path: Path) -> None:
    def kept(third: int) -> int:
        scores = [(0, 5), (0, third), (1, 3), (1, 2)]
        rows = [{"question": "Q", "reply": f"{rank}", "rank": rank, "judgment": f"Score: {s}"} for rank, s in scores]
        return len(Agreeing(rows=written(tmp_path / "j.jsonl", rows), judge=RUBRIC)())

    assert kept(4) == 4
    with pytest.raises(SourceError, match="no judgments rank the replies to a question as people did"):
        kept(3)


def test_the_most_frequent_score_is_thinned_out_to_the_second(tmp_path: Path) -> None:
    scores = {f"q{at}": [5, 4] for at in range(3)} | {f"r{at}": [4, at % 3] for at in range(9)}
    kept = agreeing(tmp_path, scores)
    assert Counter(text.rpartition(" ")[2] for text in kept) == {"4": 3, "5": 3, "0": 3, "1": 3, "2": 3}
    assert kept == agreeing(tmp_path, scores)


def test_the_question_is_the_judges_own(tmp_path: Path) -> None:
    rows = [
        {"q": "Why?", "a": text, "place": at, "said": f"Score: {5 - at}"} for at, text in enumerate(["Good", "Bad"])
    ]
    table = written(tmp_path / "judged.jsonl", rows)
    worked = Agreeing(rows=table, judge=RUBRIC, question="q", reply="a", rank="place", judgment="said")()
    assert worked.schema == WORKED and worked["completion"].to_list() == ["Score: 5", "Score: 4"]
    first = worked["chat"][0][0]["content"]
    assert "Why?" in first and "\nGood\n" in first and "at most 100 words" in first
