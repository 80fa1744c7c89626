"""Where code stands and what it says: its syntax tree as a text that is the same on every Python."""

import ast
import contextlib
import functools
import importlib.util
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from flywheel.root import ROOT

SHIPPED = tuple(ROOT / name for name in ("flywheel", "judges", "filters", "data", "flows"))
_LIBRARIES = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
INSTALLED = tuple(Path(place).resolve() for place in {*_LIBRARIES, *site.getsitepackages(), site.getusersitepackages()})
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def module_of(part: Any) -> str:
    """The module that a class or function says it is from."""
    return str(getattr(part, "__module__", None) or "")


def file_of(module: str) -> Path | None:
    """The file of a module, imported or not; None if it has none."""
    known: Any = sys.modules.get(module)
    place = getattr(known, "__file__", None)
    if known is None and module:
        with contextlib.suppress(ImportError, ValueError, AttributeError):
            spec = importlib.util.find_spec(module)
            place = spec.origin if spec and spec.has_location else None
    return Path(place).resolve() if place and Path(place).is_file() else None


def shipped_in(module: str) -> str | None:
    """The name of our own folder that a module lies in; None for any other module."""
    file = file_of(module)
    return next((folder.name for folder in SHIPPED if file and file.is_relative_to(folder)), None)


def is_local(module: str) -> bool:
    """Whether a module is neither installed nor ours: a file of the user's, or the prompt."""
    file = file_of(module)
    return module == "__main__" if file is None else _is_users(file)


def _is_users(file: Path) -> bool:
    return not any(file.is_relative_to(folder) for folder in (*INSTALLED, *SHIPPED))


def users_line(error: BaseException) -> str | None:
    """The file of a user's, and the line in it, that an error comes from; None if none has a part in it."""
    steps = [(Path(frame.f_code.co_filename), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    users = [
        (file, line) for file, line in steps if file.suffix == ".py" and file.is_file() and _is_users(file.resolve())
    ]
    return f"{users[-1][0]}, line {users[-1][1]}" if users else None


def tree_of(file: Path) -> ast.Module | None:
    """The syntax tree of a file; None if it is no Python source."""
    with contextlib.suppress(SyntaxError, ValueError, OSError):
        return _tree(file.read_bytes())
    return None


@functools.lru_cache(maxsize=256)
def _tree(source: bytes) -> ast.Module:
    return ast.parse(source)


def definition(part: Any) -> ast.AST | None:
    """The node that defines a class or function; None where there is no source."""
    file = file_of(module_of(part))
    tree = tree_of(file) if file else None
    if tree is None:
        return None
    return _function_node(tree, part.__code__) if isinstance(part, FunctionType) else _class_node(tree, part)


def _function_node(tree: ast.Module, code: CodeType) -> ast.AST | None:
    """The node of this name that begins where the code does; lambdas of one line count together."""
    if code.co_name == "<lambda>":
        lambdas = [node for node in _nodes(tree) if isinstance(node, ast.Lambda)]
        found: list[ast.expr] = [node for node in lambdas if node.lineno == code.co_firstlineno]
        return ast.Tuple(found, ast.Load()) if found else None
    named = (node for node in _nodes(tree) if isinstance(node, FUNCTIONS) and node.name == code.co_name)
    return next((node for node in named if _first_line(node) == code.co_firstlineno), None)


@functools.lru_cache(maxsize=1024)
def _nodes(node: ast.AST) -> list[ast.AST]:
    """All classes, functions and lambdas in a tree."""
    return [inner for inner in ast.walk(node) if isinstance(inner, (ast.ClassDef, ast.Lambda, *FUNCTIONS))]


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return min([node.lineno, *(mark.lineno for mark in node.decorator_list)])


def _class_node(tree: ast.Module, kind: type) -> ast.AST | None:
    """The last class of this name: the one that a name defined twice stands for."""
    found: list[ast.AST] = [tree]
    for name in kind.__qualname__.replace(".<locals>", "").split("."):
        found = [node for outer in found for node in _nodes(outer) if getattr(node, "name", None) == name]
    return found[-1] if found else None


def tree_text(node: Any) -> str:
    """A syntax tree as text: without places, docstrings, comments and what is empty."""
    if isinstance(node, ast.AST):
        fields = [f"{name}={text}" for name, text in _fields(node) if text not in ("", "[]")]
        return f"{type(node).__name__}({', '.join(fields)})"
    if isinstance(node, list):
        return f"[{', '.join(map(tree_text, node))}]"
    return "" if node is None else repr(node)


def _fields(node: ast.AST) -> Iterator[tuple[str, str]]:
    for name, value in ast.iter_fields(node):
        if name not in ("kind", "type_comment", "ctx"):
            yield name, tree_text(value[1:] if name == "body" and value and _is_docstring(value) else value)


def _is_docstring(body: Any) -> bool:
    first = body[0] if isinstance(body, list) else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def looked_up(node: ast.AST) -> set[str]:
    """The names that a tree reads, apart from those in annotations."""
    found: set[str] = set()
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, ast.AST):
                found |= looked_up(inner)
    return found | ({node.id} if isinstance(node, ast.Name) else set())


def imported(tree: ast.AST, module: str) -> set[str]:
    """The modules that a tree of a module imports, in full names."""
    file, names = file_of(module), set[str]()
    package = module if file and file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            start = ".".join(filter(None, [above if node.level else "", node.module]))
            names |= {start, *(f"{start}.{alias.name}" for alias in node.names)}
    return {name for name in names if file_of(name)}


def compiled(code: CodeType) -> str:
    """Code without a source: what this Python made of it, which another Python makes otherwise."""
    constants = [compiled(inner) if isinstance(inner, CodeType) else repr(inner) for inner in code.co_consts]
    return f"{sys.version_info[:2]} {code.co_code.hex()} {code.co_names} {constants}"
