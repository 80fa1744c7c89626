"""Folders of weights: sealed when they are written, checked before they are read, named by their content.

A finished checkpoint is a folder with `manifest.json`, written last: the size and the BLAKE2b hash of every other file.
It appears under its name in one rename, so a folder that exists is whole unless something damaged it later. Nothing
here imports torch; a safetensors file begins with its own table of contents, which is read directly.
"""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from flywheel.errors import WeightsError

MANIFEST = "manifest.json"
CONFIG = "config.json"
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
CONTENT = frozenset({".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken"})
NOT_CONTENT = frozenset({MANIFEST, "canary.json"})
HUB_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?")
CHUNK_BYTES = 1 << 22
LARGEST_HEADER = 100_000_000  # the format's own limit


def seal(folder: Path) -> None:
    """Write the manifest of a complete folder, which must hold its weights as safetensors and nothing pickled."""
    files = [path for path in _files(folder) if path.name != MANIFEST]
    pickled = [path.name for path in files if path.suffix in PICKLES]
    if pickled:
        raise WeightsError(
            f"{folder} holds {pickled[0]}, a pickle, which can run code when it is loaded; save safetensors"
        )
    _check_structure(folder, str(folder))
    rows = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "blake2b": digest}
        for path, digest in zip(files, _digests(files), strict=True)
    }
    (folder / MANIFEST).write_text(json.dumps({"files": rows}, indent=1, sort_keys=True) + "\n")


def sealed(folder: Path) -> bool:
    """Whether the folder is a finished checkpoint; its files are not read."""
    return (folder / MANIFEST).is_file()


def publish(tmp: Path, out: Path) -> None:
    """Give a sealed folder its name: everything reaches the disk first, then one rename makes it appear."""
    for path in [*_files(tmp), *(path for path in tmp.rglob("*") if path.is_dir()), tmp]:
        _sync(path)
    out.parent.mkdir(parents=True, exist_ok=True)
    os.replace(tmp, out)
    _sync(out.parent)


def check_weights(weights: str) -> None:
    """Raise WeightsError, with one sentence that says what to do, unless these weights can be loaded."""
    folder = locate(weights)
    _check_manifest(folder)
    _check_structure(folder, weights)


def identify(base: str) -> str:
    """What names a base: the hash of its config, tokenizer and weights, or a Hub id with its commit; never the path."""
    folder = locate(base)
    if not Path(base).is_dir():
        return f"{base}@{folder.name}"
    files = [path for path in _files(folder) if path.suffix in CONTENT and path.name not in NOT_CONTENT]
    whole = hashlib.blake2b(digest_size=20)
    for path, digest in zip(files, _digests(files), strict=True):
        whole.update(f"{path.relative_to(folder).as_posix()}\0{digest}\n".encode())
    return whole.hexdigest()


def locate(weights: str) -> Path:
    """The folder that holds these weights: itself, or the snapshot of a Hub id in the local cache."""
    folder = Path(weights)
    if folder.is_dir():
        return folder
    if folder.is_absolute() or weights.count("/") > 1 or weights.startswith("."):
        raise WeightsError(f"there are no weights at {weights}: no such folder")
    snapshot = _snapshot(weights)
    if snapshot is None:
        raise WeightsError(
            f"{weights} is neither a folder nor a model in the Hugging Face cache; `hf download {weights}` fetches it"
        )
    return snapshot


def fetch(base: str) -> None:
    """Bring a Hub id that is not in the local cache there; WeightsError with the Hub's own words if that fails."""
    if Path(base).is_dir() or not HUB_ID.fullmatch(base) or _snapshot(base) is not None:
        return
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = [f"*{suffix}" for suffix in sorted(CONTENT)]
    try:
        snapshot_download(base, allow_patterns=wanted)
    except (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        first = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"base {base} does not exist: there is no such folder, and the Hub does not give it: {first}"
        ) from error


def parameters(weights: str) -> int:
    """How many numbers the weights are made of, from the files' headers alone."""
    tensors = (tensor for path in _tensor_files(locate(weights)) for tensor in _header(path).values())
    return sum(math.prod(tensor["shape"]) for tensor in tensors)


def size(weights: str) -> int:
    """Bytes of the weights alone."""
    return sum(path.stat().st_size for path in _tensor_files(locate(weights)))


def free_space(folder: Path) -> int:
    """Bytes free on the disk of a folder that may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _check_manifest(folder: Path) -> None:
    if not sealed(folder):
        return
    rows = _json(folder / MANIFEST, folder)["files"]
    cure = "delete the folder and run again to make it anew"
    for name, row in rows.items():
        path = folder / name
        if not path.is_file():
            raise WeightsError(f"checkpoint {folder} is corrupt: {name} is missing; {cure}")
        has = path.stat().st_size
        if has != row["size"]:
            raise WeightsError(
                f"checkpoint {folder} is corrupt: {name} has {has} bytes, its manifest says {row['size']}; {cure}"
            )
    for name, digest in zip(rows, _digests([folder / name for name in rows]), strict=True):
        if digest != rows[name]["blake2b"]:
            raise WeightsError(f"checkpoint {folder} is corrupt: {name} is not what its manifest says (hash); {cure}")


def _check_structure(folder: Path, weights: str) -> None:
    if not (folder / CONFIG).is_file():
        raise WeightsError(f"{weights} has no {CONFIG}, so it is not a folder of weights")
    _json(folder / CONFIG, folder)
    index = folder / "model.safetensors.index.json"
    wanted = set(_json(index, folder)["weight_map"].values()) if index.is_file() else set()
    missing = sorted(name for name in wanted if not (folder / name).is_file())
    if missing:
        raise WeightsError(f"{weights} is incomplete: {missing[0]} is missing")
    files = _tensor_files(folder)
    if not files:
        pickled = next((path.name for path in _files(folder) if path.suffix in PICKLES), None)
        why = f"only {pickled}, a pickle, which can run code when it is loaded; convert it" if pickled else "no weights"
        raise WeightsError(f"{weights} holds {why}; weights must be safetensors")
    for path in files:
        end = max((tensor["data_offsets"][1] for tensor in _header(path).values()), default=0)
        has, wants = path.stat().st_size, _header_size(path) + 8 + end
        if has != wants:
            raise WeightsError(f"{weights} is corrupt: {path.name} has {has} bytes, its header says {wants}")


def _tensor_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _header_size(path: Path) -> int:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(LARGEST_HEADER, path.stat().st_size - 8):
        raise WeightsError(f"{path.parent} is corrupt: the header of {path.name} cannot be read")
    return length


def _header(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file: name to dtype, shape and data_offsets."""
    length = _header_size(path)
    with path.open("rb") as file:
        file.seek(8)
        raw = file.read(length)
    try:
        tensors = json.loads(raw)
        return {name: row for name, row in tensors.items() if name != "__metadata__"}
    except (ValueError, AttributeError) as error:
        raise WeightsError(f"{path.parent} is corrupt: the header of {path.name} cannot be read") from error


def _json(path: Path, folder: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise WeightsError(f"{folder} is corrupt: {path.name} is not JSON") from error


def _snapshot(hub_id: str) -> Path | None:
    """The newest cached snapshot of a Hub id; nothing is downloaded."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        return None
    try:
        return Path(snapshot_download(hub_id, local_files_only=True))
    except (OSError, ValueError):  # the errors of its cache and of its name check
        return None


def _files(folder: Path) -> list[Path]:
    """Every file of the folder, at any depth, in an order that never changes; hidden ones are left out."""
    inside = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in inside if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def _digests(paths: Iterable[Path]) -> list[str]:
    with ThreadPoolExecutor(max_workers=4) as pool:  # hashing releases the interpreter's lock
        return list(pool.map(_digest, paths))


def _digest(path: Path) -> str:
    whole = hashlib.blake2b(digest_size=20)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            whole.update(chunk)
    return whole.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
