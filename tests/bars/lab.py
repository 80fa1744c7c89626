"""Bar `lab`: a little model that grades itself gets truly better, and what becomes of it as a judge is shown.

    python -m tests.bars.lab [--seeds 0 1 2] [--iterations N]

For each seed Self-Rewarding and Meta-Rewarding start from the same taught model. What counts is the exam, which a
verifier grades: the last policy against the base, item by item. Each must be better with p < 0.05 for two seeds of
three. Beside it stands, per iteration, what the judge thinks of the answers, how many of them are right, and how often
the judge agrees with the truth; whatever happens to that is reported as it is.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from flywheel.store.store import Store
from tests.bars.quickstart import gain, run

SEEDS = ("seed", "base.seed", "prompts.seed", "exam.prompts.seed")
"""A seed is another model, other problems, another exam and other seeds; what people taught it stays the same."""
METHODS = ("self-rewarding-lab", "meta-rewarding-lab")
SHOWN = (("Gym", "right"), *(("Rubric", measure) for measure in ("score", "accuracy", "kappa", "ranking")))
"""Whose measures are shown: the truth's, and the judge's."""
TARGET = {"p": 0.05, "seeds": "two of three"}


def judged(home: Path, name: str) -> list[dict[str, Any]]:
    """Per iteration: the mean score, the share of right answers, and the judge's accuracy, kappa and ranking."""
    wanted = [(f"measure = '{measure}' and judge like '{judge}%'", measure) for judge, measure in SHOWN]
    shown = ", ".join(f'max(value) filter ({which}) as "{measure}"' for which, measure in wanted)
    query = f"select iteration, {shown} from judge_health where name = $name group by iteration order by iteration"
    return Store(home / "flywheel.duckdb").sql(query, {"name": name}).to_dicts()


def measure(seed: int, iterations: int | None) -> dict[str, Any]:
    """Both methods from the same start."""
    value: dict[str, Any] = {"seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name in METHODS:
            seconds = run(name, home, seed, SEEDS, iterations)
            value[name] = {"seconds": round(seconds), **gain(home, name), "judge": judged(home, name)}
    print(json.dumps(value), file=sys.stderr, flush=True)
    return value


def main() -> int:
    """Measure and print the bar."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--iterations", type=int)
    chosen = options.parse_args()
    measured = [measure(seed, chosen.iterations) for seed in chosen.seeds]
    wins = {
        name: sum(row[name]["points"] > 0 and row[name]["p"] < TARGET["p"] for row in measured)  # type: ignore[operator]
        for name in METHODS
    }
    ok = all(3 * won >= 2 * len(measured) for won in wins.values())
    print(json.dumps({"bar": "lab", "value": {"wins": wins, "seeds": measured}, "target": TARGET, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
