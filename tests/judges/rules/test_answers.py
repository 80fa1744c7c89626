"""Rule judges: right, wrong, no answer and no reference are four different things."""

from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest

from flywheel.errors import RecipeError
from flywheel.protocols import Judge
from flywheel.store.schema import SUBJECTS, VOTES
from judges.rules.answers import Exact, Numeric
from judges.rules.numerals import first_number, last_number, spelled


def subjects(*pairs: tuple[str, str | None]) -> pl.DataFrame:
    """SUBJECTS from (text, reference)."""
    rows = [{"generation": f"g{i}", "text": text, "reference": gold} for i, (text, gold) in enumerate(pairs)]
    return pl.DataFrame(rows, schema=SUBJECTS, orient="row")


def verdict(judge: Judge, text: str, reference: str | None) -> tuple[str, float | None, str | None]:
    judged = judge.read(subjects((text, reference)), None)
    assert judged.schema == VOTES
    assert judged.select("generation", "judge", "vote", "trace").row(0) == ("g0", judge.name, 0, None)
    return judged.select("status", "score", "detail").row(0)


def test_exact_ignores_case_space_and_punctuation_at_the_ends_unless_told() -> None:
    assert verdict(Exact(), " The  Answer.\n", "the answer") == ("ok", 1.0, "the answer")
    assert verdict(Exact(), "an answer", "the answer") == ("ok", 0.0, "an answer")
    assert verdict(Exact(ignore_case=False), "Paris", "paris") == ("ok", 0.0, "Paris")
    assert verdict(Exact(ignore_punctuation=False), "Paris.", "Paris") == ("ok", 0.0, "paris.")


def test_exact_reads_what_stands_after_the_last_marker() -> None:
    judge = Exact(after="Answer:")
    assert verdict(judge, "Answer: B? No. Answer: C", "C") == ("ok", 1.0, "c")
    assert verdict(judge, "so it is C", "C") == ("unparsable", None, "no answer")
    assert verdict(judge, "Answer:  ", "C") == ("unparsable", None, "no answer")
    assert verdict(judge, "Answer: C", "thought ... Answer: C") == ("ok", 1.0, "c")


def test_an_answer_of_punctuation_alone_is_an_answer() -> None:
    assert verdict(Exact(), "( )", "( )") == ("ok", 1.0, "( )")


@pytest.mark.parametrize("judge", [Exact(), Numeric(), Numeric(after="####")], ids=lambda judge: judge.name)
def test_without_a_reference_nothing_is_right_or_wrong(judge: Judge) -> None:
    assert verdict(judge, "#### 4", None) == ("error", None, "no reference")


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("work 1 2 3\n#### 18", "18", ("ok", 1.0, "18")),
        ("#### 17\n no: #### $1,234.50 in all, of 3", "1234.5", ("ok", 1.0, "1234.5")),
        ("#### 19", "#### 18", ("ok", 0.0, "19")),
        ("#### -5", "-5", ("ok", 1.0, "-5")),
        ("#### \u22125", "-5", ("ok", 1.0, "-5")),
        ("#### 5", "-5", ("ok", 0.0, "5")),
        ("#### 1/3", "0.33333333", ("ok", 1.0, "1/3")),
        ("the answer is 18", "18", ("unparsable", None, "no number")),
        ("#### eighteen", "18", ("unparsable", None, "no number")),
        ("", "18", ("unparsable", None, "no number")),
        ("#### 18", "eighteen", ("error", None, "no number in the reference 'eighteen'")),
    ],
)
def test_numeric_reads_the_number_after_the_last_marker(
    text: str, reference: str, expected: tuple[str, float | None, str | None]
) -> None:
    assert verdict(Numeric(after="####"), text, reference) == expected


def test_numeric_without_a_marker_reads_the_last_number() -> None:
    assert verdict(Numeric(), "2 + 2 = 4.", "4") == ("ok", 1.0, "4")
    assert verdict(Numeric(), "4 = 2 + 2", "4") == ("ok", 0.0, "2")


def test_the_tolerance_is_absolute() -> None:
    assert verdict(Numeric(), "1000001", "1000000")[1] == 0.0
    assert verdict(Numeric(tolerance=0.01), "3.14", "3.1415")[1] == 1.0
    assert verdict(Numeric(tolerance=0), "3.14", "3.140")[1] == 1.0


@pytest.mark.parametrize(
    ("text", "first", "last"), [("3-4", 3, 4), ("1,2,3", 1, 3), ("12,345,678.", 12345678, 12345678)]
)
def test_hyphens_and_commas_are_not_always_part_of_a_number(text: str, first: int, last: int) -> None:
    assert first_number(text) == first
    assert last_number(text) == last


def test_megabytes_of_digits_are_no_number() -> None:
    assert verdict(Numeric(), "9" * 1_000_000, "9") == ("unparsable", None, "no number")
    assert verdict(Numeric(), "1," * 300_000 + "7", "7") == ("ok", 1.0, "7")
    assert verdict(Exact(), "\x00" * 1000 + "{[" * 1000, "7")[:2] == ("ok", 0.0)


@pytest.mark.parametrize("number", ["0", "-0.0025", "1234.5", "0.14", "100", "-7", "12.000001"])
def test_a_decimal_is_spelled_as_people_write_it(number: str) -> None:
    assert spelled(Fraction(Decimal(number))) == number


def test_rows_keep_their_order_and_none_is_lost() -> None:
    judged = Numeric().read(subjects(("1", "1"), ("x", "1"), ("2", "1"), ("1", None)), None)
    assert judged["generation"].to_list() == ["g0", "g1", "g2", "g3"]
    assert judged["score"].to_list() == [1.0, None, 0.0, None]
    assert judged.filter(pl.col("status") != "ok")["score"].null_count() == 2
    assert Numeric().read(subjects(), None).schema == VOTES


def test_another_rule_has_another_name() -> None:
    names = {Exact().name, Exact(after="A").name, Numeric().name, Numeric("####").name, Numeric(tolerance=0).name}
    assert len(names) == 5
    assert isinstance(Numeric(), Judge) and Numeric().model is None and Numeric().ask(subjects(("1", "1"))) == []


def test_senseless_parameters_are_refused_at_once() -> None:
    for make in (lambda: Exact(after=""), lambda: Numeric(after=""), lambda: Numeric(tolerance=-1.0)):
        with pytest.raises(RecipeError):
            make()
