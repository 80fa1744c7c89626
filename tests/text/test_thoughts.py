import pytest

from flywheel.text.thoughts import after_thought


@pytest.mark.parametrize(
    "text, answer",
    [
        ("5", "5"),
        ("<think>3?</think>5", "5"),
        ("3?</think>\n5", "\n5"),
        ("<think>a</think>b<think>c</think>d", "d"),
        ("[THINK]3?[/THINK]5", "5"),
        ("<think>3? and on and on", None),
        ("<think>a</think>b<think>c", None),
        ("<think></think>", ""),
    ],
)
def test_the_answer_is_what_follows_the_last_thought(text, answer):
    assert after_thought(text) == answer


def test_markers_are_the_callers_own():
    assert after_thought("«hm»5", (("«", "»"),)) == "5"
    assert after_thought("<think>5", ()) == "<think>5"
