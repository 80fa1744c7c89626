"""What people wrote and ranked: first questions, good replies, and judgments that agree with people.

Oasst(messages=Hub("OpenAssistant/oasst1", split="train"))              PROMPTS; the best reply is the reference
Answered(source=Oasst(...))                                             WORKED: what teaches to follow instructions
Answered(source=Jsonl("eft.jsonl", prompt="question", reference="judgment"))    WORKED: what teaches to judge
Agreeing(rows=Jsonl("judged.jsonl"), judge=rubric)                      the same, made of a model's judgments
"""

from dataclasses import dataclass

import polars as pl

from data.files import Hub, Jsonl, Parquet
from flywheel.errors import SourceError
from flywheel.identity import named
from flywheel.protocols import Judge, Source
from flywheel.store.ids import content_id, prompt_id
from flywheel.store.schema import CHAT, REPLIES, SUBJECTS, WORKED, prompts_frame

Table = Jsonl | Parquet | Hub
"""Where rows are; what the table says of prompts and references does not matter here."""
MESSAGE = ("message_id", "parent_id", "text", "role", "lang", "rank")


@dataclass(frozen=True, kw_only=True)
class Oasst:
    """A `Source`: the questions with which Open Assistant's message trees begin (Köpf et al., arXiv 2304.07327).

    The reference is the reply that people ranked first. `limit` counts prompts.
    """

    messages: Table
    lang: str = "en"
    limit: int | None = None

    def __call__(self) -> pl.DataFrame:
        """PROMPTS, or SourceError."""
        best = ranked(self.messages, self.lang).filter(pl.col("rank") == 0).select("question", "reply")
        rows = ({"chat": [{"role": "user", "content": text}], "reference": reply} for text, reply in best.iter_rows())
        frame = prompts_frame(rows, named(self.messages))
        if frame.is_empty():
            raise SourceError(f"{named(self.messages)} has no ranked replies to first questions in {self.lang!r}")
        return frame if self.limit is None else frame.head(self.limit)


def ranked(messages: Table, lang: str = "en") -> pl.DataFrame:
    """`question`, `reply` and `rank` (0 is best) of all ranked replies to first questions; SourceError."""
    rows = _with_ranks(messages.rows(MESSAGE), "rank", messages).filter(pl.col("lang") == lang)
    first = rows.filter(pl.col("role") == "prompter", pl.col("parent_id").is_null())
    replies = rows.filter(pl.col("role") == "assistant", pl.col("rank").is_not_null())
    replies = replies.select(message_id="parent_id", reply="text", rank=pl.col("rank").cast(pl.Int64)).sort("rank")
    found = first.select("message_id", question="text").join(replies, on="message_id", maintain_order="left_right")
    return found.select("question", "reply", "rank")


def _with_ranks(rows: pl.DataFrame, column: str, source: Table) -> pl.DataFrame:
    """The rows with this column as numbers and the others as text; SourceError for a rank that is no number."""
    ranks = rows[column].cast(pl.Float64, strict=False)
    wrong = rows[column].filter(ranks.is_null() & rows[column].is_not_null() | ranks.is_nan().fill_null(False))
    if len(wrong):
        raise SourceError(f"{named(source)}: column {column!r} holds {str(wrong[0])[:60]!r}, which is no rank")
    return rows.with_columns(ranks, pl.exclude(column).cast(pl.String))


@dataclass(frozen=True, kw_only=True)
class Answered:
    """WORKED examples: the prompts of a source with their references as answers; those without one are left out."""

    source: Source

    def __call__(self) -> pl.DataFrame:
        """WORKED, or SourceError."""
        frame = self.source().filter(pl.col("reference").is_not_null())
        if frame.is_empty():
            raise SourceError(f"{named(self.source)} has no references, so it makes no worked examples")
        return frame.select("chat", completion="reference").cast(WORKED)


@dataclass(frozen=True, kw_only=True)
class Agreeing:
    """WORKED examples of judging: a model's judgments on ranked replies, where its scores rank them as people did.

    A row is a question, a reply, the reply's rank (0 is best) and a judgment on it that a model wrote, asked as `judge`
    asks; `ranked` gives all but the last. The judgments on the replies to a question are kept if each has a score, and
    every better reply a higher one: a tie is no ranking. Then of the most frequent score only as many are kept, at
    random, as of the second (Self-Rewarding, Yuan et al. 2024, whose numbers for both rules are not published).
    """

    rows: Table
    judge: Judge
    question: str = "question"
    reply: str = "reply"
    rank: str = "rank"
    judgment: str = "judgment"

    def __call__(self) -> pl.DataFrame:
        """WORKED, or SourceError."""
        columns = {"question": self.question, "reply": self.reply, "rank": self.rank, "judgment": self.judgment}
        rows = _with_ranks(self.rows.rows(list(columns.values())), self.rank, self.rows)
        table = rows.select(**{name: pl.col(of) for name, of in columns.items()})
        judged = self._judged(table.drop_nulls())
        kept = balanced(judged.filter(agrees()))
        if kept.is_empty():
            raise SourceError(f"{named(self.rows)}: no judgments rank the replies to a question as people did")
        return kept.select("chat", completion="judgment").cast(WORKED)

    def _judged(self, table: pl.DataFrame) -> pl.DataFrame:
        """The rows with the judge's question, `chat`, and the `score` that it reads in the judgment."""
        subjects, replies = _shown(table)
        votes = self.judge.read(subjects, replies)
        scores = votes.group_by("generation").agg(pl.col("score").mean())
        found = subjects.select("generation").join(scores, on="generation", how="left", maintain_order="left")
        return table.with_columns(found["score"], chat=pl.Series(self.judge.ask(subjects), dtype=CHAT))


def agrees() -> pl.Expr:
    """Whether all replies to a row's question have a score, and the better one of each two the higher one."""
    rank, score = (pl.col(name).sort_by("rank", -pl.col("score")) for name in ("rank", "score"))
    falls = ((score.diff() < 0) | (rank.diff() == 0)).fill_null(True).all()
    return (falls & score.is_not_null().all() & (rank.n_unique() > 1)).over("question")


def balanced(judged: pl.DataFrame) -> pl.DataFrame:
    """The rows, of those with the most frequent score only as many, at random, as have the second most frequent one."""
    counts = judged["score"].value_counts(sort=True)
    if len(counts) < 2:
        return judged
    lots = [content_id("balanced", *row) for row in judged.select("question", "reply", "judgment").iter_rows()]
    few = (pl.col("score") != counts["score"][0]) | (pl.col("lot").rank("ordinal").over("score") <= counts["count"][1])
    return judged.with_columns(lot=pl.Series(lots, dtype=pl.String)).filter(few).drop("lot")


def _shown(table: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """SUBJECTS and the REPLIES of a judge to its questions about them."""
    chats = [[{"role": "user", "content": text}] for text in table["question"]]
    subjects = table.select(
        generation=pl.int_range(pl.len()).cast(pl.String),
        prompt=pl.Series([prompt_id(chat) for chat in chats], dtype=pl.String),
        chat=pl.Series(chats, dtype=CHAT),
        index=pl.int_range(pl.len(), dtype=pl.Int32),
        text="reply",
    )
    replies = table.select(
        chat=pl.int_range(pl.len()),
        index=pl.lit(0, pl.Int32),
        text="judgment",
        finish_reason=pl.lit("stop"),
        generation=subjects["generation"],
    )
    return _whole(subjects, SUBJECTS), _whole(replies, REPLIES)


def _whole(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """The frame with all columns of the schema, NULL where they are not known."""
    return pl.concat([schema.to_frame(), frame], how="diagonal")
