"""Ids last while what they name means the same, and change when it does not."""

import dataclasses
import importlib.util
import json
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flywheel.identity import describe, describe_text, is_part, names, parts, shipped, title
from flywheel.identity.changes import changes
from flywheel.identity.reach import Code, code_of
from flywheel.protocols import Asked, Sampling
from flywheel.recipe.load import load
from flywheel.recipe.load import shipped as shipped_recipes
from flywheel.recipe.recipe import Recipe, run_id
from flywheel.training.settings import Sft
from judges.ensembles import Jury
from judges.models.rubric import Rubric

MODULES = iter(range(10**6))


def kinds() -> list[type]:
    """Every dataclass that shipped recipes reach."""
    recipes = [load(name, iteration) for name in shipped_recipes() for iteration in (1, 4)]
    return sorted({type(part) for recipe in recipes for _, part in parts(recipe) if is_part(part)}, key=str)


def instances() -> Iterator[Any]:
    seen = set()
    for name in shipped_recipes():
        for _, part in parts(load(name)):
            if is_part(part) and type(part) not in seen:
                seen.add(type(part))
                yield part


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., types.ModuleType]:
    """Writes a file and runs it as a new module of a user's."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(source: str, name: str | None = None) -> types.ModuleType:
        name = name or f"mine_{next(MODULES)}"
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(source))
        made = types.ModuleType(name)
        made.__file__ = str(path)
        monkeypatch.setitem(sys.modules, name, made)
        exec(compile(path.read_text(), str(path), "exec"), vars(made))
        return made

    return run


def test_there_are_many_parts_to_look_at():
    assert {Recipe, Sampling, Sft, Asked, Rubric} <= set(kinds())
    assert len(kinds()) > 30


def test_a_field_with_a_default_that_is_added_changes_no_id():
    for part in instances():
        kind = type(part)
        before = {"known_as": names(kind)[:-1]}
        more = make_dataclass(
            kind.__name__, [("added", float, 0.5)], bases=(kind,), namespace=before, frozen=True, kw_only=True
        )
        same = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
        assert stripped(describe(more(**same))) == stripped(describe(part)), kind
        assert stripped(describe(more(**same, added=0.25))) != stripped(describe(part)), kind


def remade(part: Any, name: str, renamed: str = "", **members: Any) -> Any:
    """The same part of a class of that name in another module, with one field under another name that has an alias."""
    fields, values = [], {}
    for f in dataclasses.fields(part):
        now = f"{f.name}_now" if f.name == renamed else f.name
        known = {"known_as": (*f.metadata.get("known_as", ()), f.name)} if f.name == renamed else dict(f.metadata)
        kept = {key: value for key in ("default", "default_factory") if (value := getattr(f, key)) is not MISSING}
        fields.append((now, Any, field(metadata=known, kw_only=True, **kept)))
        values[now] = getattr(part, f.name)
    made = make_dataclass(name, fields, frozen=True, namespace={"__module__": "moved.elsewhere", **members})
    return made(**values)


def test_every_part_and_every_field_can_be_renamed_and_moved():
    for part in instances():
        kind = type(part)
        same = stripped(describe(part))
        assert stripped(describe(remade(part, "Renamed", known_as=names(kind)))) == same, kind
        assert stripped(describe(remade(part, "Renamed"))) != same, kind
        for f in dataclasses.fields(part):
            again = remade(part, kind.__name__, f.name, known_as=names(kind)[:-1])
            assert stripped(describe(again)) == same, (kind, f.name)


def stripped(described: Any) -> Any:
    """Without the code of a class in a test, and the version of the shipped one that it stands for."""
    return {name: item for name, item in described.items() if name not in ("code", "version")}


def test_a_renamed_field_and_a_renamed_class_keep_their_ids_by_their_alias():
    @dataclass(frozen=True)
    class Grader:
        known_as: ClassVar[tuple[str, ...]] = ("Marker", "Critic")
        lowest: float = field(default=0.0, metadata={"known_as": ("low", "least")})

    @dataclass(frozen=True)
    class Marker:
        low: float = 0.0

    assert stripped(describe(Grader(2.5))) == stripped(describe(Marker(2.5))) == {"is": "Marker", "low": 2.5}
    assert names(Grader) == ("Marker", "Critic", "Grader")
    recorded = json.loads(describe_text(Marker(2.5))) | {"code": describe(Grader())["code"]}
    assert not list(changes(Grader(2.5), recorded))
    (change,) = changes(Grader(3.0), recorded)
    assert str(change) == "lowest was 2.5 and is 3"


def test_a_module_that_moves_changes_nothing(module):
    source = """
        from dataclasses import dataclass
        LIMIT = 5
        @dataclass(frozen=True)
        class Short:
            words: int = 3
            def __call__(self, judged):
                return judged.head(min(self.words, LIMIT))
        def pick(judged):
            return judged
    """
    one, other = module(source), module(source)
    assert one.Short.__module__ != other.Short.__module__
    assert describe(one.Short(7)) == describe(other.Short(7)) and describe(one.pick) == describe(other.pick)


def test_every_value_of_every_part_counts():
    for part in instances():
        for changed in changed_values(part):
            assert describe(changed) != describe(part), (type(part), changed)
            assert list(changes(changed, json.loads(describe_text(part)))), (type(part), changed)


def changed_values(part: Any) -> Iterator[Any]:
    for f in dataclasses.fields(part):
        value = getattr(part, f.name)
        other: Any = {bool: not value, int: 1, float: 0.125, str: "x"}.get(type(value))
        if type(value) in (int, float, str):
            other = value + other
        if other is not None and f.init:
            changed = object.__new__(type(part))
            for g in dataclasses.fields(part):
                object.__setattr__(changed, g.name, other if g.name == f.name else getattr(part, g.name))
            yield changed


def test_whole_numbers_mean_the_same_as_floats_and_truth_is_no_number():
    assert describe(Sampling(temperature=0)) == describe(Sampling(temperature=0.0))  # type: ignore[arg-type]
    assert describe([True]) != describe([1]) or json.dumps(describe([True])) != json.dumps(describe([1]))


def test_the_ids_of_shipped_recipes_are_these():
    ids = json.loads((Path(__file__).parent / "ids.json").read_text())
    assert {name: run_id(load(name)) for name in shipped_recipes()} == ids


EDITS = {
    "a constant": ("LIMIT = 5", "LIMIT = 6"),
    "a helper": ("return len(text)", "return len(text) + 1"),
    "the body": ("* 2", "* 3"),
    "a default": ("least: int = 1", "least: int = 2"),
    "an imported module": ("# of helper", "WORDS = 3"),
    "a name that is not there": ("* 2", "* nowhere"),
    "a function inside": ("text.strip()", "text.lstrip()"),
    "a class that is used": ("sign = 1", "sign = -1"),
}
JUDGE = """
    import re
    from dataclasses import dataclass
    from pathlib import Path
    import helper_mine
    LIMIT = 5
    OTHER = 7
    class Signs:
        sign = 1
    def size(text):
        "How long."
        return len(text)
    @dataclass(frozen=True)
    class Mine:
        least: int = 1
        def score(self, text):
            def clean(text):
                return text.strip()
            return min(size(clean(text)) * 2, LIMIT) * Signs.sign * helper_mine.WORDS * self.least
        def wording(self):
            return Path(__file__).with_name("words.txt").read_text()
    def unused():
        return OTHER
    recipe = 1
"""


@pytest.fixture
def mine(module, tmp_path: Path) -> Callable[..., Code]:
    """The code of `Mine` in a file with an edit."""

    def code(old: str = "", new: str = "", *, helper: str = "WORDS = 2  # of helper", text: str = "Judge.") -> Code:
        (tmp_path / "words.txt").write_text(text)
        if old == "# of helper":
            helper = helper.replace("WORDS = 2", new)
        module(helper, "helper_mine")
        assert old in JUDGE or old == "# of helper"
        return code_of(module(JUDGE.replace(old, new) if old in JUDGE and old else JUDGE).Mine)

    return code


@pytest.mark.parametrize("edit", EDITS)
def test_code_that_a_part_reaches_counts(edit, mine):
    assert mine(*EDITS[edit]).hash != mine().hash


def test_a_text_beside_it_counts(mine):
    assert mine(text="Judge well.").hash != mine().hash


@pytest.mark.parametrize(
    "old, new",
    [
        ("LIMIT = 5", "LIMIT = 5  # at most"),
        ('"How long."', '"How long it is."'),
        ("    LIMIT = 5", "\n\n    LIMIT = 5"),
        ("OTHER = 7", "OTHER = 8"),
        ("return OTHER", "return OTHER + 1"),
        ("recipe = 1", "recipe = 2"),
    ],
)
def test_what_it_does_not_reach_does_not_count(old, new, mine):
    assert mine(old, new).hash == mine().hash


KINDS = {  # what a part may reach: the file, and an edit in it
    "a base class": ("class B:\n  def f(self): return 1\nclass Mine(B): pass", "return 1", "return 2"),
    "a decorator": ("def d(f):\n  return lambda s: f(s) + 1\nclass Mine:\n  @d\n  def f(self): return 1", "+ 1", "+ 2"),
    "one of two lambdas": ("A, G = lambda: 1, lambda: 5\nclass Mine:\n  def f(self): return G()", "5", "6"),
    "a table of functions": ("def a(): return 1\nT = {0: a}\nclass Mine:\n  def f(self): return T[0]()", "n 1", "n 2"),
    "a partial": (
        "import functools\nP = functools.partial(max, 1)\nclass Mine:\n  def f(self): return P(2)",
        "1)",
        "3)",
    ),
    "an expression": ("import polars as pl\nE = pl.col('a') > 3\nclass Mine:\n  def f(self): return E", "> 3", "> 4"),
    "a frame": (
        "import polars as pl\nE = pl.DataFrame({'a': [1]})\nclass Mine:\n  def f(self): return E",
        "[1]",
        "[2]",
    ),
    "a pattern": ("import re\nR = re.compile('a+')\nclass Mine:\n  def f(self): return R", "a+", "b+"),
    "an object": (
        "class T:\n  def __init__(s): s.x = 1\nI = T()\nclass Mine:\n  def f(self): return I.x",
        "x = 1",
        "x = 2",
    ),
    "a cached function": (
        "import functools\n@functools.cache\ndef g(): return 3\nclass Mine:\n  def f(self): return g()",
        "n 3",
        "n 4",
    ),
    "a default's factory": (
        "from dataclasses import dataclass, field\ndef mk(): return (1,)\n@dataclass(frozen=True)\nclass Mine:\n"
        "  x: tuple = field(default_factory=mk)",
        "(1,)",
        "(2,)",
    ),
    "an enumeration": (
        "import enum\nclass C(enum.Enum):\n  A = 1\nclass Mine:\n  def f(self): return C.A",
        "A = 1",
        "A = 2",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_thing_that_is_reached_counts(kind, module):
    source, old, new = KINDS[kind]
    assert old in source
    first, again, edited = (code_of(module(text).Mine) for text in (source, source, source.replace(old, new)))
    assert first == again and first.hash != edited.hash and not first.unseen


def test_code_without_a_source_is_said():
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("def typed(judged):\n    return judged.head(1)", space)
    assert code_of(space["typed"]).unseen == ("typed",)


def test_a_judge_of_a_user_has_its_code_in_its_title(module):
    source = """
        from dataclasses import dataclass
        @dataclass(frozen=True)
        class Mine:
            model = None
            name = "mine"
            def ask(self, subjects):
                return []
            def read(self, subjects, replies):
                return {}
    """
    first, second = module(source).Mine(), module(source.replace("{}", "None")).Mine()
    assert first.name == second.name == "mine"
    assert title(first).startswith("mine@") and title(first) != title(second)
    assert title(Rubric()) == Rubric().name
    assert title(Jury(members=(first, Rubric()))) != title(Jury(members=(second, Rubric())))


def test_a_shipped_part_that_means_something_else_has_another_id(monkeypatch):
    before, rubric = describe(Rubric()), Rubric()
    recorded = json.loads(describe_text(rubric))
    monkeypatch.setattr(Rubric, "version", 99, raising=False)
    assert describe(rubric) != before and rubric.name not in recorded["called"]
    (change,) = changes(rubric, recorded)
    assert "means something else since its version 99" in str(change)


def test_all_shipped_parts_are_written_down_as_they_are():
    """`python -m flywheel.identity.shipped` writes them down; whoever changes what a part means raises its version."""
    now = shipped.found()
    recorded = {
        name: {key: part[key] for key in ("module", "version", "code", "before")}
        for name, part in shipped.recorded().items()
    }
    assert now == recorded


def test_a_shipped_part_that_was_edited_is_told(monkeypatch):
    edited = {**shipped.recorded(), "Rubric": {**shipped.recorded()["Rubric"], "code": "another"}}
    monkeypatch.setattr(shipped, "recorded", lambda: edited)
    (remark,) = shipped.remarks(replace(load("toy"), judges=(Rubric(),)))
    assert remark.startswith("Rubric is not as it was shipped")


def test_the_folder_that_a_part_lies_in_says_nothing_and_any_other_does(tmp_path: Path) -> None:
    def hash_in(folder: str, constant: str) -> str:
        path = tmp_path / folder / "placed.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"from pathlib import Path\nHERE = {constant}\ndef place():\n    return HERE\n")
        spec = importlib.util.spec_from_file_location("placed", path)
        assert spec and spec.loader
        sys.modules["placed"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return code_of(module.place).hash

    assert hash_in("a", "Path(__file__).parent") == hash_in("b", "Path(__file__).parent")
    assert hash_in("a", "Path('/data/v1')") != hash_in("a", "Path('/data/v2')")
