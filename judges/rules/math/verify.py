"""Mathematical equality: math-verify reads both sides, whatever their notation, in processes that can be killed.

One item costs a few milliseconds, and a few workers share them. An answer over which a worker thinks too long, or with
which it dies, costs a worker and is `timeout` or `error`; the others never notice. Nothing is left behind.
"""

import importlib.util
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, NamedTuple

from flywheel.errors import EngineMissing, RecipeError
from flywheel.processes.pool import Workers
from flywheel.protocols import Subject, Verdict
from flywheel.root import ROOT
from flywheel.text.thoughts import THOUGHTS, Markers, after_thought
from judges.rules.numerals import spelled
from judges.verdict import Rule, last

ITEMS_PER_WORKER = 50
"""Items that are worth the second in which another worker starts."""
LONGEST_ANSWER = 1000
"""Characters of the longest answer that is compared."""
TAIL = 2000
"""Characters of a text without any marker in whose end an answer is sought."""
BOXED = re.compile(r"\\(?:f?boxed|fbox)\s*(\{|(?=[-\d\\A-Za-z]))")
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # \{ and \} are no braces
HASHES_MARK = re.compile(r"####")
ANSWER_MARK = re.compile(r"(?i)\banswer[\s*_]*:")
ANNOUNCED_ANSWER = re.compile(r"(?i).*\banswer\s+is\b[\s:*]*(\S.*)")
NEXT = re.compile(r"(?im)^[\s#*_]*(?:problem|question|exercise|q)\b[^\n:]{0,20}:")
"""A model that has answered goes on with a question of its own."""
SOLUTION = re.compile(r"<<[^<>]*=[^<>]*>>|(?s:(?:[A-Za-z]{3,}.*?[\d=].*?[.\n]\s*){2})")
WORDY = 8
"""Words without which an unmarked reference is no solution, but an answer."""
CALCULATED = re.compile(r"(?m)^(?=[^\n]*(?<!\\)\b[A-Za-z]{3,})[^\n]*[\d)]\s*=\s*\$?[\d<]")
"""A line that works something out: "Bucks: 50(.50) = 25". Two of them are a solution, however few the words."""
PLAIN_NUMBER = re.compile(r"-?\d{1,100}(?:\.\d{1,100}|/0*[1-9]\d{0,100})?")


class MathItem(NamedTuple):
    """One comparison. `boxed`: the answer is all LaTeX, and not text that may hold some; `marked`: a mark led to it."""

    reference: str
    answer: str
    boxed: bool
    marked: bool


@dataclass(frozen=True)
class MathVerify(Rule):
    """Right if the final answer equals the reference as mathematics: 0.5, 1/2, \\frac12 and 50\\% are one number.

    The final answer is what stands in the last \\boxed{}, or else on the line after the last "####", or else after the
    last "Answer:", or else what is found near the end of the text; the next question that a model asks itself is not
    read. A reference is read in the same way, or is itself the answer: a whole solution without a mark is an error.

    Decimals are equal to six places and six significant digits. (a, b) is a pair or an open interval, {a, b} a set;
    a, b without brackets is in order against a pair, and in any order against a set. A base that only the reference
    names is that of the answer, too. Several numbers ("5 or 6") are none of them. `timeout` is how many seconds one
    comparison may take; `thoughts` are the marks of what a reasoning model says before it answers.
    """

    version: ClassVar[int] = 2  # other notations are read, and hedges and anagrams are no longer right
    timeout: float = 5.0
    _: KW_ONLY
    thoughts: Markers = THOUGHTS

    def __post_init__(self) -> None:
        if not 0 < self.timeout < float("inf"):
            raise RecipeError(f"the timeout of MathVerify must be a positive number of seconds, not {self.timeout}")

    def verdicts(self, rows: Sequence[Subject]) -> list[Verdict]:
        """All at once. Raises EngineMissing if math-verify is not installed."""
        found = [self._item(text, reference) for text, reference, _ in rows]
        items = list(dict.fromkeys(one for one in found if isinstance(one, MathItem)))  # many answers are the same
        graded = dict(zip(items, grade_math(items, self.timeout), strict=True))
        return [graded[one] if isinstance(one, MathItem) else one for one in found]

    def _item(self, text: str, reference: str | None) -> MathItem | Verdict:
        """What to compare, or the verdict where there is nothing to compare."""
        if reference is None:
            return Verdict("error", None, "no reference")
        marked = _boxed(reference) or _marked(reference, HASHES_MARK) or _marked(reference, ANSWER_MARK)
        gold = (marked or reference).strip()
        if not marked and _solution(gold):
            told = "the reference is a whole solution: put its answer into \\boxed{}, or after ####"
            return Verdict("error", None, told)
        if not 0 < len(gold) <= LONGEST_ANSWER:
            return Verdict("error", None, f"a reference of {len(gold)} characters")
        answered = after_thought(text, self.thoughts)
        return Verdict("unparsable", None, "a thought without an end") if answered is None else _answer(gold, answered)


def grade_math(items: Sequence[MathItem], timeout: float) -> list[Verdict]:
    """One verdict for each item, in order. Raises EngineMissing or EngineError if no worker can start."""
    if not items:
        return []
    if importlib.util.find_spec("math_verify") is None:
        raise EngineMissing("MathVerify needs math-verify, which is not installed: pip install 'flywheel[tasks]'")
    # By its path, since a folder with a math.py must not be searched first; and with this very package, wherever it is.
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    argv = [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))]
    workers = Workers(argv, timeout, ITEMS_PER_WORKER, env={**os.environ, "PYTHONPATH": path})
    requests = [json.dumps(item._asdict()).encode() for item in items]
    return [_verdict(reply, timeout) for reply in workers.replies(requests)]


def _verdict(reply: bytes | None, timeout: float) -> Verdict:
    if reply is None:
        return Verdict("timeout", None, f"no verdict within {timeout:g} s")
    if not reply:
        return Verdict("error", None, "the comparison ended its process")
    verdict = Verdict(**json.loads(reply))
    return verdict._replace(detail=_spelled(verdict.detail)) if verdict.status == "ok" else verdict


def _answer(gold: str, text: str) -> MathItem | Verdict:
    text = _first_question(text)
    boxed = _boxed(text)
    answer = boxed or _marked(text, HASHES_MARK) or _marked(text, ANSWER_MARK) or _announced(text)
    if answer is not None and len(answer) > LONGEST_ANSWER:
        return Verdict("unparsable", None, f"an answer of {len(answer)} characters")
    item = MathItem(gold, answer or _tail(text), boxed is not None, answer is not None)
    return item if item.answer else Verdict("unparsable", None, "no answer")


def _first_question(text: str) -> str:
    """The text up to the next question after an answer."""
    mark = min(
        (found.end() for pattern in (BOXED, HASHES_MARK, ANSWER_MARK) if (found := pattern.search(text))),
        default=len(text),
    )
    following = NEXT.search(text, mark)
    return text[: following.start()] if following else text


def _solution(reference: str) -> bool:
    """Whether an unmarked reference is no answer, but a text in which one would have to be sought."""
    begin = reference[: 2 * LONGEST_ANSWER]
    words = len(re.findall(r"(?<!\\)\b[A-Za-z]{3,}", begin))
    worked_out = len(CALCULATED.findall(begin)) > 1
    return worked_out or (words > 3 and "<<" in reference) or (words >= WORDY and SOLUTION.search(begin) is not None)


def _boxed(text: str) -> str | None:
    """What stands in the last \\boxed{}; to the end of the line where no brace closes it; None if there is nothing.

    Without a brace it is the next word: \\boxed5.
    """
    box = last(BOXED, text)
    if box is None:
        return None
    rest, depth = text[box.end() : box.end() + LONGEST_ANSWER + 1], 1
    if not box[1]:
        return (re.match(r"(?:\\[,;:! ]|[^\s$])*", rest) or box)[0].rstrip(".,;:") or None
    for brace in BRACE.finditer(rest):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return rest[: brace.start()].strip() or None
    return (rest if len(rest) > LONGEST_ANSWER else rest.partition("\n")[0]).strip() or None


def _marked(text: str, marker: re.Pattern[str]) -> str | None:
    """The first line with anything on it after the last marker, or None."""
    mark = last(marker, text)
    return None if mark is None else text[mark.end() :].strip().partition("\n")[0].strip() or None


def _announced(text: str) -> str | None:
    """What the last line says that the answer is."""
    said = ANNOUNCED_ANSWER.match(text.rstrip().rpartition("\n")[2][-TAIL:])
    return said[1].strip() if said else None


def _tail(text: str) -> str:
    """The last whole words of a text, stripped."""
    if len(text) <= TAIL:
        return text.strip()
    gap = re.search(r"\s", text[-TAIL:])
    return text[-TAIL:][gap.end() :].strip() if gap else ""


def _spelled(detail: str | None) -> str | None:
    """Equal numbers in one spelling."""
    return spelled(Fraction(detail)) if detail is not None and PLAIN_NUMBER.fullmatch(detail) else detail
