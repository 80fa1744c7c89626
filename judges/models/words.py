"""A reply's words without what dresses them: JSON, LaTeX, tags, Markdown. So there is one way to read all of them."""

import json
import re
from collections.abc import Iterator
from typing import Any

TELLING_KEYS = re.compile(r"(?i)verdict|winner|decision|preference|preferred|choice|better|score|rating|grade|ranking")
"""In the keys of what an object of JSON tells; the others hold reasons."""
CHOSEN = re.compile(r"(?i)winner|decision|preference|preferred|choice|better")
"""Keys that tell a verdict by another word."""
TRIES = 20
"""Braces that may turn out to begin no object, before the rest of a reply is only text."""
OBJECT = re.compile(r"\{\s*\"")
COMMAND = re.compile(r"\\(?:boxed|fbox|text(?:bf|it|rm)?|math(?:bf|rm|it|sf))\s*\{([^{}]*)\}")
NAMED = re.compile(r"<(verdict|winner|decision|score|rating|grade|ranking)>")
TAG = re.compile(r"</?(?:b|i|u|p|br|em|strong|span|code|div|points?|number|value|answer|letter|final|result)\s*/?>")
CLOSED = re.compile(r"</(?:verdict|winner|decision|score|rating|grade|ranking)>")
FRILLS = re.compile(r"[*`\"“”„«»$]|(?<![^\W_])'|'(?![^\W_])|\\[()\[\]]|^[ \t]*#+[ \t]*", re.M)
PLACED = re.compile(r"(?<![^\W_])(?<![^\W_] )<([ABC])>")
"""A letter in the place that a wording kept for it."""
SPELLED = {"&gt;": ">", "&lt;": "<", "&amp;": "&", "&nbsp;": " ", "\xa0": " ", "\\_": "_", "_": " "}
SPELLED |= {"＞": ">", "＜": "<", "＝": "="}


def undressed(reply: str) -> str:
    """The words: `**Score:** 4`, `<score>4</score>`, `Score: $\\boxed{4}$` and `{"score": 4}` all become `Score: 4`."""
    text = "".join(_without_objects(reply))
    for _ in range(2):  # \boxed{\text{A}}
        text = COMMAND.sub(r"\1", text)
    text = CLOSED.sub("\n", TAG.sub("", NAMED.sub(r"\n\1: ", text)))
    for spelling, character in SPELLED.items():
        text = text.replace(spelling, character)
    return PLACED.sub(r"\1", FRILLS.sub("", text))


def _without_objects(reply: str) -> Iterator[str]:
    """The reply, in which lines of `key: value` stand for each object of JSON that tells something."""
    decoder = json.JSONDecoder(object_pairs_hook=lambda pairs: {"pairs": pairs})
    at = done = 0
    for _ in range(TRIES):
        begin = OBJECT.search(reply, at)
        if begin is None:
            break
        try:
            value, at = decoder.raw_decode(reply, begin.start())
        except (ValueError, RecursionError):
            if "}" not in reply[begin.end() :]:  # cut off: what it tells last may be half of what it would have told
                reply = reply[: begin.start()]
                break
            at = begin.end()
            continue
        told = list(_lines(value, ""))
        if told:
            yield from (reply[done : begin.start()], "\n", "\n".join(told), "\n")
            done = at
    yield reply[done:]


def _lines(value: Any, path: str) -> Iterator[str]:
    """What an object tells, with the keys on the way to it: a score below `clarity` is the score of clarity alone."""
    for key, item in value["pairs"]:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key)
        if isinstance(item, dict):
            yield from _lines(item, f"{path}{name} ")
        elif TELLING_KEYS.search(key):
            shown = f"[{', '.join(map(str, item))}]" if isinstance(item, list) else str(item)
            yield f"{path}{'verdict' if CHOSEN.search(key) else name}: {shown}"
