"""Which of two answers a judge calls the better one: by a letter, by an operator between two letters, or as a tie."""

import re
from collections.abc import Iterator
from typing import Literal

from judges.models.words import undressed

Won = Literal["a", "b", "tie"]
SaidWinner = Literal["a", "b", "tie", "?"]
"""`?` is a word about the answers that does not tell the better one: no verdict, and none before it counts."""

NOUN = r"(?:answer|response|assistant|model|output|option|candidate|judge?ment|completion|solution|reply|system)"
ANNOUNCED_VERDICT = re.compile(
    r"(?i)(?<![^\W_])(?<!\bif the )(?<!\bif my )(?:verdict|winner|final\s+(?:decision|judge?ment))"
    r"(?:[ \t]*\([^()\n]{0,30}\))?"
    r"(?:[\s)\]]*+(?:is\b|was\b|[:：=|→–—-])[ \t]*:?"
    rf"|[ \t]*\n|[ \t,]+(?=[(\[]*(?:{NOUN}[ \t]+)?[ab]\W*$))"
    r"|\[result\][ \t]*:?|\[result[ \t]*:",
    re.M,
)
BRACKETED_LABEL = re.compile(r"\[\[([^\[\]\n]{1,60})\]\](?P<if>\s*(?:if|when)\b)?")
FINAL = re.compile(r"(?i)\bfinal\s+(?:verdict|decision|judge?ment|label)\b[^\n]*\Z")
CUT = re.compile(r"\[\[[^\[\]\n]{0,60}\]?\s*\Z")
LEAD = re.compile(
    r"(?i)[\s([{<:.-]*(?:that\s+)?(?:(?:it(?:'s|\s+is)|this\s+is|there\s+is|i\s+(?:choose|pick|prefer|select))\s+)?"
    rf"(?:the\s+(?:better|best|winning|preferred)\s+(?:{NOUN}\s+)?is\s+)?"
)
ANSWER_SLOT = re.compile(
    rf"(?:(?i:(?:the\s+)?{NOUN})\s*\(?(?P<named>[abAB12])\)?|\(?(?P<bare>[abAB])\)?)(?![^\W_])(?i:'s(?:\s+{NOUN})?)?"
)
SIGN = re.compile(r"(?i)\s*([<>=≈~≃≡≻≺≫≪!≠≥≤→/|&,+-]+|(?:vs|versus|or|and)\b\.?)\s*")
SIGNS = {"[>≻≫]+": ("a", "b"), "[<≺≪]+": ("b", "a"), "=+|[≈~≃≡]": ("tie", "tie")}
TIE = re.compile(
    rf"(?:(?i:(?:an?\s+)?(?:tied?|draw|drawn)|equal|(?:both|the(?:\s+two)?)\s+(?:{NOUN}s\s+)?(?:are\s+)?(?:tied|equal))|C)"
    r"(?![^\W_]|-)(?!\s*[<>=≈~≻≺/|&])"
)
CONTRARY = re.compile(r"(?i)\b(?:but|though|however|or|unless|if|slight\w*|edge|lean\w*|prefer\w*|better|worse)\b|\?")
BOTH = re.compile(r"\b(?:[ABC]|(?i:both|neither|none|either|unclear|undecided|cannot|tie))\b")
PART = re.compile(r"(?i)[.,;:!?()|\n]|\s[-–—]\s|\b(?:because|since|as|while|whereas|due|but|though|although|and)\b")
OPEN = re.compile(
    r"(?i)[+?]|:[abc]\b|\s*(?:[<>=≈~≃≡≻≺≫≪≠≥≤→/&\\^+]|!=|-\S|(?:or|and|if|unless|when)\b)"
    r"|\s*[,;(|]\s*(?:or|and|tie|draw)\b|\s*[,;|]\s*(?-i:[ABC]\b)|\s*\(\s*(?-i:[ABC])\s*\)"
)
DENIED = re.compile(r"(?i)\b(?:not|no|less|hardly|barely|never|neither|nor|fails?|wrong|incorrect|or)\b|n't\b")
ADVERBS = r"(?i)\s*(?:(?:is|was)\s+)?(?:(?:the|much|far|a\s+(?:bit|little)|\w+ly)\s+)*"
WORSE = re.compile(ADVERBS + r"(?:worse|worst|inferior|weaker|weakest|loses|lost|loser)\b")
BETTER = re.compile(
    ADVERBS + r"(?:better|best|superior|stronger|strongest|winner|preferred|preferable|ahead|more|right|correct"
    r"|wins|won|beats|over|by|for|on|with)\b(?!\s+(?:only\s+)?(?:if|unless|when)\b)"
)
EVEN = re.compile(r"(?i)\s*(?:is\s+)?(?:equals?(?:\s+to)?|tie[sd]?\s+with|on\s+(?:a\s+)?par)\b")


def read_verdict(reply: str) -> Won | None:
    """What a reply says; None where it says nothing, or what can be understood in two ways.

    The last `Verdict: A` counts. Labels such as `[[A]]` and `[[A>>B]]` must agree with each other, unless the last one
    alone is called the final verdict, and with what is said in other words.
    """
    words = undressed(reply)
    if CUT.search(words):
        return None
    told, label, at = list(_told(words)), *_label(words)
    if label is None:
        return _clear(told[-1][0]) if told else _bare(words)
    said, place = told[-1] if told else (label, 0)
    return _clear(label) if said == label or (said == "?" and place < at) else None


def _clear(said: SaidWinner) -> Won | None:
    return None if said == "?" else said


def _told(words: str) -> Iterator[tuple[SaidWinner, int]]:
    """What is said after each `Verdict:`, and where; a label that stands there speaks for itself."""
    for found in ANNOUNCED_VERDICT.finditer(words):
        line = words[found.end() : found.end() + 400].lstrip()[:200].partition("\n")[0]
        said = understood(line.partition("[[")[0])
        if said is not None:
            yield said, found.start()


def _label(words: str) -> tuple[SaidWinner | None, int]:
    """What the labels in double brackets come to, and where the last one is."""
    found = [
        (label, "?" if label["if"] else said)
        for label in BRACKETED_LABEL.finditer(words)
        if (said := understood(label[1]))
    ]
    if not found:
        return None, 0
    label, last = found[-1]
    final = {said for label, said in found if FINAL.search(words[max(0, label.start() - 160) : label.start()])}
    return (last if {said for _, said in found} == {last} or final == {last} else "?"), label.start()


def _bare(words: str) -> Won | None:
    """A reply that only names an answer, such as `Output (a)`; a letter alone could be one of the question's own."""
    slot = ANSWER_SLOT.fullmatch(words.strip().rstrip(".!"))
    return _slot(slot) if slot and slot["named"] else None


def understood(text: str) -> SaidWinner | None:
    """What a verdict's own words say; None if they are about no answer."""
    text = LEAD.sub("", text, count=1)
    if tie := TIE.match(text):
        return "?" if CONTRARY.search(text, tie.end()) else "tie"
    slot = ANSWER_SLOT.match(text)
    if slot is None:
        return "?" if BOTH.search(text) else None
    sign = SIGN.match(text, slot.end())
    other = ANSWER_SLOT.match(text, sign.end()) if sign else None
    if sign and other and (other["named"] or other["bare"].isupper() or text[slot.start() :][:1].islower()):
        return _between(_slot(slot), sign[1], _slot(other), text[other.end() :])
    letter = slot["bare"]
    if letter and letter.islower() and not re.fullmatch(r"\W*", text[slot.end() :]):
        return None  # an article
    return _alone(_slot(slot), text[slot.end() :])


def _slot(found: re.Match[str]) -> Literal["a", "b"]:
    return "a" if (found["named"] or found["bare"]) in "aA1" else "b"


def _between(first: Won, sign: str, second: Won, rest: str) -> SaidWinner:
    """What an operator between two answers says."""
    won = next((sides for pattern, sides in SIGNS.items() if re.fullmatch(pattern, sign)), None)
    if first == second:
        return "?"
    if won is None:
        said = understood(rest.lstrip(" :-–—")) if sign.casefold().startswith("v") else None
        return said or "?"
    if (SIGN.match(rest) and not re.match(r"\s*(?:,|and\b|[-–—]\s)", rest)) or re.match(
        r"(?i)\s*(?:or|if|unless|\?)", rest
    ):
        return "?"
    return {"a": first, "b": second, "tie": "tie"}[won[0]]


def _alone(slot: Literal["a", "b"], rest: str) -> SaidWinner:
    """What is said after the name of one answer."""
    if OPEN.match(rest):
        return "?"
    part = PART.split(rest, maxsplit=1)[0]
    if DENIED.search(part):
        return "?"
    if WORSE.match(rest):
        return "b" if slot == "a" else "a"
    if EVEN.match(rest):
        return "tie"
    return slot if BETTER.match(rest) or not part.strip(" -–—|]}>") else "?"
