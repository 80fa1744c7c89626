"""What vLLM's own server tells beyond OpenAI's interface: tokens, scores, how a turn ends, and what it draws by."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flywheel.checkpoints.ends import ANSWER_STAND_IN, finished, goes_on, turn_end
from flywheel.engines.http.client import Session
from flywheel.engines.http.request import parameters
from flywheel.engines.reply import logprob_of
from flywheel.errors import EngineError
from flywheel.protocols import Sampling
from flywheel.store.schema import Chat

ADDED_TOKEN = re.compile(r"[<\[].+[>\]]", re.DOTALL)
"""How added tokens look. A server does not tell which of its tokens were added."""
UNTOLD = "Hi."


class VllmServer(NamedTuple):
    """Where it is, and which of its models is meant."""

    server: str
    model: str

    async def prompt_tokens(self, asking: Session, chat: Chat) -> list[int]:
        """The tokens of a chat, up to where the answer begins."""
        return await self.tokens(asking, {"messages": chat, "add_generation_prompt": True})

    async def tokens(self, asking: Session, body: Mapping[str, Any]) -> list[int]:
        """The tokens of a chat or a text."""
        return await asking.ask(
            f"{self.server}/tokenize",
            {"model": self.model, **body},
            lambda reply: [int(each) for each in reply["tokens"]],
        )

    async def score(self, asking: Session, tokens: Sequence[int], start: int, place: int) -> list[float]:
        """Log-probability of each token from `start` on; NaN or minus infinity where the server has no number."""
        # The last token is asked for as if it were to be sampled, so that they may fill the context to its end.
        body = {
            "model": self.model,
            "prompt": tokens[:-1],
            **parameters(Sampling(temperature=0.0)),
            "max_tokens": 1,
            "prompt_logprobs": 0,
            "logprobs": 0,
            "logprob_token_ids": tokens[-1:],
            "return_tokens_as_token_ids": True,
        }

        def read(reply: Any) -> list[float]:
            choice = reply["choices"][0]
            scored = zip(choice["prompt_logprobs"][start:], tokens[start:-1], strict=True)
            last = choice["logprobs"]["top_logprobs"][0][f"token_id:{tokens[-1]}"]
            return [*(logprob_of(position[str(token)]["logprob"]) for position, token in scored), logprob_of(last)]

        return await asking.ask(f"{self.server}/v1/completions", body, read, place)

    async def turn_end(self, asking: Session) -> list[int]:
        """The token with which the chat template ends a turn; none where that cannot be told."""
        try:
            seen = [
                await self._pieces(asking, chat(answer))
                for chat in (finished, goes_on)
                for answer in (ANSWER_STAND_IN, "0")
            ]
        except EngineError:  # as from a template that wants other chats
            return []
        ids = [[id for id, _ in pieces] for pieces in seen]
        if ids[0] == ids[1]:  # it does not show the answer
            return []
        marks = {id for id, piece in seen[0] if ADDED_TOKEN.fullmatch(piece)}
        end = turn_end(_ending(*ids[:2]), _ending(*ids[2:]), (), marks)
        return [] if end is None else [end]

    async def _pieces(self, asking: Session, chat: Chat) -> list[tuple[int, str]]:
        """The tokens of a finished chat, as numbers and as texts."""
        body = {"model": self.model, "messages": chat, "add_generation_prompt": False, "return_token_strs": True}

        def read(reply: Any) -> list[tuple[int, str]]:
            return list(zip(map(int, reply["tokens"]), map(str, reply["token_strs"]), strict=True))

        return await asking.ask(f"{self.server}/tokenize", body, read, tries=1)

    async def own(self, asking: Session) -> dict[str, Any] | None:
        """The parameters that the server puts in where a request leaves them out; None where it does not tell."""
        neutral = {**parameters(Sampling()), "top_k": 0}
        body = {"model": self.model, "messages": [{"role": "user", "content": UNTOLD}]}

        def read(reply: Any) -> dict[str, Any]:
            drawn = {name: value for name, value in reply["sampling_params"].items() if value is not None}
            known = {name: drawn.get(name, value) for name, value in neutral.items()}  # vLLM leaves out its defaults
            return {name: value for name, value in known.items() if max(value, 0) != neutral[name]}

        try:
            return await asking.ask(f"{self.server}/v1/chat/completions/render", body, read, tries=1)
        except EngineError:  # older servers have no such address, newer ones only with --enable-scale-out
            return None


def _ending(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """What both end with: the rest of a chat behind two different answers."""
    same = 0
    while same < min(len(one), len(other)) and one[-1 - same] == other[-1 - same]:
        same += 1
    return list(one[len(one) - same :])
