"""Whether an exam prompt is there in whole, or nearly: by its core, whoever else has these words.

The core is nine tenths of a prompt's words, in a row, with all of those that are rarest in the exam.
"""

from typing import NamedTuple

import numpy as np

from flywheel.text.ngrams import Hashes, Mask, Places, Text, in_a_row, where

CORE = 0.9


class Cores(NamedTuple):
    """Of each exam prompt its core, found by an n-gram within it, the anchor; sorted by that."""

    anchors: Hashes
    before: Places  # words of the core before the anchor
    lengths: Places
    whole: Hashes  # the core's number
    rows: Places


def cores_of(exam: Text, places: Places, spread: Places, rare: Mask, n: int) -> Cores:
    """The cores of the prompts that have at least `n` words.

    `spread` says how many prompts the n-gram at each place stands in, and `rare` which words are their prompt's rarest.
    """
    rows = np.flatnonzero(exam.ends - exam.begins >= n)
    starts, lengths = _bounds(exam, rows, rare, n)
    # The n-gram of each core that the fewest exam prompts have: the key's last digits say where it stands.
    keys = np.full(len(exam.rows) + 1, np.iinfo(np.int64).max)
    keys[places] = spread * (len(exam.rows) + 1) + places
    best = np.minimum.reduceat(keys, np.stack([starts, starts + lengths - n + 1], axis=1).ravel())[::2]
    at = best % (len(exam.rows) + 1)
    anchors, whole = in_a_row(exam, at, n), in_a_row(exam, starts, lengths)
    once = np.unique(whole, return_index=True)[1]  # the first prompt's, of those that have the same core
    order = once[np.argsort(anchors[once])]
    return Cores(anchors[order], (at - starts)[order], lengths[order], whole[order], rows[order])


def _bounds(exam: Text, rows: Places, rare: Mask, n: int) -> tuple[Places, Places]:
    """Where the cores of these prompts start, and their lengths."""
    begins, ends, at = exam.begins[rows], exam.ends[rows], np.arange(len(exam.rows))
    each = np.stack([begins, ends], axis=1).ravel()
    starts = np.minimum.reduceat(np.append(np.where(rare, at, len(at)), 0), each)[::2]
    rarest = np.maximum.reduceat(np.append(np.where(rare, at, -1), 0), each)[::2] + 1 - starts
    lengths = np.maximum(np.ceil(CORE * (ends - begins)).astype(np.int64), rarest)
    lengths = np.where(lengths < n, ends - begins, lengths)
    return np.clip(starts - (lengths - rarest) // 2, begins, ends - lengths), lengths


def held(text: Text, hashes: Hashes, places: Places, cores: Cores) -> tuple[Places, Places, Places]:
    """Rows of the text that hold a core, the first exam prompt that it is of, and where its anchor stands.

    `hashes` and `places` are of all n-grams of the text, or at least of those that are anchors.
    """
    anchors, first, counts = np.unique(cores.anchors, return_index=True, return_counts=True)
    at = where(hashes, anchors)
    places, at = places[at >= 0], at[at >= 0]
    many = counts[at]  # each place once for every core with this anchor
    core = np.repeat(first[at] - np.cumsum(many) + many, many) + np.arange(many.sum())
    place = np.repeat(places, many)
    starts, rows, lengths = place - cores.before[core], text.rows[place], cores.lengths[core]
    fits = np.flatnonzero((starts >= text.begins[rows]) & (starts + lengths <= text.ends[rows]))
    same = fits[in_a_row(text, starts[fits], lengths[fits]) == cores.whole[core[fits]]]
    same = same[np.lexsort([cores.rows[core[same]], rows[same]])]
    found, once = np.unique(rows[same], return_index=True)
    return found, cores.rows[core[same][once]], place[same][once]
