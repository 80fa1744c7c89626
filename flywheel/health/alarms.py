"""When a judge's health crosses a line of the recipe. No I/O."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import polars as pl

from flywheel.recipe.recipe import Alarm
from flywheel.stats.estimate import Estimate


class Line(NamedTuple):
    """A line that was crossed."""

    alarm: Alarm
    judge: str
    measure: str
    found: Estimate
    beyond: str  # as in "below 0.5"

    def __str__(self) -> str:
        colour = "red alarm" if self.alarm.red else "alarm"
        return f"{colour}: {self.judge}: {self.measure} is {tell(self.found)}, {self.beyond}"


def going_off(alarms: Sequence[Alarm], health: pl.DataFrame) -> list[Line]:
    """The alarms that go off, red ones first."""
    found = []
    for row, alarm in product(health.to_dicts(), alarms):
        estimate = Estimate(row["value"], row["low"], row["high"], row["n"])
        beyond = crossed(alarm, row["judge"], row["measure"], estimate)
        if beyond:
            found.append(Line(alarm, row["judge"], row["measure"], estimate, beyond))
    return sorted(found, key=lambda each: not each.alarm.red)


def crossed(alarm: Alarm, judge: str, measure: str, found: Estimate) -> str | None:
    """Which line of the alarm lies beyond the whole interval (or the value, without one), in words; None if none does.

    What is not certain is no alarm: with few prompts every measure looks bad now and then.
    """
    if alarm.measure != measure or alarm.judge not in (None, judge) or found.value is None:
        return None
    if alarm.at_least is not None and (found.value if found.high is None else found.high) < alarm.at_least:
        return f"below {alarm.at_least:g}"
    if alarm.at_most is not None and (found.value if found.low is None else found.low) > alarm.at_most:
        return f"above {alarm.at_most:g}"
    return None


def border(alarm: Alarm) -> str:
    """The lines of an alarm in words."""
    ends = (("at least", alarm.at_least), ("at most", alarm.at_most))
    return " and ".join(f"{words} {end:g}" for words, end in ends if end is not None)


def tell(found: Estimate) -> str:
    """The numbers in words."""
    if found.value is None:
        return "unknown"
    return f"{found.value:.3g}" + ("" if found.low is None else f" ({found.low:.3g} to {found.high:.3g})")
