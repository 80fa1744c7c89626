"""Exports: TRL's formats with their lineage, folders that other libraries load, and cards that hold no trap."""

import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from flywheel.cli.app import app
from flywheel.engines.toy.engine import write_weights
from flywheel.errors import FlywheelError, StoreError, WeightsError
from flywheel.exchange.export import export_checkpoint, export_dataset, trl_rows
from flywheel.exchange.importing import import_files
from flywheel.exchange.markup import fenced, inline
from flywheel.pipeline.loop import iterate
from flywheel.recipe.load import load
from flywheel.store import maintenance
from flywheel.store.schema import CHECKPOINTS, DATASETS, EXAMPLES, EXAMS, GRADES, now
from flywheel.store.store import Store

CHAT = [{"role": "system", "content": "Kurz."}, {"role": "user", "content": "Où? 🙂"}]
ASKED = [{"role": "assistant", "content": "Là."}]
HOSTILE = """```
</details><script>alert(1)</script> | cell
---
license: mit
# A heading
````text
![picture](http://evil.example/x.png) [link](javascript:x)
\u202eturned\x1b[31m"""


def examples(*rows: tuple[str, str | None, float]) -> pl.DataFrame:
    """What `provenance.examples` gives, from chosen, rejected and weight."""
    frame = pl.DataFrame(
        [
            {
                "dataset": "d",
                "position": at,
                "prompt": "p",
                "chat": CHAT,
                "chosen": good,
                "rejected": bad,
                "weight": weight,
            }
            for at, (good, bad, weight) in enumerate(rows)
        ],
        schema=EXAMPLES,
    )
    lists = {"generations": ["g"], "checkpoints": ["c"], "scores": [0.5]}
    return frame.with_columns(origin=pl.lit("synthetic"), **{name: pl.lit([value]) for name, (value,) in lists.items()})


def by_hand(tmp_path: Path, chosen: str = "Là.") -> Store:
    """A store with the dataset `d`, which no run has made."""
    store = Store(tmp_path / "flywheel.duckdb")
    frame = examples((chosen, None, 1.0), ("Là-bas.", None, 1.0)).select(EXAMPLES.names()).cast(EXAMPLES)
    head = {"id": "d", "kind": "selected", "rows": 2, "real": 0, "synthetic": 2, "created_at": now()}
    store.add_all({"examples": frame, "datasets": pl.DataFrame([head], schema=DATASETS)})
    return store


def test_rows_have_the_shape_that_fits_them() -> None:
    shape, rows = trl_rows(examples(("Là.", None, 1.0)), unpaired=False)
    assert shape == "prompt-completion"
    assert rows.to_dicts() == [
        {
            **{"prompt": CHAT, "completion": ASKED, "weight": 1.0, "origin": "synthetic", "prompt_id": "p"},
            **{"generations": ["g"], "checkpoints": ["c"], "scores": [0.5]},
        }
    ]
    shape, rows = trl_rows(examples(("Là.", "Non.", 1.0)), unpaired=False)
    assert shape == "preference"
    assert rows.select("prompt", "chosen", "rejected").rows() == [
        (CHAT, ASKED, [{"role": "assistant", "content": "Non."}])
    ]


@pytest.mark.parametrize("unpaired", [True, False])
def test_what_kto_trains_on_and_pairs_beside_single_answers_have_labels(unpaired: bool) -> None:
    shape, rows = trl_rows(examples(("a", None, 1.0), ("b", "c", 1.0), ("d", None, 0.0)), unpaired)
    assert shape == "unpaired preference"
    answers = rows["completion"].list.first().struct.field("content").to_list()
    assert dict(zip(answers, rows["label"], strict=True)) == {"a": True, "b": True, "c": False, "d": False}


def test_a_file_is_told_by_its_ending_and_never_overwritten(tmp_path: Path) -> None:
    store = by_hand(tmp_path)
    export_dataset(store, "d", tmp_path / "new" / "d.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "new" / "d.jsonl").read_text().splitlines()]
    assert [row["completion"][0]["content"] for row in rows] == ["Là.", "Là-bas."]
    export_dataset(store, "d", tmp_path / "d.data", "parquet")
    assert pl.read_parquet(tmp_path / "d.data")["prompt"].to_list() == [CHAT, CHAT]
    before = (tmp_path / "d.data").read_bytes()
    with pytest.raises(FlywheelError, match="there already, and an export overwrites nothing"):
        export_dataset(store, "d", tmp_path / "d.data", "hub")
    assert (tmp_path / "d.data").read_bytes() == before


@pytest.mark.parametrize("name", ["t.csv", "t.JSON", "t.jsonl.gz", "t.xlsx"])
def test_a_file_of_another_kind_is_refused_and_no_folder_is_called_so(tmp_path: Path, name: str) -> None:
    store = by_hand(tmp_path)
    with pytest.raises(FlywheelError, match=r"a dataset is a .jsonl file, a .parquet file or a hub folder, not "):
        export_dataset(store, "d", tmp_path / name)
    assert not (tmp_path / name).exists()
    export_dataset(store, "d", tmp_path / "mine.v2")
    assert (tmp_path / "mine.v2" / "README.md").is_file(), "a folder may have a point in its name"
    export_dataset(store, "d", tmp_path / "D.JSONL")
    assert (tmp_path / "D.JSONL").is_file()


def test_what_is_not_there_is_told_with_what_is(tmp_path: Path) -> None:
    store = by_hand(tmp_path)
    with pytest.raises(StoreError, match="no dataset 'nothing': give its id, or RUN or RUN:ITERATION; "):
        export_dataset(store, "nothing", tmp_path / "x")
    empty = {"id": "none", "kind": "selected", "rows": 0, "real": 0, "synthetic": 0, "created_at": now()}
    store.add("datasets", pl.DataFrame([empty], schema=DATASETS))
    with pytest.raises(FlywheelError, match="dataset none has no rows"):
        export_dataset(store, "none", tmp_path / "x")
    (tmp_path / "file").touch()
    with pytest.raises(FlywheelError, match="cannot be written"):
        export_dataset(store, "d", tmp_path / "file" / "d.jsonl")
    assert not (tmp_path / "x").exists()


def tokens(card: str) -> Iterator[Any]:
    """Every token of a card's Markdown, its YAML header aside."""
    body = card.split("\n---\n", 1)[1]
    for token in MarkdownIt("commonmark", {"linkify": False}).enable("table").parse(body):
        yield token
        yield from token.children or ()


def test_what_a_model_wrote_is_nothing_but_text_in_a_card(tmp_path: Path) -> None:
    store = by_hand(tmp_path, HOSTILE)
    export_dataset(store, "d", tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    found = list(tokens(card))
    assert not {token.type for token in found} & {"html_block", "html_inline", "image", "link_open", "hr"}
    fences = [token.content for token in found if token.type == "fence"]
    shown = HOSTILE.replace("\u202e", "\ufffd").replace("\x1b", "\ufffd") + "\n"
    assert fences[1] == shown
    assert not any("alert" in token.content for token in found if token.type != "fence")
    headings = [found[at + 1].content for at, token in enumerate(found) if token.type == "heading_open"]
    assert headings == ["Dataset d", "Where it comes from", "Who wrote it", "Examples"] + [
        f"Row {at}, synthetic" for at in (0, 1)
    ]


def test_words_in_a_line_are_no_markup_and_long_texts_are_cut() -> None:
    rendered = MarkdownIt("commonmark").enable("table").renderInline(inline(HOSTILE))
    assert "<" not in rendered.replace("&lt;", "") and "|" in rendered
    text = "```a" * 1000
    assert fenced(text).splitlines()[0] == "````text" and len(fenced(text)) < 500


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of the toy."""
    place = tmp_path_factory.mktemp("home")
    base = write_weights(place / "base", 0.3, 1)
    settings = (f"base={base}", "exam.prompts.side=2", "prompts.side=4", "iterations=1")
    for _ in iterate(functools.partial(load, "toy", overrides=settings), place / "runs"):
        pass
    return place / "runs"


RUN = "toy"


@pytest.mark.slow
def test_a_runs_dataset_survives_an_export_and_an_import_elsewhere(home: Path, tmp_path: Path) -> None:
    store, texts = Store(home / "flywheel.duckdb"), {}
    for form in ("jsonl", "parquet", "hub"):
        done = export_dataset(store, f"{RUN}:1", tmp_path / f"mine.{form}", form)  # type: ignore[arg-type]
        other = Store(tmp_path / form / "flywheel.duckdb")
        import_files(other, [str(done.path)], "generations", name="mine")
        assert not list(maintenance.faults(other, tmp_path / form))
        texts[form] = other.sql("select prompt, text from generations order by rowid").rows()
    first = store.sql(
        "select prompt, chosen from examples where dataset = $id order by position", {"id": done.id}
    ).rows()
    assert texts == dict.fromkeys(texts, first) and len(first) > 5


@pytest.mark.slow
def test_a_hub_folder_is_what_datasets_and_the_hub_read(home: Path, tmp_path: Path) -> None:
    import datasets
    from huggingface_hub import DatasetCard
    from trl.data_utils import is_conversational

    store = Store(home / "flywheel.duckdb")
    export_dataset(store, RUN, tmp_path / "hub", license="apache-2.0")
    rows = datasets.load_dataset(str(tmp_path / "hub"), split="train", cache_dir=str(tmp_path / "cache"))
    graded = store.sql("select generation, score from judgments where judge like 'Numeric%'").rows()
    assert is_conversational(rows[0])
    for row in rows:
        assert row["scores"] == [dict(graded)[row["generations"][0]]] == [1.0]
    assert "Large" not in str(rows.features)
    card = DatasetCard.load(tmp_path / "hub" / "README.md")
    assert card.data.license == "apache-2.0" and card.data.tags == ["flywheel", "trl", "sft", "synthetic"]
    text = card.text
    funnel = store.sql("from funnel").row(0, named=True)
    assert f"| Correct() | {funnel['rows_in']} | {funnel['rows_out']} |" in text
    for told in ("temperature 0.7", "larger-sums, 20 items", "(base)", "| Numeric(after='Answer:') v2 | failed |"):
        assert told in text
    assert not {token.type for token in tokens(card.content)} & {"html_block", "html_inline", "image", "link_open"}


@pytest.mark.slow
def test_the_commands_export_by_run_and_say_where(home: Path, tmp_path: Path) -> None:
    runner, at = CliRunner(), ["--home", str(home)]
    done = runner.invoke(app, ["export", "dataset", RUN, str(tmp_path / "d.jsonl"), *at])
    assert done.exit_code == 0 and done.stdout.endswith(f"as prompt-completion at {tmp_path / 'd.jsonl'}\n")
    assert runner.invoke(app, ["export", "checkpoint", f"{RUN}:1", str(tmp_path / "c"), *at]).exit_code == 0
    card = (tmp_path / "c" / "README.md").read_text()
    decision = Store(home / "flywheel.duckdb").sql("from decisions").row(-1, named=True)
    assert f"Iteration 1: {decision['decision']}." in card
    assert f"Items gained: {decision['gained']}, lost: {decision['lost']}." in card
    gone = runner.invoke(app, ["export", "checkpoint", f"{RUN}:9", str(tmp_path / "e"), *at])
    assert gone.exit_code == 2 and "has no checkpoint of iteration 9: there are those of 0, 1" in gone.stderr


@pytest.mark.slow
def test_an_exported_checkpoint_loads_with_transformers_and_nothing_else_comes_along(
    tiny: Path, tmp_path: Path
) -> None:
    import torch
    from huggingface_hub import ModelCard
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = shutil.copytree(tiny, tmp_path / "checkpoints" / "child")
    for name in ("canary.json", "metrics.jsonl", "manifest.json"):
        (made / name).write_text('{"files": {}}')
    store = Store(tmp_path / "flywheel.duckdb")
    rows = [
        {"id": "base", "kind": "base", "weights": "someone/small", "created_at": now()},
        {"id": "child", "kind": "trained", "parent": "base", "weights": "checkpoints/child", "created_at": now()},
    ]
    grades = pl.DataFrame(
        [("child", "e", str(at), 1, int(at < 3), 0, None) for at in range(4)],
        schema=["checkpoint", "exam", "prompt", "n", "correct", "unscored", "majority"],
        orient="row",
    )
    exams = pl.DataFrame([("e", "sums", at, str(at)) for at in range(4)], schema=EXAMS, orient="row")
    store.add_all(
        {"checkpoints": pl.DataFrame(rows, schema=CHECKPOINTS), "exams": exams, "grades": grades.cast(GRADES)}
    )
    export_checkpoint(store, tmp_path, "child", tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    same = AutoModelForCausalLM.from_pretrained(tiny)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    assert not names & {"canary.json", "metrics.jsonl", "manifest.json"}
    data = ModelCard.load(tmp_path / "out" / "README.md").data
    told = data.to_dict()
    assert [told[name] for name in ("base_model", "library_name", "license")] == [
        "someone/small",
        "transformers",
        "other",
    ]
    (result,) = data.eval_results or []
    assert (result.dataset_name, result.metric_type, result.metric_value) == ("sums", "pass@1", 0.75)


def test_damaged_weights_are_not_exported(tmp_path: Path) -> None:
    base, store = write_weights(tmp_path / "base", 0.3, 1), Store(tmp_path / "flywheel.duckdb")
    (base / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:-1])
    rows = [
        {"id": id, "kind": "base", "weights": at, "created_at": now()} for id, at in (("b", str(base)), ("h", "/no"))
    ]
    store.add("checkpoints", pl.DataFrame(rows, schema=CHECKPOINTS))
    for id, why in (("b", "corrupt"), ("h", "no weights at /no")):
        with pytest.raises(WeightsError, match=why):
            export_checkpoint(store, tmp_path, id, tmp_path / "out")
    assert not (tmp_path / "out").exists()
