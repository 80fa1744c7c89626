"""Several servers with the same weights. Each takes the next request as soon as it has a hand free.

A server that fails hands its requests to the others, and is left alone for a minute.
"""

import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

import polars as pl

from flywheel.engines.http.client import together, wait_for
from flywheel.engines.http.endpoint import Endpoint, ServedModel
from flywheel.engines.reply import answers_frame
from flywheel.errors import EngineError, PromptTooLong
from flywheel.protocols import Card, Sampling
from flywheel.store.schema import Chat

_T = TypeVar("_T")
REST_SECONDS = 60.0


def serving(urls: str, **options: Any) -> "Endpoint | Endpoints":
    """The engine of one address, or of several with commas between them."""
    return Endpoints(urls, **options) if "," in urls else Endpoint(urls, **options)


class Endpoints:
    """The engine, from addresses with commas between them; the options are those of each Endpoint."""

    def __init__(self, urls: str, **options: Any) -> None:
        self._all = [Endpoint(url.strip(), **options) for url in urls.split(",") if url.strip()]
        self._rests: dict[Endpoint, float] = {}  # until when
        self.kept = self._all[0].kept
        for endpoint in self._all:  # what one server has answered, none is asked again
            endpoint.kept = self.kept

    def load(self, weights: str) -> "ServedByAll":
        """Check that the servers serve `weights`; one that does not answer is left out. Raises as Endpoint does."""
        now = time.monotonic()
        awake = [each for each in self._all if self._rests.get(each, now) <= now] or self._all
        with ThreadPoolExecutor(len(awake)) as threads:
            tried = [(each, threads.submit(each.load, weights)) for each in awake]
        models: dict[Endpoint, ServedModel] = {}
        for endpoint, loaded in tried:
            try:
                models[endpoint] = loaded.result()
            except EngineError as error:
                self.rest(endpoint)
                failure = error
        if not models:
            raise failure
        return ServedByAll(self, models, self._card([model.card for model in models.values()]))

    def rest(self, endpoint: Endpoint) -> None:
        """Leave a server that has failed alone for a while."""
        self._rests[endpoint] = time.monotonic() + REST_SECONDS

    def release(self) -> None:
        """Let go of the models; the servers' memory is their own."""
        for endpoint in self._all:
            endpoint.release()

    def close(self) -> None:
        """Let go of everything; nothing runs here."""
        for endpoint in self._all:
            endpoint.close()

    def _card(self, cards: Sequence[Card]) -> Card:
        """Names every server, also one that rests: which of them answered makes no difference."""
        names = ",".join(urlsplit(endpoint.url).netloc for endpoint in self._all)
        versions = sorted({card.engine.partition(" (")[2] for card in cards} - {""})
        version = f" ({', '.join(each.rstrip(')') for each in versions)})" if versions else ""
        return Card(f"endpoint {names}{version}", cards[0].template, min(card.context for card in cards))


class ServedByAll:
    """The same weights at several servers."""

    def __init__(self, endpoints: Endpoints, models: dict[Endpoint, ServedModel], card: Card) -> None:
        self._endpoints, self._models, self.card = endpoints, models, card

    def chat(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> pl.DataFrame:
        """As flywheel.protocols.Model; see ServedModel."""
        items = list(zip(chats, seeds, strict=True))
        answers = wait_for(
            self._share(lambda model, asking, at: model.answer(asking, *items[at], sampling, at), len(items))
        )
        self._endpoints.kept.clear()
        return answers_frame(answers, sampling)

    def logprobs(self, chats: Sequence[Chat], completions: Sequence[str]) -> list[list[float]]:
        """As flywheel.protocols.Model; see ServedModel."""
        items = list(zip(chats, completions, strict=True))
        return wait_for(self._share(lambda model, asking, at: model.score(asking, *items[at], at), len(items)))

    async def _share(self, ask: Callable[[ServedModel, Any, int], Awaitable[_T]], count: int) -> list[_T]:
        """What the servers answer to each of `count` items; raises what the last of them failed with."""
        waiting, made = deque(range(count)), dict[int, _T]()
        failed: dict[Endpoint, EngineError] = {}

        async def hand(endpoint: Endpoint, asking: Any) -> None:
            while waiting and endpoint not in failed:
                place = waiting.popleft()
                try:
                    made[place] = await ask(self._models[endpoint], asking, place)
                except PromptTooLong:
                    raise
                except EngineError as error:
                    waiting.append(place)
                    failed[endpoint] = error
                    self._endpoints.rest(endpoint)

        async with contextlib.AsyncExitStack() as stack:
            sessions = {each: await stack.enter_async_context(each.session()) for each in self._models}
            while waiting:  # also when the last requests of a server that failed came back after the others were done
                able = {endpoint: asking for endpoint, asking in sessions.items() if endpoint not in failed}
                if not able:
                    raise list(failed.values())[-1]
                await together([hand(*each) for each in able.items() for _ in range(each[0].concurrency)])
        return [made[place] for place in range(count)]
