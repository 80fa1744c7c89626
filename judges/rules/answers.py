"""Rules that compare an answer with its reference: no model is asked, so none can be charmed.

`status` is `ok` with a score of 1 or 0; `unparsable` where the text holds no answer (no score: not to answer in the
form that was asked for is another thing than a wrong answer); or `error` where there is nothing to compare with.
`detail` is the final answer as it was read, in one spelling for equal answers, so that a majority can be counted.
"""

from dataclasses import KW_ONLY, dataclass, field
from fractions import Fraction
from typing import ClassVar

from flywheel.errors import RecipeError
from flywheel.protocols import Verdict
from flywheel.text.thoughts import THOUGHTS, Markers, after_thought
from judges.rules.numerals import last_number, one_number, spelled
from judges.rules.plain import announced, plain_answer, trimmed
from judges.verdict import ENDLESS, Rule


@dataclass(frozen=True)
class Exact(Rule):
    """Right if the answer is the reference, word for word.

    The answer is what stands after the last `after` (a text without it has none), or the whole text. A run of white
    space counts as one space. Case makes no difference unless it is told to, nor do punctuation at the two ends, bold,
    LaTeX or quotes around the answer, or a sentence after it (`plain.py`). Signs and symbols stay: -200 is not 200.
    """

    after: str | None = None
    ignore_case: bool = True
    ignore_punctuation: bool = True
    thoughts: Markers = field(default=THOUGHTS, kw_only=True)
    version: ClassVar[int] = 2  # signs and symbols stay; marks around an answer and thoughts before it go

    def __post_init__(self) -> None:
        _check_marker(self.after)

    def verdict(self, text: str, reference: str | None, meta: str | None) -> Verdict:
        """As Verifier."""
        if reference is None:
            return Verdict("error", None, "no reference")
        if (said := after_thought(text, self.thoughts)) is None:
            return ENDLESS
        answer, gold = announced(self.after, said), announced(self.after, reference)
        if answer is None or not answer.strip():
            return Verdict("unparsable", None, "no answer")
        right = self._normal(reference if gold is None else gold)
        read = self._normal(answer), self._normal(plain_answer(answer) if self.ignore_punctuation else answer)
        return Verdict("ok", float(right in read), right if right in read else read[1])

    def _normal(self, text: str) -> str:
        text = trimmed(text) if self.ignore_punctuation else " ".join(text.split())
        return text.casefold() if self.ignore_case else text


@dataclass(frozen=True)
class Numeric(Rule):
    """Right if the final number differs from the reference's by at most `tolerance`.

    Where the reference is smaller than that, it may differ by that share of it.

    With `after` (GSM8K: "####"; others: "Answer:") the answer is the first number after the last `after`, and a text
    without that has no answer. Without `after` it is the last number of the text. A reference is read in the same way,
    or is a bare number. Signs, thousands separators, decimals, currency signs, 3/4, 2 1/4, 1.5e3 and their LaTeX are
    understood. A number that may be read in two ways (125,96), or is one of several ("5 or 6"), is no answer.
    `thoughts` are the marks of what a reasoning model says before it answers.
    """

    version: ClassVar[int] = 2  # mixed numbers, powers of ten and LaTeX; doubtful numbers are no answers
    after: str | None = None
    tolerance: float = 1e-6
    _: KW_ONLY
    thoughts: Markers = THOUGHTS

    def __post_init__(self) -> None:
        _check_marker(self.after)
        if not 0 <= self.tolerance < float("inf"):
            raise RecipeError(f"the tolerance of Numeric must be a number from 0 on, not {self.tolerance}")

    def verdict(self, text: str, reference: str | None, meta: str | None) -> Verdict:
        """As Verifier."""
        if reference is None:
            return Verdict("error", None, "no reference")
        gold = self._number(reference) if self.after is None or self.after in reference else last_number(reference)
        if gold is None:
            return Verdict("error", None, f"no number in the reference {reference[:80]!r}")
        answered = after_thought(text, self.thoughts)
        if answered is None:
            return Verdict("unparsable", None, "a thought without an end")
        number = self._number(answered)
        if number is None:
            return Verdict("unparsable", None, "no number")
        allowed = Fraction(self.tolerance)
        if 0 < abs(gold) < allowed:
            allowed *= abs(gold)
        return Verdict("ok", float(abs(number - gold) <= allowed), spelled(number))

    def _number(self, text: str) -> Fraction | None:
        answer = after_last(self.after, text)
        return None if answer is None else one_number(answer, last=self.after is None)


def after_last(marker: str | None, text: str) -> str | None:
    """What stands after the last `marker`; all of the text for None; None where the marker is missing."""
    return text if marker is None else text.rpartition(marker)[2] if marker in text else None


def _check_marker(after: str | None) -> None:
    if after == "":
        raise RecipeError("`after` must not be empty; leave it out to read the whole text")
