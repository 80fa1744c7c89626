"""The verifiers of reasoning-gym: each problem is scored by the dataset that made it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

from flywheel.errors import EngineMissing, RecipeError
from flywheel.protocols import Verdict
from flywheel.text.thoughts import THOUGHTS, Markers, after_thought
from judges.rules.plain import announced, plain_answer
from judges.verdict import ENDLESS, Rule

Score = Callable[[str, Mapping[str, Any]], float]


@dataclass(frozen=True)
class Gym(Rule):
    """Right if reasoning-gym gives the answer, which stands after the last `after`, its full score; half is wrong.

    The verifier is given the answer as it stands, and without bold, LaTeX, a full stop or a sentence after it
    (`judges.rules.plain`). `meta` must hold the dataset's name and the entry, as `data.procedural` writes them. A text
    without an answer is `unparsable`; `error` where there is no entry, or where the verifier itself fails.
    """

    after: str = "Answer:"
    thoughts: Markers = field(default=THOUGHTS, kw_only=True)
    version: ClassVar[int] = 2  # marks around an answer, a sentence after it and thoughts before it go

    def __post_init__(self) -> None:
        if not self.after:
            raise RecipeError("`after` must not be empty: without it the working would be scored, too")

    def verdict(self, text: str, reference: str | None, meta: str | None) -> Verdict:
        """As Verifier. Raises EngineMissing if reasoning-gym is not installed."""
        try:
            problem = json.loads(meta or "")
            score, entry = scorer(problem["dataset"]), problem["entry"]
        except (KeyError, TypeError, ValueError) as error:
            return Verdict("error", None, f"no problem of reasoning-gym in meta: {error!r}"[:200])
        if (said := after_thought(text, self.thoughts)) is None:
            return ENDLESS
        answer = (announced(self.after, said) or "").strip()
        if not answer:
            return Verdict("unparsable", None, "no answer")
        return best(score, (answer, plain_answer(answer, stop=True), plain_answer(answer)), entry)


def best(score: Score, answers: Sequence[str], entry: Mapping[str, Any]) -> Verdict:
    """The verdict on the first spelling of an answer that is right, or else on the last that can be scored."""
    verdict = None
    for answer in dict.fromkeys(answers):
        try:
            verdict = Verdict("ok", float(score(answer, entry) >= 1.0), answer)
        except Exception as error:  # 106 verifiers, each with its own way to fail over what it did not expect
            verdict = verdict or Verdict("error", None, f"{type(error).__name__}: {error}"[:200])
        if verdict.score:
            break
    assert verdict is not None, "at least one answer"
    return verdict


@cache
def scorer(dataset: str) -> Score:
    """The verifier of one dataset; ValueError if there is none of that name."""
    try:
        import reasoning_gym
    except ImportError as error:
        raise EngineMissing("Gym needs reasoning-gym: install flywheel's extra tasks") from error
    score: Score = reasoning_gym.get_score_answer_fn(dataset)
    return score
