"""The bare answer: what an announcement is followed by, without the marks around it and the sentence after it.

Only what says nothing goes: emphasis, LaTeX, code marks and quotes that wrap the whole answer, the punctuation of a
sentence, a friendly sentence at the end. Signs and symbols stay, since -200 is not 200, nor is C++ C. A sentence that
may take the answer back, or offers another one, stays as well: nothing becomes right that was not said.
"""

import re
from itertools import islice

EMPHASIS = ("***", "**", "*", "__", "``", "`")
"""Marks that a line may open before the announcement and close after the answer."""
WRAPPED = (
    (re.compile(r"(`{3,}|~{3,})\w*\n(.*)\n[ \t]*\1", re.DOTALL), "```"),
    (re.compile(r"(\*{1,3}|_|`{1,2}|\${1,2})(?=\S)(.*\S)\1", re.DOTALL), None),
    (re.compile(r"(__)(?=.*[^a-z_0-9])(.*)\1", re.DOTALL), None),  # not Python's __init__
    (re.compile(r"(\\\()(.*)\\\)", re.DOTALL), None),
    (re.compile(r"(\\\[)(.*)\\\]", re.DOTALL), None),
    (
        re.compile(r"(\\(?:boxed|fbox|text|textbf|textit|mathrm|mathbf|mathit|mathsf|mathtt)\s*\{)(.*)\}", re.DOTALL),
        "{}",
    ),
    (re.compile(r"([\"'])(.*)\1", re.DOTALL), None),
    (re.compile(r"([“‘«])(.*)[”’»]", re.DOTALL), None),
)
"""Opening mark and inside of what may stand around a whole answer. The mark must not stand inside it again; or where
there are two, they must be in balance there."""
BRACKETS = ("()", "[]", "{}")
DEEPEST = 8
"""Marks around an answer that are taken off, one in the other."""
STOP = re.compile(r"(?<![.\s])\s*[.。]\Z")
DASHED = re.compile(r"[-_·•]\s*\.\Z")  # Morse code, a drawing
CLOSING = re.compile(r"(?:[.,;:?…。，；：？]|(?<=[^\W\d_]{2})[!！]|(?<=[\w)\]}])\*{2,})+\Z")
OPENING_MARKS = re.compile(r"\A(?:[,;:!?…¿¡]|\.(?![\w.])|\.{2,}|=(?=\s*\w)|[-*+•]\s+(?=[^\W\d_])|#{1,6}\s+(?=\w))+")
ESCAPED = re.compile(r"\\([%$#&_])")
RULE = re.compile(r"^[ \t]*(?:-{3,}|\*{3,}|_{3,})[ \t]*$", re.MULTILINE)
BULLET = re.compile(r"\s*[-*+•]\s+")
BREAK = re.compile(r"\n\s*|(?<=[.!?。])[*_`]{0,3}[ \t]+(?=[\"“(*_]{0,3}[A-Z])")
FENCE = re.compile(r"(?:`{3,}\w*|~{3,}\w*)?")
BREAKS = 100
"""Places where the friendly sentence is looked for."""
LONGEST_SEARCHED = 200
"""Characters that are looked at where a pattern could take long over more."""
SENTENCE = re.compile(r"[\s\"“(*_#]*[A-Z][^.!?\n]*?(?:[^\W\d_]+[^\w.!?\n]+){2}[^\W\d_]+[^.!?:\n]*(?P<end>[.!?:]?)")
"""A beginning that is prose: a capital, and three words."""
FRIENDLY = re.compile(
    r"\W*(?:(?:please\s+)?let me know|(?:i\s+)?hope\b|(?:please\s+)?feel free|if you (?:have|need|want|would)|"
    r"is there anything|thanks?\b|happy to|good luck|would you like)",
    re.IGNORECASE,
)
REASON = re.compile(r"\W*(?:explanation|reason|reasoning|because|since|justification|verification|check|proof)\b", re.I)
OTHERWISE = re.compile(
    r"\A\W*(?:or|and|no|not|but|yet|nor|plus|though|although|however|unless|then)\b|"
    r"\b(?:wait|actually|sorry|corrected|correction|oops|instead|alternatively|hmm+|mistaken?|maybe|perhaps|possibly|"
    r"might|also|too|either|both|unsure|second|rather|wrong|incorrect|false|answers?\s*(?:is|are|was|would|could|[:=])|"
    r"(?:an)?other(?!\s+(?:questions?|help|tasks?|problems?|requests?)\b))\b",
    re.IGNORECASE,
)
"""Words of a sentence that may take the answer back or offer another one."""


def announced(marker: str | None, text: str) -> str | None:
    """What stands after the last `marker`; all of the text for None; None where the marker is missing.

    Case makes no difference, nor does a space or emphasis before the marker's colon.
    """
    if marker is None:
        return text
    bare, colon = (
        (marker.rstrip()[:-1], r"[*_`]{0,3}\s?[*_`]{0,3}[:：]") if marker.rstrip()[-1:] == ":" else (marker, "")
    )
    loose = r"\s+".join(map(re.escape, bare.split())) + colon
    places = [match.span() for match in re.finditer(rf"{re.escape(marker)}|(?<!\w)(?i:{loose})", text)]
    if not places:
        return None
    start, end = places[-1]
    return _closed(text[:start].rpartition("\n")[2], text[end:])


def _closed(before: str, answer: str) -> str:
    """The answer without the end of an emphasis that its line opened before the announcement."""
    bullet = BULLET.match(before)
    before = before[bullet.end() :] if bullet else before
    mark = next((mark for mark in EMPHASIS if before.count(mark) % 2), None)
    if mark is None:
        return answer
    if answer.lstrip(" \t").startswith(mark):
        return answer.lstrip(" \t")[len(mark) :]
    line, end, rest = answer.lstrip().partition("\n")
    head, closed, tail = line.rpartition(mark)
    return head + tail + end + rest if closed else answer.rstrip().removesuffix(mark)


def plain_answer(answer: str, stop: bool = False) -> str:
    """The answer without the marks around it, and without a sentence after it; `stop`: with its own full stop."""
    return unwrapped(_alone(RULE.sub("", answer).strip()), stop)


def unwrapped(answer: str, stop: bool = False) -> str:
    """The answer without the marks around it and, unless it is to keep it, its full stop."""
    answer = answer.strip()
    for _ in range(DEEPEST):
        bare = answer if stop or _drawn(answer) else STOP.sub("", answer) or answer
        inside = (match[2] for pattern, pair in WRAPPED if (match := _around(pattern, pair, bare)))
        bare = next(inside, bare).strip()
        if bare == answer or not bare:
            break
        answer = bare
    return ESCAPED.sub(r"\1", answer)


def trimmed(answer: str) -> str:
    """The answer without the punctuation of a sentence, and without brackets or quotes around it."""
    answer = " ".join(unwrapped(answer).replace("\u2212", "-").split())
    for _ in range(DEEPEST):
        if not any(map(str.isalnum, answer)):
            return answer  # it is of punctuation alone, and each mark counts
        bare = unwrapped(
            OPENING_MARKS.sub("", answer[:-LONGEST_SEARCHED] + CLOSING.sub("", answer[-LONGEST_SEARCHED:]))
        )
        bare = _unbracketed(bare)
        if bare == answer:
            break
        answer = bare
    return answer


def _unbracketed(answer: str) -> str:
    """The answer without brackets around it, or one that was left over; those of a list or an interval stay."""
    ends = answer[:1] + answer[-1:]
    if "," in answer:
        return answer
    if ends in BRACKETS and _balanced(answer[1:-1], ends):
        return answer[1:-1].strip()
    if sum(map(answer.count, "".join(BRACKETS))) == 1:
        return answer.lstrip("([{").rstrip(")]}").strip() or answer
    return answer


def _drawn(answer: str) -> bool:
    """Whether a full stop may be one mark of several, as in ". -." """
    return not any(map(str.isalnum, answer)) and DASHED.search(answer[-LONGEST_SEARCHED:]) is not None


def _around(pattern: re.Pattern[str], pair: str | None, answer: str) -> re.Match[str] | None:
    """The match of a mark around the whole answer: `*a* or *b*` has two pairs, and so has {a} or {b}."""
    match = pattern.fullmatch(answer)
    if match is None:
        return None
    if pair == "{}":
        whole = _balanced(match[2], pair) or not re.search(r"[\w\\]", match[2])
    else:
        whole = (pair or match[1]) not in match[2]
    return match if whole else None


def _balanced(inside: str, pair: str) -> bool:
    depth = 0
    for sign in inside:
        depth += (sign == pair[0]) - (sign == pair[1])
        if depth < 0:
            return False
    return depth == 0


def _alone(answer: str) -> str:
    """The answer up to where a friendly sentence begins."""
    for cut in islice(BREAK.finditer(answer), BREAKS):
        head, rest = answer[: cut.start()], answer[cut.end() :]
        if _friendly(head, rest, cut[0]):
            return head + cut[0].rstrip()
    return answer


def _friendly(head: str, rest: str, cut: str) -> bool:
    """Whether `rest` is prose that leaves the answer as it is."""
    sentence = SENTENCE.match(rest[:LONGEST_SEARCHED])
    if sentence is None or OTHERWISE.search(rest) or FENCE.fullmatch(head.strip()):
        return False
    if FRIENDLY.match(rest):
        return True
    if SENTENCE.match(head[:LONGEST_SEARCHED]):
        return False  # the answer is prose itself
    if cut.count("\n") == 1 and not sentence["end"]:
        return False  # it may be the next item of a list
    return bool(REASON.match(rest)) or not (re.search(r"\d", head) and re.search(r"\d", rest))
