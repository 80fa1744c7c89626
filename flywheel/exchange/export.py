"""Datasets in TRL's own formats and checkpoints as folders that transformers loads, each with a card that says where it
comes from."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl

from flywheel.checkpoints import weights
from flywheel.errors import FlywheelError, StoreError
from flywheel.exchange import provenance
from flywheel.exchange.cards import checkpoint_card, dataset_card
from flywheel.store import queries
from flywheel.store.lookup import Run, find
from flywheel.store.store import Store

Format = Literal["jsonl", "parquet", "hub"]
FORMATS: tuple[Format, ...] = ("jsonl", "parquet", "hub")
OTHER_FILES = (
    *("csv", "tsv", "json", "ndjson", "txt", "md", "yaml", "yml", "xls", "xlsx", "arrow", "feather", "pq", "db"),
    *("gz", "bz2", "xz", "zst", "zip", "tar"),
)
"""Endings of files that are not made of a dataset, so that nobody gets a folder of such a name."""
SHARD = 100_000
"""Rows of a Parquet file of a `hub` folder."""
LINEAGE = ("weight", "origin", "prompt_id", "generations", "checkpoints", "scores")
"""Columns after TRL's own. `checkpoints` wrote `generations`, whose `scores` are the first judge's; empty where people
wrote the row."""
Shape = Literal["prompt-completion", "preference", "unpaired preference"]


class ToExport(NamedTuple):
    """The id of what is to be exported, and in words which one it is where more than one could be meant."""

    id: str
    which: str


class Exported(NamedTuple):
    """What was written where."""

    id: str
    path: Path
    what: str


def export_dataset(
    store: Store, target: str, path: Path, form: Format | None = None, license: str = "other"
) -> Exported:
    """Write a dataset, named as `find_dataset` takes it. The format is told by the path's ending where none is
    given: .jsonl, .parquet, or a folder. Raises FlywheelError; a path that is there is never overwritten."""
    form = form or _told_by(path)
    id = find_dataset(store, target).id
    judge = provenance.first_judge(store, id)
    examples = provenance.examples(store, id, judge)
    if examples.is_empty():
        raise FlywheelError(f"dataset {id} has no rows: nothing was kept to train on")
    origins = provenance.origins(store, id)
    shape, rows = trl_rows(examples, unpaired=bool(origins) and _trains_kto(origins[0]))

    def write(place: Path) -> None:
        if form == "jsonl":
            rows.write_ndjson(place)
        elif form == "parquet":
            _write_parquet(rows, place)
        else:
            _write_hub(rows, place)
            card = dataset_card(store, id, shape, examples, judge, origins, license)
            (place / "README.md").write_text(card, encoding="utf-8")

    _appear(path, write)
    return Exported(id, path, f"{len(rows)} rows of dataset {id} as {shape}")


def _told_by(path: Path) -> Format:
    """The format that a path's ending tells, a folder's if none; FlywheelError for that of another kind of file."""
    ending = path.suffix.lower().removeprefix(".")
    if ending in OTHER_FILES:
        raise FlywheelError(
            f"{path} cannot be written: a dataset is a .jsonl file, a .parquet file or a hub folder, not .{ending}; "
            "--format says which of them, whatever the path"
        )
    return next((each for each in FORMATS if ending == each), "hub")


def trl_rows(examples: pl.DataFrame, unpaired: bool) -> tuple[Shape, pl.DataFrame]:
    """Examples in the format of TRL's that fits them, conversational, and its name.

    Rows with and without a rejected answer together are told one by one, each with a label, and so is all that KTO
    trains on, where a weight of 0 makes an answer an undesirable one.
    """
    told = examples.rename({"prompt": "prompt_id"}).with_columns(prompt="chat")
    missing = told["rejected"].null_count()
    if missing == len(told) and not unpaired:
        shaped = told.select("prompt", *LINEAGE, completion=_message("chosen"))
        return "prompt-completion", shaped.select("prompt", "completion", *LINEAGE)
    if not missing and not unpaired:
        shaped = told.select("prompt", *LINEAGE, chosen=_message("chosen"), rejected=_message("rejected"))
        return "preference", shaped.select("prompt", "chosen", "rejected", *LINEAGE)
    good = told.select("prompt", *LINEAGE, completion=_message("chosen"), label=pl.col("weight").fill_null(1.0) > 0)
    pairs = told.filter(pl.col("rejected").is_not_null())
    bad = pairs.select("prompt", *LINEAGE, completion=_message("rejected"), label=pl.lit(False))
    return "unpaired preference", pl.concat([good, bad]).select("prompt", "completion", "label", *LINEAGE)


def export_checkpoint(store: Store, home: Path, target: str, folder: Path, license: str = "other") -> Exported:
    """Copy the weights of a checkpoint, named as `find_checkpoint` takes it, into a new folder with a model card:
    safetensors, configuration, tokenizer and chat template. FlywheelError; WeightsError if they are gone or corrupt."""
    id = find_checkpoint(store, target).id
    row = queries.row(store, "checkpoints", id)
    assert row is not None, "it was found"
    place = home / str(row["weights"])
    source = str(place) if place.is_dir() else str(row["weights"])
    weights.check_weights(source)

    def write(new: Path) -> None:
        new.mkdir(parents=True)
        for file in _files(weights.locate(source)):
            shutil.copyfile(file, new / file.name)
        (new / "README.md").write_text(checkpoint_card(store, id, license), encoding="utf-8")

    _appear(folder, write)
    return Exported(id, folder, f"checkpoint {id}, {weights.size(str(folder)) / 1e6:.1f} MB of weights")


def find_dataset(store: Store, target: str) -> ToExport:
    """The dataset of an id, of an iteration, or of a run: its last one that has rows."""
    id, run, number, which = find(store, target, "dataset")
    if run is None:
        return ToExport(str(id), which)
    made = provenance.datasets(store, run.id)
    found = made.filter(pl.col("number") == number) if number is not None else made.filter(pl.col("rows") > 0)
    if found.is_empty():
        raise StoreError(_none_of(run, "dataset", number, made["number"]))
    return ToExport(str(found["id"][-1]), which)


def find_checkpoint(store: Store, target: str) -> ToExport:
    """The checkpoint of an id, of an iteration, its candidate, or of a run: its policy."""
    id, run, number, which = find(store, target, "checkpoint")
    if run is None:
        return ToExport(str(id), which)
    decided = queries.decisions(store, run.id)
    candidates = decided.filter(pl.col("number") == pl.lit(number, pl.Int32))["candidate"]
    made = (decided["policy"] if number is None else candidates).drop_nulls()
    if made.is_empty():
        raise StoreError(_none_of(run, "checkpoint", number, decided.drop_nulls("candidate")["number"]))
    return ToExport(str(made[-1]), which)


def _none_of(run: Run, what: str, number: int | None, those: pl.Series) -> str:
    of = "yet" if number is None else f"of iteration {number}"
    return f"run {run.name} ({run.id}) has no {what} {of}: there are those of {', '.join(map(str, those)) or 'none'}"


def _trains_kto(origin: dict[str, Any]) -> bool:
    return bool(origin["number"]) and json.loads(origin["recipe"])["train"]["is"] == "Kto"


def _message(column: str) -> pl.Expr:
    """A completion as TRL has it: a list of one message."""
    return pl.concat_list(pl.struct(role=pl.lit("assistant"), content=pl.col(column)))


def _write_parquet(rows: pl.DataFrame, path: Path) -> None:
    """With Arrow's plain types: of its large ones, which Polars has, `datasets` makes other features."""
    import pyarrow
    import pyarrow.parquet

    def plain(kind: pyarrow.DataType) -> pyarrow.DataType:
        if pyarrow.types.is_large_list(kind):
            return pyarrow.list_(plain(kind.value_type))
        if pyarrow.types.is_struct(kind):
            return pyarrow.struct([(field.name, plain(field.type)) for field in kind])
        return pyarrow.string() if pyarrow.types.is_large_string(kind) else kind

    large = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    kinds = pyarrow.schema([(field.name, plain(field.type)) for field in large.schema])
    pyarrow.parquet.write_table(large.cast(kinds), path)


def _write_hub(rows: pl.DataFrame, folder: Path) -> None:
    data = folder / "data"
    data.mkdir(parents=True)
    shards = -(-len(rows) // SHARD)
    for place, shard in enumerate(rows.iter_slices(SHARD)):
        _write_parquet(shard, data / f"train-{place:05}-of-{shards:05}.parquet")


def _files(folder: Path) -> list[Path]:
    """What loading the model needs, and nothing of how it was made."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in weights.CONTENT and path.name not in weights.NOT_CONTENT
    ]


def _appear(path: Path, write: Callable[[Path], None]) -> None:
    """What `write` makes, under its name when it is whole. FlywheelError where there is something, or no room."""
    if path.exists():
        raise FlywheelError(f"{path} is there already, and an export overwrites nothing: choose another path")
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(part)  # what a kill left
        write(part)
        part.rename(path)
    except OSError as error:
        raise FlywheelError(f"{path} cannot be written: {error}") from error
    finally:
        _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
