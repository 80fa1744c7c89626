"""The health of judges: every measure on numbers that were worked out by hand, and what cannot be told."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flywheel.health.alarms import border, crossed, going_off, tell
from flywheel.health.judge_health import Evidence, measures, right_share, self_preference
from flywheel.health.measures import MEASURES
from flywheel.pipeline.monitor import since
from flywheel.recipe.recipe import DEFAULT_ALARMS, Alarm
from flywheel.stats.estimate import Estimate, correlation, estimate, groups_of, mean, share, slope, wilson
from flywheel.store.schema import COMPARISONS, HEALTH, VOTES

SEEN = pl.Schema({**VOTES, "prompt": pl.String(), "chars": pl.Int64(), "gold": pl.Float64()})
SIDES = ("gold_a", "gold_b", "score_a", "score_b")
COMPARED = pl.Schema({**COMPARISONS, "prompt": pl.String(), **dict.fromkeys(SIDES, pl.Float64())})


def vote(score: float | None, gold: float | None = None, **more: Any) -> dict[str, Any]:
    """A vote on an answer of its own to a prompt of its own, unless it says which."""
    return {"score": score, "gold": gold, "vote": 0, "status": "unparsable" if score is None else "ok", **more}


def votes(*rows: dict[str, Any]) -> pl.DataFrame:
    full = [{"generation": f"g{at}", "prompt": f"p{at}", "chars": 10, **row} for at, row in enumerate(rows)]
    return pl.DataFrame(full, schema=SEEN)


def seen(rows: Sequence[dict[str, Any]], compared: Sequence[dict[str, Any]] = (), **more: Any) -> dict[str, Estimate]:
    return measures(Evidence(votes(*rows), pl.DataFrame(list(compared), schema=COMPARED), **more))


def value(found: dict[str, Estimate], measure: str) -> tuple[float | None, int]:
    return found[measure].value, found[measure].n


# Estimates


def alone(n: int) -> Any:
    return np.arange(n)


def test_wilsons_interval_is_that_of_the_textbook() -> None:
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_a_share_of_independent_trials_has_wilsons_interval_of_their_number() -> None:
    found = share(np.array([1, 1, 1, 0, 0, 1, 0, 1, 1, 1.0]), alone(10))
    assert found == (pytest.approx(0.7), *map(pytest.approx, wilson(0.7, 10)), 10)


def test_answers_to_a_prompt_that_are_all_alike_count_as_one() -> None:
    found = share(np.repeat([1, 1, 1, 0, 0, 1, 0, 1, 1, 1.0], 8), np.repeat(alone(10), 8))
    assert found == (pytest.approx(0.7), *map(pytest.approx, wilson(0.7, 10)), 80)


def test_answers_that_balance_each_other_count_as_no_more_than_their_number() -> None:
    assert share(np.tile([1.0, 0.0], 10), np.repeat(alone(10), 2))[1:3] == pytest.approx(wilson(0.5, 20))


def test_where_all_is_won_the_prompts_count() -> None:
    assert share(np.ones(30), np.repeat(alone(6), 5)) == (1.0, *wilson(1.0, 6), 30)


def test_a_mean_of_independent_values_has_students_interval() -> None:
    values = np.array([1.0, 2.0, 4.0, 7.0, 7.5])
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert mean(values, alone(5)) == (pytest.approx(4.3), pytest.approx(low), pytest.approx(high), 5)
    assert mean(values, alone(5), (2.0, 5.0))[1:3] == (2.0, 5.0)


def test_one_group_has_a_value_and_no_interval() -> None:
    assert mean(np.array([1.0, 3.0]), np.array([0, 0])) == (2.0, None, None, 2)


def test_nothing_is_told_of_nothing() -> None:
    empty = np.array([])
    for found in (share(empty, alone(0)), mean(empty, alone(0)), correlation(empty, empty, alone(0))):
        assert found == (None, None, None, 0)


def test_a_slope_with_something_held_fixed_is_that_of_the_regression() -> None:
    generator = np.random.default_rng(0)
    x, fixed = generator.normal(size=(2, 50))
    y = 0.3 * x - 2 * fixed + generator.normal(size=50)
    standard = [(column - column.mean()) / column.std() for column in (x, fixed, y)]
    wanted = np.linalg.lstsq(np.stack(standard[:2], axis=1), standard[2], rcond=None)[0][0]
    assert slope(y, x, fixed, alone(50)).value == pytest.approx(wanted)
    assert slope(y, x, 3 * x, alone(50)).value is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), max_size=20))
def test_what_is_told_is_a_number_within_its_interval(rows: list[tuple[int, float, float]]) -> None:
    groups, x, y = (np.array([row[place] for row in rows]) for place in range(3))
    for found in (
        correlation(x, y, groups.astype(int)),
        mean(x, groups.astype(int)),
        share(x > 0, groups.astype(int)),
        slope(x, y, np.abs(y), groups.astype(int)),
    ):
        ends = [end for end in found[:3] if end is not None]
        assert all(map(math.isfinite, ends)) and found.n == len(rows)
        assert (found.low is None) == (found.high is None)
        if found.value is not None and found.low is not None and found.high is not None:
            assert found.low - 1e-9 <= found.value <= found.high + 1e-9


def test_a_correlation_with_a_constant_is_unknown_whatever_its_rounding_errors() -> None:
    constant = np.full(9, 0.1) + 1e-17
    assert correlation(constant * 3, np.arange(9.0), alone(9)) == (None, None, None, 9)


def test_a_correlation_that_hangs_on_one_prompt_has_no_interval() -> None:
    found = correlation(np.array([0, 0, 0, 1.0]), np.array([0.0, 1, 2, 9]), alone(4))
    assert found.value is not None and found.low is None


def test_groups_are_told_apart_by_name() -> None:
    a, b, c = groups_of(pl.Series(["x", "y", "x"]))
    assert a == c != b


# Agreement


def table(both: int, accepted: int, right: int, neither: int) -> list[dict[str, Any]]:
    """Votes with these counts: accepted and right, accepted only, right only, neither."""
    return [vote(0.9, 1)] * both + [vote(0.9, 0)] * accepted + [vote(0.1, 1)] * right + [vote(0.1, 0)] * neither


def test_accuracy_and_kappa_of_a_textbook_table() -> None:
    found = seen(table(20, 5, 10, 15))
    assert value(found, "accuracy") == (pytest.approx(0.7), 50)
    assert value(found, "kappa") == (pytest.approx(0.4), 50)
    assert found["accuracy"][1:3] == pytest.approx(wilson(0.7, 50))


def test_the_interval_of_kappa_is_as_wide_as_that_of_tables_drawn_anew() -> None:
    both, accepted, right, neither = np.random.default_rng(0).multinomial(500, [0.4, 0.1, 0.2, 0.3], 4000).T / 500
    chance = (both + accepted) * (both + right) + (right + neither) * (accepted + neither)
    kappas = (both + neither - chance) / (1 - chance)
    low, high = seen(table(200, 50, 100, 150))["kappa"][1:3]
    assert low is not None and high is not None
    assert (low + high) / 2 == pytest.approx(0.4) and high - low == pytest.approx(2 * 1.96 * kappas.std(), rel=0.05)


def test_true_and_false_positives_and_the_precision() -> None:
    found = seen(table(20, 5, 10, 15))
    assert value(found, "true positives") == (pytest.approx(20 / 30), 30)
    assert value(found, "false positives") == (pytest.approx(5 / 20), 20)
    assert value(found, "precision") == (pytest.approx(20 / 25), 25)


def test_hard_prompts_give_the_dirtiest_data() -> None:
    """Right answers are accepted with 3 of 4, wrong ones with 1 of 4: of a prompt with 1 right of 4, half is right."""
    easy = [vote(0.9, 1), vote(0.9, 1), vote(0.1, 1), vote(0.1, 0)]
    hard = [vote(0.9, 1), vote(0.9, 0), vote(0.1, 0), vote(0.1, 0)]
    rows = [row | {"prompt": name} for name, part in (("easy", easy), ("hard", hard)) for row in part]
    found = seen(rows)
    assert (found["true positives"].value, found["false positives"].value) == (0.75, 0.25)
    assert value(found, "precision 75-100%") == (1.0, 2) and value(found, "precision 25-50%") == (0.5, 2)
    assert value(found, "implied precision 75-100%") == (pytest.approx(0.9), 4)
    assert value(found, "implied precision 25-50%") == (pytest.approx(0.5), 4)
    assert "precision 0-25%" not in found and "precision 50-75%" not in found


def test_calibration_error_and_generosity() -> None:
    found = seen([vote(0.95, 1), vote(0.85, 0), vote(0.85, 1), vote(0.15, 0)])
    assert value(found, "calibration error") == (pytest.approx((0.05 + 0.7 + 0.15) / 4), 4)
    assert value(found, "generosity") == (pytest.approx((-0.05 + 0.85 - 0.15 + 0.15) / 4), 4)
    assert value(seen([vote(1.0, 1), vote(0.0, 0)]), "calibration error") == (0.0, 2)


def test_scores_are_moved_to_a_scale_from_0_to_1() -> None:
    rows = [vote(5, 1), vote(3, 0), vote(1, 0), vote(3.1, 1)]
    found = seen(rows, scale=(1.0, 5.0))
    assert value(found, "accuracy") == (1.0, 4)
    assert value(found, "generosity") == (pytest.approx((0 + 0.5 + 0 + 0.525 - 1) / 4), 4)
    assert value(found, "saturation") == (0.25, 4)
    assert value(found, "score") == (pytest.approx(3.025), 4)


def test_without_a_scale_only_orders_are_told() -> None:
    found = seen([vote(-3.5, 0), vote(12, 1), vote(7, 0), vote(8, 1)], scale=None)
    assert found["spearman"].value == pytest.approx(0.8944, abs=1e-4)
    assert not {"accuracy", "kappa", "generosity", "calibration error", "saturation"} & set(found)


def test_spearman_is_scipys_with_ties_too() -> None:
    scores, gold = [1, 2, 2, 3, 5, 5, 4], [0, 0.5, 0.25, 0.5, 1, 0.75, 1]
    found = seen([vote(*row) for row in zip(scores, gold, strict=True)], scale=(0.0, 5.0))
    assert found["spearman"].value == pytest.approx(stats.spearmanr(scores, gold).statistic)


def test_ranking_counts_pairs_of_one_prompt_only() -> None:
    one = [vote(3, 1), vote(1, 1), vote(2, 0), vote(1, 0)]  # 3>2, 3>1, 1<2, 1=1
    other = [vote(0, 1), vote(5, 0)]
    same = [vote(5, 1), vote(0, 1)]
    rows = [row | {"prompt": name} for name, part in (("a", one), ("b", other), ("c", same)) for row in part]
    assert value(seen(rows, scale=None), "ranking") == (pytest.approx(2.5 / 5), 5)


def test_labels_that_only_order_tell_nothing_absolute() -> None:
    found = seen([vote(0.9, 1, prompt="a"), vote(0.8, 0, prompt="a")], absolute=False)
    assert found["ranking"].value == 1.0
    assert not {"accuracy", "kappa", "spearman", "calibration error"} & set(found)


def test_an_answer_that_either_side_left_unscored_is_not_compared() -> None:
    found = seen([vote(1, 1), vote(0, 0), vote(None, 1), vote(1, None)])
    assert value(found, "accuracy") == (1.0, 2)
    assert value(found, "failed") == (0.25, 4)
    assert value(found, "score") == (pytest.approx(2 / 3), 3)


def test_right_counts_an_answer_without_gold_as_not_right() -> None:
    found = right_share(votes(vote(1, 1), vote(1, 0.4), vote(None, None), vote(1, 1)))
    assert (found.value, found.n) == (0.5, 4)


# What sways a judge


def test_verbosity_is_the_standardised_slope_over_the_logarithm_of_the_length() -> None:
    lengths, scores, gold = [0, 9, 99, 999, 9999, 5], [0.1, 0.2, 0.5, 0.4, 0.9, 0.3], [0, 0, 1, 0, 1, 1]
    rows = [vote(s, g, chars=c) for s, g, c in zip(scores, gold, lengths, strict=True)]
    found = seen(rows)
    logs = np.log1p(lengths)
    assert found["verbosity"].value == pytest.approx(stats.pearsonr(scores, logs).statistic)
    z = [stats.zscore(column) for column in (logs, gold, scores)]
    wanted = np.linalg.lstsq(np.stack(z[:2], axis=1), z[2], rcond=None)[0][0]
    assert found["verbosity at equal gold"].value == pytest.approx(wanted)


def test_self_preference_compares_at_equal_gold() -> None:
    def rows(own: bool, *pairs: tuple[float, float]) -> list[dict[str, Any]]:
        return [{"prompt": f"{own}{at}", "own": own, "score": s, "gold": g} for at, (s, g) in enumerate(pairs)]

    own = rows(True, (4, 1), (5, 1), (2, 0))
    others = rows(False, (3, 1), (3, 1), (1, 0), (2, 0), (1.5, 0), (5, 0.5))
    found = self_preference(pl.DataFrame(own + others))
    # gold 1: 4.5 - 3 with weight 2*2/4 = 1; gold 0: 2 - 1.5 with weight 1*3/4; gold 0.5 has others only
    assert (found.value, found.n) == (pytest.approx((1.5 * 1 + 0.5 * 0.75) / 1.75), 8)
    for alone in (own, others, []):
        schema = {"prompt": pl.String, "own": pl.Boolean, "score": pl.Float64, "gold": pl.Float64}
        assert self_preference(pl.DataFrame(alone, schema=schema)).n == 0


def pair(a: str, b: str, order: str, verdict: str | None, vote: int = 0, **more: Any) -> dict[str, Any]:
    status = "ok" if verdict else "timeout"
    row = {"a": a, "b": b, "order": order, "judge": "j", "vote": vote, "verdict": verdict, "status": status}
    return {"prompt": a + b, **row, **more}


PAIRS = [
    pair("x", "y", "ab", "a"), pair("x", "y", "ba", "a"),  # the same in both orders
    pair("x", "z", "ab", "a"), pair("x", "z", "ba", "b"),  # always the one that was shown first
    pair("y", "z", "ab", "tie"), pair("y", "z", "ba", "b"),  # changes
    pair("u", "v", "ab", None), pair("u", "v", "ba", "b"),  # one order failed
]  # fmt: skip


def test_a_verdict_flips_where_the_two_orders_disagree() -> None:
    assert value(seen([vote(1)], PAIRS), "flip rate") == (pytest.approx(2 / 3), 3)


def test_the_first_slot_is_counted_without_ties() -> None:
    # ab/a first, ba/a second, ab/a first, ba/b first, ba/b first, ba/b first
    assert value(seen([vote(1)], PAIRS), "first slot") == (pytest.approx(5 / 6), 6)


def test_votes_of_one_pair_are_compared_each_for_itself() -> None:
    rows = [pair("x", "y", "ab", "a"), pair("x", "y", "ba", "b", 1), pair("x", "y", "ba", "a"),
            pair("x", "y", "ab", "a", 1)]  # fmt: skip
    assert value(seen([vote(1)], rows), "flip rate") == (0.5, 2)


def test_failures_of_a_judge_of_pairs_are_those_of_its_verdicts() -> None:
    found = seen([vote(1)], PAIRS)
    assert value(found, "failed") == value(found, "timeout") == (0.125, 8)
    assert "unparsable" not in found


def test_verdicts_between_right_and_wrong_are_held_against_gold() -> None:
    gold = {"gold_a": 1.0, "gold_b": 0.0}
    rows = [
        pair("x", "y", "ab", "a", **gold),
        pair("x", "z", "ab", "b", **gold),
        pair("w", "y", "ab", "tie", **gold),
    ]
    rows += [
        pair("y", "z", "ab", "a", gold_a=0.0, gold_b=0.0),
        pair("p", "q", "ba", "b", gold_a=0.0, gold_b=1.0),
    ]
    assert value(seen([vote(1)], rows), "verdict accuracy") == (pytest.approx(2.5 / 4), 4)


def test_anchoring_is_the_share_for_the_judgment_with_the_higher_score() -> None:
    rows = [pair("s", "t", "ab", "a", score_a=4, score_b=2), pair("s", "u", "ab", "b", score_a=4, score_b=5),
            pair("s", "v", "ab", "b", score_a=4, score_b=1), pair("t", "w", "ab", "a", score_a=2, score_b=2),
            pair("s", "w", "ab", "tie", score_a=4, score_b=2)]  # fmt: skip
    assert value(seen([vote(1)], rows), "anchoring") == (pytest.approx(2 / 3), 3)
    assert "anchoring" not in seen([vote(1)], PAIRS)


# Whether a judge repeats itself


def test_retest_difference_is_the_mean_over_answers_of_the_distance_of_two_votes() -> None:
    one = [vote(s, generation="x", vote=v) for v, s in enumerate((4, 1, 3))]  # 3, 1, 2
    two = [vote(s, generation="y", vote=v) for v, s in enumerate((2, None, 2.5))]
    found = seen([*one, *two, vote(5, generation="z")], scale=(0.0, 5.0))
    assert value(found, "retest difference") == (pytest.approx((2 + 0.5) / 2), 2)


def test_retest_alpha_is_that_of_krippendorffs_example() -> None:
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    rows = [
        vote(score, generation=f"g{unit}", prompt=f"p{unit}", vote=number)
        for number, scores in enumerate(observers)
        for unit, score in enumerate(scores)
    ]
    assert value(seen(rows, scale=None), "retest alpha") == (pytest.approx(0.849, abs=5e-4), 11)


def test_votes_that_are_all_the_same_say_nothing_beyond_chance() -> None:
    rows = [vote(3, generation=f"g{at % 4}", vote=at // 4) for at in range(12)]
    found = seen(rows, scale=(0.0, 5.0))
    assert found["retest alpha"] == (None, None, None, 4) and found["retest difference"].value == 0.0


def test_one_vote_cannot_be_tested_again() -> None:
    assert not {"retest difference", "retest alpha"} & set(seen([vote(1), vote(0)]))


# What cannot be told


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [vote(None)] * 3,
        [vote(1, 1)],
        [vote(1, 1)] * 4,
        [vote(0, 0)] * 4,
        [vote(0.5, None), vote(0.7, None)],
        [vote(1, 1, prompt="p"), vote(1, 1, prompt="p")],
        [vote(None, 1), vote(1, None)],
        [vote(0.3, 1, chars=0), vote(0.3, 0, chars=0)],
    ],
)
def test_what_cannot_be_told_is_none_and_never_nan(rows: list[dict[str, Any]]) -> None:
    for name, found in seen(rows).items():
        assert name in MEASURES and found.n > 0
        assert all(end is None or math.isfinite(end) for end in found[:3])


def test_one_class_has_an_accuracy_but_no_kappa_and_no_rank() -> None:
    found = seen([vote(1, 1)] * 6)
    assert found["accuracy"].value == 1.0 and found["precision"].value == 1.0
    assert found["kappa"] == (None, None, None, 6) and found["spearman"].value is None
    assert "false positives" not in found and "ranking" not in found


scores = st.one_of(st.none(), st.floats(0, 1))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), scores, scores, st.integers(0, 500)), max_size=24))
def test_every_measure_is_known_and_finite(rows: list[tuple[int, int, float | None, float | None, int]]) -> None:
    golds: dict[str, float | None] = {}
    full = [
        vote(score, golds.setdefault(f"{p}-{g}", gold), prompt=f"p{p}", generation=f"{p}-{g}", vote=at, chars=chars)
        for at, (p, g, score, gold, chars) in enumerate(rows)
    ]
    for name, found in seen(full).items():
        assert name in MEASURES and found.n > 0
        assert all(end is None or math.isfinite(end) for end in found[:3])
        bounded = name not in (
            "generosity",
            "spearman",
            "kappa",
            "verbosity",
            "verbosity at equal gold",
            "retest alpha",
        )
        if bounded and found.value is not None:
            assert -1e-9 <= found.value <= 1 + 1e-9


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(12)))
def test_the_order_of_the_votes_makes_no_difference(order: Sequence[int]) -> None:
    rows = [vote(at % 5 / 4, at % 2, prompt=f"p{at % 3}", generation=f"g{at}", chars=at**2) for at in range(12)]
    shuffled = seen([rows[at] for at in order])
    for name, expected in seen(rows).items():
        assert shuffled[name][:3] == pytest.approx(expected[:3], abs=1e-9), name


# From one iteration to the next


def health(iteration: int, **measured: tuple[float | None, float | None, float | None]) -> pl.DataFrame:
    rows = [("r", iteration, "j", name.replace("_", " "), *three, 100) for name, three in measured.items()]
    return pl.DataFrame(rows, schema=HEALTH, orient="row")


def test_drift_is_told_in_standard_deviations_of_the_first_iteration() -> None:
    before = pl.concat([
        health(1, score=(4.1, 4.0, 4.2), deviation=(0.5, None, None), accuracy=(0.7, 0.65, 0.75)),
        health(2, score=(4.5, 4.4, 4.6), deviation=(0.2, None, None), accuracy=(0.8, 0.77, 0.83)),
    ])  # fmt: skip
    now = {"score": Estimate(4.7, 4.6, 4.8, 90), "accuracy": Estimate(0.74, 0.70, 0.78, 90)}
    found = dict(since(now, before))
    reach = math.hypot(0.2, 0.2) / 2 / 0.5
    assert found["drift"] == (pytest.approx(1.2), pytest.approx(1.2 - reach), pytest.approx(1.2 + reach), 90)
    reach = math.hypot(0.06, 0.08) / 2
    lost = found["accuracy lost"]
    assert (lost.value, lost.low, lost.high) == pytest.approx((0.06, 0.06 - reach, 0.06 + reach))


def test_nothing_has_changed_before_anything_was_measured() -> None:
    now = {"score": Estimate(4.7, 4.6, 4.8, 90), "accuracy": Estimate(0.74, 0.70, 0.78, 90)}
    assert dict(since(now, HEALTH.to_frame())) == {}
    assert dict(since(now, health(1, score=(1.0, 1.0, 1.0), deviation=(0.0, None, None)))) == {}


# Alarms


@pytest.mark.parametrize(
    ("alarm", "found", "said"),
    [
        (Alarm("kappa", at_least=0.4), Estimate(0.2, 0.1, 0.3, 9), "below 0.4"),
        (Alarm("kappa", at_least=0.4), Estimate(0.2, 0.0, 0.5, 9), None),  # not certain
        (Alarm("kappa", at_least=0.4), Estimate(0.2, None, None, 9), "below 0.4"),
        (Alarm("kappa", at_least=0.4), Estimate(None, None, None, 9), None),
        (Alarm("kappa", at_least=0.4), Estimate(0.4, 0.4, 0.4, 9), None),
        (Alarm("kappa", at_most=0.1), Estimate(0.2, 0.15, 0.3, 9), "above 0.1"),
        (Alarm("kappa", at_most=0.1), Estimate(0.2, 0.05, 0.3, 9), None),
        (Alarm("kappa", at_least=0.4, judge="other"), Estimate(0.2, 0.1, 0.3, 9), None),
        (Alarm("kappa", at_least=0.4, judge="j"), Estimate(0.2, 0.1, 0.3, 9), "below 0.4"),
        (Alarm("accuracy", at_least=0.4), Estimate(0.2, 0.1, 0.3, 9), None),
    ],
)
def test_an_alarm_goes_off_when_the_whole_interval_lies_beyond(alarm: Alarm, found: Estimate, said: str | None) -> None:
    assert crossed(alarm, "j", "kappa", found) == said


def test_the_default_alarms_are_about_what_is_measured() -> None:
    assert {alarm.measure for alarm in DEFAULT_ALARMS} <= set(MEASURES)
    assert [alarm.measure for alarm in DEFAULT_ALARMS if alarm.red] == ["ranking"]


def test_red_alarms_are_told_first_and_each_says_what_is_crossed() -> None:
    alarms = (Alarm("accuracy", at_least=0.9), Alarm("drift", at_most=0.1), Alarm("accuracy", at_least=0.8, red=True))
    told = going_off(alarms, health(2, accuracy=(0.7, 0.65, 0.75), score=(1.0, 1.0, 1.0)))
    assert [str(line) for line in told] == [
        "red alarm: j: accuracy is 0.7 (0.65 to 0.75), below 0.8",
        "alarm: j: accuracy is 0.7 (0.65 to 0.75), below 0.9",
    ]


def test_lines_in_words() -> None:
    assert border(Alarm("first slot", at_least=0.35, at_most=0.65)) == "at least 0.35 and at most 0.65"
    assert border(Alarm("failed", at_most=0.1)) == "at most 0.1"


def test_numbers_in_words() -> None:
    assert tell(Estimate(0.12345, 0.1, 0.2, 5)) == "0.123 (0.1 to 0.2)"
    assert [tell(Estimate(7.0, None, None, 5)), tell(Estimate(None, None, None, 5))] == ["7", "unknown"]


def test_a_statistic_may_have_no_value() -> None:
    nan: Callable[[Any], Any] = lambda sums: sums[..., 0] * np.nan  # noqa: E731
    assert estimate(np.ones((3, 1)), alone(3), nan) == (None, None, None, 3)
