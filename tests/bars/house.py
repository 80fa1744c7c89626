"""Bar `house`: how far from each other things are, and how long, counted by what `tests/test_architecture.py` reads.

    python -m tests.bars.house

Arrows between rooms, circles between files, modules in the fullest room, lines of the longest file but declarations and
of functions, public names that more than two modules define.
"""

import ast
import json
import statistics
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter

from tests import test_architecture as house

TARGET = {"arrows": 140, "circles": 0, "modules": 14, "file": 250, "median function": 8, "function": 60, "names": 0}


def circles() -> int:
    """1 where a file imports itself by way of others."""
    try:
        TopologicalSorter(house.ARROWS_OF).prepare()
    except CycleError:
        return 1
    return 0


def main() -> int:
    """Count, and print the bar."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [
        node.end_lineno - node.lineno + 1
        for tree in house.TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, kinds) and node.end_lineno is not None
    ]
    modules = Counter(name.rpartition("/")[0] for name in house.TREES if not name.endswith("/__init__.py"))
    value = {
        "arrows": sum(map(len, house.table().values())),
        "circles": circles(),
        "modules": max(many for room, many in modules.items() if room != "flows/recipes"),
        "file": max(lines for name, lines in house.file_lengths() if name not in house.LISTS),
        "median function": statistics.median(functions),
        "function": max(functions),
        "names": len(house.names_with_many_meanings()),
    }
    ok = all(value[name] <= most for name, most in TARGET.items())
    print(json.dumps({"bar": "house", "value": value, "target": TARGET, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
