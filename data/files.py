"""Prompts from files and from the Hugging Face Hub. Each class is a frozen dataclass and a `Source`.

    Jsonl("train.jsonl", reference_after="####")            GSM8K as its authors published it
    Parquet("questions/*.parquet", prompt="q", reference=None)
    Hub("openai/gsm8k", config="main", split="train", reference_after="####")
    Split(Jsonl("all.jsonl"), "exam")                       a tenth of it that no training will see

The order is that of the files, and a prompt that comes twice is kept once.
"""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from data.columns import Columns, SourceRow, check_columns, prompts, typed_table
from flywheel.errors import RecipeError, SourceError
from flywheel.exchange import hub
from flywheel.exchange.forms.records import json_records, parquet, parquet_names
from flywheel.identity import named
from flywheel.protocols import Source
from flywheel.recipe.places import located
from flywheel.store.ids import content_number


@dataclass(frozen=True)
class Jsonl(Columns):
    """Lines that are JSON objects, from a file, a folder's *.jsonl, or a pattern such as part-*.jsonl."""

    path: str | Path

    def __call__(self) -> pl.DataFrame:
        """PROMPTS, or SourceError."""
        there: dict[str, None] = {}
        return prompts(_lines(_files(self.path, "*.jsonl"), there), self, str(self.path), there)

    def rows(self, columns: Sequence[str]) -> pl.DataFrame:
        """These columns as they are, or SourceError."""
        there: dict[str, None] = {}
        return typed_table(_lines(_files(self.path, "*.jsonl"), there), columns, str(self.path), there)


@dataclass(frozen=True)
class Parquet(Columns):
    """A Parquet file, a folder's *.parquet, or a pattern such as part-*.parquet."""

    path: str | Path

    def __call__(self) -> pl.DataFrame:
        """PROMPTS, or SourceError."""
        there: dict[str, None] = {}
        return prompts(self._rows(self.wanted, there), self, str(self.path), there)

    def rows(self, columns: Sequence[str]) -> pl.DataFrame:
        """These columns as they are, or SourceError."""
        there: dict[str, None] = {}
        return typed_table(self._rows(columns, there), columns, str(self.path), there)

    def _rows(self, columns: Sequence[str], there: dict[str, None]) -> Iterator[SourceRow]:
        for file in _files(self.path, "*.parquet"):
            names = parquet_names(file)
            there.update(dict.fromkeys(names))
            check_columns(columns, names, str(file))
            yield from parquet(file, columns)


@dataclass(frozen=True)
class Hub(Columns):
    """A split of a data set on the Hugging Face Hub, or of one in a local folder that `datasets` can load.

    What was downloaded once is read again without a network. A `revision` (a commit) pins what others could change.
    """

    name: str
    split: str
    config: str | None = None
    revision: str | None = None

    def __call__(self) -> pl.DataFrame:
        """PROMPTS, or SourceError."""
        loaded = self._load(self.wanted)
        return prompts(
            hub.rows(loaded, self._where(), self.wanted), self, self._where(), dict.fromkeys(loaded.column_names)
        )

    def rows(self, columns: Sequence[str]) -> pl.DataFrame:
        """These columns as they are, or SourceError."""
        loaded = self._load(columns)
        return typed_table(
            hub.rows(loaded, self._where(), columns), columns, self._where(), dict.fromkeys(loaded.column_names)
        )

    def _where(self) -> str:
        return "/".join(part for part in (self.name, self.config, self.split) if part)

    def _load(self, columns: Sequence[str]) -> Any:
        loaded = hub.load_split(str(located(self.name)), self.split, self.config, self.revision)
        check_columns(columns, loaded.column_names, self._where())
        return loaded


@dataclass(frozen=True)
class Split:
    """One of two parts of a source that never share a prompt.

    A prompt's part hangs on its own id alone, so it stays where it is when rows are added, removed or moved. About
    `exam_share` of the prompts are in the exam.
    """

    source: Source
    part: Literal["train", "exam"] = "train"
    exam_share: float = 0.1

    def __post_init__(self) -> None:
        if self.part not in ("train", "exam") or not 0 < self.exam_share < 1:
            raise RecipeError(f"{named(self)}: part is 'train' or 'exam', and exam_share is above 0 and below 1")

    def __call__(self) -> pl.DataFrame:
        """PROMPTS, or SourceError if none fall into this part."""
        frame = self.source()
        places = pl.Series([content_number("part", id) / 2**72 for id in frame["id"]], dtype=pl.Float64)
        part = frame.filter((places < self.exam_share) == (self.part == "exam"))
        if part.is_empty():
            raise SourceError(
                f"the {self.part} part of {frame.height} prompts with exam_share={self.exam_share} is empty: "
                "add prompts or change the share"
            )
        return part


def _lines(files: Sequence[Path], there: dict[str, None]) -> Iterator[SourceRow]:
    """The objects of these files; `there` gets the names of their keys."""
    for file in files:
        for _, row in json_records(file):
            there.update(dict.fromkeys(row))
            yield row


def _files(path: str | Path, pattern: str) -> list[Path]:
    """The files that a path, a folder or a pattern names, sorted; SourceError if there are none or one is empty."""
    place = located(path)
    if place.is_file():
        files = [place]
    else:
        files = sorted(Path(name) for name in glob.glob(str(place / pattern if place.is_dir() else place)))
    if not files:
        raise SourceError(f"{path}: no {pattern} in this folder" if place.is_dir() else f"{path}: no such file")
    empty = [str(file) for file in files if file.stat().st_size == 0]
    if empty:
        raise SourceError(f"{empty[0]} is empty")
    return files
