"""ROUGE-L (Lin 2004): how similar two texts are, by the longest sequence of words that both hold in the same order."""

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

ROUGE_WORD = re.compile(r"[^\W_]+")
TINY = 1e-9
"""What multiplying may lose: 0.7 of 90 words is 63 of them."""


def rouge_words(text: str) -> list[str]:
    """What is compared: letters and digits in lower case."""
    return ROUGE_WORD.findall(text.lower())


def common(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of their longest common subsequence, in one step on whole rows of bits for each word (Hyyrö 2004)."""
    places: dict[str, int] = defaultdict(int)
    for at, word in enumerate(a):
        places[word] |= 1 << at
    row = whole = (1 << len(a)) - 1
    for word in b:
        met = row & places.get(word, 0)
        row = (row + met | row - met) & whole
    return len(a) - row.bit_count()


def rouge_l(a: str, b: str) -> float:
    """The F1 of ROUGE-L, from 0 to 1; 0 for a text without words."""
    first, second = rouge_words(a), rouge_words(b)
    return 2 * common(first, second) / ((len(first) + len(second)) or 1)


class Known:
    """Texts, and whether another one is near to any of them: a ROUGE-L of `least` or more."""

    def __init__(self, least: float) -> None:
        self.least = least
        self._texts: list[list[str]] = []
        self._lengths = array("i")
        self._holders: dict[tuple[str, int], array[int]] = defaultdict(lambda: array("i"))

    def add(self, text: str) -> None:
        """One text more."""
        new = rouge_words(text)
        for feature in _features(new):
            self._holders[feature].append(len(self._texts))
        self._texts.append(new)
        self._lengths.append(len(new))

    def near(self, text: str) -> bool:
        """Whether one of them is near. Only those that share words enough for it are compared word by word."""
        new = rouge_words(text)
        holders = [
            np.frombuffer(self._holders[feature], np.int32) for feature in _features(new) if feature in self._holders
        ]
        if not holders:
            return False
        lengths = np.frombuffer(self._lengths, np.int32) + len(new)
        shared = np.bincount(np.concatenate(holders), minlength=len(lengths))
        close = np.flatnonzero(2 * shared >= self.least * lengths - TINY)
        return any(2 * common(self._texts[at], new) >= self.least * lengths[at] - TINY for at in close)


def _features(text: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Each word with how often it came before: so many features are shared as words are, each as often as it comes."""
    seen = Counter[str]()
    for word in text:
        yield word, seen[word]
        seen[word] += 1
