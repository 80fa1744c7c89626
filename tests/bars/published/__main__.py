"""Bar `published`: what is published of judges and marks is read as it was published, or there is a reason why not.

    python -m tests.bars.published --data FOLDER [--sets NAME ...]

FOLDER holds copies of public repositories, or of the files named here, at whatever depth:

- `judgebench`: outputs/*judge_name=arena_hard*.jsonl of ScalerLab/JudgeBench, replies of judges with their decisions;
- `mt_bench_single` and `mt_bench_pair`: *gpt-4_single*.jsonl and *gpt-4_pair*.jsonl as FastChat writes them;
- `bbh` and `bbh_answers`: code-davinci-002-outputs/ of suzgunmirac/BIG-Bench-Hard, the accuracy of each of its 54
  cells (27 tasks, with a chain of thought and without), and each answer's mark;
- `gsm8k` and `gsm8k_recipe`: example_model_solutions.jsonl of openai/grade-school-math, by `Numeric` and as the recipe
  gsm8k judges;
- `alpaca_eval`: results/ and src/alpaca_eval/leaderboards/ of tatsu-lab/alpaca_eval, a row for each file of annotations
  that has its place on a board.

For each set: its rows, how many are as published, how many are not for a reason that holds (`explained`), and how many
have a verdict, a mark or a number that nobody gave (`made_up`). A set without rows is missing, and not met.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bars.published.answers import bbh, bbh_answers, gsm8k, gsm8k_recipe
from tests.bars.published.boards import alpaca_eval
from tests.bars.published.counting import Counted
from tests.bars.published.verdicts import judgebench, mt_bench_pair, mt_bench_single

SETS: dict[str, Callable[[Path], Counted]] = {
    "judgebench": judgebench,
    "mt_bench_single": mt_bench_single,
    "mt_bench_pair": mt_bench_pair,
    "bbh": bbh,
    "bbh_answers": bbh_answers,
    "gsm8k": gsm8k,
    "gsm8k_recipe": gsm8k_recipe,
    "alpaca_eval": alpaca_eval,
}


def told(count: Counted) -> str:
    """A set's counts, and what is wrong with them."""
    return f"{count}{'' if count.met else ', not met' if count.rows else ', not met: its data are missing'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where the published files are")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    found = {}
    for name in options.sets:
        found[name] = SETS[name](options.data)
        print(f"{name}: {told(found[name])}", file=sys.stderr, flush=True)
    ok = bool(found) and all(count.met for count in found.values())
    value = {name: count._asdict() for name, count in found.items()}
    missing = [name for name, count in found.items() if not count.rows]
    target = "agreed + explained = rows > 0"
    print(json.dumps({"bar": "published", "value": value, "missing": missing, "target": target, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
