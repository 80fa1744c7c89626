"""Instructions that a program can check: all are kept, or the first that is not is told."""

import json
from typing import Any

import polars as pl
import pytest

from flywheel.errors import RecipeError
from flywheel.protocols import Judge
from flywheel.store.schema import SUBJECTS, VOTES
from judges.rules.instructions.constraints import COUNTED, Constraints

LETTER = """# Dear *Ada*

Thank you, dear [name], for the 3 wheels. They turn! Don't they, e.g. on roads?

- one well-made wheel
* another
1. first

Section 2
That is ALL **for now**.
<<End>>"""


def verdict(judge: Judge, text: str, meta: Any = None) -> tuple[Any, ...]:
    """Status, score and detail. `meta` is made JSON where it is not text."""
    meta = meta if meta is None or isinstance(meta, str) else json.dumps(meta)
    row = {"generation": "g", "text": text, "meta": meta}
    judged = judge.read(pl.DataFrame([row], schema=SUBJECTS, orient="row"), None)
    assert judged.schema == VOTES
    return judged.select("status", "score", "detail").row(0)


@pytest.mark.parametrize(
    ("what", "count"),
    [
        ("words", 32),
        ("sentences", 10),
        ("paragraphs", 4),
        ("sections", 2),
        ("bullets", 2),
        ("numbered", 1),
        ("highlights", 2),
        ("placeholders", 1),
        ("titles", 1),
        ("capitals", 1),
        ("commas", 3),
    ],
)
def test_each_count_is_right_and_both_bounds_hold(what: str, count: int) -> None:
    assert COUNTED[what](LETTER) == count
    for span in ((count, count), (count, None), (None, count), (0, count + 1)):
        assert verdict(Constraints(**{what: span}), LETTER) == ("ok", 1.0, None)
    least, most = verdict(Constraints(**{what: (count + 1, None)}), LETTER), Constraints(**{what: (None, count - 1)})
    assert least == ("ok", 0.0, f"{what}: {count}, at least {count + 1}")
    assert verdict(most, LETTER) == ("ok", 0.0, f"{what}: {count}, at most {count - 1}")


def test_every_count_is_a_field_and_tested() -> None:
    assert set(COUNTED) < set(Constraints.__dataclass_fields__)
    marks = test_each_count_is_right_and_both_bounds_hold.pytestmark  # type: ignore[attr-defined]
    assert {what for what, _ in marks[0].args[1]} == set(COUNTED)


@pytest.mark.parametrize(
    ("settings", "kept", "broken", "detail"),
    [
        ({"keywords": {"wheel": (2, 2)}}, "Wheel, wheel. Wheels", "wheel wheels", "keyword 'wheel': 1, at least 2"),
        (
            {"keywords": {"C++": (1, None), "magic": (0, 0)}},
            "c++ is magical",
            "C++ magic",
            "keyword 'magic': 1, at most 0",
        ),
        ({"starts_with": "Dear"}, "\n dear Ada", "My dear", "does not start with 'Dear'"),
        ({"ends_with": "The end."}, "x. the end.\n", "The end. x", "does not end with 'The end.'"),
        ({"case": "lower"}, "all small 1!", "Not small", "is not all in lower case"),
        ({"case": "upper"}, "ALL BIG 1!", "Not BIG", "is not all in upper case"),
        ({"commas": (0, 0)}, "none at all", "one, two", "commas: 1, at most 0"),
        ({"json": True}, '```json\n{"a": 1}\n```', "a: 1", "is no JSON"),
    ],
)
def test_a_constraint_from_the_recipe_or_from_the_prompt_is_kept_or_not(
    settings: dict[str, Any], kept: str, broken: str, detail: str
) -> None:
    for judge, meta in ((Constraints(**settings), None), (Constraints(), {"constraints": settings})):
        assert verdict(judge, kept, meta) == ("ok", 1.0, None)
        assert verdict(judge, broken, meta) == ("ok", 0.0, detail)


def test_all_must_be_kept_and_the_first_that_is_not_is_told() -> None:
    judge = Constraints(words=(3, None), keywords={"wheel": (1, None)}, case="lower")
    assert verdict(judge, "a wheel turns") == ("ok", 1.0, None)
    assert verdict(judge, "A Wheel") == ("ok", 0.0, "words: 2, at least 3")
    assert verdict(judge, "A WHEEL TURNS") == ("ok", 0.0, "is not all in lower case")
    both = {"constraints": {"words": [None, 3], "ends_with": "fast"}}
    assert verdict(judge, "a wheel turns", both) == ("ok", 0.0, "does not end with 'fast'")
    assert verdict(judge, "a wheel turns fast", both) == ("ok", 0.0, "words: 4, at most 3")


def test_no_text_is_no_answer() -> None:
    assert verdict(Constraints(words=(0, 3)), " \n") == ("unparsable", None, "no answer")


@pytest.mark.parametrize(
    "meta",
    [
        *(None, "", "{", "[]", "7", {}, {"constraints": {}}, {"constraints": []}, {"constraints": {"wrods": [1, 2]}}),
        *({"constraints": {"words": 7}}, {"constraints": {"words": [3, 1]}}, {"constraints": {"words": [1]}}),
        *({"constraints": {"case": "title"}}, {"constraints": {"starts_with": 7}}, {"constraints": {"json": "yes"}}),
        *({"constraints": {"keywords": {"a": 1}}}, {"constraints": {"model": None}}),
    ],
)
def test_without_constraints_that_can_be_understood_nothing_is_kept_or_broken(meta: Any) -> None:
    status, score, detail = verdict(Constraints(), "a", meta)
    assert (status, score) == ("error", None) and detail.startswith("no constraints")


def test_senseless_parameters_are_refused_at_once() -> None:
    for settings in (
        {"words": (3, 1)},
        {"commas": 3},
        {"words": (-1, 2)},
        {"case": "title"},
        {"keywords": {"a": (2, 1)}},
    ):
        with pytest.raises(RecipeError):
            Constraints(**settings)  # type: ignore[arg-type]


def test_long_strange_texts_take_no_time() -> None:
    everything = Constraints(**dict.fromkeys(COUNTED, (0, None)), keywords={"a": (0, None)}, json=True)
    for piece in ("\n", " ", "*", "[", "a ", "<<", ". ", '"', "section ", "# ", "```", "1.\n", "*a"):
        verdict(everything, piece * (100_000 // len(piece)))


def test_it_is_a_rule_that_is_named_by_its_parameters() -> None:
    assert isinstance(Constraints(), Judge) and Constraints().model is None and Constraints().ask(pl.DataFrame()) == []
    assert Constraints(words=(1, 2)).name == "Constraints(words=(1, 2)) v2" != Constraints(words=(1, 3)).name
