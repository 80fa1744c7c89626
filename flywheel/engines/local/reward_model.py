"""Reward models: a conversation goes in, one number comes out. Served like those of the local engine.

Any causal model with a head for sequence classification that has one output and a chat template will do, whether
`flywheel.training.run` made it or somebody else.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from flywheel.checkpoints.canary import template_id
from flywheel.engines.context import check_context
from flywheel.errors import EngineError, WeightsError
from flywheel.protocols import Card, Sampling
from flywheel.store.schema import Chat

TOKENS_CPU, TOKENS_GPU = 8192, 65536  # of one batch, padding included


def conversations(tokenizer: Any, chats: Sequence[Chat], completions: Sequence[str]) -> list[list[int]]:
    """Token ids of each chat with its answer, as the chat template writes the whole."""
    texts = []
    for number, (chat, completion) in enumerate(zip(chats, completions, strict=True)):
        whole = [*chat, {"role": "assistant", "content": completion}]
        try:
            texts.append(tokenizer.apply_chat_template(whole, tokenize=False))
        except Exception as error:  # templates raise what they like
            raise WeightsError(f"the chat template refuses chat {number}: {error}") from error
    return list(tokenizer(texts, add_special_tokens=False)["input_ids"]) if texts else []


class Scored:
    """A reward model that is being served, until it fails or the engine is released or loads others."""

    def __init__(self, folder: Path) -> None:
        import transformers

        self._tokenizer, self._model = _loaded(folder)
        config = self._model.config.get_text_config()
        context = int(getattr(config, "max_position_embeddings", None) or self._tokenizer.model_max_length)
        template = template_id(self._tokenizer.get_chat_template())
        self.card = Card(f"reward, transformers {transformers.__version__}", template, context)

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self._model is not None

    def retire(self) -> None:
        """Let go of the model."""
        self._model = None
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def chat(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> NoReturn:
        """Never: it has no words."""
        raise EngineError(
            "a reward model cannot answer, it only scores: let its judge's chats end with the answer that is judged"
        )

    def logprobs(self, chats: Sequence[Chat], completions: Sequence[str]) -> list[list[float]]:
        """One number for each conversation: its reward, and no log-probability."""
        rows = conversations(self._tokenizer, chats, completions)
        check_context(((at, len(row), 0) for at, row in enumerate(rows)), self.card.context)
        if self._model is None:
            raise EngineError("this reward model is no longer served: it failed, or others were loaded")
        rewards: dict[int, float] = {}
        try:
            for places in batches([len(row) for row in rows], self._tokens()):
                rewards |= zip(places, self._scores([rows[place] for place in places]), strict=True)
        except Exception as error:
            self.retire()
            raise EngineError(f"the reward engine failed: {type(error).__name__}: {error}") from error
        return [[rewards[place]] for place in range(len(rows))]

    def _tokens(self) -> int:
        """What a batch may have. A model finds the end of a row by its padding: without, it gets one row at a time."""
        assert self._model is not None
        if self._model.config.get_text_config().pad_token_id is None:
            return 0
        return TOKENS_CPU if self._model.device.type == "cpu" else TOKENS_GPU

    def _scores(self, rows: Sequence[list[int]]) -> list[float]:
        import torch

        assert self._model is not None
        width, pad = max(map(len, rows)), self._model.config.get_text_config().pad_token_id
        ids = torch.tensor([row + [pad or 0] * (width - len(row)) for row in rows], device=self._model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self._model.device)
        with torch.inference_mode():
            rewards: list[float] = (
                self._model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, 0].tolist()
            )
        if not all(map(math.isfinite, rewards)):
            raise ValueError("a reward is not a finite number")
        return rewards


def batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Places in batches of rows of like length, the longest first, each of at most so many tokens with its padding."""
    found: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if found and lengths[found[-1][0]] * (len(found[-1]) + 1) <= tokens:
            found[-1].append(place)
        else:
            found.append([place])
    return found


def _loaded(folder: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    cuda = torch.cuda.is_available()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype="auto" if cuda else torch.float32, output_loading_info=True
        )
    except Exception as error:
        raise WeightsError(f"the reward model in {folder} cannot be read: {error}") from error
    if missing := sorted(report["missing_keys"]):  # transformers would fill them with random numbers
        raise WeightsError(f"{folder} is no reward model: {len(missing)} tensors are missing, such as {missing[0]}")
    if model.config.num_labels != 1:
        raise WeightsError(f"{folder} is no reward model: it gives {model.config.num_labels} numbers, not one")
    if not tokenizer.chat_template:
        raise WeightsError(f"the tokenizer in {folder} has no chat template, so no chat can be put to the model")
    return tokenizer, model.to("cuda" if cuda else "cpu").eval()
