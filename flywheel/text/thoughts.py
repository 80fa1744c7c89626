"""What a reasoning model thinks before it answers: it stays in the row, but it is not the answer."""

Markers = tuple[tuple[str, str], ...]
"""Pairs of texts that begin and end a thought."""

THOUGHTS: Markers = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, QwQ, Nemotron, Kimi K2, MiniMax-M1, Phi-4-reasoning, SmolLM3
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),  # EXAONE Deep
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker, Sky-T1
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
)
"""Those of published models."""


def after_thought(text: str, markers: Markers = THOUGHTS) -> str | None:
    """What follows the last end of a thought, or all of a text without one; None where a thought has no end.

    A chat template may have begun the thought, so an end needs no beginning.
    """
    ends = [place + len(end) for _, end in markers if (place := text.rfind(end)) >= 0]
    answer = text[max(ends, default=0) :]
    return None if any(begin in answer for begin, _ in markers) else answer
