"""Overlap: an instruction that the problems of a task have in common says nothing of one problem."""

import random
from collections.abc import Sequence

import polars as pl
import pytest

from flywheel.store.schema import prompts_frame
from flywheel.text.overlap import overlapping

SUM = "Solve the following arithmetic problem step by step and then write only the number after the word Answer: {}"
REVERSE = (
    "Read the sentence below carefully and reverse the order of all its words; "
    "give the result after the word Answer: {}"
)
SORT = (
    "You are given a list of numbers; sort them in ascending order and write them with commas after the word Answer: {}"
)
WORDS = "apple river stone cloud green train piano tiger lemon chair"


def asked(texts: Sequence[str]) -> pl.DataFrame:
    return prompts_frame(({"chat": [{"role": "user", "content": text}]} for text in texts), "cases")


def problem(task: int, generator: random.Random) -> str:
    """A problem of one of three tasks, each with an instruction of its own."""
    if task == 0:
        return SUM.format(f"{generator.randint(10, 999)} + {generator.randint(10, 999)}")
    if task == 1:
        return REVERSE.format(" ".join(generator.choice(WORDS.split()) for _ in range(5)))
    return SORT.format(", ".join(str(generator.randint(1, 999)) for _ in range(6)))


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_no_problem_is_near_the_exam_for_its_instruction(tasks: int) -> None:
    generator, found = random.Random(0), dict[str, None]()
    while len(found) < 360:
        found[problem(generator.randrange(tasks), generator)] = None
    exam, train = list(found)[:60], list(found)[60:]
    assert overlapping(asked(train), asked(exam)).is_empty()


@pytest.mark.parametrize("size", [9, 10])
def test_a_small_exam_of_one_instruction_is_near_nothing(size: int) -> None:
    exam = [SUM.format(f"{i}+{i + 1}") for i in range(size)]
    train = [SUM.format(f"{i}*{i + 1}") for i in range(100)]
    assert overlapping(asked(train), asked(exam)).is_empty()
