"""Filters and picks: what stays, in which order, and that an absent score is never a good one."""

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.completions import Completions, Unpaired
from filters.score_filters import Best, Correct, DropUnanimous, LabelBalance, MostDisputed, ScoreGap, TopFraction
from filters.text_filters import Cap, Distinct, Finished, MaxChars
from flywheel.errors import RecipeError
from flywheel.identity import describe
from flywheel.protocols import Filter
from flywheel.store import queries
from flywheel.store.schema import JUDGED, PICKED
from flywheel.store.store import Store
from tests.store import test_views

LOOK_AT_SCORES: tuple[Filter, ...] = (
    Correct(-9.0),
    Best(2),
    TopFraction(1.0),
    TopFraction(0.35),
    ScoreGap(0.5),
    DropUnanimous(),
    LabelBalance(0.4),
)
RULES: tuple[Filter, ...] = (*LOOK_AT_SCORES, Finished(), Cap(3), Distinct(), MaxChars(2), MostDisputed())


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
    reasons = ["stop", "length", None, "content_filter", "tool_calls", "abort", "refusal", "reasoning", "unknown", ""]
    assert kept(Finished(), judged(finish_reason=reasons)) == ["g0"]


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


def test_characters_are_counted_not_bytes() -> None:
    assert kept(MaxChars(3), judged(text=["äöü", "four", "", " no "])) == ["g0", "g2"]


def test_the_best_of_each_prompt_stay_and_of_equal_ones_the_first() -> None:
    frame = judged(prompt=["a", "a", "a", "a", "b"], index=[3, 0, 2, 1, 0], score=[5, 1, 5, None, None])
    assert kept(Best(), frame) == ["g2"]
    assert kept(Best(2), frame) == ["g0", "g2"]
    assert kept(Best(9), frame) == ["g0", "g1", "g2"]


def test_the_top_fraction_is_of_all_prompts_together_and_never_more() -> None:
    frame = judged(prompt=[*"aabbccddee", "f"], score=[9, 1, 8, 7, 2, 2, 2, 2, 2, 2, None])
    assert kept(TopFraction(0.3), frame) == ["g0", "g2", "g3"]
    assert kept(TopFraction(0.5), frame) == ["g0", "g2", "g3", "g4", "g5"]
    assert kept(TopFraction(0.39), frame) == ["g0", "g2", "g3"]
    assert len(kept(TopFraction(1.0), frame)) == 10


def test_prompts_stay_whose_scores_are_far_enough_apart() -> None:
    frame = judged(prompt=["a", "a", "b", "b", "c", "d", "d"], score=[5.1, 4.1, 2, 2.9, 9, 5.0, None])
    assert kept(ScoreGap(1.0), frame) == ["g0", "g1"]
    assert kept(ScoreGap(0.9), frame) == ["g0", "g1", "g2", "g3"]


def test_prompts_whose_answers_are_all_as_good_are_dropped() -> None:
    frame = judged(prompt=["a", "a", "b", "b", "b", "c"], score=[1, 1, 1, 0, None, 1])
    assert kept(DropUnanimous(), frame) == ["g2", "g3"]


def test_the_most_disputed_answer_of_each_prompt_stays() -> None:
    frame = judged(
        prompt=["a", "a", "a", "a", "b", "c"], index=[0, 2, 1, 3, 0, 0], deviation=[0.1, 0.9, 0.9, None, None, 0.0]
    )
    assert kept(MostDisputed(), frame) == ["g2", "g5"]


def test_score_and_deviation_are_of_the_first_judges_valid_votes(tmp_path: Path) -> None:
    frame, judgment = test_views.frame, test_views.judgment
    votes = {"g0": (0.1, 0.2, 0.3, None), "g1": (0.3, 0.2, 0.1), "g2": (4.0, None), "g3": (None,)}
    drawn = {"prompt": "p", "checkpoint": "base", "draw": "d"}
    answers = {id: {**drawn, "index": index} for index, id in enumerate((*votes, "g4"))}
    said = [judgment(id, "first", score, vote) for id in votes for vote, score in enumerate(votes[id])]
    said += [judgment(id, "second", 9.0, vote) for id in ("g0", "g3") for vote in range(2)]
    store = Store(tmp_path / "flywheel.duckdb")
    store.add("prompts", frame("prompts", {"id": "p"}))
    store.add("iterations", frame("iterations", {"id": "i", "run": "r", "number": 1, "policy": "base", "draw": "d"}))
    store.add("proposals", frame("proposals", {"iteration": "i", "position": 0, "prompt": "p"}))
    store.add("generations", frame("generations", *({"id": id, **answers[id]} for id in answers)))
    store.add("judgments", frame("judgments", *(row | answers[row["generation"]] for row in said)))
    rows = queries.judged(store, "i", {"first": "first", "second": "second"})
    assert rows["score"].to_list() == [0.2, 0.2, 4.0, None, None]  # 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 everywhere
    assert rows["deviation"].to_list() == [0.1, 0.1, None, None, None]
    assert DropUnanimous()(rows.head(2).lazy()).collect().is_empty()


def stays(scores: Sequence[float | None], **settings: float) -> dict[float, int]:
    frame = judged(score=scores)
    return dict(Counter(LabelBalance(**settings)(frame).collect()["score"].to_list()))


def test_no_score_is_more_common_than_its_share() -> None:
    assert stays([4.0] * 60 + [3.0] * 20 + [5.0] * 20 + [None]) == {4: 26, 3: 20, 5: 20}  # 26 / 66 = 0.394
    assert stays([1.0] * 30 + [0.0] * 10, share=0.5) == {1: 10, 0: 10}
    assert stays([1.0] * 30 + [0.0] * 10, share=0.4) == {1: 10, 0: 10}  # two bins cannot both be below 0.5
    assert stays([1.0] * 30) == {1: 30}  # nothing to balance it with
    one_bin = [4.1, 4.9, 4.5, 4.0]
    assert len(left := stays([*one_bin, 5.0, 3.0], share=0.34)) == 3 and {5.0, 3.0} < set(left)
    assert stays([0.1] * 6 + [0.4] * 2, share=0.5, width=0.3) == {0.1: 2, 0.4: 2}


def test_shares_and_borders_are_exact_where_floating_point_is_not() -> None:
    assert len(kept(TopFraction(0.29), judged(score=[1.0] * 100))) == 29  # 0.29 * 100 is 28.999999999999996
    assert stays([4.0] * 50 + [3.0] * 29 + [2.0] * 29 + [1.0] * 13, share=0.29) == {4: 29, 3: 29, 2: 29, 1: 13}
    assert sum(stays([0.29, 0.295, 0.1], share=0.5, width=0.01).values()) == 2  # 0.29 * 100 again


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    counts=st.lists(st.integers(1, 15), min_size=1, max_size=5), share=st.sampled_from([0.1, 0.25, 0.3, 0.4, 0.5, 1.0])
)
def test_balance_drops_no_more_than_it_must(counts: list[int], share: float) -> None:
    def fits(cap: int) -> bool:
        left = [min(count, cap) for count in counts]
        return max(left) <= share * sum(left) + 1e-9

    cap = max((cap for cap in range(1, 16) if fits(cap)), default=0)
    expected = {float(label): min(count, max(cap, min(counts))) for label, count in enumerate(counts)}
    assert stays([float(label) for label, count in enumerate(counts) for _ in range(count)], share=share) == expected


@pytest.mark.parametrize("rule", LOOK_AT_SCORES, ids=repr)
def test_no_filter_that_looks_at_scores_lets_an_answer_without_one_pass(rule: Filter) -> None:
    names = kept(rule, judged(score=[1.0, None, 0.0, 2.0, None, 3.0, 4.0]))
    assert names and not {"g1", "g4"} & set(names)


ROWS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 3),
        st.sampled_from(["", "x", "x ", "yyy"]),
        st.none() | st.sampled_from([0.0, -0.0, 0.5, 1.0, 4.9]) | st.floats(-5, 5),
        st.none() | st.sampled_from([0.0, 0.5]) | st.floats(0, 3),
    ),
    min_size=1,
    max_size=20,
)


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES, ids=repr)
@settings(max_examples=30, deadline=None)
@given(rows=ROWS, data=st.data())
def test_the_order_of_the_rows_changes_nothing_but_their_order(
    rule: Filter, rows: list[tuple[object, ...]], data: st.DataObject
) -> None:
    names = ("prompt", "index", "text", "score", "deviation")
    frame = judged(**dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))).collect()
    order = data.draw(st.permutations(range(len(rows))))
    once, shuffled = kept(rule, frame.lazy()), kept(rule, frame[order].lazy())
    assert sorted(once) == sorted(shuffled)
    assert once == [name for name in frame["generation"] if name in once]
    assert shuffled == [name for name in frame[order]["generation"] if name in once]


@pytest.mark.parametrize(("rule", "most"), [(Cap(2), 2), (Best(2), 2), (MostDisputed(), 1)], ids=repr)
@settings(max_examples=30, deadline=None)
@given(prompts=st.lists(st.sampled_from("abcd"), min_size=1, max_size=30))
def test_no_prompt_has_more_answers_than_its_cap(rule: Filter, most: int, prompts: list[str]) -> None:
    left = rule(judged(prompt=prompts, deviation=[1.0] * len(prompts))).collect()
    assert Counter(left["prompt"]) == {prompt: min(most, count) for prompt, count in Counter(prompts).items()}


@pytest.mark.parametrize(
    "make",
    [
        lambda: MaxChars(0),
        lambda: Best(0),
        lambda: TopFraction(0),
        lambda: TopFraction(1.5),
        lambda: ScoreGap(0),
        lambda: LabelBalance(0),
        lambda: LabelBalance(width=0),
        lambda: ScoreGap(math.nan),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(RecipeError, match=", not |, but n is 0"):
        make()


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_nothing_in_nothing_out(rule: Filter) -> None:
    assert kept(rule, judged(generation=["g"]).clear()) == []


def test_every_kept_answer_becomes_an_example() -> None:
    picked = Completions()(judged(prompt=["a", "b"], text=["x", "y"])).collect()
    assert picked.schema == PICKED
    assert picked.rows() == [("a", "x", None, 1.0, ["g0"]), ("b", "y", None, 1.0, ["g1"])]
    assert Completions()(judged(generation=["g"]).clear()).collect().schema == PICKED


def test_an_answer_is_good_or_bad_by_the_sign_of_its_weight_and_neither_without_a_score() -> None:
    picked = Unpaired(3.0)(judged(score=[3.0, 2.9, None])).collect()
    assert picked.schema == PICKED
    assert picked.rows() == [("p", "text 0", None, 1.0, ["g0"]), ("p", "text 1", None, -1.0, ["g1"])]


def test_parameters_are_part_of_what_a_filter_is() -> None:
    assert describe(Cap(10, seed=3)) == {"is": "Cap", "n": 10, "seed": 3}
