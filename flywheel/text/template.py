"""The template of an exam: what more than half of its prompts share, such as an instruction or worked examples."""

from typing import NamedTuple

import numpy as np

from flywheel.text.ngrams import Hashes, Mask, Places, Text

FEW = 10  # with fewer exam prompts, what most of them share is not a template yet


class Template(NamedTuple):
    """What most exam prompts share: their first words, and their last ones (backwards)."""

    first: Hashes
    last: Hashes


def template_of(exam: Text) -> Template:
    """What more than half of the exam prompts share; nothing where there are only a few."""
    if len(exam.begins) < FEW:
        return Template(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint64))
    return Template(_common(exam, backwards=False), _common(exam, backwards=True))


def outside_template(text: Text, template: Template, often: Places, n: int) -> Mask:
    """Which words of the text are not the template's, nor among the `n` from each of the places `often` on."""
    hidden = np.zeros(len(text.rows), dtype=np.bool_)
    for words, backwards in ((template.first, False), (template.last, True)):
        rows = np.arange(len(text.begins))
        for k, word in enumerate(words):
            rows, here = _nth(text, rows, k, backwards)
            rows = rows[text.hashes[here] == word]
        for k in range(len(words)):
            hidden[_nth(text, rows, k, backwards)[1]] = True
    for k in range(n):
        hidden[often + k] = True
    return ~hidden


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
