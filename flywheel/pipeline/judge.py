"""The `judge` step: the recipe's judges, its meta-judge and gold say what they think of the answers."""

from collections.abc import Iterator

from flywheel.pipeline.iteration import Iteration, Progress
from flywheel.pipeline.judge_batches import judge_answers
from flywheel.pipeline.meta_judge import judge_judgments
from flywheel.pipeline.monitor import check_up
from flywheel.store import queries


def judge(iteration: Iteration) -> Iterator[Progress]:
    """Every judge of the recipe scores every answer, the meta-judge what the first of them wrote, gold all of them.

    Then the judges themselves are measured; HealthAlarm if one has crossed a red line.
    """
    assert iteration.policy is not None
    prompts = queries.proposed(iteration.store, iteration.id)
    draw = iteration.draw(iteration.recipe.sampling, iteration.seed)
    tokens = 0
    for judge in (*iteration.recipe.judges, *([iteration.recipe.gold] if iteration.recipe.gold else [])):
        made = 0
        for done, made in judge_answers(iteration, prompts, iteration.policy, draw, judge, iteration.seed):
            yield iteration.progress("judge", done, len(prompts), tokens + made)
        tokens += made
    if iteration.recipe.meta:
        made = 0
        for done, made in judge_judgments(iteration, iteration.recipe.meta):
            yield iteration.progress("judge", done, len(prompts), tokens + made)
        tokens += made
    note = check_up(iteration)
    if note:
        yield iteration.progress("judge", len(prompts), len(prompts), tokens, note)
