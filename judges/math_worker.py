"""The child of `judges.math`: for each line of JSON that it is sent, compares an answer with its reference.

It runs apart because math-verify hands what a model wrote to sympy, which can be made to compute for ever or to fill
the memory. Here memory is limited, and the parent kills what takes too long. The first line that it writes, `{}`, says
that everything is imported.
"""

import json
import re
import resource
import sys
from functools import lru_cache
from typing import Any

MEMORY = 4 << 30
"""Bytes of address space: far above what an honest comparison takes, far below what hurts a machine."""
SHOWN = 200
"""Characters of an answer that are reported."""
NUMBER = re.compile(r"\s*[-+]?\$?[\d.,]+%?\s*")
# math-verify reads 2,125/7 as 2,125, 276,0000 and 276 0000 as 276,000, and loses a sign before a space.
MISREAD = ((re.compile(r"(?<=\d),(?=\d{3})"), ""), (re.compile(r"(?<=\d) (?=\d{4})"), "; "), (re.compile(r"^- +"), "-"))


@lru_cache(maxsize=1024)
def values(text: str, latex: bool) -> list[Any]:
    """What math-verify reads in a text: sympy expressions, and last the text itself; [] if there is no answer in it."""
    from math_verify import parse

    text = text.replace("\u2212", "-")
    if not latex:
        for pattern, repair in MISREAD:
            text = pattern.sub(repair, text)
    return list(parse(f"\\boxed{{{text}}}" if latex else text, parsing_timeout=None, raise_on_error=True))


def compare(reference: str, answer: str, boxed: bool) -> dict[str, Any]:
    """Status, score and detail. `boxed` says that the answer is all LaTeX, and not text that may hold some."""
    from math_verify import verify

    gold = values(reference, True)
    if not gold:
        return {"status": "error", "score": None, "detail": f"the reference cannot be read: {reference[:SHOWN]}"}
    # Around a bare number people write words; \boxed reads them as products of variables. Formulas may come without $.
    ways = (True,) if boxed else (False,) if NUMBER.fullmatch(reference) and "\\" not in answer else (False, True)
    read = [found for latex in ways if (found := values(answer, latex))]
    if not read:
        return {"status": "unparsable", "score": None, "detail": "no answer"}
    right = next((found for found in read if verify(gold, found, timeout_seconds=None, raise_on_error=True)), None)
    return {"status": "ok", "score": float(right is not None), "detail": str((right or read[0])[0])[:SHOWN]}


def answer_line(line: bytes) -> dict[str, Any]:
    """The reply to one line: {"reference", "answer", "boxed"} to {"status", "score", "detail"}."""
    try:
        return compare(**json.loads(line))
    except Exception as error:  # of sympy, antlr or the limits: one strange answer is data, and no reason to stop
        return {"status": "error", "score": None, "detail": f"{type(error).__name__}: {str(error)[:SHOWN]}"}


def main() -> None:
    """Reply to every line of standard input with one line."""
    import math_verify  # noqa: F401 - the second that this takes is not the first answer's

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    replies = sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever else prints must not pass for a reply
    replies.write(b"{}\n")
    replies.flush()
    for line in sys.stdin.buffer:
        replies.write(json.dumps(answer_line(line)).encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    main()
