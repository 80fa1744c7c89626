"""The judge of procedural problems: reasoning-gym's own verifiers, and nothing but the whole answer counts."""

import json
from typing import Any

import polars as pl
import pytest
import reasoning_gym

from data.procedural import SUMS, WORDS, Procedural, Worked
from flywheel.errors import RecipeError
from flywheel.store.schema import SUBJECTS, VOTES
from judges.rules.reasoning_gym import Gym


def subjects(*pairs: tuple[str, str | None]) -> pl.DataFrame:
    """SUBJECTS from (text, meta)."""
    rows = [{"generation": f"g{i}", "text": text, "meta": meta} for i, (text, meta) in enumerate(pairs)]
    return pl.DataFrame(rows, schema=SUBJECTS, orient="row")


def verdict(text: str, meta: str | None) -> tuple[str, float | None, str | None]:
    judged = Gym().read(subjects((text, meta)), None)
    assert judged.schema == VOTES
    assert judged.select("generation", "judge", "vote", "trace").row(0) == ("g0", Gym().name, 0, None)
    return judged.select("status", "score", "detail").row(0)


def word(text: str) -> str:
    entry = {"question": "", "answer": text[::-1], "metadata": {"word": text}}
    return json.dumps({"dataset": "spell_backward", "entry": entry})


def test_what_stands_after_the_last_marker_is_scored() -> None:
    assert verdict("Answer: nus", word("sun")) == ("ok", 1.0, "nus")
    assert verdict("Answer: sun? No. Answer:  nus\n", word("sun")) == ("ok", 1.0, "nus")
    assert verdict("nus. Answer: sun", word("sun")) == ("ok", 0.0, "sun")


def test_half_an_answer_is_wrong() -> None:
    half = json.loads(word("lantern"))["entry"]
    assert 0 < reasoning_gym.get_score_answer_fn("spell_backward")("nretnax", half) < 1
    assert verdict("Answer: nretnax", word("lantern")) == ("ok", 0.0, "nretnax")


@pytest.mark.parametrize("text", ["nus", "", "Answer:", "Answer:  \n", "answer nus"])
def test_a_text_without_an_answer_has_no_score(text: str) -> None:
    assert verdict(text, word("sun")) == ("unparsable", None, "no answer")


@pytest.mark.parametrize(
    "meta", [None, "", "{", "[]", "7", "{}", '{"dataset": "gcd"}', '{"dataset": "no_such_set", "entry": {}}']
)
def test_without_a_problem_nothing_is_right_or_wrong(meta: str | None) -> None:
    status, score, detail = verdict("Answer: 4", meta)
    assert (status, score) == ("error", None)
    assert detail is not None and detail.startswith("no problem of reasoning-gym in meta")


def test_a_verifier_that_fails_is_an_error_and_not_a_wrong_answer() -> None:
    assert verdict("Answer: nus", json.dumps({"dataset": "spell_backward", "entry": {}})) == (
        "error",
        None,
        "KeyError: 'answer'",
    )


def test_one_bad_row_does_not_harm_its_neighbours() -> None:
    judged = Gym().read(subjects(("Answer: nus", word("sun")), ("Answer: 1", None), ("Answer: nus", word("sun"))), None)
    assert judged["status"].to_list() == ["ok", "error", "ok"]


def test_worked_examples_are_right_and_their_neighbours_answers_wrong() -> None:
    families = (SUMS, WORDS)
    prompts = Procedural(families=families, part="worked", each=20)()
    answers = Worked(families=families, each=20)()["completion"].to_list()

    def scores(texts: list[str]) -> list[Any]:
        return Gym().read(subjects(*zip(texts, prompts["meta"], strict=True)), None)["score"].to_list()

    assert scores(answers) == [1.0] * 40
    assert sum(scores(answers[2:] + answers[:2])) <= 4


def test_it_asks_nothing_and_is_named_by_its_marker() -> None:
    assert Gym().ask(subjects()) == [] and Gym().model is None
    assert Gym(after="####").name != Gym().name
    with pytest.raises(RecipeError):
        Gym(after="")
