"""What a human names and is shown of runs, and said of them, in SQL. None of the questions writes."""

import polars as pl

from flywheel.store.store import Store


def runs(store: Store) -> pl.DataFrame:
    """Every run, the newest last: `id`, `name`, `begun`, `decided`, the number of its last iteration with a decision or
    NULL, and `waits`, whether a promotion of it waits for a human."""
    query = """
        select r.id, r.name, r.created_at as begun, max(i.number) filter (d.iteration is not null) as decided,
               coalesce(bool_or(a.iteration is not null), false) as waits
        from runs r left join iterations i on i.run = r.id left join decisions d on d.iteration = i.id
        left join (select iteration from approvals group by iteration, candidate having bool_and(status = 'asked')) a
        on a.iteration = i.id
        group by r.id, r.name, r.created_at order by r.created_at, min(r.rowid)"""
    return store.sql(query)


def ids(store: Store, table: str, start: str) -> list[str]:
    """The ids of a table that begin so, in order."""
    found = store.sql(f"select distinct id from {table} where starts_with(id, $start) order by id", {"start": start})
    return found["id"].to_list()


def human_verdict(store: Store, iteration: str, candidate: str) -> tuple[str, str, str | None] | None:
    """What a human said first of a promotion: approved or rejected, who it was, and why; None before anybody has."""
    query = """
        select status, author, said from approvals
        where iteration = $iteration and candidate = $candidate and status <> 'asked' order by rowid limit 1"""
    found = store.sql(query, {"iteration": iteration, "candidate": candidate})
    return found.row(0) if len(found) else None


def waiting(store: Store, run: str) -> pl.DataFrame:
    """The promotion of a run that waits for a human: `iteration`, its `number`, `candidate`, `incumbent`, `exam` and
    `said`, what it rests on in words. There is one row at most."""
    query = """
        select a.iteration, i.number, a.candidate, i.policy as incumbent, any_value(g.exam) as exam, a.said
        from approvals a join iterations i on i.id = a.iteration
        join grades g on g.checkpoint = a.candidate
        join grades before on before.checkpoint = i.policy and before.exam = g.exam and before.prompt = g.prompt
        where i.run = $run and a.status = 'asked' and not exists (
            select 1 from approvals o where o.iteration = a.iteration and o.candidate = a.candidate
            and o.status <> 'asked')
        group by all order by i.number desc limit 1"""
    return store.sql(query, {"run": run})


def flipped(store: Store, candidate: str, incumbent: str, exam: str, limit: int) -> pl.DataFrame:
    """Exam items that only one of two checkpoints solves: `flip` (gained or lost), `question`, `reference`."""
    query = """
        select if(2 * new.correct > new.n, 'gained', 'lost') as flip, p.chat[-1].content as question, p.reference
        from grades new join grades old using (exam, prompt) join prompts p on p.id = new.prompt
        where new.checkpoint = $candidate and old.checkpoint = $incumbent and exam = $exam
        and (2 * new.correct > new.n) <> (2 * old.correct > old.n)
        order by row_number() over (partition by flip order by new.prompt), flip limit $limit"""
    values = {"candidate": candidate, "incumbent": incumbent, "exam": exam, "limit": limit}
    return store.sql(query, values)


def beside(store: Store, iteration: str, limit: int) -> pl.DataFrame:
    """Answers that train beside others to the same prompt: `question`, `chosen`, `other`, and `paired`, whether the
    other is the rejected one of the row, or one that trains as a bad one; else it is one that a filter dropped, of
    another text than all that train. One row for each prompt."""
    query = """
        with trained as (
            select e.position, e.prompt, e.chat, e.chosen, e.rejected, e.weight, e.generations from examples e
            join iteration_datasets x on x.dataset = e.dataset where x.iteration = $iteration),
        good as (
            select * from trained where weight > 0
            qualify row_number() over (partition by prompt order by position) = 1),
        bad as (select prompt, arg_min(chosen, position) as text from trained where weight <= 0 group by prompt),
        dropped as (
            select g.prompt, arg_min(g.text, g.index) as text from iterations i
            join selections s on s.iteration = i.id and not s.kept
            join generations g on g.id = s.generation and g.checkpoint = i.policy and g.draw = i.draw
            where i.id = $iteration and g.prompt in (select prompt from good)
            and g.id not in (select unnest(generations) from trained)
            and (g.prompt, trim(g.text, $blank)) not in (select (prompt, trim(chosen, $blank)) from trained)
            group by g.prompt)
        select t.chat[-1].content as question, t.chosen, coalesce(t.rejected, b.text, d.text) as other,
               coalesce(t.rejected, b.text) is not null as paired
        from good t left join bad b on b.prompt = t.prompt left join dropped d on d.prompt = t.prompt
        where other is not null order by t.position limit $limit"""
    return store.sql(query, {"iteration": iteration, "limit": limit, "blank": " \t\r\n"})
