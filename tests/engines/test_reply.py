"""What a server replies: nothing but a text that ended itself is `stop`, and what is no number or no text is told."""

import json
import math
from typing import Any

import polars as pl
import pytest

from filters.text_filters import Finished
from flywheel.engines.reply import Choice, answers_frame, check_model, read_choices
from flywheel.errors import EngineError
from flywheel.protocols import Sampling
from flywheel.store.schema import JUDGED
from flywheel.text.thoughts import after_thought

FIVE = {"type": "text", "text": "five"}
CALL = {"type": "function", "function": {"name": "f", "arguments": "{}"}}


def read(message: Any, reason: Any = "stop", logprobs: Any = None, tokens: int = 3) -> Choice:
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": logprobs}
    (found,) = read_choices({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": tokens}})
    return found


def scored(*logprobs: Any, part: str = "content") -> dict[str, Any]:
    return {part: [{"token": "a", "logprob": logprob} for logprob in logprobs]}


def finished(choice: Choice) -> bool:
    answers = answers_frame([[choice]], Sampling()).select("text", "finish_reason")
    judged = pl.concat([pl.DataFrame(schema=JUDGED), answers], how="diagonal").lazy()
    return len(Finished()(judged).collect()) == 1


@pytest.mark.parametrize(
    ("message", "reason", "text", "told"),
    [
        ({"content": "four"}, "stop", "four", "stop"),
        ({"content": ""}, "stop", "", "stop"),  # the model ended at once
        ({"content": "four"}, "eos_token", "four", "stop"),
        ({"content": "four"}, "STOP", "four", "stop"),
        ({"content": "fo"}, "length", "fo", "length"),
        ({"content": "fo"}, "max_tokens", "fo", "length"),
        ({"content": "MAX"}, "MAX_TOKENS", "MAX", "length"),
        ({"content": "fo"}, "content_filter", "fo", "content_filter"),
        ({"content": "fo"}, "abort", "fo", "abort"),
        ({"content": "fo"}, "error", "fo", "error"),
        ({"content": "fo"}, "repetition", "fo", "repetition"),
        ({"content": "fo"}, None, "fo", "unknown"),
        ({"content": "fo"}, "", "fo", "unknown"),
        ({"content": None}, "stop", "", "empty"),
        ({"content": None}, None, "", "unknown"),
        ({"content": None, "tool_calls": [CALL]}, "tool_calls", "", "tool_calls"),
        ({"content": "I ask f.", "tool_calls": [CALL]}, "stop", "I ask f.", "tool_calls"),
        ({"tool_calls": [CALL]}, "stop", "", "tool_calls"),
        ({"content": None, "refusal": "I can't."}, "stop", "I can't.", "refusal"),
        ({"content": [{"type": "refusal", "refusal": "I can't."}]}, "stop", "I can't.", "refusal"),
        ({"content": "four", "refusal": None, "tool_calls": []}, "stop", "four", "stop"),
    ],
)
def test_why_an_answer_ended_is_what_was_said_and_only_a_text_that_ended_itself_is_finished(
    message: dict[str, Any], reason: Any, text: str, told: str
) -> None:
    choice = read(message, reason)
    assert (choice.text, choice.finish_reason) == (text, told)
    assert finished(choice) == (told == "stop")


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}],
        [{"type": "output_text", "text": "a b"}],
        [{"type": "text", "text": "a "}, "b"],
        {"type": "text", "text": "a b"},
    ],
)
def test_parts_of_a_text_are_joined(content: Any) -> None:
    assert read({"content": content}).text == "a b"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ([{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "x"}}], "image_url"),
        ([{"type": "text", "text": 5}], "text"),
        ({"answer": 4}, "None"),
        (4, "int"),
        ([["deep", 5]], "int"),
    ],
)
def test_what_is_no_text_is_refused_and_never_written_as_python_does(content: Any, kind: str) -> None:
    with pytest.raises(EngineError, match=rf"a part of the kind .*{kind}"):
        read({"content": content})


@pytest.mark.parametrize(
    "message",
    [
        {"content": "five", "reasoning_content": "2 and 3"},
        {"content": "five", "reasoning": "2 and 3"},
        {"content": "five", "reasoning": "2 and 3", "reasoning_content": "2 and 3"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "2 and 3"}]}, FIVE]},
        {"content": [{"type": "thinking", "thinking": "2 and 3"}, FIVE]},
    ],
)  # fmt: skip
def test_a_thought_stays_in_front_of_its_answer(message: dict[str, Any]) -> None:
    choice = read(message, tokens=9)
    assert choice.text == "<think>2 and 3</think>five" and choice.finish_reason == "stop"
    assert after_thought(choice.text) == "five" and choice.tokens == 9


def test_a_thought_without_an_answer_is_no_answer() -> None:
    whole = read({"content": None, "reasoning_content": "so 5"})
    assert whole.finish_reason == "reasoning" and after_thought(whole.text) == ""
    cut = read({"content": "", "reasoning_content": "so"}, "length")
    assert cut.text == "<think>so" and cut.finish_reason == "length" and after_thought(cut.text) is None


def test_tokens_of_a_thought_are_counted_and_its_logprob_is_not_that_of_the_answer_alone() -> None:
    thought = {"content": "five", "reasoning_content": "2 and 3"}
    alone = read(thought, logprobs=scored(-1.0), tokens=9)
    assert alone.tokens == 9 and alone.logprob is None
    whole = read(thought, logprobs=scored(-1.0, -1.0, -1.0), tokens=3)
    assert whole.tokens == 3 and whole.logprob == -3.0
    apart = read(thought, logprobs={**scored(-1.0, -2.0, part="reasoning_content"), **scored(-3.0)}, tokens=3)
    assert apart.tokens == 3 and apart.logprob == -6.0


def test_several_answers_are_told_apart_by_their_logprobs() -> None:
    choices = [
        {"index": 1 - at, "message": {"content": str(at), **more}, "finish_reason": "stop", "logprobs": logprobs}
        for at, more, logprobs in ((0, {}, scored(-1.0, -1.0)), (1, {"reasoning": "well"}, scored(-2.0)))
    ]
    for told, tokens in ((3, [1, 2]), (8, [None, 2])):  # 8: the thought is not among the log-probabilities
        found = read_choices({"choices": choices, "usage": {"completion_tokens": told}})
        assert [each.tokens for each in found] == tokens


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf, None, "-1.0", True, -9999.0])
def test_a_log_probability_that_is_no_number_is_null(value: Any) -> None:
    logprobs = json.loads(json.dumps(scored(-1.0, value)))
    frame = answers_frame([[read({"content": "ab"}, logprobs=logprobs)]], Sampling())
    assert frame["logprob"].to_list() == [None] and frame["tokens"].to_list() == [2]


@pytest.mark.parametrize("message", [None, {}, {"role": "assistant"}, "four"])
def test_a_reply_without_a_message_is_asked_for_again(message: Any) -> None:
    with pytest.raises((KeyError, TypeError, AttributeError)):
        read(message)


@pytest.mark.parametrize(
    ("told", "name", "same"),
    [
        ("m", "m", True),
        (None, "m", True),
        ("", "m", True),
        ("gpt-4o-2024-08-06", "gpt-4o", True),
        ("claude-x-20250929", "claude-x-latest", True),
        ("llama3:latest", "llama3", True),
        ("gemini-1.5-pro-002", "gemini-1.5-pro", True),
        ("gpt-4o-mini", "gpt-4o", False),
        ("gpt-4o-mini-2024-07-18", "gpt-4o", False),
        ("gpt-4-1106", "gpt-4-0613", False),
        ("qwen-72b", "qwen-7", False),
        ("other", "m", False),
    ],
)
def test_the_words_of_another_model_are_refused(told: Any, name: str, same: bool) -> None:
    if same:
        check_model(told, [name])
    else:
        with pytest.raises(EngineError, match=f"answers as {told}, where {name} was asked"):
            check_model(told, [name])
