"""What one iteration's dataset was selected from, taken out of a store so that it can be judged and filtered again."""

from collections.abc import Sequence

import polars as pl

from flywheel.store.schema import (
    CHECKPOINTS,
    COMPARISONS,
    DECISIONS,
    DRAWS,
    EXAMPLES,
    GENERATIONS,
    ITERATIONS,
    JUDGMENTS,
    PROMPTS,
    PROPOSALS,
    SELECTIONS,
)
from flywheel.store.store import Store

Frames = dict[str, pl.DataFrame]
"""Rows by table."""
WANTED = "(select unnest($ids) as id, generate_subscripts($ids, 1) as position) r"


def iterations(store: Store, run: str) -> pl.DataFrame:
    """The iterations of a run in order: `id`, `number`, `policy`, `draw`, `recipe` (JSON), `dataset` (NULL before it is
    selected), `prompts` and how many of them have all their answers, `answered`."""
    query = """
        with asked as (
            select r.iteration, r.prompt, count(g.id) as answers
            from proposals r join iterations i on i.id = r.iteration
            left join generations g on g.prompt = r.prompt and g.checkpoint = i.policy and g.draw = i.draw
            where i.run = $run group by r.iteration, r.prompt)
        select i.id, i.number, i.policy, i.draw, i.recipe, d.dataset, count(a.prompt) as prompts,
               count(a.prompt) filter (a.answers >= w.n) as answered
        from iterations i left join draws w on w.id = i.draw left join iteration_datasets d on d.iteration = i.id
        left join asked a on a.iteration = i.id
        where i.run = $run group by i.id, i.number, i.policy, i.draw, i.recipe, d.dataset order by i.number"""
    return store.sql(query, {"run": run})


def iteration_answers(store: Store, iteration: str) -> Frames:
    """The answers of an iteration, with all that tells how they came about and whom a judge would ask."""
    values = {"iteration": iteration}
    mine = "(from iterations where id = $iteration)"
    found = store.sql(
        f"""select g.* from proposals r join {mine} i on i.id = r.iteration
            join generations g on g.prompt = r.prompt and g.checkpoint = i.policy and g.draw = i.draw
            order by r.position, g.index""",
        values,
    ).cast(GENERATIONS)
    run = f"(select run from {mine})"
    return {
        **made_of(store, found),
        "proposals": store.sql("select * from proposals where iteration = $iteration", values).cast(PROPOSALS),
        "iterations": store.sql(f"select * from iterations where run = {run}", values).cast(ITERATIONS),
        "decisions": store.sql(
            f"select * from decisions where iteration in (select id from iterations where run = {run})", values
        ).cast(DECISIONS),
        "checkpoints": store.sql("select * from checkpoints").cast(CHECKPOINTS),
    }


def generations(store: Store, ids: Sequence[str]) -> Frames:
    """These generations, with their prompts and draws."""
    found = store.sql(f"select g.* from {WANTED} join generations g on g.id = r.id", {"ids": list(ids)})
    return made_of(store, found.cast(GENERATIONS))


def made_of(store: Store, found: pl.DataFrame) -> Frames:
    """GENERATIONS, with their prompts and draws."""
    frames = {"generations": found}
    for table, column, schema in (("prompts", "prompt", PROMPTS), ("draws", "draw", DRAWS)):
        ids = found[column].unique(maintain_order=True).to_list()
        query = f"select t.* from {WANTED} join {table} t on t.id = r.id order by r.position"
        frames[table] = store.sql(query, {"ids": ids}).cast(schema)
    return frames


def judgments(store: Store, ids: Sequence[str]) -> pl.DataFrame:
    """JUDGMENTS on these generations, in the order in which they were made."""
    query = f"select j.* from {WANTED} join judgments j on j.generation = r.id order by j.rowid"
    return store.sql(query, {"ids": list(ids)}).cast(JUDGMENTS)


def comparisons(store: Store, ids: Sequence[str]) -> pl.DataFrame:
    """COMPARISONS between these generations, in the order in which they were made."""
    query = f"select c.* from {WANTED} join comparisons c on c.a = r.id order by c.rowid"
    return store.sql(query, {"ids": list(ids)}).cast(COMPARISONS)


def selected(store: Store, iteration: str, dataset: str | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """SELECTIONS of an iteration and EXAMPLES of its dataset, both in order; empty if there is none."""
    decided = store.sql(
        "select * from selections where iteration = $iteration order by position, rowid", {"iteration": iteration}
    )
    rows = store.sql("select * from examples where dataset = $dataset order by position", {"dataset": dataset})
    return decided.cast(SELECTIONS), rows.cast(EXAMPLES)


def gold_judge(store: Store, run: str) -> str | None:
    """The name of the run's gold judge, as its health was told, or None."""
    query = "select judge from health where run = $run and measure = 'right' order by iteration desc limit 1"
    found = store.sql(query, {"run": run})
    return found["judge"][0] if len(found) else None


def examiners(store: Store, run: str) -> list[str]:
    """The names of the judges that have judged the run's exams; of an ensemble its members too."""
    query = """
        select distinct j.judge from iterations i join decisions d on d.iteration = i.id
        join exams e on e.id = d.exam join judgments j on j.prompt = e.prompt and j.checkpoint = d.candidate
        where i.run = $run order by j.judge"""
    return store.sql(query, {"run": run})["judge"].to_list()
