"""A fake engine, to try the machine without a model: it answers sums rightly as often as its weights' skill says.

Asked to judge, it knows whether an answer to a sum is right, and is wrong about that ever less often, the more skill.
Asked to write tasks 9 to 12, it writes sums between mere words.

Its weights are a folder with `toy.json`, such as {"skill": 0.3, "seed": 1} (and what makes it look like a checkpoint),
and, for tests, "context" (tokens), "delay" (seconds for each batch), "crash_after" (chats, after which the engine fails
once), "babble" (the share of answers and judgments that are mere words) and "train_delay" (seconds for each
step of `flywheel.training.toy`). A token is a word with the space before it.
"""

import hashlib
import json
import re
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from flywheel.engines.context import check_context
from flywheel.engines.penalties import refuse
from flywheel.engines.toy.judge import ShownAnswer, judgment
from flywheel.errors import EngineError, WeightsError
from flywheel.protocols import Card, Sampling
from flywheel.store.ids import content_id
from flywheel.store.schema import ANSWERS, Chat

WEIGHTS = "toy.json"
SUM = re.compile(r"(-?\d+) *([-+*]) *(-?\d+)")
TOY_ANSWER = re.compile(r"Answer: *(-?\d+)")
TASKS = re.compile(r"write tasks (\d+) to (\d+)")
TOKEN = re.compile(r"\s*\S+|\s+$")
OPENINGS = (
    "",
    "Let me see.",
    "Well,",
    "First I count.",
    "Step by step:",
    "That is easy.",
    "One moment.",
    "I think so:",
)
BABBLE = (
    "round",
    "and",
    "wheel",
    "the",
    "turns",
    "again",
    "water",
    "slow",
    "it",
    "bright",
    "we",
    "under",
    "stone",
    "said",
)


def write_weights(folder: Path, skill: float, seed: int = 0, **options: Any) -> Path:
    """A folder of toy weights that the whole machine takes for a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_text(json.dumps({"skill": skill, "seed": seed, **options}))
    (folder / "config.json").write_text(json.dumps({"model_type": "toy"}))
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    return folder


def read_weights(weights: str) -> dict[str, Any]:
    """The content of toy.json."""
    path = Path(weights) / WEIGHTS
    if not path.is_file():
        raise WeightsError(f"{weights} holds no toy weights: the toy engine serves only a folder with {WEIGHTS}")
    try:
        content = json.loads(path.read_text())
        return {**content, "skill": float(content["skill"]), "seed": int(content["seed"])}
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} is corrupt: it must be JSON with skill and seed") from error


def solve(chat: Chat) -> int | None:
    """The value of the last simple sum in the last message, or None."""
    found = SUM.findall(chat[-1]["content"]) if chat else []
    if not found:
        return None
    a, sign, b = int(found[-1][0]), found[-1][1], int(found[-1][2])
    return a + b if sign == "+" else a - b if sign == "-" else a * b


class Toy:
    """The engine. It fails at most once in its life, after `crash_after` chats."""

    def __init__(self) -> None:
        self._served: ToyModel | None = None
        self._chats = 0
        self._crashed = False

    def load(self, weights: str) -> "ToyModel":
        """Serve `weights`; at no cost if they are being served."""
        content = read_weights(weights)
        if self._served is None or not self._served.alive or self._served.content != content:
            self.release()
            self._served = ToyModel(self, content)
        return self._served

    def release(self) -> None:
        """Forget the weights."""
        if self._served is not None:
            self._served.alive = False
            self._served = None

    def close(self) -> None:
        """Forget the weights. Can be called twice."""
        self.release()

    def count(self, chats: int, limit: int | None) -> None:
        """Fail if these chats are more than the limit, and have not made it fail before."""
        self._chats += chats
        if limit is not None and self._chats > limit and not self._crashed:
            self._crashed = True
            self.release()
            raise EngineError(f"the toy engine failed after {limit} chats, as its weights ask it to")


class Answer(NamedTuple):
    """What is said, the tokens that said it, and whether the end was reached."""

    text: str
    tokens: list[str]
    ended: bool


class ToyModel:
    """Toy weights that are being served."""

    def __init__(self, engine: Toy, content: dict[str, Any]) -> None:
        self.alive = True
        self.content = content
        self.card = Card("toy 1", content_id("template", "toy"), int(content.get("context", 4096)))
        self._engine = engine
        self._id = content_id(content["skill"], content["seed"])

    def chat(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> pl.DataFrame:
        """ANSWERS; see flywheel.protocols.Model."""
        if len(chats) != len(seeds):
            raise ValueError(f"{len(chats)} chats and {len(seeds)} seeds")
        refuse("toy", sampling)
        self._check([(chat, 1) for chat in chats])
        self._work(len(chats))
        drawn = [
            (number, index, chat, self._answer(chat, sampling, seed, index))
            for number, (chat, seed) in enumerate(zip(chats, seeds, strict=True))
            for index in range(sampling.n)
        ]
        return pl.DataFrame(
            {
                "chat": [number for number, _, _, _ in drawn],
                "index": [index for _, index, _, _ in drawn],
                "text": [answer.text for _, _, _, answer in drawn],
                "finish_reason": ["stop" if answer.ended else "length" for _, _, _, answer in drawn],
                "prompt_tokens": [prompt_tokens(chat) for _, _, chat, _ in drawn],
                "tokens": [len(answer.tokens) for _, _, _, answer in drawn],
                "logprob": [sum(self._scores(chat, answer.tokens)) for _, _, chat, answer in drawn],
            },
            schema=ANSWERS,
        )

    def logprobs(self, chats: Sequence[Chat], completions: Sequence[str]) -> list[list[float]]:
        """Log-probability of each token of each completion; see flywheel.protocols.Model."""
        if len(chats) != len(completions):
            raise ValueError(f"{len(chats)} chats and {len(completions)} completions")
        tokens = [TOKEN.findall(completion) for completion in completions]
        self._check([(chat, len(answer)) for chat, answer in zip(chats, tokens, strict=True)])
        self._work(len(chats))
        return [self._scores(chat, answer) for chat, answer in zip(chats, tokens, strict=True)]

    def _check(self, wanted: Sequence[tuple[Chat, int]]) -> None:
        if not self.alive:
            raise EngineError("these weights are no longer served: the engine was released or has loaded others")
        check_context(((at, prompt_tokens(chat), more) for at, (chat, more) in enumerate(wanted)), self.card.context)

    def _work(self, chats: int) -> None:
        time.sleep(float(self.content.get("delay", 0)) if chats else 0)
        self._engine.count(chats, self.content.get("crash_after"))

    def _answer(self, chat: Chat, sampling: Sampling, seed: int, index: int) -> Answer:
        greedy = sampling.temperature == 0 or sampling.top_k == 1
        draw = ["greedy"] if greedy else [seed, index, sampling.temperature, sampling.top_k, sampling.top_p]
        written: list[str] = []
        most = min(sampling.max_tokens, self.card.context - prompt_tokens(chat))
        for token in [*TOKEN.findall(self._say(chat, draw)), ""]:  # the empty one is the end token
            if len(written) == most:
                return Answer("".join(written), written, ended=False)
            written.append(token)
            text = "".join(written)
            found = [text.index(stop) for stop in sampling.stop if stop and stop in text]
            if found:
                return Answer(text[: min(found)], written, ended=True)
        return Answer("".join(written), written, ended=True)

    def _say(self, chat: Chat, draw: Sequence[Any]) -> str:
        judged = judgment(chat[-1]["content"] if chat else "", lambda part: self._likes(part, draw))
        babbles = self._chance("babble", chat, draw) < self.content.get("babble", 0)
        if judged is not None and not babbles:
            return judged
        tasks = TASKS.search(chat[-1]["content"]) if chat else None
        if tasks and not babbles:
            return "\n".join(self._task(at, chat, draw) for at in range(int(tasks[1]), int(tasks[2]) + 1))
        right = solve(chat)
        if right is None or babbles:
            return self._babble(4 + int(24 * self._chance("count", chat, draw)), chat, draw)
        miss = 1 + int(3 * self._chance("miss", chat, draw))
        said = right if self._chance("skill", chat, draw) < self.content["skill"] else right + miss
        opening = OPENINGS[int(len(OPENINGS) * self._chance("opening", chat, draw))]
        return f"{opening} Answer: {said}".strip()

    def _task(self, number: int, chat: Chat, draw: Sequence[Any]) -> str:
        a, b = (int(100 * self._chance(side, chat, [number, *draw])) for side in ("a", "b"))
        return f"Task {number}: {self._babble(4, chat, [number, *draw])}, what is {a}+{b}?"

    def _babble(self, words: int, chat: Chat, draw: Sequence[Any]) -> str:
        return " ".join(BABBLE[int(len(BABBLE) * self._chance(i, chat, draw))] for i in range(words))

    def _likes(self, part: ShownAnswer, draw: Sequence[Any]) -> bool:
        """Whether an answer seems right: a coin where there is no sum, or no skill. Its place makes no difference."""
        said, right = TOY_ANSWER.search(part.answer), solve([{"role": "user", "content": part.question}])
        chance = self._chance("judge", [], [part.question, part.answer, *draw])
        if said is None or right is None:
            return chance < 0.5
        sees = chance < (1 + self.content["skill"]) / 2
        return (int(said[1]) == right) == bool(sees)

    def _scores(self, chat: Chat, tokens: Sequence[str]) -> list[float]:
        return [-0.01 - 3 * self._chance("score", chat, [i, token]) ** 2 for i, token in enumerate(tokens)]

    def _chance(self, what: Any, chat: Chat, draw: Sequence[Any]) -> float:
        """0 <= u < 1, made of its arguments and the weights alone."""
        text = json.dumps([self._id, what, chat, list(draw)], sort_keys=True)
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48


def prompt_tokens(chat: Chat) -> int:
    """One for each word and each message, and one where the answer begins."""
    return 1 + sum(1 + len(TOKEN.findall(message["content"])) for message in chat)
