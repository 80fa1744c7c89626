"""A model's network, from its folder to the device."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.checkpoints.ends import end_tokens
from flywheel.engines.local import gqa_attention
from flywheel.errors import WeightsError

if TYPE_CHECKING:
    from flywheel.engines.local.decode import Network, Request

CACHE_CPU = 4 << 30  # bytes of keys and values, with space to move them
CACHE_GPU = 0.4  # of what is free beside the model
ROWS_CPU, ROWS_GPU = 512, 1024  # decoded at once: more are hardly faster


def load_network(folder: Path, tokenizer: Any) -> "Network":
    """The network of a folder, on the GPU if there is one; WeightsError if it cannot be read whole."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as logs

    from flywheel.engines.local.decode import Network

    logging: Any = logs
    logging.disable_progress_bar()  # it would cut through the program's own
    cuda = torch.cuda.is_available()
    loaded: Any
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto" if cuda else torch.float32, output_loading_info=True
        )
    except Exception as error:
        raise WeightsError(f"the model in {folder} cannot be read: {first_line(error)}") from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):  # transformers would fill them with random numbers
        raise WeightsError(
            f"the model in {folder} is incomplete: {len(missing)} tensors are missing, such as {missing[0]}"
        )
    model = model.to("cuda" if cuda else "cpu").eval()
    gqa_attention.use(model)
    config = model.config.get_text_config(decoder=True)
    return Network(
        model=model,
        accepts=frozenset(inspect.signature(model.forward).parameters),
        config=model.config,
        device=model.device,
        vocabulary=model.get_output_embeddings().weight.shape[0],
        context=int(getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length),
        ends=frozenset(end_tokens(tokenizer, model.generation_config, config)),
        rows=ROWS_GPU if cuda else ROWS_CPU,
    )


def with_rows(network: "Network", requests: "Sequence[Request]") -> "Network":
    """The network with as many rows as fit with their keys and values."""
    import torch

    config = network.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    column = 2 * config.num_hidden_layers * heads * size * network.model.dtype.itemsize
    memory = CACHE_GPU * torch.cuda.mem_get_info()[0] if network.device.type == "cuda" else CACHE_CPU
    columns = max(len(request.prompt) for request in requests) + max(request.limit for request in requests)
    return network._replace(rows=max(1, min(network.rows, int(memory / (column * columns)))))


def first_line(error: Exception) -> str:
    """Of what an error says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
