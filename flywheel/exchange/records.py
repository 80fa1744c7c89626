"""Records of files and of the Hub, one after the other, each with the place where it stands.

A place is a file (JSON lines, a JSON list, Parquet), a folder that `datasets` can load, or the name of a data set on
the Hugging Face Hub. Nothing is held but the batch that is being read; only a JSON list is read at once.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flywheel.errors import SourceError

Record = dict[str, Any]
HUB_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+")
BATCH = 4096


def records(
    place: str, split: str = "train", config: str | None = None, bad: list[str] | None = None
) -> Iterator[tuple[str, Record]]:
    """Each record with words that say where it is. SourceError names what cannot be read; `split` and `config` are for
    folders and the Hub. Lines that hold no record are told to `bad` and left out, where it is given."""
    path = Path(place).expanduser()
    if path.is_dir():
        return _loaded(str(path), split, config)
    if not path.is_file():
        if path.suffix or not HUB_NAME.fullmatch(place):
            raise SourceError(f"there is no file {place}")
        return _loaded(place, split, config)
    if path.suffix == ".parquet":
        return _parquet(path)
    return _list(path) if _begins(path) == b"[" else _lines(path, bad)


def _begins(path: Path) -> bytes:
    """The first byte that is no space."""
    with path.open("rb") as file:
        while head := file.read(1024):
            if text := head.removeprefix(b"\xef\xbb\xbf").lstrip():
                return text[:1]
    raise SourceError(f"{path} is empty")


def _lines(path: Path, bad: list[str] | None) -> Iterator[tuple[str, Record]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                record = _object(_parsed(line, where), where)
            except SourceError as error:
                if bad is None:
                    raise
                bad.append(str(error))
                continue
            yield where, record


def _list(path: Path) -> Iterator[tuple[str, Record]]:
    for number, record in enumerate(_parsed(path.read_bytes(), str(path)), 1):
        where = f"{path}, row {number}"
        yield where, _object(record, where)


def _parsed(raw: bytes, where: str) -> Any:
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SourceError(f"{where}: not UTF-8: {error.reason} at byte {error.start + 1}") from error
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise SourceError(f"{where}: not valid JSON: {error.msg} at {line}character {error.colno}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists a thousand deep
        raise SourceError(f"{where}: not usable JSON: {error}") from error


def _object(value: Any, where: str) -> Record:
    if not isinstance(value, dict):
        raise SourceError(f"{where}: not a JSON object but {type(value).__name__}")
    return value


def _parquet(path: Path) -> Iterator[tuple[str, Record]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", record
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as Parquet: {_first_line(error)}") from error


def _loaded(name: str, split: str, config: str | None) -> Iterator[tuple[str, Record]]:
    try:
        import datasets
    except ImportError as error:
        raise SourceError(f"{name} needs the package `datasets`: install flywheel's extra train") from error
    try:
        table = datasets.load_dataset(name, config, split=split).with_format("arrow")
    except ConnectionError as error:
        raise SourceError(
            f"{name} is neither a file nor downloaded yet, and the Hugging Face Hub cannot be reached: "
            "connect once, or name a file"
        ) from error
    except Exception as error:  # the loaders raise a dozen types: bad names, splits and configs, gated repositories
        raise SourceError(f"{name}, split {split!r} cannot be loaded: {_first_line(error)}") from error
    number = 0
    for batch in table.iter(BATCH):
        for record in batch.to_pylist():
            number += 1
            yield f"{name}, split {split}, row {number}", record


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
