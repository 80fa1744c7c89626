"""Bar `cases`: each input that once came out wrong comes out right, and none of those that were collected is forgotten.

    python -m tests.bars.cases [--shared FOLDER] [--only NUMBER ...]

`tests/cases` is run whole; a test that is skipped or expected to fail is not met. Where FOLDER is there (or else
$FLYWHEEL_TEST_CASES, or ../shared/cases), each case_*.py in it is run as well and must end with 0, after mk.py and
train_tiny.py where they are there. Then its inputs are looked for in `tests/cases`: rows as they are, with what is
right for them, and texts. A script in which no input is found, and a folder without a script, is not met. `--only`
runs neither the copy nor other scripts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from flywheel.processes.supervised import supervised
from tests import ROOT
from tests.cases.inputs import inputs, known

COPY = ROOT / "tests" / "cases"
SHARED = Path(os.environ.get("FLYWHEEL_TEST_CASES", ROOT.parent / "shared" / "cases"))
MAKERS = ("mk.py", "train_tiny.py")
MADE = ("/tiny", "/taught")
"""Where the first leaves its model, and the second one; a script that wants it names it."""
SECONDS = 600
"""For a script; one of them starts a vLLM server."""
ALL_SECONDS = 1800
"""For the copy."""
TARGET = "all tests pass, all scripts end with 0, no input is missing"


class Script(NamedTuple):
    """How a script ended, and which of its inputs the copy lacks."""

    code: int
    inputs: int
    missing: list[str]

    @property
    def met(self) -> bool:
        return self.code == 0 and self.inputs > 0 and not self.missing


def environment(folder: Path) -> Mapping[str, str]:
    """For a process that leaves its files in the folder and takes our code from here."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    return {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path, "TMPDIR": str(folder)}


def ended(argv: list[str], folder: Path, seconds: float) -> int:
    """The exit code of a program, whose last lines are shown where it is not 0; 124 where it took too long."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        argv = [sys.executable, *argv]
        with supervised(argv, cwd=folder, env=environment(folder), stdout=output, stderr=output) as process:
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = 124
        output.seek(0)
        said = output.read().decode(errors="replace")
    print(f"{Path(argv[-1]).name}: {code} after {time.monotonic() - started:.0f} s", file=sys.stderr)
    if code:
        print(said[-3000:], file=sys.stderr)
    return code


def copy_run(folder: Path) -> dict[str, int]:
    """How many tests of the copy passed, failed, or were skipped (which includes those expected to fail)."""
    report = folder / "report.xml"
    argv = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", f"--junitxml={report}", str(COPY)]
    code = ended(argv, folder, ALL_SECONDS)
    outcome: Counter[str] = Counter()
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
        outcome[next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")] += 1
    return {"passed": 0, **outcome, "code": code}


def shared_run(shared: Path, only: list[str], folder: Path) -> dict[str, Script]:
    """Each script of the folder, by the start of its name."""
    ours, found = known(COPY), {}
    paths = [path for path in sorted(shared.glob("case_*.py")) if not only or path.name.split("_")[1] in only]
    if any(model in path.read_text(encoding="utf-8") for path in paths for model in MADE):
        for maker in MAKERS:
            if (shared / maker).exists():
                ended([str(shared / maker)], folder, SECONDS)
    for path in paths:
        theirs = inputs(path)
        missing = ours.missing(theirs)
        for each in missing:
            print(f"{path.name}: the copy lacks {each}", file=sys.stderr)
        code = ended([str(path)], folder, SECONDS)
        found[path.stem] = Script(code, len(theirs.rows) + len(theirs.texts), missing)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="where the scripts are")
    parser.add_argument("--only", nargs="*", default=[], help="numbers of scripts, such as 01")
    options = parser.parse_args()
    if not options.shared.is_dir() and (options.only or options.shared != SHARED):
        parser.error(f"{options.shared} is no folder")
    value: dict[str, Any] = {}
    ok = True
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text("from tests.cases.old_names import install\ninstall()\n")
        if not options.only:
            value["copy"] = copied = copy_run(Path(folder))
            ok = copied.keys() == {"passed", "code"} and copied["passed"] > 0 and copied["code"] == 0
        if options.shared.is_dir():
            scripts = shared_run(options.shared.resolve(), options.only, Path(folder))
            value |= {"scripts": len(scripts), "inputs": sum(script.inputs for script in scripts.values())}
            value["not met"] = [name for name, script in scripts.items() if not script.met]
            ok = ok and bool(scripts) and not value["not met"]
        else:
            print(f"{options.shared} is not there: the copy alone was run", file=sys.stderr)
    print(json.dumps({"bar": "cases", "value": value, "target": TARGET, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
