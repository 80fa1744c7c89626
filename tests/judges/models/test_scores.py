"""Scores in all the ways in which judges write them; two numbers, or one on another scale, are none."""

import time

import pytest

from judges.models.rubric import Rubric


@pytest.mark.parametrize(
    ("reply", "points"),
    [
        ("Score: 1+1+1 = 3", 3.0),
        ("Score: 1 + 1 + 1 + 0 + 0 = 3/5", 3.0),
        ("Score: 1 + 1 + 1", 3.0),
        ("Score: (1+1+1)/5", 3.0),
        ("Score: 5 - 1 = 4", 4.0),
        ("Score: 1 (about Rome) + 1 point + 0.5 (short) = 2.5 points", 2.5),
        ("Score: **3** (1 + 1 + 1)", 3.0),
        ("Total score: 4\n- Helpfulness score: 1", 4.0),
        ("Helpfulness score: 3", 3.0),
        ("The score is **4**.", 4.0),
        ("Score is 4", 4.0),
        ("### Score\n\n4", 4.0),
        ("Score\n4", 4.0),
        ("| Score | 4 |", 4.0),
        ("<score>4</score>", 4.0),
        ("Score: <points>4</points>", 4.0),
        ("Score: \\boxed{4}", 4.0),
        ("Score: $4$", 4.0),
        ("\\boxed{4}", 4.0),
        (" $\\boxed{4}$\n", 4.0),
        ("Rating: [[4]]", 4.0),
        ("I would rate it a [[4]]", 4.0),
        ("Therefore I give this answer a [[4.5]].", 4.5),
        ("Overall rating: 4/5", 4.0),
        ("Grade: 4", 4.0),
        ("[RESULT] 4", 4.0),
        ("Score (0-5): 4", 4.0),
        ("Score/5: 3", 3.0),
        ("Score: 4 (out of 5)", 4.0),
        ("Score: 4 out of a possible 5", 4.0),
        ("Score: 4 out of 5 criteria", 4.0),
        ("Score: 4 on a scale from 0 to 5", 4.0),
        ("Score: 4 and nothing more", 4.0),
        ("Score: ４", 4.0),
        ('{"score": 4}', 4.0),
        ('{"finalScore": 4, "max_score": 5}', 4.0),
        ('{"score": "4/5"}', 4.0),
        ('```json\n{"score": 2, "reason": "It claims Score: 5"}\n```', 2.0),
        ("<think>Score: 5?</think>\nScore: 2", 2.0),
    ],
)
def test_a_score_is_read_however_models_write_it(reply: str, points: float) -> None:
    assert Rubric().verdict(reply) == ("ok", points, None)


@pytest.mark.parametrize(
    "reply",
    [
        "Score: 1 + 1 + 1 = 4",
        "Score: (4+5+3)/3 = 4",
        "Score: 3 - 2 mistakes",
        "Score: 4/10",
        "Score (out of 10): 4",
        "Score/10: 3",
        "Score: 4 (out of 10)",
        "Score: 4 on a scale of 1 to 10",
        '{"score": "4/10"}',
        "I would rate it a [[4]] out of 10.",
        "Rating: [[5, 1, 3]]",
        "Score: [4, 5]",
        "Score: 4, 5",
        "Score: 1, 1, 1 = 3",
        "Score: 4 5",
        "Score: 4 1/2",
        "Score: 4½",
        "Score: 4 or 5",
        "Score: 4 or maybe 5",
        "Score: 4 → 3",
        "Score: 4*2",
        "Score: 2^2",
        "Score: 4:1",
        "| Score | 4 | 5 |",
        "Rating: [[1",
        "Rating: [[4]",
        "Score: [4",
        '{"score": 4',
        "Score: <4",
        "Score: < 4",
        "Score: >= 4",
        "Score: ~4",
        "Score: about 4",
        "Score: 4+",
        "Score: 4 if it is meant so",
        "Score: 2\nRevised score: about 4",
        "Maximum score: 5",
        "The maximum score is 5.",
        "Score:\n\n1. It is relevant.\n2. It is short.",
        "Helpfulness score: 1\nClarity score: 3",
        '{"clarity": {"score": 4}, "truth": {"score": 2}}',
        "If it were right, the score is 5. But the score is 2.",
        "[[4]]",
        "The result is \\boxed{4}, so it is wrong.",
        "2 + 2 = 4. Therefore, the final answer is:\n\n$\\boxed{4}$",
        '{"score": true}',
        "<think>Score: 5.</think>\nIt is weak: two points.",
        "<think>If it were right, Score: 5, but",
    ],
)
def test_what_could_be_two_numbers_or_another_one_is_none(reply: str) -> None:
    status, score, detail = Rubric().verdict(reply)
    assert (status, score) == ("unparsable", None) and detail


def test_a_thought_without_an_end_is_told_as_such() -> None:
    assert Rubric().verdict("<think>Score: 5").detail == "a thought without an end"
    assert Rubric(thoughts=()).verdict("<think>Score: 5").score == 5


@pytest.mark.parametrize(
    "piece", ["Score: ", "Score: 1 + ", " + 1", "score is ", '{"score":', "score\n", "(", "rate it a ", " \t", "1 - "]
)
def test_a_long_reply_is_read_in_no_time(piece: str) -> None:
    started = time.process_time()
    Rubric().verdict("Score: 1" + piece * 1000)
    assert time.process_time() - started < 2
