"""Batched sampling from, and scoring with, a causal language model of transformers.

Rows of a batch end at the same column of one cache, and a step adds a column. When enough rows are finished, the next
prompts are prefilled apart and pasted so that they end at the current column too. Prompts come longest first, so there
is always space to the left of it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flywheel.engines.local import next_token
from flywheel.engines.local.kv_cache import RowsCache, Span, prompt_cache
from flywheel.engines.local.next_token import Array, Stops
from flywheel.engines.penalties import Penalties, needed
from flywheel.protocols import Sampling

if TYPE_CHECKING:
    import torch

FORWARD_TOKENS = 16_384  # in one forward pass over prompts, padding included
FORWARD_LOGITS = 1 << 28  # that are computed at once, 1 GiB in float32
SPARE_COLUMNS = 64
REFILL_SHARE = 0.5  # of the rows must be free before prompts are prefilled for them
SHRINK_SHARE = 0.7  # with fewer of the rows alive, and nothing waiting, the others are cut out


class Network(NamedTuple):
    """A model, and what decoding has to know about it."""

    model: Any
    accepts: frozenset[str]  # its arguments
    config: Any
    device: Any
    vocabulary: int
    context: int
    ends: frozenset[int]  # the tokens that end an answer
    rows: int  # to decode at once

    def run(self, ids: "torch.Tensor", mask: "torch.Tensor", positions: "torch.Tensor", cache: Any, keep: int) -> Any:
        """Logits of the last `keep` positions; the cache, if there is one, holds the tokens afterwards."""
        optional = {"position_ids": positions.clamp(0, self.context - 1), "logits_to_keep": keep}
        known = {name: value for name, value in optional.items() if name in self.accepts}
        output = self.model(
            input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=cache is not None, **known
        )
        return output.logits[:, -keep:]

    def tensor(self, values: Array) -> "torch.Tensor":
        """On the model's device."""
        import torch

        return torch.from_numpy(values).to(self.device)

    def padded(self, prompts: Sequence[Sequence[int]]) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
        """Ids, mask and positions, with the padding on the left."""
        width = max(map(len, prompts))
        ids, mask = np.zeros((2, len(prompts), width), np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = prompt
            mask[row, width - len(prompt) :] = 1
        return self.tensor(ids), self.tensor(mask), self.tensor(mask.cumsum(-1) - 1)


class Request(NamedTuple):
    """One answer to draw. Requests in a row that have the very same prompt share its prefill."""

    prompt: Sequence[int]
    seed: int
    number: int  # of the answer among those of its prompt
    limit: int  # tokens at most


class Drawn(NamedTuple):
    """The sampled tokens, an end token included, and the sum of their log-probabilities."""

    ids: list[int]
    logprob: float
    ended: bool  # by an end token or a stop string, not by the limit


def decode(network: Network, requests: Sequence[Request], sampling: Sampling, stops: Stops) -> list[Drawn]:
    """Draw every request; the results are in their order."""
    order = sorted(range(len(requests)), key=lambda number: -len(requests[number].prompt))
    batch = Batch(network, [requests[number] for number in order], sampling, stops)
    while batch.advance():
        pass
    return [batch.drawn[place] for place in np.argsort(order).tolist()]


class Batch:
    """Rows that are being decoded. One whose place is -1 has finished or not begun: it is computed along, not read."""

    def __init__(self, network: Network, requests: Sequence[Request], sampling: Sampling, stops: Stops) -> None:
        self.drawn: dict[int, Drawn] = {}
        self._network, self._requests, self._sampling, self._stops = network, requests, sampling, stops
        self._next = 0  # the first request that has no row yet
        self._ends = np.isin(np.arange(network.vocabulary), list(network.ends))
        rows = min(network.rows, len(requests))
        self._place = np.full(rows, -1)  # of the row's request
        self._stream = np.zeros(rows, np.uint64)
        self._steps, self._limit, self._start = (np.zeros(rows, np.int64) for _ in range(3))
        self._logprob = np.zeros(rows)
        self._ids = np.zeros((rows, 1 + max(request.limit for request in requests)), np.int64)
        self._span = Span()
        self._rows_cache: RowsCache | None = None
        self._logits: Any = None
        self._penalties: Penalties | None = None  # where there are any

    def advance(self) -> bool:
        """One more token for every row; whether there is anything left to do."""
        self._fill()
        tokens = self._sample()
        if (self._place >= 0).any():
            self._step(tokens)
            return True
        return self._waiting > 0

    @property
    def _waiting(self) -> int:
        return len(self._requests) - self._next

    def _fill(self) -> None:
        """Give free rows to the next requests, once there are enough to be worth a forward pass."""
        while self._waiting:
            free = np.flatnonzero(self._place < 0)
            if len(free) < min(self._waiting, max(1, REFILL_SHARE * len(self._place))):
                return
            most = max(1, FORWARD_TOKENS // len(self._requests[self._next].prompt))
            prompts: list[Sequence[int]] = []
            origin: list[int] = []
            for request in self._requests[self._next : self._next + len(free)]:
                if not prompts or prompts[-1] is not request.prompt:
                    prompts.append(request.prompt)
                if len(prompts) > most:
                    break
                origin.append(len(prompts) - 1)
            self._admit(free[: len(origin)], prompts[:most], origin)

    def _admit(self, rows: Array, prompts: Sequence[Sequence[int]], origin: list[int]) -> None:
        """Prefill the prompts; rows[i] continues prompt origin[i]."""
        ids, mask, positions = self._network.padded(prompts)
        cache = prompt_cache(self._network.config)
        logits = self._network.run(ids, mask, positions, cache, 1)[:, -1]
        if not (self._place >= 0).any():
            self._span.begin, self._span.end = 0, ids.shape[1]
        if self._rows_cache is None:
            self._span.capacity = ids.shape[1] + SPARE_COLUMNS
            self._rows_cache = RowsCache(cache, len(self._place), self._span)
            self._logits = logits.new_zeros((len(self._place), logits.shape[1]))
            if needed(self._sampling):
                self._penalties = Penalties(self._sampling, sorted(self._network.ends), self._logits)
        target, source = self._network.tensor(rows), self._network.tensor(np.array(origin))
        self._rows_cache.paste(target, cache, source)
        self._logits[target] = logits[source]
        taken = self._requests[self._next : self._next + len(origin)]
        self._place[rows] = range(self._next, self._next + len(origin))
        seeds, numbers = [request.seed for request in taken], [request.number for request in taken]
        self._stream[rows] = next_token.streams(seeds, numbers)
        self._limit[rows] = [request.limit for request in taken]
        self._start[rows] = [self._span.end - len(request.prompt) for request in taken]
        self._steps[rows], self._logprob[rows] = 0, 0.0
        if self._penalties:
            self._penalties.begin(target, [request.prompt for request in taken])
        self._next += len(origin)

    def _sample(self) -> "torch.Tensor":
        """Draw a token for every row; finish those that end with it."""
        uniform = self._network.tensor(next_token.uniforms(self._stream, self._steps))
        penalised = None
        if self._penalties:
            penalised = self._penalties.applied(self._logits, self._network.tensor(self._steps))
        tokens, logprob = next_token.choose(self._logits, self._sampling, uniform, penalised)
        if self._penalties:
            self._penalties.wrote(tokens)
        newest = tokens.cpu().numpy()
        live = self._place >= 0
        self._ids[np.arange(len(newest)), self._steps] = newest
        self._steps += live
        self._logprob += logprob.double().cpu().numpy()
        ended = live & self._ends[newest]
        for row in np.flatnonzero(live & ~ended & self._stops.suspects(newest)):
            ended[row] = self._stops.found(self._ids[row, : self._steps[row]].tolist())
        for row in np.flatnonzero(live & (ended | (self._steps >= self._limit))):
            ids = self._ids[row, : self._steps[row]].tolist()
            self.drawn[int(self._place[row])] = Drawn(ids, float(self._logprob[row]), bool(ended[row]))
            self._place[row] = -1
        return tokens

    def _step(self, tokens: "torch.Tensor") -> None:
        """Put these tokens behind their rows, and compute the logits of the next ones."""
        assert self._rows_cache is not None
        live = np.flatnonzero(self._place >= 0)
        self._span.begin = int(self._start[live].min())
        shrink = not self._waiting and len(live) < SHRINK_SHARE * len(self._place)
        if shrink or self._span.end == self._span.capacity:
            rows = live if shrink else np.arange(len(self._place))
            tokens = tokens[self._network.tensor(rows)]
            self._repack(self._rows_cache, rows)
        start = self._network.tensor(self._start)[:, None]
        columns = self._network.tensor(np.arange(self._span.begin, self._span.end + 1))
        mask = (columns >= start).long()
        self._logits = self._network.run(tokens[:, None], mask, self._span.end - start, self._rows_cache.cache, 1)[
            :, -1
        ]
        self._span.end += 1

    def _repack(self, cache: RowsCache, rows: Array) -> None:
        """Keep these rows alone, with space for more columns."""
        self._start = np.maximum(self._start[rows] - self._span.begin, 0)
        used = self._span.end - self._span.begin
        cache.repack(self._network.tensor(rows), used + max(used // 2, SPARE_COLUMNS))
        if self._penalties:
            self._penalties.keep(self._network.tensor(rows))
        self._place, self._stream, self._ids = self._place[rows], self._stream[rows], self._ids[rows]
        self._steps, self._limit, self._logprob = self._steps[rows], self._limit[rows], self._logprob[rows]


def score_pairs(network: Network, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
    """For each (prompt, completion): the log-probability of each token of the completion."""
    scores: list[list[float]] = [[] for _ in pairs]
    left = sorted((n for n, pair in enumerate(pairs) if pair[1]), key=lambda n: -len(pairs[n][0]) - len(pairs[n][1]))
    while left:
        batch = left[: _fitting(network, [pairs[n] for n in left[:FORWARD_TOKENS]])]
        left = left[len(batch) :]
        for n, found in zip(batch, _score(network, [pairs[n] for n in batch]), strict=True):
            scores[n] = found
    return scores


def _fitting(network: Network, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> int:
    """How many of these, the longest first, fit one forward pass: its tokens and its logits."""
    width, keep = sum(map(len, pairs[0])), 0
    for count, (_, completion) in enumerate(pairs):
        keep = max(keep, len(completion) + 1)
        rows = count + 1
        if count and (rows * width > FORWARD_TOKENS or rows * keep * network.vocabulary > FORWARD_LOGITS):
            return count
    return len(pairs)


def _score(network: Network, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
    ids, mask, positions = network.padded([[*prompt, *completion] for prompt, completion in pairs])
    keep = 1 + max(len(completion) for _, completion in pairs)
    logits = network.run(ids, mask, positions, None, keep)[:, :-1].float()
    found = logits.log_softmax(-1).gather(-1, ids[:, 1 - keep :, None]).squeeze(-1).tolist()
    return [row[-len(completion) :] for row, (_, completion) in zip(found, pairs, strict=True)]
