"""The 25 kinds of instruction of IFEval, by its names and with its settings (Zhou et al. 2023, arXiv 2311.07911).

What each asks of a text is what the published evaluator asks, its habits included: a keyword may be part of a word but
a forbidden one may not, a sentence is what Punkt calls one, and where no language can be told the instruction counts as
kept. A prompt's are `instruction_id_list` and `kwargs`, as they stand in IFEval's data; settings that are null there
count as left out.
"""

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from judges.rules.instructions import splitters

Kept = Callable[[str], bool]
FENCED = ("```json", "```Json", "```JSON", "```")
OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
"""Of constrained_response, which has no settings."""
POSTSCRIPTS = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}
FIRST_WORD_ENDS = re.compile(r"[.,?!'\"]")


def instructions(meta: Mapping[str, Any]) -> list[tuple[str, Kept]]:
    """The instructions of a prompt, by name. Raises ValueError or TypeError where one cannot be understood."""
    names, settings = meta.get("instruction_id_list", []), meta.get("kwargs")
    if not isinstance(names, list) or not isinstance(settings := settings or [{}] * len(names), list):
        raise TypeError("instruction_id_list and kwargs are lists")
    if len(names) != len(settings):
        raise ValueError(f"{len(names)} instructions, but kwargs for {len(settings)}")
    return [(name, instruction(name, given or {})) for name, given in zip(names, settings, strict=True)]


def instruction(name: str, settings: Mapping[str, Any]) -> Kept:
    """What tells whether a text keeps an instruction. Raises ValueError or TypeError as `instructions` does."""
    if name not in KINDS:
        raise ValueError(f"IFEval has no instruction {name!r}")
    given = {key: value for key, value in settings.items() if value is not None}
    _, *asked = inspect.signature(KINDS[name]).parameters.values()
    if set(given) != {one.name for one in asked}:
        needs = ", ".join(one.name for one in asked)
        raise ValueError(f"{name} needs {needs or 'no settings'}, and has {', '.join(given) or 'none'}")
    if wrong := [one.name for one in asked if not _fits(given[one.name], one.annotation)]:
        raise TypeError(f"{name}: {wrong[0]} cannot be {given[wrong[0]]!r}")
    kept = partial(KINDS[name], **given)
    kept("a")  # settings that cannot work are found now, and not by the first text
    return kept


def _fits(value: Any, kind: Any) -> bool:
    """Whether a setting has the type of its parameter; a whole number may have come as 3.0."""
    if kind is int:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return whole and not isinstance(value, bool) and value >= 0
    if kind is str:
        return isinstance(value, str) and bool(value)
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, str) and one for one in value)


def variants(text: str) -> list[str]:
    """The text, and without its first line, its last line, both; each as it is and without asterisks."""
    lines = text.split("\n")
    parts = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*parts, *(part.replace("*", "") for part in parts)]


def _related(count: int, relation: str, bound: int) -> bool:
    if relation not in ("less than", "at least"):
        raise ValueError(f"a relation is 'less than' or 'at least', not {relation!r}")
    return count < bound if relation == "less than" else count >= bound


def _found(keyword: str, text: str) -> int:
    return len(re.findall(re.escape(keyword), text, re.IGNORECASE))


def existence(text: str, keywords: Sequence[str]) -> bool:
    """Each keyword is there, perhaps as a part of a word."""
    return all(_found(keyword, text) for keyword in keywords)


def frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    """The keyword is there so often, perhaps as a part of words."""
    return _related(_found(keyword.strip(), text), relation, frequency)


def forbidden_words(text: str, forbidden_words: Sequence[str]) -> bool:
    """None of the words is there as a whole."""
    whole = (rf"(?<!\w){re.escape(word)}(?!\w)" for word in forbidden_words)
    return not any(re.search(pattern, text, re.IGNORECASE) for pattern in whole)


def letter_frequency(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    """The letter is there so often, small or not."""
    if len(letter) != 1:
        raise ValueError(f"a letter is needed, not {letter!r}")
    return _related(text.lower().count(letter.lower()), let_relation, let_frequency)


def response_language(text: str, language: str) -> bool:
    """The text is in the language, or in none that can be told."""
    return splitters.language(text) in (language, None)


def number_sentences(text: str, num_sentences: int, relation: str) -> bool:
    """There are so many sentences."""
    return _related(splitters.sentences(text), relation, num_sentences)


def number_words(text: str, num_words: int, relation: str) -> bool:
    """There are so many words."""
    return _related(splitters.word_count(text), relation, num_words)


def number_paragraphs(text: str, num_paragraphs: int) -> bool:
    """The divider *** leaves just so many paragraphs, and none between two of them is empty."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    return all(parts[1:-1]) and sum(map(bool, parts)) == num_paragraphs


def nth_paragraph_first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Empty lines leave just so many paragraphs, and the nth of them begins with the word."""
    if not 1 <= nth_paragraph <= num_paragraphs:
        raise ValueError(f"there is no paragraph {nth_paragraph} of {num_paragraphs}")
    parts = [part.strip() for part in text.split("\n\n")]
    if sum(map(bool, parts)) != num_paragraphs or not parts[nth_paragraph - 1]:
        return False
    word = parts[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return FIRST_WORD_ENDS.split(word)[0].lower() == first_word.lower()


def number_placeholders(text: str, num_placeholders: int) -> bool:
    """There are at least so many [placeholders]."""
    brackets = re.sub(r"\[+", "[", re.sub(r"[^\[\]\n]", "", text))
    return brackets.count("[]") >= num_placeholders


def postscript(text: str, postscript_marker: str) -> bool:
    """The marker of a postscript is there."""
    marker = postscript_marker.strip()
    return re.search(POSTSCRIPTS.get(marker, re.escape(marker.lower())), text.lower()) is not None


def number_bullet_lists(text: str, num_bullets: int) -> bool:
    """There are just so many lines that begin with * or -."""
    stars, dashes = (re.findall(mark, text, re.MULTILINE) for mark in (r"^[^\S\n]*\*[^*].*$", r"^[^\S\n]*-.*$"))
    return len(stars) + len(dashes) == num_bullets


def constrained_response(text: str) -> bool:
    """One of the three options is there."""
    return any(option in text for option in OPTIONS)


def number_highlighted_sections(text: str, num_highlights: int) -> bool:
    """There are at least so many *highlights* or **highlights**."""
    single, double = re.findall(r"\*([^\n*]*)\*", text), re.findall(r"\*\*([^\n*]*)\*\*", text)
    return sum(bool(part.strip()) for part in (*single, *double)) >= num_highlights


def multiple_sections(text: str, section_spliter: str, num_sections: int) -> bool:
    """There are at least so many headings such as "Section 1"."""
    return len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", text)) >= num_sections


def json_format(text: str) -> bool:
    """The text is JSON, which may stand in a fenced block."""
    text = text.strip()
    for fence in FENCED:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(text: str) -> bool:
    """There is a <<title>>."""
    spans = ((line, line.find("<<"), line.rfind(">>")) for line in text.split("\n"))
    return any(line[begin:end].lstrip("<").rstrip(">").strip() for line, begin, end in spans if 0 <= begin < end - 2)


def two_responses(text: str) -> bool:
    """The divider ****** leaves two texts that differ."""
    parts = [part.strip() for part in text.split("******")]
    return all(parts[1:-1]) and len(set(filter(None, parts))) == 2 == sum(map(bool, parts))


def repeat_prompt(text: str, prompt_to_repeat: str) -> bool:
    """The text begins with the prompt."""
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(text: str, end_phrase: str) -> bool:
    """The text ends with the phrase, perhaps before a quotation mark."""
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def capital_word_frequency(text: str, capital_frequency: int, capital_relation: str) -> bool:
    """There are so many words in capitals."""
    return _related(splitters.capitals(text), capital_relation, capital_frequency)


def english_capital(text: str) -> bool:
    """English, and no small letter."""
    return text.isupper() and splitters.language(text) in ("en", None)


def english_lowercase(text: str) -> bool:
    """English, and no capital."""
    return text.islower() and splitters.language(text) in ("en", None)


def no_comma(text: str) -> bool:
    """There is no comma."""
    return "," not in text


def quotation(text: str) -> bool:
    """The whole text stands in double quotation marks."""
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


KINDS: Mapping[str, Callable[..., bool]] = {
    **{f"keywords:{kind.__name__}": kind for kind in (existence, frequency, forbidden_words, letter_frequency)},
    "language:response_language": response_language,
    **{f"length_constraints:{kind.__name__}": kind for kind in (number_sentences, number_paragraphs, number_words)},
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    **{f"detectable_content:{kind.__name__}": kind for kind in (number_placeholders, postscript)},
    **{f"detectable_format:{kind.__name__}": kind for kind in (number_bullet_lists, constrained_response)},
    **{f"detectable_format:{kind.__name__}": kind for kind in (number_highlighted_sections, multiple_sections)},
    **{f"detectable_format:{kind.__name__}": kind for kind in (json_format, title)},
    **{f"combination:{kind.__name__}": kind for kind in (two_responses, repeat_prompt)},
    **{f"startend:{kind.__name__}": kind for kind in (end_checker, quotation)},
    **{f"change_case:{kind.__name__}": kind for kind in (capital_word_frequency, english_capital, english_lowercase)},
    "punctuation:no_comma": no_comma,
}
"""IFEval's names and what each asks; the parameters are its settings."""
