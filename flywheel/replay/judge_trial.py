"""A recipe's judges on answers whose worth is known, without a run: `flywheel judge check`.

The answers are judged by the same code as a run's, but in a store of their own: a labelled prompt must not stand in
for one that a run knows with its reference. What was judged is not judged again, so a check that was stopped goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from flywheel.engines.table import Engines
from flywheel.errors import RecipeError
from flywheel.health.judge_health import measures
from flywheel.pipeline.checkpoints import found
from flywheel.pipeline.generate import made_elsewhere
from flywheel.pipeline.iteration import Iteration
from flywheel.pipeline.judge_batches import judge_answers
from flywheel.pipeline.monitor import every, evidence, health_rows
from flywheel.protocols import BASE, POLICY, askers
from flywheel.recipe.adopt import adopt
from flywheel.recipe.recipe import Recipe, run_id
from flywheel.replay.labelled import Labelled
from flywheel.store import queries
from flywheel.store.ids import content_id, generation_id
from flywheel.store.schema import HEALTH, prompts_frame
from flywheel.store.store import Store

STORE = "checks.duckdb"
CHECKPOINT = "labelled"
"""Who answered: people, or models that nobody has named."""
ANCESTRY = ("checkpoints", "iterations", "decisions", "aliases")
"""What tells which weights a run's judges ask."""


@dataclass(frozen=True)
class Trial:
    """Labelled answers in the store, before the judges of a recipe."""

    iteration: Iteration
    prompts: pl.DataFrame  # PROMPTS
    draw: str
    gold: pl.DataFrame  # `generation`, `gold`
    absolute: bool

    def judge(self) -> Iterator[tuple[str, int]]:
        """Every judge judges what it has not judged; yields its name and the prompts done."""
        for judge in self.iteration.recipe.judges:
            for done, _ in judge_answers(
                self.iteration, self.prompts, CHECKPOINT, self.draw, judge, self.iteration.seed
            ):
                yield self.iteration.title(judge), done

    def health(self) -> pl.DataFrame:
        """HEALTH of the judges."""
        frames, store, prompts = [HEALTH.to_frame()], self.iteration.store, self.prompts["id"].to_list()
        for judge in every(self.iteration.recipe.judges):
            votes = queries.spoken(store, CHECKPOINT, self.draw, prompts, self.iteration.title(judge))
            known = evidence(store, judge, votes, self.gold)._replace(absolute=self.absolute)
            frames.append(health_rows(self.iteration, self.iteration.title(judge), measures(known)))
        return pl.concat(frames)


def open_trial(recipe: Recipe, labelled: Labelled, engines: Engines, home: Path) -> Trial:
    """Store the labelled answers. Judges that ask the policy ask that of the recipe's run in `home`, or its base.

    Raises RecipeError where there is no run, and the recipe's base must be taught first.
    """
    store = Store(home / STORE)
    adopt(recipe, store)
    if (home / "flywheel.duckdb").exists():
        runs = Store(home / "flywheel.duckdb")
        adopt(recipe, runs)
        store.add_all({table: runs.sql(f"from {table}") for table in ANCESTRY})
    iteration = Iteration(recipe, store.known(run_id(recipe)), 0, store, engines, home, None)
    decided = queries.decisions(store, iteration.run)
    models = [asker.model for judge in recipe.judges for asker in askers(judge)]
    if len(decided):
        iteration = replace(iteration, policy=decided["policy"][-1])
    elif any(model and model.weights in (POLICY, BASE) for model in models):
        if recipe.warm_start:
            raise RecipeError(
                f"the judges of {recipe.name} ask the model that its warm start makes, which is not in {home}: "
                "`flywheel run` makes it"
            )
        iteration = replace(iteration, policy=found(iteration))
    prompts = prompts_frame(labelled.prompts, CHECKPOINT)
    draw = content_id(CHECKPOINT, prompts["id"].to_list(), labelled.answers)
    generations, gold = _answers(prompts["id"].to_list(), draw, labelled)
    store.add_all({"prompts": prompts, "generations": generations})
    return Trial(iteration, prompts, draw, gold, labelled.absolute)


def _answers(prompts: list[str], draw: str, labelled: Labelled) -> tuple[pl.DataFrame, pl.DataFrame]:
    """GENERATIONS, and what each is worth."""
    rows = [
        (generation_id(prompt, CHECKPOINT, draw, index), prompt, index, text, gold)
        for prompt, answers in zip(prompts, labelled.answers, strict=True)
        for index, (text, gold) in enumerate(answers)
    ]
    frame = pl.DataFrame(rows, schema=["id", "prompt", "index", "text", "gold"], orient="row")
    drawn = frame.with_columns(checkpoint=pl.lit(CHECKPOINT), draw=pl.lit(draw))
    return made_elsewhere(drawn, CHECKPOINT), frame.select("gold", generation="id")
