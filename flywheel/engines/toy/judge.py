"""How the toy engine judges: it sees the parts of a judge's question between lines such as `=== answer A code ===`.

It replies in the form that the text after the last such line asks for: a verdict, points for two, a ranking, a score.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

LINE = re.compile(r"^=== \w+(?: [A-Z])? (\w+) ===$", re.M)
TOY_POINTS = {True: 5, False: 1}


class ShownAnswer(NamedTuple):
    """An answer in a judge's question; the label is empty where there is one only."""

    label: str
    question: str
    answer: str


def judgment(message: str, likes: Callable[[ShownAnswer], bool]) -> str | None:
    """A reply to a judge's question, from what is liked of the parts; None if the message is no such question."""
    first = LINE.search(message)
    if first is None:
        return None
    *texts, form = re.split(rf"^=== (\w+)(?: ([A-Z]))? {first[1]} ===$", message, flags=re.M)[1:]
    points = {part.label: TOY_POINTS[likes(part)] for part in _parts(texts)}
    return f"I looked at each of them. {_formed(form, points)}" if points else None


def _parts(texts: Sequence[str]) -> list[ShownAnswer]:
    """The answers; each belongs to the question before it. `texts` are kind, label and text, round and round."""
    found, question = [], ""
    for kind, label, text in zip(texts[::3], texts[1::3], texts[2::3], strict=False):
        if kind in ("question", "task"):
            question = text.strip()
        else:
            found.append(ShownAnswer(label or "", question, text.strip()))
    return found


def _formed(form: str, points: dict[str, int]) -> str:
    tiers = [[label for label in points if points[label] == worth] for worth in sorted(set(points.values()))[::-1]]
    if "Ranking:" in form:
        return f"Ranking: {' > '.join(' = '.join(tier) for tier in tiers)}"
    if "Score A:" in form:
        return " ".join(f"Score {label}: {points[label]}" for label in points)
    if "Verdict:" in form:
        return f"Verdict: {tiers[0][0] if len(tiers) > 1 else 'tie'}"
    return f"Score: {max(points.values())}"
