"""What a page of ours is made of: its head, tables, a curve, and settings as a reader wants them.

Everything fits a phone, and is dark where the reader's screen is. What a model wrote is never more than text.
"""

import dataclasses
import html
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

from flywheel import protocols
from flywheel.identity import MADE, describe
from flywheel.recipe import recipe as recipes
from flywheel.training import settings as trainings

PART_KINDS = {**vars(protocols), **vars(trainings), **vars(recipes)}
"""Parts whose defaults a page leaves out."""
ANSWER_CHARACTERS = 2000
"""Characters of an answer that a page shows."""
SHORT = 120
"""Characters of a text in a setting, and of a cell that keeps its line ends to itself."""
STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #222; --line: #ddd }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
body { background: var(--page); color: var(--text) }
.wide { overflow-x: auto } table { border-collapse: collapse; margin: 1em 0 }
td, th { padding: .25em .8em; border-bottom: 1px solid var(--line); vertical-align: top; text-align: left }
td.number { text-align: right } img, svg { width: 36em; max-width: 100%; height: auto }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font-size: 13px; max-width: 28em; min-width: 12em }
svg text { fill: currentColor; font-size: 14px } svg .axis { stroke: var(--line) }
svg path { fill: none; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  :root { --page: #181818; --text: #ddd; --line: #444 }
  img { filter: invert(.906) hue-rotate(180deg) } /* white becomes the page's colour, and red stays red */
}
@media (max-width: 40em) { body { margin: 1em auto } td, th { padding: .25em .4em } }
"""
COLOURS = ("#4c8bd6", "#d9822b", "#3fa45b", "#d15252", "#9a75cc", "#8c7a5b")
"""To be told from each other, and from a white and a black page."""
WIDTH, HEIGHT, LEFT, BOTTOM, EDGE = 520, 290, 60, 45, 12
CURVE_POINTS = 300
"""Of a curve; of a longer one every so manyth is drawn."""


def page(title: str, parts: Iterable[str]) -> str:
    """The whole file."""
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
    screen = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return f"{head}{screen}<style>{STYLE}</style>\n" + "\n".join(parts) + "</html>\n"


def html_table(rows: Iterable[Sequence[Any]], names: Sequence[str]) -> str:
    """A table that is scrolled where it is wider than the page."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'


def _cell(value: Any) -> str:
    if isinstance(value, (int, float)):
        return f'<td class="number">{f"{value:.4g}" if isinstance(value, float) else value}</td>'
    text = "" if value is None else str(value)
    shown = html.escape(text if len(text) <= ANSWER_CHARACTERS else text[:ANSWER_CHARACTERS] + "…")
    return f"<td><pre>{shown}</pre></td>" if "\n" in text or len(text) > SHORT else f"<td>{shown}</td>"


def curve(words: str, lines: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str) -> str:
    """A drawing of lines through points, each line with its name; nothing without points."""
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    (x0, x1), (y0, y1) = ((min(values), max(values)) for values in zip(*points, strict=True))
    right, foot = WIDTH - LEFT - EDGE, HEIGHT - BOTTOM - EDGE

    def at(x: float, y: float) -> str:
        return f"{LEFT + right * (x - x0) / ((x1 - x0) or 1):.1f} {EDGE + foot * (y1 - y) / ((y1 - y0) or 1):.1f}"

    drawn = [f'<path class="axis" d="M{LEFT} {EDGE} v{foot} h{right}"/>']
    for part in range(5):
        y = y0 + (y1 - y0) * part / 4
        drawn.append(_text(LEFT - 6, EDGE + foot * (1 - part / 4) + 5, f"{y:.3g}", "end"))
    drawn += [_text(LEFT, HEIGHT - 25, f"{x0:g}", "start"), _text(WIDTH - EDGE, HEIGHT - 25, f"{x1:g}", "end")]
    drawn += [_text(LEFT + right / 2, HEIGHT - 6, across, "middle"), _text(LEFT + 6, EDGE + 10, up, "start")]
    for nth, ((name, line), colour) in enumerate(zip(lines.items(), cycle(COLOURS), strict=False)):
        some = line[:: -(-len(line) // CURVE_POINTS) or 1]
        drawn.append(f'<path stroke="{colour}" d="M{" L".join(at(*point) for point in some)}"/>')
        drawn.append(_text(WIDTH - EDGE, EDGE + 10 + 17 * nth, name, "end", colour))
    title = html.escape(words)
    return f'<svg role="img" aria-label="{title}" viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(drawn)}</svg>'


def _text(x: float, y: float, words: str, anchor: str, colour: str | None = None) -> str:
    fill = f' style="fill: {colour}"' if colour else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{fill}>{html.escape(words)}</text>'


def settings(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a recipe, as it is stored, sets: each field whose value is not its default, with the value in words."""
    rows = []
    for name, value in recipe.items():
        if name in (*MADE, "name") or _default(recipe, name, value):
            continue
        several = isinstance(value, list) and any(isinstance(item, Mapping) for item in value)
        parts = [(f"{name}.{at}", item) for at, item in enumerate(value)] if several else [(name, value)]
        rows += [(path, spelled(item)) for path, item in parts]
    return rows


def spelled(value: Any) -> str:
    """A setting as it is written in a recipe, without what is a default: Sampling(n=4, temperature=0.7)."""
    if isinstance(value, Mapping):
        inner = [f"{name}={spelled(item)}" for name, item in value.items() if name not in MADE]
        if "is" in value:
            kept = [name for name in value if name not in MADE and not _default(value, name, value[name])]
            inner = [f"{name}={spelled(value[name])}" for name in kept]
        return f"{value.get('is', '')}({', '.join(inner)})"
    if isinstance(value, list):
        return f"[{', '.join(map(spelled, value))}]"
    text = str(value)
    return text if len(text) <= SHORT else f"{text[:SHORT]}…"


def _default(part: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether a field has its default, as far as the part is one of PART_KINDS."""
    kind = PART_KINDS.get(str(part.get("is")))
    fields = {field.name: field for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
    if name not in fields:
        return False
    default, made = fields[name].default, fields[name].default_factory
    if made is not dataclasses.MISSING:
        default = made()
    return default is not dataclasses.MISSING and spelled(describe(default)) == spelled(value)
