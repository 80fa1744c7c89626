"""The questions that the steps ask of the store, in SQL. Each gives a Polars frame; none writes."""

from collections.abc import Sequence

import polars as pl

from flywheel.store import Store
from flywheel.tables import JUDGED, PROMPTS, SUBJECTS

SUBJECT = (
    "g.id as generation, g.prompt, p.chat, p.reference, p.meta, g.index, g.text, g.finish_reason, g.tokens, g.logprob"
)
ANSWERS_OF_ITERATION = """
    proposals r join iterations i on i.id = r.iteration
    join generations g on g.prompt = r.prompt and g.checkpoint = i.policy and g.draw = i.draw
    join prompts p on p.id = g.prompt
"""


def proposed(store: Store, iteration: str) -> pl.DataFrame:
    """PROMPTS of an iteration, in their order."""
    query = """select p.* from proposals r join prompts p on p.id = r.prompt where r.iteration = $iteration
               order by r.position"""
    return store.sql(query, {"iteration": iteration}).cast(PROMPTS)


def sampled(store: Store, checkpoint: str, draw: str) -> pl.DataFrame:
    """`prompt` and `n`: how many answers each prompt has from this checkpoint and draw."""
    query = (
        "select prompt, count(*) as n from generations where checkpoint = $checkpoint and draw = $draw group by prompt"
    )
    return store.sql(query, {"checkpoint": checkpoint, "draw": draw})


def unjudged(store: Store, checkpoint: str, draw: str, prompts: Sequence[str], judge: str) -> pl.DataFrame:
    """SUBJECTS: the answers to these prompts that this judge has not judged."""
    query = f"""
        select {SUBJECT} from (select unnest($prompts) as prompt, generate_subscripts($prompts, 1) as position) r
        join generations g on g.prompt = r.prompt and g.checkpoint = $checkpoint and g.draw = $draw
        join prompts p on p.id = g.prompt
        where not exists (select 1 from judgments j where j.generation = g.id and j.judge = $judge)
        order by r.position, g.index"""
    values = {"checkpoint": checkpoint, "draw": draw, "prompts": list(prompts), "judge": judge}
    return store.sql(query, values).cast(SUBJECTS)


def judged(store: Store, iteration: str, judges: Sequence[str]) -> pl.DataFrame:
    """JUDGED of an iteration, in the order of its prompts; the first of `judges` gives the score."""
    query = f"""
        with votes as (
            select generation, avg(score) filter (judge = $first) as score,
                   list({{judge: judge, vote: vote, score: score, status: status}} order by judge, vote) as votes
            from judgments where list_contains($judges, judge) group by generation)
        select {SUBJECT}, v.score, v.votes from {ANSWERS_OF_ITERATION} left join votes v on v.generation = g.id
        where r.iteration = $iteration order by r.position, g.index"""
    values = {"iteration": iteration, "judges": list(judges), "first": judges[0]}
    return store.sql(query, values).cast(JUDGED)


def dataset_of(store: Store, iteration: str) -> str | None:
    """The dataset that an iteration selected, or None before it has."""
    found = store.sql("select dataset from iteration_datasets where iteration = $iteration", {"iteration": iteration})
    return found["dataset"][0] if len(found) else None


def examples(store: Store, dataset: str) -> pl.DataFrame:
    """EXAMPLES of a dataset, in order."""
    return store.sql("select * from examples where dataset = $dataset order by position", {"dataset": dataset})


def row(store: Store, table: str, id: str) -> dict[str, object] | None:
    """One row of a table whose key is `id`, or None."""
    found = store.sql(f"select * from {table} where id = $id", {"id": id})
    return found.row(0, named=True) if len(found) else None


def answered(store: Store, checkpoint: str, draw: str, prompts: Sequence[str], judge: str) -> pl.DataFrame:
    """`prompt`, `index`, `score`, `status`, `detail` of every answer: what an exam is graded from."""
    query = """
        select g.prompt, g.index, j.score, j.status, j.detail from generations g
        join judgments j on j.generation = g.id and j.judge = $judge
        where g.checkpoint = $checkpoint and g.draw = $draw and list_contains($prompts, g.prompt)
        order by g.prompt, g.index"""
    values = {"checkpoint": checkpoint, "draw": draw, "prompts": list(prompts), "judge": judge}
    return store.sql(query, values)


def grades(store: Store, checkpoint: str, exam: str) -> pl.DataFrame:
    """GRADES of one checkpoint in one exam."""
    query = "select * from grades where checkpoint = $checkpoint and exam = $exam order by prompt"
    return store.sql(query, {"checkpoint": checkpoint, "exam": exam})


def decisions(store: Store, run: str) -> pl.DataFrame:
    """DECISIONS of a run with the `number` of their iteration, in order."""
    query = """select i.number, d.* from decisions d join iterations i on i.id = d.iteration
               where i.run = $run order by i.number"""
    return store.sql(query, {"run": run})
