"""Judges are measured while the loop runs: what is stored of them, and what an alarm does. On the toy engine."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest

from filters.pairs import MaxMin
from filters.score_filters import MostDisputed
from filters.text_filters import Cap
from flywheel.engines.toy.engine import write_weights
from flywheel.errors import HealthAlarm, RecipeError
from flywheel.health.measures import MEASURES
from flywheel.identity import title
from flywheel.pipeline.loop import iterate
from flywheel.pipeline.monitor import truth
from flywheel.preflight.recipe import check_recipe
from flywheel.protocols import BASE, AnyJudge, Asked, Sampling, Scaled, Verdict
from flywheel.recipe.load import load
from flywheel.recipe.recipe import Alarm, Gate, Meta, Recipe
from flywheel.report.html import write
from flywheel.store.schema import HEALTH, Chat
from flywheel.store.store import Store
from judges.ensembles import Jury
from judges.models.pairwise import META, Pairwise
from judges.models.rubric import Rubric
from judges.rules.answers import Numeric
from judges.verdict import votes

pytestmark = pytest.mark.slow

RIGHT = Numeric(after="Answer:")
VOTES = Sampling(n=3, temperature=0.7, max_tokens=40)
RUBRIC = Rubric(model=Asked(sampling=VOTES))
SMALL = ("iterations=1", "prompts.side=5", "prompts.last=5", "exam.prompts.side=2", "batch=64")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipe]:
    """The toy judged by its own policy, with a verifier that knows the truth: 25 prompts, 4 answers each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLYWHEEL_TOY_WEIGHTS", str(write_weights(tmp_path_factory.mktemp("weights"), 0.5, 1)))
        yield replace(load("toy", overrides=SMALL), judges=(RUBRIC,), gold=RIGHT, keep=(Cap(2),))


def turned(recipe: Recipe, home: Path) -> Store:
    list(iterate(lambda iteration: recipe, home))
    return Store(home / "flywheel.duckdb")


@pytest.fixture(scope="module")
def store(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return turned(recipe, tmp_path_factory.mktemp("run"))


def measured(store: Store, judge: str, iteration: int = 1) -> dict[str, float | None]:
    rows = store.sql(
        "select measure, value from health where judge = $judge and iteration = $number",
        {"judge": judge, "number": iteration},
    )
    return dict(rows.iter_rows())


def test_the_judge_is_held_against_gold_answer_by_answer(store: Store) -> None:
    rows = store.sql(
        """select avg(score) filter (judge = $judge) > 2.5 as accepted, avg(score) filter (judge = $gold) > 0.5 as good
           from judgments where draw = (select draw from iterations where number = 1) group by generation""",
        {"judge": RUBRIC.name, "gold": RIGHT.name},
    )
    found = measured(store, RUBRIC.name)
    assert len(rows) == 100
    assert found["accuracy"] == pytest.approx((rows["accepted"] == rows["good"]).mean())
    assert found["precision"] == pytest.approx(rows.filter("accepted")["good"].mean())
    assert measured(store, RIGHT.name)["right"] == pytest.approx(rows["good"].mean())
    assert "accuracy" not in measured(store, RIGHT.name)
    assert store.sql("select agreement from progress where iteration = 1").item() == found["accuracy"]


def test_everything_that_is_measured_has_a_name_and_is_stored_once(store: Store) -> None:
    rows = store.sql("from judge_health")
    assert set(rows["measure"]) <= set(MEASURES) and set(rows["name"]) == {"toy"} and set(rows["iteration"]) == {1}
    assert not rows.select("judge", "measure").is_duplicated().any()
    assert {"retest alpha", "verbosity", "failed", "score", "saturation"} <= set(measured(store, RUBRIC.name))
    assert (rows["n"] > 0).all() and rows["change"].null_count() == len(rows)


@pytest.mark.slow
def test_gold_is_seen_by_no_filter_and_no_pick(recipe: Recipe, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Watching:
        seen: tuple[list[str], ...]

        def __call__(self, judged: pl.LazyFrame) -> pl.LazyFrame:
            said = judged.collect()["votes"].explode().struct.field("judge")
            self.seen[0].extend(said.unique().to_list())
            return judged

    watching = Watching(([],))
    turned(replace(recipe, keep=(watching,)), tmp_path)
    assert watching.seen[0] == [RUBRIC.name]


def test_the_judge_step_tells_how_far_the_judge_agrees(store: Store) -> None:
    detail = store.sql("select detail from events where step = 'judge' and kind = 'done'").item()
    assert detail.startswith(f"{RUBRIC.name} agrees with {RIGHT.name} on 0.") and "of 100 answers, kappa 0." in detail


@pytest.mark.parametrize(("gold", "unread"), [(RIGHT, 0.0), (RUBRIC, None), (Jury(members=(RIGHT,)), None)])
def test_an_answer_that_a_rule_cannot_read_is_not_right(gold: AnyJudge, unread: float | None) -> None:
    said = [
        ("a", 1.0, "ok"),
        ("b", None, "unparsable"),
        ("c", None, "error"),
        ("d", 0.0, "ok"),
        ("d", None, "unparsable"),
    ]
    votes = pl.DataFrame(said, schema={"generation": pl.String, "score": pl.Float64, "status": pl.String}, orient="row")
    top = gold.scale[1] if isinstance(gold, Scaled) else 1.0
    found = truth(gold, votes.with_columns(pl.col("score") * top))
    assert dict(found.iter_rows()) == {"a": 1.0, "b": unread, "c": None, "d": 0.0}


def test_the_report_shows_what_judges_say_beside_what_is_true(store: Store, tmp_path: Path) -> None:
    page = write(store, tmp_path).read_text(encoding="utf-8")
    table = page.partition("The judges and the truth")[2].partition("</table>")[0]
    truth, score, accuracy = (
        measured(store, judge)[measure]
        for judge, measure in ((RIGHT.name, "right"), (RUBRIC.name, "score"), (RUBRIC.name, "accuracy"))
    )
    assert f"<td>{RUBRIC.name}</td>" in table and 'alt="judges beside the truth"' in table
    assert all(f">{number:.4g}</td>" in table for number in (truth, score, accuracy))


@pytest.mark.slow
def test_without_gold_a_judge_is_still_measured_but_nothing_is_told(recipe: Recipe, tmp_path: Path) -> None:
    store = turned(replace(recipe, gold=None), tmp_path)
    found = measured(store, RUBRIC.name)
    assert "failed" in found and "accuracy" not in found
    assert store.sql("select agreement from progress where iteration = 1").item() is None
    assert store.sql("select detail from events where step = 'judge'").item() is None
    assert "judges beside" not in write(store, tmp_path).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_judge_that_is_gold_itself_is_not_held_against_itself(recipe: Recipe, tmp_path: Path) -> None:
    found = measured(turned(replace(recipe, judges=(RIGHT,)), tmp_path), RIGHT.name)
    assert "right" in found and "accuracy" not in found


# Alarms


def test_a_red_alarm_stops_before_the_training_and_another_line_lets_the_run_go_on(
    recipe: Recipe, store: Store, tmp_path: Path
) -> None:
    quiet = Alarm("verbosity", at_most=-0.99, judge=RUBRIC.name)
    strict = replace(recipe, alarms=(quiet, Alarm("accuracy", at_least=0.99, red=True)))
    with pytest.raises(HealthAlarm, match=r"^iteration 1 stopped .* accuracy is 0\.\d+ \(.*\), below 0.99\. All is"):
        turned(strict, tmp_path)
    stopped = Store(tmp_path / "flywheel.duckdb")
    assert stopped.sql("from health").equals(store.sql("from health"))
    assert stopped.sql("select count(*) from iteration_datasets").item() == 0
    notes = stopped.sql("select detail from events where kind = 'note' order by detail")["detail"].to_list()
    assert [note.partition(":")[0] for note in notes] == ["alarm", "red alarm"]
    assert stopped.sql("select notes from progress where iteration = 1").item() == "\n".join(notes)
    with pytest.raises(HealthAlarm):
        turned(strict, tmp_path)
    assert stopped.sql("select count(*) from events where kind = 'note'").item() == 2
    turned(replace(recipe, alarms=(Alarm("accuracy", at_least=0.1, red=True),)), tmp_path)
    assert stopped.sql("select number from decisions d join iterations i on i.id = d.iteration").height == 2
    assert stopped.sql("from health").equals(store.sql("from health"))


@pytest.mark.slow
def test_an_alarm_that_is_not_red_is_noted_and_the_run_goes_on(recipe: Recipe, tmp_path: Path) -> None:
    store = turned(replace(recipe, alarms=(Alarm("accuracy", at_least=0.99), Alarm("failed", at_most=0.5))), tmp_path)
    notes = store.sql("select notes from progress where iteration = 1").item()
    assert notes.startswith(f"alarm: {RUBRIC.name}: accuracy is 0.") and "failed" not in notes
    assert store.sql("select count(*) from decisions").item() == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"alarms": (Alarm("charm", at_least=1.0),)},
            r"alarms.0.measure must be one of accuracy, kappa, .* not 'charm'",
        ),
        ({"alarms": (Alarm("kappa"),)}, r"alarms.0 has no line to cross: give it at_least or at_most"),
        ({"gold": RUBRIC}, "gold is the policy itself"),
    ],
)
def test_alarms_and_gold_are_checked_with_the_recipe(recipe: Recipe, changed: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        check_recipe(replace(recipe, **changed))  # type: ignore[arg-type]


def test_alarms_are_set_from_the_command_line(recipe: Recipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import replace\nfrom flows.recipes.toy import recipe as toy\n"
        "from flywheel import DEFAULT_ALARMS\nrecipe = replace(toy, alarms=DEFAULT_ALARMS)\n"
    )
    changed = load(file, overrides=("alarms.0.at_least=0.25", "alarms.0.red=false"))
    assert changed.alarms[0] == Alarm("ranking", at_least=0.25)
    assert load(file, overrides=("alarms=[]",)).alarms == ()


# Other judges


@dataclass(frozen=True)
class Loud:
    """A rule beyond every scale."""

    model = None
    name = "loud"

    def ask(self, subjects: pl.DataFrame) -> list[Chat]:
        return []

    def read(self, subjects: pl.DataFrame, replies: pl.DataFrame | None) -> pl.DataFrame:
        return votes(self.name, subjects, [Verdict("ok", 10.0 * len(text), None) for text in subjects["text"]])


@pytest.mark.slow
def test_a_judge_without_a_scale_is_told_how_well_it_ranks_and_not_how_often_it_is_right(
    recipe: Recipe, tmp_path: Path
) -> None:
    found = measured(turned(replace(recipe, judges=(Loud(),)), tmp_path), title(Loud()))
    assert {"ranking", "spearman", "score"} <= set(found)
    assert not {"accuracy", "kappa", "saturation"} & set(found)
    assert found["verbosity"] == pytest.approx(1.0, abs=0.05)


@pytest.mark.slow
def test_gold_needs_a_scale(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="gold loud scores beyond 0 and 1"):
        turned(replace(recipe, gold=Loud()), tmp_path)


@pytest.mark.slow
def test_judges_of_pairs_are_told_what_the_order_does_to_them(recipe: Recipe, tmp_path: Path) -> None:
    pairwise = Pairwise(model=Asked(sampling=Sampling(n=1, temperature=0.7, max_tokens=40)), neighbours=1)
    found = measured(turned(replace(recipe, judges=(pairwise,)), tmp_path), pairwise.name)
    assert {"flip rate", "first slot", "verdict accuracy", "failed"} <= set(found)
    assert found["verdict accuracy"] is not None and found["verdict accuracy"] > 0.5


@pytest.mark.slow
def test_an_ensemble_is_measured_and_so_is_each_member(recipe: Recipe, tmp_path: Path) -> None:
    jury = Jury(members=(RIGHT, Numeric(after="Answer:", tolerance=1.0)))
    store = turned(replace(recipe, judges=(jury,), gold=RIGHT), tmp_path)
    judges = store.sql("select judge from health group by judge order by min(rowid)")["judge"].to_list()
    assert judges == [jury.name, jury.members[1].name, RIGHT.name]
    assert measured(store, jury.members[1].name)["true positives"] == 1.0


@pytest.mark.slow
def test_a_meta_judge_is_told_whether_it_follows_the_scores(recipe: Recipe, tmp_path: Path) -> None:
    pairwise = Pairwise(model=Asked(sampling=Sampling(n=1, temperature=0.7, max_tokens=60)), template=META)
    meta = Meta(keep=(MostDisputed(),), judge=pairwise, pick=MaxMin())
    found = measured(turned(replace(recipe, meta=meta, pick=MaxMin()), tmp_path), pairwise.name)
    assert {"flip rate", "first slot", "failed"} <= set(found)


@pytest.mark.slow
def test_a_judge_with_weights_of_its_own_is_asked_whether_it_prefers_its_own_answers(
    recipe: Recipe, tmp_path: Path
) -> None:
    judge = Rubric(model=Asked(weights=BASE, sampling=VOTES))
    store = turned(replace(recipe, judges=(judge,), iterations=2, gate=Gate(promote="always")), tmp_path)
    assert "self-preference" not in measured(store, judge.name, 1)
    rows = store.sql(
        """with a as (select generation, any_value(checkpoint) as c, avg(score) filter (judge = $judge) as score,
                      avg(score) filter (judge = $gold) as gold from judgments
                      where draw in (select draw from iterations where number > 0) group by generation)
           select gold, c = (select policy from iterations where number = 1) as own, avg(score) as s, count(*) as n
           from a where score is not null group by all""",
        {"judge": judge.name, "gold": RIGHT.name},
    )
    strata = (
        rows.filter("own")
        .join(rows.filter(~pl.col("own")), on="gold")
        .with_columns(w=pl.col("n") * pl.col("n_right") / (pl.col("n") + pl.col("n_right")))
    )
    wanted = ((strata["s"] - strata["s_right"]) * strata["w"]).sum() / strata["w"].sum()
    found = measured(store, judge.name, 2)
    assert found["self-preference"] == pytest.approx(wanted)
    assert {"drift", "accuracy lost"} <= set(found)
    change = store.sql("select change from judge_health where iteration = 2 and measure = 'accuracy'").item()
    assert change == pytest.approx(found["accuracy"] - measured(store, judge.name, 1)["accuracy"])  # type: ignore[operator]


@pytest.mark.slow
def test_a_killed_judge_step_measures_the_same(recipe: Recipe, store: Store, tmp_path: Path) -> None:
    while True:
        steps = iterate(lambda iteration: recipe, tmp_path)
        if next(steps, None) is None:
            break
        steps.close()
    stormy = Store(tmp_path / "flywheel.duckdb").sql("from health")
    assert stormy.schema == HEALTH and stormy.equals(store.sql("from health"))
