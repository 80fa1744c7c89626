"""A small model from nothing: random Llama weights, a tokenizer made for one text, and a chat template.

What comes out is an ordinary folder that transformers, TRL and vLLM load. Digits and letters are tokens of their own,
so that a small model can compute and spell; a word that many texts share is one token, with the spaces around it.
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from flywheel.checkpoints import weights
from flywheel.store.schema import Chat, Message
from flywheel.training.settings import Scratch

PAD, BOS, EOS, UNKNOWN_TOKEN = "<pad>", "<bos>", "<eos>", "<unk>"
ROLES = ("system", "user", "assistant")
SPECIAL = (PAD, BOS, EOS, UNKNOWN_TOKEN, *(f"<{role}>" for role in ROLES))
PRINTABLE = ["\n", *(chr(code) for code in range(32, 127))]
VOCABULARY_WORD = re.compile(r"[\s.,:;!?]*[^\W\d_]{2,}[\s.,:;!?]*")
SHARED = 0.05
"""The share of all texts in which a word must stand to be a token."""
SPREAD = 0.03
"""Of the first weights. With 0.02, made for wider models, small ones learn to copy late; with 0.06 they memorise."""
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<' + message['role'] + '>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def build(scratch: Scratch, out: Path) -> None:
    """Write the folder `out`, which appears in one rename when it is complete. The same value gives the same bytes."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # one file of megabytes is no news
    tokenizer = make_tokenizer(texts(scratch.text()), scratch.context)
    tmp = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(tmp, ignore_errors=True)
    make_model(scratch, tokenizer).save_pretrained(tmp)
    tokenizer.save_pretrained(tmp)
    weights.seal(tmp)
    weights.publish(tmp, out)


def texts(worked: pl.DataFrame) -> list[str]:
    """Every message and every completion of WORKED."""
    messages = worked["chat"].explode().struct.field("content").to_list()
    return [*messages, *worked["completion"].to_list()]


def pieces(texts: Iterable[str]) -> list[str]:
    """The tokens, longest first: words that many texts share, and every character."""
    words, characters, count = Counter[str](), set(PRINTABLE), 0
    for text in texts:
        count += 1
        characters.update(text)
        words.update(set(VOCABULARY_WORD.findall(text)))
    shared = [word for word, times in words.items() if times >= SHARED * count]
    return sorted({*shared, *characters}, key=lambda piece: (-len(piece), piece))


def pattern(known: Iterable[str]) -> str:
    """Matches one token of a text: the longest piece that is known, else one character."""
    longest_first = "|".join(re.escape(piece) for piece in known)
    return rf"{longest_first}|[\s\S]"


def prompt_lengths(scratch: Scratch, chats: Sequence[Chat]) -> list[int]:
    """Tokens of each chat under TEMPLATE, told before the model is made and without any library."""
    splitting = re.compile(pattern(pieces(texts(scratch.text()))))

    def tokens(message: Message) -> int:
        return 1 + len(splitting.findall(message["content"])) + (message["role"] == "assistant")

    return [2 + sum(tokens(message) for message in chat) for chat in chats]


def make_tokenizer(texts: Iterable[str], context: int) -> Any:
    """A fast tokenizer in which every text of these characters is the sum of its tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = pieces(texts)
    splitting = pattern(known)
    vocabulary = {token: id for id, token in enumerate([*SPECIAL, *known])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN_TOKEN))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(splitting), "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner,
        model_max_length=context,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN_TOKEN,
        additional_special_tokens=[f"<{role}>" for role in ROLES],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def make_model(scratch: Scratch, tokenizer: Any) -> Any:
    """Random weights in float32, the same for the same seed. In and out have embeddings of their own, as vLLM wants."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=scratch.hidden,
        num_hidden_layers=scratch.layers,
        num_attention_heads=scratch.heads,
        num_key_value_heads=scratch.heads,
        intermediate_size=scratch.intermediate,
        max_position_embeddings=scratch.context,
        initializer_range=SPREAD,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(scratch.seed)
        return LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
