"""The toy: its weights decide how often it is right, and its training survives a kill."""

import json
from pathlib import Path

import polars as pl
import pytest

from flows.recipes.toy import ToyTraining
from flywheel.checkpoints import weights
from flywheel.engines.toy.engine import TOY_ANSWER, Toy, solve, write_weights
from flywheel.protocols import Sampling
from flywheel.store.schema import EXAMPLES, Chat
from flywheel.training.run import Job, metrics, train

CHATS: list[Chat] = [
    [{"role": "user", "content": f"What is {a}{sign}{b}?"}] for a in range(30) for sign, b in ["+7", "*3"]
]


def examples(path: Path, wrong: int) -> Path:
    """One for each chat, of which the first `wrong` are wrong."""
    answers = [(solve(chat) or 0) + (place < wrong) for place, chat in enumerate(CHATS)]
    rows = [
        {
            "dataset": "d",
            "position": place,
            "prompt": str(place),
            "chat": chat,
            "chosen": f"Answer: {answer}",
            "weight": 1.0,
        }
        for place, (chat, answer) in enumerate(zip(CHATS, answers, strict=True))
    ]
    pl.DataFrame(rows, schema=EXAMPLES).write_parquet(path)
    return path


def test_it_is_right_as_often_as_its_skill_says(tmp_path: Path) -> None:
    for skill in (0.0, 0.3, 1.0):
        model = Toy().load(str(write_weights(tmp_path / str(skill), skill)))
        answers = model.chat(CHATS, Sampling(n=10), list(range(len(CHATS))))
        right = [
            int(TOY_ANSWER.findall(row["text"])[-1]) == solve(CHATS[row["chat"]]) for row in answers.rows(named=True)
        ]
        assert abs(sum(right) / len(right) - skill) < 0.08


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    base = write_weights(tmp_path / "base", 0.2, train_delay=0.2)
    data, settings = examples(tmp_path / "examples.parquet", wrong=15), ToyTraining(batch_size=6)
    made = []
    for name in ("whole", "killed"):
        job = Job(examples=data, init_from=str(base), reference=None, out=tmp_path / name, settings=settings, seed=1)
        if name == "killed":
            assert next(train(job)).step == 1  # whoever stops iterating ends the child
            assert not job.out.exists()
        steps = [at.step for at in train(job)]
        assert steps[-1] == 10
        assert steps[0] == 1 if name == "whole" else steps[0] > 1
        weights.check_weights(str(job.out))
        made.append((job.out / "toy.json").read_text())
    assert made[0] == made[1]
    assert json.loads(made[0])["skill"] == 0.475  # half way from 0.2 to 45 of 60
    assert metrics(tmp_path / "whole", "c")["value"].to_list() == [0.75]
