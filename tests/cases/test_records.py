"""Records of others: a field that changes what is asked or answered arrives, and no text is made of what is none."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from data.files import Jsonl, Parquet
from flywheel.errors import FlywheelError
from flywheel.exchange.forms.entries import Kind, entries
from flywheel.exchange.forms.records import records


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


WEATHER, GET = ({"function": {"name": name, "arguments": "{}"}} for name in ("weather", "get"))
SYSTEM = {"role": "system", "content": "Be brief."}
SAID_TWICE = [user("yes"), assistant("really?"), user("yes")]
IMPORTED: dict[str, tuple[Kind, dict[str, Any], str]] = {
    "a system beside two answers": (
        "preferences",
        {"system": "Answer in French only.", "question": "Colour of the sky?", "chosen": "Bleu.", "rejected": "Blue."},
        "French",
    ),
    "a system beside a chat": (
        "generations",
        {"system": "Be brief.", "messages": [user("q"), assistant("a")]},
        "brief",
    ),
    "earlier turns": (
        "generations",
        {"instruction": "and now?", "output": "c", "system": "sys", "history": [["first?", "b"]]},
        "first?",
    ),
    "a thought under one name": (
        "generations",
        {"messages": [user("2+3?"), assistant("5", reasoning_content="two and three")]},
        "two and three",
    ),
    "a thought under another name": (
        "generations",
        {"messages": [user("2+3?"), assistant("5", thinking="two and three")]},
        "two and three",
    ),
    "a call for an answer": (
        "generations",
        {"messages": [user("weather?"), assistant("", tool_calls=[WEATHER])]},
        "weather(",
    ),
    "a call before the answer": (
        "generations",
        {
            "messages": [
                user("weather?"),
                assistant("", tool_calls=[GET]),
                {"role": "tool", "content": "5"},
                assistant("five"),
            ]
        },
        "get",
    ),
    "tools": ("generations", {"tools": [{"name": "get"}], "messages": [user("q"), assistant("a")]}, "get"),
    "answers that repeat the last turn": (
        "preferences",
        {
            "prompt": [SYSTEM, user("q")],
            "chosen": [user("q"), assistant("a")],
            "rejected": [user("q"), assistant("b")],
        },
        "brief",
    ),
    "answers that repeat what was said twice": (
        "preferences",
        {
            "prompt": SAID_TWICE,
            "chosen": [user("yes"), assistant("a")],
            "rejected": [user("yes"), assistant("b")],
        },
        "really?",
    ),
}


@pytest.mark.parametrize("name", IMPORTED)
def test_a_record_is_imported_with_what_belongs_to_it(tmp_path: Path, name: str) -> None:
    kind, row, part = IMPORTED[name]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    try:
        imported = entries(records(str(path)), kind).select("chat", "text", "other").row(0)
    except FlywheelError as refusal:
        assert str(path) in str(refusal)
    else:
        assert part in str(imported)


def lines(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


CALLING = [
    user("x"),
    assistant("calling", tool_calls=[{"function": {"name": "f"}}]),
    {"role": "tool", "content": "5"},
]
LATE = [*({"question": f"q{i}"} for i in range(1000)), {"question": "z", "answer": "5"}]
READ: dict[str, tuple[bytes, str, list[Any]]] = {
    "parts of a message": (
        lines({"question": [user([{"type": "text", "text": "hi"}])], "answer": "1"}),
        "chat",
        [[user("hi")]],
    ),
    "a key that comes late": (lines(*LATE), "reference", [None] * 1000 + ["5"]),
    "a mark of byte order": ("\ufeff".encode() + lines({"question": "a", "answer": "1"}), "reference", ["1"]),
}
REFUSED: dict[str, tuple[bytes, str]] = {
    "a call of a tool": (lines({"question": CALLING}), "tool_calls"),
    "several known answers": (lines({"question": "a", "answer": ["1", "one"]}), "a list"),
    "an object": (lines({"question": "a", "answer": {"value": "1"}}), "an object"),
    "half a character": (b'{"question":"a\\ud83d","answer":"1"}\n', "half a character"),
}


@pytest.mark.parametrize("name", READ)
def test_a_line_is_read_as_what_it_is(tmp_path: Path, name: str) -> None:
    content, column, right = READ[name]
    (tmp_path / "rows.jsonl").write_bytes(content)
    assert Jsonl(tmp_path / "rows.jsonl")()[column].to_list() == right


@pytest.mark.parametrize("name", REFUSED)
def test_a_line_of_which_no_text_can_be_made_is_refused(tmp_path: Path, name: str) -> None:
    content, words = REFUSED[name]
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(FlywheelError, match=words):
        Jsonl(tmp_path / "rows.jsonl", reference=None if "answer" not in content.decode() else "answer")()


def test_an_object_in_a_table_is_refused(tmp_path: Path) -> None:
    answers = [{"value": "1", "aliases": ["one"]}]
    pl.DataFrame({"question": ["a"], "answer": answers}).write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(FlywheelError, match="an object"):
        Parquet(tmp_path / "rows.parquet")()
