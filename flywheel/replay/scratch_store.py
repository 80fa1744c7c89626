"""Drafts: stores that are thrown away, in which an iteration of the record is judged again."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import polars as pl

from flywheel.identity import title
from flywheel.protocols import Judge, PairJudge, askers
from flywheel.recipe.recipe import Recipe
from flywheel.replay import excerpt
from flywheel.store.schema import ALIASES
from flywheel.store.store import Store


class Draft(Store):
    """A store that is thrown away. What models say in it is kept in another one, as soon as they have said it."""

    def __init__(self, path: Path, kept: Store | None, models: Mapping[str, Collection[str]]) -> None:
        """`models` are the names of the judges whose rows are kept, by table."""
        super().__init__(path)
        self.kept, self.models = kept, models

    def add_all(self, frames: Mapping[str, pl.DataFrame]) -> dict[str, int]:
        """As `Store.add_all`."""
        said = {
            table: frames[table].filter(pl.col("judge").is_in(judges))
            for table, judges in self.models.items()
            if table in frames
        }
        if self.kept is not None and any(map(len, said.values())):
            self.kept.add_all({**frames, **said})
        return super().add_all(frames)


def drafted(path: Path, record: Store, kept: Store | None, iteration: str, recipe: Recipe) -> tuple[Draft, list[str]]:
    """A draft with the answers of an iteration and what models have said of them, and of what they said, as far as the
    recipe's judges are those; and the answers' ids, in order."""
    models, draft = said_by_models(recipe, record), Store(path)
    draft.add("aliases", record.sql("from aliases").cast(ALIASES))
    with record.reading():  # questions in a row are quick as long as the file is open
        answers = excerpt.iteration_answers(record, iteration)
        ids = answers["generations"]["id"].to_list()
        frames = [answers]
        about: Sequence[str] = ids if kept else []
        while about:
            said = [_said(source, about, models) for source in (record, kept) if source]
            frames += said
            about = [id for each in said for id in each["generations"]["id"]]
    for frame in frames:
        draft.add_all(frame)
    return Draft(path, kept, models), ids


def _said(store: Store, about: Sequence[str], models: Mapping[str, Collection[str]]) -> excerpt.Frames:
    """What models have said of these generations, and in which words."""
    frames = {
        "judgments": excerpt.judgments(store, about).filter(pl.col("judge").is_in(models["judgments"])),
        "comparisons": excerpt.comparisons(store, about).filter(pl.col("judge").is_in(models["comparisons"])),
    }
    traces = pl.concat(frame["trace"] for frame in frames.values()).drop_nulls().unique(maintain_order=True)
    return {**frames, **excerpt.generations(store, traces.to_list())}


def said_by_models(recipe: Recipe, record: Store) -> dict[str, list[str]]:
    """The names in the record of the recipe's judges that ask models, by the table that holds what these say.

    A pair judge's ratings are not said by a model: they are worked out of its comparisons.
    """
    judges: list[Judge] = [asker for judge in recipe.judges for asker in askers(judge)]
    judges += askers(recipe.meta.judge) if recipe.meta else ()
    models = [judge for judge in judges if judge.model]
    pairs = [isinstance(judge, PairJudge) for judge in models]
    titles = [record.known(title(judge)) for judge in models]
    return {
        "judgments": [title for title, pair in zip(titles, pairs, strict=True) if not pair],
        "comparisons": [title for title, pair in zip(titles, pairs, strict=True) if pair],
    }
