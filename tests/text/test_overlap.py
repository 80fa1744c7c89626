"""Overlap: what counts as the same text, what does not, and that a slow and obvious search finds the same."""

import math
import time
from dataclasses import dataclass, replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.preflight.prompts import prompt_problems
from flywheel.recipe.load import load
from flywheel.store.schema import prompts_frame
from flywheel.text import overlap
from flywheel.text.cores import CORE
from flywheel.text.overlap import OVERLAP, SEVERAL, mostly_near, overlapping
from tests import PUBLIC

DATA = PUBLIC / "gsm8k"
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
    monkeypatch.setattr(overlap, "CHUNK_TEXT_BYTES", 100)  # a prompt or two at a time
    assert pairs(train, [f"x {LONG} {LONG}", f"y {LONG}"]) == expected


TASKS = (
    "Solve the following arithmetic problem step by step and then write only the number after the word Answer: {}",
    "Read the sentence below carefully and reverse the order of all its words; give the result after Answer: {}",
    "{} is a list of numbers; sort them in ascending order and write them with commas after the word Answer",
    "Is this sentence plausible to you who know about all sports: {}",  # 11 words, fewer than are compared
)
WORDS = ("apple", "river", "stone", "cloud", "green", "train", "piano", "tiger", "lemon", "chair")


def items(task: int, first: int, last: int) -> list[str]:
    """Problems of a task, no two of them the same."""
    said = (
        lambda i: f"{i} + {i * 7 % 90} - {i % 5}",
        lambda i: " ".join(WORDS[(i // 10**k) % 10] for k in range(5)),
        lambda i: ", ".join(str(i * (k + 3) % 211) for k in range(5)),
        lambda i: f"{WORDS[i % 10]} number {i} scored",
    )[task]
    return [TASKS[task].format(said(i)) for i in range(first, last)]


@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
@pytest.mark.parametrize("each", [3, 9, 10, 40])
def test_templates_of_several_tasks_do_not_count(tasks: int, each: int) -> None:
    exam = [text for task in range(tasks) for text in items(task, 0, each)]
    train = [text for task in range(tasks) for text in items(task, 40, 100)]
    assert pairs(train, exam) == []
    before = "Answer as an expert would, be brief, and end with the word Answer and nothing behind it. "
    assert pairs([before + text for text in train], [before + text for text in exam]) == []


@pytest.mark.parametrize(
    "around", ["{}", "  {} ", "Please help me.\n{}", "{} Thanks a lot.", "So: {} Go on!\nHere is more."]
)
def test_an_item_in_a_shared_template_is_found_whatever_is_around_it(around: str) -> None:
    exam = [text for task in range(4) for text in items(task, 0, 20)]
    train = [around.format(text.upper()) for task in range(4) for text in items(task, 19, 22)]
    assert [(row, item) for row, item, _ in pairs(train, exam)] == [(0, 19), (3, 39), (6, 59), (9, 79)]


PROBLEM = (
    "Ann has twelve red marbles and buys seven more at the market on Monday; on Tuesday she gives half of them to her "
    "brother Ben, who loses three on his way home from school. How many marbles does Ben have now?"
)
CHANGED = PROBLEM.replace("market", "shop").replace("loses", "drops")


@pytest.mark.parametrize("copies", [1, 2, 3, 5])
def test_an_exam_that_holds_an_item_several_times_does_not_let_it_go(copies: int) -> None:
    same = [PROBLEM.replace(" ", " " * (1 + copy)).replace(";", ";.,:"[copy % 4]) for copy in range(copies)]
    found = pairs([PROBLEM, f"Hello. {PROBLEM} Bye.", CHANGED, "Ben has no marbles"], ["else", *same])
    assert [row for row, _, _ in found] == [0, 1, 2]


def test_an_item_and_its_paraphrase_are_no_template() -> None:
    exam = ["else", f"{PROBLEM} Answer with a number.", f"Question: {PROBLEM} Think first, then answer in a word."]
    assert [row for row, _, _ in pairs([PROBLEM, CHANGED, f"{CHANGED} Please."], exam)] == [0, 1, 2]


def test_an_item_that_three_exam_prompts_share_is_found_where_it_is_there_in_whole_or_nearly() -> None:
    asks = "Here is a problem for a child of ten that you know well, please be so kind as to {} it for me."
    others = [PROBLEM.replace("Ann", name).replace("Ben", name[::-1])[: 150 - 9 * at] for at, name in enumerate(WORDS)]
    wrapped = [[asks.format(how) + " " + text for how in ("solve", "explain", "do")] for text in (PROBLEM, *others)]
    train = [f"Hello. {wrapped[0][1]} Bye.", PROBLEM[:90], PROBLEM[90:], wrapped[0][2][5:]]
    assert [row for row, _, _ in pairs(train, [text for each in wrapped for text in each])] == [0, 3]


def test_an_item_that_is_put_together_from_shared_pieces_is_found_only_as_it_is() -> None:
    names, things = ("Ann", "Ben", "Cem", "Dan"), ("bread", "cheese", "wine", "soap")
    text = (
        "{} goes to the old market in the middle of the town early on a cold Monday in May and buys {}, so who is it?"
    )
    every = [text.format(name, thing) for name in names for thing in things]
    assert pairs(every[15:], every[:15]) == []
    assert [(row, item) for row, item, _ in pairs([every[3], f"So: {every[4]} Say it."], every[:15])] == [
        (0, 3),
        (1, 4),
    ]


def test_brackets_and_other_signs_tell_problems_apart_and_ways_to_print_them_do_not() -> None:
    assert pairs(["( True ) and True"], ["( True and True )"]) == pairs(["4 × 3"], ["4 ÷ 3"]) == []
    assert pairs(["Is it (A) or (B) if $x$ is 5?"], [r"is it a or b if \(x\) is 5"])
    text = "Complete the rest of the sequence and make sure that each of the brackets is closed properly: {}"
    signs = ["[ { (", "< ( [", "{ { <", "( ( (", "[ ] {"]
    assert pairs([text.format("{ ( <")], [text.format(each) for each in signs]) == []
    assert [
        row for row, _, _ in pairs([text.format("{ ( <"), text.format("< ( [")], [text.format(x) for x in signs])
    ] == [1]


def test_rows_of_signs_are_words() -> None:
    text = "Push the box from where you stand onto the goal, and say in which direction you walk each time: {}"
    grids = ["#..@#", "#@..#", "##.@#", "#.@.#"]
    exam = [text.format(grid) for grid in grids]
    assert [row for row, _, _ in pairs([text.format("#@.##"), text.format("#.@.#")], exam)] == [1]


def test_a_source_that_is_mostly_left_out_is_told_with_the_words_to_blame() -> None:
    exam = asked("else", *items(1, 0, 2))
    near = overlapping(asked(*items(1, 40, 60), *(f"{i}?" for i in range(20))), exam)
    assert near.height == 20 and mostly_near(near, 40, 13) is None
    told = mostly_near(near, 39, 13)
    assert told is not None and told.startswith("shares 13 words in a row with the exam in 20 of its 39 prompts")
    assert "20 of them for 'read the sentence below carefully and reverse the order of all its words'" in told
    assert "raise overlap" in told and "\n" not in told


@dataclass(frozen=True)
class Asking:
    """These prompts."""

    texts: tuple[str, ...]

    def __call__(self) -> pl.DataFrame:
        """PROMPTS."""
        return asked(*self.texts)


def test_a_recipe_of_which_most_is_near_the_exam_is_refused() -> None:
    toy = load("toy")
    exam = replace(toy.exam, prompts=Asking(("else", *items(1, 0, 2))))
    recipe = replace(toy, prompts=Asking(tuple(items(1, 40, 60))), exam=exam)
    (problem,) = prompt_problems(recipe)
    assert problem.startswith("prompts shares 13 words in a row with the exam in 20 of its 20 prompts")
    assert list(prompt_problems(replace(recipe, overlap=30))) == []


def test_nothing_to_compare_is_no_overlap() -> None:
    nothing = asked("x").clear()
    for prompts, exam in ((nothing, asked("x")), (asked("x"), nothing), (nothing, nothing), (asked("?"), asked("!"))):
        assert overlapping(prompts, exam).equals(OVERLAP.to_frame())
    with pytest.raises(ValueError, match="at least one word"):
        overlapping(nothing, nothing, 0)


def obvious(train: list[str], exam: list[str], n: int) -> set[int]:
    """The same by loops, for an exam of few prompts, which has no template."""
    half, texts = (n + 1) // 2, [text.split() for text in exam]

    def inside(part: list[str], whole: list[str]) -> bool:
        return any(whole[at : at + len(part)] == part for at in range(len(whole) - len(part) + 1))

    def grams(words: list[str], n: int) -> list[list[str]]:
        return [words[at : at + n] for at in range(len(words) - n + 1)]

    def level(words: list[str], at: int) -> int:
        parts = [words[start : start + half] for start in range(max(at - half + 1, 0), min(at, len(words) - half) + 1)]
        return max([1, *(sum(inside(part, text) for text in texts) for part in parts)])

    def near(words: list[str], item: list[str]) -> bool:
        if words == item or len(item) < n:
            return words == item
        levels = [level(item, at) for at in range(len(item))]
        for at, gram in enumerate(grams(item, n)):
            rare = sum(each < SEVERAL for each in levels[at : at + n]) >= half
            if rare and sum(inside(gram, text) for text in texts) < SEVERAL and inside(gram, words):
                return True
        rarest = [at for at, each in enumerate(levels) if each <= max(min(levels), max(levels) // 2, SEVERAL - 1)]
        first, span = rarest[0], rarest[-1] + 1 - rarest[0]
        length = max(math.ceil(CORE * len(item)), span)
        length = len(item) if length < n else length
        start = min(max(first - (length - span) // 2, 0), len(item) - length)
        return inside(item[start : start + length], words)

    return {row for row, text in enumerate(train) if text and any(near(text.split(), item) for item in texts)}


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
