#!/usr/bin/env python3
"""One command from a fresh clone to a running flywheel. Needs nothing but Python 3.11 to 3.13 on Linux x86-64.

    python3 make.py quickstart [...]   set up, then `flywheel run quickstart ...`
    python3 make.py test [...]         set up, then `pytest ...`, on as many cores as there are (-n 0: in one process)
    python3 make.py setup              set up only: .venv, with the versions of requirements/lock-<cpu|gpu>.txt
    python3 make.py lock [--upgrade]   resolve both locks anew from pyproject.toml

Set-up runs once: .venv holds a stamp of what it was made from, written last, so an interrupted one starts over.
FLYWHEEL_DEVICE=cpu|gpu chooses the lock; without it, a CUDA device does.
"""

import sys

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(
        f"flywheel needs Python 3.11, 3.12 or 3.13, and this is {sys.version.split()[0]}: call make.py with another."
    )

import ast
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent
REQUIREMENTS = ROOT / "requirements"
VENV = ROOT / ".venv"
BIN = VENV / "bin"
STAMP = VENV / "flywheel-stamp"
QUIETLY = () if sys.stderr.isatty() else ("--quiet",)  # progress bars for people, nothing but errors for logs
PIP_INSTALL = (BIN / "uv", "pip", "install", *QUIETLY, "--no-deps")
TESTERS = 4  # processes that test beside each other, at most: each may load torch and a model
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"  # the CPU builds; the usual index has only the CUDA ones

FROM_PIP = {  # uv reads none of pip's settings
    "index-url": "UV_DEFAULT_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}
QUIET = {  # nothing that runs here reports home
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "false",
}


def cores() -> int:
    """CPUs that this process may use: its affinity, or less where a container has a smaller quota."""
    allowed, quota = len(os.sched_getaffinity(0)), Path("/sys/fs/cgroup/cpu.max")
    limit, period = quota.read_text().split() if quota.exists() else ("max", "1")
    return allowed if limit == "max" else max(1, min(allowed, int(limit) // int(period)))


def device() -> str:
    """`cpu` or `gpu`: FLYWHEEL_DEVICE, or what shows itself (WSL has no device file, only nvidia-smi)."""
    chosen = os.environ.get("FLYWHEEL_DEVICE")
    if chosen:
        return chosen if chosen in ("cpu", "gpu") else sys.exit(f"FLYWHEEL_DEVICE is {chosen!r}: say cpu or gpu.")
    smi = shutil.which("nvidia-smi")
    listed = subprocess.run([smi, "-L"], capture_output=True, text=True).stdout if smi else ""
    return "gpu" if listed.startswith("GPU ") or any(Path("/dev").glob("nvidia[0-9]*")) else "cpu"


def lock_of(device: str) -> Path:
    """The lock of a device: the only place that an installed version comes from."""
    return REQUIREMENTS / f"lock-{device}.txt"


def pin(name: str, lock: Path) -> str:
    """The line of a lock that says which version of a package it wants."""
    return next(line for line in lock.read_text().splitlines() if line.startswith(f"{name}=="))


def child_env(side_by_side: int = 1) -> dict[str, str]:
    """The environment of what runs in .venv, so many processes beside each other; what the user has set stays."""
    # OpenMP threads beyond the free CPUs wait for each other: sampling was measured to run 10 to 40 times slower.
    defaults = QUIET | {"OMP_NUM_THREADS": str(max(1, cores() // side_by_side))}
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
    return defaults | dict(os.environ) | {"VIRTUAL_ENV": str(VENV), "PATH": path}


def uv_env() -> dict[str, str]:
    """The same for uv: pip's settings under uv's names, and bytecode (`import vllm` takes 16 s without, 8 s with)."""
    listing = subprocess.run([BIN / "pip", "config", "list"], capture_output=True, text=True).stdout
    found = re.findall(r"^(?:global|install|:env:)\.([\w-]+)=(.+)$", listing, re.MULTILINE)
    settings = {name: ast.literal_eval(value) for name, value in reversed(found)}  # pip lists the strongest first
    from_pip = {FROM_PIP[name]: ",".join(value.split()) for name, value in settings.items() if name in FROM_PIP}
    return {"UV_COMPILE_BYTECODE": "1"} | from_pip | child_env()


def call(*command: str | Path, env: dict[str, str] | None = None) -> None:
    """Run a command to its end; if it fails, so do we."""
    if subprocess.run(command, env=env, cwd=ROOT).returncode:
        sys.exit(f"make.py stopped, because this failed: {' '.join(map(str, command))}")


def has_wheel(requirement: str, env: dict[str, str]) -> bool:
    """Whether one of uv's find-links folders holds `name==version` for this Python."""
    name, version = requirement.split("==")
    folders = [Path(folder.removeprefix("file://")) for folder in env.get("UV_FIND_LINKS", "").split(",") if folder]
    wheel = f"{name}-{version}-cp{sys.version_info.major}{sys.version_info.minor}-*.whl"
    return any(any(folder.glob(wheel)) for folder in folders)


def install(device: str) -> None:
    """Fill an empty .venv with what the lock says, then with the project itself (editable)."""
    env, lock, compiled = uv_env(), lock_of(device), REQUIREMENTS / "needs-compiler.txt"
    call(BIN / "pip", "install", "-qq", pin("uv", lock))
    if device == "cpu" and not has_wheel(pin("torch", lock), env):
        call(*PIP_INSTALL, "--default-index", TORCH_INDEX, pin("torch", lock), env=env)
    limits = REQUIREMENTS / f"overrides-{device}.txt"  # says which build of torch may not be taken
    call(*PIP_INSTALL, "-r", lock, "-c", limits, "--excludes", compiled, env=env)
    # Last and on its own, because it may fail: only what names it needs it.
    if subprocess.run([*PIP_INSTALL, "-r", compiled, "-c", lock], env=env).returncode:
        print(f"Going on without what could not be compiled: {compiled.name} says what that costs.", flush=True)
    call(*PIP_INSTALL, "--no-build-isolation", "--editable", ROOT, env=env)


def fingerprint(device: str) -> str:
    """What an environment depends on; the settings of the tools in pyproject.toml are no part of it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    parts = [str(ROOT), lock_of(device).read_text(), repr((project["build-system"], project["project"]))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def set_up() -> None:
    """Make .venv, unless its stamp says that it was made from this very lock, project and place."""
    chosen = device()
    wanted = fingerprint(chosen)
    whole = STAMP.exists() and (BIN / "python").exists()  # the Python it links to may be gone
    if whole and STAMP.read_text() == wanted:
        return
    print(f"Setting up {VENV} from {lock_of(chosen).name} (once; a minute or two).", flush=True)
    call(sys.executable, "-m", "venv", "--clear", VENV)
    install(chosen)
    STAMP.write_text(wanted)


def lock_env() -> dict[str, str]:
    """What requirements/lock.sh runs in: uv's environment, and PyTorch's index where no folder has the CPU build."""
    env = uv_env()
    return env if has_wheel(pin("torch", lock_of("cpu")), env) else env | {"TORCH_INDEX": TORCH_INDEX}


def main(job: str = "", *options: str) -> None:
    """Set up, then become the job, so that signals and the exit code are the job's own."""
    testers = min(cores(), TESTERS)
    jobs = {
        "setup": [],
        "lock": ["bash", "requirements/lock.sh"],
        "quickstart": ["flywheel", "run", "quickstart"],
        "test": ["python", "-m", "pytest", "-n", str(testers), "--dist", "loadfile"],
    }
    if job not in jobs:
        sys.exit(__doc__)
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.exit("The locks are for Linux x86-64. Elsewhere: pip install -e '.[train,tasks,flows]', without vLLM.")
    set_up()
    command = jobs[job]
    if command:
        os.chdir(ROOT)
        env = lock_env() if job == "lock" else child_env(testers if job == "test" else 1)
        os.execvpe(command[0], [*command, *options], env)


if __name__ == "__main__":
    main(*sys.argv[1:])
