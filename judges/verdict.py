"""What a rule says of one answer, and how it becomes a row."""

import re
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from flywheel.store.schema import VOTES


class Verdict(NamedTuple):
    """What a rule says of one answer; `score` is None unless `status` is `ok`."""

    status: str
    score: float | None
    detail: str | None


ENDLESS = Verdict("unparsable", None, "a thought without an end")
"""On a text that its writer never came to the answer in."""


def votes(judge: str, subjects: pl.DataFrame, verdicts: Iterable[Verdict]) -> pl.DataFrame:
    """VOTES, one for each of SUBJECTS, in their order."""
    rows = [
        (generation, judge, 0, verdict.score, verdict.status, verdict.detail, None)
        for generation, verdict in zip(subjects["generation"], verdicts, strict=True)
    ]
    return pl.DataFrame(rows, schema=VOTES, orient="row")


def last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match, or None."""
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)
