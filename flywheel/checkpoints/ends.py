"""Which tokens end an answer: told here alone, so that engines stop at what a training teaches.

Tokenizer, generation config and config declare such tokens, and a chat template writes one behind a finished answer.
They may differ, as where a base was tuned on ChatML and its old end was left alone: it never says the declared one.
"""

from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Any

from flywheel.errors import WeightsError
from flywheel.store.schema import Chat

ANSWER_STAND_IN = "flywheel-answer"  # stands in for an answer, to see what the chat template writes after one


def finished(answer: str = ANSWER_STAND_IN) -> Chat:
    """A chat that ends with an answer."""
    return [{"role": "user", "content": "question"}, {"role": "assistant", "content": answer}]


def goes_on(answer: str = ANSWER_STAND_IN) -> Chat:
    """The same with another question behind it."""
    return [*finished(answer), {"role": "user", "content": "another"}]


def end_tokens(tokenizer: Any, *configs: Any) -> list[int]:
    """The tokens that end an answer: the declared ones, the tokenizer's own first, and the chat template's where it
    ends a turn with none of these. WeightsError where it ends one with mere words, at which no engine can stop."""
    known = declared(tokenizer, *configs)
    endings = [written(tokenizer, chat) for chat in (finished(), goes_on())]
    last, middle = ([] if text is None else _ids(tokenizer, text) for text in endings)
    if None in endings:
        middle = last
    end, shared = turn_end(last, middle, known, added(tokenizer)), _shared(last, middle)
    words = tokenizer.decode(shared).strip() if shared else ""
    if end is None and words and shared == last and not {*known} & {*last}:
        raise WeightsError(
            f"the chat template of {tokenizer.name_or_path} ends an answer with {words!r}, which is no token, so no "
            "engine can stop there: add it to the tokenizer as a special token, or write eos_token into the template"
        )
    return known if end is None else [*known, end]


def turn_end(
    last: Sequence[int], middle: Sequence[int], declared: Collection[int], added: Collection[int]
) -> int | None:
    """The token with which a chat template ends a turn, None where that is a declared one or none.

    `last` and `middle` are what it writes behind an answer at the end of a chat and within one: what begins both ends
    the turn. Only a token that was added to the vocabulary can; a line break is written behind words as well.
    """
    shared = _shared(last, middle)
    if any(token in declared for token in shared):
        return None
    return next((token for token in shared if token in added), None)


def written(tokenizer: Any, chat: Chat) -> str | None:
    """What the chat template writes behind the answer in `chat`; None where it does not show the answer."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    try:
        text = tokenizer.apply_chat_template(chat, tokenize=False)
    except Exception:  # templates raise what they like, such as that there is one question only
        return None
    _, found, ending = text.rpartition(ANSWER_STAND_IN)
    return ending if found else None


def _shared(last: Sequence[int], middle: Sequence[int]) -> list[int]:
    """What begins both."""
    return [token for token, _ in takewhile(lambda pair: pair[0] == pair[1], zip(last, middle, strict=False))]


def declared(tokenizer: Any, *configs: Any) -> list[int]:
    """The tokens that somebody declares as the end, each once."""
    said = [getattr(known, "eos_token_id", None) for known in (tokenizer, *configs)]
    lists = [ids if isinstance(ids, (list, tuple)) else [ids] for ids in said]
    return list(dict.fromkeys(id for ids in lists for id in ids if id is not None))


def added(tokenizer: Any) -> set[int]:
    """Tokens that are found in a text as they are, before it is split."""
    known = {*getattr(tokenizer, "added_tokens_decoder", ()), *getattr(tokenizer, "all_special_ids", ())}
    return known - {getattr(tokenizer, "unk_token_id", None)}


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
