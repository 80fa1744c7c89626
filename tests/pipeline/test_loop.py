"""The loop on the toy engine: what is stored, that a second run is free, that stopping anywhere changes nothing."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from filters.text_filters import Cap
from flywheel.engines.toy.engine import Toy, write_weights
from flywheel.errors import EngineError, RecipeError
from flywheel.pipeline.iteration import Progress
from flywheel.pipeline.loop import iterate
from flywheel.protocols import BASE, Asked, Sampling
from flywheel.recipe.load import load
from flywheel.recipe.recipe import Recipe
from flywheel.store import queries
from flywheel.store.store import Store
from judges.models.rubric import Rubric
from tests.bars.kill import differences

At = Callable[[int], Recipe]
SMALL = ("iterations=1", "exam.prompts.side=4", "batch=64")


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> At:
    """The toy recipe with small weights of skill 0.3."""
    monkeypatch.setenv("FLYWHEEL_TOY_WEIGHTS", str(write_weights(tmp_path / "weights", 0.3, 1)))
    return functools.partial(load, "toy", overrides=SMALL)


def finished(at: At, home: Path) -> Store:
    list(iterate(at, home))
    return Store(home / "flywheel.duckdb")


def one(store: Store, query: str) -> object:
    return store.sql(query).item()


@pytest.mark.slow
def test_a_run_leaves_every_row_that_it_made(toy: At, tmp_path: Path) -> None:
    store = finished(toy, tmp_path)
    recipe = toy(1)
    prompts, exam = len(recipe.prompts()), len(recipe.exam.prompts())
    assert one(store, "select count(*) from proposals") == prompts
    assert one(store, "select count(*) from generations where role = 'answer'") == prompts * recipe.sampling.n
    assert one(store, "select count(*) from generations where role = 'exam'") == 2 * exam
    assert one(store, "select count(*) from judgments") == prompts * recipe.sampling.n + 2 * exam
    assert one(store, "select count(*) from grades") == 2 * exam
    assert one(store, "select count(*) from decisions") == 2
    assert one(store, "select count(*) from generations where finish_reason is null or engine = ''") == 0


@pytest.mark.slow
def test_only_right_answers_train_and_at_most_the_cap_for_each_prompt(toy: At, tmp_path: Path) -> None:
    store = finished(toy, tmp_path)
    rows = store.sql("""select e.prompt, e.chosen, g.text, j.score from examples e
                        join generations g on g.id = e.generations[1] join judgments j on j.generation = g.id""")
    assert len(rows) and (rows["score"] == 1).all() and (rows["chosen"] == rows["text"]).all()
    assert rows["prompt"].value_counts()["count"].max() <= 2


@pytest.mark.slow
def test_what_the_filters_dropped_is_told_with_its_reason(toy: At, tmp_path: Path) -> None:
    store = finished(toy, tmp_path)
    dropped = store.sql("select filter, reason from selections where not kept group by all order by all")
    assert dropped.rows() == [("Cap(n=2)", "dropped by Cap(n=2)"), ("Correct()", "dropped by Correct()")]


@pytest.mark.slow
def test_a_second_run_of_the_same_recipe_makes_nothing(toy: At, tmp_path: Path) -> None:
    finished(toy, tmp_path)
    assert list(iterate(toy, tmp_path)) == []


@pytest.mark.slow
def test_more_iterations_go_on_where_the_run_ended(toy: At, tmp_path: Path) -> None:
    finished(toy, tmp_path)
    further = list(iterate(toy, tmp_path, iterations=2))
    assert {progress.iteration for progress in further} == {2}


@pytest.mark.slow
def test_stopping_after_any_batch_changes_nothing(toy: At, tmp_path: Path) -> None:
    toy = functools.partial(toy, overrides=(*SMALL, "batch=32"))
    whole = list(iterate(toy, tmp_path / "calm"))
    for _ in whole:  # one stored thing more each time, then away
        steps = iterate(toy, tmp_path / "stormy")
        if next(steps, None) is None:
            break
        steps.close()
    assert list(iterate(toy, tmp_path / "stormy")) == []
    assert differences(tmp_path / "calm", tmp_path / "stormy") == []


@pytest.mark.slow
def test_an_engine_that_dies_in_the_middle_of_a_batch_is_started_again(
    toy: At, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(toy, tmp_path / "calm")
    monkeypatch.setenv("FLYWHEEL_TOY_WEIGHTS", str(write_weights(tmp_path / "frail", 0.3, 1, crash_after=50)))
    store = finished(toy, tmp_path / "stormy")
    assert one(store, "select count(*) from generations where role = 'answer'") == 256


class Broken(Toy):
    """An engine that never works."""

    def load(self, weights: str) -> object:  # type: ignore[override]
        raise EngineError("no engine today")


@pytest.mark.slow
def test_an_engine_that_fails_for_good_stops_the_run_and_is_an_event(toy: At, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no engine today"):
        list(iterate(toy, tmp_path, engine=Broken()))
    events = Store(tmp_path / "flywheel.duckdb").sql("select step, kind, detail from events")
    assert events.rows() == [("examine", "failure", "EngineError: no engine today")]


@pytest.mark.slow
def test_nothing_kept_is_a_hold_and_not_an_error(toy: At, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_TOY_WEIGHTS", str(write_weights(tmp_path / "hopeless", 0.0, 1)))
    store = finished(toy, tmp_path)
    last = queries.decisions(store, str(one(store, "select id from runs"))).row(-1, named=True)
    assert (last["decision"], last["candidate"], last["policy"]) == ("hold", None, last["incumbent"])
    assert "nothing to train on" in last["reason"]


@pytest.mark.slow
def test_a_hold_draws_new_answers_the_next_time(toy: At, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_TOY_WEIGHTS", str(write_weights(tmp_path / "hopeless", 0.0, 1)))
    store = finished(functools.partial(toy, overrides=(*SMALL, "iterations=2")), tmp_path)
    assert one(store, "select count(distinct draw) from generations where role = 'answer'") == 2
    assert one(store, "select count(distinct policy) from iterations where number > 0") == 1


def test_an_exam_that_overlaps_the_training_prompts_stops_before_any_work(toy: At, tmp_path: Path) -> None:
    overlapping = replace(toy(1), prompts=toy(1).exam.prompts)
    with pytest.raises(RecipeError, match="exam"):
        next(iterate(lambda iteration: overlapping, tmp_path))
    assert not (tmp_path / "flywheel.duckdb").exists()


@pytest.mark.slow
def test_a_recipe_may_change_from_one_iteration_to_the_next(toy: At, tmp_path: Path) -> None:
    def at(iteration: int) -> Recipe:
        return replace(toy(1), keep=(Cap(iteration),), iterations=2)

    store = finished(at, tmp_path)
    filters = store.sql("""select i.number, s.filter from selections s join iterations i on i.id = s.iteration
                           group by all order by all""")
    assert filters.rows() == [(1, "Cap(n=1)"), (2, "Cap(n=2)")]


@pytest.mark.slow
def test_prompts_come_round_and_round(toy: At, tmp_path: Path) -> None:
    at = functools.partial(toy, overrides=(*SMALL, "iterations=3", "prompts_per_iteration=30", "gate.promote=always"))
    store = finished(at, tmp_path)
    counts = store.sql("select iteration, count(*) as n, count(distinct prompt) as d from proposals group by iteration")
    assert counts["n"].to_list() == counts["d"].to_list() == [30, 30, 30]
    assert one(store, "select count(distinct prompt) from proposals") == 64


@pytest.mark.slow
def test_progress_counts_up_to_its_total(toy: At, tmp_path: Path) -> None:
    def steps() -> Iterator[Progress]:
        yield from iterate(toy, tmp_path)

    last: dict[tuple[int, str], Progress] = {(p.iteration, p.step): p for p in steps()}
    assert all(progress.done == progress.total for progress in last.values())
    assert [step for number, step in last if number == 1] == [
        "propose",
        "sample",
        "judge",
        "select",
        "train",
        "examine",
    ]


@pytest.mark.slow
def test_the_policy_of_the_next_iteration_is_the_promoted_checkpoint(toy: At, tmp_path: Path) -> None:
    at = functools.partial(toy, overrides=(*SMALL, "iterations=2", "gate.promote=always"))
    store = finished(at, tmp_path)
    rows = store.sql("""select d.policy as decided, n.policy as used
                        from decisions d join iterations i on i.id = d.iteration
                        join iterations n on n.run = i.run and n.number = i.number + 1""")
    assert (rows["decided"] == rows["used"]).all() and len(rows) == 2
    incumbents = store.sql("""select d.incumbent, i.policy from decisions d join iterations i on i.id = d.iteration
                              where i.number > 0""")
    assert (incumbents["incumbent"] == incumbents["policy"]).all() and len(incumbents) == 2
    parents = store.sql("select distinct parent from checkpoints where kind = 'trained'")
    assert parents["parent"].to_list() == store.sql("select id from checkpoints where kind = 'base'")["id"].to_list()


def test_a_mistake_in_a_later_iteration_stops_before_any_work(toy: At, tmp_path: Path) -> None:
    def at(iteration: int) -> Recipe:
        recipe = replace(toy(1), iterations=3)
        return recipe if iteration < 3 else replace(recipe, sampling=replace(recipe.sampling, top_p=2.0))

    with pytest.raises(RecipeError, match=r"sampling.top_p must be more than 0 and at most 1, not 2.0"):
        next(iterate(at, tmp_path))
    assert not (tmp_path / "flywheel.duckdb").exists()


@pytest.mark.slow
def test_an_exam_judge_with_a_scale_of_its_own_accepts_what_is_above_its_middle(toy: At, tmp_path: Path) -> None:
    rubric = Rubric(model=Asked(weights=BASE, sampling=Sampling(n=2, temperature=1.0, max_tokens=64)))
    recipe = replace(toy(1), exam=replace(toy(1).exam, judge=rubric))
    list(iterate(lambda iteration: recipe, tmp_path, iterations=1))
    store = Store(tmp_path / "flywheel.duckdb")
    accepted = store.sql(
        """select checkpoint, count(*) filter (score > 2.5) as n from (
               select checkpoint, prompt, avg(score) as score from judgments where judge = $judge group by all)
           group by checkpoint order by checkpoint""",
        {"judge": rubric.name},
    )
    graded = store.sql("select checkpoint, sum(correct)::bigint as n from grades group by all order by checkpoint")
    assert accepted.rows() == graded.rows() and 0 < graded["n"][0] < len(recipe.exam.prompts())
