"""From what a rule says of one answer to the rows of a judge: `Rule` makes a judge of a verifier."""

import re
from collections import deque
from collections.abc import Iterable, Sequence

import polars as pl

from flywheel.identity import named
from flywheel.protocols import Subject, Verdict
from flywheel.store.schema import VOTES, Chat

ENDLESS = Verdict("unparsable", None, "a thought without an end")
"""On a text that its writer never came to the answer in."""


class Rule:
    """Makes a judge of a verifier: a frozen dataclass with `verdict`, whose fields are what names it.

    @dataclass(frozen=True)
    class Says(Rule):
        word: str

        def verdict(self, text: str, reference: str | None, meta: str | None) -> Verdict:
            return Verdict("ok", float(self.word in text), None)
    """

    model = None

    @property
    def name(self) -> str:
        """Type and parameters."""
        return named(self)

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        """A rule asks nothing."""
        return []

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """VOTES on SUBJECTS."""
        rows = list(subjects.select("text", "reference", "meta").iter_rows())
        return votes(self.name, subjects, self.verdicts(rows))

    def verdict(self, text: str, reference: str | None, meta: str | None) -> Verdict:
        """What it says of one answer, by the known answer and the JSON that come with the prompt, where they do."""
        (found,) = self.verdicts([(text, reference, meta)])
        return found

    def verdicts(self, rows: Sequence[Subject]) -> Sequence[Verdict]:
        """The same for many; for whoever does better than one after the other."""
        return [self.verdict(*row) for row in rows]


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
