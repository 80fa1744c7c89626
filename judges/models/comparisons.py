"""What judges that compare have in common: who meets whom, how a verdict is read, and a score from all comparisons."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Literal, NamedTuple

import polars as pl

from flywheel.stats import ratings
from flywheel.store.schema import VOTES
from flywheel.text.thoughts import THOUGHTS, Markers, after_thought
from judges.models import verdicts
from judges.models.shown import ENDLESS, answer_shown

Policy = Literal["consistent", "average", "weighted"]
"""How the two orders of a comparison are put together: won only if both agree, else a tie; each order half a comparison
(Lee et al. 2023); or a win in the place that the judge favours counts less (Meta-Rewarding, Wu et al. 2024)."""
Measure = Literal["wins", "rating"]
"""The share of its comparisons that an answer wins, or its Bradley-Terry rating among the answers to its prompt."""
Texts = Sequence[str | None]
"""What a judge is shown of each of SUBJECTS; None where a thought has no end."""
RepliesByVote = Mapping[tuple[int, int], tuple[str, str]]
"""What a judge's model replied, and the generation that holds it, by question and vote."""

POLICIES = {"consistent": ratings.consistent, "average": ratings.averaged, "weighted": ratings.by_position}


class Game(NamedTuple):
    """Two answers to a prompt, by their rows in SUBJECTS with `a` the earlier one, and who is shown first: ab | ba."""

    a: int
    b: int
    order: str

    @property
    def shown(self) -> tuple[int, int]:
        """The rows in the order in which they are shown."""
        return (self.a, self.b) if self.order == "ab" else (self.b, self.a)


def games(subjects: pl.DataFrame, shown: Texts, neighbours: int | None) -> Iterator[Game]:
    """Both orders of every pair of answers that meet; see `pairs`. One whose thought has no end meets nobody."""
    able = subjects.with_row_index("row").filter(pl.Series([text is not None for text in shown], dtype=pl.Boolean))
    grouped = able.group_by("prompt", maintain_order=True).agg("row", "generation")
    for rows, generations in grouped.select("row", "generation").iter_rows():
        for a, b in pairs(generations, neighbours):
            yield from (Game(rows[a], rows[b], "ab"), Game(rows[a], rows[b], "ba"))


def texts(subjects: pl.DataFrame, thoughts: Markers) -> Texts:
    """What is shown of SUBJECTS."""
    return [answer_shown(text, thoughts) for text in subjects["text"]]


def pairs(generations: Sequence[str], neighbours: int | None) -> list[tuple[int, int]]:
    """Places of those that meet: all, or each with so many on either side of it in a circle ordered by id."""
    places = range(len(generations))
    if neighbours is None or 2 * neighbours >= len(places) - 1:
        return list(combinations(places, 2))
    circle = sorted(places, key=lambda place: generations[place])
    steps = range(1, neighbours + 1)
    met = ((circle[at], circle[(at + step) % len(circle)]) for at in places for step in steps)
    return sorted((min(pair), max(pair)) for pair in met)


def replies_by_vote(replies: pl.DataFrame | None) -> RepliesByVote:
    """REPLIES by question and vote, empty if they did not end by themselves. What the engine refused is missing."""
    assert replies is not None, "these judges ask a model"
    whole = pl.when(pl.col("finish_reason") == "stop").then("text").otherwise(pl.lit(""))
    found = replies.select("chat", "index", whole, "generation").iter_rows()
    return {(chat, vote): (text, generation) for chat, vote, text, generation in found}


def verdict_after_thought(reply: str, thoughts: Markers = THOUGHTS) -> verdicts.Won | None:
    """Which slot wins by a reply, as `judges.models.verdicts` reads what follows its thoughts."""
    words = after_thought(reply, thoughts)
    return None if words is None else verdicts.read_verdict(words)


def rated(
    judge: str,
    policy: Policy,
    measure: Measure,
    subjects: pl.DataFrame,
    comparisons: pl.DataFrame,
    thoughts: Markers = THOUGHTS,
) -> pl.DataFrame:
    """VOTES: one score for each of SUBJECTS from all COMPARISONS between them; NULL for one of which none counts.

    Of one whose comparisons weigh nothing, as ties do under `weighted`, it is not known who is better: it won half.
    """
    prompts = subjects.select(a="generation", prompt="prompt")
    weighed = POLICIES[policy](comparisons).join(prompts, on="a").filter(pl.col("verdict").is_not_null())
    rate = ratings.shares if measure == "wins" else partial(ratings.rate, resamples=0)
    won = pl.DataFrame(schema=ratings.RATINGS) if weighed.is_empty() else rate(weighed, by="prompt")
    score = pl.col("share").fill_null(0.5).round(9) if measure == "wins" else pl.col("rating").round(6)
    scored = won.select("battles", "wins", generation="player", score=score)
    found = subjects.select("generation").join(scored, on="generation", how="left", maintain_order="left")
    known = found.join(_failures(comparisons), on="generation", how="left", maintain_order="left")
    ok = pl.col("score").is_not_null()
    endless = pl.Series([text is None for text in texts(subjects, thoughts)], dtype=pl.Boolean)
    return known.select(
        "generation",
        judge=pl.lit(judge),
        vote=pl.lit(0),
        score="score",
        status=pl.when(ok)
        .then(pl.lit("ok"))
        .when(endless)
        .then(pl.lit(ENDLESS.status))
        .otherwise(pl.col("status").fill_null("error")),
        detail=pl.when(ok)
        .then(pl.format("won {} of {}", pl.col("wins").round(2), pl.col("battles").round(2)))
        .when(endless)
        .then(pl.lit(ENDLESS.detail))
        .when(pl.col("status").is_null())
        .then(pl.lit("compared with no other answer"))
        .otherwise(pl.lit("no comparison with it could be read")),
        trace=pl.lit(None),
    ).cast(VOTES)


def _failures(comparisons: pl.DataFrame) -> pl.DataFrame:
    """The `status` of each `generation` that was compared, should no comparison with it count."""
    sides = pl.concat(comparisons.select("status", generation=side) for side in ("a", "b"))
    refused = (pl.col("status") == "refused").all()
    return sides.group_by("generation").agg(
        status=pl.when(refused).then(pl.lit("refused")).otherwise(pl.lit("unparsable"))
    )
