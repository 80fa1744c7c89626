"""A little model that adds, made from nothing by the project itself."""

import random
from pathlib import Path

import polars as pl
import pytest

from flywheel.store.schema import EXAMPLES, WORKED
from flywheel.training import scratch
from flywheel.training.run import Job, train
from flywheel.training.settings import Scratch, Sft


def sums() -> pl.DataFrame:
    """WORKED sums of two digits."""
    generator, rows = random.Random(0), []
    for _ in range(300):
        a, b = generator.randint(0, 9), generator.randint(0, 9)
        rows.append({"chat": [{"role": "user", "content": f"Add {a} and {b}."}], "completion": f"Answer: {a + b}"})
    return pl.DataFrame(rows, schema=WORKED)


@pytest.fixture(scope="session")
def untaught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with random weights."""
    out = tmp_path_factory.mktemp("cases") / "untaught"
    scratch.build(Scratch(text=sums, hidden=64, layers=2, heads=2, intermediate=128, context=256), out)
    return out


@pytest.fixture(scope="session")
def taught(untaught: Path) -> Path:
    """The model after a training on the sums."""
    out = untaught.with_name("taught")
    examples = sums().select("chat", chosen="completion")
    examples = examples.with_columns(
        dataset=pl.lit("d"),
        position=pl.int_range(pl.len(), dtype=pl.Int32),
        prompt=pl.lit("p"),
        rejected=pl.lit(None, pl.String),
        weight=pl.lit(1.0),
        origin=pl.lit("real"),
        generations=pl.lit([], pl.List(pl.String)),
    )
    path = untaught.with_name("examples.parquet")
    examples.select(list(EXAMPLES)).cast(dict(EXAMPLES)).write_parquet(path)
    settings = Sft(lr=3e-3, max_steps=150, batch_size=32, max_length=128)
    for _ in train(Job(examples=path, init_from=str(untaught), reference=None, out=out, settings=settings, seed=0)):
        pass
    return out
