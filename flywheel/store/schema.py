"""The nouns: one schema per table, and the ids that name their rows.

What moves between steps and components is a Polars frame with one of these schemas; what stays is a DuckDB table with
the same columns (`schema/*.sql`). Rows are appended, never edited. An id is a hash of everything that could change the
row's content (`flywheel.identity`), so making a row again is a no-op and a resume is a re-run.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from flywheel.store.ids import prompt_id

Message = dict[str, str]
Chat = list[Message]
"""Messages with `role` and `content`, as chat templates take them."""

MESSAGE = pl.Struct({"role": pl.String, "content": pl.String})
CHAT = pl.List(MESSAGE)
TIME = pl.Datetime("us")


def schema(columns: Mapping[str, Any]) -> pl.Schema:
    """A table's columns and their types."""
    return pl.Schema(columns)


PROMPTS = schema(
    {
        "id": pl.String,  # hash of the chat alone: an exam prompt stays one, whatever its reference
        "chat": CHAT,
        "reference": pl.String,  # the known answer, or NULL
        "meta": pl.String,  # JSON that a verifier needs, or NULL
        "source": pl.String,
    }
)
DRAWS = schema(
    {
        "id": pl.String,
        "engine": pl.String,
        "n": pl.Int32,  # NULL, like all below, where answers were imported and nobody knows
        "temperature": pl.Float64,
        "top_p": pl.Float64,
        "top_k": pl.Int32,
        "max_tokens": pl.Int32,
        "stop": pl.List(pl.String),
        "seed": pl.Int64,
        "min_p": pl.Float64,  # this and the next four are NULL in rows from before they were recorded, too: neutral
        "repetition_penalty": pl.Float64,  # then, but at an endpoint, whose server may have had values of its own
        "presence_penalty": pl.Float64,
        "frequency_penalty": pl.Float64,
        "min_tokens": pl.Int32,
    }
)
GENERATIONS = schema(
    {
        "id": pl.String,
        "prompt": pl.String,
        "checkpoint": pl.String,
        "draw": pl.String,
        "index": pl.Int32,  # 0..n-1 within its prompt
        "role": pl.String,  # answer | exam | judgment | critique | revision | proposal
        "text": pl.String,
        "prompt_tokens": pl.Int32,
        "tokens": pl.Int32,  # of the text, thoughts and the end token included where the model wrote them
        "logprob": pl.Float64,  # sum over those tokens, before temperature and truncation; NULL if not a finite number
        "seed": pl.Int64,
        "engine": pl.String,  # name and version
        "template": pl.String,  # hash of the chat template
        "created_at": TIME,
        # stop: the model ended it, or a stop string did | length: cut | or why a server says that it ended otherwise:
        # content_filter, tool_calls, error, abort and the like | refusal, reasoning (a thought and no answer) and empty
        # (no text at all) where the server says stop | unknown where it does not say
        "finish_reason": pl.String,
    }
)
VOTES = schema(
    {
        "generation": pl.String,
        "judge": pl.String,
        "vote": pl.Int32,
        "score": pl.Float64,  # NULL unless status is ok: a failed judgment is never a number
        "status": pl.String,  # ok | unparsable | timeout | error | refused
        "detail": pl.String,  # what the judge read or why it failed, or NULL
        "trace": pl.String,  # the generation that holds the judge's words, or NULL where it wrote none
    }
)
"""What a judge says of generations."""
DRAWN = schema({"prompt": pl.String, "checkpoint": pl.String, "draw": pl.String, "index": pl.Int32})
"""How a generation was drawn; kept with its judgments, so that questions about millions of scores are quick."""
JUDGMENTS = schema({**VOTES, **DRAWN})
COMPARISONS = schema(
    {
        "a": pl.String,
        "b": pl.String,
        "order": pl.String,  # ab | ba
        "judge": pl.String,
        "vote": pl.Int32,
        "verdict": pl.String,  # a | b | tie, or NULL unless status is ok
        "status": pl.String,
        "trace": pl.String,
    }
)
SELECTIONS = schema(
    {
        "iteration": pl.String,
        "position": pl.Int32,  # of the filter in the recipe
        "filter": pl.String,
        "generation": pl.String,
        "kept": pl.Boolean,
        "reason": pl.String,
    }
)
EXAMPLES = schema(
    {
        "dataset": pl.String,
        "position": pl.Int32,
        "prompt": pl.String,
        "chat": CHAT,
        "chosen": pl.String,
        "rejected": pl.String,  # NULL for supervised training
        "weight": pl.Float64,
        "origin": pl.String,  # real | synthetic
        "generations": pl.List(pl.String),  # where it came from; empty for real
    }
)
DATASETS = schema(
    {"id": pl.String, "kind": pl.String, "rows": pl.Int64, "real": pl.Int64, "synthetic": pl.Int64, "created_at": TIME}
)
ITERATION_DATASETS = schema({"iteration": pl.String, "dataset": pl.String})
CHECKPOINTS = schema(
    {
        "id": pl.String,
        "kind": pl.String,  # base | scratch | trained
        "parent": pl.String,  # the checkpoint that it was initialised from, or NULL
        "reference": pl.String,  # its reference policy, or NULL
        "dataset": pl.String,  # or NULL
        "trainer": pl.String,  # JSON of the trainer's settings, or NULL
        "weights": pl.String,  # a folder below home, a folder elsewhere, or a Hub id; no part of the id
        "created_at": TIME,
    }
)
METRICS = schema({"checkpoint": pl.String, "step": pl.Int32, "name": pl.String, "value": pl.Float64})
EXAMS = schema({"id": pl.String, "name": pl.String, "position": pl.Int32, "prompt": pl.String})
GRADES = schema(
    {
        "checkpoint": pl.String,
        "exam": pl.String,
        "prompt": pl.String,
        "n": pl.Int32,  # answers drawn
        "correct": pl.Int32,  # of them right
        "unscored": pl.Int32,  # of them without a judgment; counted as not right
        "majority": pl.Boolean,  # whether the most frequent final answer is right, or NULL
    }
)
RUNS = schema(
    {
        "id": pl.String,
        "name": pl.String,
        "recipe": pl.String,
        "versions": pl.String,
        "seed": pl.Int64,
        "created_at": TIME,
    }
)
ITERATIONS = schema(
    {
        "id": pl.String,
        "run": pl.String,
        "number": pl.Int32,
        "policy": pl.String,  # the checkpoint that samples; NULL for iteration 0, which makes the base
        "draw": pl.String,
        "recipe": pl.String,
        "created_at": TIME,
    }
)
PROPOSALS = schema({"iteration": pl.String, "position": pl.Int32, "prompt": pl.String})
DECISIONS = schema(
    {
        "iteration": pl.String,
        "candidate": pl.String,
        "incumbent": pl.String,
        "decision": pl.String,  # promote | hold | roll back
        "policy": pl.String,  # who samples next
        "exam": pl.String,
        "score": pl.Float64,  # the candidate's pass@1
        "difference": pl.Float64,  # to the incumbent, with its 95% interval
        "low": pl.Float64,
        "high": pl.Float64,
        "p": pl.Float64,
        "gained": pl.Int32,  # items that only the candidate solves
        "lost": pl.Int32,  # items that only the incumbent solves
        "reason": pl.String,
    }
)
APPROVALS = schema(
    {
        "iteration": pl.String,
        "candidate": pl.String,
        "status": pl.String,  # asked | approved | rejected; the first verdict counts
        "author": pl.String,  # who gave the verdict, or NULL
        "said": pl.String,  # what the promotion rests on where it was asked, then the human's reason
        "created_at": TIME,
    }
)
EVENTS = schema(
    {
        "run": pl.String,
        "iteration": pl.Int32,
        "step": pl.String,
        "kind": pl.String,  # done | failure | note
        "rows": pl.Int64,
        "tokens": pl.Int64,
        "seconds": pl.Float64,
        "detail": pl.String,
        "created_at": TIME,
    }
)
HEALTH = schema(
    {
        "run": pl.String,
        "iteration": pl.Int32,  # its number
        "judge": pl.String,
        "measure": pl.String,  # one of MEASURES
        "value": pl.Float64,  # NULL where it cannot be told, as with one class only
        "low": pl.Float64,  # of the 95% interval, or NULL
        "high": pl.Float64,
        "n": pl.Int64,  # answers, pairs, votes or verdicts that it rests on
    }
)
ALIASES = schema({"old": pl.String, "new": pl.String, "why": pl.String, "created_at": TIME})
"""Ids that the program works out otherwise than it did when their rows were made: the rows keep the old one."""

TABLES: Mapping[str, pl.Schema] = {
    "prompts": PROMPTS,
    "draws": DRAWS,
    "generations": GENERATIONS,
    "judgments": JUDGMENTS,
    "comparisons": COMPARISONS,
    "selections": SELECTIONS,
    "examples": EXAMPLES,
    "datasets": DATASETS,
    "iteration_datasets": ITERATION_DATASETS,
    "checkpoints": CHECKPOINTS,
    "metrics": METRICS,
    "exams": EXAMS,
    "grades": GRADES,
    "runs": RUNS,
    "iterations": ITERATIONS,
    "proposals": PROPOSALS,
    "decisions": DECISIONS,
    "approvals": APPROVALS,
    "events": EVENTS,
    "health": HEALTH,
    "aliases": ALIASES,
}
KEYS: Mapping[str, tuple[str, ...]] = {
    "prompts": ("id",),
    "draws": ("id",),
    "generations": ("id",),
    "judgments": ("generation", "judge", "vote"),
    "comparisons": ("a", "b", "order", "judge", "vote"),
    "selections": ("iteration", "position", "generation"),
    "examples": ("dataset", "position"),
    "datasets": ("id",),
    "iteration_datasets": ("iteration",),
    "checkpoints": ("id",),
    "metrics": ("checkpoint", "step", "name"),
    "exams": ("id", "position"),
    "grades": ("checkpoint", "exam", "prompt"),
    "runs": ("id",),
    "iterations": ("id",),
    "proposals": ("iteration", "position"),
    "decisions": ("iteration",),
    "approvals": ("iteration", "candidate", "status"),
    "events": (),
    "health": ("run", "iteration", "judge", "measure"),
    "aliases": ("new",),
}
"""What identifies a row. Adding a row whose key is there already changes nothing."""

# What components see. The frame that a judge, a filter or a pick is given; never a table of its own.
ANSWERS = schema(
    {
        "chat": pl.Int64,  # position of the chat in the call
        "index": pl.Int32,
        "text": pl.String,
        "finish_reason": pl.String,
        "prompt_tokens": pl.Int32,
        "tokens": pl.Int32,
        "logprob": pl.Float64,
    }
)
WRITTEN = schema({**PROMPTS, "reason": pl.String})
"""What a proposer read of replies: prompts, and why those that are of no use are not; NULL where they can be used."""
REPLIES = schema({**ANSWERS, "generation": pl.String, "logprobs": pl.List(pl.Float64)})
"""ANSWERS to a judge's questions with the id under which each is stored; NULL where the question was a likelihood, for
which `text` is the message that was asked about, `logprob` is of all its tokens, and `logprobs` is of each of them."""
SUBJECTS = schema(
    {
        "generation": pl.String,
        "prompt": pl.String,
        "chat": CHAT,
        "reference": pl.String,
        "meta": pl.String,
        "index": pl.Int32,
        "text": pl.String,
        "finish_reason": pl.String,
        "tokens": pl.Int32,
        "logprob": pl.Float64,
    }
)
VOTE = pl.Struct({"judge": pl.String, "vote": pl.Int32, "score": pl.Float64, "status": pl.String})
JUDGED = schema({**SUBJECTS, "score": pl.Float64, "deviation": pl.Float64, "votes": pl.List(VOTE)})
"""SUBJECTS with `score` and `deviation`, mean and sample standard deviation of the first judge's valid votes to nine
decimals (NULL with fewer than one and two of them), and all `votes`."""
PICKED = schema(
    {
        "prompt": pl.String,
        "chosen": pl.String,
        "rejected": pl.String,
        "weight": pl.Float64,
        "generations": pl.List(pl.String),
    }
)
WORKED = schema({"chat": CHAT, "completion": pl.String})
"""Worked examples: what a warm start learns from."""


def now() -> datetime:
    """UTC, as the store keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


def prompts_frame(rows: Iterable[Mapping[str, Any]], source: str) -> pl.DataFrame:
    """PROMPTS from rows with `chat` and, where known, `reference` and `meta`; a chat that comes twice is kept once."""
    full = [
        {
            "id": prompt_id(row["chat"]),
            "chat": row["chat"],
            "reference": row.get("reference"),
            "meta": row.get("meta"),
            "source": source,
        }
        for row in rows
    ]
    return pl.DataFrame(full, schema=PROMPTS, orient="row").unique("id", keep="first", maintain_order=True)
