"""Judges that ask and reply in the forms of published ones, so that their replies and these can be read alike.

The wordings are ours, what is compatible is the form: whether reasons come first, which labels, which scale. Each is a
Rubric or a Pairwise with a template of its own; `dataclasses.replace` changes whatever else is wanted.
"""

from typing import Literal, get_args

from flywheel.errors import RecipeError
from flywheel.protocols import Asked
from judges.models.pairwise import Pairwise
from judges.models.prompts import wording
from judges.models.rubric import Rubric

DOUBLE = r"\[\[(?P<score>[^\[\]/\n]+(?=(?:/\s*10\s*)?\]\])|)"
"""What stands in double brackets, which is no number where they are not closed."""
ATTRIBUTE = (
    r"(?i)(?<![^\W_]){}\b[\s*_`\"']*[:=][\s*_`\"']*(?P<score>\d++(?:\.\d++)?+)"
    r"(?![^\W_]|[.,]\d|\s*(?:%|(?:[-–—]|to|or)\s*\d))(?:\s*/\s*(?P<of>\d+))?"
)
SUPPORTED = ("How far is what the answer says right, and how well is it supported?",)
"""A rubric for `prometheus`, where none is given."""
Attribute = Literal["helpfulness", "correctness", "coherence", "complexity", "verbosity"]


def mt_bench(model: Asked) -> Rubric:
    """MT-bench, single answers (Zheng et al. 2023): reasons, then `Rating: [[5]]`, from 1 to 10."""
    return Rubric(model=model, template=wording("mt_bench"), low=1, high=10, pattern=DOUBLE)


def mt_bench_pair(model: Asked) -> Pairwise:
    """MT-bench, pairs (Zheng et al. 2023): reasons, then `[[A]]`, `[[B]]`, or `[[C]]` for a tie."""
    return Pairwise(model=model, template=wording("mt_bench_pair"))


def arena_hard(model: Asked) -> Pairwise:
    """Arena-Hard (Li et al. 2024): the judge's own answer, reasons, then one of five labels, such as `[[A>>B]]`.

    Much better counts as better. JudgeBench (Tan et al. 2024) asks most of its judges so.
    """
    return Pairwise(model=model, template=wording("arena_hard"))


def judgebench(model: Asked) -> Pairwise:
    """JudgeBench's plain judge (Tan et al. 2024, after LLMBar, Zeng et al. 2023): only `Output (a)` or `Output (b)`."""
    return Pairwise(model=model, template=wording("judgebench"))


def prometheus(model: Asked, criteria: tuple[str, ...] = SUPPORTED) -> Rubric:
    """Prometheus (Kim et al. 2023, 2024), one answer: feedback by one rubric, then `[RESULT] 4`, from 1 to 5."""
    return Rubric(model=model, template=wording("prometheus"), criteria=criteria, low=1, high=5)


def prometheus_pair(model: Asked) -> Pairwise:
    """Prometheus 2 (Kim et al. 2024), pairs: feedback, then `[RESULT] A`. It knows no tie."""
    return Pairwise(model=model, template=wording("prometheus_pair"))


def ultrafeedback(model: Asked) -> Rubric:
    """UltraFeedback (Cui et al. 2023): `Rating: 4`, then a rationale, from 1 to 5; here one text at a time."""
    return Rubric(model=model, template=wording("ultrafeedback"), low=1, high=5)


def helpsteer(model: Asked, attribute: Attribute = "helpfulness") -> Rubric:
    """HelpSteer (Wang et al. 2023): five attributes from 0 to 4, of which one is the score."""
    if attribute not in get_args(Attribute):
        raise RecipeError(f"HelpSteer has no attribute {attribute!r}: take one of {', '.join(get_args(Attribute))}")
    return Rubric(model=model, template=wording("helpsteer"), low=0, high=4, pattern=ATTRIBUTE.format(attribute))
