"""Which option a text chooses: the letter of its last announcement, or else the only one that stands out.

A letter may be a word ("I think", "A cat"), of a formula (E = mc^2) or of a name (C++, 5 °C), and a text names options
that it rejects ("not B", "(A) is wrong"). Where an announcement is none of an option, was cut off, or offers two, there
is no choice: a letter that happened to be said before is none.
"""

import re
from functools import cache
from itertools import islice
from typing import NamedTuple

NOUN = r"(?i:\banswer\b|\b(?:correct|right|best|final)\s+(?:option|choice|letter|selection)\b)"
VERB = r"""(?ix:(?:is|was|be|has\ to\ be|seems\ to\ be|appears\ to\ be
    |(?:must|would|should|will|could|may|might)(?:\s+(?:therefore|thus|then|hence))?\s+be)
    \b(?!['’]?\s*n[o'’]t\b|\s+never\b|\s+neither\b))"""
LINK = rf"""(?ix:(?:[\W_]{{1,3}}(?:to|for|of|the|this|that|question|problem|choice|option|here|then|thus|therefore|hence
    |clearly)\b){{0,6}}[\s*_`)\],]{{0,6}}(?:{VERB}|['’]s\b|[-:：=–—→>]+))"""
ANNOUNCED_OPTION = re.compile(rf"(?P<noun>{NOUN})(?P<link>{LINK})?|(?P<boxed>\\boxed)|(?P<hashes>^\#{{4}}(?!\#))", re.M)
"""What an answer follows: "the answer is", "Answer:", \\boxed, ####."""
OF_ANOTHER = re.compile(
    r"(?i:\b(?:this|that|your|if the|whether the|any|each|every|another|no|wrong|incorrect)\s+|</)\Z"
)
"""Before "answer": it is not being given."""
REMARK = re.compile(
    r"(?i:\W{0,3}(?:also\s+|indeed\s+|therefore\s+)?(?:correct|right|wrong|incorrect|helpful|clear|obvious|based|"
    r"supported|consistent|explained|complete|useful|unclear|accurate|found|derived|obtained|determined|given|known|"
    r"reached|justified|confirmed|verified)\b)"
)
"""After "answer is": something is said of it, and it was given before."""
BETWEEN = r"(?:\W|_|boxed|fbox|text(?:bf|it)?|math(?:rm|bf|sf|tt)|option\b|choice\b|letter\b){0,24}?"
"""What may stand between the announcement of an option and its letter: marks, LaTeX, "option"."""
CUES = (
    r"(?i:\b(?:so|thus|therefore|hence|pick|picked|choose|chose|select|selected|go with|going with|is|be|it's|say|"
    r"guess|believe|think|conclude|but|likely|clearly|definitely|probably|certainly|obviously|surely|simply)\b|['’]s\b)"
)
"""What a letter without marks must stand behind to be an option."""
CONCLUDED = re.compile(
    r"(?i:\W{0,6}\s(?:is|was|must be|seems|would be)\s+(?:\w+\s+){0,2}(?:right|correct|true|best|it)\b)"
)
AS_WORD = re.compile(r",?\s+([^\W\d_]\w*|['’])")
AFTER_I = re.compile(r"(?:because|since|as|due|given|is)\Z", re.IGNORECASE)
AFTER_OPTION = re.compile(
    r"(?:because|since|as|is|was|seems|would|and|or|but|which|that|due|given|in|with|if|so|by|for|on|not|although|while|"
    r"has|fits)\Z",
    re.IGNORECASE,
)
"""Words that follow an option, where "A", "I" or a number would otherwise begin a phrase."""
AFTER_NAME = re.compile(r"\s+(?:major|minor|flat|sharp|coli|elegans)\b")
FORMULA = re.compile(
    r"[#+^%°=(\[]|\.\w|[,:]\d|-\w|/\w|\s*(?:[=≤≥≠×∪∩^]|\s\*\s|[<>]=|[<>+]\s|\\(?:cup|cap|times|cdot|leq?|geq?|neq?|circ|to))"
)
NEGATED_BEFORE = r"""(?ix:(?:\b(?:not|never|cannot|neither|nor|except|excluding|eliminat\w+|rul\w+\sout|reject\w*
    |look\w*\sat|consider\w*|examin\w*|compar\w*|suppose|assum\w*|whether|if|in|about|between|instead\sof|rather\sthan
    |other\sthan|better\sthan|over|against|(?:any|every)thing\sbut|(?:wrong|incorrect)\s(?:answer|option|choice)\sis)|n['’]t)\b
    (?:\W+(?:be|the|an?|option|choice|letter|answer|is)\b){0,3}|\b(?:doubt|unlikely|hardly|barely)\b[^.!?\n]*)"""
"""Before an option that is rejected, or only looked at."""
NEGATED_AFTER = r"""(?ix:[^\w\s]*\s+(?:
    (?:is|are|was|were|would\sbe|must\sbe|can\sbe|seems|does|do|did|has|will|would|should|could)
    (?:\s+(?:also|clearly|definitely|obviously|just|simply|thus|therefore|both|all))?\s*
    (?:n['’]t|not|never|wrong|incorrect|false|less\b|unlikely|ruled\sout|eliminated|excluded|impossible|out|invalid|untrue)
    |cannot|can['’]t)\b)"""
TAKEN_BACK = re.compile(
    r"(?im:(?:^|[.!?—-])\W*(?:(?:oh|hmm|but|and)\W+)?"
    r"(?:(?:no|wait|nope)[,.!:—]|actually\b|sorry\b|correction\b|scratch that|on second thought))"
)
WINDOW = 80
"""Characters that are looked at beside a letter."""


MOST = 500
"""As many letters, and none is a choice."""


class FoundOption(NamedTuple):
    """A letter in a text, and where it stands."""

    letter: str
    start: int
    end: int


class Patterns(NamedTuple):
    """Those that depend on the options."""

    head: re.Pattern[str]
    standing_out: re.Pattern[str]
    not_before: re.Pattern[str]
    not_after: re.Pattern[str]
    joined_before: re.Pattern[str]
    joined_after: re.Pattern[str]
    listed: re.Pattern[str]


@cache
def patterns(options: str) -> Patterns:
    """Compiled for these options."""
    upper, lower = f"[{options}]", f"[{options.lower()}]"
    bare = rf"(?<!\w)({upper})(?![\w'’])"
    at_end = rf"(?<!\w)({lower})(?=[*_.)\]}}$`]*\s*$)"
    bracketed = rf"[(\[]\s*({upper})\s*[)\]]|\(\s*({lower})\s*\)"
    marked = rf"(?:\*{{1,3}}|__|[`\"“$])\(?({upper})(?:[).:]?(?:\*{{1,3}}|__|[`\"”$])|[).:]\s)"
    first = rf"^[^\w\n]{{0,8}}({upper})(?:[.):](?!\w)|[^\w\n]*$)|\A\W*{bare}|\A\W*{at_end}"
    cued = rf"(?i:\b(?:option|choice|letter)\b)\W{{1,4}}({upper})(?!\w)|{CUES}\W{{1,4}}{bare}"
    at_last = rf"[:→]\W{{1,4}}{bare}(?=[^\w\n]*$)"
    others = rf"(?:[\s(\[]*{upper}[)\]]*\s*(?:,|and|or|nor|/|&)\s*(?:(?:then|also|both)\s+)?)"
    joint = r"\W{0,12}(?i:\b(?:and/or|or|and|nor|versus|vs)\b|/|,|&)\W{0,12}"
    perhaps = rf"(?:(?i:maybe|perhaps|possibly|even|also|both|either)\W+)?{BETWEEN}"
    return Patterns(
        head=re.compile(rf"{BETWEEN}(?:{bare}|(?<!\w)({lower})\)|{at_end})", re.MULTILINE),
        standing_out=re.compile(rf"{bracketed}|{marked}|{first}|{cued}|{at_last}", re.MULTILINE),
        not_before=re.compile(rf"{NEGATED_BEFORE}\W*{others}*[\W_]*\Z"),
        not_after=re.compile(rf"(?:[)\]]*\s*(?:,|and|or|nor|/|&)\s*[(\[]*{upper})*{NEGATED_AFTER}"),
        joined_before=re.compile(rf"(?<!\w){upper}{joint}(?:option|choice)?\W*\Z"),
        joined_after=re.compile(rf"{joint}{perhaps}{bare}"),
        listed=re.compile(rf"[^\n]*\n+[^\w\n]{{0,8}}({upper})[.):]"),
    )


def chosen_option(text: str, options: str) -> str | None:
    """The option that a text chooses, or None."""
    announcement = _announcement(text, options)
    if announcement is None:
        return _concluded(text, options)
    before, said, after_verb = announcement
    head = patterns(options).head.match(said)
    found = _found(head) if head else None
    if (
        found
        and _is_option(said, found)
        and not (after_verb and found.letter in "ai" and not said[found.end :].strip())
    ):
        one_of_two = patterns(options).joined_before.search(before)
        return None if one_of_two or _unsure(said, found, options) else found.letter.upper()
    rest = _paragraph(said)
    return _only([one for one in _mentions(rest, options) if not one.letter.islower()], rest, options)


def _announcement(text: str, options: str) -> tuple[str, str, bool] | None:
    """What stands before the last announcement, what follows it, and whether it ends with a verb."""
    last = None
    for match in ANNOUNCED_OPTION.finditer(text):
        if OF_ANOTHER.search(text[max(0, match.start() - 20) : match.start()]):
            continue
        rest = text[match.end() : match.end() + WINDOW]
        head = patterns(options).head.match(rest)
        given = head is not None and _is_option(rest, _found(head))
        if match["noun"] and not match["link"] and not (given and rest[:1] in " \n*_`($\\"):
            continue
        if match["noun"] and REMARK.match(rest):
            continue
        if match["hashes"] and not given and "\n" in text[match.start() :].strip():
            continue  # a heading
        last = match
    if last is None:
        return None
    before = text[max(0, last.start() - WINDOW) : last.start()] if last["boxed"] else ""
    return before, text[last.end() :], (last["link"] or "")[-1:].isalpha()


def _concluded(text: str, options: str) -> str | None:
    """The option of a text without an announcement: of its last sentence that concludes, or the only one."""
    found = _mentions(text, options)
    if not found:
        return None
    begin = max(text.rfind(end, 0, found[-1].start) for end in (". ", "! ", "? ", "\n"))
    sentence = [one for one in found if one.start > begin]
    if _only(sentence, text, options) and _concludes(text, sentence[-1]):
        return sentence[-1].letter.upper()
    return _only(found, text, options)


def _concludes(text: str, found: FoundOption) -> bool:
    """Whether the letter is what the sentence comes to."""
    before, after = text[max(0, found.start - WINDOW) : found.start], text[found.end : found.end + WINDOW]
    return bool(re.search(rf"(?:{CUES}|[:→])(?i:\W+(?:option|choice|letter))?\W*\Z", before) or CONCLUDED.match(after))


def _only(found: list[FoundOption], text: str, options: str) -> str | None:
    """The one letter of all that were found, if no other stands beside it."""
    letters = {one.letter.upper() for one in found}
    if len(letters) != 1 or any(_paired(text, one, options) for one in found):
        return None
    return letters.pop()


def _mentions(text: str, options: str) -> list[FoundOption]:
    """The options that stand out in a text and are not rejected."""
    every = [_found(match) for match in islice(patterns(options).standing_out.finditer(text), MOST)]
    if len(every) == MOST:
        return []
    return [one for one in every if _is_option(text, one) and not _rejected(text, one, options)]


def _found(match: re.Match[str]) -> FoundOption:
    group = next(number for number, part in enumerate(match.groups(), 1) if part)
    return FoundOption(match[group], match.start(group), match.end(group))


def _is_option(text: str, found: FoundOption) -> bool:
    """Whether a letter is not a word, part of a formula or of a name."""
    before, after = text[: found.start][-1:], text[found.end : found.end + WINDOW]
    if (
        before == "°"
        or (found.letter.isdigit() and before in tuple("-−+.$€£") and after[:1] != "$")
        or AFTER_NAME.match(after)
    ):
        return False
    if FORMULA.match(after) and not (before and before in "([" and after[:1] in ")]"):
        return False
    word = AS_WORD.match(after) if found.letter == "I" or not after.startswith(",") else None
    if word and (found.letter in "AI" or found.letter.isdigit()):
        return (AFTER_I if found.letter == "I" else AFTER_OPTION).match(word[1]) is not None
    return True


def _rejected(text: str, found: FoundOption, options: str) -> bool:
    """Whether the text says that it is not this one."""
    before, after = text[max(0, found.start - WINDOW) : found.start], text[found.end : found.end + WINDOW]
    return bool(patterns(options).not_before.search(before) or patterns(options).not_after.match(after))


def _paired(text: str, found: FoundOption, options: str) -> bool:
    """Whether another option stands beside this one, as in "A or B"."""
    before, after = text[max(0, found.start - WINDOW) : found.start], text[found.end : found.end + WINDOW]
    if patterns(options).joined_before.search(before):
        return True
    other = patterns(options).joined_after.match(after)
    if other is None or _found(other).letter == found.letter:
        return False
    return _is_option(after, _found(other)) and not _rejected(after, _found(other), options)


def _unsure(said: str, found: FoundOption, options: str) -> bool:
    """Whether an announced option is rejected, taken back, one of two, or the first of a list of all."""
    after = said[found.end :]
    if _rejected(said, found, options) or _paired(said, found, options) or TAKEN_BACK.search(after):
        return True
    next_one = patterns(options).listed.match(after[: 5 * WINDOW])
    listed = after[:1] in ".):" and "\n" in said[: found.start]
    return bool(listed and next_one and ord(next_one[1]) == ord(found.letter.upper()) + 1)


def _paragraph(said: str) -> str:
    """The first paragraph that is not empty."""
    return re.split(r"\n\s*\n", said.lstrip(), maxsplit=1)[0]
