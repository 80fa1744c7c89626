"""The judges at the end of the `judge` step: each is measured once, and told of where it crosses a line."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from flywheel.errors import HealthAlarm, RecipeError
from flywheel.health.alarms import going_off
from flywheel.health.judge_health import Evidence, Measured, measures, right_share, self_preference
from flywheel.identity import title
from flywheel.pipeline.iteration import Iteration, note_event
from flywheel.pipeline.meta_judge import worth_judging
from flywheel.protocols import POLICY, AnyJudge, Ensemble, PairJudge, Scaled
from flywheel.stats.estimate import Estimate
from flywheel.store import queries
from flywheel.store.schema import COMPARISONS, HEALTH
from flywheel.store.store import Store

TRUTH = pl.Schema({"generation": pl.String(), "gold": pl.Float64()})
WORD_SCORES = pl.Schema({"trace": pl.String(), "score": pl.Float64()})


def check_up(iteration: Iteration) -> str | None:
    """Store the HEALTH of this iteration's judges if it is not there, and note the alarms. Gives a line for the user.

    Raises HealthAlarm for a red one.
    """
    known = queries.run_health(iteration.store, iteration.run)
    mine = known.filter(pl.col("iteration") == iteration.number)
    fresh = mine.is_empty()
    if fresh:
        mine = measured(iteration, known.filter(pl.col("iteration") < iteration.number))
        iteration.store.add("health", mine)
    sound(iteration, mine)
    return agreement(iteration, mine) if fresh else None


def measured(iteration: Iteration, before: pl.DataFrame) -> pl.DataFrame:
    """HEALTH of every judge of the iteration; `before` is that of the run's earlier iterations."""
    assert iteration.policy is not None
    recipe, store, frames = iteration.recipe, iteration.store, [HEALTH.to_frame()]
    prompts = queries.proposed(store, iteration.id)["id"].to_list()
    draw = iteration.draw(recipe.sampling, iteration.seed)
    gold, known = TRUTH.to_frame(), None
    if recipe.gold:
        known = queries.spoken(store, iteration.policy, draw, prompts, iteration.title(recipe.gold))
        gold = truth(recipe.gold, known)
    for judge in every(recipe.judges):
        if recipe.gold and iteration.title(judge) == iteration.title(recipe.gold):
            continue
        votes = queries.spoken(store, iteration.policy, draw, prompts, iteration.title(judge))
        found = measures(evidence(store, judge, votes, gold))
        found |= dict(since(found, before.filter(pl.col("judge") == iteration.title(judge))))
        found |= own_taste(iteration, judge)
        frames.append(health_rows(iteration, iteration.title(judge), found))
    if recipe.meta:
        frames += [health_rows(iteration, iteration.title(judge), found) for judge, found in of_meta(iteration)]
    if recipe.gold and known is not None:
        found = measures(evidence(iteration.store, recipe.gold, known, TRUTH.to_frame()))
        right = right_share(known.join(gold, on="generation", how="left", maintain_order="left"))
        frames.append(health_rows(iteration, iteration.title(recipe.gold), found | {"right": right}))
    return pl.concat(frames)


def every(judges: Sequence[AnyJudge]) -> Iterator[AnyJudge]:
    """The judges, each ensemble before its members."""
    for judge in judges:
        yield judge
        yield from judge.members if isinstance(judge, Ensemble) else ()


def truth(gold: AnyJudge, votes: pl.DataFrame) -> pl.DataFrame:
    """`generation` and `gold`, from 0 to 1, from the gold judge's votes; 0 where a rule finds no answer."""
    scale = scale_of(gold, votes)
    if scale is None:
        raise RecipeError(f"gold {gold.name} scores beyond 0 and 1: give it a property `scale`, its lowest and highest")
    score = (pl.col("score").mean() - scale[0]) / (scale[1] - scale[0])
    is_rule = not isinstance(gold, Ensemble) and gold.model is None
    unread = (pl.col("status") == "unparsable").all() & is_rule
    return votes.group_by("generation", maintain_order=True).agg(gold=pl.when(unread).then(0.0).otherwise(score))


def scale_of(judge: AnyJudge, votes: pl.DataFrame) -> tuple[float, float] | None:
    """The judge's lowest and highest score; None if nobody knows."""
    if isinstance(judge, Scaled):
        return judge.scale
    return (0.0, 1.0) if votes["score"].drop_nulls().is_between(0, 1).all() else None


def evidence(
    store: Store, judge: AnyJudge, votes: pl.DataFrame, gold: pl.DataFrame, words: pl.DataFrame | None = None
) -> Evidence:
    """What a judge said, from its votes as `history.spoken` gives them; `gold` has `generation` and `gold`.

    If it compares judgments, `words` says what these scored: `trace` and `score`.
    """
    known = votes.join(gold, on="generation", how="left", maintain_order="left")
    compared = COMPARISONS.to_frame()
    if isinstance(judge, PairJudge):
        compared = queries.compared(
            store, votes["generation"].unique(maintain_order=True).to_list(), store.known(title(judge))
        )
    worth = known.select("generation", "prompt", "gold").unique("generation")
    scored = (WORD_SCORES.to_frame() if words is None else words).select(generation="trace", score="score")
    worth = worth.join(scored.unique("generation", keep="first"), on="generation", how="left")
    for side in ("a", "b"):
        names = {"generation": side, "gold": f"gold_{side}", "score": f"score_{side}"}
        columns = worth.rename(names) if side == "a" else worth.drop("prompt").rename(names)
        compared = compared.join(columns, on=side, how="left", maintain_order="left")
    return Evidence(known, compared, scale_of(judge, votes))


def own_taste(iteration: Iteration, judge: AnyJudge) -> dict[str, Estimate]:
    """Self-preference, where the run holds answers by the judge's weights and others. The policy judges its own."""
    gold = iteration.recipe.gold
    if gold is None or isinstance(judge, Ensemble) or judge.model is None or judge.model.weights == POLICY:
        return {}
    names = iteration.title(judge), iteration.title(gold)
    found = self_preference(queries.authored(iteration.store, iteration.run, iteration.number, *names))
    return {"self-preference": found} if found.n else {}


def since(found: dict[str, Estimate], before: pl.DataFrame) -> Measured:
    """What has changed: `before` are the HEALTH rows of the same judge in earlier iterations."""
    first = before.filter(pl.col("iteration") == pl.col("iteration").min())
    known = {row["measure"]: Estimate(row["value"], row["low"], row["high"], row["n"]) for row in first.to_dicts()}
    spread = known["deviation"].value if "deviation" in known else None
    if spread and "score" in found and "score" in known:
        yield "drift", _change(known["score"], found["score"], spread)
    best = before.filter(pl.col("measure") == "accuracy").drop_nulls("value").sort("value", maintain_order=True)
    if len(best) and "accuracy" in found:
        yield "accuracy lost", _change(found["accuracy"], Estimate(*best.row(-1)[-4:]))


def _change(old: Estimate, new: Estimate, unit: float = 1.0) -> Estimate:
    """new - old, whose halves of intervals add up as those of independent estimates."""
    if old.value is None or new.value is None:
        return Estimate(None, None, None, new.n)
    value = (new.value - old.value) / unit
    if old.low is None or old.high is None or new.low is None or new.high is None:
        return Estimate(value, None, None, new.n)
    reach = float(np.hypot(old.high - old.low, new.high - new.low)) / 2 / unit
    return Estimate(value, value - reach, value + reach, new.n)


def of_meta(iteration: Iteration) -> Iterator[tuple[AnyJudge, dict[str, Estimate]]]:
    """Measures of the judges of judgments."""
    recipe, store = iteration.recipe, iteration.store
    assert recipe.meta is not None and iteration.policy is not None
    asked = worth_judging(iteration, recipe.meta)
    draw, prompts = iteration.draw(recipe.sampling, iteration.seed), queries.proposed(store, iteration.id)
    title = iteration.title(recipe.judges[0])
    words = queries.spoken(store, iteration.policy, draw, prompts["id"].to_list(), title).select("trace", "score")
    for judge in every([recipe.meta.judge]):
        title = iteration.title(judge)
        groups = asked.group_by("checkpoint", "draw", maintain_order=True)
        votes = [
            queries.spoken(store, str(checkpoint), str(draw), rows["prompt"].unique().to_list(), title)
            for (checkpoint, draw), rows in groups
        ]
        if votes:
            mine = pl.concat(votes).filter(pl.col("generation").is_in(asked["trace"].implode()))
            yield judge, measures(evidence(store, judge, mine, TRUTH.to_frame(), words))


def health_rows(iteration: Iteration, judge: str, found: Mapping[str, Estimate]) -> pl.DataFrame:
    """HEALTH of one judge."""
    rows = [(iteration.run, iteration.number, judge, measure, *estimate) for measure, estimate in found.items()]
    return pl.DataFrame(rows, schema=HEALTH, orient="row")


def sound(iteration: Iteration, health: pl.DataFrame) -> None:
    """Note the alarms that go off, each once; raise HealthAlarm for a red one."""
    found = going_off(iteration.recipe.alarms, health)
    if not found:
        return
    known = queries.notes(iteration.store, iteration.run, iteration.number)
    for line in found:
        if str(line) not in known:
            note_event(iteration, "judge", "note", str(line))
    if found[0].alarm.red:
        raise HealthAlarm(
            f"iteration {iteration.number} stopped before its training by a {found[0]}. All is stored: see "
            "`flywheel judge health`; with another line in `alarms` the same run goes on, with another judge a new one"
        )


def agreement(iteration: Iteration, health: pl.DataFrame) -> str | None:
    """How far the first judge agrees with gold, in words."""
    first, gold = iteration.title(iteration.recipe.judges[0]), iteration.recipe.gold
    mine = {row["measure"]: row for row in health.filter(pl.col("judge") == first).to_dicts()}
    if gold is None or "accuracy" not in mine or mine["accuracy"]["value"] is None:
        return None
    kappa = mine["kappa"]["value"]
    beyond = "" if kappa is None else f", kappa {kappa:.2f}"
    return (
        f"{first} agrees with {gold.name} on {mine['accuracy']['value']:.3f} of {mine['accuracy']['n']} answers{beyond}"
    )
