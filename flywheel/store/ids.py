"""Ids: hashes of everything that could change a row's content, so that making a row again is a no-op."""

import hashlib
import json
import string
from collections.abc import Mapping, Sequence
from typing import Any

LETTERS = string.digits + string.ascii_letters


def content_number(*parts: Any) -> int:
    """72 bits that stand for `parts`: JSON values, told apart by type and order."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=9).digest(), "big")


def content_id(*parts: Any) -> str:
    """12 letters and digits (71 bits) that name `parts`. DuckDB compares texts of up to 12 bytes without a detour."""
    number, id = content_number(*parts), ""
    for _ in range(12):
        number, digit = divmod(number, len(LETTERS))
        id += LETTERS[digit]
    return id


def prompt_id(chat: Sequence[Mapping[str, str]]) -> str:
    """A prompt is its chat."""
    return content_id("prompt", [[message["role"], message["content"]] for message in chat])


def generation_id(prompt: str, checkpoint: str, draw: str, index: int) -> str:
    """A generation is what this checkpoint answers to this prompt with this draw, the index-th time."""
    return content_id("generation", prompt, checkpoint, draw, index)


def request_seed(draw: str, prompt: str) -> int:
    """The seed of one prompt's request, below 2**31: one seed for all prompts would correlate their draws."""
    return content_number("seed", draw, prompt) & 0x7FFF_FFFF
