"""The forms in which others publish records: each is read whole, or refused in a sentence."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flywheel.errors import SourceError
from flywheel.exchange.forms.entries import Kind, Told, entries
from flywheel.exchange.forms.records import records

Row = Mapping[str, Any]


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def turns(*said: str) -> list[dict[str, str]]:
    """ShareGPT's messages from `role: text`."""
    return [{"from": role, "value": text} for role, _, text in (each.partition(": ") for each in said)]


def read(tmp_path: Path, kind: Kind, row: Row, columns: Sequence[str] = ()) -> dict[str, Any]:
    """The one entry of a record; its chat as lines, and `unused` columns."""
    path, told = tmp_path / "row.jsonl", Told()
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (entry,) = entries(records(str(path)), kind, columns, told).iter_rows(named=True)
    lines = [f"{message['role']}: {message['content']}" for message in entry["chat"]]
    return {**entry, "chat": lines, "unused": sorted(told.unused)}


BRIEF = "system: Be brief."
SKY = [BRIEF, "user: Which colour is the sky?"]
TALK = ["user: Two and two?", "assistant: Four.", "user: And one more?"]
FIVE = [*turns(f"human: {TALK[0][6:]}", f"gpt: {TALK[1][11:]}", f"human: {TALK[2][6:]}")]
CALLED = ["user: Weather in Oslo?", 'assistant: weather({"city": "Oslo"})', "tool: Rain."]
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo", "day": None}}}
FORMS: dict[str, tuple[Kind, Row, list[str], str | None, str | None]] = {
    "LLaMA-Factory's alpaca": (
        "generations",
        {
            **{"instruction": "And one more?", "input": "", "output": "Five.", "system": "Be brief."},
            **{"history": [["Two and two?", "Four."]]},
        },
        [BRIEF, *TALK],
        "Five.",
        None,
    ),
    "LLaMA-Factory's alpaca with pairs": (
        "preferences",
        {"instruction": "Translate.", "input": "chat", "chosen": "cat", "rejected": "talk", "history": None},
        ["user: Translate.\n\nchat"],
        "cat",
        "talk",
    ),
    "LLaMA-Factory's sharegpt with a tool": (
        "generations",
        {
            "conversations": turns(
                "human: Weather in Oslo?",
                'function_call: {"name": "weather", "arguments": {"city": "Oslo"}}',
                "observation: Rain.",
                "gpt: It rains.",
            )
        },
        CALLED,
        "It rains.",
        None,
    ),
    "LLaMA-Factory's sharegpt with pairs": (
        "preferences",
        {"conversations": FIVE, "chosen": turns("gpt: Five.")[0], "rejected": turns("gpt: Six.")[0]},
        TALK,
        "Five.",
        "Six.",
    ),
    "LLaMA-Factory's KTO": (
        "preferences",
        {"conversations": [*FIVE, *turns("gpt: Six.")], "kto_tag": False},
        TALK,
        None,
        "Six.",
    ),
    "ShareGPT with a system message": (
        "generations",
        {"id": "x1", "conversations": turns("system: Be brief.", f"human: {SKY[1][6:]}", "gpt: Blue.")},
        SKY,
        "Blue.",
        None,
    ),
    "OpenAI's messages with a tool": (
        "generations",
        {
            "messages": [
                user("Weather in Oslo?"),
                assistant(None, tool_calls=[CALL]),
                {"role": "tool", "tool_call_id": "1", "content": "Rain."},
                assistant("It rains.", tool_calls=None),
            ]
        },
        CALLED,
        "It rains.",
        None,
    ),
    "TRL's tools": (
        "generations",
        {
            "prompt": [user("Weather in Oslo?")],
            "completion": [assistant("", tool_calls=[CALL])],
            "tools": '[{"name": "weather"}]',
        },
        ['system: Tools: [{"name": "weather"}]', CALLED[0]],
        'weather({"city": "Oslo"})',
        None,
    ),
    "ms-swift's pairs": (
        "preferences",
        {"messages": [system("Be brief."), user(SKY[1][6:]), assistant("Blue.")], "rejected_response": "Green."},
        SKY,
        "Blue.",
        "Green.",
    ),
    "ms-swift's query": (
        "generations",
        {"query": "And one more?", "response": "Five.", "history": [["Two and two?", "Four."]], "system": ""},
        TALK,
        "Five.",
        None,
    ),
    "ms-swift's conversation": (
        "generations",
        {
            "conversation": [
                {"human": "Two and two?", "assistant": "Four."},
                {"human": "And one more?", "assistant": "Five."},
            ]
        },
        TALK,
        "Five.",
        None,
    ),
    "a prompt of messages": ("prompts", {"messages": [system("Be brief."), user(SKY[1][6:])]}, SKY, None, None),
    "UltraFeedback, binarized": (
        "preferences",
        {
            **{"prompt": SKY[1][6:], "prompt_id": "7", "messages": [user(SKY[1][6:]), assistant("Blue.")]},
            **{"chosen": [user(SKY[1][6:]), assistant("Blue.")], "score_chosen": 8.0, "score_rejected": 2.0},
            "rejected": [user(SKY[1][6:]), assistant("Green.")],
        },
        SKY[1:],
        "Blue.",
        "Green.",
    ),
    "the first question beside a whole chat": (
        "generations",
        {
            "prompt": "Two and two?",
            "messages": [user("Two and two?"), assistant("Four."), user("And one more?"), assistant("Five.")],
        },
        TALK,
        "Five.",
        None,
    ),
    "Orca's pairs": (
        "preferences",
        {"system": "Be brief.", "question": SKY[1][6:], "chosen": "Blue.", "rejected": "Green."},
        SKY,
        "Blue.",
        "Green.",
    ),
    "distilabel's pairs": (
        "preferences",
        {
            **{"system": "Be brief.", "input": SKY[1][6:], "chosen": "Blue.", "rejected": "Green."},
            **{"status": "unchanged", "order": ["rejected", "chosen"], "generations": ["Green.", "Blue."]},
        },
        SKY,
        "Blue.",
        "Green.",
    ),
    "Anthropic's transcripts": (
        "preferences",
        {
            side: "\n\nHuman: Two and two?\n\nAssistant: Four.\n\nHuman: And one more?\n\nAssistant: " + text
            for side, text in (("chosen", "Five."), ("rejected", "Six."))
        },
        TALK,
        "Five.",
        "Six.",
    ),
    "HelpSteer3": (
        "comparisons",
        {"context": [system("Be brief."), user(SKY[1][6:])], "response1": "Green.", "response2": "Blue."}
        | {"overall_preference": 2, "individual_preference": [{"score": 2}]},
        SKY,
        "Blue.",
        "Green.",
    ),
    "PKU-SafeRLHF": (
        "comparisons",
        {"prompt": SKY[1][6:], "response_0": "Blue.", "response_1": "Green.", "better_response_id": 0},
        SKY[1:],
        "Blue.",
        "Green.",
    ),
    "MT-bench's humans, the first turn": (
        "comparisons",
        {
            **{"model_a": "one", "model_b": "two", "winner": "model_b", "judge": "expert_3", "turn": 1},
            "conversation_a": [user(SKY[1][6:]), assistant("Green."), user("Sure?"), assistant("No.")],
            "conversation_b": [user(SKY[1][6:]), assistant("Blue."), user("Sure?"), assistant("Yes.")],
        },
        SKY[1:],
        "Blue.",
        "Green.",
    ),
    "Nemotron's": (
        "generations",
        {"input": [user(SKY[1][6:])], "output": "Blue.", "system_prompt": "Be brief.", "reasoning": "off"},
        SKY,
        "Blue.",
        None,
    ),
    "a thought": (
        "generations",
        {"messages": [user("2+3?"), assistant("5", reasoning_content="Two and three.", thinking="Two and three.")]},
        ["user: 2+3?"],
        "<think>\nTwo and three.\n</think>\n\n5",
        None,
    ),
    "a thought in a part": (
        "generations",
        {
            "prompt": "2+3?",
            "completion": [assistant([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "5"}])],
        },
        ["user: 2+3?"],
        "<think>\nHm.\n</think>\n\n5",
        None,
    ),
    "a thought in a column": (
        "generations",
        {"prompt": "2+3?", "answer": "5", "thinking": "Hm."},
        ["user: 2+3?"],
        "<think>\nHm.\n</think>\n\n5",
        None,
    ),
    "parts": (
        "generations",
        {
            "messages": [
                user([{"type": "text", "text": text} for text in ("Which colour", "is the sky?")]),
                assistant([{"type": "text", "text": "Blue."}]),
            ]
        },
        ["user: Which colour\nis the sky?"],
        "Blue.",
        None,
    ),
    "Dolly's": (
        "generations",
        {"instruction": "Who wrote it?", "context": "Ada wrote it.", "response": "Ada.", "category": "qa"},
        ["user: Who wrote it?\n\nAda wrote it."],
        "Ada.",
        None,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_published_form_is_read_whole(tmp_path: Path, form: str) -> None:
    kind, row, chat, text, other = FORMS[form]
    found = read(tmp_path, kind, row)
    assert (found["chat"], found["text"], found["other"]) == (chat, text, other)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_says_the_same_in_a_table_where_other_rows_have_more(tmp_path: Path, form: str) -> None:
    kind, row, chat, text, other = FORMS[form]
    pl.DataFrame([row], strict=False).write_parquet(tmp_path / "rows.parquet")
    frame = entries(records(str(tmp_path / "rows.parquet")), kind)
    assert frame["chat"].to_list() == [
        [dict(zip(("role", "content"), line.split(": ", 1), strict=True)) for line in chat]
    ]
    assert frame.select("text", "other").rows() == [(text, other)]


REFUSED: dict[str, tuple[Kind, Row, str]] = {
    "a picture": (
        "generations",
        {"messages": [user([{"type": "image_url", "image_url": {"url": "x"}}]), assistant("A cat.")]},
        "a message has a part of type 'image_url', of which no text can be made",
    ),
    "pictures beside a chat": (
        "generations",
        {"messages": [user("<image>What?"), assistant("A cat.")], "images": ["cat.png"]},
        "has images, of which no text can be made",
    ),
    "two systems": (
        "generations",
        {"system": "Be brief.", "messages": [system("Be long."), user("q"), assistant("a")]},
        "system and the chat's own system message differ",
    ),
    "two prompts": (
        "generations",
        {"prompt": "Why?", "messages": [user("How?"), assistant("So.")]},
        "the prompt and a chat that the record holds differ",
    ),
    "two prompts in two columns": (
        "prompts",
        {"prompt": "Why?", "question": "How?"},
        "prompt and question differ: --columns prompt=NAME",
    ),
    "two answers": (
        "generations",
        {"question": "Why?", "answer": "So.", "response": "Because."},
        "answer and response differ: --columns answer=NAME",
    ),
    "two chats": (
        "generations",
        {"messages": [user("q"), assistant("a")], "conversations": turns("human: q", "gpt: b")},
        "messages and conversations differ",
    ),
    "another chosen answer in messages": (
        "preferences",
        {"prompt": "q", "chosen": "a", "rejected": "b", "messages": [user("q"), assistant("c")]},
        "messages end in another answer than the record has beside them",
    ),
    "two thoughts": (
        "generations",
        {"messages": [user("q"), assistant("<think>x</think>a", reasoning_content="y")]},
        "two thoughts that differ",
    ),
    "a thought before two answers": (
        "preferences",
        {"prompt": "q", "chosen": "a", "rejected": "b", "thinking": "Hm."},
        "nobody says of which of the two answers",
    ),
    "options": ("prompts", {"question": "Which?", "choices": ["a", "b"]}, "has choices beside its question"),
    "a document": (
        "generations",
        {"question": "Who?", "context": "Ada.", "answer": "Ada."},
        "has context beside its question, and nobody says how the two make one: --columns prompt=NAME",
    ),
    "a history of another chat": (
        "generations",
        {"history": [["a", "b"]], "prompt": [user("c"), assistant("d"), user("e")], "answer": "f"},
        "the chat does not go on from its history",
    ),
    "a history that is text": (
        "prompts",
        {"prompt": "q", "history": "a, b"},
        "history must be pairs of a question and its answer, not 'a, b'",
    ),
    "results in another order": (
        "generations",
        {
            "messages": [
                user("q"),
                assistant("", tool_calls=[{**CALL, "id": "1"}, {**CALL, "id": "2"}]),
                {"role": "tool", "tool_call_id": "2", "content": "x"},
                {"role": "tool", "tool_call_id": "1", "content": "y"},
                assistant("a"),
            ]
        },
        "results of tools must come in the order of their calls",
    ),
    "a call without a name": (
        "generations",
        {"messages": [user("q"), assistant("", tool_calls=[{"function": {"arguments": "{}"}}])]},
        "the call of a tool must have a name",
    ),
    "an answer's chat of another question": (
        "preferences",
        {"prompt": [user("q")], "chosen": [user("r"), assistant("a")], "rejected": [user("r"), assistant("b")]},
        "the prompt and a chat that the record holds differ",
    ),
    "MT-bench's second turn": (
        "comparisons",
        {
            **{"winner": "tie", "turn": 2},
            "conversation_a": [user("q"), assistant("a"), user("r"), assistant("b")],
            "conversation_b": [user("q"), assistant("c"), user("r"), assistant("d")],
        },
        "the two answers are not to the same prompt",
    ),
    "a preference off the scale": (
        "comparisons",
        {"prompt": "q", "output_1": "a", "output_2": "b", "preference": 3},
        "preference must lie between 1 (the first) and 2 (the second), not 3",
    ),
    "two verdicts": (
        "comparisons",
        {"prompt": "q", "response_A": "a", "response_B": "b", "label": "A>B", "winner": "model_b"},
        "label and winner name different winners",
    ),
    "a verdict that is none": (
        "comparisons",
        {"prompt": "q", "response_A": "a", "response_B": "b", "label": "A?B"},
        "label must be A>B, B>A or A=B, not 'A?B'",
    ),
    "segments": ("generations", {"segments": [{"label": True, "text": "x"}]}, "generations need prompt and answer"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_cannot_be_kept_is_refused_in_a_sentence(tmp_path: Path, form: str) -> None:
    kind, row, words = REFUSED[form]
    with pytest.raises(SourceError) as told:
        read(tmp_path, kind, row)
    assert words in str(told.value) and "row.jsonl, line 1" in str(told.value)
    assert "\n" not in str(told.value)


def test_lists_without_end_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(SourceError, match="line 1: lists within lists, too deep to be used"):
        entries([("a file, line 1", {"prompt": "q", "deep": deep})], "prompts")


def test_the_user_says_which_column_counts(tmp_path: Path) -> None:
    row = {"question": "Why?", "answer": "So.", "response": "Because.", "choices": ["a"]}
    found = read(tmp_path, "generations", row, ["answer=response,prompt=question"])
    assert (found["chat"], found["text"], found["unused"]) == (["user: Why?"], "Because.", ["answer", "choices"])
    both = {"prompt": "Why?", "messages": [user("How?"), assistant("So.")]}
    found = read(tmp_path, "generations", both, ["messages=messages"])
    assert (found["chat"], found["unused"]) == (["user: How?"], ["prompt"])


def test_a_column_that_the_kind_does_not_ask_for_may_say_what_it_likes(tmp_path: Path) -> None:
    row = {"prompt": "Why?", "answer": "So.", "response": "Because.", "label": "x", "images": []}
    assert read(tmp_path, "prompts", row)["unused"] == ["answer", "label", "response"]


@pytest.mark.parametrize(
    ("said", "verdict", "first"),
    [
        ({"label": "A>B"}, "a", "left"),
        ({"label": "B>>A"}, "a", "right"),
        ({"label": "A<B"}, "a", "right"),
        ({"label": "A=B"}, "tie", "left"),
        ({"winner": "tie (bothbad)"}, "tie", "left"),
        ({"winner": "small", "model_a": "large", "model_b": "small"}, "a", "right"),
        ({"preference": 1}, "a", "left"),
        ({"preference": 1.4999}, "a", "left"),
        ({"preference": 1.5}, "tie", "left"),
        ({"preference": 0}, "tie", "left"),
        ({"preference": 1.6}, "a", "right"),
        ({"preference": None}, None, "left"),
        ({"preference": float("nan")}, None, "left"),
        ({"preference_strength": -3}, "a", "left"),
        ({"preference_strength": 0}, "tie", "left"),
        ({"better_response_id": 1}, "a", "right"),
    ],
)
def test_a_verdict_is_read_as_its_publisher_means_it(tmp_path: Path, said: Row, verdict: str, first: str) -> None:
    found = read(tmp_path, "comparisons", {"prompt": "q", "response_A": "left", "response_B": "right", **said})
    assert (found["verdict"], found["text"]) == (verdict, first)
    assert found["order"] == ("ab" if first == "left" else "ba")  # the left one was shown first


def test_part_of_a_preference_is_a_score(tmp_path: Path) -> None:
    row = {"instruction": "q", "output_1": "a", "output_2": "b", "preference": 1.9}
    found = read(tmp_path, "comparisons", row)
    assert (found["text"], found["score"], found["other"], found["other_score"]) == ("b", 0.9, "a", 0.1)


def test_columns_nobody_reads_are_told_with_the_members_of_messages(tmp_path: Path) -> None:
    row = {"id": 1, "url": "x", "empty": None, "messages": [user("q"), assistant("a", weight=1.0, refusal=None)]}
    assert read(tmp_path, "generations", row)["unused"] == ["id", "messages.weight", "url"]
