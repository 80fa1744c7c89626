"""The questions behind exports and imports, in SQL: where a dataset or a checkpoint comes from, and what is there."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from flywheel.store.schema import COMPARISONS
from flywheel.store.store import Store


def imported(store: Store, draw: str, judge: str) -> pl.DataFrame:
    """`id` and `text` of the generations of an import, with `judge` and `score` of the first vote of each judge."""
    query = """
        select g.id, g.text, j.judge, j.score from generations g
        left join judgments j on j.generation = g.id and j.draw = $draw and j.vote = 0
        and (j.judge = $judge or starts_with(j.judge, $judge || '#'))
        where g.draw = $draw"""
    found = store.sql(query, {"draw": draw, "judge": judge})
    return found.cast({"text": pl.String, "judge": pl.String, "score": pl.Float64})


def compared(store: Store, judge: str) -> pl.DataFrame:
    """COMPARISONS of an import's judges."""
    query = "select * from comparisons where judge = $judge or starts_with(judge, $judge || '#')"
    return store.sql(query, {"judge": judge}).cast(COMPARISONS)


def lacks_reference(store: Store) -> bool:
    """Whether there is a prompt without a reference."""
    return bool(store.sql("select exists (select 1 from prompts where reference is null) as found").item())


def references(store: Store, prompts: Sequence[str]) -> pl.DataFrame:
    """`id` and `reference` of those of the prompts that are there."""
    query = "select p.id, p.reference from prompts p join (select unnest($ids) as id) r on r.id = p.id"
    return store.sql(query, {"ids": list(prompts)}).cast({"id": pl.String, "reference": pl.String})


def datasets(store: Store, run: str) -> pl.DataFrame:
    """`number`, `id` and `rows` of a run's datasets, in order."""
    query = """
        select i.number, d.id, d.rows from iterations i join iteration_datasets x on x.iteration = i.id
        join datasets d on d.id = x.dataset where i.run = $run order by i.number"""
    return store.sql(query, {"run": run})


def origins(store: Store, dataset: str) -> list[dict[str, Any]]:
    """The iterations that selected a dataset, the first one first, with their runs and how their answers were drawn."""
    query = """
        select i.number, i.run, r.name, i.policy, i.recipe, r.versions, r.seed,
               d.n, d.temperature, d.top_p, d.top_k, d.max_tokens, d.seed as draw_seed, d.engine,
               d.min_p, d.repetition_penalty, d.presence_penalty, d.frequency_penalty, d.min_tokens
        from iteration_datasets x join iterations i on i.id = x.iteration join runs r on r.id = i.run
        left join draws d on d.id = i.draw where x.dataset = $dataset order by r.created_at, i.number"""
    return store.sql(query, {"dataset": dataset}).to_dicts()


def first_judge(store: Store, dataset: str) -> str | None:
    """The judge that scored a dataset's answers first: that is the first one of its recipe."""
    query = """
        select j.judge from judgments j where j.generation in (
            select unnest(generations) from examples where dataset = $dataset)
        order by j.rowid limit 1"""
    found = store.sql(query, {"dataset": dataset})
    return str(found["judge"][0]) if len(found) else None


def examples(store: Store, dataset: str, judge: str | None) -> pl.DataFrame:
    """EXAMPLES with `checkpoints` and `scores`: who wrote each of `generations`, and the judge's mean score of it."""
    query = """
        with parts as (
            select position, unnest(generations) as generation, generate_subscripts(generations, 1) as place
            from examples where dataset = $dataset),
        means as (
            select generation, avg(score) as score from judgments
            where judge = $judge and generation in (select generation from parts) group by generation),
        told as (
            select p.position, list(g.checkpoint order by p.place) as checkpoints,
                   list(m.score order by p.place) as scores
            from parts p left join generations g on g.id = p.generation left join means m on m.generation = p.generation
            group by p.position)
        select e.*, coalesce(t.checkpoints, []) as checkpoints, coalesce(t.scores, []) as scores
        from examples e left join told t on t.position = e.position
        where e.dataset = $dataset order by e.position"""
    found = store.sql(query, {"dataset": dataset, "judge": judge})
    return found.cast({"checkpoints": pl.List(pl.String), "scores": pl.List(pl.Float64), "rejected": pl.String})


def funnel(store: Store, run: str, number: int) -> pl.DataFrame:
    """What each filter of an iteration let through: `filter`, `rows_in`, `rows_out`."""
    query = (
        """select filter, rows_in, rows_out from funnel where run = $run and iteration = $number order by position"""
    )
    return store.sql(query, {"run": run, "number": number})


def opinions(store: Store, run: str, number: int) -> pl.DataFrame:
    """What each judge of an iteration made of the answers: `judge`, `answers`, `failed`, `mean`."""
    query = "select judge, answers, failed, mean from scores where run = $run and iteration = $number order by judge"
    return store.sql(query, {"run": run, "number": number})


def iteration_health(store: Store, run: str, number: int) -> pl.DataFrame:
    """What each judge of an iteration was worth: `judge`, `measure`, `value`, `low`, `high`."""
    query = """select judge, measure, value, low, high from judge_health where run = $run and iteration = $number"""
    return store.sql(query, {"run": run, "number": number})


def exams(store: Store, run: str) -> pl.DataFrame:
    """`name` and `items` of a run's exams."""
    query = """
        select any_value(name) as name, count(*) as items from exams where id in (
            select d.exam from decisions d join iterations i on i.id = d.iteration where i.run = $run)
        group by id order by name"""
    return store.sql(query, {"run": run})


def lineage(store: Store, checkpoint: str) -> pl.DataFrame:
    """A checkpoint and its ancestors, the youngest first, with the dataset and the trainer of each."""
    query = """
        select l.ancestor, l.kind, c.weights, c.trainer, c.reference, l.dataset, d.kind as dataset_kind, l.rows, l.real,
               l.synthetic, l.created_at
        from lineage l join checkpoints c on c.id = l.ancestor left join datasets d on d.id = l.dataset
        where l.checkpoint = $checkpoint order by l.steps"""
    return store.sql(query, {"checkpoint": checkpoint})


def decided(store: Store, checkpoint: str) -> list[dict[str, Any]]:
    """The decisions about a checkpoint, the first one first, with the run, its versions and the iteration's recipe."""
    query = """
        select i.number, i.run, r.name, i.recipe, r.versions, d.decision, d.exam, d.gained, d.lost, d.reason
        from decisions d join iterations i on i.id = d.iteration join runs r on r.id = i.run
        where d.candidate = $checkpoint order by r.created_at, i.number"""
    return store.sql(query, {"checkpoint": checkpoint}).to_dicts()


def exam_scores(store: Store, checkpoint: str) -> list[dict[str, Any]]:
    """`exam`, `name`, `items`, `answers`, `unscored` and `score` of each exam that a checkpoint has taken."""
    query = """select exam, name, items, answers, unscored, score from grades_by_checkpoint
               where checkpoint = $checkpoint order by name"""
    return store.sql(query, {"checkpoint": checkpoint}).to_dicts()
