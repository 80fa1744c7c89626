"""`flywheel export` and `flywheel import`: out of the store with a card, and into it from elsewhere."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from flywheel.cli.options import Home, told_which
from flywheel.store.home import open_store

export_commands = typer.Typer(
    help="A dataset for TRL, or a checkpoint for transformers, with a card.", no_args_is_help=True
)
License = Annotated[str, typer.Option(help="As the Hub names licenses: apache-2.0, cc-by-4.0, ...")]


@export_commands.command()
def dataset(
    target: Annotated[str, typer.Argument(help="Id of a dataset or iteration, RUN (its last one) or RUN:ITERATION.")],
    path: Annotated[Path, typer.Argument(help="File or folder that is to be made; it must not be there yet.")],
    form: Annotated[
        Literal["jsonl", "parquet", "hub"] | None,
        typer.Option("--format", help="By default told by the path: .jsonl, .parquet, or a hub folder."),
    ] = None,
    license: License = "other",
    home: Home = Path("runs"),
) -> None:
    """Write training rows as TRL reads them, with ids, checkpoints and scores; a hub folder has a dataset card."""
    from flywheel.exchange.export import export_dataset, find_dataset

    store = open_store(home)
    done = export_dataset(store, told_which(find_dataset(store, target)).id, path, form, license)
    typer.echo(f"{done.what} at {done.path}")


@export_commands.command()
def checkpoint(
    target: Annotated[
        str,
        typer.Argument(help="Id of a checkpoint or iteration, RUN (its policy) or RUN:ITERATION (its candidate)."),
    ],
    folder: Annotated[Path, typer.Argument(help="Folder that is to be made; it must not be there yet.")],
    license: License = "other",
    home: Home = Path("runs"),
) -> None:
    """Copy a model's weights and tokenizer, with a model card: ancestry, exam scores, decisions."""
    from flywheel.exchange.export import export_checkpoint, find_checkpoint

    store = open_store(home)
    done = export_checkpoint(store, home, told_which(find_checkpoint(store, target)).id, folder, license)
    typer.echo(f"{done.what} at {done.path}")


def import_(
    places: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="JSONL, JSON, Parquet, a folder, or a Hub data set's name.")
    ],
    kind: Annotated[
        Literal["prompts", "generations", "preferences", "comparisons"], typer.Option(help="What each row holds.")
    ],
    home: Home = Path("runs"),
    columns: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=COLUMN", help="As in prompt=question,answer=reply.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of this import; by default the file's.")] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Who answered; by default what the column generator says.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Of a Hub data set, by default train; of a folder, by default all files.")
    ] = None,
    config: Annotated[str | None, typer.Option(help="Of a folder or a Hub data set.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows that cannot be used, and say which.")] = (
        False
    ),
) -> None:
    """Bring prompts, answers or preferences that you have into the store. Doing it twice changes nothing.

    generations: prompt and answer, or messages. preferences: prompt, chosen and rejected; or prompt, answer and label.
    comparisons: prompt, two answers and a verdict, as AlpacaEval's annotations have them.
    """
    from flywheel.exchange.importing import import_files
    from flywheel.store.store import Store

    done = import_files(
        Store(home / "flywheel.duckdb"),
        places,
        kind,
        name=name,
        generator=checkpoint,
        columns=columns or (),
        split=split,
        config=config,
        skip_bad=skip_bad,
    )
    for note in done.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(", ".join(f"{rows} {table} ({done.new[table]} new)" for table, rows in done.rows.items() if rows))
