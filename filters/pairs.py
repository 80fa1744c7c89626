"""What trains by comparison: JUDGED, after the filters, to PICKED with a better and a worse answer to each prompt.

Each is a frozen dataclass and a `Pick` (`flywheel.protocols`). Between two answers of the model the chosen one has the
higher score, and an answer without a score is in no pair. Texts that differ in nothing but white space at their ends
are no pair. Which pairs come out hangs on what the rows hold, not on their order. `generations` names the chosen
answer, then the rejected one.
"""

from dataclasses import dataclass

import polars as pl

from filters.expressions import TINY, chars, lot, place, score, scored
from flywheel.errors import RecipeError


@dataclass(frozen=True)
class MaxMin:
    """The answer with the highest score over the one with the lowest; a prompt whose scores are equal gives none.

    Of equal scores the first by index. With `max_chosen_chars`, a pair whose chosen answer is longer is dropped.
    Self-Rewarding (Yuan et al. 2024); over ratings, the judge's pairs of Meta-Rewarding (Wu et al. 2024).
    """

    max_chosen_chars: int | None = None

    def __post_init__(self) -> None:
        _check_chars(self.max_chosen_chars)

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to PICKED."""
        best = scored(judged).filter(place(-score).over("prompt") == 1)
        worst = scored(judged).filter(place(score).over("prompt") == 1)
        return _picked(_pairs(best, worst), self.max_chosen_chars)


@dataclass(frozen=True)
class RhoTiers:
    """The shortest of the good answers over the longest of the bad ones, against answers that grow with each iteration.

    Good are the scores within `rho` of the way from the prompt's highest to its lowest, bad those within `rho` of the
    way back. Length is in characters; of equal length the better one is good, the worse one bad, then the first by
    index. With `max_chosen_chars`, a pair whose chosen answer is longer is dropped.

    Meta-Rewarding (Wu et al. 2024): rho is 0, 0.32, 0.32 and 0.4 in its four iterations, and 2500 characters are the
    limit in the first.
    """

    rho: float
    max_chosen_chars: int | None = None

    def __post_init__(self) -> None:
        _check_chars(self.max_chosen_chars)
        if not 0 <= self.rho < 0.5:
            raise RecipeError(f"rho of RhoTiers must be from 0 to below 0.5, where the tiers meet, not {self.rho}")

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to PICKED."""
        high, low = score.max().over("prompt"), score.min().over("prompt")
        reach = self.rho * (high - low) + TINY
        good, bad = scored(judged).filter(score >= high - reach), scored(judged).filter(score <= low + reach)
        shortest = good.filter(place(chars, -score).over("prompt") == 1)
        longest = bad.filter(place(-chars, score).over("prompt") == 1)
        return _picked(_pairs(shortest, longest), self.max_chosen_chars)


@dataclass(frozen=True)
class RightOverWrong:
    """Right answers (score above 0.5) over wrong ones, in at most `pairs_per_prompt` random pairs for each prompt.

    No pair comes twice, and the answers of a prompt are used equally often as far as that goes. Iterative RPO (Pang et
    al. 2024).
    """

    pairs_per_prompt: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pairs_per_prompt < 1:
            raise RecipeError(f"RightOverWrong makes at least one pair for each prompt, not {self.pairs_per_prompt}")

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to PICKED."""
        right, wrong = judged.filter(score > 0.5), judged.filter(score <= 0.5)
        pairs = _pairs(self._shuffled(right), self._shuffled(wrong))
        # The two sides stand in two circles; each turn of the smaller one makes as many pairs as the larger one has.
        at, facing, size, others = pl.col("at"), pl.col("at_rejected"), pl.col("size"), pl.col("size_rejected")
        turn = (facing - at) % pl.min_horizontal(size, others)
        spot = pl.when(size >= others).then(at).otherwise(facing)
        nth = pl.struct(turn, spot.alias("spot")).rank("ordinal").over("prompt")
        return _picked(pairs.filter(nth <= self.pairs_per_prompt))

    def _shuffled(self, side: pl.LazyFrame) -> pl.LazyFrame:
        at = lot("pair", self.seed).rank("ordinal").over("prompt").cast(pl.Int64)
        return side.with_columns(at=at, size=pl.len().over("prompt").cast(pl.Int64))


@dataclass(frozen=True)
class HumanOverOwn:
    """The prompt's `reference`, which a human wrote, over each of the model's own answers; scores do not matter.

    A prompt without a reference gives no pair; `generations` names the rejected answer alone. SPIN (Chen et al. 2024).
    """

    def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
        """JUDGED to PICKED."""
        human, own = pl.col("reference"), pl.col("text")
        return judged.filter(human.str.strip_chars() != own.str.strip_chars()).select(
            "prompt",
            chosen=human,
            rejected=own,
            weight=pl.lit(1.0),
            generations=pl.concat_list("generation"),
        )


def _pairs(chosen: pl.LazyFrame, rejected: pl.LazyFrame) -> pl.LazyFrame:
    """Each chosen answer with each rejected one to the same prompt, if it is another text with a lower score."""
    pairs = chosen.join(rejected, on="prompt", suffix="_rejected", maintain_order="left_right")
    text, other = pl.col("text").str.strip_chars(), pl.col("text_rejected").str.strip_chars()
    return pairs.filter(pl.col("score_rejected") < score, text != other)


def _picked(pairs: pl.LazyFrame, max_chosen_chars: int | None = None) -> pl.LazyFrame:
    """PICKED from what `_pairs` gives."""
    short = pairs if max_chosen_chars is None else pairs.filter(chars <= max_chosen_chars)
    return short.select(
        "prompt",
        chosen="text",
        rejected="text_rejected",
        weight=pl.lit(1.0),
        generations=pl.concat_list("generation", "generation_rejected"),
    )


def _check_chars(max_chosen_chars: int | None) -> None:
    if max_chosen_chars is not None and max_chosen_chars < 1:
        raise RecipeError(f"max_chosen_chars must be at least 1, or None for no limit, not {max_chosen_chars}")
