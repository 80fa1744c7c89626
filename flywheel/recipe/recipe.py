"""A recipe: one method of the literature as a frozen value, and the extension points that its parts fit.

A recipe file defines `recipe`, a `Recipe`, or a function `recipe(iteration) -> Recipe` where constants change from
one iteration to the next. Its parts are frozen dataclasses whose fields are their parameters: that is what names them
in the store and in a run's identity.
"""

from dataclasses import dataclass
from typing import Literal

from flywheel.identity import describe
from flywheel.protocols import AnyJudge, Filter, Pick, Proposer, Sampling, Source, Worked
from flywheel.store.ids import content_id
from flywheel.training.settings import Scratch, Sft, Train


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Supervised training on human data that turns `Recipe.base` into the base of the whole run."""

    examples: Worked
    train: Sft


@dataclass(frozen=True, kw_only=True)
class Meta:
    """Judging the judgments: the subjects are what the recipe's first judge wrote about the answers that `keep` keeps.

    `pick` sees them as JUDGED, where the prompt is the judge's question; its rows train beside those of `Recipe.pick`.
    """

    keep: tuple[Filter, ...]
    judge: AnyJudge
    pick: Pick


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Held-out prompts, a judge that is not the policy, how answers are drawn, and the `ks` of pass@k and maj@k."""

    name: str
    prompts: Source
    judge: AnyJudge
    sampling: Sampling = Sampling(temperature=0.0)
    ks: tuple[int, ...] = (1,)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Which new checkpoint becomes the policy. `better`: significantly better than the incumbent at level alpha, by a
    paired two-sided test; `not worse`: not significantly worse; `always`: every one, for controls and for measuring.
    With `approval` a human has the last word on each promotion, and the run waits for it."""

    promote: Literal["better", "not worse", "always"] = "better"
    alpha: float = 0.05
    approval: bool = False


@dataclass(frozen=True)
class Alarm:
    """A line that a judge's health must not cross; its `measure` is one of `flywheel.health.measures.MEASURES`.

    It is crossed when the whole 95% interval lies beyond, or the value where there is no interval. That is noted, and
    shown beside the iteration; a red alarm stops the run before anything trains. A run goes on when its alarms change.
    """

    measure: str
    at_least: float | None = None
    at_most: float | None = None
    judge: str | None = None  # the name of one judge; None: every one
    red: bool = False


DEFAULT_ALARMS = (
    Alarm("ranking", at_least=0.5, red=True),  # worse than a coin
    Alarm("kappa", at_least=0.4),
    Alarm("accuracy lost", at_most=0.02),
    Alarm("generosity", at_most=0.2),
    Alarm("verbosity at equal gold", at_least=-0.3, at_most=0.3),
    Alarm("flip rate", at_most=0.3),
    Alarm("first slot", at_least=0.35, at_most=0.65),
    Alarm("anchoring", at_most=0.9),
    Alarm("retest alpha", at_least=0.4),
    Alarm("failed", at_most=0.1),
)
"""Lines of our own choice, as no paper gives any: look at a run's first two iterations, then draw yours."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One method: what each of the six steps uses."""

    name: str
    base: str | Scratch  # a folder, a Hub id, or a model to build
    prompts: Source
    judges: tuple[AnyJudge, ...]  # the first one's mean score is `score` in filters and picks
    keep: tuple[Filter, ...]
    pick: Pick
    train: Train
    exam: Exam
    proposer: Proposer | None = None  # writes prompts_per_iteration new ones after the example of `prompts`
    sampling: Sampling = Sampling()
    warm_start: WarmStart | None = None
    meta: Meta | None = None
    gold: AnyJudge | None = None  # knows the truth: the judges are measured by it, but nothing is kept or picked by it
    alarms: tuple[Alarm, ...] = ()
    init_from: Literal["base", "previous"] = "base"
    prompts_per_iteration: int | None = None  # the next so many, round and round; None: all, each time
    gate: Gate = Gate()
    iterations: int = 3
    engine: str = "vllm"  # a name of `engines/table.py`, or the http(s) address of an OpenAI-compatible server
    batch: int = 256  # prompts that are sampled and stored together: what a kill can lose
    overlap: int = 13  # a prompt that shares so many words in a row with an exam prompt is not trained on
    seed: int = 0


OPERATIONAL = ("iterations", "batch", "alarms")
"""Fields that change how long a run goes or in what portions, but not what it makes."""


def run_id(recipe: Recipe) -> str:
    """A run is its recipe: the same one goes on where it stopped, a changed one is another run."""
    return content_id("run", {name: item for name, item in describe(recipe).items() if name not in OPERATIONAL})
