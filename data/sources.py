"""Prompts from files and from the Hugging Face Hub. Each class is a frozen dataclass and a `Source` (flywheel.recipe).

    Jsonl("train.jsonl", reference_after="####")            GSM8K as its authors published it
    Parquet("questions/*.parquet", prompt="q", reference=None)
    Hub("openai/gsm8k", config="main", split="train", reference_after="####")
    Split(Jsonl("all.jsonl"), "exam")                       a tenth of it that no training will see

Files are scanned, not looped over; the order is that of the files, and a prompt that comes twice is kept once.
"""

import glob
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from data.columns import Columns, check_columns, holds_chats, prompts
from flywheel.errors import RecipeError, SourceError
from flywheel.recipe import Source, named
from flywheel.tables import CHAT, content_number


@dataclass(frozen=True)
class Jsonl(Columns):
    """Lines that are JSON objects, from a file, a folder's *.jsonl, or a pattern such as part-*.jsonl."""

    path: str | Path

    def __call__(self) -> pl.DataFrame:
        """PROMPTS, or SourceError."""
        files = _files(self.path, "*.jsonl")
        try:
            there = pl.scan_ndjson(files, infer_schema_length=1000).collect_schema()
            self.check(there.names(), str(self.path))
            # Read as text, so that a column may hold 18 in one row and "18" in the next.
            kinds: dict[str, pl.DataType] = {name: pl.String() for name in self.wanted}
            if holds_chats(there, self, str(self.path)):
                kinds[self.prompt] = CHAT
            return prompts(pl.scan_ndjson(files, schema=kinds), self, str(self.path))
        except pl.exceptions.PolarsError as error:
            raise SourceError(_broken_line(files) or f"{self.path}: {_first_line(error)}") from error

    def rows(self, columns: Sequence[str]) -> pl.DataFrame:
        """These columns as they are, or SourceError."""
        files = _files(self.path, "*.jsonl")
        try:
            return _some(pl.scan_ndjson(files, infer_schema_length=None), columns, str(self.path))
        except pl.exceptions.PolarsError as error:
            raise SourceError(_broken_line(files) or f"{self.path}: {_first_line(error)}") from error


@dataclass(frozen=True)
class Parquet(Columns):
    """A Parquet file, a folder's *.parquet, or a pattern such as part-*.parquet."""

    path: str | Path

    def __call__(self) -> pl.DataFrame:
        """PROMPTS, or SourceError."""
        files = _files(self.path, "*.parquet")
        try:
            rows = pl.scan_parquet(files)
            self.check(rows.collect_schema().names(), str(self.path))
            return prompts(rows, self, str(self.path))
        except pl.exceptions.PolarsError as error:
            raise SourceError(f"{self.path} cannot be read as Parquet: {_first_line(error)}") from error

    def rows(self, columns: Sequence[str]) -> pl.DataFrame:
        """These columns as they are, or SourceError."""
        files = _files(self.path, "*.parquet")
        try:
            return _some(pl.scan_parquet(files), columns, str(self.path))
        except pl.exceptions.PolarsError as error:
            raise SourceError(f"{self.path} cannot be read as Parquet: {_first_line(error)}") from error


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
        return prompts(self.rows(self.wanted).lazy(), self, self._where())

    def rows(self, columns: Sequence[str]) -> pl.DataFrame:
        """These columns as they are, or SourceError."""
        table = self._load()
        check_columns(columns, table.column_names, self._where())
        found: pl.DataFrame = table.select_columns(list(columns)).to_polars()
        return found

    def _where(self) -> str:
        return "/".join(part for part in (self.name, self.config, self.split) if part)

    def _load(self) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise SourceError(f"Hub({self.name!r}) needs the package `datasets`, which is not installed") from error
        folder = Path(self.name).expanduser()
        try:
            if (folder / "dataset_dict.json").exists():
                return _pick_split(datasets.load_from_disk(str(folder)), self.split)
            if (folder / "state.json").exists():
                return datasets.load_from_disk(str(folder))
            return datasets.load_dataset(self.name, self.config, split=self.split, revision=self.revision)
        except ConnectionError as error:
            raise SourceError(
                f"{self.name} is neither a local folder nor downloaded yet, and the Hugging Face Hub cannot be "
                "reached: connect once, or read a copy of it with Jsonl or Parquet"
            ) from error
        except Exception as error:  # the loaders raise a dozen types: bad names, splits and configs, gated repositories
            raise SourceError(f"{self.name}, split {self.split!r} cannot be loaded: {_first_line(error)}") from error


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


def _some(table: pl.LazyFrame, columns: Sequence[str], source: str) -> pl.DataFrame:
    check_columns(columns, table.collect_schema().names(), source)
    return table.select(columns).collect()


def _pick_split(splits: Any, name: str) -> Any:
    if name not in splits:
        raise ValueError(f"its splits are {', '.join(splits)}")
    return splits[name]


def _files(path: str | Path, pattern: str) -> list[Path]:
    """The files that a path, a folder or a pattern names, sorted; SourceError if there are none or one is empty."""
    place = Path(path).expanduser()
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


def _broken_line(files: Iterable[Path]) -> str | None:
    """Where the first line is that holds no JSON object, and why; None if this reader finds none."""
    for file in files:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    if line.strip() and not isinstance(json.loads(line.decode("utf-8").strip()), dict):
                        return f"{file}, line {number}: not a JSON object"
                except json.JSONDecodeError as error:
                    return f"{file}, line {number}: not valid JSON: {error.msg} at character {error.pos + 1}"
                except UnicodeDecodeError as error:
                    return f"{file}, line {number}: not UTF-8: {error.reason} at byte {error.start + 1}"
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
