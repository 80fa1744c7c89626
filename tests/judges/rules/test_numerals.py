"""Numbers and words as people write them: one reading, or none."""

from fractions import Fraction

import pytest

from judges.rules.answers import Numeric
from judges.rules.math.notation import tidy
from judges.rules.math.shapes import kind, near, numeral
from judges.rules.math.wording import answer_words, number_said, quantity
from judges.rules.numerals import first_number, last_number, one_number
from tests.judges.rules.test_answers import verdict


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("11 5/6", "71/6"),
        ("-2\u00bd", "-5/2"),
        ("2\\frac{1}{4}", "9/4"),
        ("-\\frac34", "-3/4"),
        ("3 / 4", "3/4"),
        ("1.5e3", "1500"),
        ("6.63E-34", "6.63e-34"),
        ("1.6\\times 10^{-19}", "1.6e-19"),
        ("2 \u00d7 10\u2075", "200000"),
        ("10 000", "10000"),
        ("1\u202f000\u202f000", "1000000"),
        ("12\\,345", "12345"),
        ("70{,}000", "70000"),
        ("\u20134", "-4"),
        ("- 5", "-5"),
        ("$-5", "-5"),
        ("\uff11\uff12", "12"),
        ("5 m\u00b2", "5"),
        ("90\u00b0", "90"),
        ("\\boxed{\\frac{3}{4}}", "3/4"),
    ],
)
def test_a_number_is_read_in_any_notation(text: str, number: str) -> None:
    assert first_number(text) == last_number(text) == one_number(text, last=True) == Fraction(number)


@pytest.mark.parametrize(
    "text",
    [
        "125,96",
        "1.234.567",
        "276,0000",
        "10:30",
        "12_8",
        "2 7/4",
        "3/0",
        "1/2/3",
        "10^3",
        "2\\sqrt{3}",
        "3\\pi",
        "m\u00b2",
    ],
)
def test_what_is_no_number_or_two_is_not_made_one(text: str) -> None:
    assert last_number(text) is None and one_number(text, last=False) is None
    assert verdict(Numeric(), text, "5") == ("unparsable", None, "no number")


@pytest.mark.parametrize("text", ["5 or 6", "between 5 and 6", "5-6", "5 to 6", "$5 or maybe $6"])
def test_one_of_several_numbers_is_no_answer_of_numeric(text: str) -> None:
    assert one_number(text, last=True) is None and one_number(text, last=False) is None


def test_numeric_reads_after_the_thought_and_compares_tiny_numbers_in_their_own_size() -> None:
    assert verdict(Numeric(), "<think>It is 5.</think>It is 6", "6") == ("ok", 1.0, "6")
    assert verdict(Numeric(), "<think>It is 5.", "5") == ("unparsable", None, "a thought without an end")
    assert verdict(Numeric(), "9.11e-31", "6.63e-34")[1] == 0.0
    assert verdict(Numeric(), "6.63e-34", "6.63e-34")[1] == 1.0
    assert verdict(Numeric(), "0.0000001", "0")[1] == 1.0


def test_megabytes_are_read_at_once() -> None:
    for text in ("9" * 1_000_000, "1 " * 500_000, "-" * 1_000_000, "\\frac{1" * 200_000, "\u221a(" * 300_000):
        assert last_number(text) in (None, 1)


def test_a_quantity_is_a_number_with_or_without_its_unit() -> None:
    assert [
        number.value for text in ("5 \\text{ cm}", "$5", "5 miles per hour") if (number := quantity(tidy(text)))
    ] == [5] * 3
    assert [quantity(tidy(text)) for text in ("5x", "5 + x", "5!", "July 5", "5 or more", "5 million", "x = 5")] == [
        None
    ] * 7


def test_what_words_say_of_a_number() -> None:
    said_of = {
        "12 (not 13)": [12],
        "$12 for 3 people": [12],
        "5 or 6": [5, 6],
        "6 apples and 7 pears": [6, 7],
        "2^{10}": None,
    }
    for text, values in said_of.items():
        found = number_said(tidy(text), marked=True)
        assert values == (None if found is None else [number.value for number in found])


def test_words_are_kept_in_order_and_products_are_no_words() -> None:
    assert answer_words("The \\text{Cat}.") == ("the cat",)
    assert answer_words("Ben, Arnold") == answer_words("arnold and ben") == ("arnold", "ben")
    assert [answer_words(text) for text in ("ab", "xyz", "lwh", "at", "A", "x = 5", "5 cats")] == [None] * 7
    assert answer_words("ABC") == ("abc",)


def test_brackets_and_bases() -> None:
    kinds = {"(1,2)": "pair", "\\left(1,2\\right)": "pair", "\\{1\\}": "set", "1,2": "list", "(1,2),(3,4)": "list"}
    kinds |= {"(1+2)": None, "[1,2]": None, "x": None, "x \\in (1,2)": "pair", "(1,2) \\cup (3,4)": None}
    assert {text: kind(text) for text in kinds} == kinds
    assert numeral("12_{\\text{eight}}") == numeral("12_8") == ("12", 10)
    assert numeral("19_8") is numeral("a_1") is numeral("12_{99}") is None


def test_a_decimal_is_near_what_it_may_be_rounded_from() -> None:
    third, twelfth = Fraction(1, 3), Fraction(1, 12)
    assert near(Fraction("0.333333"), third) and near(twelfth, Fraction("0.083333"))
    assert not near(Fraction("0.3333"), third) and not near(Fraction("1.2345e-7"), Fraction("1.2346e-7"))
