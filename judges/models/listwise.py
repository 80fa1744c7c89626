"""A judge that sees all answers to a question at once and puts them in order."""

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations
from typing import ClassVar, NamedTuple

import polars as pl

from flywheel.errors import RecipeError
from flywheel.protocols import Asked
from flywheel.store.ids import content_id
from flywheel.store.schema import COMPARISONS, Chat
from flywheel.text.thoughts import THOUGHTS, Markers, after_thought
from judges.models.comparisons import Measure, Policy, rated, replies_by_vote
from judges.models.prompts import check_slots, conversation, fill, titled, wording
from judges.models.shown import shown_answers
from judges.models.verdicts import NOUN
from judges.models.words import undressed
from judges.verdict import last

LABELS = string.ascii_uppercase
FRILLS = re.compile(rf"['()\[\]]|\b(?i:{NOUN})\b")
RANKING_MARK = re.compile(r"(?i:ranking)\W*:")
CHAIN = re.compile(r"\b[A-Z](?:[ \t]*(?:>+|<+|=+|≻)[ \t]*[A-Z]\b)+")
LIST = re.compile(r"\s*[A-Z](?:[ \t]*(?:>+|<+|=+|≻|[,;])[ \t]*[A-Z]\b)+")
OTHER = re.compile(r"[ \t]*(?:[<>=≈≻/|]|or\b[^\n]*\b[A-Z]\b)")
NUMBERED = re.compile(r"^[ \t]*\d+[.:]?[ \t]*([A-Z])\b", re.M)
NUMBERED_ALONE = re.compile(NUMBERED.pattern + r"\W*?$", re.M)
RANKED_LABEL = re.compile(r"(=?)[ \t]*\b([A-Z])\b")


class Listing(NamedTuple):
    """Answers to a prompt by their rows in SUBJECTS, in the order in which they are shown, and which shuffle it is."""

    rows: tuple[int, ...]
    shuffle: int


@dataclass(frozen=True, kw_only=True)
class Listwise:
    """All answers to a question in order, best first: each ranking is a comparison of every two of them.

    A `PairJudge`. The answers are shown in `shuffles` random orders and in the reverse of each, so that each two of
    them come in both orders; the model is asked `model.sampling.n` times for each. A ranking that leaves an answer out
    is none.
    """

    version: ClassVar[int] = 2  # reads more forms, no chain in running text, and no thoughts
    model: Asked
    template: str = wording("listwise")
    policy: Policy = "consistent"
    measure: Measure = "wins"
    shuffles: int = 1
    thoughts: Markers = THOUGHTS  # begin and end what is read of no reply, and shown of no answer

    def __post_init__(self) -> None:
        check_slots(self.template, "question", "answers")
        if self.shuffles < 1:
            raise RecipeError(f"Listwise shows answers in at least 1 shuffle, not {self.shuffles}")

    @property
    def name(self) -> str:
        """A hash of all fields, the wording among them."""
        return titled(self)

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        """Two questions for each prompt and shuffle. Raises RecipeError for more answers than there are letters."""
        subjects = shown_answers(subjects, self.thoughts)
        asked, texts = subjects["chat"].to_list(), subjects["text"].to_list()
        return [
            self._question(asked[listing.rows[0]], [texts[row] for row in listing.rows])
            for listing in self._listings(subjects)
        ]

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        """COMPARISONS."""
        subjects = shown_answers(subjects, self.thoughts)
        ids, words, judge, votes = (
            subjects["generation"].to_list(),
            replies_by_vote(replies),
            self.name,
            self.model.sampling.n,
        )
        rows = []
        for at, (order, shuffle) in enumerate(self._listings(subjects)):
            for vote in range(votes):
                text, trace = words.get((at, vote), (None, None))
                ranks = None if text is None else ranking(text, len(order), self.thoughts)
                status = "refused" if text is None else "ok" if ranks else "unparsable"
                for a, b, first, won in _compared(order, ranks):
                    rows.append((ids[a], ids[b], first, judge, shuffle * votes + vote, won, status, trace))
        return pl.DataFrame(rows, schema=COMPARISONS, orient="row")

    def rate(self, subjects: pl.DataFrame, comparisons: pl.DataFrame) -> pl.DataFrame:
        """VOTES: the share of its comparisons that an answer wins, or its rating."""
        return rated(self.name, self.policy, self.measure, subjects, comparisons, self.thoughts)

    def _listings(self, subjects: pl.DataFrame) -> Iterator[Listing]:
        grouped = subjects.with_row_index("row").group_by("prompt", maintain_order=True).agg("row", "generation")
        for prompt, rows, generations in grouped.iter_rows():
            if len(rows) > len(LABELS):
                raise RecipeError(
                    f"Listwise ranks at most {len(LABELS)} answers at once, but prompt {prompt} has {len(rows)}: "
                    "draw fewer, or use a Pairwise with neighbours"
                )
            for shuffle in range(self.shuffles if len(rows) > 1 else 0):
                drawn = sorted(zip(rows, generations, strict=True), key=lambda it: content_id("list", shuffle, it[1]))
                order = tuple(row for row, _ in drawn)
                yield from (Listing(order, shuffle), Listing(order[::-1], shuffle))

    def _question(self, chat: Chat, texts: list[str]) -> Chat:
        slots = {f"answer_{label.lower()}": text for label, text in zip(LABELS, texts, strict=False)}
        blocks = [f"=== answer {slot[-1].upper()} {{mark}} ===\n{{{slot}}}" for slot in slots]
        template = self.template.replace("{answers}", "\n".join(blocks))
        return [{"role": "user", "content": fill(template, question=conversation(chat), **slots)}]


def _compared(shown: Sequence[int], ranks: Sequence[int] | None) -> Iterator[tuple[int, int, str, str | None]]:
    """Every two of the rows that were shown, the earlier row first: in which order, and the verdict."""
    places = {row: place for place, row in enumerate(shown)}
    for a, b in combinations(sorted(shown), 2):
        order = "ab" if places[a] < places[b] else "ba"
        lead = ranks[places[b]] - ranks[places[a]] if ranks else None
        yield a, b, order, None if lead is None else "a" if lead > 0 else "b" if lead < 0 else "tie"


def _last_words(plain: str) -> re.Match[str] | None:
    """A chain with which a reply ends. One of equals alone could be anything, such as a step of the question's own."""
    chain = last(CHAIN, plain)
    ends = chain is not None and not re.search(r"\w", plain[chain.end() :]) and re.search("[<>≻]", chain[0])
    return chain if ends else None


def _falling(chain: str) -> str:
    """A chain with the best first: `C = A < B` is `B > A = C`. One that goes both ways names nobody."""
    if "<" not in chain:
        return chain
    return "" if re.search("[>≻,;]", chain) else chain[::-1]


def ranking(reply: str, count: int, thoughts: Markers = THOUGHTS) -> list[int] | None:
    """The rank of each of the first `count` letters, 1 the best, by the last ranking of a reply, such as `B > A = C`.

    After `Ranking:` the letters may stand between commas, or each at the head of a numbered line; without it numbered
    lines must hold nothing else, and a chain is a reply's last word. None if the ranking does not name every letter
    once, or if another one stands beside it.
    """
    words = after_thought(reply, thoughts)
    plain = FRILLS.sub("", undressed(words or ""))
    *_, tail = RANKING_MARK.split(plain)
    marked = len(tail) < len(plain)
    chain = LIST.match(tail) if marked else _last_words(plain)
    numbered = NUMBERED if marked else NUMBERED_ALONE
    steps = RANKED_LABEL.findall(_falling(chain[0])) if chain else [("", label) for label in numbered.findall(tail)]
    beside = chain is not None and OTHER.match(chain.string, chain.end())
    if beside or sorted(label for _, label in steps) != list(LABELS[:count]):
        return None
    ranks = accumulate(int(sign != "=") for sign, _ in steps)
    return [rank for _, rank in sorted(zip((label for _, label in steps), ranks, strict=True))]
