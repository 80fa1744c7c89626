"""One token for each row of logits: random numbers that belong to a seed, the cut distribution, and stop strings."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flywheel.protocols import Sampling

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, np.dtype[Any]]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
UNSEEN_YET, NO, MAYBE = 0, 1, 2


def streams(seeds: Sequence[int], indices: Sequence[int]) -> Array:
    """Names the stream of random numbers of each answer."""
    mixed = _mix(np.array([seed & (1 << 64) - 1 for seed in seeds], np.uint64) * GOLDEN + np.uint64(1))
    return _mix(mixed + np.array(indices, np.uint64) * GOLDEN)


def uniforms(stream: Array, steps: Array) -> Array:
    """Number `steps` of each stream, 0 <= u < 1: SplitMix64, which needs no state between steps."""
    bits = _mix(stream + (steps.astype(np.uint64) + np.uint64(1)) * GOLDEN)
    numbers: Array = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def _mix(x: Array) -> Array:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = x ^ (x >> np.uint64(31))
    return mixed


def choose(
    logits: "torch.Tensor", sampling: Sampling, uniform: "torch.Tensor", penalised: "torch.Tensor | None" = None
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """A token for each row, and its log-probability before penalties, temperature and truncation."""
    raw = logits.float().log_softmax(-1)
    logits = (logits if penalised is None else penalised).float()
    if sampling.temperature == 0:
        tokens = logits.argmax(-1)
    else:
        # In the order of the vocabulary and not of the weights: what else is in the batch changes the last bit of a
        # logit, and should not exchange two tokens of nearly the same weight.
        reach = _cut(logits, sampling).double().cumsum(-1)
        whole = reach[:, -1:]
        aim = (uniform[:, None] * whole).minimum(whole.nextafter(whole.new_zeros(())))
        tokens = (reach <= aim).sum(-1)
    return tokens, raw.gather(-1, tokens[:, None]).squeeze(-1)


def _cut(logits: "torch.Tensor", sampling: Sampling) -> "torch.Tensor":
    """Weights of the tokens: tempered, then those that have min_p of the best one's chance, then the top k, then the
    fewest that hold top_p of what is left."""
    scaled = logits / sampling.temperature if sampling.temperature != 1 else logits
    if sampling.min_p > 0:
        scaled = scaled.masked_fill(scaled < scaled.amax(-1, keepdim=True) + math.log(sampling.min_p), float("-inf"))
    if 0 < sampling.top_k < scaled.shape[-1]:
        least = scaled.topk(sampling.top_k).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, float("-inf"))
    weights = scaled.softmax(-1)
    if sampling.top_p < 1:
        falling = weights.sort(-1, descending=True).values
        kept = (falling.cumsum(-1) - falling < sampling.top_p).sum(-1, keepdim=True)
        weights = weights.masked_fill(weights < falling.gather(-1, kept - 1), 0)
    return weights


class Stops:
    """Stop strings. Only a token that holds the last character of one can complete it, so few answers are ever read.

    One that is complete within the first `least` tokens of an answer is a part of it and ends nothing.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str], vocabulary: int, least: int = 0) -> None:
        self._tokenizer = tokenizer
        self._stop = [text for text in stop if text]
        self._last = {text[-1] for text in self._stop}
        self._known = np.zeros(vocabulary, np.int8)
        self._least = least

    def suspects(self, tokens: Array) -> Array:
        """Which of these newest tokens may have completed a stop string."""
        for token in set(tokens[self._known[tokens] == UNSEEN_YET].tolist()):
            self._known[token] = self._judge(token)
        found: Array = self._known[tokens] == MAYBE
        return found

    def found(self, ids: Sequence[int]) -> bool:
        """Whether the text of these tokens holds a stop string."""
        return len(ids) > self._least and self._place(_texts(self._tokenizer, [ids])[0], ids) is not None

    def texts(self, answers: Sequence[Sequence[int]]) -> list[str]:
        """The answers' texts, each up to the first stop string in it."""
        texts = zip(_texts(self._tokenizer, answers), answers, strict=True)
        return [text[: self._place(text, ids)] for text, ids in texts]

    def _place(self, text: str, ids: Sequence[int]) -> int | None:
        """Where the first stop string begins that ends behind the least tokens."""
        held = [stop for stop in self._stop if stop in text]
        least = len(_texts(self._tokenizer, [ids[: self._least]])[0]) if held and self._least else 0
        places = [text.find(stop, max(0, least - len(stop) + 1)) for stop in held]
        return min((place for place in places if place >= 0), default=None)

    def _judge(self, token: int) -> int:
        # Twice, because some tokenizers drop a space at the beginning. Half a character shows as U+FFFD.
        piece = _texts(self._tokenizer, [[token, token]])[0]
        return MAYBE if "\ufffd" in piece or not self._last.isdisjoint(piece) else NO


def _texts(tokenizer: Any, ids: Sequence[Sequence[int]]) -> list[str]:
    """The texts of these tokens, without special ones."""
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [str(text) for text in texts]
