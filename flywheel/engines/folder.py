"""What two folders of weights have in common, and the canary of one, told without loading them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from flywheel.errors import WeightsError
from flywheel.tables import content_id

# Written anew by each save, or without influence on what a server loads.
CONFIG_NOISE = {"_name_or_path", "transformers_version", "use_cache"}
TOKENIZER_NOISE = {"truncation", "padding"}  # the state that the last batch left in a fast tokenizer
PLACE_NOISE = {"is_local", "local_files_only", "name_or_path"}  # where it was loaded from
SHAPE_FILES = {
    "config.json": CONFIG_NOISE,
    "generation_config.json": CONFIG_NOISE,
    "tokenizer.json": TOKENIZER_NOISE,
    "tokenizer_config.json": PLACE_NOISE,
    "special_tokens_map.json": set[str](),
    "chat_template.jinja": set[str](),
}


class Canary(NamedTuple):
    """Tokens, and the log-probability of each but the first, as the trainer had them in its memory."""

    token_ids: list[int]
    logprobs: list[float]


def read_json(file: Path) -> Any:
    """The file's value; WeightsError where it has none."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file} cannot be read as JSON: {error}") from error


def stamp(folder: Path) -> tuple[Any, ...]:
    """Changes when the folder's files do."""
    files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors", ".bin", ".jinja"))
    return (str(folder.resolve()), *((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


def same_shape(a: Path, b: Path) -> bool:
    """Whether the two differ in nothing but the values of their weights."""
    return all(_same_file(a / name, b / name, noise) for name, noise in SHAPE_FILES.items())


def _same_file(a: Path, b: Path, noise: set[str]) -> bool:
    if not (a.exists() and b.exists()):
        return a.exists() == b.exists()
    if a.read_bytes() == b.read_bytes():
        return True
    return a.suffix == ".json" and _without(read_json(a), noise) == _without(read_json(b), noise)


def _without(value: Any, noise: set[str]) -> Any:
    return {key: item for key, item in value.items() if key not in noise} if isinstance(value, dict) else value


def canary(folder: Path) -> Canary | None:
    """The canary that the trainer left beside the weights, or None for a foreign checkpoint."""
    file = folder / "canary.json"
    if not file.exists():
        return None
    value = read_json(file)
    try:
        found = Canary([int(token) for token in value["token_ids"]], [float(item) for item in value["logprobs"]])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{file} is not a canary: {error!r}") from error
    if len(found.logprobs) != len(found.token_ids) - 1:
        raise WeightsError(f"{file} is not a canary: {len(found.token_ids)} tokens, {len(found.logprobs)} logprobs")
    return found


def stored_dtype(folder: Path) -> str:
    """What the trainer saved in, such as float32."""
    config = read_json(folder / "config.json")
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def template_id(template: str) -> str:
    """Names a chat template, the same from every engine."""
    return content_id("template", template)
