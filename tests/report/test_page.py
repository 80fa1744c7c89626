"""The report's parts: what stands beside an answer that trained, settings, a curve; and nothing is more than text."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flows.recipes.toy import recipe as toy
from flywheel.identity import describe_text
from flywheel.report.html import _samples, write
from flywheel.report.page import CURVE_POINTS, curve, html_table, page, settings
from flywheel.store import evidence, queries
from flywheel.store.store import Store
from flywheel.training.settings import Sft
from tests.store.test_views import frame, judgment, judgments


def turned(store: Store, answers: list[str], rows: list[dict[str, Any]], dropped: list[int]) -> Store:
    """A run whose iteration 1 has these answers to a prompt, of which `rows` train and a filter dropped some."""
    drawn = {"prompt": "p", "checkpoint": "base", "draw": "d"}
    generations = [{"id": f"g{at}", "index": at, "text": text, **drawn} for at, text in enumerate(answers)]
    recipe = {"recipe": describe_text(toy)}
    iterations = [
        {"id": "i0", "run": "therun00", "number": 0},
        {"id": "i1", "run": "therun00", "number": 1, "draw": "d"},
    ]
    decided = {"decision": "promote", "candidate": "base", "policy": "base", "reason": "so"}
    selected = [{"iteration": "i1", "position": 0, "filter": "f", "generation": row["id"]} for row in generations]
    examples = [
        {"dataset": "e", "position": at, "prompt": "p", "origin": "synthetic"} | row for at, row in enumerate(rows)
    ]
    tables = {
        "runs": [{"id": "therun00", "name": "<b>me</b>", **recipe}],
        "iterations": [{**row, **recipe, "policy": "base"} for row in iterations],
        "decisions": [{"iteration": row["id"], **decided} for row in iterations],
        "prompts": [{"id": "p"}],
        "proposals": [{"iteration": "i1", "position": 0, "prompt": "p"}],
        "generations": generations,
        "selections": [{**row, "kept": at not in dropped} for at, row in enumerate(selected)],
        "iteration_datasets": [{"iteration": "i1", "dataset": "e"}],
        "examples": examples,
        "metrics": [{"checkpoint": "base", "step": at, "name": "loss", "value": 2.0 / (at + 1)} for at in range(5)],
    }
    said = [judgment(row["id"], "rule", float(row["index"] not in dropped)) for row in generations]
    store.add_all(
        {**{name: frame(name, *some) for name, some in tables.items()}, "judgments": judgments(generations, *said)}
    )
    return store


def beside(store: Store) -> list[tuple[str, str]]:
    """What stands on both sides: in the report, as in the page of a flow run."""
    judged = store.sql("from judged")
    shown = [(good, other) for _, good, other in _samples(store, queries.decisions(store, "therun00"), judged)]
    assert evidence.beside(store, "i1", 5).select("chosen", "other").rows() == shown
    return shown


def trains(at: int, text: str, weight: float = 1.0) -> dict[str, Any]:
    return {"chosen": text, "generations": [f"g{at}"], "weight": weight}


def test_beside_an_answer_stands_one_that_did_not_train(store: Store) -> None:
    rows = [trains(0, "four"), trains(1, "4"), trains(2, "It is 4")]
    assert beside(turned(store, ["four", "4", "It is 4", "five"], rows, [3])) == [("four", "five")]


def test_where_all_that_is_left_says_the_same_nothing_stands_there(store: Store) -> None:
    rows = [trains(0, "four"), trains(1, "4")]
    assert beside(turned(store, ["four", "4", "four ", "4\n"], rows, [2, 3])) == []


def test_an_answer_that_trains_as_a_bad_one_is_never_the_chosen_one(store: Store) -> None:
    rows = [trains(0, "five", -1.0), trains(1, "4")]
    assert beside(turned(store, ["five", "4"], rows, [])) == [("4", "five")]


def test_a_rejected_answer_stands_beside_its_chosen_one(store: Store) -> None:
    pair = {"chosen": "4", "rejected": "5", "generations": ["g0", "g1"]}
    assert beside(turned(store, ["4", "5", "six"], [pair], [2])) == [("4", "5")]


def test_the_report_fits_a_phone_and_a_dark_screen_and_has_settings_and_the_loss(store: Store, tmp_path: Path) -> None:
    text = write(turned(store, ["4", "5"], [trains(0, "4")], [1]), tmp_path).read_text(encoding="utf-8")
    assert '<meta name="viewport" content="width=device-width' in text and "prefers-color-scheme: dark" in text
    assert "<td>sampling</td><td>Sampling(n=4, temperature=0.7)</td>" in text and 'aria-label="loss of each' in text
    assert "<b>me</b>" not in text and "&lt;b&gt;me&lt;/b&gt;" in text
    assert not re.search(r'(src|href)="(?!data:)', text)


def test_settings_are_those_that_are_not_the_default() -> None:
    told = dict(settings(json.loads(describe_text(toy))))
    assert (
        told["sampling"] == "Sampling(n=4, temperature=0.7)"
        and told["batch"] == "16"
        and told["keep.1"].startswith("Cap(n=2")
    )
    assert not {"seed", "overlap", "warm_start", "meta", "alarms", "name"} & set(told)
    assert dict(settings({"is": "Recipe", "train": json.loads(describe_text(Sft(lr=0.5)))})) == {"train": "Sft(lr=0.5)"}
    assert settings({"is": "Recipe", "new": "x" * 200}) == [("new", "x" * 120 + "…")]


def test_a_curve_goes_through_its_points_and_names_are_only_text() -> None:
    drawn = curve("<loss>", {"a<b": [(1.0, 5.0), (3.0, 1.0)]}, "step", "loss")
    assert 'd="M60.0 12.0 L508.0 245.0"' in drawn and "a&lt;b" in drawn and "<loss>" not in drawn
    assert curve("none", {}, "x", "y") == curve("none", {"a": []}, "x", "y") == ""
    assert "nan" not in curve("flat", {"a": [(1.0, 2.0)]}, "x", "y")
    long = curve("long", {"a": [(float(at), 0.0) for at in range(10 * CURVE_POINTS)]}, "x", "y")
    assert long.count(" L") <= CURVE_POINTS


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a\n<img src=x>", "x" * 3000])
def test_a_cell_is_text_and_no_longer_than_can_be_read(text: str) -> None:
    made = page("t", [html_table([(text, 1, 0.123456)], ("<a>", "b", "c"))])
    assert "<script" not in made and "<img src" not in made and "<a>" not in made
    assert len(made) < 6000 and '<td class="number">0.1235</td>' in made
