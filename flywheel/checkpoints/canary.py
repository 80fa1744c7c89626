"""What two folders of weights have in common, and the canary of one, told without loading them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from flywheel.errors import WeightsError
from flywheel.store.ids import content_id

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


TOLERANCE = {"float32": 1e-4, "float16": 0.01, "bfloat16": 0.05}


class Canary(NamedTuple):
    """Tokens, and the log-probability of each but the first, as the trainer had them in its memory.

    Where both sides compute in float32, these are at most 1e-4 from what an engine computes with the same weights, at
    any token. Half precision rounds differently in every kernel, so there the mean distance counts: 0.01 nats for
    float16, 0.05 for bfloat16. That finds weights of another model, but not a last step of training that went missing.
    """

    token_ids: list[int]
    logprobs: list[float]
    dtype: str  # what the weights were saved in

    def difference(self, served: list[float], dtype: str) -> float:
        """How far what an engine computes in `dtype` is from it: at most, or in half precision on average."""
        apart = [abs(ours - theirs) for ours, theirs in zip(served, self.logprobs, strict=True)]
        return max(apart) if self._coarser(dtype) == "float32" else sum(apart) / len(apart)

    def tolerance(self, dtype: str) -> float:
        """The largest `difference` that is right."""
        return TOLERANCE.get(self._coarser(dtype), TOLERANCE["bfloat16"])

    def _coarser(self, dtype: str) -> str:
        return max(dtype, self.dtype, key=lambda each: TOLERANCE.get(each, TOLERANCE["bfloat16"]))


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
        tokens, logprobs = [int(token) for token in value["token_ids"]], [float(item) for item in value["logprobs"]]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{file} is not a canary: {error!r}") from error
    if not 0 < len(logprobs) == len(tokens) - 1:
        raise WeightsError(f"{file} is not a canary: {len(tokens)} tokens, {len(logprobs)} log-probabilities")
    config = read_json(folder / "config.json")
    return Canary(tokens, logprobs, str(config.get("dtype") or config.get("torch_dtype") or "float32"))


def template_id(template: str) -> str:
    """Names a chat template, the same from every engine."""
    return content_id("template", template)
