"""The `judge` step: the recipe's judges, its meta-judge and gold say what they think of the answers."""

from collections.abc import Iterator

from flywheel.pipeline.iteration import Progress, Turn
from flywheel.pipeline.judge_batches import judge_answers
from flywheel.pipeline.meta_judge import judge_judgments
from flywheel.pipeline.monitor import check_up
from flywheel.store import queries


def judge(turn: Turn) -> Iterator[Progress]:
    """Every judge of the recipe scores every answer, the meta-judge what the first of them wrote, gold all of them.

    Then the judges themselves are measured; HealthAlarm if one has crossed a red line.
    """
    assert turn.policy is not None
    prompts = queries.proposed(turn.store, turn.id)
    draw = turn.draw(turn.recipe.sampling, turn.seed)
    tokens = 0
    for judge in (*turn.recipe.judges, *([turn.recipe.gold] if turn.recipe.gold else [])):
        made = 0
        for done, made in judge_answers(turn, prompts, turn.policy, draw, judge, turn.seed):
            yield turn.progress("judge", done, len(prompts), tokens + made)
        tokens += made
    if turn.recipe.meta:
        made = 0
        for done, made in judge_judgments(turn, turn.recipe.meta):
            yield turn.progress("judge", done, len(prompts), tokens + made)
        tokens += made
    note = check_up(turn)
    if note:
        yield turn.progress("judge", len(prompts), len(prompts), tokens, note)
