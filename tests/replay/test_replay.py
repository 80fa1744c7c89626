"""Counterfactual replay: the same recipe gives the stored rows again, another one those of a run with that recipe."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from filters.completions import Unpaired
from filters.pairs import MaxMin
from filters.score_filters import Correct, MostDisputed
from filters.text_filters import Cap, Distinct, Finished
from flows.recipes.toy import Sums
from flows.recipes.toy import recipe as toy
from flywheel.cli.app import app
from flywheel.cli.replay import one_line
from flywheel.engines.toy.engine import write_weights
from flywheel.errors import FlywheelError, RecipeError, StoreError
from flywheel.pipeline.loop import iterate
from flywheel.protocols import Asked, Sampling
from flywheel.recipe.recipe import Meta, Recipe
from flywheel.replay.difference import ROWS, Side, difference, matched, nobody_knows
from flywheel.replay.iteration import STAGES
from flywheel.replay.replay import REPLAYS, Replay, planned
from flywheel.store.schema import EXAMPLES, SELECTIONS
from flywheel.store.store import Store
from flywheel.training.settings import Kto
from judges.ensembles import Cascade
from judges.models.pairwise import META, Pairwise
from judges.models.rubric import Rubric
from judges.rules.answers import Numeric

EXAM = replace(toy.exam, prompts=Sums(side=2, first=50, last=60))
WORDS = Sampling(n=2, temperature=0.7, max_tokens=64)
rubric = Rubric(model=Asked(sampling=replace(WORDS, n=3)))
pairwise = Pairwise(model=Asked(sampling=replace(WORDS, n=1)), policy="weighted", measure="rating")
meta = Meta(keep=(MostDisputed(),), judge=replace(pairwise, template=META), pick=MaxMin())
MINE = """
from dataclasses import dataclass, replace
from flows.recipes.toy import Sums, recipe as toy
from flywheel.protocols import Verdict
from judges.verdict import votes
@dataclass(frozen=True)
class Mine:
    model = None
    name = "mine"
    def ask(self, subjects):
        return []
    def read(self, subjects, replies):
        said = [Verdict("ok", float(len(text) {test}), None) for text in subjects["text"]]
        return votes(self.name, subjects, said)
recipe = replace(toy, base={base!r}, judges=(Mine(),), keep=toy.keep[:1])
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """The toy's recipe with few prompts; names its weights, whoever imported the toy first."""
    weights = write_weights(tmp_path_factory.mktemp("weights"), 0.5, 1)
    return replace(toy, base=str(weights), prompts=Sums(side=4, first=0, last=8), exam=EXAM, batch=64)


@pytest.fixture(scope="module")
def turned(small: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a run of two iterations with everything in it. Nothing here may change it."""
    home = tmp_path_factory.mktemp("turned")
    for _ in iterate(lambda iteration: small, home):
        pass
    return home


def selected(recipe: Recipe, home: Path) -> Path:
    """The home, with a run that goes until its first dataset is there."""
    return until("select", 1, recipe, home)


def until(step: str, iteration: int, recipe: Recipe, home: Path) -> Path:
    """The home, with a run that is stopped as soon as it has stored something of a step."""
    steps = iterate(lambda number: recipe, home)
    next(at for at in steps if (at.step, at.iteration) == (step, iteration))
    steps.close()  # type: ignore[attr-defined]
    return home


def replayed(recipe: Recipe, home: Path, *iterations: int) -> tuple[Replay, int]:
    """What comes out, and how many questions were asked for it."""
    with planned(lambda number: recipe, home, None, iterations or None) as plan:
        questions = 0
        for stage in STAGES:
            questions += sum(cost.questions for cost in plan.costs(stage))
            for _ in plan.judge(stage):
                pass
        return plan.replay(), questions


def stored(home: Path, iteration: int) -> pl.DataFrame:
    """EXAMPLES that trained."""
    query = """select e.* from iterations i join iteration_datasets d on d.iteration = i.id
               join examples e on e.dataset = d.dataset where i.number = $number order by e.position"""
    return Store(home / "flywheel.duckdb").sql(query, {"number": iteration}).cast(EXAMPLES)


def fingerprint(home: Path) -> str:
    return hashlib.sha256((home / "flywheel.duckdb").read_bytes()).hexdigest()


def same(recipe: Recipe, home: Path) -> None:
    """A replay of the run's own recipe asks nothing, gives the stored rows and leaves the store as it was."""
    before, (found, questions) = fingerprint(home), replayed(recipe, home)
    assert questions == 0 and found.iterations["same"].all() and found.iterations["notes"].list.len().sum() == 0
    for number in found.iterations["iteration"]:
        assert len(stored(home, number)) > 3 and found.examples[number].equals(stored(home, number))
    assert set(found.rows["outcome"]) == {"kept"} and found.rows["position_then"].equals(found.rows["position_now"])
    funnel = found.filters
    for what in ("filter", "seen", "dropped"):
        assert funnel[f"{what}_then"].rename("").equals(funnel[f"{what}_now"].rename(""), null_equal=True)
    assert found.rows["score_then"].equals(found.rows["score_now"].rename("score_then"))
    assert fingerprint(home) == before


# The same recipe


@pytest.mark.slow
def test_the_runs_own_recipe_gives_every_stored_dataset_again(small: Recipe, turned: Path) -> None:
    same(small, turned)
    found, _ = replayed(small, turned)
    assert found.iterations["iteration"].to_list() == [1, 2] and not found.left_out
    assert found.iterations["right_then"].to_list() == found.iterations["right_now"].to_list() == [1.0, 1.0]
    assert found.iterations["right_by"][0] == small.exam.judge.name
    assert found.rows.schema == ROWS and not (turned / REPLAYS).exists()
    drops = Store(turned / "flywheel.duckdb").sql("select rows_in, rows_in - rows_out as d from funnel")
    assert sorted(drops.rows()) == sorted(found.filters.select("seen_now", "dropped_now").rows())


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"judges": (replace(pairwise, policy="average", measure="wins"),), "keep": (Finished(),), "pick": MaxMin()},
        {"judges": (rubric, toy.judges[0]), "keep": (Distinct(), Cap(3, seed=3)), "gold": toy.judges[0]}
        | {"pick": Unpaired(), "train": Kto()},
        {"judges": (rubric,), "keep": (), "pick": MaxMin(), "meta": meta},
        {"judges": (Cascade(cheap=rubric, strong=Numeric(), low=1.1, high=4.9),), "keep": (Cap(2),)},
    ],
    ids=["pairs", "labels and gold", "judgments of judgments", "ensemble"],
)
def test_so_does_a_recipe_whatever_its_parts(small: Recipe, tmp_path: Path, change: dict[str, Any]) -> None:
    recipe = replace(small, prompts=Sums(side=2, first=0, last=8), **change)
    same(recipe, selected(recipe, tmp_path))


# Another recipe


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"keep": (Correct(threshold=0.0), Distinct(), Cap(1))},
        {"judges": (rubric,), "keep": (Finished(),), "pick": MaxMin(), "meta": meta},
        {"judges": (pairwise,), "keep": (), "pick": MaxMin()},
    ],
    ids=["filters", "judgments of judgments", "pairs"],
)
def test_another_recipe_gives_what_a_run_with_it_selects(
    small: Recipe, turned: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    """Of the first iteration both have the same answers, and the judges ask with the same seeds."""
    before, other = fingerprint(turned), replace(small, **change)
    home, mine = selected(other, tmp_path / "other"), copied(turned, tmp_path / "mine")
    found, questions = replayed(other, mine, 1)
    asked = Store(home / "flywheel.duckdb").sql("select count(distinct prompt) from generations where role='judgment'")
    assert questions == asked.item()
    assert found.examples[1].equals(stored(home, 1)) and len(found.examples[1])
    ours, theirs = (Counter(rows(examples)) for examples in (stored(turned, 1), stored(home, 1)))
    told = dict(found.rows["outcome"].value_counts().iter_rows())
    told = {name: told.get(name, 0) for name in ("kept", "gained", "lost")}
    assert told["kept"] == (ours & theirs).total()
    assert (told["gained"], told["lost"]) == ((theirs - ours).total(), (ours - theirs).total())
    # The second time nothing is asked, and the record is as it was.
    again, none = replayed(other, mine, 1)
    assert none == 0 and again.rows.equals(found.rows)
    assert fingerprint(turned) == before
    assert (found.rows.filter(pl.col("outcome") != "kept")["why"].null_count()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("heard", [True, False], ids=["known", "asked anew"])
def test_judgments_are_judged_whatever_the_seed_of_the_replay(small: Recipe, tmp_path: Path, heard: bool) -> None:
    other = replace(small, judges=(rubric,), keep=(), pick=MaxMin(), meta=meta, prompts=Sums(side=2, first=0, last=8))
    home = selected(other if heard else replace(other, judges=small.judges, meta=None), tmp_path)
    found, questions = replayed(replace(other, seed=other.seed + 7), home, 1)
    prompts = Store(home / "flywheel.duckdb").sql("select prompt from proposals")["prompt"]
    assert len(found.examples[1].filter(~pl.col("prompt").is_in(prompts.implode()))), "nothing teaches to judge"
    assert (questions == 0) is heard


def rows(examples: pl.DataFrame) -> list[tuple[object, ...]]:
    return examples.select("prompt", "chosen", "rejected", "weight").rows()


@pytest.mark.slow
def test_what_was_asked_before_a_replay_was_stopped_is_not_asked_again(
    small: Recipe, turned: Path, tmp_path: Path
) -> None:
    home, other = copied(turned, tmp_path), replace(small, judges=(rubric,), batch=8)
    with planned(lambda number: other, home, None, [2]) as plan:
        (all_of_them,) = plan.costs("judges")
        next(plan.judge("judges"))
    with planned(lambda number: other, home, None, [2]) as plan:
        (rest,) = plan.costs("judges")
    every = different(home, 2)
    batch, others = (every.filter(pl.col("position") < 8), every.filter(pl.col("position") >= 8))
    assert (all_of_them.questions, rest.questions) == (len(every), len(others))
    assert all_of_them[:5] == (rubric.name, "policy", "toy", 3, False)
    kept = Store(home / REPLAYS)
    assert len(kept.sql("from judgments")) == 3 * 8 * small.sampling.n
    assert len(kept.sql("from generations")) == 3 * len(batch)
    policy = Store(home / "flywheel.duckdb").sql("select policy from iterations where number = 2").item()
    assert kept.sql("select distinct checkpoint from generations").item() == policy


def different(home: Path, iteration: int) -> pl.DataFrame:
    """The answers of an iteration, those to a prompt that say the same once, with the prompt's `position`."""
    query = """select distinct p.position, p.prompt, a.text from answers a join iterations i on i.number = a.iteration
               join proposals p on p.iteration = i.id and p.prompt = a.prompt where i.number = $number"""
    return Store(home / "flywheel.duckdb").sql(query, {"number": iteration})


def copied(turned: Path, home: Path) -> Path:
    """The run in a home of its own, where a replay may leave something."""
    home.mkdir(exist_ok=True)
    for name in ("checkpoints", "flywheel.duckdb"):
        (home / name).symlink_to(turned / name)
    return home


@pytest.mark.slow
def test_gained_and_lost_rows_say_which_filter_it_was_and_what_they_scored(small: Recipe, turned: Path) -> None:
    other = replace(small, judges=(Numeric(after="Answer:", tolerance=1.5),), keep=(Correct(), Cap(1)))
    found, _ = replayed(other, turned, 1)
    gained, lost = (found.rows.filter(outcome=outcome) for outcome in ("gained", "lost"))
    assert len(gained) and len(lost)
    wrong = gained.filter(pl.col("score_then") == 0)
    assert len(wrong) and set(wrong["why"]) == {"dropped by Correct()"} and set(wrong["score_now"]) == {1.0}
    assert not wrong["right"].any() and lost["right"].all() and set(lost["why"]) == {"dropped by Cap(n=1)"}
    line = found.iterations.row(0, named=True)
    assert line["right_then"] == 1 and line["right_now"] == pytest.approx(
        found.rows.filter(pl.col("position_now").is_not_null())["right"].mean()
    )
    assert line["right_now"] < 1


@pytest.mark.slow
def test_a_rule_that_was_changed_but_not_its_name_is_noticed(small: Recipe, tmp_path: Path) -> None:
    old, new = (tmp_path / name for name in ("old.py", "new.py"))
    for path, test in ((old, "> 12"), (new, "> 20")):
        path.write_text(MINE.replace("{test}", test).replace("{base!r}", repr(small.base)))
    from flywheel.recipe.load import load

    few = ("prompts.side=2", "exam.prompts.side=2")
    home = selected(load(old, overrides=few), tmp_path / "home")
    found, _ = replayed(load(new, overrides=few), home)
    lengths = Store(home / "flywheel.duckdb").sql("select length(text) as n from generations where role = 'answer'")[
        "n"
    ]
    changed = ((lengths > 12) & (lengths <= 20)).sum()
    assert found.iterations["notes"].to_list() == [
        [f"mine now says something else of {changed} of 64 answers than it did then"]
    ]
    assert found.iterations["lost"].sum() == changed > 5


# Runs that are not at their end


@pytest.mark.slow
def test_of_a_run_that_goes_on_what_is_selected_is_replayed(small: Recipe, turned: Path, tmp_path: Path) -> None:
    home = until("sample", 2, replace(small, batch=8), tmp_path)
    found, _ = replayed(small, home)
    assert found.iterations["iteration"].to_list() == [1] and found.iterations["same"].all()
    assert list(found.left_out) == ["iteration 2 has answered 8 of 32 prompts"]
    with pytest.raises(FlywheelError, match="cannot be replayed there: iteration 2 has answered 8 of 32 prompts"):
        replayed(small, home, 2)
    until("judge", 2, small, home)
    found, _ = replayed(small, home)
    assert list(found.left_out) == ["iteration 2 has not selected what trains, but --iteration 2 replays it"]
    found, _ = replayed(small, home, 1, 2)
    assert found.examples[2].equals(stored(turned, 2)) and found.iterations["trained"][1] == 0
    assert found.iterations["gained"][1] == len(stored(turned, 2))
    assert found.iterations["notes"].to_list() == [[], ["it has not selected what trains yet, so every row is gained"]]


@pytest.mark.slow
def test_what_cannot_be_replayed_is_told_in_a_sentence(small: Recipe, turned: Path, tmp_path: Path) -> None:
    with pytest.raises(FlywheelError, match=r"`flywheel run RECIPE` makes one"):
        replayed(small, tmp_path / "nowhere")
    with (
        pytest.raises(StoreError, match="holds no run 'other'; its runs are toy"),
        planned(lambda number: small, turned, "other"),
    ):
        pass
    with pytest.raises(FlywheelError, match="iteration 0 makes the base"):
        replayed(small, turned, 0)
    with pytest.raises(FlywheelError, match="run toy has no iteration 7: it has those from 0 to 2"):
        replayed(small, turned, 7)
    young = until("examine", 0, small, tmp_path / "young")
    with pytest.raises(FlywheelError, match="run toy has selected nothing that trains yet$"):
        replayed(small, young)


@pytest.mark.slow
def test_a_judge_that_cannot_judge_these_answers_is_refused(small: Recipe, tmp_path: Path) -> None:
    chatty = replace(small, prompts=Sums(side=2, first=0, last=8), judges=(rubric,), keep=(Finished(),))
    home = selected(chatty, tmp_path)
    with pytest.raises(
        RecipeError, match=r"does not fit the answers of run toy: judge Numeric\(after='Total'\) v2 gave none"
    ):
        replayed(replace(chatty, judges=(Numeric(after="Total"),), keep=(Correct(),)), home)


@pytest.mark.slow
def test_an_engine_or_weights_that_are_not_there_are_told_when_they_are_needed(
    small: Recipe, turned: Path, tmp_path: Path
) -> None:
    home = copied(turned, tmp_path)
    assert replayed(replace(small, engine="vllm"), home)[1] == 0  # rules need none
    with pytest.raises(RecipeError, match="there is no engine 'steam'"):
        replayed(replace(small, engine="steam", judges=(rubric,)), home)
    gone = replace(rubric, model=replace(rubric.model, weights=str(tmp_path / "gone")))
    with pytest.raises(FlywheelError, match="gone"):
        replayed(replace(small, judges=(gone,)), home)


# On the screen


@pytest.fixture
def call(small: Recipe, turned: Path, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """The command on the run, with a recipe file of our own."""
    home, path = copied(turned, tmp_path / "home"), tmp_path / "mine.py"
    lines = ("from dataclasses import replace", "from flows.recipes.toy import recipe as toy",
             "from judges.models.rubric import Rubric", "from flywheel import Asked, Sampling",
             f"recipe = replace(toy, base={small.base!r})",
             "asked = Asked(sampling=Sampling(n=3, temperature=0.7, max_tokens=64))")  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    (tmp_path / "graded.py").write_text(
        "\n".join(lines) + "\nrecipe = replace(recipe, judges=(Rubric(model=asked),))\n"
    )

    def call(recipe: str, *more: object) -> tuple[int, str, str]:
        argv = ["replay", str(tmp_path / recipe), "--home", str(home), *map(str, more)]
        done = CliRunner().invoke(app, argv, catch_exceptions=False)
        return done.exit_code, done.stdout, done.stderr

    return call


@pytest.mark.slow
def test_people_see_tables_examples_and_when_nothing_differs(call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = call("mine.py")
    assert (code, err) == (0, "") and "nothing differs: the same rows in the same order in both iterations" in out
    code, out, err = call("mine.py", "--iteration", 1, "--set", "keep.1.n=1", "--examples", 2)
    told = {
        cells[1]: cells[3:]
        for cells in ([c.strip() for c in line.split("│")] for line in out.splitlines())
        if len(cells) == 12
    }
    assert code == 0 and set(told) == {"1"} and "nothing differs" not in out
    assert out.count("  prompt    What is ") == 2 and "iteration 1, lost: 2 of " in out and "gained:" not in out
    assert "dropped by Cap(n=1)" in out and "Cap(n=2)" in out and "score then 1, now 1" in out


@pytest.mark.slow
def test_the_cost_is_told_first_and_alone_if_that_is_wanted(
    call: Callable[..., tuple[int, str, str]], turned: Path
) -> None:
    count = sum(len(different(turned, number)) for number in (1, 2))
    told = f"{rubric.name} asks policy on engine toy {count} questions, 3 replies to each\n"
    assert call("graded.py", "--cost") == (0, told, "")
    code, _, err = call("graded.py", "--set", "keep.0.threshold=3")
    assert (code, err) == (0, told)
    assert call("graded.py", "--cost") == (0, "no model has to be asked\n", "")


@pytest.mark.slow
def test_programs_get_an_object_for_each_row_and_trl_its_files(
    call: Callable[..., tuple[int, str, str]], turned: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sets"
    code, out, _ = call("mine.py", "--set", "keep.1.n=1", "--json", "--export", folder)
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and set(found[0]) == set(ROWS) and {row["iteration"] for row in found} == {1, 2}
    would = [row for row in found if row["iteration"] == 2 and row["position_now"] is not None]
    lines = [json.loads(line) for line in (folder / "iteration-2.jsonl").read_text().splitlines()]
    assert [line["completion"] for line in lines] == [
        [{"role": "assistant", "content": row["chosen"]}] for row in sorted(would, key=lambda row: row["position_now"])
    ]
    assert len(pl.read_parquet(folder / "iteration-2.parquet")) == len(lines) < len(stored(turned, 2))
    code, _, err = call("mine.py", "--export", folder)
    assert code == 2 and "is there already and not empty" in err
    code, _, err = call("mine.py", "--run", "other")
    assert code == 2 and err.startswith("error: ") and "holds no run 'other'" in err


def test_what_a_model_wrote_cannot_reach_the_terminal() -> None:
    assert one_line("\x1b[31mred\x07\r\n\u202eok é\t[bold]") == r"\x1b[31mred\x07\r\n\u202eok é\t[bold]"
    assert one_line("a" * 301, 300) == "a" * 300 + "…"


# What is the same row


texts = st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from("xyz"), st.sampled_from(["n", None])), max_size=9)


@given(texts, texts)
def test_rows_are_kept_as_often_as_both_sets_have_them_wherever_they_are(
    then: list[tuple[str, str, str | None]], now: list[tuple[str, str, str | None]]
) -> None:
    found = matched(examples(then), examples(now))
    kept, gained, lost = (
        Counter(found.filter(outcome=outcome).select("prompt", "chosen", "rejected").rows())
        for outcome in ("kept", "gained", "lost")
    )
    ours, theirs = Counter(then), Counter(now)
    assert (kept, gained, lost) == (ours & theirs, theirs - ours, ours - theirs)
    assert found["position_now"].drop_nulls().to_list() == list(range(len(now)))
    assert sorted(found["position_then"].drop_nulls()) == list(range(len(then)))


def test_of_rows_that_say_the_same_those_of_the_same_answers_are_the_same() -> None:
    three = examples([("p", "x", None)] * 3)
    found = matched(three, three.slice(1).with_columns(position=pl.int_range(2, dtype=pl.Int32)))
    told = found.select("outcome", pl.col("generations").list.first()).rows()
    assert told == [("kept", "g1"), ("kept", "g2"), ("lost", "g0")]


def test_the_reason_is_that_of_the_row_and_not_of_one_that_says_the_same() -> None:
    then = examples([("p", "x", None), ("p", "x", None), ("p", "y", "x")])
    now = then.slice(1, 1).with_columns(position=pl.lit(0, pl.Int32))
    decided = [("i", 0, "Cap(n=1)", "g0", False, "dropped by Cap(n=1)")]
    decided += [("i", 0, "Cap(n=1)", f"g{at}", True, "kept") for at in (1, 2, 3)]
    selections = pl.DataFrame(decided, schema=SELECTIONS, orient="row")
    pairs = then.with_columns(generations=pl.Series([["g0"], ["g1"], ["g1", "g1"]]))
    none = pl.DataFrame(schema={"generation": pl.String, "score": pl.Float64})
    sides = Side(selections, pairs, none), Side(selections, now, none)
    rows = difference(1, 4, *sides, nobody_knows(), []).rows
    assert rows.select("outcome", "chosen", "why").rows() == [
        ("kept", "x", None),
        ("lost", "x", "dropped by Cap(n=1)"),
        ("lost", "y", "was picked, but for another row"),
    ]


@pytest.mark.slow
def test_a_judge_that_is_tried_out_does_not_tell_what_is_right(small: Recipe, turned: Path) -> None:
    worse = Numeric(after="Answer:", tolerance=1.5)
    for exam in (small.exam, replace(small.exam, judge=worse)):
        found, _ = replayed(replace(small, judges=(worse,), exam=exam, keep=(Correct(), Cap(1))), turned, 1)
        line = found.iterations.row(0, named=True)
        assert line["right_by"] == small.exam.judge.name and line["right_now"] < 1.0 == line["right_then"]


def examples(rows: list[tuple[str, str, str | None]]) -> pl.DataFrame:
    full: list[dict[str, Any]] = [
        {"dataset": "d", "position": at, "prompt": prompt, "chat": [], "chosen": chosen, "rejected": rejected}
        | {"weight": 1.0, "origin": "synthetic", "generations": [f"g{at}"]}
        for at, (prompt, chosen, rejected) in enumerate(rows)
    ]
    return pl.DataFrame(full, schema=EXAMPLES, orient="row")
