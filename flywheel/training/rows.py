"""What a training sees: token ids, which of them carry loss, and in which order the rows come."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flywheel.checkpoints.ends import ANSWER_STAND_IN, end_tokens, written
from flywheel.errors import TrainingError
from flywheel.store.schema import Chat
from flywheel.text.thoughts import THOUGHTS, after_thought

WINDOW = 8  # batches within which rows of like length are put together
IGNORED = -100


class Rows(NamedTuple):
    """Token ids of prompt and completion; `starts` is where the completion, and so the loss, begins."""

    input_ids: list[list[int]]
    starts: list[int]

    @property
    def labels(self) -> list[list[int]]:
        """The ids, with those of the prompt ignored."""
        return [[IGNORED] * start + ids[start:] for ids, start in zip(self.input_ids, self.starts, strict=True)]

    @property
    def split(self) -> list[tuple[list[int], list[int]]]:
        """Prompt and completion, apart."""
        return [(ids[:start], ids[start:]) for ids, start in zip(self.input_ids, self.starts, strict=True)]


def encode(
    tokenizer: Any, chats: Sequence[Chat], answers: Sequence[str], stops: Sequence[int], thoughts: bool = True
) -> Rows:
    """Each chat as an engine presents it, then exactly what the model would have to sample: the answer and its end.

    Prompt and answer are tokenized apart, as they are when an answer is sampled: tokens never merge across the border,
    and a template that rewrites finished answers changes nothing. Without `thoughts` the model has to sample what
    follows them; where the template begins a thought, an empty one.
    """
    keys = [repr(chat) for chat in chats]
    new = dict(zip(keys, chats, strict=True))
    texts = [tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) for chat in new.values()]
    rendered = dict(zip(new, _ids(tokenizer, texts), strict=True))
    if not thoughts:
        begun = dict(zip(new, texts, strict=True))
        answers = [thoughtless(begun[key], answer) for key, answer in zip(keys, answers, strict=True)]
    end = end_of_turn(tokenizer, chats[0], stops)
    completions = _ids(tokenizer, answers)
    prompts = [rendered[key] for key in keys]
    ids = [prompt + completion + end for prompt, completion in zip(prompts, completions, strict=True)]
    return Rows(ids, [len(prompt) for prompt in prompts])


def thoughtless(prompt: str, answer: str) -> str:
    """What an answer says after its thoughts. If the prompt, as it is presented, begins one, it is closed at once."""
    said = after_thought(answer)
    if said is None:
        raise TrainingError("an answer is a thought without an end, so there is nothing to learn when it is left out")
    if said != answer:
        said = said.lstrip()
    end = next((end for begin, end in THOUGHTS if prompt.rstrip().endswith(begin)), None)
    return said if end is None else f"\n{end}\n\n{said}"


def end_of_turn(tokenizer: Any, chat: Chat, stops: Sequence[int]) -> list[int]:
    """The tokens that the chat template writes after an answer, up to the first that stops an engine."""
    ending = _ids(tokenizer, [written(tokenizer, [*chat, {"role": "assistant", "content": ANSWER_STAND_IN}]) or ""])[0]
    last = next((i for i, token in enumerate(ending) if token in stops), None)
    return ending[: last + 1] if last is not None else [stops[0]]


def stop_tokens(tokenizer: Any, generation_config: Any) -> list[int]:
    """The tokens at which engines end an answer; the tokenizer's own first."""
    stops = end_tokens(tokenizer, generation_config)
    if not stops:
        raise TrainingError("the tokenizer has no end-of-sequence token, so a model could not learn to end an answer")
    return stops


def order(lengths: Sequence[int], steps: int, batch: int, seed: int) -> list[int]:
    """The row of every place in every batch: epoch after epoch, each shuffled, all batches full, like lengths together.

    Depends on its arguments alone, so that a training that goes on after a kill sees what it would have seen. The batch
    with the longest row comes first: if it fits in memory, all do.
    """
    generator = np.random.default_rng(seed)
    rounds = -(-steps * batch // len(lengths))
    stream = np.concatenate([generator.permutation(len(lengths)) for _ in range(rounds)])[: steps * batch]
    size = np.asarray(lengths)
    batches: list[Any] = []
    for start in range(0, len(stream), batch * WINDOW):
        window = stream[start : start + batch * WINDOW]
        window = window[np.argsort(size[window], kind="stable")].reshape(-1, batch)
        batches.extend(window[generator.permutation(len(window))])
    longest = max(range(steps), key=lambda step: int(size[batches[step]].max()))
    batches[0], batches[longest] = batches[longest], batches[0]
    return [int(row) for rows in batches for row in rows]


def mismatched(prompts: Sequence[str], micro: int) -> list[int]:
    """For each row the place of another one of its batch of `micro`, whose answer is no answer to its own prompt.

    Each batch is turned by as few places as part all prompts from their answers, or else as many of them as can be.
    """
    places: list[int] = []
    for start in range(0, len(prompts), micro):
        batch = prompts[start : start + micro]

        def kin(turn: int, batch: Sequence[str] = batch) -> int:
            return sum(prompt == batch[at - turn] for at, prompt in enumerate(batch))

        turn = min(range(1, len(batch)), key=kin, default=0)
        places += [start + (at - turn) % len(batch) for at in range(len(batch))]
    return places


def on_disk(data: Any, folder: Path) -> Any:
    """The rows as they lie in `folder`, where every process finds what TRL adds to them, also after a kill."""
    from accelerate import PartialState
    from datasets import load_from_disk

    with PartialState().main_process_first():
        if not folder.is_dir():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            data.save_to_disk(part)
            part.replace(folder)
    return load_from_disk(folder)


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    return list(tokenizer(list(texts), add_special_tokens=False)["input_ids"])
