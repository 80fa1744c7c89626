"""Bar `adding`: each page of `docs/adding.md`, followed to the letter, works, and takes few lines.

    python -m tests.bars.adding

For each page: the files that were touched, with the lines (blank ones aside) that went into them. Largest files: a
method 25 lines, a rule 15, a filter 12, an engine 60 in one file beside its row in the table.
"""

import json
import sys
import tempfile
from pathlib import Path

from tests.adding import copied, follow, sections

TARGET = {"A method": 25, "A judge": 15, "A filter": 12, "An engine": 60}


def main() -> int:
    """Follow the pages and print the bar."""
    value, ok = {}, True
    for section in sections()[:-1]:
        with tempfile.TemporaryDirectory() as folder:
            touched = follow(section, copied(Path(folder)))
        code = {name: lines for name, lines in touched.items() if not name.startswith("tests/")}
        value[section.title] = touched
        ok = ok and max(code.values()) <= TARGET.get(section.title, sys.maxsize)
        print(section.title, touched, file=sys.stderr, flush=True)
    ok = ok and TARGET.keys() <= value.keys()
    print(json.dumps({"bar": "adding", "value": value, "target": TARGET, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
