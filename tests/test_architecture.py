"""The rules that keep the house simple, checked with `ast` and in fresh processes."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from flywheel.recipe.load import load, shipped
from flywheel.recipe.recipe import Recipe
from tests import ROOT

OURS = ("flywheel", "judges", "filters", "data", "flows")
ARROWS, MODULES = 140, 14
"""Between rooms, and directly in a room."""
DOORS = {
    "duckdb": ("flywheel/store/",),
    "vllm": ("flywheel/engines/vllm/",),
    "torch": ("flywheel/engines/", "flywheel/training/"),
    "transformers": ("flywheel/engines/", "flywheel/training/"),
    "tokenizers": ("flywheel/engines/", "flywheel/training/"),
    "safetensors": ("flywheel/engines/", "flywheel/training/", "flywheel/checkpoints/"),
    "peft": ("flywheel/engines/", "flywheel/training/"),
    "accelerate": ("flywheel/training/",),
    "trl": ("flywheel/training/",),
    "datasets": ("flywheel/training/", "flywheel/exchange/hub.py"),
    "prefect": ("flows/",),
    "prefect_ray": ("flows/ray/",),
    "ray": ("flows/ray/",),
    "matplotlib": ("flywheel/report/html.py",),
    "rich": ("flywheel/report/", "flywheel/cli/"),
    "typer": ("flywheel/cli/", "flows/"),
    "scipy": ("flywheel/stats/", "flywheel/evaluation/paired_test.py"),
}
SQL_HOMES = (
    "flywheel/store/",
    "flywheel/recipe/adopt.py",
    "flywheel/recipe/runs.py",
    "flywheel/exchange/provenance.py",
    "flywheel/replay/excerpt.py",
)
SQL = re.compile(r"\b(select\b.+\bfrom\b|insert\s+into\b|create\s+(table|view)\b|delete\s+from\b)", re.I | re.S)
EXAMPLES_FOR_USERS = ("flywheel/report/terminal.py",)
"""Prints questions for the user to ask, and asks none itself but `from VIEW`."""
HEAVY = ("torch", "transformers", "vllm", "trl", "prefect", "datasets", "peft", "accelerate")
FILE_LINES, FUNCTION_LINES = 250, 60
LISTS = ("flywheel/store/schema.py",)
"""One declaration after another: as long as what they declare."""
HOMES_OF_A_NAME = 2
SHARED_NAMES = {"propose", "sample", "judge", "select", "train", "examine", "recipe", "main"}
"""The steps, and what is called by its name from outside."""
MEMBERS_OF_KINDS = {"prepared", "trainer"}
"""Of each kind of training, which is a module."""
FORBIDDEN_NAMES = {"utils", "base", "common", "helpers", "misc", "manager"}

FILES = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Module and line of every import, also of those inside functions; a module's name if one is imported from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in FILE_OF else node.module, node.lineno


FILE_OF = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in TREES}
ARROWS_OF = {
    name: {FILE_OF[module] for module, _ in imported(tree) if module in FILE_OF} - {name}
    for name, tree in TREES.items()
}
"""Of each file those of ours that it imports."""


def room_of(name: str) -> str:
    """A folder of flywheel/, a file beside them, or one of the packages around it."""
    package, *inner = name.removesuffix(".py").split("/")
    return package if package != "flywheel" or inner == ["__init__"] else inner[0]


def table() -> dict[str, list[str]]:
    """The rooms that each room imports, as CONTRIBUTING says, from the bottom up."""
    lines = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("|").split("|") for line in lines[lines.index("| room | what it owns | imports |") + 2 :]]
    rows = rows[: next((at for at, row in enumerate(rows) if len(row) != 3), len(rows))]
    return {room.strip(" `"): [word for word in re.split(r"[ ,]+", words) if word] for room, _, words in rows}


def test_rooms_import_what_their_table_says_and_nothing_else() -> None:
    found: dict[str, set[str]] = {room_of(name): set() for name in TREES}
    for name, others in ARROWS_OF.items():
        found[room_of(name)] |= {room_of(other) for other in others} - {room_of(name), "flywheel"}
    assert {room: set(words) for room, words in table().items()} == found


def test_all_arrows_point_up_the_table_and_there_are_few() -> None:
    rooms = table()
    order = list(rooms)
    back = [(room, word) for room, words in rooms.items() for word in words if order.index(word) > order.index(room)]
    assert not back and sum(map(len, rooms.values())) <= ARROWS
    assert not {"judges", "filters", "data"} & {word for room in ("judges", "filters", "data") for word in rooms[room]}


def test_no_file_imports_itself_by_way_of_others() -> None:
    assert len(list(TopologicalSorter(ARROWS_OF).static_order())) == len(TREES)


def test_no_room_is_crowded() -> None:
    modules = Counter(name.rpartition("/")[0] for name in TREES if not name.endswith("/__init__.py"))
    assert not {room: many for room, many in modules.items() if many > MODULES and room != "flows/recipes"}


def test_nothing_is_imported_relative_to_a_file() -> None:
    wrong = [name for name, tree in TREES.items() for node in ast.walk(tree) if getattr(node, "level", 0)]
    assert not wrong


@pytest.mark.parametrize("library", DOORS)
def test_each_heavy_library_has_one_door(library: str) -> None:
    wrong = [
        f"{name}:{line} imports {library}, whose door is {' or '.join(DOORS[library])}"
        for name, tree in TREES.items()
        if not name.startswith(DOORS[library])
        for module, line in imported(tree)
        if module.partition(".")[0] == library
    ]
    assert not wrong, "\n".join(wrong)


def test_sql_lives_in_the_store_its_history_and_its_upkeep() -> None:
    wrong = [
        f"{name}:{line} holds SQL: {text[:60]!r}"
        for name, tree in TREES.items()
        if not name.startswith((*SQL_HOMES, *EXAMPLES_FOR_USERS))
        for text, line in strings(tree)
        if SQL.search(text)
    ]
    assert not wrong, "\n".join(wrong)


def strings(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Strings that are values, with their lines: not those that stand alone, which are docstrings."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value, node.lineno


def loaded_by(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_core_knows_no_terminal_and_the_package_loads_nothing() -> None:
    assert not loaded_by("import flywheel.pipeline.loop") & {*HEAVY, "rich", "typer", "scipy", "pandas"}
    assert not loaded_by("import flywheel") & {*HEAVY, "rich", "typer", "scipy", "pandas", "numpy", "polars", "duckdb"}


def test_what_recipes_need_is_named_by_the_package() -> None:
    import flywheel

    tree = TREES["flywheel/__init__.py"]
    told = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {"Recipe", "Sampling", "Exam", "Gate", "Sft", "Dpo", "run"} <= flywheel._HOME_OF.keys()
    assert {name for name in told if getattr(flywheel, name, None) is not None} >= flywheel._HOME_OF.keys()


def test_the_command_line_starts_without_any_heavy_library() -> None:
    assert not loaded_by("import flywheel.cli.app") & {*HEAVY, "duckdb", "polars", "numpy", "scipy", "matplotlib"}


@pytest.mark.slow
def test_the_steps_and_every_recipe_load_without_heavy_libraries() -> None:
    every = "from flywheel.recipe.load import load, shipped\nfor name in shipped(): load(name)"
    statement = f"import flywheel.pipeline.loop\n{every}"
    assert not loaded_by(statement) & set(HEAVY)


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_loads_and_says_what_it_is(name: str) -> None:
    recipe = load(name)
    assert isinstance(recipe, Recipe)
    for later in range(2, recipe.iterations + 1):
        assert load(name, later).name == recipe.name
    assert ast.get_docstring(ast.parse(shipped()[name].read_text(encoding="utf-8")))


def test_files_and_functions_fit_a_screen_or_a_few() -> None:
    long = [f"{name}: {lines} lines" for name, lines in file_lengths() if lines > FILE_LINES and name not in LISTS]
    long += [
        f"{name}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


def file_lengths() -> Iterator[tuple[str, int]]:
    for path in FILES:
        yield path.relative_to(ROOT).as_posix(), len(path.read_text(encoding="utf-8").splitlines())


def names_with_many_meanings() -> dict[str, list[str]]:
    """Public names that more than HOMES_OF_A_NAME modules define, with these modules."""
    homes: dict[str, list[str]] = {}
    for module, tree in TREES.items():
        for name in public_names(tree) if not module.startswith("flows/recipes/") else ():
            homes.setdefault(name, []).append(module)
    return {
        name: modules
        for name, modules in homes.items()
        if len(modules) > HOMES_OF_A_NAME and name not in SHARED_NAMES | MEMBERS_OF_KINDS
    }


def test_no_public_name_means_more_than_two_things() -> None:
    assert not names_with_many_meanings()


def public_names(tree: ast.Module) -> set[str]:
    """The functions, classes and constants that a module defines at its top."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return {name for name in found if not name.startswith("_")}


def test_no_file_is_named_for_nothing() -> None:
    assert not [name for name in TREES if Path(name).stem in FORBIDDEN_NAMES]


def test_public_classes_and_modules_say_what_they_are() -> None:
    silent = [name for name, tree in TREES.items() if tree.body and not ast.get_docstring(tree)]
    silent += [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in TREES.items()
        if name not in ("flywheel/errors.py", "flywheel/recipe/recipe.py")  # their docstring or comments say it for all
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert not silent, "\n".join(silent)
