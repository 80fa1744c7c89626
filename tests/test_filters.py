"""Filters and picks: what stays, in which order, and that an absent score is never a good one."""

import random
from collections.abc import Sequence

import polars as pl
import pytest

from filters.keep import Cap, Correct, Distinct, Finished
from filters.pick import Completions
from flywheel.errors import RecipeError
from flywheel.recipe import Filter, describe
from flywheel.tables import JUDGED, PICKED


def judged(**columns: Sequence[object]) -> pl.LazyFrame:
    """JUDGED with these columns; the others as a run would have them."""
    height = len(next(iter(columns.values())))
    full = {
        "generation": [f"g{i}" for i in range(height)],
        "prompt": ["p"] * height,
        "index": list(range(height)),
        "text": [f"text {i}" for i in range(height)],
        "finish_reason": ["stop"] * height,
        "score": [1.0] * height,
    } | columns
    return (
        pl.DataFrame(full, schema_overrides={n: JUDGED[n] for n in full})
        .select(*(pl.col(n) if n in full else pl.lit(None, dtype=JUDGED[n]).alias(n) for n in JUDGED.names()))
        .lazy()
    )


def kept(rule: Filter, frame: pl.LazyFrame) -> list[str]:
    result = rule(frame).collect()
    assert result.schema == JUDGED
    return result["generation"].to_list()


def test_an_answer_without_a_score_is_never_correct() -> None:
    frame = judged(score=[1.0, 0.0, None, 0.5])
    assert kept(Correct(), frame) == ["g0"]
    assert kept(Correct(0.5), frame) == ["g0", "g3"]
    assert kept(Correct(0.0), frame) == ["g0", "g1", "g3"]


def test_an_answer_that_was_cut_off_is_not_finished() -> None:
    assert kept(Finished(), judged(finish_reason=["stop", "length", None])) == ["g0"]


def test_cap_keeps_at_most_n_for_each_prompt() -> None:
    frame = judged(prompt=["a"] * 20 + ["b"] * 3 + ["c"] * 10)
    by_prompt = Cap(10)(frame).collect().group_by("prompt").len()
    assert dict(by_prompt.iter_rows()) == {"a": 10, "b": 3, "c": 10}


def test_cap_draws_the_same_whatever_the_order_of_the_rows() -> None:
    rows = judged(prompt=["a"] * 50 + ["b"] * 50).collect()
    order = list(range(100))
    random.Random(1).shuffle(order)
    assert set(kept(Cap(7), rows.lazy())) == set(kept(Cap(7), rows[order].lazy()))
    assert kept(Cap(7), rows.lazy()) == sorted(kept(Cap(7), rows.lazy()), key=lambda g: int(g[1:]))


def test_another_seed_draws_others() -> None:
    frame = judged(prompt=["a"] * 50)
    assert set(kept(Cap(7, seed=0), frame)) != set(kept(Cap(7, seed=1), frame))


def test_cap_draws_evenly() -> None:
    frame = judged(prompt=["a"] * 8)
    counts = [0] * 8
    for seed in range(400):
        for generation in kept(Cap(2, seed), frame):
            counts[int(generation[1:])] += 1
    assert all(60 < count < 140 for count in counts), counts  # 100 expected, standard deviation 8.7


def test_cap_refuses_to_keep_nothing() -> None:
    with pytest.raises(RecipeError, match="at least one"):
        Cap(0)


def test_distinct_keeps_the_first_of_equal_texts_of_one_prompt() -> None:
    frame = judged(
        prompt=["a", "a", "a", "b", "a"], index=[2, 0, 1, 0, 3], text=["same", "same ", "other", "same", "\nsame"]
    )
    assert kept(Distinct(), frame) == ["g1", "g2", "g3"]


def test_distinct_keeps_one_where_two_draws_gave_the_same_text_at_the_same_index() -> None:
    assert kept(Distinct(), judged(index=[0, 0], text=["x", "x"])) == ["g0"]


@pytest.mark.parametrize("rule", [Correct(), Finished(), Cap(3), Distinct()], ids=lambda rule: type(rule).__name__)
def test_nothing_in_nothing_out(rule: Filter) -> None:
    assert kept(rule, judged(generation=["g"]).clear()) == []


def test_every_kept_answer_becomes_an_example() -> None:
    picked = Completions()(judged(prompt=["a", "b"], text=["x", "y"])).collect()
    assert picked.schema == PICKED
    assert picked.rows() == [("a", "x", None, 1.0, ["g0"]), ("b", "y", None, 1.0, ["g1"])]
    assert Completions()(judged(generation=["g"]).clear()).collect().schema == PICKED


def test_parameters_are_part_of_what_a_filter_is() -> None:
    assert describe(Cap(10, seed=3)) == {"is": "Cap", "n": 10, "seed": 3}
