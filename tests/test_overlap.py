"""Overlap: what counts as the same text, what does not, and that a slow and obvious search finds the same."""

import os
import time
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel import overlap
from flywheel.overlap import OVERLAP, overlapping
from flywheel.tables import prompts_frame

DATA = Path(os.environ.get("FLYWHEEL_TEST_DATA", Path(__file__).parents[1].parent / "shared" / "data")) / "gsm8k"
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen"


def asked(*texts: str, system: str | None = None) -> pl.DataFrame:
    """PROMPTS in which users say these texts."""
    before = [] if system is None else [{"role": "system", "content": system}]
    return prompts_frame(({"chat": [*before, {"role": "user", "content": text}]} for text in texts), "test")


def pairs(train: list[str], exam: list[str], n: int = 13) -> list[tuple[int, int, str]]:
    """Positions of the prompts that overlap, and what they share."""
    prompts, held_out = asked(*train), asked(*exam)
    found = overlapping(prompts, held_out, n)
    assert found.schema == OVERLAP
    at, of = prompts["id"].to_list(), held_out["id"].to_list()
    return [(at.index(prompt), of.index(item), shared) for prompt, item, shared in found.rows()]


def test_thirteen_words_in_a_row_are_found_whatever_their_case_and_punctuation() -> None:
    train = ["nothing of it", f"So: {LONG.upper().replace(' ', ', ')}!", "one two three"]
    assert pairs(train, ["else", f"«{LONG}» and more"]) == [(1, 1, LONG)]


def test_twelve_words_in_a_row_are_not_enough() -> None:
    assert pairs([f"a {LONG[:-9]} b"], [f"c {LONG[:-9]} d"]) == []


def test_words_do_not_run_on_from_one_prompt_to_the_next() -> None:
    assert pairs([LONG[:30], LONG[31:]], [LONG]) == []


def test_short_prompts_are_compared_whole() -> None:
    assert pairs(["What is the capital of France"], ["what is the  capital of France?"]) == [
        (0, 0, "what is the capital of france")
    ]
    assert pairs(["What is the capital of France today"], ["What is the capital of France?"]) == []


def test_signs_of_arithmetic_tell_problems_apart_and_hyphens_do_not() -> None:
    assert pairs(["4 + 3 ="], ["4 - 3 ="]) == []
    assert pairs(["4 +3="], ["4+ 3 ="]) == [(0, 0, "4 + 3 =")]
    assert pairs(["A well known farmers market"], ["A well-known farmer's market"]) == []
    assert pairs(["a well known farmer s market"], ["A well-known farmer's market"])


def test_scripts_without_spaces_have_a_word_for_each_character() -> None:
    assert pairs(["小明有五个苹果他吃了两个还剩几个呢"], ["小明有五个苹果他吃了两个还剩几个"])


def test_system_messages_do_not_count() -> None:
    assert overlapping(asked("a", system=LONG), asked("b", system=LONG)).is_empty()


@pytest.mark.parametrize(
    "template",
    [
        "Answer: {}",
        "Think step by step and give nothing but the number after the word Answer. Question: {}",
        f"{LONG} {LONG} {{}} {LONG}",
        " ".join(f"example {i} of many" for i in range(200)) + " Problem: {} Solution:",
    ],
)
def test_what_most_exam_prompts_share_does_not_count(template: str) -> None:
    items = [
        f"How many {a} and {b} are there" for a in ("cats", "dogs", "hens") for b in ("cups", "pens", "jars", "toys")
    ]
    train = [template.format(text) for text in ["How many cats and dogs are there", "How many dogs and jars are there"]]
    found = pairs(train, [template.format(text) for text in items])
    assert [(row, item) for row, item, _ in found] == [(1, 6)]
    assert "dogs and jars" in found[0][2]


def test_with_few_exam_prompts_everything_counts() -> None:
    assert pairs([f"{LONG} a"], [f"{LONG} b", f"{LONG} c"]) == [(0, 0, LONG)]


def test_a_prompt_with_the_id_of_an_exam_prompt_is_always_found() -> None:
    assert pairs(["?!", "!?"], ["...", "?!"]) == [(0, 1, "?!")]
    same = ["Question: ?"] * 1 + [f"Question: {i}" for i in range(20)]
    assert [row for row, _, _ in pairs(["x", "Question: ?"], same)] == [1]


def test_each_prompt_comes_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    train = [f"{i} {LONG} {i}" for i in range(40)]
    expected = [(i, 0, LONG) for i in range(40)]
    assert pairs(train, [f"x {LONG} {LONG}", f"y {LONG}"]) == expected
    monkeypatch.setattr(overlap, "CHUNK", 100)  # a prompt or two at a time
    assert pairs(train, [f"x {LONG} {LONG}", f"y {LONG}"]) == expected


def test_nothing_to_compare_is_no_overlap() -> None:
    nothing = asked("x").clear()
    for prompts, exam in ((nothing, asked("x")), (asked("x"), nothing), (nothing, nothing), (asked("?"), asked("!"))):
        assert overlapping(prompts, exam).equals(OVERLAP.to_frame())
    with pytest.raises(ValueError, match="at least one word"):
        overlapping(nothing, nothing, 0)


def obvious(train: list[str], exam: list[str], n: int) -> set[int]:
    """The same by loops, without templates."""

    def grams(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)} or ({tuple(words)} if words else set())

    held_out = set().union(*map(grams, exam))
    return {row for row, text in enumerate(train) if grams(text) & held_out}


TEXTS = st.lists(st.lists(st.sampled_from("abc"), max_size=9).map(" ".join), min_size=1, max_size=9, unique=True)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(train=TEXTS, exam=TEXTS, n=st.integers(1, 4))
def test_a_slow_and_obvious_search_finds_the_same(train: list[str], exam: list[str], n: int) -> None:
    assert {row for row, _, _ in pairs(train, exam, n) if train[row]} == obvious(train, exam, n)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason=f"GSM8K is not at {DATA}: set FLYWHEEL_TEST_DATA to the folder of gsm8k/")
def test_gsm8k_is_compared_in_seconds_and_shares_four_prompts() -> None:
    train, exam = (asked(*pl.read_ndjson(DATA / f"{part}.jsonl")["question"].to_list()) for part in ("train", "test"))
    start = time.monotonic()
    assert overlapping(train, exam).height == 4
    assert overlapping(pl.concat([train, exam.head(7)]), exam).height == 11
    assert time.monotonic() - start < 20
