"""Programs in the forms that models write: blocks in lists and quotations, arrays, and code that has to wait."""

import json
from typing import Any

import polars as pl
import pytest

from flywheel.store.schema import SUBJECTS
from judges.rules.code import UnitTests
from judges.rules.format import blocks
from judges.sandbox.run import problem

pytestmark = pytest.mark.skipif(problem("namespaces") is not None, reason="this machine offers no namespaces")
CODE = "def total(xs):\n    s = 0\n    for x in xs:\n        s += x\n\n    return s"
META = {
    "prompt": 'def total(xs):\n    """Sum."""\n',
    "entry_point": "total",
    "test": "def check(f):\n    assert f([1, 2]) == 3",
}


def moved(by: str, code: str = CODE) -> str:
    """The code with the same text before each line."""
    return "\n".join(by + line if line or ">" in by else line for line in code.split("\n"))


def judged(*rows: tuple[str, Any], timeout: int = 5) -> list[tuple[Any, ...]]:
    """Status, score and detail for each (text, meta)."""
    subjects = [
        {"generation": f"g{at}", "text": text, "meta": json.dumps(meta)} for at, (text, meta) in enumerate(rows)
    ]
    votes = UnitTests(timeout=timeout).read(pl.DataFrame(subjects, schema=SUBJECTS, orient="row"), None)
    return votes.select("status", "score", "detail").rows()


FORMS = [
    f"1. So:\n   ```python\n{moved('   ')}\n   ```",
    f"- So:\n\n\t```python\n{moved(chr(9))}\n\t```",
    f"10. ```python\n{moved('    ')}\n    ```\nThat is it.",
    f"> ```python\n{moved('> ')}\n> ```",
    f"   ```python\n{CODE}\n   ```",
    f"```python\n{moved('    ')}\n```",
    f"   ~~~py\n{moved('    ')}\n   ~~~",
    f"    ```python\n{moved(chr(9))}\n    ```",
    f"```python\ndef total(xs): return 0\n```\n1. Better:\n   ```python\n{moved('   ')}",
    f"  ```python\r\n{moved('  ')}\r\n  ```".replace("\n", "\r\n").replace("\r\r", "\r"),
    "1. So:\n   ```python\n       return sum(xs)\n   ```",
    "```python\n    return sum(xs)\n```",
]


@pytest.mark.slow
def test_an_indented_block_is_the_program_that_it_would_be_at_the_margin() -> None:
    found = judged(*((text, META) for text in FORMS))
    assert [(text, verdict) for text, verdict in zip(FORMS, found, strict=True) if verdict[1] != 1.0] == []


def test_a_block_keeps_what_is_its_own() -> None:
    assert blocks("```\n  a\n\tb\n```") == [("", "  a\n\tb\n")]
    assert blocks("> ```\n> > a\n> ```\n") == [("", "> a\n")]
    assert blocks("   ```py\n     a\tb\n  ```\nc") == [("py", "  a\tb\n")]


ARRAYS = [
    ("def d(): return np.array([1, 2])", "assert (d() == [1, 2]).all()", 1.0),
    ("def d(): return np.array([1, 3])", "assert (d() == [1, 2]).all()", 0.0),
    ("def d(): return np.array([1, 2])", "assert list(d()) == [1, 2] and d().sum() == 3", 1.0),
    ("def d(): return np.zeros((2, 3))", "assert d().shape == (2, 3) and str(d().dtype) == 'float64'", 1.0),
    ("def d(): return np.array([np.nan, 1])", "assert np.isnan(d()[0]) and np.allclose(d()[1:], [1])", 1.0),
    ("def d(): return {'a': [np.array([2.5])]}", "assert d()['a'][0][0] == 2.5", 1.0),
    ("def d(): return np.array(['a', None], dtype=object)", "assert list(d()) == ['a', None]", 1.0),
    ("def d(a): return a.mean()", "assert d(np.array([1, 3])) == 2", 1.0),
    ("def d(a): a *= 2", "x = np.array([1, 2])\nd(x)\nassert x.tolist() == [2, 4]", 1.0),
    ("def d(): return np.array([1, 2])", "assert d() == [1, 2]", 0.0),  # Python itself raises ValueError
    (
        "class E(np.ndarray):\n    def __eq__(self, o): return np.array([True])\ndef d(): return np.array([9]).view(E)",
        "assert (d() == [1]).all()",
        0.0,
    ),
]


@pytest.mark.slow
def test_an_array_is_an_array_in_the_test_and_never_an_object_of_the_answers() -> None:
    rows = [
        (f"```python\nimport numpy as np\n{code}\n```", {"test_list": ["import numpy as np", test]})
        for code, test, _ in ARRAYS
    ]
    found = judged(*rows)
    assert [one for one, verdict in zip(ARRAYS, found, strict=True) if verdict[1] != one[2]] == []


@pytest.mark.slow
def test_the_time_that_counts_is_the_processors() -> None:
    waits = "import time\ndef f():\n    time.sleep(4.5)\n    return 1"
    works = "def f():\n    while True: pass"
    found = judged(*((code, {"test_list": ["assert f() == 1"]}) for code in (waits, works)), timeout=1)
    assert found == [("ok", 1.0, None), ("timeout", None, "processor time")]
