"""A recipe as users write them: judges, filters, sources and a pick of their own beside shipped ones."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from mine_words import chatter
from toy_pairs import ToyDpo
from toys import WEIGHTS

from filters.text_filters import Cap
from flywheel.identity import named
from flywheel.protocols import Asked, Sampling
from flywheel.recipe.recipe import Alarm, Exam, Gate, Recipe
from flywheel.store.ids import content_id
from flywheel.store.schema import VOTES, Chat, prompts_frame
from judges.ensembles import Jury
from judges.models.pairwise import Pairwise
from judges.rules.answers import Numeric

WORDING = Path(__file__).with_name("mine.txt").read_text(encoding="utf-8")
POINTS = re.compile(r"Score: ([1-5])")
NUMBER = re.compile(r"Answer: (-?\d+)")


def sums() -> pl.DataFrame:
    """PROMPTS from a function."""
    return prompts_frame(_rows(range(5, 17)), "mine")


@dataclass(frozen=True)
class Later:
    """PROMPTS from a part with a field."""

    first: int
    count: int = 6

    def __call__(self) -> pl.DataFrame:
        return prompts_frame(_rows(range(self.first, self.first + self.count)), "mine")


def _rows(numbers: range) -> Iterator[dict[str, Any]]:
    for at in numbers:
        yield {"chat": [{"role": "user", "content": f"How much is {at}+{at % 7}?"}], "reference": str(at + at % 7)}


@dataclass(frozen=True)
class Chatter:
    """A rule: 1 for a text without chatter, less for each opening."""

    worth: float = 0.25
    model = None

    @property
    def name(self) -> str:
        return f"chatter-{self.worth}"

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        return []

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        rows = [
            (generation, self.name, 0, 1 - self.worth * chatter(text), "ok", None, None)
            for generation, text in subjects.select("generation", "text").iter_rows()
        ]
        return pl.DataFrame(rows, schema=VOTES, orient="row")


@dataclass(frozen=True)
class Near:
    """A rule for the exam, whose name never changes."""

    within: int = 1
    model = None
    name = "near"

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        return []

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        rows = [
            (generation, self.name, 0, *self._verdict(text, int(reference)), None)
            for generation, text, reference in subjects.select("generation", "text", "reference").iter_rows()
        ]
        return pl.DataFrame(rows, schema=VOTES, orient="row")

    def _verdict(self, text: str, reference: int) -> tuple[float | None, str, str | None]:
        found = NUMBER.search(text)
        if not found:
            return None, "unparsable", "no number"
        return float(abs(int(found[1]) - reference) <= self.within), "ok", found[1]


@dataclass(frozen=True, kw_only=True)
class Any5:
    """A judge that asks a model, in words of its own."""

    model: Asked = Asked(sampling=Sampling(n=2, temperature=0.8, max_tokens=40))
    wording: str = WORDING
    strict: bool = False

    @property
    def name(self) -> str:
        return f"any5-{content_id(self.wording, self.strict, named(self.model))[:6]}"

    @property
    def scale(self) -> tuple[float, float]:
        return (1.0, 5.0)

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        return [
            [{"role": "user", "content": self._question(chat[-1]["content"], text)}]
            for chat, text in subjects.select("chat", "text").iter_rows()
        ]

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        assert replies is not None
        ids = subjects["generation"].to_list()
        rows = []
        for at, vote, text, trace in replies.select("chat", "index", "text", "generation").iter_rows():
            found = POINTS.search(text)
            score = float(found[1]) if found else None
            rows.append((ids[at], self.name, vote, score, "ok" if found else "unparsable", None, trace))
        return pl.DataFrame(rows, schema=VOTES, orient="row")

    def _question(self, question: str, answer: str) -> str:
        texts = {"mark": content_id(question, answer)[:6], "question": question, "answer": answer}
        return self.wording.format_map(texts)


@dataclass(frozen=True)
class Longer:
    """A filter: answers of more than `than` characters."""

    than: int = 3

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        return judged.filter(pl.col("text").str.len_chars() > self.than)


def ended(judged: pl.LazyFrame) -> pl.LazyFrame:
    """A filter that is a function."""
    return judged.filter(pl.col("finish_reason") == "stop")


def first_over_last(judged: pl.LazyFrame) -> pl.LazyFrame:
    """A pick that is a function: of each prompt the best answer over the worst, if their scores differ."""
    rows = judged.filter(pl.col("score").is_not_null()).sort("prompt", "score", "index")
    ends = rows.group_by("prompt", maintain_order=True).agg(
        chosen=pl.col("text").last(),
        rejected=pl.col("text").first(),
        gap=pl.col("score").last() - pl.col("score").first(),
        generations=pl.concat_list(pl.col("generation").last(), pl.col("generation").first()).first(),
    )
    kept = ends.filter(pl.col("gap") > 0, pl.col("chosen") != pl.col("rejected"))
    return kept.select("prompt", "chosen", "rejected", weight=pl.lit(1.0), generations="generations")


words = Sampling(n=1, temperature=0.7, max_tokens=40)
right = Numeric(after="Answer:")
recipe = Recipe(
    name="mine",
    base=WEIGHTS,
    prompts=sums,
    sampling=Sampling(n=4, temperature=0.9, max_tokens=30),
    judges=(
        Any5(),
        Chatter(),
        Pairwise(model=Asked(sampling=words), neighbours=1),
        Jury(members=(Chatter(0.5), right)),
    ),
    gold=right,
    keep=(ended, Longer(than=4), Cap(3)),
    pick=first_over_last,
    train=ToyDpo(batch_size=8),
    init_from="previous",
    exam=Exam(
        name="later-sums",
        prompts=Later(60),
        judge=Near(),
        sampling=Sampling(n=2, temperature=0.5, max_tokens=30),
        ks=(1, 2),
    ),
    gate=Gate(promote="always"),
    alarms=(Alarm("kappa", at_least=0.99),),
    prompts_per_iteration=6,
    iterations=2,
    engine="toy",
)
