"""The questions that the steps ask of the store, in SQL. Each gives a Polars frame; none writes."""

from collections.abc import Mapping, Sequence

import polars as pl

from flywheel.store.schema import COMPARISONS, HEALTH, JUDGED, PROMPTS, REPLIES, SUBJECTS, VOTES
from flywheel.store.store import Store

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


def worked_on(store: Store, run: str, number: int) -> pl.DataFrame:
    """PROMPTS of the run's iterations before this one, in their order."""
    query = """select p.* from proposals r join iterations i on i.id = r.iteration join prompts p on p.id = r.prompt
               where i.run = $run and i.number < $number order by i.number, r.position"""
    return store.sql(query, {"run": run, "number": number}).cast(PROMPTS)


def replies(store: Store, checkpoint: str, draw: str, prompts: Sequence[str]) -> pl.DataFrame:
    """REPLIES of this checkpoint and draw to these prompts; `chat` is the place of the prompt."""
    query = """
        select r.position - 1 as chat, g.index, g.text, g.finish_reason, g.prompt_tokens, g.tokens, g.logprob,
               g.id as generation, null as logprobs
        from (select unnest($prompts) as prompt, generate_subscripts($prompts, 1) as position) r
        join generations g on g.prompt = r.prompt and g.checkpoint = $checkpoint and g.draw = $draw
        order by r.position, g.index"""
    return store.sql(query, {"checkpoint": checkpoint, "draw": draw, "prompts": list(prompts)}).cast(REPLIES)


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
        where not exists (select 1 from judgments j where j.generation = g.id and j.judge = $judge
                          and j.checkpoint = $checkpoint and j.draw = $draw)
        order by r.position, g.index"""
    values = {"checkpoint": checkpoint, "draw": draw, "prompts": list(prompts), "judge": judge}
    return store.sql(query, values).cast(SUBJECTS)


def uncompared(store: Store, checkpoint: str, draw: str, prompts: Sequence[str], judge: str) -> pl.DataFrame:
    """SUBJECTS: all answers to those of the prompts of which this judge has compared none."""
    query = f"""
        select {SUBJECT} from (select unnest($prompts) as prompt, generate_subscripts($prompts, 1) as position) r
        join generations g on g.prompt = r.prompt and g.checkpoint = $checkpoint and g.draw = $draw
        join prompts p on p.id = g.prompt
        where r.prompt not in (
            select o.prompt from comparisons c join generations o on o.id = c.a
            where c.judge = $judge and o.checkpoint = $checkpoint and o.draw = $draw)
        order by r.position, g.index"""
    values = {"checkpoint": checkpoint, "draw": draw, "prompts": list(prompts), "judge": judge}
    return store.sql(query, values).cast(SUBJECTS)


def compared(store: Store, generations: Sequence[str], judge: str) -> pl.DataFrame:
    """COMPARISONS between these generations by this judge, in the order of the generations."""
    query = """
        with asked as (select unnest($generations) as id, generate_subscripts($generations, 1) as position)
        select c.* from comparisons c join asked a on a.id = c.a join asked b on b.id = c.b
        where c.judge = $judge order by a.position, b.position, c."order", c.vote"""
    return store.sql(query, {"generations": list(generations), "judge": judge}).cast(COMPARISONS)


def votes(store: Store, checkpoint: str, draw: str, generations: Sequence[str], judges: Sequence[str]) -> pl.DataFrame:
    """VOTES of these judges on these generations, in the order of the judges and generations."""
    query = f"""
        select {", ".join(f'j."{name}"' for name in VOTES)} from judgments j
        join (select unnest($generations) as id, generate_subscripts($generations, 1) as position) r
        on r.id = j.generation
        where j.checkpoint = $checkpoint and j.draw = $draw and list_contains($judges, j.judge)
        order by list_position($judges, j.judge), r.position, j.vote"""
    values = {"checkpoint": checkpoint, "draw": draw, "generations": list(generations), "judges": list(judges)}
    return store.sql(query, values).cast(VOTES)


def judged(store: Store, iteration: str, judges: Mapping[str, str]) -> pl.DataFrame:
    """JUDGED of an iteration, in the order of its prompts; the first of `judges` gives the score. These are the names
    of the judges in the store, each with what it calls itself, which is how JUDGED names it."""
    source = ANSWERS_OF_ITERATION.replace("proposals r", "(from proposals where iteration = $iteration) r")
    of = row(store, "iterations", iteration) or {}
    values = {"iteration": iteration, "checkpoint": of.get("policy"), "draw": of.get("draw")}
    return _judged(store, source, "checkpoint = $checkpoint and draw = $draw", judges, values)


def judged_words(store: Store, words: pl.DataFrame, judge: Mapping[str, str]) -> pl.DataFrame:
    """JUDGED of `judge_words`, what judges wrote, in their order, by the judge of judgments."""
    source = """
        (select unnest($traces) as id, generate_subscripts($traces, 1) as position) r
        join generations g on g.id = r.id and g.role = 'judgment' and list_contains($draws, g.draw)
        join prompts p on p.id = g.prompt"""
    values: dict[str, object] = {"traces": words["trace"].to_list(), "draws": words["draw"].unique().to_list()}
    of = "generation in (select unnest($traces)) and list_contains($draws, draw)"
    return _judged(store, source, of, judge, values)


def judge_words(store: Store, iteration: str, generations: Sequence[str], judge: str, seed: int) -> pl.DataFrame:
    """`trace`, `prompt` (the question), `checkpoint` and `draw` of what a judge wrote about these generations of an
    iteration, in their order, as far as it gave a score. Its draw has `seed`, or that of the answers' draw."""
    query = """
        select j.trace, g.prompt, g.checkpoint, g.draw from judgments j
        join (select unnest($generations) as id, generate_subscripts($generations, 1) as position) r
        on r.id = j.generation
        join generations g on g.id = j.trace
        where j.judge = $judge and j.status = 'ok' and j.checkpoint = $checkpoint and j.draw = $draw
        and g.draw in (select id from draws where seed = $seed or seed = (select seed from draws where id = $draw))
        order by r.position, j.vote"""
    of = row(store, "iterations", iteration) or {}
    values = {"checkpoint": of.get("policy"), "draw": of.get("draw"), "judge": judge, "seed": seed}
    found = store.sql(query, {**values, "generations": list(generations)})
    return found.unique("trace", keep="first", maintain_order=True)


def _judged(store: Store, source: str, of: str, judges: Mapping[str, str], values: dict[str, object]) -> pl.DataFrame:
    """JUDGED of what `source` finds; `of` says which judgments these can have, so that no others are read.

    The last bits of a mean hang on the order of the votes; without them, equal votes make equal scores.
    """
    query = f"""
        with votes as (
            select generation, round(avg(score) filter (judge = $first), 9) as score,
                   round(stddev_samp(score) filter (judge = $first), 9) as deviation,
                   list({{judge: judge, vote: vote, score: score, status: status}} order by judge, vote) as votes
            from judgments where list_contains($judges, judge) and {of} group by generation)
        select {SUBJECT}, v.score, v.deviation, v.votes from {source} left join votes v on v.generation = g.id
        order by r.position, g.index"""
    found = store.sql(query, {**values, "judges": list(judges), "first": next(iter(judges))}).cast(JUDGED)
    voter = pl.element().struct.with_fields(judge=pl.field("judge").replace(dict(judges)))
    as_stored = all(own == title for title, own in judges.items())
    return found if as_stored else found.with_columns(pl.col("votes").list.eval(voter))


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


def judged_answers(store: Store, checkpoint: str, draw: str, prompts: Sequence[str], judge: str) -> pl.DataFrame:
    """`prompt`, `index`, `score` (mean of the valid votes), `status`, `detail` of every answer: what grades an exam."""
    query = """
        select prompt, index, avg(score) as score, case when count(score) > 0 then 'ok' else min(status) end as status,
               arg_min(detail, vote) as detail
        from judgments
        where judge = $judge and checkpoint = $checkpoint and draw = $draw and list_contains($prompts, prompt)
        group by prompt, index order by prompt, index"""
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


def prompts(store: Store, ids: Sequence[str]) -> pl.DataFrame:
    """PROMPTS with these ids."""
    return store.sql("select * from prompts where id in (select unnest($ids))", {"ids": list(ids)}).cast(PROMPTS)


def spoken(store: Store, checkpoint: str, draw: str, prompts: Sequence[str], judge: str) -> pl.DataFrame:
    """VOTES of a judge on the answers to these prompts, with `prompt` and `chars`, the answer's length; in order."""
    query = f"""
        select {", ".join(f'j."{name}"' for name in VOTES)}, j.prompt, length(g.text) as chars
        from (select unnest($prompts) as prompt, generate_subscripts($prompts, 1) as position) r
        join judgments j on j.prompt = r.prompt
        join generations g on g.id = j.generation
        where j.judge = $judge and j.checkpoint = $checkpoint and j.draw = $draw
        and g.checkpoint = $checkpoint and g.draw = $draw
        order by r.position, j."index", j.vote"""
    values = {"checkpoint": checkpoint, "draw": draw, "prompts": list(prompts), "judge": judge}
    return store.sql(query, values)


def authored(store: Store, run: str, number: int, judge: str, gold: str) -> pl.DataFrame:
    """Answers of a run up to an iteration, by whom the judge was that scored them: `prompt`, `own` (the weights that
    answered are those that judged), `score` and `gold` (means of the votes). Judgments without words tell nobody."""
    query = """
        with answers as (
            select j.generation, any_value(j.prompt) as prompt, avg(j.score) as score,
                   bool_and(w.checkpoint = j.checkpoint) as own, any_value(i.number) as number
            from judgments j join iterations i on i.policy = j.checkpoint and i.draw = j.draw
            join generations w on w.id = j.trace
            where i.run = $run and i.number <= $number and j.judge = $judge
            and exists (select 1 from proposals p where p.iteration = i.id and p.prompt = j.prompt)
            group by j.generation),
        truth as (select generation, avg(score) as gold from judgments where judge = $gold group by generation)
        select a.prompt, a.own, a.score, t.gold from answers a join truth t on t.generation = a.generation
        order by a.number, a.prompt, a.generation"""
    return store.sql(query, {"run": run, "number": number, "judge": judge, "gold": gold})


def run_health(store: Store, run: str) -> pl.DataFrame:
    """HEALTH of a run, in the order of its iterations and judges."""
    return store.sql("select * from health where run = $run order by iteration, rowid", {"run": run}).cast(HEALTH)


def notes(store: Store, run: str, number: int) -> list[str]:
    """What was noticed in an iteration."""
    query = "select detail from events where run = $run and iteration = $number and kind = 'note'"
    return store.sql(query, {"run": run, "number": number})["detail"].to_list()
