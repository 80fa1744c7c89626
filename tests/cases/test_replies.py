"""Replies of judges: what is read is what they say, and nothing where they say no score or name no winner."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from judges.models.comparisons import verdict_after_thought
from judges.models.listwise import ranking
from judges.models.pairwise import points
from judges.models.rubric import Rubric

REPLIES = json.loads(Path(__file__).with_name("replies.json").read_text(encoding="utf-8"))


def score(reply: str) -> float | str | None:
    """The default rubric's score, or else the status."""
    read = Rubric().verdict(reply)
    return read.score if read.status == "ok" else read.status


def both_points(reply: str) -> list[float] | None:
    """The points of both answers."""
    read = points(reply)
    return None if read is None else list(read)


READERS: dict[str, Callable[[str], Any]] = {
    "score": score,
    "winner": verdict_after_thought,
    "points": both_points,
    "order": lambda reply: ranking(reply, 2),
}


@pytest.mark.parametrize(
    ("reader", "reply", "right"), [(reader, *row) for reader, rows in REPLIES.items() for row in rows]
)
def test_a_reply_is_read_as_it_was_meant(reader: str, reply: str, right: Any) -> None:
    assert READERS[reader](reply) == right
