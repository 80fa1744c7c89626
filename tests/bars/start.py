"""Bar `start`: a command costs hardly more than the libraries that it needs, and loads none that it does not.

    python -m tests.bars.start [--rounds N]

`--help`, `status` and `sql` are run in alternating rounds with a process that only imports their libraries. What counts
is the processor time of each, of all its threads: the median of the differences must not exceed TARGET seconds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from flywheel.engines.toy.engine import write_weights
from tests import ROOT

TARGET = 0.15
HELP = "import typer, typer.rich_utils, typer._adapters, rich.markdown"
ROWS = "import typer, typer._adapters, polars, duckdb, pyarrow, numpy, rich.console, rich.progress, rich.table"
COMMANDS = {"--help": (["--help"], HELP), "status": (["status"], ROWS), "sql": (["sql", "from progress"], ROWS)}
"""What is called, and the libraries that it needs: typer reads arguments by pydantic, duckdb gives rows by pyarrow."""
STRANGERS = ("scipy", "pandas", "torch", "prefect", "transformers", "matplotlib")
COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Our modules are compiled once, in the first round, which does not count."""
LOADED = """
import sys
from flywheel.cli.app import app
try:
    app(sys.argv[1:])
except SystemExit:
    print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def cost(command: list[str]) -> float:
    """Processor seconds of a process."""
    before = os.times()
    subprocess.run([sys.executable, *command], cwd=ROOT, env=COMPILED, check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def loaded(command: list[str]) -> list[str]:
    """The libraries that a command loads and has no use for."""
    argv = [sys.executable, "-c", LOADED, *command]
    told = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted({*told.rpartition("LOADED")[2].split()} & {*STRANGERS})


def a_home(folder: Path) -> list[str]:
    """A home with a short run in it, as an option."""
    write_weights(folder / "weights", skill=0.4, seed=0)
    option = ["--home", str(folder / "runs")]
    settings = ["--iterations", "1", "--quiet", "--set", f"base={folder / 'weights'}"]
    cost(["-m", "flywheel.cli.app", "run", "toy", *settings, *option])
    return option


def measure(rounds: int) -> dict[str, Any]:
    """Seconds above the libraries for each command, and the strangers that it loads."""
    value: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        home = a_home(Path(folder))
        for name, (words, libraries) in COMMANDS.items():
            command = words if name == "--help" else [*words, *home]
            kinds = {"ours": ["-m", "flywheel.cli.app", *command], "theirs": ["-c", libraries]}
            took: dict[str, list[float]] = {kind: [] for kind in kinds}
            for number in range(rounds + 1):
                for kind in kinds if number % 2 else reversed(kinds):
                    took[kind].append(cost(kinds[kind]))
            above = [ours - theirs for ours, theirs in zip(took["ours"][1:], took["theirs"][1:], strict=True)]
            value[name] = {"above": round(statistics.median(above), 3), "strangers": loaded(command)}
            value[name] |= {kind: round(statistics.median(seconds[1:]), 3) for kind, seconds in took.items()}
            print(name, value[name], file=sys.stderr, flush=True)
    return value


def main() -> int:
    """Measure and print the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    value = measure(parser.parse_args().rounds)
    ok = all(found["above"] <= TARGET and not found["strangers"] for found in value.values())
    print(json.dumps({"bar": "start", "value": value, "target": TARGET, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
