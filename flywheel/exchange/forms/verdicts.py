"""Which of two answers a record calls the better one, in the words of those who published it.

label        A>B, B>A, A=B                       JudgeBench; Arena-Hard's A>>B, too
preference   1, 2, 1.5 or anything between       AlpacaEval; 0 is a tie, as it was in its first version
winner       model_a, model_b, tie               Chatbot Arena, MT-bench; or the name of one of the two models
strength     from -3 (the first) to 3            HelpSteer2's preference_strength, HelpSteer3's overall_preference
better       0 or 1                              PKU-SafeRLHF's better_response_id
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from flywheel.errors import SourceError
from flywheel.exchange.forms.values import number_or_none, says, short_value

Preference = Literal["A", "B", "tie"]
PREFERENCE_LABEL = re.compile(r"\s*([AB])\s*(>{1,2}|<{1,2}|={1,2})\s*([AB])\s*")
WINNERS: Mapping[str, Preference] = {
    **dict.fromkeys(("model_a", "model_1", "a"), "A"),
    **dict.fromkeys(("model_b", "model_2", "b"), "B"),
    **dict.fromkeys(("tie", "tie (bothbad)", "both_bad"), "tie"),
}


def read_preference(fields: Mapping[str, Any], where: str) -> tuple[Preference | None, float | None]:
    """The better answer, and how much of the preference is B's where that is said; None where nobody said it."""
    said = {field: read(fields, where) for field, read in PREFERENCE_READERS.items() if field in fields}
    found = {each for each in said.values() if each is not None}
    if len(found) > 1:
        raise SourceError(f"{where}: {' and '.join(said)} name different winners")
    share = _preference(fields["preference"], where) if "preference" in fields else None
    return next(iter(found), None), share


def _label(fields: Mapping[str, Any], where: str) -> Preference | None:
    value = fields["label"]
    if not says(value):
        return None
    match = PREFERENCE_LABEL.fullmatch(value) if isinstance(value, str) else None
    if isinstance(value, str) and value.strip().lower() in WINNERS:
        return WINNERS[value.strip().lower()]
    if match is None or match[1] == match[3]:
        raise SourceError(f"{where}: label must be A>B, B>A or A=B, not {short_value(value)}")
    if match[2].startswith("="):
        return "tie"
    return "A" if match[1 if match[2].startswith(">") else 3] == "A" else "B"


def _preference(value: Any, where: str) -> float | None:
    """The part of a preference that is the second answer's."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    told = number_or_none(value, where, "preference")
    if told == 0 and not isinstance(value, bool):
        return 0.5
    if told is None or isinstance(value, bool) or not 1 <= told <= 2:
        raise SourceError(
            f"{where}: preference must lie between 1 (the first) and 2 (the second), not {short_value(value)}"
        )
    return round(told - 1, 12)


def _preferred(fields: Mapping[str, Any], where: str) -> Preference | None:
    share = _preference(fields["preference"], where)
    return None if share is None else _sign(share - 0.5)


def _winner(fields: Mapping[str, Any], where: str) -> Preference | None:
    value = fields["winner"]
    if not says(value):
        return None
    if isinstance(value, str) and value.strip().lower() in WINNERS:
        return WINNERS[value.strip().lower()]
    sides: tuple[Preference, ...] = tuple(side for side in ("A", "B") if fields.get(f"generator_{side}") == value)
    if len(sides) != 1:
        raise SourceError(
            f"{where}: winner must be model_a, model_b, tie or one of the two models, not {short_value(value)}"
        )
    return sides[0]


def _strength(fields: Mapping[str, Any], where: str) -> Preference | None:
    told = number_or_none(fields["strength"], where, "the strength of a preference")
    if told is not None and abs(told) > 3:
        raise SourceError(f"{where}: a preference must lie between -3 and 3, not {short_value(fields['strength'])}")
    return None if told is None else _sign(told)


def _better(fields: Mapping[str, Any], where: str) -> Preference | None:
    told = number_or_none(fields["better"], where, "the number of the better answer")
    if told not in (None, 0, 1):
        raise SourceError(f"{where}: the better answer must be 0 or 1, not {short_value(fields['better'])}")
    return None if told is None else _sign(told - 0.5)


def _sign(value: float) -> Preference:
    return "tie" if value == 0 else "B" if value > 0 else "A"


PREFERENCE_READERS: Mapping[str, Callable[[Mapping[str, Any], str], Preference | None]] = {
    "label": _label,
    "preference": _preferred,
    "winner": _winner,
    "strength": _strength,
    "better": _better,
}
"""How each field is read."""
