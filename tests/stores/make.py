"""Makes the stores beside it, each with the program as it was at one commit.

    python -m tests.stores.make NAME ...      from a checkout of the commit that STORES names for them
    python -m tests.stores.make ids           writes ids.json

For an earlier commit, whose tests lack this file: put that checkout's folder on PYTHONPATH, and start this file by its
path. A store is made in a temporary folder by the commands that STORES lists, with the files of `recipes` and a folder
of toy weights in it. What is left is packed: the home without locks and without the datasets' Parquet files.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
RECIPES = HERE / "recipes"
HOME, WEIGHTS = "home", "toy-weights"
TODAY = "974fa33"
ROW_GROUP = 10240
LEFT_OUT = {"locks", "datasets", "__pycache__"}


class Made(NamedTuple):
    """How a store is made, and what goes on with it: `flywheel run` with this recipe and these settings."""

    recipe: str  # a file of `recipes`, or the name of a shipped recipe
    settings: tuple[str, ...] = ()
    iterations: int = 2  # decided ones in the store
    commit: str = TODAY
    schema: int = 4
    commands: tuple[str, ...] = ("run",)
    """`run` is `flywheel run` with recipe and settings; others are spelled out. One that begins with `!` must fail."""


SUMS = ("prompts.side=3", "prompts.last=4", "exam.prompts.side=1")
GSM8K = tuple(f"{path}.{field}" for path in ("prompts", "exam.prompts") for field in ("name=gsm8k-data", "config=None"))
APPROVED = ("gate.approval=true",)
YES = "approve --by ada --because fine"
STORES: Mapping[str, Made] = {
    "quickstart": Made("quickstart_toy.py"),
    "control": Made("control_toy.py"),
    "self-rewarding-lab": Made("self_rewarding_lab_toy.py"),
    "meta-rewarding-lab": Made("meta_rewarding_lab_toy.py"),
    "mine": Made(
        "mine.py",
        commands=(
            "!run --set base=nowhere",  # leaves the row of a run that never began
            "run --set sampling.n=2 --iterations 1",
            "import answers.jsonl --kind generations",
            "import pairs.jsonl --kind preferences",
            "run",
            "replay mine.py --set judges.0.strict=true",
        ),
    ),
    "toy": Made("toy", SUMS),
    "gsm8k": Made("gsm8k_toy.py", GSM8K),
    "rest-em": Made("rest_em_toy.py"),
    "self-rewarding": Made("self_rewarding_toy.py"),
    "meta-rewarding": Made("meta_rewarding_toy.py"),
    "waiting": Made("quickstart_toy.py", APPROVED, 1, commands=("!run", YES, "!run")),
    "stopped": Made("self_rewarding_lab_toy.py", ("batch=4",), 1, commands=("stop judge 2",)),
    "scratch": Made("scratch_toy.py", (), -1, commands=("build", "stop examine 0")),
    "version-1": Made("toy", SUMS, commit="66528e8", schema=1),
    "version-2": Made("meta_rewarding_lab_toy.py", commit="672b7f2", schema=2),
    "version-3": Made("quickstart_toy.py", APPROVED, 1, "307d678", 3, ("!run", YES, "!run")),
}
"""By the name of the archive."""


def main(names: Sequence[str]) -> int:
    """Make the stores of these names."""
    for name in names:
        if name == "ids":
            from tests.stores.ids import write_ids

            write_ids(HERE / "ids.json")
            continue
        with tempfile.TemporaryDirectory() as folder:
            make(STORES[name], Path(folder).resolve())
            pack(Path(folder).resolve(), HERE / f"{name}.tar.xz")
        print(f"{name}: {(HERE / f'{name}.tar.xz').stat().st_size / 1000:.0f} kB")
    return 0


def make(made: Made, folder: Path) -> None:
    """Lay the files out, and give the commands there."""
    from flywheel.engines.toy import write_weights

    shutil.copytree(RECIPES, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    write_weights(folder / WEIGHTS, 0.5, 1)
    if "gsm8k" in made.recipe:
        write_hub_copy(folder / "gsm8k-data")
    os.chdir(folder)
    for command in made.commands:
        done = command_of(made, command)
        if (done != 0) != command.startswith("!"):
            raise SystemExit(f"`{command}` ended with {done}")
    os.chdir(HERE)


def command_of(made: Made, command: str) -> int:
    """Give one of a store's commands; its exit status."""
    verb, *words = command.removeprefix("!").split()
    if verb == "stop":
        return stop(made, words[0], int(words[1]))
    if verb == "build":
        return build(made)
    if verb == "run":
        words = [made.recipe, *(part for setting in made.settings for part in ("--set", setting)), *words]
        if "--iterations" not in words:
            words += ["--iterations", "2"]
    return subprocess.run([sys.executable, "-m", "flywheel.cli", verb, *words, "--home", HOME]).returncode


def stop(made: Made, step: str, iteration: int) -> int:
    """Turn the wheel until a step has stored its first batch, and go away."""
    from functools import partial

    from flywheel.load import load
    from flywheel.steps import spin

    wheel: Any = spin(partial(load, made.recipe, overrides=made.settings), Path(HOME))
    next(at for at in wheel if (at.step, at.iteration) == (step, iteration))
    wheel.close()
    return 0


def build(made: Made) -> int:
    """Build the model that the recipe starts from, and let the toy serve it."""
    from flywheel.learn import build_scratch
    from flywheel.load import load
    from flywheel.tables import content_id

    from flywheel.recipe import describe

    base: Any = load(made.recipe).base
    folder = Path(HOME) / "checkpoints" / content_id("scratch", describe(base))
    build_scratch(base, folder)
    shutil.copy(Path(WEIGHTS) / "toy.json", folder)
    return 0


def write_hub_copy(folder: Path) -> None:
    """A data set as the Hub has them, in a folder."""
    from datasets import Dataset, DatasetDict

    def rows(numbers: range) -> Any:
        return Dataset.from_list(
            [{"question": f"What is {n}+{n % 9}?", "answer": f"It is a sum.\n#### {n + n % 9}"} for n in numbers]
        )

    DatasetDict({"train": rows(range(20, 28)), "test": rows(range(50, 62))}).save_to_disk(str(folder))


def pack(folder: Path, archive: Path) -> None:
    """The archive of what `folder` holds beside the files of `recipes`."""
    for store in (folder / HOME).glob("*.duckdb"):
        rewrite(store)
    ours = {path.name for path in RECIPES.iterdir()}
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for path in paths:
            name = path.relative_to(folder)
            if name.parts[0] in ours or set(name.parts) & LEFT_OUT:
                continue
            head = tarfile.TarInfo(name.as_posix())
            head.size, head.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                tar.addfile(head, file)


def rewrite(store: Path) -> None:
    """As `flywheel store compact` does; but first the base's folder is named from the home, and not from the root."""
    import duckdb

    new = store.with_suffix(".new")
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{store}' AS old")
        connection.execute(f"UPDATE old.checkpoints SET weights = '../{WEIGHTS}' WHERE weights LIKE '/%/{WEIGHTS}'")
        connection.execute(f"ATTACH '{new}' AS new (ROW_GROUP_SIZE {ROW_GROUP})")
        connection.execute("COPY FROM DATABASE old TO new")
    new.replace(store)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
