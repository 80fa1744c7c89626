"""make.py sets up once and from the lock; the locks, pyproject.toml and the code agree."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests import ROOT

OURS = ("flywheel", "judges", "filters", "data", "flows")
LIGHT = ("flywheel.store.store", "flywheel.store.schema", "flywheel.report.html", "flywheel.cli.app")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(device: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"lock-{device}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def declared(*extras: str) -> list[Requirement]:
    chosen = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(line) for lines in chosen for line in lines]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """make.py in a clone of its own, where commands are recorded as `make.called` and not run."""
    for name in ("make.py", "pyproject.toml", "requirements"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    spec = importlib.util.spec_from_file_location("make", tmp_path / "make.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.called = []  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "call", lambda *command, env=None: pretend(module, command))
    monkeypatch.setattr(module, "install", module.called.append)
    monkeypatch.setenv("FLYWHEEL_DEVICE", "cpu")
    return module


def pretend(module: ModuleType, command: tuple[str | Path, ...]) -> None:
    module.called.append(command[2])
    module.BIN.mkdir(parents=True, exist_ok=True)
    (module.BIN / "python").touch()


def test_a_second_set_up_does_nothing(make: ModuleType) -> None:
    make.set_up()
    make.set_up()
    assert make.called == ["venv", "cpu"]


def test_an_interrupted_set_up_starts_over(make: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as during:
        during.setattr(make, "install", lambda device: sys.exit("interrupted"))
        with pytest.raises(SystemExit):
            make.set_up()
    make.set_up()
    assert make.called == ["venv", "venv", "cpu"]


@pytest.mark.parametrize("change", ["lock", "dependency", "device", "python"])
def test_a_set_up_that_no_longer_fits_starts_over(
    make: ModuleType, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    make.set_up()
    if change == "lock":
        (make.REQUIREMENTS / "lock-cpu.txt").write_text("uv==1\n")
    elif change == "dependency":
        project = (make.ROOT / "pyproject.toml").read_text()
        (make.ROOT / "pyproject.toml").write_text(project.replace('"rich', '"poor'))
    elif change == "device":
        monkeypatch.setenv("FLYWHEEL_DEVICE", "gpu")
    else:
        (make.BIN / "python").unlink()
    make.set_up()
    assert make.called == ["venv", "cpu", "venv", "gpu" if change == "device" else "cpu"]


def test_a_changed_setting_of_a_tool_sets_nothing_up(make: ModuleType) -> None:
    make.set_up()
    project = (make.ROOT / "pyproject.toml").read_text()
    (make.ROOT / "pyproject.toml").write_text(project.replace("line-length = 120", "line-length = 100"))
    make.set_up()
    assert make.called == ["venv", "cpu"]


def test_an_unknown_device_is_refused(make: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_DEVICE", "tpu")
    with pytest.raises(SystemExit, match="say cpu or gpu"):
        make.device()


@pytest.mark.parametrize(("says", "expected"), [("GPU 0: a device", "gpu"), ("No devices were found", "cpu")])
def test_a_device_is_found_by_what_nvidia_smi_lists(
    make: ModuleType, monkeypatch: pytest.MonkeyPatch, says: str, expected: str
) -> None:
    if list(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has a CUDA device file, which settles it")
    script = make.ROOT / "nvidia-smi"
    script.write_text(f"#!/bin/sh\necho '{says}'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(make.ROOT), prepend=os.pathsep)
    monkeypatch.delenv("FLYWHEEL_DEVICE")
    assert make.device() == expected


def test_uv_is_told_what_pip_is_told(make: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in make.FROM_PIP.values():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "7")
    make.BIN.mkdir(parents=True)
    (make.BIN / "pip").write_text(
        "#!/bin/sh\ncat <<'END'\n:env:.find-links='/wheels /more'\n:env:.default-timeout='180'\n"
        "global.no-color='true'\nglobal.find-links='/weaker'\nglobal.index-url='https://mirror.example/simple'\nEND\n"
    )
    (make.BIN / "pip").chmod(0o755)
    env = make.uv_env()
    assert env["UV_FIND_LINKS"] == "/wheels,/more", "the environment is stronger than the file"
    assert env["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert env["UV_HTTP_TIMEOUT"] == "7", "what is set for uv itself stays"


def test_a_wheel_for_another_python_is_no_wheel(make: ModuleType) -> None:
    mine = f"cp{sys.version_info.major}{sys.version_info.minor}"
    (make.ROOT / "torch-2.0+cpu-cp38-cp38-linux.whl").touch()
    env = {"UV_FIND_LINKS": f"/nowhere,{make.ROOT.as_uri()}"}
    assert not make.has_wheel("torch==2.0+cpu", env)
    (make.ROOT / f"torch-2.0+cpu-{mine}-{mine}-linux.whl").touch()
    assert make.has_wheel("torch==2.0+cpu", env)
    assert not make.has_wheel("torch==2.0+cpu", {})


def test_children_use_the_cpus_there_are_and_report_to_nobody(
    make: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    env = make.child_env()
    assert 1 <= int(env["OMP_NUM_THREADS"]) <= len(os.sched_getaffinity(0))
    assert env["VLLM_NO_USAGE_STATS"] == "1" and env["DO_NOT_TRACK"] == "0", "what the user has set stays"
    assert env["PATH"].startswith(str(make.BIN))


@pytest.mark.parametrize("version", ["(3, 10, 4)", "(3, 14, 0)"])
def test_a_python_that_will_not_do_gets_one_sentence(version: str) -> None:
    code = f"import sys; sys.version_info = {version}; sys.argv = ['make.py', 'test']; exec(open('make.py').read())"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert told.stderr.startswith("flywheel needs Python 3.11") and told.stderr.count("\n") == 1


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_lock_holds_names_and_versions_only(device: str) -> None:
    lines = (ROOT / "requirements" / f"lock-{device}.txt").read_text().splitlines()
    wrong = [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.+]*|#.*", line) or "://" in line]
    assert not wrong


def test_both_locks_agree_on_what_they_share() -> None:
    cpu, gpu = pins("cpu"), pins("gpu")
    differ = {name: (cpu[name], gpu[name]) for name in cpu.keys() & gpu.keys() if cpu[name] != gpu[name]}
    assert differ == {"torch": (f"{gpu['torch']}+cpu", gpu["torch"])}


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_lock_satisfies_the_project(device: str) -> None:
    lock = pins(device)
    wanted = declared("train", "tasks", "flows", "dev", f"vllm-{device}")
    wrong = [str(one) for one in wanted if Version(lock.get(canonicalize_name(one.name), "0")) not in one.specifier]
    assert not wrong


def imported() -> Iterator[tuple[str, str]]:
    """File and top-level name of every import in our packages and tests."""
    for path in (path for package in (*OURS, "tests") for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            yield from ((str(path.relative_to(ROOT)), name.partition(".")[0]) for name in names)


@pytest.mark.slow
def test_every_library_that_is_imported_is_declared() -> None:
    known = {canonicalize_name(one.name) for one in declared(*PROJECT["optional-dependencies"])}
    homes = packages_distributions()
    foreign = {(path, name) for path, name in imported() if name in homes and name not in (*OURS, "tests")}
    wrong = [(path, name) for path, name in foreign if not known & {canonicalize_name(home) for home in homes[name]}]
    assert not sorted(wrong)


@pytest.mark.slow
def test_a_light_install_runs_sql_and_reports_without_torch(tmp_path: Path) -> None:
    def run(*command: str | Path) -> str:
        told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert not told.returncode, told.stderr
        return told.stdout

    uv, source = Path(sys.executable).with_name("uv"), tmp_path / "source"
    for name in OURS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", source)
    run(uv, "venv", "--python", sys.executable, "venv")
    run(uv, "pip", "install", "--python", "venv", "-c", ROOT / "requirements" / "lock-cpu.txt", source)
    code = (
        f"import importlib, importlib.util; [importlib.import_module(name) for name in {LIGHT}]\n"
        "assert not importlib.util.find_spec('torch'), 'torch came along'\n"
        "print(flywheel.store.store.Store('flywheel.duckdb').sql('select 1 as one')['one'][0])"
    )
    assert run("venv/bin/python", "-c", f"import flywheel.store.store; {code}").strip() == "1"
    assert "run" in run("venv/bin/flywheel", "--help")
