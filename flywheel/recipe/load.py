"""From a name or a path to a recipe."""

import importlib
import importlib.util
import linecache
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from flywheel.errors import FlywheelError, RecipeError
from flywheel.identity.shipped import recorded
from flywheel.recipe.overrides import override, unknown, unknown_field
from flywheel.recipe.places import means
from flywheel.recipe.recipe import Recipe
from flywheel.root import PACKAGES_BESIDE, ROOT

RECIPES = ROOT / "flows" / "recipes"
UNEXPECTED = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


def load(name_or_path: str | Path, iteration: int = 1, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of one iteration, with settings like `sampling.n=4`. RecipeError says what is wrong and where."""
    path = find(str(name_or_path))
    means(path.parent)
    module = _run(path)
    made = getattr(module, "recipe", None)
    if callable(made):
        try:
            made = made(iteration)
        except Exception as error:
            raise _blame(path, error) from error
    if not isinstance(made, Recipe):
        what = "does not define `recipe`" if made is None else f"defines `recipe` as {made!r}, which is not a Recipe"
        raise RecipeError(f"{path} {what}: it needs `recipe = Recipe(...)` or `def recipe(iteration) -> Recipe`")
    return override(made, overrides)


def shipped() -> dict[str, Path]:
    """The recipes that come with the program, by name."""
    return {path.stem.replace("_", "-"): path for path in sorted(RECIPES.glob("[!_]*.py"))}


def find(name: str) -> Path:
    """The file of a shipped recipe's name (dash or underscore) or of a path."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.suffix == ".py" or len(path.parts) > 1:
        raise RecipeError(f"there is no recipe file {name}")
    known = shipped()
    if name.replace("_", "-") in known:
        return known[name.replace("_", "-")]
    raise RecipeError(f"there is no recipe {name!r}{unknown(name, list(known), 'Recipes')}, or the path of a .py file")


def _run(path: Path) -> ModuleType:
    # The name is part of how functions of the file are described in the store, so it must not hold the folder.
    name = f"recipes.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, f"{path} is not a .py file"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up here
    folder = str(path.resolve().parent)
    if path.resolve().parent != RECIPES and folder not in sys.path:
        sys.path.append(folder)  # last, so that a file beside the recipe can be imported but can hide nothing
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _blame(path, error) from error
    return module


def _blame(path: Path, error: Exception) -> FlywheelError:
    """The error as one sentence with the line of the recipe file that it comes from."""
    if isinstance(error, FlywheelError):
        return error
    if isinstance(error, SyntaxError):
        return RecipeError(f"{error.filename}, line {error.lineno}: {error.msg}")
    steps = traceback.walk_tb(error.__traceback__)
    frames = [step for step in steps if Path(step[0].f_code.co_filename).resolve() == path.resolve()]
    if not frames:
        return RecipeError(f"{path}: {type(error).__name__}: {error}")
    frame, line = frames[-1]
    names = {**frame.f_globals, **frame.f_locals}
    return RecipeError(f"{path}, line {line}: {_meant(error, names, linecache.getline(str(path), line))}")


def _meant(error: Exception, names: dict[str, Any], line: str) -> str:
    if isinstance(error, ImportError):
        return f"{type(error).__name__}: {error}{_moved(error, line)}"
    found = UNEXPECTED.match(str(error))
    if not found:
        return f"{type(error).__name__}: {error}"
    kind, field = found.groups()
    known = names.get(kind) or _shipped_kind(kind)
    return f"{kind} has no field {field!r}{unknown_field(known, field)}"


def _shipped_kind(name: str) -> Any:
    known = recorded().get(name)
    return known and getattr(importlib.import_module(known["module"]), name, None)


def _moved(error: ImportError, line: str) -> str:
    """Where that is now which a line imports from us."""
    if (error.name or "").partition(".")[0] not in ("flywheel", *PACKAGES_BESIDE):
        return ""
    names = re.findall(r"\w+", line.partition(" import ")[2]) or _parts_of(str(error.name))
    homes = [f"{name} is {home} now" for name in names if (home := _home(name)) is not None]
    return f": {', '.join(homes)}" if homes else ""


def _home(name: str) -> str | None:
    """Where something of ours is, and by which name; None if we have nothing of the name."""
    for now, part in recorded().items():
        if name == now or name in part["before"]:
            return f"{'' if name == now else f'{now} '}in {part['module']}"
    defined = re.compile(rf"^(?:class |def |)(?:{re.escape(name)})\b(?=[:(]| = )", re.M)
    files = (file for package in ("flywheel", *PACKAGES_BESIDE) for file in sorted((ROOT / package).rglob("*.py")))
    found = next((file for file in files if defined.search(file.read_text(encoding="utf-8"))), None)
    return None if found is None else f"in {'.'.join(found.relative_to(ROOT).with_suffix('').parts)}"


def _parts_of(module: str) -> list[str]:
    return sorted(name for name, part in recorded().items() if module in part["modules"])
