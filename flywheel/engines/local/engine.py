"""Transformers in this process: no start-up, right for any causal model with a chat template, fast for small ones.

On a GPU the model runs in its own precision, on a CPU in float32. There the same chat, sampling and seed give the same
text whatever else is in the batch, but where a rounding error of 1e-6 falls on the very border between two tokens. In
half precision the errors, and with them the chance of another text, are a thousand times larger.
"""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from flywheel.checkpoints import canary as folders
from flywheel.checkpoints.canary import template_id
from flywheel.checkpoints.ends import added
from flywheel.checkpoints.weights import check_weights, locate
from flywheel.engines.context import check_context
from flywheel.engines.reply import sound
from flywheel.errors import EngineError, EngineMissing, FlywheelError, WeightsError
from flywheel.protocols import Card, Sampling
from flywheel.store.schema import ANSWERS, Chat

if TYPE_CHECKING:
    from flywheel.engines.local.decode import Network
    from flywheel.engines.local.reward_model import Scored
from flywheel.engines.local.network import first_line, load_network, with_rows


def prompt_lengths(base: str, chats: Sequence[Chat]) -> list[int]:
    """Tokens of each chat under the chat template of `base`, whose weights are not read."""
    return [len(ids) for ids in _prompt_ids(_tokenizer(locate(base)), chats)]


class Local:
    """The engine. Its model lives in this process, on the GPU if there is one; `serve` reads it from its folder."""

    def __init__(self, serve: "Callable[[Path], LocalModel | Scored] | None" = None) -> None:
        self._serve = serve or LocalModel
        self._served: LocalModel | Scored | None = None
        self._stamp: tuple[Any, ...] = ()

    def load(self, weights: str) -> "LocalModel | Scored":
        """Serve `weights`; at no cost if they are being served."""
        for library in ("torch", "transformers"):
            if importlib.util.find_spec(library) is None:
                raise EngineMissing(f"the local engine needs {library}: install flywheel's extra train")
        folder = locate(weights)
        stamp = folders.stamp(folder)
        if self._served is None or not self._served.alive or self._stamp != stamp:
            self.release()
            check_weights(weights)
            self._served, self._stamp = self._serve(folder), stamp
        return self._served

    def release(self) -> None:
        """Drop the model, and give its memory back."""
        if self._served is not None:
            self._served.retire()
            self._served = None

    def close(self) -> None:
        """Drop the model. Can be called twice."""
        self.release()


def rewards(**options: Any) -> Local:
    """The engine `reward`: the same with reward models."""
    from flywheel.engines.local.reward_model import Scored

    return Local(Scored, **options)


class LocalModel:
    """Weights that are being served, until they fail or the engine is released or loads others."""

    def __init__(self, folder: Path) -> None:
        import transformers

        self._tokenizer = _tokenizer(folder)
        self._network: Network | None = load_network(folder, self._tokenizer)
        template = template_id(self._tokenizer.get_chat_template())
        self.card = Card(f"local {transformers.__version__}", template, self._network.context)

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self._network is not None

    def retire(self) -> None:
        """Let go of the model."""
        self._network = None
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def chat(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> pl.DataFrame:
        """ANSWERS; see flywheel.protocols.Model."""
        if len(chats) != len(seeds):
            raise ValueError(f"{len(chats)} chats and {len(seeds)} seeds")
        prompts = self._prompts(chats, [1] * len(chats))
        if not prompts:
            return ANSWERS.to_frame()
        with self._working() as network:
            from flywheel.engines.local.decode import Request, decode
            from flywheel.engines.local.next_token import Stops

            stops = Stops(self._tokenizer, sampling.stop, network.vocabulary, sampling.min_tokens)
            requests = [
                Request(prompt, seed, index, min(sampling.max_tokens, network.context - len(prompt)))
                for prompt, seed in zip(prompts, seeds, strict=True)
                for index in range(sampling.n)
            ]
            drawn = decode(with_rows(network, requests), requests, sampling, stops)
            marks = network.ends & added(self._tokenizer)
            texts = stops.texts([answer.ids[:-1] if answer.ids[-1] in marks else answer.ids for answer in drawn])
        columns = {
            "chat": [chat for chat in range(len(chats)) for _ in range(sampling.n)],
            "index": [request.number for request in requests],
            "text": texts,
            "finish_reason": ["stop" if answer.ended else "length" for answer in drawn],
            "prompt_tokens": [len(request.prompt) for request in requests],
            "tokens": [len(answer.ids) for answer in drawn],
            "logprob": [answer.logprob for answer in drawn],
        }
        return sound(pl.DataFrame(columns, schema=ANSWERS))

    def logprobs(self, chats: Sequence[Chat], completions: Sequence[str]) -> list[list[float]]:
        """Log-probability of each token of each completion; see flywheel.protocols.Model."""
        if len(chats) != len(completions):
            raise ValueError(f"{len(chats)} chats and {len(completions)} completions")
        answers = _ids(self._tokenizer, completions)
        prompts = self._prompts(chats, [len(answer) for answer in answers])
        with self._working() as network:
            from flywheel.engines.local.decode import score_pairs

            return score_pairs(network, list(zip(prompts, answers, strict=True)))

    def _prompts(self, chats: Sequence[Chat], more: Sequence[int]) -> list[list[int]]:
        """Token ids of each chat, which leaves so many `more` of the context."""
        prompts = _prompt_ids(self._tokenizer, chats)
        check_context(((at, len(prompt), more[at]) for at, prompt in enumerate(prompts)), self.card.context)
        return prompts

    @contextlib.contextmanager
    def _working(self) -> "Iterator[Network]":
        """The network, given up when anything fails in it, so that the next load reads it anew."""
        if self._network is None:
            raise EngineError(
                "these weights are no longer served: the engine failed, was released or has loaded others"
            )
        import torch

        try:
            with torch.inference_mode():
                yield self._network
        except FlywheelError:
            raise
        except Exception as error:
            self.retire()
            raise EngineError(f"the local engine failed: {type(error).__name__}: {first_line(error)}") from error


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:
        raise WeightsError(f"the tokenizer in {folder} cannot be read: {first_line(error)}") from error
    if not tokenizer.chat_template:
        raise WeightsError(f"the tokenizer in {folder} has no chat template, so no chat can be put to the model")
    return tokenizer


def _prompt_ids(tokenizer: Any, chats: Sequence[Chat]) -> list[list[int]]:
    """Token ids of each chat under the chat template, up to where the answer begins."""
    texts = []
    for number, chat in enumerate(chats):
        try:
            texts.append(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
        except Exception as error:  # templates raise what they like, such as "roles must alternate"
            raise WeightsError(f"the chat template refuses chat {number}: {first_line(error)}") from error
    prompts = _ids(tokenizer, texts)
    if not all(prompts):
        raise WeightsError(f"the chat template makes nothing of chat {prompts.index([])}")
    return prompts


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids without any that the tokenizer would add: a chat template has written its special tokens itself."""
    return list(tokenizer(list(texts), add_special_tokens=False)["input_ids"]) if texts else []
