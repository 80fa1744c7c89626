"""One spelling for the many notations of mathematics: √2 and x² become LaTeX, 12\\,345 becomes 12345.

`tidy` leaves LaTeX that means the same and that readers of LaTeX understand. `as_typed` goes on to what people type:
5\\text{ cm} becomes 5 cm and \\frac{3}{4} becomes 3/4. What is still LaTeX after it is more than a number.
"""

import re

VULGAR = {
    "½": "12", "⅓": "13", "⅔": "23", "¼": "14", "¾": "34", "⅕": "15", "⅖": "25", "⅗": "35", "⅘": "45", "⅙": "16",
    "⅚": "56", "⅐": "17", "⅛": "18", "⅜": "38", "⅝": "58", "⅞": "78", "⅑": "19",
}  # fmt: skip
COMMANDS = {
    "×": "times", "÷": "div", "·": "cdot", "⋅": "cdot", "π": "pi", "∞": "infty", "≤": "le", "≥": "ge", "≠": "ne",
    "∪": "cup", "∩": "cap", "∈": "in", "∅": "emptyset", "±": "pm", "∓": "mp", "≈": "approx", "θ": "theta",
    "α": "alpha", "β": "beta", "λ": "lambda", "°": "degree",
}  # fmt: skip
SPACES = "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u3000"
SIGNS: dict[int, str | None] = {
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # of full width
    **{ord(space): " " for space in SPACES},
    **{ord(nothing): None for nothing in "\u200b\u2060\ufeff"},
    **{ord(minus): "-" for minus in "\u2212\u2010\u2011"},
    **{ord(sign): f"\\frac{{{digits[0]}}}{{{digits[1]}}}" for sign, digits in VULGAR.items()},
    **{ord(sign): f"\\{command} " for sign, command in COMMANDS.items()},
    **{ord("\u2019"): "'", ord("\u2044"): "/", ord("∗"): "*"},
}
RAISED, LOWERED, LEVEL = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ", "₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙ", "0123456789+-()n"
ROOT_SIGN = re.compile(r"([√∛])\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+(?:\.\d+)?|[A-Za-z]))")
SYNONYMS = (
    (re.compile(r"(?<![\w)\]}%])[\u2012\u2013](?=[\d.$\\])"), "-"),  # a dash as a sign
    (re.compile(r"\s*(?:\^\s*\{\s*\\circ\s*\}|\^\s*\\circ\b|\\degrees?\b)"), r"^{\\circ}"),
    (re.compile(r"\\[dtc]frac\b"), r"\\frac"),
    (re.compile(r"(?:\{,\}|,\\!\s?)(?=\d{3}(?!\d))"), ","),
)
GAP = r"(?:\\[ ,;:!]|[ ~]|\\thinspace\b ?)"
GROUPS = re.compile(rf"(?<![\d.,\w^])\d{{1,3}}(?:{GAP}\d{{3}})+(?![\d\w]|[.,/]\d{{4}}|\s?/\s?\d)")
# 2e-1 may be 2 times e, less 1
SCIENTIFIC = re.compile(
    r"(?<![\w.])(\d*\.\d+|\d+(?=e\d|e-\d\d|e\+|E)|1(?=e))[eE]([-+]?\d{1,3})(?![\w.]*\w)",
)
MIXED = re.compile(r"(?<![\d./,\w^_}])(\d{1,9})(?:\s|\\ )+(\d{1,9})()\s*/\s*(\d{1,9})()(?![\d/]|\.\d)")
IMPROPER = re.compile(r"(?<![\w.^_}])(\d{1,9})\s*\\frac\s*(?:\{(\d{1,9})\}|(\d))\s*(?:\{(\d{1,9})\}|(\d))")
FRACTION = re.compile(r"(\d)?(?:\s|\\ )*\\frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
TEN = re.compile(r"(?<=\d)\s*(?:\\times|\\cdot|\*|[xX])\s*10\s*\^\s*(?:\{\s*([-+]?\d{1,3})\s*\}|\(?([-+]?\d{1,3})\)?)")
TEXT = re.compile(r"\\(?:text(?:bf|rm|it|normal)?|math(?:rm|bf|it)|mbox|operatorname|f?boxed|fbox)\s*\{([^{}]*)\}")
LENGTH = r"(?:[cdkm]?m|ft|in|yd|mi|s|units?|feet|foot|inch(?:es)?|yards?|miles?|(?:centi|kilo)?met(?:er|re)s?)"
TYPED = (
    (re.compile(r"\*\*|__|`"), ""),
    (re.compile(r"\^\{\\circ\}"), " degrees "),
    (re.compile(r"\\(?:left|right|[bB]igg?[lr]?|displaystyle)(?![A-Za-z])\.?|\\!"), ""),
    (re.compile(r"\\([%$#&])"), r"\1"),
    (re.compile(r"\\[ ,;:()\[\]]|~|\\(?:q?quad|approx|thinspace)\b"), " "),
    (re.compile(r"\\times\b|\\cdot\b"), " * "),
    (re.compile(rf"(\b{LENGTH}\s?)\^\s?(?:\{{-?[23]\}}|-?[23])"), r"\1"),
    (re.compile(r"(^|(?<=[=:(]))(\s*)-\s+(?=[\d.$])"), r"\2-"),
)


def tidy(text: str) -> str:
    """The same mathematics in LaTeX that is read alike everywhere."""
    text = text.rstrip(" \n.,;:")
    if not text.isascii():
        text = ROOT_SIGN.sub(_root, _level(_level(text, RAISED, "^"), LOWERED, "_").translate(SIGNS))
    for pattern, spelling in SYNONYMS:
        text = pattern.sub(spelling, text)
    text = GROUPS.sub(lambda found: re.sub(r"\D", "", found[0]), text)
    text = SCIENTIFIC.sub(lambda found: f"{found[1]} \\times 10^{{{int(found[2])}}}", text)
    return IMPROPER.sub(_mixed, MIXED.sub(_mixed, text))


def as_typed(tidied: str) -> str:
    """As people type it: words without \\text, 3/4, 2 1/4, 1.5e3, no marks of Markdown."""
    text = FRACTION.sub(_typed, tidied)
    text = TEN.sub(lambda found: f"e{int(found[1] or found[2])}", text)
    for _ in range(2):  # one in the other
        text = TEXT.sub(r" \1 ", text)
    for pattern, spelling in TYPED:
        text = pattern.sub(spelling, text)
    return text


def _level(text: str, characters: str, mark: str) -> str:
    spelling = str.maketrans(characters, LEVEL)
    return re.sub(f"[{characters}]+", lambda found: f"{mark}{{{found[0].translate(spelling)}}}", text)


def _root(found: re.Match[str]) -> str:
    inner = next(part for part in found.groups()[1:] if part is not None)
    return f"\\sqrt{'[3]' if found[1] == '∛' else ''}{{{inner}}}"


def _mixed(found: re.Match[str]) -> str:
    """2 1/4 is a mixed number, and 2 7/4 is none."""
    whole, top, below = int(found[1]), int(found[2] or found[3]), int(found[4] or found[5])
    return f"\\frac{{{whole * below + top}}}{{{below}}}" if top < below else found[0]


def _typed(found: re.Match[str]) -> str:
    fraction = f"{found[2] or found[3]}/{found[4] or found[5]}"
    if found[1]:
        return f"{found[1]} {fraction}"
    return f" {fraction}" if found.string[: found.start()][-1:].isalnum() else fraction
