"""Any server that speaks OpenAI's chat completions. It serves the weights that it serves: to us they cannot be changed.

The key, where the server wants one, is taken from the environment variable FLYWHEEL_API_KEY. Answers that have come are
kept when others of the same call fail, so that calling again asks only for the missing ones.
"""

import functools
import json
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import polars as pl

from flywheel.engines.context import check_context
from flywheel.engines.http.client import RefusedError, Session, session, together, wait_for
from flywheel.engines.http.request import completion, refused
from flywheel.engines.http.vllm_server import VllmServer
from flywheel.engines.reply import Choice, answers_frame, check_model, read_choices
from flywheel.errors import EngineError, PromptTooLong, RecipeError, WeightsError
from flywheel.protocols import Card, Sampling
from flywheel.store.schema import Chat

_T = TypeVar("_T")
UNKNOWN_CONTEXT = 2**31 - 1  # the server will say so itself


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
        self.unknown: set[str] = set()  # neutral parameters that the server refuses

    def load(self, weights: str) -> "ServedModel":
        """Check that the server serves `weights`; WeightsError, which says how to serve them, if it does not."""
        models, version = wait_for(self._greet())
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
            self._served = self._model_of(found, models, card)
        return self._served

    def _model_of(self, found: Mapping[str, Any], models: Sequence[Mapping[str, Any]], card: Card) -> "ServedModel":
        """The model, with the other names under which the server may answer as it."""
        root = found.get("root") or found["id"]
        others = [str(each["id"]) for each in models if root in (each["id"], each.get("root"))]
        served = ServedModel(self, str(found["id"]), card, (str(root), *others))
        if served.vllm:
            served.ends = wait_for(self._ask(served.vllm.turn_end))
        return served

    async def _ask(self, question: Callable[[Session], Awaitable[_T]]) -> _T:
        async with self.session() as asking:
            return await question(asking)

    def own_parameters(self) -> dict[str, dict[str, Any] | None]:
        """For each model what the server draws by where a request leaves it out; None where it does not tell."""
        models, version = wait_for(self._greet())
        served = [VllmServer(self.server, str(model["id"])) for model in models]
        return {each.model: wait_for(self._ask(each.own)) if version else None for each in served}

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
    """The model at an endpoint; `others` are further names for it."""

    def __init__(self, endpoint: Endpoint, name: str, card: Card, others: Sequence[str] = ()) -> None:
        self.card, self.name, self.names, self.retired = card, name, (name, *others), False
        self.vllm = VllmServer(endpoint.server, name) if "(vllm " in card.engine else None
        self.ends: list[int] = []  # tokens that end a turn in its chat template
        self._endpoint = endpoint

    def chat(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> pl.DataFrame:
        """As flywheel.protocols.Model; `tokens` and `logprob` are null where the server does not tell them."""
        items = list(zip(chats, seeds, strict=True))
        answers = wait_for(
            self._all(lambda asking, place: self.answer(asking, *items[place], sampling, place), len(items))
        )
        self._endpoint.kept.clear()
        return answers_frame(answers, sampling)

    def logprobs(self, chats: Sequence[Chat], completions: Sequence[str]) -> list[list[float]]:
        """As flywheel.protocols.Model, over the extensions of vLLM's server; EngineError from a server without them."""
        items = list(zip(chats, completions, strict=True))
        return wait_for(self._all(lambda asking, place: self.score(asking, *items[place], place), len(items)))

    def _check_served(self) -> None:
        if self.retired:
            raise EngineError("this model is no longer served: the engine was closed or released; load it again")

    def _body(self, chat: Chat, sampling: Sampling, seed: int) -> dict[str, Any]:
        return completion(self.name, chat, sampling, seed, self.card.context, self.ends)

    async def _all(self, ask: Callable[[Session, int], Coroutine[Any, Any, _T]], count: int) -> list[_T]:
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
            choices += await self._asked(asking, rest, prompt)
        return choices[: body["n"]]

    async def _asked(self, asking: Session, body: dict[str, Any], prompt: int) -> list[Choice]:
        """The answers to one request, without the neutral parameters that the server does not know."""
        while True:
            sent = {name: value for name, value in body.items() if name not in self._endpoint.unknown}
            try:
                return await asking.ask(f"{self._endpoint.url}/chat/completions", sent, self._read, prompt)
            except PromptTooLong:
                if self.vllm:  # whose words are many
                    tokens = await self.vllm.prompt_tokens(asking, body["messages"])
                    check_context([(prompt, len(tokens), 1)], self.card.context)
                raise
            except RefusedError as error:
                self._leave_out(sent, error)

    def _leave_out(self, sent: dict[str, Any], error: RefusedError) -> None:
        """Never say again what the server does not know, if it changes nothing; raises where it does."""
        wanted, neutral = refused(sent, error.said)
        if neutral and not self.vllm:  # vLLM knows them all, and would put in the model's own
            self._endpoint.unknown |= neutral
        elif wanted:
            names = ", ".join(f"{name}={sent[name]}" for name in sorted(wanted))
            raise RecipeError(f"{names} cannot be drawn here, set it to its default or take another server: {error}")
        else:
            raise error

    def _read(self, reply: Any) -> list[Choice]:
        check_model(reply.get("model"), self.names)
        return read_choices(reply)

    async def score(self, asking: Session, chat: Chat, text: str, place: int) -> list[float]:
        """Log-probabilities of one completion, the `place`-th of the call."""
        self._check_served()
        if not self.vllm:
            raise EngineError(f"{self._endpoint.url} cannot score given text: only vLLM's own server can")
        start = await self.vllm.prompt_tokens(asking, chat)
        answer = await self.vllm.tokens(asking, {"prompt": text, "add_special_tokens": False}) if text else []
        check_context([(place, len(start), len(answer))], self.card.context)
        return await self.vllm.score(asking, start + answer, len(start), place) if answer else []
