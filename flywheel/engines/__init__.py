"""Where weights are served. `open_engine` is the only way in; no library is imported before an engine is asked for."""

from typing import Any

from flywheel.errors import RecipeError
from flywheel.recipe import Engine

NAMES = ("vllm", "local", "toy")


def open_engine(name: str, **options: Any) -> Engine:
    """The engine of that name, not started yet; its options are those of its class."""
    if name.startswith(("http://", "https://")):
        from flywheel.engines.endpoint import Endpoint

        return Endpoint(name, **options)
    if name == "vllm":
        from flywheel.engines.vllm import Vllm

        return Vllm(**options)
    if name == "local":
        from flywheel.engines.local import Local

        return Local(**options)
    if name == "toy":
        from flywheel.engines.toy import Toy

        return Toy(**options)
    raise RecipeError(f"there is no engine {name!r}: it is one of {', '.join(NAMES)}, or an endpoint's http(s) address")
