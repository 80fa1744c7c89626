"""A step that goes on for long says so: lines in the log, and a bar in the UI."""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import cast
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flywheel.pipeline.iteration import Progress

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]
LINE_SECONDS = 5.0
"""Between two lines of the log, at least."""
BAR_SECONDS = 2.0
"""Between two updates of the bar, at least; a step that ends before has no bar."""


def follow(steps: Iterator[Progress], key: str, log: Log) -> Progress | None:
    """Let a step run to its end, telling what it does; gives its last Progress, None if it had nothing to do."""
    first = last = None
    bar: UUID | None = None
    logged = drawn = time.monotonic()
    for last in steps:
        first = first if first and first.done <= last.done else last  # the next judge counts from the start again
        at = time.monotonic()
        if at - logged >= LINE_SECONDS:
            log.info(progress_words(first, last))
            logged = at
        if at - drawn >= BAR_SECONDS:
            bar = draw(bar, key, first, last)
            drawn = time.monotonic()
    if last and first:
        log.info(progress_words(first, last) + (f": {last.note}" if last.note else ""))
        if bar:
            draw(bar, key, first, last)
    return last


def progress_words(first: Progress, last: Progress) -> str:
    """Progress in words: how far, how fast, and how long still, as far as `first` and `last` tell."""
    share = f" ({100 * last.done / last.total:.0f}%)" if last.total else ""
    rate = f", {last.tokens / last.seconds:,.0f} tokens/s" if last.tokens and last.seconds else ""
    return f"{last.step}: {last.done:,} of {last.total:,}{share}{rate}{left(first, last)}"


def left(first: Progress, last: Progress) -> str:
    """The time that is left at the pace since `first`, in words; nothing where there is no pace yet or no way to go."""
    done, seconds = last.done - first.done, last.seconds - first.seconds
    if done <= 0 or last.done >= last.total:
        return ""
    still = (last.total - last.done) * seconds / done
    return f", {still:.0f} s left" if still < 90 else f", {still / 60:.0f} min left"


def draw(bar: UUID | None, key: str, first: Progress, last: Progress) -> UUID | None:
    """The bar, made or moved. A server that does not answer costs a run no step, only the bar."""
    percent = 100 * last.done / last.total if last.total else 0.0
    with contextlib.suppress(httpx.HTTPError):
        if bar is None:
            return cast(UUID, create_progress_artifact(percent, key, progress_words(first, last)))
        update_progress_artifact(bar, percent, progress_words(first, last))
    return bar
