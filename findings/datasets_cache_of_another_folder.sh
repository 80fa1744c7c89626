#!/usr/bin/env bash
# `datasets` 5.2: two local folders of one name, whose READMEs list their files, share a place in the cache, so loading
# the second one silently gives the rows of the first.
# Seen with datasets 5.2.0, pyarrow 26.0.1, Python 3.11: "first: 2 rows", "second: 2 rows" where the second file has 3;
# with an empty cache of its own the second folder has its 3.
# Ends with 1 if that changes.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet "datasets==5.2.0" "pyarrow==26.0.1"
cd "$place"
HF_HOME="$place/hf" HF_HUB_OFFLINE=1 "$place/venv/bin/python" - <<'PY'
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

CARD = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*.parquet\n---\n"


def folder(above: str, texts: list[str]) -> str:
    place = Path(above, "mine")
    (place / "data").mkdir(parents=True)
    (place / "README.md").write_text(CARD)
    pq.write_table(pa.table({"text": texts}), place / "data" / "train-00000-of-00001.parquet")
    return str(place)


first, second = folder("one", ["a", "b"]), folder("two", ["c", "d", "e"])
print("datasets", datasets.__version__, "pyarrow", pa.__version__)
rows = [datasets.load_dataset(each, split="train")["text"] for each in (first, second)]
alone = datasets.load_dataset(second, split="train", cache_dir="another")["text"]
for name, found in (("first", rows[0]), ("second", rows[1]), ("second, with a cache of its own", alone)):
    print(f"{name}: {len(found)} rows: {list(found)}")
sys.exit(0 if list(rows[1]) == ["a", "b"] and list(alone) == ["c", "d", "e"] else 1)
PY
