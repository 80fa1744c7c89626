"""What a flow run shows: a model's text is never interpreted, and the pages say what the store says."""

import re
from collections.abc import Iterator

import polars as pl
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from flows.artifacts import SHOWN_CHARACTERS, answers_markdown, key, markdown_line, markdown_table

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "| a | b |\n|---|---|\n| d | e |",
    "\\| and \\\\| and \\",
    "`code` ``more`` ```\nfence\n```",
    "[click](https://evil.example/x?y=1) and ![see](http://evil.example/pixel.png)",
    "[click][ref]\n\n[ref]: javascript:alert(1)",
    "<https://evil.example> www.evil.example https://evil.example mail@evil.example",
    "# heading\n- item\n1. first\n> quote\n---\n===",
    "so <b>bold</b>: *em* **strong** __strong__ ~~gone~~ $x^2$",
    "&lt;script&gt; &#124; &amp;",
    "    indented\n\tand tabbed\r\nand\u2028parted\x0b\x0c\x85so",
    "\x1b[31mred\x00 \u202eeht si siht\u202c \ud800",
    "- [ ] task [^1]\n\n[^1]: note",
    "<!-- comment --> <a href='javascript:alert(1)'>x</a> <style>*{display:none}</style>",
)
KINDS = {"inline", "text", "text_special"}
STRUCTURE = {f"{part}_{end}" for part in ("table", "thead", "tbody", "tr", "th", "td") for end in ("open", "close")}
ADDRESS = re.compile(r"(https?|ftp)://|www\.|@[\w-]", re.I)


def tokens(markdown: str) -> Iterator[Token]:
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for token in parser.parse(markdown):
        yield token
        yield from token.children or []


def shown(text: str) -> str:
    """What is to be seen of a text, without what is not visible."""
    seen = re.sub(r"[\x00-\x08\x0e-\x1a\x1b\ud800\u202c\u202e]", "\N{REPLACEMENT CHARACTER}", text)
    lines = [" ".join(line.split()) for line in re.split(r"[\r\n\u2028\u2029\x85]+", seen.replace("\x0b", " "))]
    return " ↵ ".join(line for line in lines if line)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_model_wrote_is_shown_as_it_is_and_never_interpreted(text: str) -> None:
    found = list(tokens(markdown_table(("question", "answer"), [(text, text)])))
    assert {token.type for token in found} <= KINDS | STRUCTURE, [token.type for token in found]
    cells = [token for token in found if token.type == "inline"]
    assert len(cells) == 4, "the table has two columns and one row, whatever is in it"
    for cell in cells[2:]:
        said = "".join(child.content for child in cell.children or [])
        assert said.replace("\N{WORD JOINER}", "") == shown(text)
        assert not ADDRESS.search(said), "renderers make links of addresses, even without a mark"
    markdown_line(text).encode()


def test_the_parser_of_this_test_would_have_seen_each_of_them() -> None:
    seen = {token.type for text in HOSTILE for token in tokens(text)}
    assert {"html_block", "html_inline", "link_open", "image", "table_open", "code_inline", "fence"} <= seen
    assert {"heading_open", "em_open", "strong_open", "s_open", "code_block", "softbreak"} <= seen


def test_long_texts_are_cut_and_say_so() -> None:
    cut = markdown_line("word | " * 100_000)
    assert len(cut) < 3 * SHOWN_CHARACTERS and cut.endswith("(700,000 characters)")
    assert markdown_line("a\\" * SHOWN_CHARACTERS).count("\\") % 2 == 0, "the cut never parts an escape from its mark"


def test_keys_are_of_lowercase_letters_digits_and_dashes() -> None:
    assert key("quickstart", "progress") == "quickstart-progress"
    assert key("My_Recipe.v2", "answers") == "my-recipe-v2-answers"


def test_answers_stand_beside_those_that_were_rejected_or_dropped() -> None:
    rows = pl.DataFrame({"question": ["q"], "chosen": ["good"], "other": ["bad"], "paired": [True]})
    assert "| question | chosen | rejected |" in answers_markdown(3, rows)
    assert "| question | kept | dropped |" in answers_markdown(3, rows.with_columns(paired=pl.lit(False)))
    assert "| q | good | bad |" in answers_markdown(3, rows)
