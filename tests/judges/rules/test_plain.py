"""The bare answer: marks and a friendly sentence go, signs and symbols stay, and thoughts are no answers."""

import json
from typing import Any

import polars as pl
import pytest
import reasoning_gym

from flywheel.protocols import Judge
from flywheel.store.schema import SUBJECTS
from flywheel.text.thoughts import THOUGHTS
from judges.rules.answers import Exact
from judges.rules.code import UnitTests
from judges.rules.format import Choice, JsonSchema, Regex
from judges.rules.instructions.constraints import Constraints
from judges.rules.plain import announced, plain_answer, trimmed
from judges.rules.reasoning_gym import Gym


def verdicts(judge: Judge, *rows: tuple[str, str | None], meta: Any = None) -> list[tuple[Any, ...]]:
    """Status, score and detail for each (text, reference)."""
    subjects = [
        {
            "generation": f"g{number}",
            "text": text,
            "reference": gold,
            "meta": meta if meta is None else json.dumps(meta),
        }
        for number, (text, gold) in enumerate(rows)
    ]
    judged = judge.read(pl.DataFrame(subjects, schema=SUBJECTS, orient="row"), None)
    return judged.select("status", "score", "detail").rows()


FORMS = [
    *(
        "Answer: {}",
        "**Answer:** {}",
        "**Answer: {}**",
        "Answer: **{}**",
        "**Answer**: {}.",
        "__Answer: {}__",
        "ANSWER: {}",
    ),
    *(
        "answer : {}",
        "Answer：{}",
        "- **Answer:** {}",
        "### Answer: {}",
        "Answer:\n\n{}",
        "Answer: `{}`",
        'Answer: "{}."',
    ),
    *(
        "Answer: ${}$",
        "Answer: \\boxed{{{}}}.",
        "Answer: $\\boxed{{\\text{{{}}}}}$",
        "Answer:\n```text\n{}\n```",
        "Answer: \\({}\\)",
    ),
    *(
        "Answer: {}\n\nLet me know if you need more.",
        "Answer: {}. Hope that helps you!",
        "Answer: {}\n\n---\n\nHope that helps",
    ),
    *(
        "Answer: {}\nThis follows from the rules above.",
        "Answer: 0? No.\nAnswer: {}",
        "<think>Answer: 0</think>\nAnswer: {}",
    ),
]
REFERENCES = ["Yes", "-200", "C++", "] ]", "35%", ".5", "$5", "the cat, the dog", "(A)", "5!", "[0, 1)"]


@pytest.mark.parametrize("reference", REFERENCES)
def test_the_answer_is_read_in_every_form(reference: str) -> None:
    texts = [form.format(reference) for form in FORMS if "$" not in form or "$" not in reference]
    found = verdicts(Exact(after="Answer:"), *((text, reference) for text in texts))
    assert [text for text, verdict in zip(texts, found, strict=True) if verdict[1] != 1.0] == []
    assert len({detail for _, _, detail in found}) == 1


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        *(("200", "-200"), ("C", "C++"), ("C#", "C"), ("C++", "C#"), ("5", ".5"), ("5%", "$5"), ("$5", "5%")),
        *(("A*", "A"), ("] ] ]", "] ]"), ("] }.", "] ]"), ("-.", "."), (". .", "."), (">5", "<5"), (">= 5", "5")),
        *(("~5", "5"), ("5!", "5"), (".NET", "NET"), ("__init__", "init"), ("[0, 1)", "(0, 1]")),
        *(("[1, 2]", "(1, 2)"), ("-x", "x"), ("#5", "5"), ("4 or 5", "4"), ("4\nor 5", "4"), ("4\n5", "4")),
        *(("4\n\nNo, wait: 5", "4"), ("4. Actually, it is five.", "4"), ("4\n\nThe other answer is 5.", "4")),
        *(("4. Then add 1, giving 5.", "4"), ("*a* or *b*", "a"), ("not a", "a"), ("\\boxed{4} or \\boxed{5}", "4")),
        *(("Paris\nLondon\nRome\nBerlin", "Paris"), ("Paris. London. Rome.", "Paris")),
        *(("a\n\nIt might be b, though.", "a"), ("He is a hero.\nShe is a knave.", "He is a hero.")),
    ],
)
def test_nothing_becomes_right_that_was_not_said(answer: str, reference: str) -> None:
    assert verdicts(Exact(after="Answer:"), (f"Answer: {answer}", reference))[0][:2] == ("ok", 0.0)


def test_a_full_stop_after_punctuation_goes_and_a_reference_of_sentences_stays_whole() -> None:
    assert trimmed("] ].") == "] ]" and trimmed(". -.") == ". -." and trimmed("...") == "..."
    whole = "No. The boat is full."
    assert verdicts(Exact(), (whole, whole), ("No. The train is full.", whole)) == [
        ("ok", 1.0, "no. the boat is full"),
        ("ok", 0.0, "no"),
    ]


def test_a_marker_is_found_in_any_case_but_not_within_a_word() -> None:
    assert announced("A:", "A: 5\ndata: x") == " 5\ndata: x"
    assert announced("Answer:", "**Answer** : 5") == " 5" and announced("####", "#### 5") == " 5"
    assert announced("Answer:", "no") is None and announced(None, "all") == "all"


def test_gym_reads_every_form_and_a_grid_stays_a_grid() -> None:
    for name in ("chain_sum", "rotate_matrix", "sentence_reordering"):
        entry = reasoning_gym.create_dataset(name, size=1, seed=1)[0]
        meta = {"dataset": name, "entry": json.loads(json.dumps(dict(entry), default=str))}
        # Among the forms are some that add a mark which a verifier of whole sentences wants to see where it was.
        texts = [form.format(entry["answer"]) for form in FORMS if name == "chain_sum" or "text" not in form]
        found = verdicts(Gym(), *((text, None) for text in texts), meta=meta)
        assert name == "sentence_reordering" or [score for _, score, _ in found] == [1.0] * len(texts), name
    wrong = ["Answer: {} or 0", "Answer: {}\n0", "Answer: {}\n\nNo, wait: 0", "Answer: not {}", "Answer: {} / 2"]
    entry = reasoning_gym.create_dataset("chain_sum", size=1, seed=1)[0]
    meta = {"dataset": "chain_sum", "entry": json.loads(json.dumps(dict(entry), default=str))}
    found = verdicts(Gym(), *((text.format(entry["answer"]), None) for text in wrong), meta=meta)
    assert [score for _, score, _ in found] == [0.0] * len(wrong)


RULES: list[tuple[Judge, str, str | None, Any]] = [
    (Exact(), "b", "b", None),
    (Regex("b"), "b", None, None),
    (Choice(), "B", "B", None),
    (JsonSchema({"const": 2}), "2", None, None),
    (Constraints(commas=(0, 0)), "b", None, None),
    (
        Gym(),
        "Answer: nus",
        None,
        {"dataset": "spell_backward", "entry": {"answer": "nus", "metadata": {"word": "sun"}}},
    ),
]


@pytest.mark.parametrize(("judge", "answer", "reference", "meta"), RULES, ids=lambda part: type(part).__name__)
def test_each_rule_reads_what_follows_the_thought(judge: Judge, answer: str, reference: str | None, meta: Any) -> None:
    draft = "Answer: sun, a, A, 1"
    texts = [f"{begin}{draft}{end}\n\n{answer}" for begin, end in THOUGHTS] + [f"{draft}</think>{answer}"]
    found = verdicts(judge, *((text, reference) for text in texts), meta=meta)
    assert [score for _, score, _ in found] == [1.0] * len(texts)
    endless = verdicts(judge, (f"<think>{answer}", reference), (f"a</think><think>{answer}", reference), meta=meta)
    assert endless == [("unparsable", None, "a thought without an end")] * 2


def test_code_in_a_thought_without_an_end_is_no_program() -> None:
    (found,) = verdicts(UnitTests(), ("<think>```python\ndef f(): return 1\n```", "assert f() == 1"))
    assert found == ("unparsable", None, "a thought without an end")


def test_other_markers_can_be_said_and_name_another_judge() -> None:
    other = Exact(thoughts=(("<idea>", "</idea>"),))
    assert verdicts(other, ("<idea>a</idea>b", "b"), ("<think>a</think>b", "b"))[0][1] == 1.0
    assert verdicts(other, ("<think>a</think>b", "b"))[0][1] == 0.0 and other.name != Exact().name


def test_long_strange_answers_take_no_time() -> None:
    for piece in ("\n", ". ", "A. ", "**", '"', "$", "\\text{", "Answer:", "( ", "Aaaa", "...a", "- ", "`", "```\n"):
        plain_answer(piece * (20_000 // len(piece)))
        trimmed(piece * (20_000 // len(piece)) + "z")
