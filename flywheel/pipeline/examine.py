"""The exam: the new checkpoint and the incumbent on the same held-out prompts, and who samples next."""

from collections.abc import Iterator, Sequence

import polars as pl

from flywheel.evaluation.gate import decide
from flywheel.evaluation.paired_test import compare, tell
from flywheel.evaluation.scores import grade_exam, maj_at_k, pass_at_k
from flywheel.identity import describe
from flywheel.pipeline.approve import settled
from flywheel.pipeline.checkpoints import candidate
from flywheel.pipeline.iteration import Iteration, Progress, draw_frame, opening
from flywheel.pipeline.judge_batches import judge_answers
from flywheel.pipeline.sample import answer_prompts
from flywheel.pipeline.select import silence
from flywheel.protocols import Scaled
from flywheel.store import queries
from flywheel.store.ids import content_id
from flywheel.store.schema import DECISIONS, EXAMS


def examine(iteration: Iteration) -> Iterator[Progress]:
    """Grade the candidate, compare it with the incumbent item by item, and write down who samples next and why."""
    prompts = iteration.recipe.exam.prompts()
    exam, new = exam_id(iteration, prompts["id"].to_list()), candidate(iteration)
    tokens = 0
    if new is not None:
        for done, tokens in graded(iteration, new, exam, prompts):
            yield iteration.progress("examine", done, len(prompts), tokens)
    decision = decided(iteration, new, exam)
    iteration.store.add_all({**opening(iteration), "decisions": pl.DataFrame([decision], schema=DECISIONS)})
    yield iteration.progress("examine", len(prompts), len(prompts), tokens, note=str(decision["reason"]))


def graded(iteration: Iteration, checkpoint: str, exam: str, prompts: pl.DataFrame) -> Iterator[tuple[int, int]]:
    """Answer, judge and grade the exam; yields prompts answered and tokens."""
    sampling, judge, seed = iteration.recipe.exam.sampling, iteration.recipe.exam.judge, iteration.recipe.seed
    yield from answer_prompts(iteration, prompts, checkpoint, sampling, seed, "exam")
    draw = iteration.draw(sampling, seed)
    for _ in judge_answers(iteration, prompts, checkpoint, draw, judge, seed):
        pass
    iteration.store.add("grades", grade_exam(exam_answers(iteration, checkpoint, prompts), checkpoint, exam))


def exam_answers(iteration: Iteration, checkpoint: str, prompts: pl.DataFrame) -> pl.DataFrame:
    """The judged answers to PROMPTS of the exam for `grade_exam`: scores go from 0 to 1, whatever their scale."""
    judge, draw = iteration.recipe.exam.judge, iteration.draw(iteration.recipe.exam.sampling, iteration.recipe.seed)
    answers = queries.judged_answers(iteration.store, checkpoint, draw, prompts["id"].to_list(), iteration.title(judge))
    low, high = judge.scale if isinstance(judge, Scaled) else (0.0, 1.0)
    return answers.with_columns((pl.col("score") - low) / (high - low))


def decided(iteration: Iteration, new: str | None, exam: str) -> dict[str, object]:
    """The row of DECISIONS."""
    row: dict[str, object] = {"iteration": iteration.id, "candidate": new, "incumbent": iteration.policy, "exam": exam}
    if iteration.number == 0:
        assert new is not None
        score = pass_rate(iteration, new, exam)
        reason = f"the base solves {score:.3f}" + at_k(iteration, new)
        return row | {"decision": "promote", "policy": new, "score": score, "reason": reason}
    assert iteration.policy is not None
    if new is None:
        judges = iteration.titles(iteration.recipe.judges)
        silent = silence(queries.judged(iteration.store, iteration.id, judges), iteration.recipe.judges[0].name)
        reason = f"hold: {silent or 'no answer was kept'}, so there was nothing to train on"
        return row | {"decision": "hold", "policy": iteration.policy, "reason": reason}
    result = compare(
        queries.grades(iteration.store, new, exam), queries.grades(iteration.store, iteration.policy, exam)
    )
    decision, reason = decide(result, iteration.recipe.gate)
    if decision == "promote" and iteration.recipe.gate.approval:
        decision, reason = settled(iteration, new, reason, tell(result))
    policy = {"promote": new, "hold": iteration.policy, "roll back": best(iteration)}[decision]
    shown = {name: value for name, value in result._asdict().items() if name in DECISIONS}
    return shown | row | {"decision": decision, "policy": policy, "reason": reason + at_k(iteration, new)}


def pass_rate(iteration: Iteration, checkpoint: str, exam: str) -> float:
    """pass@1: the mean share of right answers."""
    grades = queries.grades(iteration.store, checkpoint, exam)
    return float(grades.select((pl.col("correct") / pl.col("n")).mean()).item())


def best(iteration: Iteration) -> str:
    """The promoted checkpoint with the highest score: where a roll back goes."""
    promoted = queries.decisions(iteration.store, iteration.run).filter(pl.col("decision") == "promote")
    return str(promoted.sort("score", descending=True, maintain_order=True)["candidate"][0])


def at_k(iteration: Iteration, checkpoint: str) -> str:
    """pass@k and maj@k of the exam in words, for each k of the recipe above 1."""
    exam = iteration.recipe.exam
    ks = [k for k in exam.ks if k > 1]
    if not ks:
        return ""
    answers = exam_answers(iteration, checkpoint, exam.prompts())
    counts = grade_exam(answers, checkpoint, "").select("n", "correct")
    told = [
        f"pass@{k} {counts.select(pass_at_k(pl.col('n'), pl.col('correct'), k).mean()).item():.3f}, "
        f"maj@{k} {maj_at_k(answers, k).select(pl.col('majority').mean()).item() or 0.0:.3f}"
        for k in ks
    ]
    return "; " + "; ".join(told)


def exam_id(iteration: Iteration, prompts: Sequence[str]) -> str:
    """An exam is its prompts, its judge and its draw: all checkpoints of a run answer with the same seeds."""
    exam = iteration.recipe.exam
    draw = iteration.draw(exam.sampling, iteration.recipe.seed)
    return iteration.store.known(content_id("exam", exam.name, list(prompts), describe(exam.judge), draw))


def enrol(iteration: Iteration) -> pl.DataFrame:
    """PROMPTS of the exam. From here on the store refuses to train on them."""
    prompts = iteration.recipe.exam.prompts()
    sampling = iteration.recipe.exam.sampling
    draw = iteration.draw(sampling, iteration.recipe.seed)
    exams = prompts.select(
        id=pl.lit(exam_id(iteration, prompts["id"].to_list())),
        name=pl.lit(iteration.recipe.exam.name),
        position=pl.int_range(pl.len(), dtype=pl.Int32),
        prompt="id",
    ).cast(EXAMS)
    draws = draw_frame(draw, sampling, iteration.recipe.seed, iteration.recipe.engine)
    iteration.store.add_all({"prompts": prompts, "draws": draws, "exams": exams})
    return prompts
