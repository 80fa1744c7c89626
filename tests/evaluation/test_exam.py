"""Exams: the estimators against known values, the paired test, the interval's coverage, the gate's words."""

import itertools

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy import stats

from flywheel.evaluation.gate import decide
from flywheel.evaluation.paired_test import Comparison, bootstrap, compare, sign_flip
from flywheel.evaluation.scores import grade_exam, maj_at_k, pass_at_k
from flywheel.recipe.recipe import Gate
from flywheel.store.schema import GRADES


def grades(correct: list[int], n: int = 1, checkpoint: str = "new") -> pl.DataFrame:
    rows = [(checkpoint, "exam", f"item {i}", n, c, 0, None) for i, c in enumerate(correct)]
    return pl.DataFrame(rows, schema=GRADES, orient="row")


def flips(gained: int, lost: int, both: int, neither: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    new = [1] * gained + [0] * lost + [1] * both + [0] * neither
    old = [0] * gained + [1] * lost + [1] * both + [0] * neither
    return grades(new), grades(old, checkpoint="old")


def test_pass_at_k_gives_the_values_of_the_sheet_for_numbers_arrays_and_columns() -> None:
    expected = {1: 0.09375, 8: 0.591935, 32: 1.0}
    frame = pl.DataFrame({"n": [32], "correct": [3]}, schema={"n": pl.Int32, "correct": pl.Int32})
    for k, value in expected.items():
        assert pass_at_k(32, 3, k) == pytest.approx(value, abs=1e-6)
        assert pass_at_k(np.array([32]), np.array([3]), k)[0] == pytest.approx(value, abs=1e-6)
        column = frame.select(pass_at_k(pl.col("n"), pl.col("correct"), k)).item()
        assert column == pytest.approx(value, abs=1e-6)


def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer() -> None:
    for n, k in [(5, 1), (5, 3), (6, 6)]:
        for c in range(n + 1):
            subsets = list(itertools.combinations([1] * c + [0] * (n - c), k))
            assert pass_at_k(n, c, k) == pytest.approx(np.mean([any(s) for s in subsets]))


def votes(*details: str | None, right: str = "4", prompt: str = "p") -> pl.DataFrame:
    rows = [(prompt, i, None if d is None else float(d == right), d) for i, d in enumerate(details)]
    schema = {"prompt": pl.String, "index": pl.Int32, "score": pl.Float64, "detail": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


@pytest.mark.parametrize(
    ("details", "k", "majority"),
    [
        (["4", "5", "5"], 3, False),
        (["4", "5", "5"], 2, True),  # a tie goes to the one that came first
        (["5", "4", "4", "5"], 4, False),
        (["5", None, "4", "4"], 4, True),
        (["5", "4", "4"], 1, False),
    ],
)
def test_the_majority_of_the_first_k_counts_and_ties_go_to_the_first(
    details: list[str | None], k: int, majority: bool
) -> None:
    assert maj_at_k(votes(*details), k)["majority"].to_list() == [majority]


def test_a_prompt_without_final_answers_is_wrong_but_a_judge_that_reads_none_gives_no_majority() -> None:
    both = pl.concat([votes(None, None, prompt="a"), votes("4", "4", prompt="b")])
    assert dict(maj_at_k(both, 2).iter_rows()) == {"a": False, "b": True}
    assert maj_at_k(both.with_columns(detail=pl.lit(None, pl.String)), 2)["majority"].to_list() == [None, None]


def test_an_answer_that_could_not_be_read_does_not_vote() -> None:
    unread = pl.DataFrame({"prompt": ["p", "p"], "index": [1, 2], "score": [None, None], "detail": ["no number"] * 2})
    answers = pl.concat([votes("4"), unread.cast(votes("4").schema)])
    assert maj_at_k(answers, 3)["majority"].to_list() == [True]


def test_grades_count_a_missing_judgment_as_unscored_and_not_right() -> None:
    graded = grade_exam(pl.concat([votes("4", None, "5", "4"), votes("5", "5", prompt="q")]), "c", "e")
    assert graded.schema == GRADES
    assert graded.rows() == [("c", "e", "p", 4, 2, 1, True), ("c", "e", "q", 2, 0, 0, False)]


@pytest.mark.parametrize(("gained", "lost"), [(1, 0), (5, 0), (12, 3), (96, 14), (15, 15), (121, 59)])
def test_with_one_answer_the_test_is_exact_mcnemar(gained: int, lost: int) -> None:
    comparison = compare(*flips(gained, lost, both=20, neither=30))
    expected = stats.binomtest(gained, gained + lost, 0.5).pvalue
    assert comparison.p == pytest.approx(expected, rel=1e-9)
    assert (comparison.gained, comparison.lost) == (gained, lost)


def test_mcnemar_gives_values_known_from_textbooks() -> None:
    assert sign_flip(np.array([1] * 5)) == pytest.approx(2 / 2**5)
    assert sign_flip(np.array([1] * 9 + [-1])) == pytest.approx(22 / 1024)
    assert sign_flip(np.array([0, 0, 0])) == 1.0


def test_with_several_answers_the_test_is_the_exact_permutation_test() -> None:
    differences = np.array([3, -1, 2, 2, 0, 1, -2, 4])
    sums = [abs(np.dot(signs, np.abs(differences))) for signs in itertools.product([1, -1], repeat=len(differences))]
    expected = np.mean(np.array(sums) >= abs(differences.sum()))
    assert sign_flip(differences) == pytest.approx(expected)


def test_items_count_the_same_however_many_answers_they_have() -> None:
    new = pl.concat([grades([2], n=4), grades([0, 2], n=2).slice(1)])
    old = pl.concat([grades([1], n=4), grades([0, 1], n=2).slice(1)])
    comparison = compare(new, old)
    assert comparison.difference == pytest.approx((0.25 + 0.5) / 2)
    assert (comparison.score, comparison.incumbent) == (0.75, 0.375)


def test_the_order_of_the_rows_changes_nothing() -> None:
    new, old = flips(12, 3, both=5, neither=5)
    assert compare(new, old.sample(fraction=1, shuffle=True, seed=1)) == compare(new, old)


def test_exams_with_different_items_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="5 and 4, of which 4 are in both"):
        compare(grades([1] * 5), grades([1] * 4))
    with pytest.raises(ValueError, match="differ"):
        compare(grades([]), grades([]))


@pytest.mark.slow
def test_the_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    chances = [0.25, 0.60, 0.15]  # gained, same, lost: the true difference is 0.10

    def covered(seed: int) -> bool:
        drawn: NDArray[np.float64] = rng.choice([1.0, 0.0, -1.0], p=chances, size=200)
        low, high = bootstrap(drawn, seed)
        return low <= 0.10 <= high

    assert 0.92 <= np.mean([covered(seed) for seed in range(400)]) <= 0.98


def test_under_the_null_a_checkpoint_is_rarely_called_better_or_worse() -> None:
    rng = np.random.default_rng(0)
    small = [sign_flip(rng.integers(0, 5, 100) - rng.integers(0, 5, 100)) < 0.05 for _ in range(300)]
    assert np.mean(small) <= 0.08


def test_the_gate_promotes_what_is_significantly_better_and_says_so_in_numbers() -> None:
    decision, reason = decide(compare(*flips(96, 14, both=151, neither=339)), Gate())
    assert decision == "promote"
    assert reason == (
        "promoted: solves 0.412, the incumbent 0.275: +13.7 points "
        "(95% interval 10.3 to 16.8, p = 3e-16; 96 gained, 14 lost of 600)"
    )


@pytest.mark.parametrize(
    ("gained", "lost", "better", "not_worse"),
    [
        (30, 5, "promote", "promote"),
        (6, 5, "hold", "promote"),
        (5, 30, "roll back", "roll back"),
        (0, 0, "hold", "promote"),
    ],
)
def test_each_gate_decides_by_the_test(gained: int, lost: int, better: str, not_worse: str) -> None:
    comparison = compare(*flips(gained, lost, both=10, neither=10))
    assert decide(comparison, Gate(promote="better"))[0] == better
    assert decide(comparison, Gate(promote="not worse"))[0] == not_worse
    decision, reason = decide(comparison, Gate(promote="always"))
    assert decision == "promote" and f"{gained} gained, {lost} lost" in reason


def test_alpha_is_the_level_of_the_test() -> None:
    comparison = Comparison(100, 0.6, 0.5, 0.1, 0.01, 0.19, 0.03, 20, 10)
    assert decide(comparison, Gate(alpha=0.05))[0] == "promote"
    assert decide(comparison, Gate(alpha=0.01))[0] == "hold"
    assert "not significantly better at level 0.01" in decide(comparison, Gate(alpha=0.01))[1]


def test_no_p_is_told_as_nothing() -> None:
    assert sign_flip(np.ones(400, dtype=np.int64)) == 1e-40
