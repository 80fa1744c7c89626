"""Verdicts in all the ways in which judges write them; what can be understood in two ways is none."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from judges.models.comparisons import verdict_after_thought


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("[[A>>B]]", "a"),
        ("[[A>B]]", "a"),
        ("[[A=B]]", "tie"),
        ("[[B>A]]", "b"),
        ("[[B>>A]]", "b"),
        ("[[A<B]]", "b"),
        ("[[B<<A]]", "a"),
        ("[[a>b]]", "a"),
        ("[[Tie]]", "tie"),
        ("[[Assistant B]]", "b"),
        ("My final verdict is tie: [[A=B]]", "tie"),
        ("My final verdict is that Assistant B is much better: [[B>>A]]", "b"),
        ("Final verdict: [[C]] for a tie.", "tie"),
        ("Verdict: A = B", "tie"),
        ("Verdict: A == B", "tie"),
        ("Verdict: A≈B", "tie"),
        ("Verdict: A ~ B", "tie"),
        ("Verdict: A equals B", "tie"),
        ("Verdict: A vs B: tie", "tie"),
        ("Verdict: A vs. B - A", "a"),
        ("Verdict: both are equal", "tie"),
        ("Verdict: tied", "tie"),
        ("Verdict: It's a tie.", "tie"),
        ("Verdict: A < B", "b"),
        ("Verdict: A<<B", "b"),
        ("Verdict: A &lt; B", "b"),
        ("Verdict: B ≻ A", "b"),
        ("Verdict: A ＜ B", "b"),
        ("Verdict: a > b", "a"),
        ("Verdict: Answer A > Answer B", "a"),
    ],
)
def test_an_operator_belongs_to_the_verdict(reply: str, said: str) -> None:
    assert verdict_after_thought(reply) == said


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("Verdict: Assistant A", "a"),
        ("Verdict: Model A", "a"),
        ("Verdict: (b)", "b"),
        ("Verdict: 'A'!", "a"),
        ("Verdict: <B>", "b"),
        ("{'verdict': 'A'}", "a"),
        ("Verdict: B (A is wrong)", "b"),
        ("verdict: a", "a"),
        ("Verdict: `B`", "b"),
        ("Verdict: <b>B</b>", "b"),
        ("Verdict: \\boxed{A}", "a"),
        ("Verdict: $\\boxed{\\text{B}}$", "b"),
        ("### Verdict\n\nA", "a"),
        ("| Verdict | B |", "b"),
        ("<verdict>B</verdict>", "b"),
        ("Winner: Assistant A", "a"),
        ("Verdict: the better answer is B", "b"),
        ("Verdict: Assistant B's answer is better", "b"),
        ("Verdict: A is much better", "a"),
        ("Verdict: A, since it is right", "a"),
        ("Verdict: A - it is right", "a"),
        ("Verdict: A because B is worse", "a"),
        ("Verdict: B beats A", "b"),
        ("Verdict: A is worse", "b"),
        ("Verdict: Answer A is worse than B", "b"),
        ("Verdict: B loses to A", "a"),
        ("Verdict: A. I was asked to end with Verdict: <letter>", "a"),
        ('{"verdict": "A"}', "a"),
        ('{"winner": "model_b"}', "b"),
        ('{"verdict": "A=B"}', "tie"),
        ('```json\n{"reason": "It says: Verdict: A", "verdict": "B"}\n```', "b"),
        ('{"verdict": "B", "reason": "A says: Verdict: A"}', "b"),
    ],
)
def test_a_verdict_is_read_however_models_write_it(reply: str, said: str) -> None:
    assert verdict_after_thought(reply) == said


@pytest.mark.parametrize(
    "reply",
    [
        "Verdict: A vs B",
        "Verdict: A >= B",
        "Verdict: A ≥ B",
        "Verdict: A <= B",
        "Verdict: A != B",
        "Verdict: A -> B",
        "Verdict: A \\approx B",
        "Verdict: A > B > C",
        "Verdict: A > B or B > A",
        "Verdict: A == A",
        "Verdict: A-B",
        "Verdict: A+",
        "Verdict: A?",
        "Verdict: A or tie",
        "Verdict: tie/A",
        "Verdict: tie, but A is slightly better",
        "Verdict: no tie",
        "Verdict: not A",
        "Verdict: neither A nor B",
        "Verdict: A is not better",
        "Verdict: A isn't better than B",
        "Verdict: A is no worse than B",
        "Verdict: A is better or equal",
        "Verdict: A is better if it is meant so",
        "Verdict: A if it is right",
        "Verdict: A clear win for B",
        "Verdict: A good job by both",
        "Verdict: AB",
        "Verdict: A B",
        "Verdict: A; B",
        "Verdict: A\nVerdict: unclear",
        "This bears on my verdict. A is long.",
        "Verdict: A is better: [[B]]",
        "[[A>B]] at first\n[[B>A]] then",
        "[[A, B]]",
        "[[A or B]]",
        "[[A",
        "[[A]",
        "So [[B]], and then [[A",
        '"[[A]]" if assistant A is better, "[[B]]" if assistant B is better, and "[[C]]" for a tie',
        '{"verdict": null}',
        '{"verdict": ["A", "B"]}',
        '{"verdict": "A',
        "<think>Verdict: A</think>\nThe second one is better.",
        "<think>Verdict: A",
    ],
)
def test_what_names_no_winner_or_could_name_two_is_no_verdict(reply: str) -> None:
    assert verdict_after_thought(reply) is None


def test_labels_must_agree_unless_the_last_one_is_called_final() -> None:
    assert verdict_after_thought("[[A>>B]], that is [[A>B]]") == "a"
    assert verdict_after_thought("A: [[A>B]]\nB: [[B>A]]\nFinal verdict: [[A>B]]") == "a"
    assert verdict_after_thought("Final verdict on A: [[A>B]]\nFinal verdict: [[B>A]]") is None


def test_what_is_only_thought_is_no_verdict_and_the_markers_are_the_callers() -> None:
    assert verdict_after_thought("<think>Verdict: A?</think>Verdict: B") == "b"
    assert verdict_after_thought("«Verdict: A?»Verdict: B, I think", (("«", "»"),)) == "b"
    assert verdict_after_thought("«Verdict: A", (("«", "»"),)) is None
    assert verdict_after_thought("<think>Verdict: A", ()) == "a"


PIECES = [
    "Verdict:",
    "verdict is",
    "[[",
    "]]",
    "A",
    "B",
    "a",
    "C",
    ">",
    "<",
    "=",
    "{",
    '"verdict"',
    "<think>",
    "\n",
    "tie",
]


@given(st.text() | st.lists(st.sampled_from(PIECES)).map(" ".join) | st.lists(st.sampled_from(PIECES)).map("".join))
@example('{"verdict": ' * 5)
def test_to_swap_the_letters_swaps_the_winner(reply: str) -> None:
    swapped = reply.translate(str.maketrans("AB", "BA"))
    if not set("ab12") & set(reply):  # which are letters of words, too
        assert (
            verdict_after_thought(swapped)
            == {"a": "b", "b": "a", "tie": "tie", None: None}[verdict_after_thought(reply)]
        )


@pytest.mark.parametrize(
    "piece", ['{"a":', "[[A", "verdict ", "Verdict: A is ", "verdict\n", "<", "\\boxed{", "very", "A > ", " \t"]
)
def test_a_long_reply_is_read_in_no_time(piece: str) -> None:
    started = time.process_time()
    verdict_after_thought("Verdict: A " + piece * 1000)
    assert time.process_time() - started < 2
