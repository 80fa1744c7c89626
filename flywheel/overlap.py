"""Near-duplicates between training prompts and exam prompts: so many words in a row that stand in both.

An id finds only the same chat, letter by letter. Here texts are compared as GPT-3 and its successors were checked: what
users say, in lower case, without punctuation, 13 words in a row. What most exam prompts share, such as a template or
worked examples, says nothing about an item and is hidden first; what is then shorter than `n` words is compared whole.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

OVERLAP = pl.Schema({"prompt": pl.String, "exam": pl.String, "shared": pl.String})

FEW = 10  # with fewer exam prompts, what most of them share is not a template yet
CHUNK = 32_000_000  # bytes of training text that are taken apart at once

# Signs of arithmetic are words: 4 + 3 and 4 - 3 are two problems. Scripts without spaces have a word per character.
ALONE = r"\p{Han}\p{Hiragana}\p{Katakana}"
WORD = rf"[{ALONE}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{ALONE}]]+|[-+*/^=<>%]"
HYPHEN = r"(\p{L})['’-]"  # well-known and it's are two words each, not a subtraction
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no power of it is 0 modulo 2**64

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]


class Text(NamedTuple):
    """The words of many prompts, one after the other."""

    words: pl.Series
    hashes: Hashes  # of each word
    rows: Places  # the prompt that each word stands in, rising
    begins: Places  # where each prompt's words begin and end
    ends: Places
    shown: NDArray[np.bool_]  # which words are compared


class Template(NamedTuple):
    """What most exam prompts share: their first words, their last ones (backwards), and n-grams."""

    first: Hashes
    last: Hashes
    grams: Hashes
    n: int


class Index(NamedTuple):
    """Where to look an exam prompt up: by n-gram (sorted), or by all of its text where that is shorter."""

    grams: Hashes
    rows: Places
    short: pl.DataFrame


def overlapping(prompts: pl.DataFrame, exam: pl.DataFrame, n: int = 13) -> pl.DataFrame:
    """OVERLAP: the training prompts that share `n` words in a row with an exam prompt, or are short and equal to one.

    Both frames are PROMPTS. Each training prompt comes at most once, in the order of `prompts`, with the first exam
    prompt that holds the shared words. A prompt whose id is that of an exam prompt always comes.
    """
    if n < 1:
        raise ValueError(f"an overlap has at least one word, not {n}")
    text = _text(exam)
    template = _template(text, n)
    index = _index(_hide(text, template), n)
    same = prompts.join(exam, on="id", how="semi").select(prompt="id", exam="id", shared=_said())
    found = [OVERLAP.to_frame(), same]
    for part in _parts(prompts):
        hits = _find(_hide(_text(part), template), index, n)
        ids = part["id"].gather(hits["row"]).alias("prompt"), exam["id"].gather(hits["item"]).alias("exam")
        found.append(hits.select(*ids, "shared"))
    once = pl.concat(found).unique("prompt", keep="first")
    return prompts.select(prompt="id").join(once, on="prompt", maintain_order="left")


def _parts(prompts: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Consecutive prompts of about CHUNK bytes each."""
    part = prompts.select(part=_said().str.len_bytes().cum_sum() // CHUNK)["part"]
    yield from prompts.with_columns(part).partition_by("part", maintain_order=True, include_key=False)


def _said() -> pl.Expr:
    message = pl.element().struct
    return pl.col("chat").list.eval(message.field("content").filter(message.field("role") == "user")).list.join("\n")


def _text(prompts: pl.DataFrame) -> Text:
    words = _said().str.to_lowercase().str.replace_all(HYPHEN, "$1 ").str.extract_all(WORD)
    flat = prompts.select(word=words).with_row_index("row").explode("word").drop_nulls()
    rows, prompt = flat["row"].to_numpy().astype(np.int64), np.arange(prompts.height)
    begins, ends = np.searchsorted(rows, prompt), np.searchsorted(rows, prompt, side="right")
    return Text(flat["word"], flat["word"].hash().to_numpy(), rows, begins, ends, np.ones(len(rows), dtype=np.bool_))


def _template(exam: Text, n: int) -> Template:
    """What more than half of the exam prompts share; nothing where there are only a few."""
    if len(exam.begins) < FEW:
        nothing = np.zeros(0, dtype=np.uint64)
        return Template(nothing, nothing, nothing, n)
    grams, places = _grams(exam, n)
    shared = pl.DataFrame({"gram": grams, "row": exam.rows[places]}).group_by("gram").agg(pl.col("row").n_unique())
    often = shared.filter(pl.col("row") * 2 > len(exam.begins))["gram"].sort().to_numpy()
    return Template(_common(exam, backwards=False), _common(exam, backwards=True), often, n)


def _common(text: Text, *, backwards: bool) -> Hashes:
    """The words with which more than half of the prompts begin (or, backwards, end)."""
    common: list[np.uint64] = []
    left = np.arange(len(text.begins))
    while True:
        left, here = _nth(text, left, len(common), backwards)
        values, counts = np.unique(text.hashes[here], return_counts=True)
        if not len(counts) or counts.max() * 2 <= len(text.begins):
            return np.array(common, dtype=np.uint64)
        common.append(values[counts.argmax()])
        left = left[text.hashes[here] == common[-1]]


def _nth(text: Text, rows: Places, k: int, backwards: bool) -> tuple[Places, Places]:
    """Those of the rows that have more than k words, and where the k-th from the beginning (or from the end) stands."""
    rows = rows[text.ends[rows] - text.begins[rows] > k]
    return rows, text.ends[rows] - 1 - k if backwards else text.begins[rows] + k


def _hide(text: Text, template: Template) -> Text:
    """The text with the template's words no longer shown."""
    shown = text.shown.copy()
    for words, backwards in ((template.first, False), (template.last, True)):
        rows = np.arange(len(text.begins))
        for k, word in enumerate(words):
            rows, here = _nth(text, rows, k, backwards)
            rows = rows[text.hashes[here] == word]
        for k in range(len(words)):
            shown[_nth(text, rows, k, backwards)[1]] = False
    grams, places = _grams(text, template.n)
    common = places[_where(grams, template.grams) >= 0]
    for k in range(template.n):
        shown[common + k] = False
    return text._replace(shown=shown)


def _where(values: Hashes, known: Hashes) -> Places:
    """Where each value stands in `known`, which is sorted, or -1."""
    at = np.searchsorted(known, values)
    at[at == len(known)] = -1
    at[at >= 0] = np.where(known[at[at >= 0]] == values[at >= 0], at[at >= 0], -1)
    return at


def _grams(text: Text, n: int) -> tuple[Hashes, Places]:
    """The hash of every `n` words in a row that are shown and stand in one prompt, and where they begin.

    A sum of the words' hashes times powers of FACTOR: that two n-grams among billions have the same one is a chance of
    one in many thousands.
    """
    count = max(len(text.rows) - n + 1, 0)
    sums, hidden = np.zeros(count, dtype=np.uint64), np.concatenate([[0], np.cumsum(~text.shown)])
    for k in range(n):
        sums = sums * FACTOR + text.hashes[k : k + count]
    within = (text.rows[:count] == text.rows[n - 1 :][:count]) & (hidden[:count] == hidden[n:][:count])
    places = np.flatnonzero(within)
    return sums[places], places


def _index(exam: Text, n: int) -> Index:
    grams, places = _grams(exam, n)
    known, first = np.unique(grams, return_index=True)
    short = _short(exam, places).rename({"row": "item"}).unique("shared", keep="first", maintain_order=True)
    return Index(known, exam.rows[places[first]], short)


def _find(text: Text, index: Index, n: int) -> pl.DataFrame:
    """Rows of the text, the exam's item that each overlaps with, and what they share."""
    grams, places = _grams(text, n)
    at = _where(grams, index.grams)
    hit = at >= 0
    rows, first = np.unique(text.rows[places[hit]], return_index=True)
    shared = [" ".join(text.words[int(place) : int(place) + n]) for place in places[hit][first]]
    kinds = {"row": pl.Int64, "item": pl.Int64, "shared": pl.String}
    long = pl.DataFrame({"row": rows, "item": index.rows[at[hit]][first], "shared": shared}, schema_overrides=kinds)
    return pl.concat([long, _short(text, places).join(index.short, on="shared").select(*kinds)])


def _short(text: Text, places: Places) -> pl.DataFrame:
    """All that is shown of the prompts in which no n-gram begins: `row` and `shared`."""
    alone = text.shown & ~np.isin(text.rows, text.rows[places])
    words = pl.DataFrame({"row": text.rows, "word": text.words}).filter(pl.Series(alone))
    return words.group_by("row", maintain_order=True).agg(pl.col("word").str.join(" ").alias("shared"))
