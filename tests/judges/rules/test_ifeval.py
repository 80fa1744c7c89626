"""IFEval's instructions by name, with the settings of its data; strict and loose; and its five kinds in our terms."""

import importlib.util
import json
import sys
from typing import Any

import polars as pl
import pytest

from flywheel.errors import EngineMissing, RecipeError
from flywheel.store.schema import SUBJECTS
from judges.rules.instructions.constraints import Constraints
from judges.rules.instructions.ifeval import KINDS, instruction, variants
from judges.rules.instructions.splitters import capitals, sentences, word_count

detecting = pytest.mark.skipif(importlib.util.find_spec("langdetect") is None, reason="langdetect is not installed")
ENGLISH = "the weather is fine today and everybody goes for a walk along the river"


def verdict(judge: Constraints, text: str, meta: Any = None) -> tuple[Any, ...]:
    """Status, score and detail."""
    row = {"generation": "g", "text": text, "meta": None if meta is None else json.dumps(meta)}
    return (
        judge.read(pl.DataFrame([row], schema=SUBJECTS, orient="row"), None).select("status", "score", "detail").row(0)
    )


CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["wheel", "C++"]}, "Wheels in c++", "wheels in C"),
    ("keywords:frequency", {"keyword": "a", "frequency": 2, "relation": "at least"}, "an Ant", "an oak"[1:]),
    ("keywords:frequency", {"keyword": "a", "frequency": 2, "relation": "less than"}, "an oul", "an ant"),
    ("keywords:forbidden_words", {"forbidden_words": ["art"]}, "parts", "an ART."),
    ("keywords:letter_frequency", {"letter": "Q", "let_frequency": 2, "let_relation": "at least"}, "qQ", "q"),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 1, "let_relation": "less than"}, "a", "a #b"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "One, Dr. No", "One. Two"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\na\n***\nb", "a\n***\n***\nb"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "it's so", "so it"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        'a\n\n"then, b',
        "then\n\na",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [[b]", "[a] [\n]"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "a\np. p. s: b", "P.S. b"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "a p.s. b", "PS b"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n - b\n**c**", "* a\n+ b"),
    ("detectable_format:constrained_response", {}, "So: My answer is no.", "my answer is no"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "**a** *b*", "*a* **"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1 a SECTION2",
        "Section 1 SECTION 2",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', 'So: {"a": 1}'),
    ("detectable_format:title", {}, "<<a>>", "<< >>"),
    ("combination:two_responses", {}, "a\n******\nb", "a ****** a"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say a."}, "\nsay A. a", "I say a."),
    ("startend:end_checker", {"end_phrase": "The end."}, 'a. the END."', "The end. a"),
    ("startend:quotation", {}, ' "a" ', '"a'),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "I'M", "I'm"),
    ("punctuation:no_comma", {}, "a; b", "a, b"),
]


@pytest.mark.parametrize(("name", "settings", "kept", "broken"), CASES)
def test_an_instruction_is_kept_or_not(name: str, settings: dict[str, Any], kept: str, broken: str) -> None:
    nulls = {"num_words": None, "language": None}  # as one published copy of the data has them
    meta = {"instruction_id_list": [name], "kwargs": [{**nulls, **settings}]}
    assert verdict(Constraints(), kept, meta) == ("ok", 1.0, None)
    assert verdict(Constraints(), broken, meta) == ("ok", 0.0, f"{name} is not kept")


def test_all_25_kinds_are_there_and_tried() -> None:
    of_language = {"language:response_language", "change_case:english_capital", "change_case:english_lowercase"}
    assert len(KINDS) == 25 and {name for name, *_ in CASES} | of_language == set(KINDS)


@pytest.mark.parametrize(
    "meta",
    [
        {"instruction_id_list": ["keywords:exist"], "kwargs": [{}]},
        {"instruction_id_list": ["punctuation:no_comma"], "kwargs": []},
        {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}, {}]},
        {"instruction_id_list": "punctuation:no_comma", "kwargs": [{}]},
        {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"num_words": 3}]},
        {"instruction_id_list": ["length_constraints:number_words"], "kwargs": [{"num_words": 3}]},
        {
            "instruction_id_list": ["length_constraints:number_words"],
            "kwargs": [{"num_words": "3", "relation": "at least"}],
        },
        {
            "instruction_id_list": ["length_constraints:number_words"],
            "kwargs": [{"num_words": 3, "relation": "at most"}],
        },
        {"instruction_id_list": ["keywords:existence"], "kwargs": [{"keywords": "wheel"}]},
        {
            "instruction_id_list": ["keywords:letter_frequency"],
            "kwargs": [{"letter": "ab", "let_frequency": 1, "let_relation": "at least"}],
        },
        {
            "instruction_id_list": ["length_constraints:nth_paragraph_first_word"],
            "kwargs": [{"num_paragraphs": 1, "nth_paragraph": 2, "first_word": "a"}],
        },
    ],
)
def test_an_instruction_that_cannot_be_understood_is_an_error(meta: Any) -> None:
    if meta["kwargs"] == []:
        assert verdict(Constraints(), "a", meta) == ("ok", 1.0, None)  # none of them has settings
        return
    status, score, detail = verdict(Constraints(), "a", meta)
    assert (status, score) == ("error", None) and detail.startswith("no constraints in meta")


def test_loose_forgives_a_first_line_a_last_line_and_asterisks_for_each_constraint() -> None:
    assert set(variants("a\n*b*\nc")) == {"a\n*b*\nc", "*b*\nc", "a\n*b*", "*b*", "a\nb\nc", "b\nc", "a\nb", "b"}
    meta = {
        "instruction_id_list": ["punctuation:no_comma", "startend:end_checker"],
        "kwargs": [{}, {"end_phrase": "bye"}],
    }
    text = "Sure, here it is:\nAll is well.\n**bye**"
    assert verdict(Constraints(), text, meta) == ("ok", 0.0, "punctuation:no_comma is not kept")
    assert verdict(Constraints(loose=True), text, meta) == ("ok", 1.0, None)
    assert verdict(Constraints(loose=True), "a, b\nc, d\ne, f", meta)[1] == 0.0
    assert verdict(Constraints(loose=True, commas=(0, 0)), "a, b") == (
        "ok",
        0.0,
        "commas: 1, at most 0",
    )  # nothing is left


def test_the_prompts_constraints_in_both_terms_hold_together() -> None:
    meta = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}], "constraints": {"words": [2, None]}}
    assert verdict(Constraints(case="lower"), "so it is", meta) == ("ok", 1.0, None)
    assert verdict(Constraints(case="lower"), "so, it is", meta)[2] == "punctuation:no_comma is not kept"
    assert verdict(Constraints(case="lower"), "so", meta)[2] == "words: 1, at least 2"
    assert verdict(Constraints(), "a", {"constraints": {"loose": True}})[0] == "error"


@pytest.mark.parametrize(
    ("settings", "kept", "broken", "detail"),
    [
        ({"letters": {"q": (2, None)}}, "Qq", "q", "letter 'q': 1, at least 2"),
        ({"responses": (2, 2)}, "a\n******\nb", "a ****** a", "responses: 1, at least 2"),
        ({"first_words": ((2, "then"),)}, "a\n\nThen b", "then\n\na", "paragraph 2 does not begin with 'then'"),
        ({"one_of": ("Yes.", "No.")}, " No.\n", "No. I", "is none of what it may be"),
    ],
)
def test_the_kinds_that_were_missing_in_our_own_terms(
    settings: dict[str, Any], kept: str, broken: str, detail: str
) -> None:
    for judge, meta in ((Constraints(**settings), None), (Constraints(), {"constraints": settings})):
        assert verdict(judge, kept, meta) == ("ok", 1.0, None)
        assert verdict(judge, broken, meta) == ("ok", 0.0, detail)


def test_senseless_settings_are_refused_at_once() -> None:
    for settings in ({"letters": {"ab": (1, 2)}}, {"first_words": ((0, "a"),)}, {"responses": (2, 1)}):
        with pytest.raises(RecipeError):
            Constraints(**settings)


@detecting
def test_the_language_of_a_text_is_told() -> None:
    german = "das wetter ist heute schön und alle gehen am fluss spazieren"
    asked = {"language:response_language": {"language": "en"}, "change_case:english_lowercase": {}}
    for name, settings in asked.items():
        assert instruction(name, settings)(ENGLISH) and not instruction(name, settings)(german)
    assert instruction("change_case:english_capital", {})(ENGLISH.upper())
    assert instruction("language:response_language", {"language": "en"})("12 34")
    assert verdict(Constraints(language="de"), german) == ("ok", 1.0, None)
    assert verdict(Constraints(language="de"), ENGLISH) == ("ok", 0.0, "is in en, not in de")
    assert verdict(Constraints(language="de"), "12")[2] == "is in no language that can be told, not in de"


def test_without_the_detector_a_constraint_on_language_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "langdetect", None)
    with pytest.raises(EngineMissing, match="needs langdetect"):
        verdict(Constraints(language="en"), ENGLISH)
    meta = {"instruction_id_list": ["change_case:english_lowercase"], "kwargs": [{}]}
    with pytest.raises(EngineMissing, match="needs langdetect"):
        verdict(Constraints(), ENGLISH, meta)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        *(("One.\nTwo", 2), ("One\nTwo", 1), ("Dr. No came at 5 p.m. in the U.S. fleet", 1), ("At 5 p.m. The end", 2)),
        *(
            ('"Yes!" he said. "No."', 3),
            ("1. One\n2. Two", 3),
            ("J. K. Rowling wrote", 1),
            ("3.5 and no. 4 of www.a.org", 2),
        ),
        *(
            ("So... it is", 1),
            ("So... The end", 2),
            ("What?! No", 3),
            ("**Bold.** Next.", 2),
            ("", 0),
            ("e.g. roads", 2),
        ),
    ],
)
def test_sentences_end_where_punkt_ends_them(text: str, count: int) -> None:
    assert sentences(text) == count


def test_words_and_capitals_are_split_as_published() -> None:
    assert word_count("it's a well-made wheel") == 6
    assert capitals("I'M in the U.S., AND/OR \"NASA's\" (CIA), DON'T: A1 a") == 9
    assert capitals("CANNOT I’M -- x") == 4


def test_long_strange_texts_take_no_time() -> None:
    kinds = [instruction(name, settings) for name, settings, *_ in CASES]
    for piece in ("\n", " ", "*", "[", "a ", "<<", ". ", "! ", '"', "section ", "- ", "```", "***", "'"):
        for kept in kinds:
            kept(piece * (20_000 // len(piece)))
