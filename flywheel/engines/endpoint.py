"""Any server that speaks OpenAI's chat completions. It serves the weights that it serves: to us they cannot be changed.

The key, where the server wants one, is taken from the environment variable FLYWHEEL_API_KEY. Answers that have come are
kept when others of the same call fail, so that calling again asks only for the missing ones.
"""

import functools
import json
import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import httpx
import polars as pl

from flywheel.engines.http import Session, run, session, together
from flywheel.engines.room import check_room
from flywheel.errors import EngineError, PromptTooLong, RecipeError, WeightsError
from flywheel.recipe import Card, Sampling
from flywheel.tables import ANSWERS, Chat

T = TypeVar("T")
UNKNOWN_CONTEXT = 2**31 - 1  # the server will say so itself


class Choice(NamedTuple):
    """One answer, in the order of ANSWERS' columns after `index`."""

    text: str
    finish_reason: str
    prompt_tokens: int | None
    tokens: int | None  # None where the server tells only the sum over several answers
    logprob: float | None  # None where the server tells none


class Endpoint:
    """The engine. `model` is the server's name for the weights that are loaded, where it is not the weights' own.

    concurrency: requests at a time. timeout: seconds for one request. attempts: for one request that meets a busy or
    broken server. context: where the server does not tell it.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        concurrency: int = 64,
        timeout: float = 600.0,
        attempts: int = 6,
        context: int | None = None,
    ) -> None:
        try:
            base = str(httpx.URL(url)).rstrip("/")
        except httpx.InvalidURL as error:
            raise RecipeError(f"{url} is not the address of a server: {error}") from error
        self.server = base.removesuffix("/v1")
        self.url = f"{self.server}/v1"
        self._model, self._context, self.concurrency = model, context, concurrency
        key = os.environ.get("FLYWHEEL_API_KEY", "")
        self.session = functools.partial(session, key=key, concurrency=concurrency, timeout=timeout, attempts=attempts)
        self._first: str | None = None
        self._served: ServedModel | None = None
        self.kept: dict[str, list[Choice]] = {}

    def load(self, weights: str) -> "ServedModel":
        """Check that the server serves `weights`; WeightsError, which says how to serve them, if it does not."""
        models, version = run(self._greet())
        found = next((model for model in models if self._is(model, weights)), None)
        if found is None:
            names = ", ".join(sorted(str(model["id"]) for model in models)) or "nothing"
            raise WeightsError(
                f"{self.url} serves {names}, not {weights}, and its weights cannot be changed from here: serve them "
                f"with `python -m vllm.entrypoints.openai.api_server --model {weights}`, and use that server's address"
            )
        self._first = weights
        context = int(self._context or found.get("max_model_len") or UNKNOWN_CONTEXT)
        card = Card(f"endpoint {urlsplit(self.url).netloc}{version}", "endpoint", context)
        if self._served is None or self._served.card != card or self._served.name != found["id"]:
            self.release()
            self._served = ServedModel(self, str(found["id"]), card)
        return self._served

    def release(self) -> None:
        """Let go of the model; the server's memory is its own."""
        if self._served:
            self._served.retired = True
        self._served = None

    def close(self) -> None:
        """Let go of the model, and of what was kept for a repetition; nothing runs here."""
        self.release()
        self.kept.clear()

    async def _greet(self) -> tuple[list[dict[str, Any]], str]:
        async with self.session() as asking:
            models = await asking.ask(f"{self.url}/models", None, lambda reply: [dict(each) for each in reply["data"]])
            try:
                version = await asking.ask(
                    f"{self.server}/version", None, lambda reply: f" (vllm {reply['version']})", tries=1
                )
            except EngineError:  # not vLLM's
                version = ""
            return models, version

    def _is(self, model: dict[str, Any], weights: str) -> bool:
        if self._model is not None:  # one name cannot stand for a second set of weights
            return str(model["id"]) == self._model and self._first in (None, weights)
        names = {str(model["id"]), str(model.get("root", ""))}
        folder = Path(weights).expanduser()
        return weights in names or (folder.exists() and str(folder.resolve()) in names)


class ServedModel:
    """The model at an endpoint."""

    def __init__(self, endpoint: Endpoint, name: str, card: Card) -> None:
        self.card, self.name, self.retired = card, name, False
        self._endpoint = endpoint

    def chat(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> pl.DataFrame:
        """As flywheel.recipe.Model; `tokens` and `logprob` are null where the server does not tell them."""
        items = list(zip(chats, seeds, strict=True))
        answers = run(self._all(lambda asking, place: self.answer(asking, *items[place], sampling, place), len(items)))
        self._endpoint.kept.clear()
        return answers_frame(answers, sampling)

    def logprobs(self, chats: Sequence[Chat], completions: Sequence[str]) -> list[list[float]]:
        """As flywheel.recipe.Model, over the extensions of vLLM's server; EngineError from a server without them."""
        items = list(zip(chats, completions, strict=True))
        return run(self._all(lambda asking, place: self.score(asking, *items[place], place), len(items)))

    def _check_served(self) -> None:
        if self.retired:
            raise EngineError("this model is no longer served: the engine was closed or released; load it again")

    def _vllm(self) -> bool:
        return "(vllm " in self.card.engine

    def _body(self, chat: Chat, sampling: Sampling, seed: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.name,
            "messages": chat,
            "n": 1 if sampling.temperature == 0 else sampling.n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": min(sampling.max_tokens, self.card.context),  # more is refused, too much is clipped
            "seed": seed,
            "logprobs": True,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.top_k:  # not in OpenAI's own interface: only sent where it is wanted
            body["top_k"] = sampling.top_k
        return body

    async def _all(self, ask: Callable[[Session, int], Coroutine[Any, Any, T]], count: int) -> list[T]:
        async with self._endpoint.session() as asking:
            return await together([ask(asking, place) for place in range(count)])

    async def answer(self, asking: Session, chat: Chat, seed: int, sampling: Sampling, prompt: int) -> list[Choice]:
        """The answers to one chat, the `prompt`-th of the call; one for all of them where they are greedy."""
        self._check_served()
        body = self._body(chat, sampling, seed)
        key = json.dumps(body, sort_keys=True)
        choices = self._endpoint.kept.setdefault(key, [])
        while len(choices) < body["n"]:  # some servers know no `n` and give one answer each time
            rest = {**body, "n": body["n"] - len(choices), "seed": body["seed"] + len(choices)}
            try:
                choices += await asking.ask(f"{self._endpoint.url}/chat/completions", rest, read_choices, prompt)
            except PromptTooLong:
                if self._vllm():
                    self._check_room(prompt, await self._prompt_tokens(asking, body["messages"]), 1)
                raise
        return choices[: body["n"]]

    async def score(self, asking: Session, chat: Chat, completion: str, place: int) -> list[float]:
        """Log-probabilities of one completion, the `place`-th of the call."""
        self._check_served()
        if not self._vllm():
            raise EngineError(f"{self._endpoint.url} cannot score given text: only vLLM's own server can")
        start = await self._prompt_tokens(asking, chat)
        answer = await self._tokens(asking, {"prompt": completion, "add_special_tokens": False}) if completion else []
        self._check_room(place, start, len(answer))
        if not answer:
            return []
        tokens = start + answer
        # The last token is asked for as if it were to be sampled, so that they may fill the context to its end.
        body = {
            "model": self.name,
            "prompt": tokens[:-1],
            "max_tokens": 1,
            "temperature": 0,
            "prompt_logprobs": 0,
            "logprobs": 0,
            "logprob_token_ids": tokens[-1:],
            "return_tokens_as_token_ids": True,
        }

        def read(reply: Any) -> list[float]:
            choice = reply["choices"][0]
            scored = zip(choice["prompt_logprobs"][len(start) :], tokens[len(start) : -1], strict=True)
            last = choice["logprobs"]["top_logprobs"][0][f"token_id:{tokens[-1]}"]
            return [*(float(position[str(token)]["logprob"]) for position, token in scored), float(last)]

        return await asking.ask(f"{self._endpoint.url}/completions", body, read, place)

    def _check_room(self, prompt: int, tokens: list[int], more: int) -> None:
        check_room([(prompt, len(tokens), more)], self.card.context)

    async def _prompt_tokens(self, asking: Session, chat: Chat) -> list[int]:
        return await self._tokens(asking, {"messages": chat, "add_generation_prompt": True})

    async def _tokens(self, asking: Session, body: dict[str, Any]) -> list[int]:
        url = f"{self._endpoint.server}/tokenize"
        return await asking.ask(
            url, {"model": self.name, **body}, lambda reply: [int(each) for each in reply["tokens"]]
        )


def answers_frame(answers: Sequence[Sequence[Choice]], sampling: Sampling) -> pl.DataFrame:
    """ANSWERS. Greedy answers to one prompt are all the same: the server was asked for one."""
    copies = sampling.n if sampling.temperature == 0 else 1
    rows = [
        (position, index, *choice)
        for position, choices in enumerate(answers)
        for index, choice in enumerate(choice for choice in choices for _ in range(copies))
    ]
    return pl.DataFrame(rows, schema=ANSWERS, orient="row")


def read_choices(reply: Any) -> list[Choice]:
    """The answers in a reply; raises KeyError and its like where there are none."""
    choices, usage = reply["choices"], reply.get("usage") or {}
    if not choices:
        raise KeyError("choices")
    return [
        read_choice(choice, usage, len(choices)) for choice in sorted(choices, key=lambda each: each.get("index", 0))
    ]


def read_choice(choice: Any, usage: dict[str, Any], count: int) -> Choice:
    """One answer; the tokens of several are told apart by their log-probabilities."""
    scored = (choice.get("logprobs") or {}).get("content")
    tokens = len(scored) if scored else (usage.get("completion_tokens") if count == 1 else None)
    return Choice(
        text=str(choice["message"]["content"] or ""),
        finish_reason="length" if choice["finish_reason"] == "length" else "stop",
        prompt_tokens=usage.get("prompt_tokens"),
        tokens=tokens,
        logprob=sum(float(token["logprob"]) for token in scored) if scored else None,
    )
