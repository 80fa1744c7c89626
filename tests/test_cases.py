"""Inputs of scripts that `tests/cases` lacks are found, whichever way a script says them."""

import importlib
from pathlib import Path

import pytest

from tests.cases.inputs import inputs, known
from tests.cases.old_names import HOMES, RENAMED, found

HERE = Path(__file__).with_name("cases")
LINE = "bad = check(MathVerify(), [('Answer: 11 5/6', '71/6', {})])\n"


def missing(tmp_path: Path, script: str) -> list[str]:
    (tmp_path / "case_99.py").write_text('"""A report."""\nimport sys\n' + script, encoding="utf-8")
    found = inputs(tmp_path / "case_99.py")
    assert found.rows or found.texts
    return known(HERE).missing(found)


@pytest.mark.parametrize(
    "script",
    [
        LINE.format(1.0),
        "score('Score: 1+1+1 = 3', 3.0)\n",
        "for reply, right in (('Verdict: tied', 'tie'), ('verdict: a', 'a')): one(reply, verdict(reply), right)\n",
        "one('whatever', verdict('Verdict: A vs B'), None); print('not an input of a script')\n",
        "cases = [('a title', FENCE % 'def total(xs):\\n    return sum(xs)', META, 1.0)]\n",
        "forms = [f'**Answer:** {a}']\n",
    ],
)
def test_an_input_that_is_here_is_found(tmp_path: Path, script: str) -> None:
    assert missing(tmp_path, script) == []


@pytest.mark.parametrize(
    ("script", "lacks"),
    [
        (LINE.format(0.0), "['Answer: 11 5/6', '71/6', 0.0]"),
        ("score('Score: 1+1+1 = 3', 1.0)\n", "['Score: 1+1+1 = 3', 1.0]"),
        ("for reply, right in (('Verdict: tied', 'a'), ('verdict: a', 'a')): pass\n", "['Verdict: tied', 'a']"),
        ("one('whatever', verdict('Verdict: ' 'A over B'), None)\n", "Verdict: A over B"),
        ("cases = [('a title', FENCE % 'def sum_of(all):\\n    pass', META, 1.0)]\n", "def sum_of(all):\n    pass"),
        ("forms = [f'**The answer:** {a}']\n", "**The answer:** <>"),
        ("row = {'a_key_of_another_kind': [1]}\n", "a_key_of_another_kind"),
    ],
)
def test_an_input_that_is_not_here_is_told(tmp_path: Path, script: str, lacks: str) -> None:
    assert missing(tmp_path, script) == [lacks]


def test_every_earlier_name_has_a_home() -> None:
    for module, homes in HOMES.items():
        for home in homes.split():
            assert importlib.import_module(home), module
    for module, names in RENAMED.items():
        assert all(callable(found(module, name)) for name in names)
