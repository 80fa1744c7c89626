"""Rules about form: a pattern, an option's letter, JSON that fits a schema."""

import json
from typing import Any

import polars as pl
import pytest

from flywheel.errors import RecipeError
from flywheel.protocols import Judge
from flywheel.store.schema import SUBJECTS, VOTES
from judges.rules.format import Choice, JsonSchema, Regex, blocks, parsed
from tests import PUBLIC

DATA = PUBLIC / "bbh"
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def verdict(judge: Judge, text: str, reference: str | None = None, meta: Any = None) -> tuple[Any, ...]:
    """Status, score and detail. `meta` is made JSON where it is not text."""
    meta = meta if meta is None or isinstance(meta, str) else json.dumps(meta)
    row = {"generation": "g", "text": text, "reference": reference, "meta": meta}
    judged = judge.read(pl.DataFrame([row], schema=SUBJECTS, orient="row"), None)
    assert judged.schema == VOTES
    assert judged.select("generation", "judge", "vote", "trace").row(0) == ("g", judge.name, 0, None)
    return judged.select("status", "score", "detail").row(0)


@pytest.mark.parametrize("judge", [Regex("a"), Choice(), JsonSchema({})], ids=lambda judge: type(judge).__name__)
def test_each_is_a_rule_that_asks_nobody(judge: Judge) -> None:
    assert isinstance(judge, Judge) and judge.model is None and judge.ask(pl.DataFrame()) == []
    assert judge.read(SUBJECTS.to_frame(), None).schema == VOTES


def test_other_parameters_make_another_judge() -> None:
    judges = [Regex("a"), Regex("(a)"), Regex("(a)", 1), Choice(), Choice("AB"), JsonSchema(), JsonSchema(PERSON)]
    assert len({judge.name for judge in judges}) == len(judges)


def test_a_pattern_is_found_or_not() -> None:
    assert verdict(Regex(r"\bwheels?\b"), "two wheels") == ("ok", 1.0, "wheels")
    assert verdict(Regex(r"\bwheels?\b"), "a cartwheel") == ("ok", 0.0, None)


def test_the_group_of_the_last_match_is_compared_with_the_reference() -> None:
    dated = Regex(r"(?P<day>\d+)\.(\d+)\.", group="day")
    assert verdict(dated, "from 3.5. to 4.6.", "4") == ("ok", 1.0, "4")
    assert verdict(dated, "from 3.5. to 4.6.", "3") == ("ok", 0.0, "4")
    assert verdict(Regex(r"(\d+)\.(\d+)\.", 2), "4.6.", " 6 ") == ("ok", 1.0, "6")
    assert verdict(dated, "never", "4") == ("unparsable", None, "no match")
    assert verdict(Regex("(a)|(b)", 1), "b", "a") == ("unparsable", None, "no match")
    assert verdict(dated, "4.6.", None) == ("error", None, "no reference")


def test_senseless_parameters_are_refused_at_once() -> None:
    for make in (
        lambda: Regex("("),
        lambda: Regex("(a)", 2),
        lambda: Regex("(a)", "b"),
        lambda: Choice("A"),
        lambda: Choice("AA"),
        lambda: Choice("abc"),
        lambda: Choice("A-C"),
        lambda: JsonSchema("{}"),  # type: ignore[arg-type]
    ):
        with pytest.raises(RecipeError):
            make()


@pytest.mark.parametrize(
    "text",
    [
        *("B", "(B)", "B.", "B)", "**B**", "(b)", " b\n", "B. Paris", "**B. Paris**"[:5] + "**", "\n\nB) Paris\n"),
        *("Answer: B", "Answer: (B)", "Answer: b", "answer:\n\n**B**", "**Answer:** B", "**Answer: B**", "ANSWER - B"),
        *("The answer is B", "The answer is (B).", "The correct answer is: **B. Paris**", "My answer would be B."),
        *("The answer is option B because A is false", "The answer is B, since (C) is false.", "<answer>B</answer>"),
        *("\\boxed{B}", "Answer: $\\boxed{\\text{B}}$", "so \\boxed{(B)}"),
        *("(A) is wrong since it rains. (B) is right.", "Answer: A? No. Answer: B", "It can't be A. It is B"),
        *("A. Rome\nB. Paris\nThe answer is B", "The answer is B. Option C would be too far.", "A dog? It must be B!"),
    ],
)
def test_the_last_option_that_is_announced_counts(text: str) -> None:
    assert verdict(Choice(), text, "B") == ("ok", 1.0, "B")
    assert verdict(Choice(), text, "(C)") == ("ok", 0.0, "B")


@pytest.mark.parametrize(
    "text",
    [
        *("", "I do not know.", "A dog barks.", "The answer is a dog", "Answer: none of the above", "A's"),
        *("Answer: E", "Answer: A or B", "Answer: A, B", "Both (A) and (B)", "Answer: Both A and B", "Bob", "F"),
    ],
)
def test_a_text_without_one_option_has_no_score(text: str) -> None:
    assert verdict(Choice(), text, "B") == ("unparsable", None, "no option")


def test_options_can_be_others() -> None:
    assert verdict(Choice("ABCDE"), "Answer: E", "E") == ("ok", 1.0, "E")
    assert verdict(Choice("12345"), "The answer is (3).", "3") == ("ok", 1.0, "3")
    assert verdict(Choice("AB"), "Answer: C", "B") == ("unparsable", None, "no option")


def test_without_a_reference_no_option_is_right_or_wrong() -> None:
    assert verdict(Choice(), "B") == ("error", None, "no reference")
    assert verdict(Choice(), "B", "Paris") == ("error", None, "none of ABCD in the reference 'Paris'")


def test_long_strange_texts_take_no_time() -> None:
    for piece in ("\n", "A ", "answer ", " ", "*", "(A", "```\n", "{", "answer \\boxed{text"):
        for judge, reference in ((Choice(), "A"), (JsonSchema({}), None)):
            verdict(judge, piece * (100_000 // len(piece)), reference)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason=f"no BBH at {DATA}: point FLYWHEEL_TEST_DATA at its parent")
@pytest.mark.parametrize(
    "task", ["date_understanding", "snarks", "hyperbaton", "tracking_shuffled_objects_seven_objects"]
)
def test_every_target_of_bbh_is_read_as_itself(task: str) -> None:
    examples = json.loads((DATA / f"{task}.json").read_text())["examples"]
    for example in examples:
        told = f"Let me see.\n{example['input']}\nSo the answer is {example['target']}."
        assert verdict(Choice("ABCDEFG"), told, example["target"])[:2] == ("ok", 1.0)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ada", "age": 36}',
        'Here:\n```json\n{"name": "Ada"}\n```\nDone.',
        '```\n[1]\n```\nno:\n~~~JSON\n{"name": "Ada"}\n~~~',
        '```json\n{"name": "Ada"}',
    ],
)
def test_json_that_fits_is_right(text: str) -> None:
    assert verdict(JsonSchema(PERSON), text) == ("ok", 1.0, None)
    assert verdict(JsonSchema(), text, meta={"schema": PERSON}) == ("ok", 1.0, None)


def test_json_that_does_not_fit_is_wrong_and_the_first_misfit_is_told() -> None:
    assert verdict(JsonSchema(PERSON), "{}") == ("ok", 0.0, "$: 'name' is a required property")
    assert verdict(JsonSchema(PERSON), '{"name": "Ada", "age": -1}')[2] == "$.age: -1 is less than the minimum of 0"
    assert verdict(JsonSchema(PERSON), "[1]")[1] == 0.0


@pytest.mark.parametrize(
    "text", ["", "no", "{'name': 1}", '{"age": NaN}', "[" * 100_000, '```json\n{"name": }\n```', "9" * 5000]
)
def test_a_text_without_json_has_no_score(text: str) -> None:
    assert verdict(JsonSchema(PERSON), text) == ("unparsable", None, "no JSON")


@pytest.mark.parametrize("meta", [None, "", "{", "[]", {}, {"schema": {"type": "objekt"}}, {"schema": 7}])
def test_without_a_schema_nothing_is_right_or_wrong(meta: Any) -> None:
    assert verdict(JsonSchema(), "{}", meta=meta)[:2] == ("error", None)


def test_a_schema_is_never_fetched_from_the_network() -> None:
    status, _, detail = verdict(JsonSchema({"$ref": "http://127.0.0.1:9/person.json"}), "{}")
    assert status == "error" and "Unresolvable" in detail


def test_fenced_blocks_are_found_with_their_languages() -> None:
    text = "a\n```Python\nx\n```\n  ~~~\n```\ny\n  ~~~\n````json title\n1\n```\n2\n````\n```\nz"
    assert blocks(text) == [("python", "x\n"), ("", "```\ny\n"), ("json", "1\n```\n2\n"), ("", "z")]
    assert parsed("```\n1\n```\n```json\n2\n```\n") == 2
