"""The words of many prompts, one after the other, and a number for any of them in a row."""

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

# Signs of arithmetic, brackets, pictures and rows of signs are words: 4 + 3 and 4 - 3 are two problems, as are ( [ and
# [ (, or #.@# and #@.#. Scripts without spaces have a word per character.
LETTERS_ALONE = r"\p{Han}\p{Hiragana}\p{Katakana}"
NGRAM_WORD = (
    rf"[{LETTERS_ALONE}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{LETTERS_ALONE}]]+|[\p{{Sm}}\p{{So}}\-*/^%()\[\]{{}}]|\p{{P}}{{3,}}"
)
# well-known and it's are two words each, not a subtraction; \(x\) is x, as $x$ is, and (A) is A: a way to print it.
PRINTED = r"(\p{L})['’-]|\\[()\[\]]|\((\w)\)"
FACTOR = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Text(NamedTuple):
    """The words of prompts, and what is needed to tell words in a row from others."""

    words: pl.Series
    hashes: Hashes  # of each word
    rows: Places  # the prompt that each word stands in, rising
    begins: Places  # where each prompt's words begin and end
    ends: Places
    sums: Hashes  # of hashes times powers of FACTOR, before each word and after the last
    unit: Hashes  # what takes such a power away again


def user_text() -> pl.Expr:
    """What users say in a `chat`."""
    message = pl.element().struct
    return pl.col("chat").list.eval(message.field("content").filter(message.field("role") == "user")).list.join("\n")


def text_of(prompts: pl.DataFrame) -> Text:
    """The words of PROMPTS, in lower case and without punctuation."""
    plain = user_text().str.to_lowercase().str.replace_all(PRINTED, "$1 $2 ")
    flat = prompts.select(word=plain.str.extract_all(NGRAM_WORD)).with_row_index("row").explode("word").drop_nulls()
    rows, prompt = flat["row"].to_numpy().astype(np.int64), np.arange(prompts.height)
    begins, ends = np.searchsorted(rows, prompt), np.searchsorted(rows, prompt, side="right")
    hashes = flat["word"].hash().to_numpy()
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(hashes * _powers(FACTOR, len(rows)))])
    return Text(flat["word"], hashes, rows, begins, ends, sums, _powers(pow(FACTOR, -1, 2**64), len(rows) + 1))


def _powers(base: int, count: int) -> Hashes:
    """The powers from 0 on, modulo 2**64."""
    factors = np.full(count, base, dtype=np.uint64)
    factors[:1] = 1
    return np.cumprod(factors)


def in_a_row(text: Text, starts: Places, length: int | Places) -> Hashes:
    """A number for the words from each start on: the same for the same words.

    A sum of the words' hashes times powers of FACTOR: that two rows of words among billions have the same one is a
    chance of one in many thousands.
    """
    found: Hashes = (text.sums[starts + length] - text.sums[starts]) * text.unit[starts]
    return found


def grams(text: Text, n: int) -> tuple[Hashes, Places]:
    """The numbers of every `n` words in a row that stand in one prompt, and where they begin."""
    count = max(len(text.rows) - n + 1, 0)
    places = np.flatnonzero(text.rows[:count] == text.rows[n - 1 :][:count])
    return in_a_row(text, places, n), places


def whole(text: Text) -> Hashes:
    """The number of all words of each prompt."""
    return in_a_row(text, text.begins, text.ends - text.begins)


def spread(text: Text, hashes: Hashes, places: Places) -> Places:
    """How many prompts each of these n-grams stands in; prompts with the same words are one."""
    prompt = whole(text)[text.rows[places]]
    order = np.lexsort([prompt, hashes])
    gram, prompt = hashes[order], prompt[order]
    first = np.diff(gram, prepend=~gram[:1]) != 0
    other = first | (np.diff(prompt, prepend=~prompt[:1]) != 0)
    counts, of = np.add.reduceat(other, np.flatnonzero(first), dtype=np.int64), np.cumsum(first) - 1
    found = np.empty(len(order), dtype=np.int64)
    found[order] = counts[of]
    return found


def levels(text: Text, n: int) -> Places:
    """How many prompts share a word with those around it: the most of any `n` words in a row that it is one of."""
    hashes, places = grams(text, n)
    many, level = spread(text, hashes, places), np.ones(len(text.rows), dtype=np.int64)
    for k in range(n):
        level[places + k] = np.maximum(level[places + k], many)
    return level


def where(values: Hashes, known: Hashes) -> Places:
    """Where each value stands in `known`, which is sorted, or -1."""
    if not len(known):
        return np.full(len(values), -1)
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[at] == values, at, -1)


def among(mask: Mask, starts: Places, n: int) -> Places:
    """How many of the `n` words from each start on are in the mask."""
    sums = np.concatenate([[0], np.cumsum(mask)])
    return np.asarray(sums[starts + n] - sums[starts])
