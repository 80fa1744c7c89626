"""The exam: the new checkpoint and the incumbent on the same held-out prompts, and who samples next."""

from collections.abc import Iterator, Sequence

import polars as pl

from flywheel.evaluation.gate import decide
from flywheel.evaluation.paired_test import compare, tell
from flywheel.evaluation.scores import grade, maj_at_k, pass_at_k
from flywheel.identity import describe
from flywheel.pipeline.approve import settled
from flywheel.pipeline.checkpoints import candidate
from flywheel.pipeline.iteration import Progress, Turn, draw_frame, opening
from flywheel.pipeline.judge_batches import judge_answers
from flywheel.pipeline.sample import answer
from flywheel.pipeline.select import silence
from flywheel.protocols import Scaled
from flywheel.store import queries
from flywheel.store.ids import content_id
from flywheel.store.schema import DECISIONS, EXAMS


def examine(turn: Turn) -> Iterator[Progress]:
    """Grade the candidate, compare it with the incumbent item by item, and write down who samples next and why."""
    prompts = turn.recipe.exam.prompts()
    exam, new = exam_id(turn, prompts["id"].to_list()), candidate(turn)
    tokens = 0
    if new is not None:
        for done, tokens in graded(turn, new, exam, prompts):
            yield turn.progress("examine", done, len(prompts), tokens)
    decision = decided(turn, new, exam)
    turn.store.add_all({**opening(turn), "decisions": pl.DataFrame([decision], schema=DECISIONS)})
    yield turn.progress("examine", len(prompts), len(prompts), tokens, note=str(decision["reason"]))


def graded(turn: Turn, checkpoint: str, exam: str, prompts: pl.DataFrame) -> Iterator[tuple[int, int]]:
    """Answer, judge and grade the exam; yields prompts answered and tokens."""
    sampling, judge, seed = turn.recipe.exam.sampling, turn.recipe.exam.judge, turn.recipe.seed
    yield from answer(turn, prompts, checkpoint, sampling, seed, "exam")
    draw = turn.draw(sampling, seed)
    for _ in judge_answers(turn, prompts, checkpoint, draw, judge, seed):
        pass
    turn.store.add("grades", grade(answered(turn, checkpoint, prompts), checkpoint, exam))


def answered(turn: Turn, checkpoint: str, prompts: pl.DataFrame) -> pl.DataFrame:
    """The judged answers to PROMPTS of the exam, as `grade` wants them: scores go from 0 to 1, whatever their scale."""
    judge, draw = turn.recipe.exam.judge, turn.draw(turn.recipe.exam.sampling, turn.recipe.seed)
    answers = queries.answered(turn.store, checkpoint, draw, prompts["id"].to_list(), turn.title(judge))
    low, high = judge.scale if isinstance(judge, Scaled) else (0.0, 1.0)
    return answers.with_columns((pl.col("score") - low) / (high - low))


def decided(turn: Turn, new: str | None, exam: str) -> dict[str, object]:
    """The row of DECISIONS."""
    row: dict[str, object] = {"iteration": turn.id, "candidate": new, "incumbent": turn.policy, "exam": exam}
    if turn.number == 0:
        assert new is not None
        score = pass_rate(turn, new, exam)
        reason = f"the base solves {score:.3f}" + at_k(turn, new)
        return row | {"decision": "promote", "policy": new, "score": score, "reason": reason}
    assert turn.policy is not None
    if new is None:
        judges = turn.titles(turn.recipe.judges)
        silent = silence(queries.judged(turn.store, turn.id, judges), turn.recipe.judges[0].name)
        reason = f"hold: {silent or 'no answer was kept'}, so there was nothing to train on"
        return row | {"decision": "hold", "policy": turn.policy, "reason": reason}
    result = compare(queries.grades(turn.store, new, exam), queries.grades(turn.store, turn.policy, exam))
    decision, reason = decide(result, turn.recipe.gate)
    if decision == "promote" and turn.recipe.gate.approval:
        decision, reason = settled(turn, new, reason, tell(result))
    policy = {"promote": new, "hold": turn.policy, "roll back": best(turn)}[decision]
    shown = {name: value for name, value in result._asdict().items() if name in DECISIONS}
    return shown | row | {"decision": decision, "policy": policy, "reason": reason + at_k(turn, new)}


def pass_rate(turn: Turn, checkpoint: str, exam: str) -> float:
    """pass@1: the mean share of right answers."""
    grades = queries.grades(turn.store, checkpoint, exam)
    return float(grades.select((pl.col("correct") / pl.col("n")).mean()).item())


def best(turn: Turn) -> str:
    """The promoted checkpoint with the highest score: where a roll back goes."""
    promoted = queries.decisions(turn.store, turn.run).filter(pl.col("decision") == "promote")
    return str(promoted.sort("score", descending=True, maintain_order=True)["candidate"][0])


def at_k(turn: Turn, checkpoint: str) -> str:
    """pass@k and maj@k of the exam in words, for each k of the recipe above 1."""
    exam = turn.recipe.exam
    ks = [k for k in exam.ks if k > 1]
    if not ks:
        return ""
    answers = answered(turn, checkpoint, exam.prompts())
    counts = grade(answers, checkpoint, "").select("n", "correct")
    told = [
        f"pass@{k} {counts.select(pass_at_k(pl.col('n'), pl.col('correct'), k).mean()).item():.3f}, "
        f"maj@{k} {maj_at_k(answers, k).select(pl.col('majority').mean()).item() or 0.0:.3f}"
        for k in ks
    ]
    return "; " + "; ".join(told)


def exam_id(turn: Turn, prompts: Sequence[str]) -> str:
    """An exam is its prompts, its judge and its dice: all checkpoints of a run answer with the same seeds."""
    exam = turn.recipe.exam
    draw = turn.draw(exam.sampling, turn.recipe.seed)
    return turn.store.known(content_id("exam", exam.name, list(prompts), describe(exam.judge), draw))


def enrol(turn: Turn) -> pl.DataFrame:
    """PROMPTS of the exam. From here on the store refuses to train on them."""
    prompts = turn.recipe.exam.prompts()
    sampling = turn.recipe.exam.sampling
    draw = turn.draw(sampling, turn.recipe.seed)
    exams = prompts.select(
        id=pl.lit(exam_id(turn, prompts["id"].to_list())),
        name=pl.lit(turn.recipe.exam.name),
        position=pl.int_range(pl.len(), dtype=pl.Int32),
        prompt="id",
    ).cast(EXAMS)
    draws = draw_frame(draw, sampling, turn.recipe.seed, turn.recipe.engine)
    turn.store.add_all({"prompts": prompts, "draws": draws, "exams": exams})
    return prompts
