"""Problems without end, from reasoning-gym's generators: new ones for training, others held out, others worked out.

    Procedural(families=(SUMS, WORDS), part="train", each=1500)     PROMPTS, for `judges.rules.reasoning_gym.Gym`
    Procedural(families=(SUMS, WORDS), part="exam", each=300)       problems that are in no other part
    Worked(families=(SUMS, WORDS), each=400)                        WORKED: what a warm start learns from

A family is one of its datasets with settings of its own, and the words in which a problem is asked and worked out. The
part that a problem is in hangs on a hash of its question alone, so it is the same for every seed and every setting.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from types import MappingProxyType
from typing import Any, Literal

import polars as pl

from flywheel.errors import RecipeError, SourceError
from flywheel.store.ids import content_number, prompt_id
from flywheel.store.schema import PROMPTS, WORKED, Chat, prompts_frame

FORGOTTEN = 0.6
"""How often a careless sum loses a ten that is carried or borrowed."""

Entry = Mapping[str, Any]
"""A problem of reasoning-gym: `question`, `answer`, and `metadata` as its dataset wants it."""

Part = Literal["exam", "worked", "train"]
BOUNDS: Mapping[str, tuple[float, float]] = {"exam": (0.0, 0.1), "worked": (0.1, 0.3), "train": (0.3, 1.0)}
"""Where in [0, 1) the hashes of a part's questions lie."""

DRAWS = 500
"""Problems that are drawn for each one that is wanted, before a family counts as exhausted."""


def question(entry: Entry) -> str:
    """The question in reasoning-gym's own words."""
    return str(entry["question"])


@dataclass(frozen=True, kw_only=True)
class Family:
    """A dataset of reasoning-gym. `ask` words a problem; `work` writes it out, up to the final "Answer: ...".

    `careless` writes it out as people do who know better: with mistakes of one kind, again and again. For those who are
    to learn to judge, `spoil` writes it out with one mistake of any kind.
    """

    dataset: str
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    ask: Callable[[Entry], str] = question
    work: Callable[[Entry], str] | None = None
    careless: Callable[[Entry, Random], str] | None = None
    spoil: Callable[[Entry, Random], str] | None = None


@dataclass(frozen=True, kw_only=True)
class Procedural:
    """A `Source`: `each` different problems of every family, the families taking turns, always in the same order.

    `meta` holds dataset and entry as JSON. SourceError if a family has too few problems.
    """

    families: tuple[Family, ...]
    part: Part = "train"
    each: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.families, self.part, self.each)

    def __call__(self) -> pl.DataFrame:
        """PROMPTS."""
        rows = entries(self.families, self.part, self.each, self.seed)
        return prompts_frame((_row(family, entry) for family, entry in rows), "reasoning-gym").select(PROMPTS.names())


@dataclass(frozen=True, kw_only=True)
class Worked:
    """A source of worked examples: `each` problems of every family, in its own words, from a part of their own."""

    families: tuple[Family, ...]
    each: int | tuple[int, ...] = 500  # one number for all families, or one for each
    careless: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.families, "worked", self.each)
        need = "careless" if self.careless else "work"
        silent = [family.dataset for family in self.families if getattr(family, need) is None]
        if silent:
            raise RecipeError(f"the family {silent[0]} has no `{need}`, so its problems cannot be worked out")

    def __call__(self) -> pl.DataFrame:
        """WORKED, or SourceError."""
        rows, generator = entries(self.families, "worked", self.each, self.seed), Random(self.seed)
        worked = [(_chat(family, entry), self._worked(family, entry, generator)) for family, entry in rows]
        return pl.DataFrame(worked, schema=WORKED, orient="row")

    def _worked(self, family: Family, entry: Entry, generator: Random) -> str:
        assert family.work is not None
        return family.careless(entry, generator) if self.careless and family.careless else family.work(entry)


def ask_sum(entry: Entry) -> str:
    """`Compute 8+5-2-6`."""
    return f"Compute {_expression(entry)}"


def work_sum(entry: Entry) -> str:
    """Term by term: `8+5=13,13-2=11,11-6=5. Answer: 5`."""
    return _sum(entry, {})


def careless_sum(entry: Entry, generator: Random) -> str:
    """The same, but more often than not the ten is forgotten that is carried or borrowed: `8+5=3,3-2=1. Answer: 1`."""
    total, *terms = map(int, _terms(entry))
    slips: dict[int, int] = {}
    for place, term in enumerate(terms, 1):
        tens = (total % 10 + term) // 10 if total >= 0 else 0
        if tens and generator.random() < FORGOTTEN:
            slips[place] = -10 * tens
        total += term + slips.get(place, 0)
    return _sum(entry, slips)


def spoil_sum(entry: Entry, generator: Random) -> str:
    """The same with one step that went wrong, and right steps from there."""
    return _sum(entry, {generator.randrange(1, len(_terms(entry))): generator.choice((-10, -2, -1, 1, 2, 10))})


def _sum(entry: Entry, slips: Mapping[int, int]) -> str:
    terms = _terms(entry)
    totals = list(accumulate(int(term) + slips.get(place, 0) for place, term in enumerate(terms)))
    steps = [f"{before}{term}={after}" for before, term, after in zip(totals, terms[1:], totals[1:], strict=False)]
    return f"{','.join(steps)}. Answer: {totals[-1]}"


def _terms(entry: Entry) -> list[str]:
    return re.findall(r"[+-]?\d+", _expression(entry))


def ask_reversal(entry: Entry) -> str:
    """`Reverse lantern`."""
    return f"Reverse {entry['metadata']['word']}"


def work_reversal(entry: Entry) -> str:
    """`Answer: nretnal`."""
    return f"Answer: {entry['answer']}"


SUMS = Family(
    dataset="chain_sum",
    settings=MappingProxyType({"min_terms": 3, "max_terms": 4, "min_digits": 1, "max_digits": 1}),
    ask=ask_sum,
    work=work_sum,
    careless=careless_sum,
    spoil=spoil_sum,
)
WORDS = Family(dataset="spell_backward", ask=ask_reversal, work=work_reversal)


def _check(families: tuple[Family, ...], part: str, each: int | tuple[int, ...]) -> None:
    counts = _counts(families, each)
    if not families:
        raise RecipeError("a procedural source needs one family at least")
    if len(counts) != len(families) or min(counts) < 1:
        raise RecipeError(f"`each` is a number from 1 on, or one for each of the {len(families)} families, not {each}")
    if part not in BOUNDS:
        raise RecipeError(f"the part of a procedural source is one of {', '.join(BOUNDS)}, not {part!r}")


def _counts(families: tuple[Family, ...], each: int | tuple[int, ...]) -> tuple[int, ...]:
    return each if isinstance(each, tuple) else (each,) * len(families)


def entries(
    families: tuple[Family, ...], part: Part, each: int | tuple[int, ...], seed: int
) -> Iterator[tuple[Family, Entry]]:
    """The problems of a part, spread so that every stretch holds the families in the shares of the whole."""
    placed = [
        ((place + 0.5) / count, number, family, entry)
        for number, (family, count) in enumerate(zip(families, _counts(families, each), strict=True))
        for place, entry in enumerate(_problems(family, part, count, seed))
    ]
    yield from ((family, entry) for _, _, family, entry in sorted(placed, key=lambda one: one[:2]))


def _problems(family: Family, part: Part, count: int, seed: int) -> Iterator[Entry]:
    """`count` different problems of one part."""
    low, high = BOUNDS[part]
    dataset, seen = _dataset(family, DRAWS * count, seed), set[str]()
    for index in range(DRAWS * count):
        entry = dataset[index]
        id = prompt_id(_chat(family, entry))
        if id in seen or not low <= content_number("part", id) / 2**72 < high:
            continue
        seen.add(id)
        yield entry
        if len(seen) == count:
            return
    raise SourceError(
        f"{family.dataset} has only {len(seen)} different problems in its part {part!r}, not {count}: "
        "ask for fewer, or give it wider settings"
    )


def _dataset(family: Family, size: int, seed: int) -> Any:
    """The generator; its entries are made when they are asked for."""
    try:
        import reasoning_gym
    except ImportError as error:
        raise SourceError("procedural problems need reasoning-gym: install flywheel's extra tasks") from error
    # reasoning-gym adds the index to its seed, so that seeds which follow each other would give the same problems.
    start = content_number("procedural", family.dataset, seed) % 2**28
    try:
        return reasoning_gym.create_dataset(family.dataset, size=size, seed=start, **family.settings)
    except (AssertionError, TypeError, ValueError) as error:
        settings = dict(family.settings)
        raise SourceError(f"reasoning-gym refuses {family.dataset!r} with {settings}: {error}") from error


def _row(family: Family, entry: Entry) -> dict[str, Any]:
    try:
        meta = json.dumps({"dataset": family.dataset, "entry": entry}, ensure_ascii=False, sort_keys=True)
    except TypeError as error:
        raise SourceError(f"the entries of {family.dataset} cannot be kept as JSON: {error}") from error
    return {"chat": _chat(family, entry), "reference": entry["answer"], "meta": meta}


def _chat(family: Family, entry: Entry) -> Chat:
    return [{"role": "user", "content": family.ask(entry)}]


def _expression(entry: Entry) -> str:
    return str(entry["metadata"]["expression"]).replace(" ", "")
