"""Which option a text chooses: words, formulas and rejected letters are none, and the last announcement decides."""

import json

import pytest

from judges.rules.options import chosen_option
from tests import PUBLIC

DATA = PUBLIC / "bbh"
LETTERS = "ABCDEFGHIJ"


@pytest.mark.parametrize(
    "text",
    [
        *("#### B", "So:\n#### (B)", "Answer: A\n#### B", "The answer is (A).\nNo: the answer is (B)."),
        *("\\boxed{A} \\boxed{B}", "The answer to the question is B.", "The answer is therefore (B)."),
        *("The answer is most likely B.", "Answer → B", "<answer> (B) </answer>", "### Answer\n\n**B. Paris**"),
        *("Answer: option (b)", "Answer: b) Paris", "Option B", "The answer is B because (A) and (C) are wrong."),
        *("The answer is (B) rather than (A).", "The answer is B, not C."),
        *("Answer: B. I hope this answer is helpful!", "The answer is B. The answer was found by elimination."),
        *("So B.", "The answer is B.\n\n#### Explanation\nIt rains."),
        *("The answer is \\boxed{5}, which is option B.", "I pick (B).", "(B) is right. (A) is wrong."),
        *("The answer is not (A), it is (B).", "It's not A; it's B.", "B\n\nExplanation: A is bad"),
        *("Neither (A) nor (C) fits. (B) does.", "A) Rome\nB) Paris\nC) Oslo\n\nThe answer is B."),
        *("B because A is too small", "Answer: $\\mathbf{B}$", "Answer:\n\n> B"),
        *("Based on this, option B is the correct answer.", "Answer: **B** is right."),
    ],
)
def test_the_last_announcement_or_else_the_conclusion_counts(text: str) -> None:
    assert chosen_option(text, "ABCD") == "B"


@pytest.mark.parametrize(
    "text",
    [
        *("(B) looks good. So the answer is", "Answer: B. So the answer is", "(B)\n\\boxed{42}", "\\boxed{"),
        *("#### 42", "If we look at (A), it is good. So the answer is (None of the above)."),
        *("If we look at (A), it says that", "The answer is not B.", "The answer isn't (B)", "not B"),
        *("(B) is wrong.", "It can't be B.", "I doubt it is B", "B is not the answer.", "anything but B"),
        *("It is unlikely to be B", "The answer is neither A nor B", "Answer: B? No.", "The answer is vitamin C."),
        *("It has vitamin C", "The answer is 25 °C.", "Answer: C++", "Answer: C#", "Answer: B-52"),
        *("Answer: C major", "Answer: A = 5", "Answer: F(x)", "Answer: A^2", "Answer: D'Artagnan", "Answer: N/A"),
        *("Grade: A+", "Answer: A/B", "Answer: A & B", "Answer: (A) or (B)", "Answer: A (or B)"),
        *("Answer: A or maybe B", "Answer: A? Or B?", "\\boxed{A} or \\boxed{B}", "Answer: A and/or B"),
        *("The answer is between (A) and (B).", "I considered (A) and then (C).", "Answer: B. No, wait, it is C."),
        *("Answer: B. Actually, C.", "So the answer is a", "Answer: A Christmas Carol"),
        *("A) Rome\nB) Paris\nC) Oslo", "Answer:\nA. Rome\nB. Paris", "Answer: A cat", "Answer: A man, a plan"),
        *("Either (A) or (B)",),
    ],
)
def test_where_no_option_or_more_than_one_is_chosen_there_is_none(text: str) -> None:
    assert chosen_option(text, "ABCD") is None


@pytest.mark.parametrize(
    ("text", "option"),
    [
        *(("I don't know", None), ("I think so", None), ("I, Robot", None), ("I", "I"), ("(I)", "I")),
        *(("I believe (B)", "B"), ("E = mc^2, option C", "C"), ("A good choice would be C", "C")),
        *(("I would go with B", "B"), ("E = mc^2", None), ("A because it rains", "A"), ("A lot", None)),
        *(("F = C", None), ("I'd say B", "B"), ("a", "A"), ("A) a cat", "A")),
    ],
)
def test_words_and_formulas_are_no_options(text: str, option: str | None) -> None:
    assert chosen_option(f"Answer: {text}", LETTERS) == option


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("(3).", "3"),
        ("$3$", "3"),
        ("3 because", "3"),
        *((text, None) for text in ("3.5", "3 apples", "-3", "3%", "3/4", "$3")),
    ],
)
def test_numbers_as_options_are_told_from_quantities(text: str, option: str | None) -> None:
    assert chosen_option(f"The answer is {text}", "12345") == option


def test_long_strange_texts_take_no_time() -> None:
    for piece in (
        "A ",
        "answer ",
        "the answer is ",
        "(A) is wrong. ",
        "not A ",
        "A or ",
        "#### ",
        "B.\n",
        "Answer: A, ",
        "so ",
    ):
        chosen_option(piece * (20_000 // len(piece)), "ABCD")


BBH = [
    *("{a}", "So the answer is {a}.", "**Final Answer: {a}**", "The correct option is {a}.", "#### {a}", "I pick {a}."),
    *("Answer: \\boxed{{\\text{{{b}}}}}", "{b}. something", "**{b}**", "answer: {a}\n\nHope that helps!"),
]


@pytest.mark.skipif(not DATA.exists(), reason=f"no BBH at {DATA}: point FLYWHEEL_TEST_DATA at its parent")
def test_every_target_of_bbh_is_itself_in_every_form_and_no_other() -> None:
    targets = {
        example["target"] for path in DATA.glob("*.json") for example in json.loads(path.read_text())["examples"]
    }
    options = sorted(target for target in targets if len(target) == 3 and target[0] == "(" and target[2] == ")")
    assert len(options) > 10
    for target in options:
        assert {chosen_option(form.format(a=target, b=target[1]), "ABCDEFGHIJKLMNOPQR") for form in BBH} == {target[1]}
