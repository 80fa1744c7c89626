"""What a server's reply to a chat completion says: the text, why it ended, and how likely it was.

Nothing is made up: an answer that did not end itself keeps the server's word for it, a log-probability that is no
number is none, and what is no text is refused.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from flywheel.errors import EngineError
from flywheel.protocols import Sampling
from flywheel.store.schema import ANSWERS
from flywheel.text.thoughts import THOUGHTS

STOP, LENGTH, UNKNOWN = "stop", "length", "unknown"
OTHER_WORDS = {
    **dict.fromkeys(("eos", "eos_token", "end_turn", "stop_sequence"), STOP),
    **dict.fromkeys(("max_tokens", "max_length", "max_output_tokens"), LENGTH),
}
"""What servers say that mean `stop` and `length`."""
REASONING = ("reasoning_content", "reasoning")
"""Where servers put a thought that they have taken out of the text."""
TEXT_PARTS, THOUGHT_PARTS = ("text", "output_text"), ("thinking", "reasoning")
VERSION = re.compile(r"[-:@](latest|\d{3,4}|\d{6}|\d{8}|\d{4}-\d\d-\d\d)")
LEAST = -9999.0
"""What servers write for a log-probability of minus infinity, which JSON has not."""


class Choice(NamedTuple):
    """One answer, in the order of ANSWERS' columns after `index`."""

    text: str
    finish_reason: str
    prompt_tokens: int | None
    tokens: int | None  # None where the server tells only the sum over several answers
    logprob: float | None  # None where the server tells none


class Message(NamedTuple):
    """What a message holds."""

    thought: str
    text: str | None  # None where the message has no content
    refusal: str


def answers_frame(answers: Sequence[Sequence[Choice]], sampling: Sampling) -> pl.DataFrame:
    """ANSWERS. Greedy answers to one prompt are all the same: the server was asked for one."""
    copies = sampling.n if sampling.temperature == 0 else 1
    rows = [
        (position, index, *choice)
        for position, choices in enumerate(answers)
        for index, choice in enumerate(choice for choice in choices for _ in range(copies))
    ]
    return sound(pl.DataFrame(rows, schema=ANSWERS, orient="row"))


def sound(answers: pl.DataFrame) -> pl.DataFrame:
    """ANSWERS in which a log-probability that is no finite number is NULL, and a missing reason is told as one."""
    logprob = pl.when(pl.col("logprob").is_finite()).then(pl.col("logprob"))
    return answers.with_columns(logprob, pl.col("finish_reason").fill_null(UNKNOWN))


def read_choices(reply: Any) -> list[Choice]:
    """The answers in a reply; raises KeyError and its like where there are none."""
    choices, usage = sorted(reply["choices"], key=lambda each: each.get("index", 0)), reply.get("usage") or {}
    if not choices:
        raise KeyError("choices")
    scored = [scored_tokens(choice) for choice in choices]
    told = usage.get("completion_tokens")
    whole, alone = told == sum(map(len, scored)), told if len(choices) == 1 else None
    return [
        read_choice(choice, tokens, whole, alone)._replace(prompt_tokens=usage.get("prompt_tokens"))
        for choice, tokens in zip(choices, scored, strict=True)
    ]


def scored_tokens(choice: Any) -> list[float]:
    """The log-probability of each token that the server tells of, thoughts first."""
    told = choice.get("logprobs") or {}
    return [
        logprob_of(token.get("logprob")) for part in ("reasoning_content", "content") for token in told.get(part) or []
    ]


def read_choice(choice: Any, scored: Sequence[float], whole: bool, alone: int | None) -> Choice:
    """One answer, with its thought before it. `scored` may leave the thought out, if it is not the `whole`; `alone` is
    the server's count of the tokens where there is no other answer."""
    said = read_message(choice["message"])
    reason = ended(choice, said)
    if said.thought and not whole:
        scored = ()
    begin, end = THOUGHTS[0]
    closed = said.text or said.refusal or reason in ("reasoning", "tool_calls")
    thought = f"{begin}{said.thought}{end if closed else ''}" if said.thought else ""
    return Choice(
        text=thought + (said.text or said.refusal),
        finish_reason=reason,
        prompt_tokens=None,
        tokens=len(scored) or alone,
        logprob=sum(scored) if scored else None,
    )


def ended(choice: Any, said: Message) -> str:
    """Why an answer ended: `stop` is only said of a text that ended itself."""
    reason = str(choice.get("finish_reason") or UNKNOWN)
    reason = OTHER_WORDS.get(reason.lower(), reason.lower())
    if reason != STOP:
        return reason
    if said.refusal:
        return "refusal"
    if choice["message"].get("tool_calls") or choice["message"].get("function_call"):
        return "tool_calls"
    if said.thought and not said.text:
        return "reasoning"
    return "empty" if said.text is None else STOP


def read_message(message: Any) -> Message:
    """Thought, text and refusal, whether they are texts or lists of parts."""
    if not {"content", "refusal", "tool_calls", *REASONING} & message.keys():
        raise KeyError("content")
    content = message.get("content")
    texts: list[Any] = []
    thoughts = [next((message[name] for name in REASONING if message.get(name)), "")]
    refusals = [message.get("refusal") or ""]
    for part in content if isinstance(content, list) else [] if content is None else [content]:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "refusal":
            refusals.append(part["refusal"])
        elif kind in THOUGHT_PARTS:
            thoughts.append(part.get("thinking") or part.get("text") or "")
        else:
            texts.append(part)
    text = content_text(texts) if texts else None
    return Message(content_text(thoughts), text, content_text(refusals))


def content_text(content: Any) -> str:
    """A text, or the texts of its parts one after the other; EngineError where there is anything but text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(content_text, content))
    if isinstance(content, Mapping) and content.get("type") in TEXT_PARTS and isinstance(content.get("text"), str):
        return str(content["text"])
    kind = content.get("type") if isinstance(content, Mapping) else type(content).__name__
    raise EngineError(
        f"the server answers with a part of the kind {kind!r}, which is no text and cannot be stored as one"
    )


def logprob_of(logprob: Any) -> float:
    """A log-probability, NaN where there is none."""
    if isinstance(logprob, bool) or not isinstance(logprob, (int, float)):
        return math.nan
    return float(logprob) if logprob > LEAST else -math.inf


def check_model(told: Any, names: Sequence[str]) -> None:
    """EngineError where another model has answered than the one with these names."""
    if told and not any(told == name or versioned(str(told), name) for name in names):
        raise EngineError(
            f"the server answers as {told}, where {names[0]} was asked for: another model's words are not stored"
        )


def versioned(told: str, name: str) -> bool:
    """Whether a server has only added to a name which version of the model it means."""
    plain_name = name.removesuffix("latest").rstrip("-:@")
    return told.startswith(plain_name) and VERSION.fullmatch(told[len(plain_name) :]) is not None
