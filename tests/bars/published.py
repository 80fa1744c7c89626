"""Bar `published`: what is published of judges' replies is read as it was published, or there is a reason why not.

    python -m tests.bars.published --data FOLDER [--sets NAME ...]

FOLDER holds copies of public repositories, or of the files named here, at whatever depth:

- `judgebench`: outputs/*judge_name=arena_hard*.jsonl of ScalerLab/JudgeBench, replies of judges with their decisions;
- `mt_bench_single` and `mt_bench_pair`: *gpt-4_single*.jsonl and *gpt-4_pair*.jsonl as FastChat writes them.

For each set: its rows, how many are as published, how many are not for a reason that holds (`explained`), and how many
have a verdict or a number that nobody gave (`made_up`). A set without rows is not met.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from flywheel.recipe import Asked
from judges import published
from judges.battles import verdict

LABEL = re.compile(r"\[\[([AB](?:[<>=]{1,2}[AB])?|C)\]\]")
DECIDED = {"A>B": "a", "B>A": "b", "A=B": "tie", None: None}


class Counted(NamedTuple):
    """What a set came to; the rows that are neither as published nor explained nor made up are lost."""

    rows: int
    agreed: int
    explained: int
    made_up: int

    @property
    def met(self) -> bool:
        """Whether there are rows, and each is as published or explained."""
        return self.rows > 0 and self.rows == self.agreed + self.explained and not self.made_up


class Row(NamedTuple):
    """One published row: what we read of it, what was published, and whether there is a reason to differ."""

    ours: Any
    theirs: Any
    reason: bool = False


def counted(rows: Iterator[Row]) -> Counted:
    """How many rows are what; what is neither as published nor explained is shown."""
    total = agreed = explained = made_up = 0
    for row in rows:
        total += 1
        if row.ours == row.theirs:
            agreed += 1
        elif row.reason:
            explained += 1
        else:
            made_up += row.ours is not None
            print(f"read {row.ours!r}, published {row.theirs!r}", file=sys.stderr)
    return Counted(total, agreed, explained, made_up)


def lines(folder: Path, pattern: str) -> Iterator[dict[str, Any]]:
    """The objects in the files of that name."""
    for path in sorted(folder.rglob(pattern)):
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def judgebench(folder: Path) -> Counted:
    """Both orders of each pair: JudgeBench takes no decision where two labels differ in any letter."""
    asked = (said for row in lines(folder, "*judge_name=arena_hard*.jsonl") for said in row["judgments"] if said)
    said = ((row["judgment"]["response"], row["decision"]) for row in asked)
    return counted(Row(verdict(text), DECIDED[decision], decision is None and settled(text)) for text, decision in said)


def settled(text: str) -> bool:
    """Whether the labels of a reply do not contradict each other: one side, or the last one alone is called final."""
    found = list(LABEL.finditer(text))
    sides = {"=" if "=" in label[1] else label[1][0] for label in found}
    final = [label for label in found if "final verdict" in text[: label.start()].rpartition("\n")[2].casefold()]
    return len(sides) == 1 or final == found[-1:]


def mt_bench_single(folder: Path) -> Counted:
    """Grades from 1 to 10; -1 where none was found."""
    judge = published.mt_bench(Asked())
    rows = ((judge.verdict(row["judgment"]).score, row["score"]) for row in lines(folder, "*gpt-4_single*.jsonl"))
    return counted(Row(ours, None if score == -1 else score) for ours, score in rows)


def mt_bench_pair(folder: Path) -> Counted:
    """Winners in both orders of each pair."""
    return counted(game for row in lines(folder, "*gpt-4_pair*.jsonl") for game in played(row))


def played(row: dict[str, Any]) -> Iterator[Row]:
    """Who won the two games of a pair, by our reading and as published."""
    for game, names in (("g1", ("model_1", "model_2")), ("g2", ("model_2", "model_1"))):
        said = verdict(row[f"{game}_judgment"])
        ours = names["ab".index(said)] if said in ("a", "b") else said
        yield Row(ours, None if row[f"{game}_winner"] == "error" else row[f"{game}_winner"])


SETS: dict[str, Callable[[Path], Counted]] = {
    "judgebench": judgebench,
    "mt_bench_single": mt_bench_single,
    "mt_bench_pair": mt_bench_pair,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where the published files are")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    found = {name: SETS[name](options.data) for name in options.sets}
    for name, count in found.items():
        print(f"{name}: {count}{'' if count.met else ', not met'}", file=sys.stderr)
    ok = bool(found) and all(count.met for count in found.values())
    value = {name: count._asdict() for name, count in found.items()}
    print(json.dumps({"bar": "published", "value": value, "target": "agreed + explained = rows > 0", "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
