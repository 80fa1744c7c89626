"""Attention for a decoding step of models whose query heads share key and value heads.

transformers repeats the shared heads in memory, for every step and layer; that copy costs more than the attention. With
a single query position, the heads of a group can stand in as positions instead, and nothing is copied.
"""

import functools
from typing import Any

NAME = "sdpa_grouped"


def use(model: Any) -> None:
    """Let the model attend in this way, if it uses torch's scaled_dot_product_attention."""
    if getattr(model.config, "_attn_implementation", None) == "sdpa":
        _register()
        model.set_attn_implementation(NAME)


@functools.cache
def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None, **options: Any
) -> tuple[Any, None]:
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    rows, heads, positions, size = query.shape
    groups = key.shape[1]
    if positions > 1 or heads == groups or options.get("position_bias") is not None:
        whole: tuple[Any, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return whole
    attend = torch.nn.functional.scaled_dot_product_attention
    query = query.reshape(rows, groups, heads // groups, size)
    output = attend(query, key, value, attn_mask=attention_mask, scale=scaling)
    return output.reshape(rows, 1, heads, -1), None
