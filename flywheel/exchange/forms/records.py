"""Records of files and of the Hub, one after the other, each with the place where it stands.

A place is a file (JSON lines, a JSON list, Parquet), a folder of such files, a folder that `datasets` can load, or the
name of a data set on the Hugging Face Hub. Nothing is held but the batch that is being read; only a JSON list is read
at once.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flywheel.errors import SourceError
from flywheel.exchange import arrow, hub
from flywheel.exchange.arrow import Written

Record = dict[str, Any]
HUB_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+")
READ_ENDINGS = (".jsonl", ".json", ".parquet")
"""Files that are read here, without `datasets`."""
DECODER = json.JSONDecoder(parse_float=Written)


def records(
    place: str, split: str | None = None, config: str | None = None, bad: list[str] | None = None
) -> Iterator[tuple[str, Record]]:
    """Each record with words that say where it is. SourceError names what cannot be read; lines that hold no record are
    told to `bad` and left out, where it is given.

    Of a folder all files are read, whatever their names say; a `split` takes those of one split, as `datasets` tells
    them apart. On the Hub, and in a folder that says itself what its splits are, it is by default `train`.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        files = [] if split or config or hub.is_dataset_folder(path) else _files(path)
        return _each(files, bad) if files else _loaded(str(path), split or "train", config)
    if not path.is_file():
        if path.suffix or not HUB_NAME.fullmatch(place):
            raise SourceError(f"there is no file {place}")
        return _loaded(place, split or "train", config)
    if path.suffix == ".parquet":
        return _parquet(path)
    return _list(path) if _begins(path) == b"[" else json_records(path, bad)


def _files(folder: Path) -> list[Path]:
    """All files of data, if each of them can be read here; none if none can; else SourceError."""
    files = hub.data_files(folder)
    other = [str(file.relative_to(folder)) for file in files if file.suffix.lower() not in READ_ENDINGS]
    if other and len(other) < len(files):
        raise SourceError(
            f"{folder} holds {other[0]} beside {', '.join(READ_ENDINGS)} files, and only these can be read together: "
            "name the files that you want"
        )
    return [] if other else files


def _each(files: Sequence[Path], bad: list[str] | None) -> Iterator[tuple[str, Record]]:
    for file in files:
        yield from records(str(file), bad=bad)


def _begins(path: Path) -> bytes:
    """The first byte that is no space."""
    with path.open("rb") as file:
        while head := file.read(1024):
            if text := head.removeprefix(b"\xef\xbb\xbf").lstrip():
                return text[:1]
    raise SourceError(f"{path} is empty")


def json_records(path: Path, bad: list[str] | None = None) -> Iterator[tuple[str, Record]]:
    """The objects of a file with one in a line; SourceError names the first line that holds none, or `bad` gets it."""
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
        return DECODER.decode(raw.decode("utf-8-sig"))
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
    for number, record in enumerate(parquet(path), 1):
        yield f"{path}, row {number}", record


def parquet_names(path: Path) -> list[str]:
    """The columns of a Parquet file, or SourceError."""
    import pyarrow
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_schema(path).names)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read as Parquet: {hub.first_line(error)}") from error


def parquet(path: Path, columns: Sequence[str] | None = None) -> Iterator[Record]:
    """The rows of a Parquet file as plain values, or SourceError."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = None if columns is None else list(columns)
            yield from arrow.rows(lambda: file.iter_batches(hub.BATCH, columns=names))
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise SourceError(f"{path} cannot be read as Parquet: {hub.first_line(error)}") from error


def _loaded(name: str, split: str, config: str | None) -> Iterator[tuple[str, Record]]:
    for number, record in enumerate(hub.rows(hub.load_split(name, split, config), name), 1):
        yield f"{name}, split {split}, row {number}", record
