"""Answers as they stand in mathematics, in several notations: the reference, an equal answer, and one that is not.

<a>, <b> and <c> are numbers that differ from row to row; <s> is a + b. What is between them means the same to a reader.
"""

from collections.abc import Iterator

FORMS: tuple[tuple[str, str, str], ...] = (
    ("<a>", "\\boxed{<a>}", "\\boxed{<b>}"),
    ("<a>", "\\boxed{<a>.}", "\\boxed{-<a>}"),
    ("-<a>", "\\boxed{\u2212<a>}", "\\boxed{<a>}"),
    ("<a>000", "\\boxed{<a>{,}000}", "\\boxed{<a>}"),
    ("<a>000", "\\boxed{<a>\\,000}", "\\boxed{<a>,00}"),
    ("<a>.5", "\\boxed{\\frac{<a>}{1} + \\frac{1}{2}}", "\\boxed{<a>.05}"),
    ("\\frac{<a>}{<b>}", "\\boxed{<a>/<b>}", "\\boxed{<b>/<a>}"),
    ("\\frac{<a>}{<b>}", "Answer: $\\dfrac{<a>}{<b>}$", "Answer: $\\dfrac{<b>}{<a>}$"),
    ("\\frac{<a>}{<b>}", "\\boxed{\\tfrac{<a>}{<b>}}", "\\boxed{<a>.<b>}"),
    ("<a>\\frac{1}{<b>}", "\\boxed{<a> 1/<b>}", "\\boxed{1/<b>}"),
    ("-\\frac{<a>}{<b>}", "\\boxed{\\frac{-<a>}{<b>}}", "\\boxed{\\frac{<a>}{<b>}}"),
    ("\\sqrt{<a>}", "\\boxed{\u221a<a>}", "\\boxed{\u221a<s>}"),
    ("<a>\\sqrt{<b>}", "\\boxed{\\sqrt{<b>} \\cdot <a>}", "\\boxed{\\sqrt{<b>} + <a>}"),
    ("\\frac{<a>\\sqrt{3}}{<b>}", "\\boxed{\\frac{<a>}{<b>}\\sqrt{3}}", "\\boxed{\\frac{<a>}{<b>}\\sqrt{5}}"),
    ("\\sqrt[3]{<a>}", "\\boxed{<a>^{1/3}}", "\\boxed{<a>^{1/2}}"),
    ("<a> + <b>\\sqrt{2}", "\\boxed{<b>\\sqrt2 + <a>}", "\\boxed{<a>\\sqrt2 + <b>}"),
    ("<a>\\pi", "\\boxed{<a>\u03c0}", "\\boxed{<b>\u03c0}"),
    ("\\frac{\\pi}{<a>}", "\\boxed{\\dfrac{\\pi}{<a>}}", "\\boxed{\\dfrac{<a>}{\\pi}}"),
    ("<a>x + <b>", "\\boxed{<b> + <a>x}", "\\boxed{<b>x + <a>}"),
    ("x^2 + <a>x + <b>", "\\boxed{x\u00b2 + <a>x + <b>}", "\\boxed{x\u00b2 - <a>x + <b>}"),
    ("(x+<a>)(x+<b>)", "\\boxed{(x + <b>)(x + <a>)}", "\\boxed{(x - <b>)(x + <a>)}"),
    ("(x+<a>)(x-<b>)", "\\boxed{(x-<b>)(x+<a>)}", "\\boxed{(x+<b>)(x-<a>)}"),
    ("y = <a>x + <b>", "\\boxed{y = <b> + <a>x}", "\\boxed{y = <b>x + <a>}"),
    ("<a>x + <b>y + 7 = 0", "\\boxed{<b>y + <a>x = -7}", "\\boxed{<b>x + <a>y = -7}"),
    ("x = <a>", "\\boxed{<a>}", "\\boxed{x = <b>}"),
    ("<a>", "\\boxed{x = <a>}", "\\boxed{x = -<a>}"),
    ("\\frac{x + <a>}{x - <b>}", "\\boxed{\\dfrac{<a> + x}{x - <b>}}", "\\boxed{\\dfrac{x - <a>}{x + <b>}}"),
    ("[<a>, <s>]", "\\boxed{\\left[<a>, <s>\\right]}", "\\boxed{(<a>, <s>)}"),
    ("(<a>, <s>]", "\\boxed{<a> < x \\le <s>}", "\\boxed{<a> \\le x < <s>}"),
    ("(-\\infty, <a>) \\cup (<s>, \\infty)", "\\boxed{(-\u221e, <a>) \u222a (<s>, \u221e)}", "\\boxed{(<a>, <s>)}"),
    ("x > <a>", "\\boxed{(<a>, \\infty)}", "\\boxed{[<a>, \\infty)}"),
    ("(<a>, <b>)", "\\boxed{\\left( <a>, <b> \\right)}", "\\boxed{(<b>, <a>)}"),
    ("(<a>, <b>, <c>)", "Answer: $(<a>, <b>, <c>)$", "Answer: $(<a>, <c>, <b>)$"),
    ("\\{<a>, <b>, <c>\\}", "\\boxed{\\{<c>, <b>, <a>\\}}", "\\boxed{\\{<a>, <b>, <s>\\}}"),
    ("<a>, <s>", "\\boxed{<s>, <a>}", "\\boxed{<s>}"),
    ("<a>, <s>", "\\boxed{<a> \\text{ and } <s>}", "\\boxed{<a> \\text{ and } -<s>}"),
    ("x = <a> \\text{ or } x = <s>", "\\boxed{<s>, <a>}", "\\boxed{x = <a>}"),
    ("\\pm <a>", "\\boxed{-<a>, <a>}", "\\boxed{<a>}"),
    ("\\begin{pmatrix} <a> \\\\ <b> \\end{pmatrix}",
     "\\boxed{\\begin{pmatrix}<a>\\\\<b>\\end{pmatrix}}", "\\boxed{\\begin{pmatrix}<b>\\\\<a>\\end{pmatrix}}"),
    ("\\begin{pmatrix} <a> & 0 \\\\ 1 & <b> \\end{pmatrix}",
     "\\boxed{\\begin{bmatrix} <a> & 0 \\\\ 1 & <b> \\end{bmatrix}}",
     "\\boxed{\\begin{bmatrix} <a> & 1 \\\\ 0 & <b> \\end{bmatrix}}"),
    ("\\text{Friday}", "\\boxed{\\text{friday}}", "\\boxed{\\text{Sunday}}"),
    ("\\text{even}", "\\boxed{even}", "\\boxed{odd}"),
    ("Evelyn", "\\boxed{\\text{Evelyn}}", "\\boxed{\\text{Leynev}}"),
    ("<a>^\\circ", "\\boxed{<a>\u00b0}", "\\boxed{<b>\u00b0}"),
    ("<a>", "\\boxed{<a>\\degree}", "\\boxed{-<a>\\degree}"),
    ("<a>\\%", "\\boxed{<a>}", "\\boxed{<b>\\%}"),
    ("<a>.5\\%", "\\boxed{<a>.5}", "\\boxed{<a>\\%}"),
    ("<a> \\text{ cm}", "\\boxed{<a>}", "\\boxed{<b> \\text{ cm}}"),
    ("<a>", "\\boxed{<a> \\text{ square units}}", "\\boxed{<b> \\text{ square units}}"),
    ("\\$<a>.50", "Answer: $<a>.50", "Answer: $<a>.05"),
    ("<a>", "Answer: <a> miles per hour", "Answer: <a> or <b> miles per hour"),
    ("<a> + <b>i", "\\boxed{<b>i + <a>}", "\\boxed{<a> - <b>i}"),
    ("2^{<a>}", "\\boxed{2^{<a>}}", "\\boxed{2^{<b>}}"),
    ("<a> \\times 10^{-12}", "\\boxed{<a>\\cdot 10^{-12}}", "\\boxed{<a>\\cdot 10^{-13}}"),
    ("\\log_{2} <a>", "\\boxed{\\log_2 <a>}", "\\boxed{\\log_3 <a>}"),
    ("<a>!", "\\boxed{<a>!}", "\\boxed{<b>!}"),
    ("\\binom{<s>}{2}", "\\boxed{\\frac{<s>!}{2!(<s>-2)!}}", "\\boxed{\\binom{<s>}{1}}"),
    ("1011_2", "\\boxed{1011_{2}}", "\\boxed{1011_{3}}"),
    ("x^{<a>}", "\\boxed{x^<a>}", "\\boxed{x^{-<a>}}"),
    ("e^{<a>}", "\\boxed{e^{<a>}}", "\\boxed{e^{<b>}}"),
    ("\\sin x \\cos x", "\\boxed{\\cos x \\sin x}", "\\boxed{\\cos x + \\sin x}"),
)  # fmt: skip


def rows(repeats: int) -> Iterator[tuple[str, str, float]]:
    """Text, reference and the right score: each form with `repeats` sets of numbers."""
    for repeat in range(repeats):
        a, b, c = 12 + 7 * repeat % 71, 5 + 4 * repeat % 61, 97 + 6 * repeat
        numbers = {"<a>": a, "<b>": b if a != b else b + 1, "<c>": c, "<s>": a + b}
        for form in FORMS:
            gold, right, wrong = (filled(text, numbers) for text in form)
            yield right, gold, 1.0
            yield wrong, gold, 0.0


def filled(text: str, numbers: dict[str, int]) -> str:
    for name, number in numbers.items():
        text = text.replace(name, str(number))
    return text
