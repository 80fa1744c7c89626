"""How a server's answer ended: it is kept as it was said, and only an answer that ended by itself is finished."""

from collections.abc import Iterator
from typing import Any

import pytest

from filters.text_filters import Finished
from flywheel.protocols import Sampling
from tests.engines.test_endpoint import Server, listening_server, load, reply

ENDED: list[tuple[dict[str, Any], str | None, bool]] = [
    ({"content": "cut in the mid"}, "content_filter", False),
    ({"content": None, "reasoning_content": "long thoughts. so 5"}, "stop", False),
    (
        {"content": None, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        "tool_calls",
        False,
    ),
    ({"content": "half"}, None, False),
    ({"content": "half"}, "abort", False),
    ({"content": None, "refusal": "I can't help."}, "stop", False),
    ({"content": "x"}, "max_tokens", False),
    ({"content": [{"type": "text", "text": "parts"}]}, "stop", True),
]


@pytest.fixture
def server() -> Iterator[Server]:
    with listening_server() as server:
        yield server


@pytest.mark.slow
def test_an_answer_is_finished_where_it_ended_by_itself(server: Server) -> None:
    for message, reason, _ in ENDED:
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
        server.replies.append(reply({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 3}}))
    chats = [[{"role": "user", "content": str(place)}] for place in range(len(ENDED))]
    answers = load(server, concurrency=1).chat(chats, Sampling(max_tokens=8), list(range(len(ENDED))))
    right = [place for place, (*_, finished) in enumerate(ENDED) if finished]
    assert Finished()(answers.lazy()).collect()["chat"].to_list() == right
    assert [place for place, reason in enumerate(answers["finish_reason"]) if reason == "stop"] == right
    assert answers["text"][right[0]] == "parts"
