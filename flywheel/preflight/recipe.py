"""What is wrong with a recipe, found before any work is done and told all at once."""

import contextlib
import dataclasses
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping

import polars as pl

from flywheel.engines.penalties import changed
from flywheel.engines.table import engines_in_words, known, missing, row_of
from flywheel.errors import RecipeError
from flywheel.identity import describe, named, parts
from flywheel.preflight.limits import rules
from flywheel.preflight.prompts import prompt_problems
from flywheel.protocols import POLICY, AnyJudge, Asked, Pick, Sampling, askers
from flywheel.recipe.overrides import annotations, convert, type_words
from flywheel.recipe.places import located
from flywheel.recipe.recipe import Alarm, Recipe
from flywheel.store.schema import JUDGED
from flywheel.training.settings import Dpo, Kto, Scratch, Sft

HUB_ID = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?")


def check_recipe(recipe: Recipe) -> None:
    """Raise RecipeError with every reason, one in a line, why this recipe cannot work."""
    found = list(_wrong_types(recipe)) or [
        *_wrong_values(recipe),
        *_nameless(recipe),
        *_wrong_together(recipe),
        *_wrong_drawing(recipe),
        *_wrong_training(recipe),
        *engine_problems(recipe),
        *_wrong_base(recipe),
        *prompt_problems(recipe),
    ]
    if len(found) == 1:
        raise RecipeError(f"recipe {recipe.name}: {found[0]}")
    if found:
        raise RecipeError("\n  ".join([f"recipe {recipe.name} cannot run, for {len(found)} reasons:", *found]))


def check_all(recipe_at: Callable[[int], Recipe], iterations: int | None = None) -> Recipe:
    """Check the recipe of every iteration that differs from the one before; gives the first."""
    first = recipe_at(1)
    check_recipe(first)
    before = first
    for number in range(2, (iterations or first.iterations) + 1):
        recipe = recipe_at(number)
        if recipe != before:
            check_recipe(recipe)
        before = recipe
    return first


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong_types(recipe: Recipe) -> Iterator[str]:
    for path, part in parts(recipe):
        for name, annotation in annotations(part).items() if rules(part) is not None else ():
            try:
                convert(getattr(part, name), annotation)
            except (TypeError, ValueError):
                yield f"{_join(path, name)} must be {type_words(annotation)}, not {getattr(part, name)!r}"


def _wrong_values(recipe: Recipe) -> Iterator[str]:
    for path, part in parts(recipe):
        for name, (fits, must) in (rules(part) or {}).items():
            if not fits(getattr(part, name)):
                yield f"{_join(path, name)} must be {must}, not {getattr(part, name)!r}"


def _nameless(recipe: Recipe) -> Iterator[str]:
    """Parts that cannot be written down in the store as what they are."""
    for path, part in parts(recipe):
        name = getattr(part, "__qualname__", "")
        if "<lambda>" in name or "<locals>" in name:
            yield f"{path} is a function that cannot be told from another: write it as a def at the file's top level"
        elif not dataclasses.is_dataclass(part) and not isinstance(part, (Mapping, tuple, list)):
            try:
                describe(part)
            except TypeError as error:
                yield f"{path}: {error}"


def _wrong_together(recipe: Recipe) -> Iterator[str]:
    """Values that are fine alone but not beside each other."""
    for path, part in parts(recipe):
        if isinstance(part, Sampling) and part.temperature == 0 and part.n > 1:
            yield f"{path} draws {part.n} answers at temperature 0, which would all be the same"
        if isinstance(part, Alarm) and part.at_least is None and part.at_most is None:
            yield f"{path} has no line to cross: give it at_least or at_most"
        if isinstance(part, Scratch) and part.heads > 0 and part.hidden % part.heads:
            yield f"{path}.hidden ({part.hidden}) must be a multiple of {path}.heads ({part.heads})"
    names = [judge.name for judge in recipe.judges]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"judges holds {name} more than once"
    if _asks_policy(recipe.exam.judge):
        yield "exam.judge is the policy itself, which would grade its own exam: use a rule or other weights"
    if recipe.gold and _asks_policy(recipe.gold):
        yield "gold is the policy itself, which does not know the truth about itself: use a rule or other weights"
    for k in recipe.exam.ks:
        if not 1 <= k <= recipe.exam.sampling.n:
            yield f"exam.ks holds {k}, but the exam draws {recipe.exam.sampling.n} answers (exam.sampling.n)"


def _wrong_drawing(recipe: Recipe) -> Iterator[str]:
    """Parameters that the engine which draws does not have; a server says so itself. Lengths that cannot be."""
    held = dict(parts(recipe))
    for path, part in held.items():
        if isinstance(part, Sampling):
            if part.min_tokens > part.max_tokens:
                yield f"{path}.min_tokens is {part.min_tokens}, which is more than its max_tokens, {part.max_tokens}"
            asked = held[path.rpartition(".")[0]]
            engine = (asked.engine if isinstance(asked, Asked) else None) or recipe.engine
            row = known(engine)
            for name, value in changed(part).items() if row and not row.penalties else ():
                told = f"{_join(path, name)} is {value}, but the engine {engine} has no {name}"
                yield f"{told}: leave it out, or use another"


def _wrong_training(recipe: Recipe) -> Iterator[str]:
    """Losses that do not go together, and picks that make no pairs for a training that learns from them."""
    if isinstance(recipe.train, Dpo):
        yield from (f"train.{problem}" for problem in _wrong_losses(recipe.train))
    if isinstance(recipe.train, (Sft, Kto)):
        return
    picks = {"pick": recipe.pick, **({"meta.pick": recipe.meta.pick} if recipe.meta else {})}
    for path, pick in picks.items():
        if _makes_no_pairs(pick):
            kind = type(recipe.train).__name__
            yield f"{path} {named(pick)} makes no pairs, and train is {kind}, which learns from them"


def _wrong_losses(dpo: Dpo) -> Iterator[str]:
    smoothed = {"robust", "exo_pair", "aot", "aot_unpaired"} & set(dpo.loss)
    if dpo.loss_weights is not None and len(dpo.loss_weights) != len(dpo.loss):
        yield f"loss_weights has {len(dpo.loss_weights)} numbers for {len(dpo.loss)} losses"
    if dpo.label_smoothing and not smoothed:
        yield "label_smoothing has no effect on these losses: it is for robust, exo_pair, aot and aot_unpaired"
    if "exo_pair" in dpo.loss and not dpo.label_smoothing:
        yield "label_smoothing must be more than 0 for exo_pair; its paper has 0.001"


def _makes_no_pairs(pick: Pick) -> bool:
    """Whether it makes rows of four made-up answers, and none of them a pair."""
    rows = [{"generation": str(at), "prompt": "p", "index": at, "text": "no" * at, "score": at / 3} for at in range(4)]
    picked = pl.DataFrame()
    with contextlib.suppress(Exception):  # it wants other answers than these
        picked = pick(pl.LazyFrame(rows, schema=JUDGED)).collect()
    return len(picked) > 0 and picked["rejected"].null_count() == len(picked)


def _asks_policy(judge: AnyJudge) -> bool:
    return any(asker.model and asker.model.weights == POLICY for asker in askers(judge))


def engine_problems(recipe: Recipe) -> Iterator[str]:
    """Why the recipe's engine and training cannot run in this installation."""
    asked = {path: part.engine for path, part in parts(recipe) if isinstance(part, Asked) and part.engine}
    for path, engine in {
        "engine": recipe.engine,
        **{_join(path, "engine"): name for path, name in asked.items()},
    }.items():
        try:
            row, needs = row_of(engine), missing(engine)
        except RecipeError as error:
            yield f"{path}: {error}"
            continue
        if path == "engine" and not row.answers:
            yield f"{path} is {engine}, which gives no answers: it can be {engines_in_words(engine, answers=True)}"
        if path == "engine" and row.real and _with_lora(recipe) and importlib.util.find_spec("peft") is None:
            needs["peft"] = "train"
        for library, extra in needs.items():
            yield f"{path} {engine} needs {library}, which is not installed: install flywheel's extra {extra}"


def _with_lora(recipe: Recipe) -> bool:
    return bool(recipe.train.lora or (recipe.warm_start and recipe.warm_start.train.lora))


def _wrong_base(recipe: Recipe) -> Iterator[str]:
    base = recipe.base
    row = known(recipe.engine)
    if isinstance(base, Scratch) or row is None or not row.real:
        return
    folder = located(base)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            yield f"base {base} is no model folder: it holds no config.json"
    elif not HUB_ID.fullmatch(base) or base.startswith("."):
        yield f"base {base} does not exist: give a folder with a model, or a Hub id such as Qwen/Qwen3-0.6B"
