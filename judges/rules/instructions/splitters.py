"""Words, sentences and the language of a text, as the checkers of IFEval tell them (arXiv 2311.07911).

They split by NLTK's Punkt and Treebank tokenizers, whose English habits are written out here: a sentence ends at any
question mark, exclamation mark or full stop before white space or a closing mark, unless an abbreviation that Punkt
knows, an initial or an ellipsis has the full stop. A line's end is no end of a sentence. Figures: docs/measured.md.
"""

import importlib
import re

from flywheel.errors import EngineMissing

POSSIBLE_END = re.compile(r"[.?!](?=[)\";}\]*:@'({\[!?]|\s+\S)")
CLOSERS = re.compile(r"[\"')\]}]+(?=\s|--|\Z)")
LAST_WORD = re.compile(r"[^\s()\"`{}\[\]:;&#*@'!?]+\Z")
NEXT_WORD = re.compile(r"\s*(\w*)")
LONGEST_WORD = 60
"""Characters of a word before a full stop that are looked at."""
KNOWN = """mr mrs ms messrs dr prof st sr jr gen col maj lt sen rep reps adm jan feb aug sep sept oct nov dec tues wed
fri inc co corp ltd bros cos cie ala ariz calif colo conn fla ga ill kan ky mich minn nev okla ore pa tenn va vt wash
wis w.va ave ct ft mg yr vs ok chg sw a.m p.m u.s u.k u.n u.s.a u.s.s.r d.c n.y n.j n.c n.h s.c l.a n.v s.a s.p.a ph.d
m.b.a a.c a.d a.g a.h a.t b.f b.v c.v e.l h.c r.a v c d e f g h j k l m n p r s t w"""
STARTING = """according although always among ask begin both but despite does even finally furthermore he hence her here
however i if in indeed instead it many meanwhile moreover most need nevertheless nonetheless note nothing overall please
put remember separately similarly since so some someone sometimes still such the there therefore these they think this
though thus try turn under unless were when whether which while without yes yet your"""
ABBREVIATIONS = frozenset(KNOWN.split())
"""Those that Punkt has learned for English; single letters among them never end a sentence."""
STARTERS = frozenset(STARTING.split())
"""Words that begin a sentence after an abbreviation or an ellipsis, if they have a capital; so Punkt has learned."""
APART = re.compile(r"[;@#$%&?!()\[\]{}<>\"“”‘’„«»]|--|\.{3,}|``|''|[:,](?!\d)")
CONTRACTED = re.compile(r"(?<=[^\s'])('(?:s|m|d|ll|re|ve)|n't)(?=\s|\Z)", re.IGNORECASE)
JOINED = re.compile(r"\b(can)(not)\b|\b(gim|lem)(me)\b|\b(gon|wan)(na)\b|\b(got)(ta)\b|\b(d)('ye)\b", re.IGNORECASE)


def word_count(text: str) -> int:
    """How many runs of letters, digits and underscores there are."""
    return len(re.findall(r"\w+", text))


def sentences(text: str) -> int:
    """How many sentences there are."""
    text, count, begin = text.strip(), 0, 0
    for end in POSSIBLE_END.finditer(text):
        if end.start() < begin or (end[0] == "." and not _ends(text, end.start())):
            continue
        closers = CLOSERS.match(text, end.end())
        begin = closers.end() if closers else end.end()
        count += 1
    return count + bool(text[begin:].strip())


def _ends(text: str, at: int) -> bool:
    """Whether the full stop at this place ends a sentence."""
    last = LAST_WORD.search(text[max(0, at - LONGEST_WORD) : at + 1])
    word = last[0][:-1] if last else ""
    following = NEXT_WORD.match(text, at + 1)
    after = following[1] if following else ""
    if word.endswith("."):  # an ellipsis
        return after[:1].isupper() and after.lower() in STARTERS
    bare = word.lower().rpartition("-")[2]
    if len(bare) == 1 and bare.isalpha():  # an initial, or an item of a list
        return bare not in ABBREVIATIONS and not after[:1].islower() and len(after) != 1
    if bare in ABBREVIATIONS:
        return after[:1].isupper() and after.lower() in STARTERS
    return not (re.fullmatch(r"-?[.,]?\d[\d,.-]*", word) and after[:1].islower())


def capitals(text: str) -> int:
    """How many words have no small letter: as in Treebank, I'M is two of them, and so is DON'T."""
    spaced = JOINED.sub(lambda found: " ".join(part for part in found.groups() if part), APART.sub(" ", text))
    return sum(word.isupper() for word in CONTRACTED.sub(r" \1", spaced).split())


def language(text: str) -> str | None:
    """The language's code, such as "en"; None where nothing tells. Raises EngineMissing where langdetect is missing."""
    try:
        langdetect = importlib.import_module("langdetect")
    except ImportError as error:
        raise EngineMissing(
            "a constraint on the language needs langdetect, which is not installed: install flywheel's extra tasks"
        ) from error
    langdetect.DetectorFactory.seed = 0  # it draws at random: the same text has the same language each time
    try:
        return str(langdetect.detect(text))
    except langdetect.LangDetectException:
        return None
