"""What a request to a server says: every sampling parameter, so that none of the server's own defaults ever applies.

A server of vLLM's fills in what a request leaves out from the model's generation_config.json; others do the like.
"""

import re
from collections.abc import Mapping
from typing import Any

from flywheel.protocols import Sampling
from flywheel.store.schema import Chat

NEUTRAL: Mapping[str, Any] = {
    "top_k": -1,  # 0 is no number to some servers, and off to others
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "min_tokens": 0,
}
"""Parameters that not every server has, at the values that change nothing."""


def parameters(sampling: Sampling) -> dict[str, Any]:
    """Every parameter by which tokens are drawn, neutral or not."""
    told = {name: getattr(sampling, name) for name in NEUTRAL}
    return {"temperature": sampling.temperature, "top_p": sampling.top_p, **told, "top_k": sampling.top_k or -1}


def completion(model: str, chat: Chat, sampling: Sampling, seed: int, context: int, ends: list[int]) -> dict[str, Any]:
    """The body of a request for the answers to a chat. `ends` are tokens that end one beside those of the server."""
    body = {
        "model": model,
        "messages": chat,
        "n": 1 if sampling.temperature == 0 else sampling.n,
        **parameters(sampling),
        "max_tokens": min(sampling.max_tokens, context),  # more is refused, too much is clipped
        "seed": seed,
        "logprobs": True,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if ends:
        body["stop_token_ids"] = ends
    return body


def refused(body: Mapping[str, Any], words: str) -> tuple[set[str], set[str]]:
    """Parameters that the words of a refusal name: those that were set, and those that were neutral."""
    named = {name for name in NEUTRAL if name in body and re.search(rf"\b{name}\b", words)}
    neutral = {name for name in named if body[name] == NEUTRAL[name]}
    return named - neutral, neutral
