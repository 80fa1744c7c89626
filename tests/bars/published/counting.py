"""What the sets of bar `published` count: rows as published, rows that differ for a reason, and what nobody said."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


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
    """One published row: what we read of it, what was published, and why we differ where there is a reason.

    What is not there is None on both sides: no verdict, no number, or an answer that is not right.
    """

    ours: Any
    theirs: Any
    reason: str | bool = False
    where: str = ""


def counted(rows: Iterator[Row]) -> Counted:
    """How many rows are what; those that are not as published are shown, unless the reason is one of the set's."""
    total = agreed = explained = made_up = 0
    for row in rows:
        total += 1
        if row.ours == row.theirs:
            agreed += 1
            continue
        explained += bool(row.reason)
        made_up += not row.reason and row.ours is not None
        if row.reason is not True:
            why = f": {row.reason}" if row.reason else ""
            print(f"{row.where} read {row.ours!r}, published {row.theirs!r}{why}".strip(), file=sys.stderr)
    return Counted(total, agreed, explained, made_up)


def lines(folder: Path, pattern: str) -> Iterator[dict[str, Any]]:
    """The objects in the files of that name."""
    for path in sorted(folder.rglob(pattern)):
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())
