"""Which inputs a script of cases holds, and which of them this folder lacks: read from the source, nothing is run."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

SHOWN = {"print", "insert", "open", "Popen", "post", "get", "getattr", "makedirs", "__import__", "Path", "select"}
SHOWN |= {"startswith", "endswith", "send_header"}
"""What stands in a call of these is a place, a column or a word for people, and no input."""
TITLED, ROW = "one", "score"
"""Calls of the scripts: the first argument of one is a title; those of the other are a row."""
NO_INPUT = re.compile(r"/[\w/-]*|http://.*|[A-Z]+_[A-Z_]+|refused.*|case\d+\.\w+|127.*|id|data|[a-z]?")
"""Places, variables of the environment, and what a little server says of itself."""
SLOT = "<>"
"""For whatever is put into a text."""
LONG = 8
"""From this length on a text may be a part of one in this folder: a line of a program, a message in a file."""


class Inputs(NamedTuple):
    """Rows in one way of writing, and texts."""

    rows: set[str]
    texts: set[str]

    def missing(self, wanted: "Inputs") -> list[str]:
        """What is wanted and not here."""
        return sorted(wanted.rows - self.rows) + sorted(text for text in wanted.texts if not self.has(text))

    def has(self, text: str) -> bool:
        """Whether a text is here, or is a part of one that is."""
        pieces = [piece for piece in text.split(SLOT) if piece]
        within = len(text) >= LONG or SLOT in text
        return text in self.texts or (within and all(any(p in ours for ours in self.texts) for p in pieces))


def written(value: Any) -> str:
    """A row in one way of writing, whatever kind of list it is, with `1` as `1.0`."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{written(key)}: {written(item)}" for key, item in value.items())) + "}"
    return repr(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)


def literal(node: ast.AST) -> list[Any] | None:
    """A row that is written out: two values or more, and not rows themselves."""
    if not isinstance(node, ast.Tuple) or len(node.elts) < 2:
        return None
    try:
        value = list(ast.literal_eval(node))
    except ValueError:
        return None
    return None if all(isinstance(item, tuple) for item in value) else value


def said(node: ast.JoinedStr) -> str:
    """A text with slots."""
    return "".join(str(piece.value) if isinstance(piece, ast.Constant) else SLOT for piece in node.values)


def inputs(path: Path) -> Inputs:
    """Those of a script."""
    found = Inputs(set(), set())
    gather(ast.parse(path.read_text(encoding="utf-8")), found)
    kept = {text.replace("%s", SLOT) for text in found.texts if not NO_INPUT.fullmatch(text)}
    return Inputs({row for row in found.rows if "127.0.0.1" not in row}, kept)


def gather(node: ast.AST, found: Inputs) -> None:
    """Add the inputs of a piece of a program."""
    row = literal(node)
    if row is not None:
        found.rows.add(written(row))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        found.texts.add(node.value)
    elif isinstance(node, ast.JoinedStr):
        found.texts.add(said(node))
    else:
        for part in parts(node):
            gather(part, found)


def parts(node: ast.AST) -> Iterator[ast.AST]:
    """What may hold an input: not what is compared, shown or imported, nor a name, a title or a docstring."""
    if isinstance(node, ast.Call):
        yield from called(node)
    elif isinstance(node, ast.For | ast.comprehension) and isinstance(node.iter, ast.Tuple):
        yield from node.iter.elts
        yield from getattr(node, "body", ())
    elif isinstance(node, ast.Tuple) and node.elts and isinstance(node.elts[0], ast.Constant):
        yield from node.elts[1:]
    elif isinstance(node, ast.Subscript):
        yield node.value
    elif not isinstance(node, ast.Import | ast.ImportFrom | ast.Compare) and not docstring(node):
        yield from ast.iter_child_nodes(node)


def docstring(node: ast.AST) -> bool:
    """Whether a text stands alone."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def called(node: ast.Call) -> Iterator[ast.AST]:
    """What may hold an input in a call."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    yield node.func
    if name == ROW:
        yield ast.Tuple(node.args)
    elif name not in SHOWN:
        yield from node.args[name == TITLED :]
        yield from node.keywords


def known(folder: Path) -> Inputs:
    """All rows, with what they begin with, and all texts of a folder's tests and data."""
    found = Inputs(set(), set())
    for path in folder.glob("*.json"):
        add(json.loads(path.read_text(encoding="utf-8")), found)
    for path in folder.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.texts.add(said(node))
            elif isinstance(node, ast.keyword) and node.arg:
                found.texts.add(node.arg)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                found.texts.add(node.value if isinstance(node.value, str) else node.value.decode())
            elif row := literal(node):
                add(row, found)
    return found


def add(value: Any, found: Inputs) -> None:
    """Add a value of data with all that it holds."""
    if isinstance(value, str):
        found.texts.add(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            add(key, found)
            add(item, found)
    elif isinstance(value, list | tuple):
        found.rows.update(written(value[:length]) for length in range(2, len(value) + 1))
        for item in value:
            add(item, found)
