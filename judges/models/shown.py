"""What judges are shown of answers: what follows their thoughts. Of a thought without an end nobody is asked."""

import polars as pl

from flywheel.protocols import Verdict
from flywheel.store.schema import Chat
from flywheel.text.thoughts import Markers, after_thought
from judges.verdict import votes

ENDLESS = Verdict("unparsable", None, "a thought without an end")
WORDLESS = Verdict("error", None, "no reference")


def answer_shown(text: str, thoughts: Markers) -> str | None:
    """What follows the thoughts of a text, without the lines between; None where a thought has no end."""
    said = after_thought(text, thoughts)
    return said if said is None or len(said) == len(text) else said.lstrip()


def shown_answers(subjects: pl.DataFrame, thoughts: Markers) -> pl.DataFrame:
    """Those of SUBJECTS that have an answer; their `text` is that answer."""
    texts = [answer_shown(text, thoughts) for text in subjects["text"]]
    return subjects.with_columns(text=pl.Series(texts, dtype=pl.String)).filter(pl.col("text").is_not_null())


def answer_chats(subjects: pl.DataFrame) -> list[Chat]:
    """The chat of each of SUBJECTS with its answer as the last message."""
    return [[*chat, assistant(text)] for chat, text in subjects.select("chat", "text").iter_rows()]


def assistant(text: str) -> dict[str, str]:
    """A message of the one who answers."""
    return {"role": "assistant", "content": text}


def referenced(subjects: pl.DataFrame) -> pl.DataFrame:
    """Those of SUBJECTS with a known answer."""
    return subjects.filter(pl.col("reference").is_not_null())


def unasked(judge: str, asked: pl.DataFrame, subjects: pl.DataFrame, thoughts: Markers) -> pl.DataFrame:
    """VOTES on those of SUBJECTS that are not among the `asked` ones: why nobody was asked about them."""
    others = subjects.join(asked, on="generation", how="anti", maintain_order="left")
    return votes(
        judge, others, (ENDLESS if answer_shown(text, thoughts) is None else WORDLESS for text in others["text"])
    )
