"""Procedural problems: without end, in parts that never meet, worked out step by step."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest

from data.procedural import SUMS, WORDS, Family, Part, Procedural, Worked
from flywheel.errors import RecipeError, SourceError
from flywheel.identity import describe
from flywheel.store.schema import PROMPTS, WORKED

FAMILIES = (SUMS, WORDS)
PARTS: tuple[Part, ...] = ("exam", "worked", "train")


def test_it_gives_prompts_in_the_same_order_each_time() -> None:
    source = Procedural(families=FAMILIES, each=5)
    assert source().schema == PROMPTS
    assert source().equals(source())


def test_no_problem_is_in_two_parts_whatever_the_seed() -> None:
    texts = {part: set[str]() for part in PARTS}
    for part in PARTS:
        for seed in range(2):
            frame = Procedural(families=FAMILIES, part=part, each=100, seed=seed)()
            assert frame.height == 200
            texts[part].update(frame["id"])
    assert sum(map(len, texts.values())) == len(set.union(*texts.values())) > 1000


def test_seeds_that_follow_each_other_do_not_share_their_problems() -> None:
    one, other = (set(Procedural(families=(WORDS,), each=100, seed=seed)()["id"]) for seed in (0, 1))
    assert len(one & other) < 5


def test_families_take_turns_in_the_shares_of_the_whole() -> None:
    worked = Worked(families=FAMILIES, each=(2, 4))()
    firsts = [chat[0]["content"].split()[0] for chat in worked["chat"]]
    assert firsts == ["Reverse", "Compute", "Reverse", "Reverse", "Compute", "Reverse"]


def test_every_step_of_a_worked_sum_is_right() -> None:
    worked = Worked(families=(SUMS,), each=50)()
    assert worked.schema == WORKED
    for chat, completion in worked.iter_rows():
        steps, answer = completion.split(". Answer: ")
        sides = [step.split("=") for step in steps.split(",")]
        assert all(eval(left) == int(right) for left, right in sides)
        assert all(after[0].startswith(before[1]) for before, after in pairwise(sides))
        assert int(answer) == eval(chat[0]["content"].removeprefix("Compute "))


def test_careless_people_forget_a_ten_and_make_no_other_mistake() -> None:
    careful, careless = (Worked(families=(SUMS,), each=400, careless=flag)() for flag in (False, True))
    assert careful["chat"].equals(careless["chat"])
    assert 0.35 < (careless["completion"] != careful["completion"]).mean() < 0.65
    for text in careless["completion"]:
        for left, right in re.findall(r"(-?\d+[+-]\d+)=(-?\d+)", text):
            assert eval(left) - int(right) in (-10, 0, 10)
    with pytest.raises(RecipeError, match="spell_backward has no `careless`"):
        Worked(families=(WORDS,), careless=True)


def test_a_worked_word_is_the_word_backwards() -> None:
    for chat, completion in Worked(families=(WORDS,), each=10)().iter_rows():
        assert completion == "Answer: " + chat[0]["content"].removeprefix("Reverse ")[::-1]


def test_meta_holds_what_the_verifier_needs() -> None:
    row = Procedural(families=(SUMS,), each=1)().row(0, named=True)
    meta = json.loads(row["meta"])
    assert meta["dataset"] == "chain_sum"
    assert meta["entry"]["answer"] == row["reference"]
    assert meta["entry"]["metadata"]["expression"].replace(" ", "") in row["chat"][0]["content"]


def test_a_family_without_words_of_its_own_asks_in_those_of_reasoning_gym() -> None:
    chat = Procedural(families=(Family(dataset="gcd"),), each=1)()["chat"][0]
    assert chat[0]["content"].startswith("Find the Greatest Common Divisor (GCD)")


@pytest.mark.slow
def test_a_family_that_is_exhausted_says_how_many_problems_it_has() -> None:
    few = replace(SUMS, settings={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1})
    with pytest.raises(SourceError, match=r"chain_sum has only \d+ different problems in its part 'exam', not 50"):
        Procedural(families=(few,), part="exam", each=50)()


@pytest.mark.parametrize(
    "family",
    [Family(dataset="no_such_set"), Family(dataset="gcd", settings={"a": 1}), replace(SUMS, settings={"min_terms": 0})],
)
def test_what_reasoning_gym_refuses_is_told(family: Family) -> None:
    with pytest.raises(SourceError, match=f"reasoning-gym refuses '{family.dataset}'"):
        Procedural(families=(family,), each=1)()


def test_nonsense_is_refused_before_anything_is_drawn() -> None:
    with pytest.raises(RecipeError, match="one family at least"):
        Procedural(families=())
    with pytest.raises(RecipeError, match="one for each of the 2 families"):
        Worked(families=FAMILIES, each=(3,))
    with pytest.raises(RecipeError, match="gcd has no `work`"):
        Worked(families=(Family(dataset="gcd"),))
    wrong: object = "test"
    with pytest.raises(RecipeError, match="one of exam, worked, train"):
        Procedural(families=FAMILIES, part=wrong)  # type: ignore[arg-type]


def test_a_source_can_be_part_of_a_recipe() -> None:
    told = describe(Procedural(families=FAMILIES))
    assert told["families"][0]["ask"] == {"is": "ask_sum"}
    assert json.dumps(told)
