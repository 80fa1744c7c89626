"""Folders of weights: what is refused, with which words, and what names them."""

import json
import shutil
import struct
from pathlib import Path

import pytest

from flywheel.checkpoints import weights
from flywheel.errors import WeightsError


def tensors(path: Path, values: bytes = bytes(16)) -> None:
    """A safetensors file with one tensor of four fp32 numbers."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "base"
    made.mkdir()
    (made / "config.json").write_text('{"model_type": "llama"}')
    (made / "tokenizer.json").write_text("{}")
    tensors(made / "model.safetensors")
    return made


def test_a_sealed_folder_passes_and_counts_its_numbers(folder: Path) -> None:
    weights.seal(folder)
    weights.check_weights(str(folder))
    assert weights.sealed(folder)
    assert weights.parameters(str(folder)) == 4
    rows = json.loads((folder / "manifest.json").read_text())["files"]
    assert set(rows) == {"config.json", "tokenizer.json", "model.safetensors"}


def test_publish_moves_a_whole_folder_in_one_rename(folder: Path, tmp_path: Path) -> None:
    weights.seal(folder)
    weights.publish(folder, tmp_path / "checkpoints" / "c1")
    weights.check_weights(str(tmp_path / "checkpoints" / "c1"))
    assert not folder.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt"])
def test_pickles_are_not_sealed(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    with pytest.raises(WeightsError, match=f"{name}, a pickle"):
        weights.seal(folder)


def test_a_folder_with_nothing_but_pickles_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"only pytorch_model\.bin, a pickle"):
        weights.check_weights(str(folder))


def test_a_short_file_is_named_with_both_sizes(folder: Path) -> None:
    weights.seal(folder)
    file = folder / "model.safetensors"
    whole = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-3])
    words = f"model.safetensors has {whole - 3} bytes, its manifest says {whole}; delete the folder and run again"
    with pytest.raises(WeightsError, match=words):
        weights.check_weights(str(folder))


def test_a_changed_byte_is_found(folder: Path) -> None:
    weights.seal(folder)
    tensors(folder / "model.safetensors", bytes(15) + b"\1")
    with pytest.raises(WeightsError, match=r"model\.safetensors is not what its manifest says"):
        weights.check_weights(str(folder))


def test_a_missing_file_is_named(folder: Path) -> None:
    weights.seal(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match=r"tokenizer\.json is missing"):
        weights.check_weights(str(folder))


def test_a_base_without_a_manifest_is_checked_by_its_headers(folder: Path) -> None:
    weights.check_weights(str(folder))
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="its header says"):
        weights.check_weights(str(folder))
    file.write_bytes(b"\xff" * 40)
    with pytest.raises(WeightsError, match=r"header of model\.safetensors cannot be read"):
        weights.check_weights(str(folder))
    file.write_bytes(b"")
    with pytest.raises(WeightsError, match=r"header of model\.safetensors cannot be read"):
        weights.check_weights(str(folder))


def test_a_missing_shard_is_named(folder: Path) -> None:
    index = {"weight_map": {"w": "model.safetensors", "v": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=r"model-2\.safetensors is missing"):
        weights.check_weights(str(folder))


@pytest.mark.parametrize("place", ["/nowhere/at/all", "./nowhere", "no/such/folder"])
def test_a_path_that_is_not_there(place: str) -> None:
    with pytest.raises(WeightsError, match="no such folder"):
        weights.check_weights(place)


def test_a_hub_id_that_is_not_in_the_cache() -> None:
    with pytest.raises(WeightsError, match="`hf download nobody/nothing`"):
        weights.check_weights("nobody/nothing")


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"no config\.json"):
        weights.check_weights(str(folder))


def test_a_base_is_named_by_content_and_never_by_place(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    (copy / "README.md").write_text("not content")
    assert weights.identify(str(copy)) == weights.identify(str(folder))
    weights.seal(copy)
    assert weights.identify(str(copy)) == weights.identify(str(folder))
    (copy / "tokenizer.json").write_text('{"other": 1}')
    assert weights.identify(str(copy)) != weights.identify(str(folder))


def test_a_hub_id_is_named_by_its_cached_commit(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "hub" / "models--us--tiny" / "snapshots" / "abc123"
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    monkeypatch.setattr(weights, "_snapshot", lambda hub_id: snapshot if hub_id == "us/tiny" else None)
    assert weights.identify("us/tiny") == "us/tiny@abc123"
    weights.check_weights("us/tiny")
