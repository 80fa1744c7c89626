"""Data sets that the library `datasets` loads: from the Hugging Face Hub, or from a folder on this machine."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flywheel.errors import SourceError
from flywheel.exchange import arrow
from flywheel.store.ids import content_id

BATCH = 4096
SAVED = ("state.json", "dataset_dict.json")
"""What `save_to_disk` leaves in a folder, of one split and of several."""
NO_DATA = ("config.json", "dataset_info.json", "dataset_infos.json", *SAVED)
DATA = (".jsonl", ".json", ".parquet", ".csv", ".tsv", ".arrow", ".gz", ".zst", ".bz2", ".xz", ".lz4", ".zip", ".tar")
"""How files of data end. Texts such as a README or a licence are none."""


def load_split(name: str, split: str, config: str | None = None, revision: str | None = None) -> Any:
    """One split as a `datasets.Dataset`, or SourceError: also where files of a folder would be left out in silence."""
    try:
        import datasets
    except ImportError as error:
        raise SourceError(f"{name} needs the package `datasets`: install flywheel's extra train") from error
    folder = Path(name).expanduser()
    try:
        if (folder / "dataset_dict.json").exists():
            return _pick_split(datasets.load_from_disk(str(folder)), split)
        if (folder / "state.json").exists():
            return datasets.load_from_disk(str(folder))
        if not folder.is_dir():
            return datasets.load_dataset(name, config, split=split, revision=revision)
        cache = Path(datasets.config.HF_DATASETS_CACHE)
        own = _own_cache(folder, cache)
        if not is_dataset_folder(folder):
            _check_cache(folder, cache)
            builder = datasets.load_dataset_builder(str(folder), config, cache_dir=own)
            _check_whole(folder, builder.config.data_files or {})
        return datasets.load_dataset(str(folder), config, split=split, cache_dir=own)
    except SourceError:
        raise
    except ConnectionError as error:
        raise SourceError(
            f"{name} is neither on this machine nor downloaded yet, and the Hugging Face Hub cannot be reached: "
            "connect once, or read a copy of it from a file"
        ) from error
    except Exception as error:  # the loaders raise a dozen types: bad names, splits and configs, gated repositories
        raise SourceError(f"{name}, split {split!r} cannot be loaded: {first_line(error)}") from error


def _own_cache(folder: Path, cache: Path) -> str:
    """Where these very files are cached: `datasets` 5.2 takes what it cached of one folder for what another one of the
    same name holds, whose README lists files of the same names."""
    files = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in data_files(folder.resolve())]
    return str(cache / "flywheel" / content_id(str(folder.resolve()), files))


def rows(table: Any, name: str, columns: Sequence[str] | None = None) -> Iterator[arrow.ArrowRow]:
    """The rows of a loaded split as plain values; SourceError for what Python has no value for."""
    chosen = (table if columns is None else table.select_columns(list(columns))).with_format("arrow")
    try:
        yield from arrow.rows(lambda: chosen.iter(BATCH))
    except (ValueError, OverflowError) as error:
        raise SourceError(f"the rows of {name} cannot be read: {first_line(error)}") from error


def data_files(folder: Path) -> list[Path]:
    """The files of data in a folder and in those below it, sorted; hidden ones and descriptions are none."""
    files = (file for file in folder.rglob("*") if file.suffix.lower() in DATA and file.name not in NO_DATA)
    seen = (file for file in files if not any(part.startswith((".", "__")) for part in file.relative_to(folder).parts))
    return sorted(file for file in seen if file.is_file())


def is_dataset_folder(folder: Path) -> bool:
    """Whether the folder itself says what is in it: `datasets` saved it, or its README has a list of its files."""
    if any((folder / name).exists() for name in SAVED):
        return True
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    return bool(re.search(r"\A---\n(.*\n)*?configs:", text.partition("\n---")[0] + "\n"))


def _check_whole(folder: Path, splits: Any) -> None:
    """SourceError if files of data belong to no split, as happens when the name of another says train or test."""
    taken = {Path(str(file)).resolve() for files in splits.values() for file in files}
    left = [str(file.relative_to(folder)) for file in data_files(folder) if file.resolve() not in taken]
    if left:
        names = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        raise SourceError(
            f"{folder}: `datasets` puts {names} into no split, because of the name or the format of other files here, "
            "and would leave out what is in there: rename the files, or name those that you want"
        )


def _check_cache(folder: Path, cache: Path) -> None:
    """SourceError if `datasets` keeps what it has read in the folder: it would read that as well the next time."""
    if cache.resolve().is_relative_to(folder.resolve()):
        raise SourceError(
            f"{folder} holds the cache of `datasets` ({cache}), whose files would be taken for data: set HF_HOME to a "
            "place elsewhere"
        )


def _pick_split(splits: Any, name: str) -> Any:
    if name not in splits:
        raise ValueError(f"its splits are {', '.join(splits)}")
    return splits[name]


def first_line(error: BaseException) -> str:
    """What a library's error says, in a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
