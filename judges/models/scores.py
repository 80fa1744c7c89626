"""How many points a judge gives: one number, read where it is announced, or nothing to rely on."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from judges.models.words import undressed

SCORE_NUMBER = r"[-+]?\d++(?:[.,]\d{1,2}(?!\d)|\.\d++)?+"
BETWEEN_TERMS = r"(?:[ \t]*+(?:points?|pts?))?(?:[ \t]*+\([^()\n]{0,80}\))?[ \t]*+"
"""What may stand between the terms of a sum: `1 (it is about Rome) + 1 point`."""
OUT_OF = rf"(?:/|\(?[ \t]*+(?:out[ \t]+)?of\b)[ \t]*+(?:(?:a|the|possible|maximum|total|of)[ \t]+){{0,4}}{SCORE_NUMBER}"
ON_SCALE = (
    r"[(,]?[ \t]*+on[ \t]+(?:a|the)[ \t]+(?:scale[ \t]+)?(?:(?:of|from)[ \t]+)?"
    rf"(?:{SCORE_NUMBER}[ \t]*+(?:to|[-–—])[ \t]*+)?{SCORE_NUMBER}"
)
VALUE = re.compile(
    rf"(?P<open>[\s(\[{{<]*+)(?P<sum>{SCORE_NUMBER}(?:{BETWEEN_TERMS}[-+−]{BETWEEN_TERMS}{SCORE_NUMBER})*)"
    rf"(?:{BETWEEN_TERMS}=[ \t]*+(?P<total>{SCORE_NUMBER}))?(?:[ \t]*+(?:points?|pts?|stars?)\b)?"
    rf"(?P<of>[ \t]*+{OUT_OF}(?:[ \t]*+\))?)?(?P<close>(?:[ \t]*+[)\]}}>])*)"
    rf"(?P<per>[ \t]*+{OUT_OF}(?:[ \t]*+\))?)?(?P<scale>[ \t]*+{ON_SCALE})?",
    re.I,
)
TERM = re.compile(rf"(?:(?P<sign>[-+−]){BETWEEN_TERMS})?(?P<number>{SCORE_NUMBER})(?:{BETWEEN_TERMS}(?=[-+−])|\Z)")
AFTER = re.compile(
    r"(?i)[^\W_]|[.,:]\d|[ \t]*+(?:[%?‰½¼¾+^]|per ?cent)|[ \t]*+\([ \t]*+[\d.,]+[ \t]*+\)"
    r"|[ \t]*+(?:(?:->|[-–—−*×·~≈→=<>/:|&]|x\b|to\b|or\b|and\b|vs\b)[ \t]*+)*[-\[]?\d"
    r"|[ \t]*+[(,]?[ \t]*+(?:to|or|and)\b[^\n.;]{0,20}\d"
    r"|(?:[ \t]*+,[ \t]*+\d[\d.]*+){2}|[ \t]*+,[ \t]*+\d[\d.]*+[ \t]*+(?:=|$)"
    r"|[ \t]*+(?:only )?(?:if|when|unless|provided)\b",
    re.M,
)
"""What makes another thing of the number before it: 4,000, 4th, 4%, 3-4, 4 or 5, 4 1/2, 4 if."""
ANNOUNCED_SCORE = re.compile(
    r"(?i)(?<![^\W_])(?:score|rating|grade)(?:\s*\((?P<note>[^()\n]{0,40})\))?(?:[ \t]*+/[ \t]*+(?P<out>\d+))?"
    r"(?:(?P<formal>[\s)\]]*+(?:[:：=|→>]|[-–—](?=\s)))|(?P<head>[ \t]*+\n)"
    r"|[ \t]+(?:(?:of|for)[ \t]+(?:this|the)[ \t]+\w+[ \t]+)?"
    r"(?:is|was|would[ \t]+be|should[ \t]+be|comes[ \t]+to|equals)\b[ \t]*+:?)"
    r"|(?P<result>\[result(?:\]|(?=:))[ \t]*+:?)"
)
RATED = re.compile(
    r"(?i)(?<![^\W_])(?:rat(?:e[sd]?|ing)|scor(?:e[sd]?|ing)|grad(?:e[sd]?|ing)|giv(?:e[sn]?|ing)|gave"
    r"|award(?:ed|s)?|assign(?:ed|s)?|deserves?|earns?|merits?)\b[^\n\[\]]{0,80}(?=\[\[)"
)
"""`I would rate it a [[4]]`: the brackets say that this is the score."""
BOXED = re.compile(r"[\s$\\\[(]*\\boxed\s*\{([^{}]*)\}[\s$\\\]).]*")
LIMIT = frozenset(
    ("maximum", "max", "highest", "possible", "full", "perfect", "top", "minimum", "min", "lowest", "potential")
)
PLAIN_WORDS = frozenset(
    (
        *("final", "total", "overall", "sum", "combined", "resulting", "revised", "updated", "adjusted", "corrected"),
        *(
            "the",
            "a",
            "my",
            "its",
            "your",
            "this",
            "that",
            "so",
            "numeric",
            "numerical",
            "integer",
            "given",
            "assigned",
        ),
    )
)
"""Words before `score` that do not make it the score of one thing among others."""


class Points(NamedTuple):
    """A number with what it is out of, if that is said; `value` is None where it is no single number."""

    value: float | None
    of: float | None
    told: str
    kind: str = "plain"  # plain | aspect | prose


def score_of(reply: str) -> Points | None:
    """The points of a reply, or None if it gives none.

    The last announced score counts. Where there are only scores of single aspects, or only ones in running text, they
    must be the same. `\\boxed{4}` counts as all of a reply: after a solution it would be the question's own answer.
    """
    given = list(_given(undressed(reply)))
    for kind in ("plain", "aspect", "prose"):
        same = [points for points in given if points.kind == kind]
        if kind == "plain" and same:
            return same[-1]
        if same:
            told = "; ".join(points.told for points in same)
            return same[-1] if len({points[:2] for points in same}) == 1 else Points(None, None, told)
    box = BOXED.fullmatch(reply)
    return box and read(box[1], 0, announced=False)


def _given(words: str) -> Iterator[Points]:
    found = sorted([*ANNOUNCED_SCORE.finditer(words), *RATED.finditer(words)], key=lambda match: match.end())
    for match in found:
        prose = match.re is ANNOUNCED_SCORE and not any(match.group("formal", "head", "result"))
        kind = "plain" if match.re is RATED else _kind(words, match)
        kind = "prose" if kind and prose else kind
        points = read(words, match.end(), announced=not prose) if kind else None
        if points is None or kind is None:
            continue
        scale = _scale(match) if match.re is ANNOUNCED_SCORE else None
        if scale is not None and points.of not in (None, scale):
            points = points._replace(value=None)
        yield points._replace(kind=kind, of=scale if points.of is None else points.of)


def _kind(words: str, match: re.Match[str]) -> str | None:
    """Whether this is the score or that of one aspect; None for the most that can be had, and for no heading."""
    line = words[max(0, match.start() - 60) : match.start()].rpartition("\n")[2]
    before = re.search(r"([^\W\d_]+)[ \t-]*\Z", line)
    word = before[1].casefold() if before else ""
    if word in LIMIT or (match["head"] is not None and not re.fullmatch(r"[\s#>|-]*\w*\s*", line)):
        return None
    aspect = re.search(r"[^\W\d_]", match["note"] or "") and _scale(match) is None
    return "aspect" if aspect or (word and word not in PLAIN_WORDS) else "plain"


def _scale(match: re.Match[str]) -> float | None:
    """What a score is out of, by a note before its number: `Score (0-5):`, `Score (out of 5):`, `Score/5:`."""
    numbers = re.findall(r"\d+(?:\.\d+)?", match["note"] or "") or ([match["out"]] if match["out"] else [])
    return float(numbers[-1]) if numbers else None


def read(words: str, at: int, *, announced: bool = True) -> Points | None:
    """The value that begins at a place; None if its line has no digit, or if it is not announced and none is there."""
    match = VALUE.match(words, at)
    line = words[at : at + 400].lstrip()[:200].partition("\n")[0]
    if match is None or not _whole(words, match):
        return Points(None, None, line[:80]) if announced and re.search(r"\d", line) else None
    outs = {decimal(re.findall(SCORE_NUMBER, text)[-1]) for text in match.group("of", "per", "scale") if text}
    value = _total(match) if len(outs) < 2 else None
    return Points(value, next(iter(outs), None), " ".join(match[0].split())[:80])


def _whole(words: str, match: re.Match[str]) -> bool:
    """Whether the number stands for itself: what opens before it is closed after it, and nothing changes it."""
    opened = [")]}>"["([{<".index(each)] for each in match["open"] if not each.isspace()]
    closed = [each for each in match["close"] if not each.isspace()]
    if closed[: len(opened)] != opened[::-1] or AFTER.match(words, match.end()):
        return False
    below = "\n" in match["open"] or words[match.start() - 1 : match.start()] == "\n"
    return not below or not re.match(r"[^\n]*[^\W_]", words[match.end() : match.end() + 200])


def _total(match: re.Match[str]) -> float | None:
    """The number, or what a sum comes to; None where that is not what is said, or is a difference without a result."""
    terms = [(term["sign"] or "+", decimal(term["number"])) for term in TERM.finditer(match["sum"])]
    total = sum(-value if sign in "-−" else value for sign, value in terms)
    if match["total"]:
        return total if abs(total - decimal(match["total"])) < 1e-9 else None
    return total if all(sign == "+" for sign, _ in terms) else None


def decimal(text: str) -> float:
    """A number with a decimal comma or point."""
    return float(text.replace(",", "."))
