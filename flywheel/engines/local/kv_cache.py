"""The key-value cache of rows that are being decoded: reserved ahead, written in place, with rows that come and go.

All rows end at the same column. A row's first columns, where another row's prompt is longer, are masked.
"""

import copy
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.errors import EngineError

if TYPE_CHECKING:
    import torch


@dataclass
class Span:
    """The columns that hold something alive, begin <= column < end, and for how many there is memory."""

    begin: int = 0
    end: int = 0
    capacity: int = 0


def prompt_cache(config: Any) -> Any:
    """An empty cache that keeps every column of a prompt, also in layers with a sliding window: their masks slide."""
    from transformers.cache_utils import (
        Cache,
        DynamicCache,
        DynamicLayer,
        DynamicSlidingWindowLayer,
        LinearAttentionLayer,
    )

    layers: list[Any] = DynamicCache(config=config).layers
    for layer in layers:
        if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer):
            raise EngineError(f"the local engine cannot serve a model with {type(layer).__name__}: use the vllm engine")
    plain: Any = DynamicLayer
    return Cache(layers=[plain() if isinstance(layer, DynamicSlidingWindowLayer) else layer for layer in layers])


class RowsCache:
    """The cache of `rows` rows; `cache` is what the model takes. Its layers are made like those of a prompt's cache."""

    def __init__(self, like: Any, rows: int, span: Span) -> None:
        from transformers.cache_utils import Cache

        self.span = span
        self._layers = [_like(layer, rows, span) for layer in like.layers]
        self.cache: Any = Cache(layers=self._layers)

    def paste(self, rows: "torch.Tensor", prompts: Any, origin: "torch.Tensor") -> None:
        """Let row rows[i] hold prompt origin[i] of the cache `prompts`, ending at the current column."""
        for mine, layer in zip(self._layers, prompts.layers, strict=True):
            if isinstance(mine, _layer_kind()):
                mine.paste(rows, layer.keys[origin], layer.values[origin])
                continue
            for to, states in ((mine.conv_states, layer.conv_states), (mine.recurrent_states, layer.recurrent_states)):
                for number, state in states.items():
                    if state is not None:
                        to[number][rows] = state[origin]

    def repack(self, rows: "torch.Tensor", capacity: int) -> None:
        """Keep these rows alone, moved left to column 0, with memory for `capacity` columns."""
        for layer in self._layers:
            if isinstance(layer, _layer_kind()):
                layer.repack(rows, capacity)
            else:
                layer.reorder_cache(rows)
        self.span.begin, self.span.end = 0, self.span.end - self.span.begin
        self.span.capacity = capacity


def _like(layer: Any, rows: int, span: Span) -> Any:
    from transformers.cache_utils import DynamicLayer

    if isinstance(layer, DynamicLayer):
        return _layer_kind()(layer, rows, span)
    # A recurrent layer has a state for each row and no columns.
    state: Any = copy.deepcopy(layer)
    if state.device is not None:
        state.reorder_cache(_zeros(rows, state.device))
    return state


def _zeros(rows: int, device: Any) -> "torch.Tensor":
    import torch

    return torch.zeros(rows, dtype=torch.long, device=device)


@functools.cache
def _layer_kind() -> type[Any]:
    """The class of a layer; made late, because transformers is."""
    from transformers import cache_utils

    plain: Any = cache_utils.DynamicLayer

    class RowsLayer(plain):  # type: ignore[misc]
        """One attention layer's keys and values."""

        def __init__(self, like: Any, rows: int, span: Span) -> None:
            super().__init__()
            self.span = span
            self.dtype, self.device, self.is_initialized = like.keys.dtype, like.keys.device, True
            self.store = [self._reserve(part, rows, span.capacity) for part in (like.keys, like.values)]

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            begin, end = self.span.begin, self.span.end + key_states.shape[-2]
            for store, new in zip(self.store, (key_states, value_states), strict=True):
                store[:, :, self.span.end : end] = new
            self.keys, self.values = (store[:, :, begin:end] for store in self.store)
            return self.keys, self.values

        def get_seq_length(self) -> int:
            return self.span.end - self.span.begin

        def paste(self, rows: Any, keys: Any, values: Any) -> None:
            end = self.span.end
            for store, new in zip(self.store, (keys, values), strict=True):
                store[rows, :, end - new.shape[-2] : end] = new

        def repack(self, rows: Any, capacity: int) -> None:
            begin, end = self.span.begin, self.span.end
            self.keys = self.values = None
            for number, old in enumerate(self.store):
                new = self._reserve(old, len(rows), capacity)
                new[:, :, : end - begin] = old[:, :, begin:end].index_select(0, rows)
                self.store[number] = new

        @staticmethod
        def _reserve(like: Any, rows: int, capacity: int) -> Any:
            # Masked columns are multiplied by zero, and zero times the garbage in fresh memory may not be a number.
            return like.new_zeros(rows, like.shape[1], capacity, like.shape[3])

    return RowsLayer
