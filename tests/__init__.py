"""Where the project and the public data lie."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PUBLIC = Path(os.environ.get("FLYWHEEL_TEST_DATA", ROOT.parent / "shared" / "data"))
"""Folders gsm8k, humaneval, bbh, ...; a test that wants one skips where it is not there."""
