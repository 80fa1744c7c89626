"""Worked examples of a judge's work: problems whose answers are right or spoilt, and what is to be said of them.

    Graded(families=(SUMS,), judge=rubric, each=4000)             one answer and its points
    Compared(families=(SUMS,), judge=rubric, meta=judge, each=1000)   two judgments on one answer, of which one is right

The questions are the judge's own, so the model is taught what it will be asked. A judgment works the problem out, puts
the answer's result beside its own, and gives the top score or the lowest: `8+5=13,13-2=11. Answer: 11 12. Score: 1`.
A comparison judges the answer itself and sides with the score that is its own: `... Score: 1. Verdict: A`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import polars as pl

from data.procedural import Family, entries
from flywheel.errors import RecipeError
from flywheel.protocols import Judge, PairJudge, Worked
from flywheel.store.ids import prompt_id
from flywheel.store.schema import SUBJECTS, WORKED, Chat


class Case(NamedTuple):
    """An answer to a problem, and two judgments on it: a right one and one with a mistake."""

    chat: Chat
    answer: str
    judgment: str
    mistaken: str


@dataclass(frozen=True, kw_only=True)
class Graded:
    """WORKED: the judge's question about an answer, and the right judgment. `right` is the share of right answers."""

    families: tuple[Family, ...]
    judge: Judge
    each: int = 1000
    right: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.families)

    def __call__(self) -> pl.DataFrame:
        """WORKED, or SourceError."""
        found = list(cases(self.families, self.each, self.right, self.seed))
        questions = self.judge.ask(_subjects((case.chat, case.answer) for case in found))
        rows = zip(questions, (case.judgment for case in found), strict=True)
        return pl.DataFrame(list(rows), schema=WORKED, orient="row")


@dataclass(frozen=True, kw_only=True)
class Compared:
    """WORKED: the meta-judge's question about two judgments on an answer, and the verdict; each pair in both orders."""

    families: tuple[Family, ...]
    judge: Judge
    meta: PairJudge
    each: int = 500
    right: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.families)

    def __call__(self) -> pl.DataFrame:
        """WORKED, or SourceError."""
        found = list(cases(self.families, self.each, self.right, self.seed))
        asked = self.judge.ask(_subjects((case.chat, case.answer) for case in found))
        pairs = [(chat, words) for chat, case in zip(asked, found, strict=True) for words in case[2:]]
        questions = self.meta.ask(_subjects(pairs))  # in both orders: the right one first, then second
        verdicts = [f"{case.judgment}. Verdict: {label}" for case in found for label in "AB"]
        rows = zip(questions, verdicts, strict=True)
        return pl.DataFrame(list(rows), schema=WORKED, orient="row")


@dataclass(frozen=True, kw_only=True)
class Together:
    """WORKED of several sources, one after the other; a source that is named twice weighs twice."""

    sources: tuple[Worked, ...]

    def __call__(self) -> pl.DataFrame:
        """WORKED."""
        return pl.concat([source() for source in self.sources])


def cases(families: tuple[Family, ...], each: int, right: float, seed: int) -> Iterator[Case]:
    """The same ones for the same seed."""
    generator = Random(seed)
    for family, entry in entries(families, "worked", each, seed):
        assert family.work is not None and family.spoil is not None
        work = family.work(entry)
        answer = work if generator.random() < right else family.spoil(entry, generator)
        judgment = judged(work, answer)
        mistaken = judged(family.spoil(entry, generator), answer)
        if mistaken[-1] == judgment[-1] or generator.random() < 0.5:
            mistaken = _other(judgment)
        yield Case([{"role": "user", "content": family.ask(entry)}], answer, judgment, mistaken)


def judged(work: str, answer: str) -> str:
    """What a judge says that has worked the problem out so."""
    own, claimed = work.rpartition("Answer: ")[2], answer.rpartition("Answer: ")[2]
    return f"{work} {claimed}. Score: {5 if own == claimed else 1}"


def _other(judgment: str) -> str:
    """The same words, the other score."""
    return judgment[:-1] + ("1" if judgment.endswith("5") else "5")


def _subjects(answers: Iterable[tuple[Chat, str]]) -> pl.DataFrame:
    """SUBJECTS: those with the same chat are answers to the same prompt."""
    rows = [
        {"generation": str(place), "prompt": prompt_id(chat), "chat": chat, "index": place, "text": text}
        for place, (chat, text) in enumerate(answers)
    ]
    return pl.DataFrame(rows, schema=SUBJECTS)


def _check(families: tuple[Family, ...]) -> None:
    for family in families:
        if family.work is None or family.spoil is None:
            raise RecipeError(f"the family {family.dataset} needs `work` and `spoil`, so that judges can learn from it")
