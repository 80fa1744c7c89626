"""AlpacaEval's boards, against what the annotations behind them come to once they are imported.

src/alpaca_eval/leaderboards/data_*/ANNOTATOR_leaderboard.csv    the boards
results/MODEL/ANNOTATOR/annotations.json                         the annotations
"""

import csv
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from flywheel.exchange.importing import import_files
from flywheel.stats.ratings import shares
from flywheel.store.store import Store
from tests.bars.published.counting import Counted, Row, counted

BATTLES = """
    select c.verdict, c.judge, x.weights as a, y.weights as b, if(c."order" = 'ab', y.weights, x.weights) as second
    from comparisons c
    join generations ga on ga.id = c.a join checkpoints x on x.id = ga.checkpoint
    join generations gb on gb.id = c.b join checkpoints y on y.id = gb.checkpoint
    where starts_with(c.judge, $judge)
"""
PREFERRED = """
    select c.weights as player, avg(j.score) as share
    from judgments j join generations g on g.id = j.generation join checkpoints c on c.id = g.checkpoint
    where starts_with(j.judge, $judge) group by all
"""
BOARDS = "leaderboards/data_*/*_leaderboard.csv"
Board = Mapping[str, Mapping[str, str]]


class Rates(NamedTuple):
    """A model's win rates on a board: the mean preference, the one of whole wins, and the battles."""

    win_rate: float
    discrete: float
    battles: int


class Played(NamedTuple):
    """What the store says of a file of annotations, and who they are by."""

    rates: Rates
    annotator: str


def alpaca_eval(folder: Path) -> Counted:
    """Each file of annotations that is there and has its place on its board."""
    boards = {path.name.removesuffix("_leaderboard.csv"): board(path) for path in folder.rglob(BOARDS)}
    return counted(compared(folder, boards))


def board(path: Path) -> Board:
    """The rows of a board by the models' names, which have no heading."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row[""]: row for row in csv.DictReader(file) if row.get("")}


def compared(folder: Path, boards: Mapping[str, Board]) -> Iterator[Row]:
    """A row for each file; a file that holds another annotator's words is to be found on that annotator's board."""
    unlisted = []
    with tempfile.TemporaryDirectory() as home:
        store = Store(Path(home) / "store.duckdb")
        for path in sorted(folder.rglob("annotations.json")):
            model, annotator = path.parent.parent.name, path.parent.name
            name = f"{model} by {annotator}"
            there = published(boards, annotator, model)
            if there is None:
                unlisted.append(name)
                continue
            found = played(store, path, name)
            if found is None:
                yield Row(
                    None, there, "it was compared with itself, and the import says that this makes no comparison", name
                )
                continue
            other = found.annotator != annotator and published(boards, found.annotator, model) == found.rates
            why = f"the annotations in the file are by {found.annotator}, and as on its board" if other else False
            yield Row(found.rates, there, why, name)
    if unlisted:
        print(f"annotations without a place on a board: {', '.join(unlisted)}", file=sys.stderr)


def published(boards: Mapping[str, Board], annotator: str, model: str) -> Rates | None:
    """What a board says of a model; early rows have no discrete rate, but the wins it is made of."""
    row = boards.get(annotator, {}).get(model)
    if row is None:
        return None
    total = int(float(row["n_total"]))
    discrete = row.get("discrete_win_rate") or 100 * (float(row["n_wins"]) + float(row["n_draws"]) / 2) / total
    return Rates(round(float(row["win_rate"]), 6), round(float(discrete), 6), total)


def played(store: Store, path: Path, name: str) -> Played | None:
    """Import annotations as comparisons, and count what the store says of the model that was shown second; None where
    the import says that each pair is of the same answer twice."""
    imported = import_files(store, [str(path)], "comparisons", name=name)
    if not imported.rows["comparisons"] and any("make no comparison" in note for note in imported.notes):
        return None
    judge = {"judge": f"imported#{name}#"}
    battles, preferred = store.sql(BATTLES, judge), store.sql(PREFERRED, judge)
    (model,), (annotator,) = (battles[column].unique() for column in ("second", "judge"))
    (discrete,) = shares(battles).filter(player=model)["share"]
    (mean,) = preferred.filter(player=model)["share"]
    rates = Rates(round(100 * mean, 6), round(100 * discrete, 6), battles["verdict"].count())
    return Played(rates, annotator.removeprefix(judge["judge"]))
