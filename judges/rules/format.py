"""Rules about the form of an answer: a pattern, the letter of an option, JSON that fits a schema.

What `status` says is as in `answers.py`: a text that does not hold what is looked for is `unparsable`, not wrong.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

from flywheel.errors import EngineMissing, RecipeError
from flywheel.protocols import Verdict
from flywheel.text.thoughts import THOUGHTS, Markers, after_thought
from judges.rules.options import chosen_option
from judges.verdict import ENDLESS, Rule, last

FORM_CHARACTERS = 200
"""Characters of a detail."""
FENCE = re.compile(r"(?P<indent>[\s>]*(?:(?:[-*+]|\d+[.)])\s+)?)(?P<fence>`{3,}|~{3,})\s*(?P<language>\w*)[^`]*")
QUOTED = " \t>"
"""What a line of a block may begin with that stands in a list or a quotation."""


@dataclass(frozen=True)
class Regex(Rule):
    """Right if the text holds the pattern; with a `group`, if that part of the last match is the reference.

    The pattern is one of Python's `re`. Nothing stops one that takes for ever over a strange text, such as (a+)+b.
    """

    pattern: str
    group: int | str | None = None
    thoughts: Markers = field(default=THOUGHTS, kw_only=True)
    version: ClassVar[int] = 2  # thoughts before the answer go

    def __post_init__(self) -> None:
        try:
            pattern = re.compile(self.pattern)
        except re.error as error:
            raise RecipeError(f"Regex: {self.pattern!r} is no pattern: {error}") from error
        if self.group is not None and self.group not in (*range(pattern.groups + 1), *pattern.groupindex):
            raise RecipeError(f"Regex: the pattern {self.pattern!r} has no group {self.group!r}")

    def verdict(self, text: str, reference: str | None, meta: str | None) -> Verdict:
        """As Verifier."""
        if (said := after_thought(text, self.thoughts)) is None:
            return ENDLESS
        match = last(re.compile(self.pattern), said)
        if self.group is None:
            return Verdict("ok", float(match is not None), match and match[0][:FORM_CHARACTERS])
        if reference is None:
            return Verdict("error", None, "no reference")
        if match is None or match[self.group] is None:
            return Verdict("unparsable", None, "no match")
        return Verdict(
            "ok", float(match[self.group].strip() == reference.strip()), match[self.group].strip()[:FORM_CHARACTERS]
        )


@dataclass(frozen=True)
class Choice(Rule):
    """Right if the last option that the text announces is the reference's.

    An announcement is "Answer: B", "the answer is (B)", "**Answer:** B. Paris", \\boxed{B} or "#### B". One that names
    no option, or two, is no answer, whatever was said before. Where there is none, it is the letter of a conclusion
    such as "I pick B", or the only one that stands out, as in "(B)", "**B**" or a line "B) Paris", and is not rejected.
    See `judges.rules.options`. A reference is read in the same way.
    """

    options: str = "ABCD"
    thoughts: Markers = field(default=THOUGHTS, kw_only=True)
    version: ClassVar[int] = 2  # words are no options, no letter is taken from before an announcement; thoughts go

    def __post_init__(self) -> None:
        if len(set(self.options)) < 2 or not self.options.isalnum() or self.options != self.options.upper():
            raise RecipeError(f"the options of Choice are letters or digits such as 'ABCD', not {self.options!r}")

    def verdict(self, text: str, reference: str | None, meta: str | None) -> Verdict:
        """As Verifier."""
        if reference is None:
            return Verdict("error", None, "no reference")
        if (said := after_thought(text, self.thoughts)) is None:
            return ENDLESS
        gold, option = chosen_option(reference, self.options), chosen_option(said, self.options)
        if gold is None:
            return Verdict("error", None, f"none of {self.options} in the reference {reference[:80]!r}")
        return Verdict("ok", float(option == gold), option) if option else Verdict("unparsable", None, "no option")


@dataclass(frozen=True)
class JsonSchema(Rule):
    """Right if the text, or its last fenced block, is JSON that fits the schema (json-schema.org).

    Where `schema` is None it is that of the prompt: {"schema": ...} in `meta`.
    """

    schema: Mapping[str, Any] | None = None
    thoughts: Markers = field(default=THOUGHTS, kw_only=True)
    version: ClassVar[int] = 2  # thoughts before the answer go; a fenced block may be indented

    def __post_init__(self) -> None:
        if self.schema is not None and not isinstance(self.schema, Mapping):
            raise RecipeError("the schema of JsonSchema is a dict, as json.loads gives it")

    def verdict(self, text: str, reference: str | None, meta: str | None) -> Verdict:
        """As Verifier. Raises EngineMissing if jsonschema is not installed."""
        try:
            schema = json.loads(meta or "")["schema"] if self.schema is None else self.schema
        except (KeyError, TypeError, ValueError) as error:
            return Verdict("error", None, f"no schema in meta: {error!r}"[:FORM_CHARACTERS])
        if (said := after_thought(text, self.thoughts)) is None:
            return ENDLESS
        try:
            value = parsed(said)
        except ValueError:
            return Verdict("unparsable", None, "no JSON")
        try:
            problem = _misfit(value, schema)
        except EngineMissing:
            raise
        except Exception as error:  # the schema's: a wrong one, a reference that leads nowhere
            return Verdict("error", None, f"the schema cannot be used: {error}"[:FORM_CHARACTERS])
        return Verdict("ok", float(problem is None), problem)


def blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a text, with their languages in small letters; the last one may have no end.

    A block that is indented, in a list or a quotation, loses the indentation of its fence.
    """
    found: list[tuple[str, list[str]]] = []
    fence = indent = ""
    for line in text.splitlines(keepends=True):
        bare = line.strip().lstrip(QUOTED if ">" in indent else "")
        if fence and bare.startswith(fence) and not bare.strip(fence[0]):
            fence = ""
        elif fence:
            found[-1][1].append(_outdented(line, indent))
        elif opened := FENCE.fullmatch(line):
            fence, indent = opened["fence"], opened["indent"]
            found.append((opened["language"].lower(), []))
    return [(language, "".join(lines)) for language, lines in found]


def _outdented(line: str, indent: str) -> str:
    """The line without as much of its white space, and as many marks of a quotation, as `indent` has."""
    if line.startswith(indent):
        return line[len(indent) :]
    code = line.lstrip(QUOTED if ">" in indent else " \t")
    kept, left = line[: len(line) - len(code)].expandtabs(4), len(indent.expandtabs(4))
    return kept[left:] + code


def parsed(text: str) -> Any:
    """The JSON that a text is, or that stands in its last fenced block. Raises ValueError where there is none."""
    try:
        return _json(text)
    except ValueError:
        return _json(next((content for _, content in reversed(blocks(text))), ""))


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refused)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is Python's, and no JSON")


def _misfit(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Where a value does not fit the schema, or None. Raises errors of jsonschema over a schema that is none."""
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import best_match
        from jsonschema.validators import validator_for
        from referencing import Registry
    except ImportError as error:
        raise EngineMissing(
            "JsonSchema needs jsonschema, which is not installed: pip install 'flywheel[tasks]'"
        ) from error
    kind = validator_for(dict(schema), default=Draft202012Validator)
    kind.check_schema(dict(schema))
    # With a registry of its own it never fetches a schema from the network.
    misfit = best_match(kind(dict(schema), registry=Registry()).iter_errors(value))
    return None if misfit is None else f"{misfit.json_path}: {misfit.message}"[:FORM_CHARACTERS]
