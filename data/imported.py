"""Answers that are there already, as what a warm start learns from; read as `flywheel import` reads them.

    WarmStart(examples=Imported("mine.jsonl"), train=Sft(...))                          prompt and answer
    WarmStart(examples=Imported("exported.parquet"), train=Sft(...))                    what `flywheel export` wrote
    WarmStart(examples=Imported("pairs.jsonl", kind="preferences"), train=Sft(...))     the chosen ones; no ties
    Imported("mine.json", columns=("prompt=task", "answer=reply"))

Rows of a warm start count as `real` in a dataset's mix, whoever wrote them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import polars as pl

from flywheel.errors import SourceError
from flywheel.exchange.forms.entries import entries
from flywheel.exchange.forms.records import records
from flywheel.recipe.places import located
from flywheel.store.schema import WORKED


@dataclass(frozen=True)
class Imported:
    """WORKED examples: the answers of a file, a folder or a Hub data set; of two the better one, of a tie none.

    Of a folder all files are read, unless a `split` says which; of a Hub data set the split `train`.
    """

    version: ClassVar[int] = 2  # system, history, tools and thoughts are learnt, ties are not; all files of a folder

    path: str | Path
    kind: Literal["generations", "preferences", "comparisons"] = "generations"
    columns: tuple[str, ...] = ()
    split: str | None = None
    config: str | None = None

    def __call__(self) -> pl.DataFrame:
        """WORKED, or SourceError."""
        found = entries(records(str(located(self.path)), self.split, self.config), self.kind, self.columns)
        kept = found.filter(pl.col("text").is_not_null(), pl.col("other").is_null() | (pl.col("verdict") == "a"))
        if kept.is_empty():
            raise SourceError(f"{self.path} holds no answers to learn from")
        return kept.select("chat", completion="text").cast(WORKED)
