"""Asking a server that is busy, slow or broken, until it answers or it is clear that it will not."""

import asyncio
import contextlib
import email.utils
import json
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import httpx

from flywheel.errors import EngineError, PromptTooLong

_T = TypeVar("_T")
BUSY = {408, 425, 429, 500, 502, 503, 504}
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds between two attempts, unless the server names a time
LONGEST_ASKED = 300.0  # that a server may ask us to wait
TOO_LONG = (
    "context length",
    "context window",
    "context size",
    "context_length_exceeded",
    "max_tokens must be at least 1, got 0",  # vLLM, where the prompt fills the context to its last token
)


class Session:
    """One event loop's connections to one server: `concurrency` requests at a time, each tried `attempts` times."""

    def __init__(self, client: httpx.AsyncClient, concurrency: int, attempts: int) -> None:
        self._client = client
        self._gate = asyncio.Semaphore(concurrency)
        self._attempts = attempts

    async def ask(
        self,
        url: str,
        body: Mapping[str, Any] | None,
        read: Callable[[Any], _T],
        prompt: int = 0,
        *,
        tries: int | None = None,
    ) -> _T:
        """What `read` makes of the server's JSON; `read` raises KeyError and its like for a reply without an answer.

        A GET where there is no body. Raises PromptTooLong, which names `prompt`, or EngineError, which names the
        address, the status and the server's words. A request that waits for its next attempt keeps its place, to spare
        the server.
        """
        async with self._gate:
            attempts = tries or self._attempts
            for attempt in range(1, attempts + 1):
                try:
                    return await self._once(url, body, read, prompt)
                except _TroubleError as trouble:
                    if attempt == attempts:
                        raise EngineError(f"{url} {trouble} ({attempt} attempts)") from trouble
                    pause = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
                    await asyncio.sleep(max(pause, trouble.asked))
        raise AssertionError("unreachable")

    async def _once(self, url: str, body: Mapping[str, Any] | None, read: Callable[[Any], _T], prompt: int) -> _T:
        try:
            response = await self._client.request("POST" if body else "GET", url, json=body)
        except httpx.RequestError as error:
            raise _TroubleError(f"cannot be reached or does not answer: {error or type(error).__name__}") from error
        status = response.status_code
        if status in BUSY:
            raise _TroubleError(f"answers {status}: {error_words(response)}", retry_after(response))
        if response.is_error:
            raise refusal(response, url, prompt)
        try:
            return read(response.json())
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise _TroubleError(f"answers {status} without what was asked for: {error_words(response)}") from error


class RefusedError(EngineError):
    """The server will not do what it was asked; `said` is all that it says of it."""

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said


class _TroubleError(Exception):
    """Worth another attempt; `asked` is the pause, in seconds, that the server wants."""

    def __init__(self, message: str, asked: float = 0.0) -> None:
        super().__init__(message)
        self.asked = asked


@contextlib.asynccontextmanager
async def session(*, key: str, concurrency: int, timeout: float, attempts: int) -> AsyncIterator[Session]:
    """A session that closes its connections at the end."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    patience = httpx.Timeout(timeout, connect=min(timeout, 20.0))
    async with httpx.AsyncClient(headers=headers, timeout=patience, limits=limits, follow_redirects=True) as client:
        yield Session(client, concurrency, attempts)


def retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks us to wait: a number, or a date."""
    value = response.headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        date = email.utils.parsedate_to_datetime(value) if value[:1].isalpha() else None
        seconds = date.timestamp() - time.time() if date else 0.0
    return min(max(seconds, 0.0), LONGEST_ASKED)


def error_words(response: httpx.Response) -> str:
    """What the server said, in short: the message of an OpenAI error, or the start of the body."""
    text = response.text.strip()
    try:
        value = json.loads(text)
        error = value.get("error", value)
        text = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, AttributeError, TypeError):
        pass
    return " ".join(text.split())[:400] or "(nothing)"


def refusal(response: httpx.Response, url: str, prompt: int) -> EngineError:
    """The error for a status that asking again does not change."""
    status, said = response.status_code, error_words(response)
    if status in (400, 413, 422) and any(sign in response.text.lower() for sign in TOO_LONG):
        return PromptTooLong(f"prompt {prompt} does not fit the context of the model at {url}: {said}", [prompt])
    if status in (401, 403):
        return EngineError(f"{url} refuses us with {status}: {said} (the key is taken from FLYWHEEL_API_KEY)")
    if status == 404:
        return EngineError(f"{url} answers 404: the server has no such address or no such model: {said}")
    told = f"{url} answers {status}: {said}"
    return RefusedError(told, response.text) if status in (400, 422) else EngineError(told)


async def together(work: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """All results in order; after a failure the rest are cancelled, and the failure is raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def wait_for(work: Coroutine[Any, Any, _T]) -> _T:
    """Wait for `work` in this thread, or in one of its own where this thread runs an event loop (as notebooks do)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    results: list[_T] = []
    failures: list[BaseException] = []

    def target() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
