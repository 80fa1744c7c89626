"""Near-duplicates between training prompts and exam prompts: so many words in a row that stand in both.

An id finds only the same chat, letter by letter. Here texts are compared as GPT-3 and its successors were checked: what
users say, in lower case, without punctuation, 13 words in a row. A training prompt is near an exam prompt that

- has the same `n` words in a row, and these are its own: fewer than SEVERAL exam prompts have them, and at least half
  of them are in no row of half as many words that several have (or the end of a short instruction and an item's first
  word would do). What several items share is an instruction, a passage or worked examples, and says nothing about one
  item. (GPT-3 leaves out n-grams that stand in more than 10 documents, as most of those are boilerplate: Brown et al.,
  arXiv 2005.14165, appendix C. It counts training documents; that would let an item go that was copied often, so we
  count exam prompts.)
- is there in whole, or nearly (`cores`), even if each of its n-grams is shared. So an item that the exam has in several
  paraphrases, or that is put together from pieces, cannot leak as it is. (PaLM and Tulu 3 ask for 70% and 50% of an
  item's 8-grams, whichever they are; a long template alone has as many.)
- is shorter than `n` words, and the same. Here what more than half of the exam has (`template`) does not count.

SEVERAL is three, because two exam prompts with the same words may well be one item and its paraphrase. Prompts with the
same words count once. So a template of which an exam has but two prompts convicts whoever has it: `mostly_near` says so
where that is most of a source. And a problem of fewer than `n` words is found only where nothing is added to it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl

from flywheel.text.cores import Cores, cores_of, held
from flywheel.text.ngrams import (
    Hashes,
    Mask,
    Places,
    Text,
    among,
    grams,
    levels,
    spread,
    text_of,
    user_text,
    where,
    whole,
)
from flywheel.text.template import FEW, Template, outside_template, template_of

OVERLAP = pl.Schema({"prompt": pl.String, "exam": pl.String, "shared": pl.String})

SEVERAL = 3  # exam prompts with the same words: from here on these are no item's own
CHUNK_TEXT_BYTES = 32_000_000  # bytes of training text that are taken apart at once
ERROR_CHARACTERS = 300  # letters of a text that an error shows


class Index(NamedTuple):
    """Where to look an exam prompt up: by an n-gram of its own, by its core, or by all of its text."""

    grams: Hashes  # sorted
    own: Places  # the first exam prompt that each is an n-gram of, or -1 if it is none's own
    often: Mask  # which ones more than half of the exam has
    cores: Cores
    short: pl.DataFrame
    template: Template
    n: int


def overlapping(prompts: pl.DataFrame, exam: pl.DataFrame, n: int = 13) -> pl.DataFrame:
    """OVERLAP: the training prompts that are near an exam prompt, and words that they share.

    Both frames are PROMPTS. Each training prompt comes at most once, in the order of `prompts`, with the first exam
    prompt that holds the shared words. A prompt whose id is that of an exam prompt always comes.
    """
    if n < 1:
        raise ValueError(f"an overlap has at least one word, not {n}")
    index = _index(text_of(exam), n)
    found = [prompts.join(exam, on="id", how="semi").select(prompt="id", exam="id", shared=user_text())]
    for part in _parts(prompts):
        hits = _find(text_of(part), index)
        ids = part["id"].gather(hits["row"]).alias("prompt"), exam["id"].gather(hits["item"]).alias("exam")
        found.append(hits.select(*ids, "shared"))
    once = pl.concat([OVERLAP.to_frame(), *found]).unique("prompt", keep="first", maintain_order=True)
    return prompts.select(prompt="id").join(once, on="prompt", maintain_order="left")


def mostly_near(near: pl.DataFrame, prompts: int, n: int) -> str | None:
    """What is wrong with a source of so many prompts where OVERLAP holds most of them: they would be left out."""
    if near.height * 2 <= prompts:
        return None
    shared, count = near["shared"].value_counts(sort=True).row(0)
    text = shared if len(shared) <= ERROR_CHARACTERS else f"{shared[:ERROR_CHARACTERS]}…"
    return (
        f"shares {n} words in a row with the exam in {near.height} of its {prompts} prompts, which would be left out, "
        f"{count} of them for {text!r}: if that is a template, let at least {SEVERAL} exam prompts have it, or raise "
        "overlap; if it is a problem of the exam, take other prompts"
    )


def _parts(prompts: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Consecutive prompts of about CHUNK_TEXT_BYTES each."""
    part = prompts.select(part=user_text().str.len_bytes().cum_sum() // CHUNK_TEXT_BYTES)["part"]
    yield from prompts.with_columns(part).partition_by("part", maintain_order=True, include_key=False)


def _index(text: Text, n: int) -> Index:
    template, half = template_of(text), (n + 1) // 2
    hashes, places = grams(text, n)
    many, level, items = spread(text, hashes, places), levels(text, half), len(np.unique(whole(text)))
    often = (many * 2 > items) & (items >= FEW)
    seen = outside_template(text, template, places[often], n)
    own = (many < SEVERAL) & (among(seen, places, n) == n) & (among(level < SEVERAL, places, n) >= half)
    known, first, at = np.unique(hashes, return_index=True, return_inverse=True)
    of = np.full(len(known), -1)
    of[at[own][::-1]] = text.rows[places[own]][::-1]  # backwards, so that the first one stays
    short = _short(text, seen, places, n).rename({"row": "item"}).unique("shared", keep="first", maintain_order=True)
    cores = cores_of(text, places, many, _rare(text, level), n)
    return Index(known, of, often[first], cores, short, template, n)


def _rare(exam: Text, level: Places) -> Mask:
    """Which words of each exam prompt are its rarest: no several have them, or half as many as have the most common."""
    some = np.flatnonzero(exam.ends > exam.begins)
    least, most = (of.reduceat(level, exam.begins[some]) for of in (np.minimum, np.maximum))
    limit = np.zeros(len(exam.begins), dtype=np.int64)
    limit[some] = np.maximum(np.maximum(least, most // 2), SEVERAL - 1)
    return np.asarray(level <= limit[exam.rows])


def _find(text: Text, index: Index) -> pl.DataFrame:
    """Rows of the text, the exam's item that each is near, and what they share."""
    hashes, places = grams(text, index.n)
    at = where(hashes, index.grams)
    known = at >= 0
    hashes, hits, at = hashes[known], places[known], at[known]
    own = np.flatnonzero(index.own[at] >= 0)
    rows, first = np.unique(text.rows[hits[own]], return_index=True)
    found = _hits(text, rows, index.own[at[own[first]]], hits[own[first]], index.n)
    seen = outside_template(text, index.template, hits[index.often[at]], index.n)
    short = _short(text, seen, places, index.n).join(index.short, on="shared").select(found.columns)
    return pl.concat([found, _hits(text, *held(text, hashes, hits, index.cores), index.n), short])


def _hits(text: Text, rows: Places, items: Places, starts: Places, n: int) -> pl.DataFrame:
    shared = [" ".join(text.words[int(start) : int(start) + n]) for start in starts]
    kinds = {"row": pl.Int64, "item": pl.Int64, "shared": pl.String}
    return pl.DataFrame({"row": rows, "item": items, "shared": shared}, schema_overrides=kinds)


def _short(text: Text, seen: Mask, places: Places, n: int) -> pl.DataFrame:
    """All that is shown of the prompts in which no n-gram is: `row` and `shared`."""
    long = np.zeros(len(text.begins), dtype=np.bool_)
    long[text.rows[places[among(seen, places, n) == n]]] = True
    alone = seen & ~long[text.rows]
    words = pl.DataFrame({"row": text.rows, "word": text.words}).filter(pl.Series(alone))
    return words.group_by("row", maintain_order=True).agg(pl.col("word").str.join(" ").alias("shared"))
