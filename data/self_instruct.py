"""Prompts that a model writes after examples: Self-Instruct (Wang et al., arXiv 2212.10560).

The words that are not wanted, the lengths and the first characters are those of its authors' program; the wording is
ours, and how many tasks a question asks for is not published for Self-Rewarding, which uses it with a chat model.
"""

import json
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import polars as pl

from flywheel.errors import RecipeError
from flywheel.identity import describe
from flywheel.protocols import Asked
from flywheel.store.ids import content_id, content_number, prompt_id
from flywheel.store.schema import WRITTEN, Chat
from flywheel.text.rouge import Known

BANNED = ("image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw", "plot")
PROGRAM_OPENING = "write a program"
"""Models put it before tasks of every kind."""
MARKS = ("<|", "|>", "<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<start_of_turn>", "<end_of_turn>")
"""Of turns in chat templates: in a prompt, a tokenizer takes them for such."""
WORDING_SLOT = re.compile(r"\{(shots|new|tasks|first|last)\}")
HEAD = re.compile(r"^[ \t#*_=]*task[ \t]*\d+[ \t*_=]*(?:[:.)–-][ \t*_]*|$)", re.I | re.M)
"""`Task 9:` and what else models make of that: `**Task 9.**`, `### Task 9`."""
END = re.compile(r"^[ \t#*_=`]*end of tasks\b", re.I | re.M)


@dataclass(frozen=True, kw_only=True)
class SelfInstruct:
    """A `Proposer`: a model is shown tasks of the recipe's prompts and of those written before, and writes new ones.

    Of the recipe's prompts it is shown those of one message of at most `most_words` words.
    """

    model: Asked  # Self-Rewarding (Yuan et al. 2024): a fixed model, temperature 0.6, top_p 0.9
    shots: int = 8  # tasks that a question shows
    own_shots: int = 2  # of them written before, as far as there are any
    new: int = 4  # tasks that it asks for
    rouge: float = 0.7  # a task that is as similar to another one is dropped
    least_words: int = 4
    most_words: int = 150
    banned: tuple[str, ...] = (*BANNED, "go to")
    template: str = Path(__file__).with_name("self_instruct.txt").read_text(encoding="utf-8").strip()

    def __post_init__(self) -> None:
        if not 0 <= self.own_shots < self.shots or self.new < 1:
            raise RecipeError(
                f"SelfInstruct shows at least one task of the recipe and asks for one at least, but {self.own_shots} "
                f"of its {self.shots} shots are its own, and new is {self.new}"
            )
        if self.rouge <= 0 or not 1 <= self.least_words <= self.most_words:
            raise RecipeError("SelfInstruct wants rouge above 0, and least_words from 1 up to most_words")
        if "{tasks}" not in self.template:
            raise RecipeError("the wording of SelfInstruct lacks {tasks}: put it where the tasks belong")

    @property
    def name(self) -> str:
        """A hash of all fields, the wording among them."""
        return f"SelfInstruct#{content_id(describe(self))[:8]}"

    def ask(self, seeds: pl.DataFrame, written: pl.DataFrame, count: int, seed: int) -> list[Chat]:
        """Questions with the tasks in random order; RecipeError if too few of the seeds can be shown."""
        human = [text for text in _alone(seeds) if len(text.split()) <= self.most_words]
        if len(human) < self.shots:
            raise RecipeError(
                f"SelfInstruct shows {self.shots} tasks at a time, but only {len(human)} of {len(seeds)} prompts are "
                f"one message of at most {self.most_words} words: give it more of them, or fewer shots"
            )
        own, generator = _alone(written), Random(content_number("shots", seed))
        return [[{"role": "user", "content": self._question(human, own, generator)}] for _ in range(count)]

    def _question(self, human: list[str], own: list[str], generator: Random) -> str:
        shown = generator.sample(own, min(self.own_shots, len(own)))
        shown += generator.sample(human, self.shots - len(shown))
        generator.shuffle(shown)
        tasks = "\n\n".join(f"Task {place}: {text}" for place, text in enumerate(shown, 1))
        counts = {"shots": self.shots, "new": self.new, "first": self.shots + 1, "last": self.shots + self.new}
        texts = {"tasks": tasks, **{name: str(count) for name, count in counts.items()}}
        return WORDING_SLOT.sub(lambda slot: texts[slot[1]], self.template)

    def read(self, replies: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
        """WRITTEN: one row for each task, and for each reply without any; `meta` holds the generation."""
        before, texts, rows = set(known["id"]), Known(self.rouge), []
        for chat in known["chat"].to_list():
            texts.add(chat[-1]["content"])
        for reply, finish, generation in replies.select("text", "finish_reason", "generation").iter_rows():
            for text, whole in tasks(reply, finish == "stop"):
                new: Chat = [{"role": "user", "content": text}]
                id = prompt_id(new)
                reason = self._shape(text) if whole else "cut short, or no task"
                reason = reason or ("there already" if id in before else None)
                reason = reason or (f"a ROUGE-L of {self.rouge:g} with another" if texts.near(text) else None)
                if reason is None:
                    before.add(id)
                    texts.add(text)
                rows.append((id, new, None, json.dumps({"generation": generation}), self.name, reason))
        return pl.DataFrame(rows, WRITTEN, orient="row")

    def _shape(self, text: str) -> str | None:
        """What is wrong with a task, whatever others there are."""
        count = len(text.split())
        if count < self.least_words:
            return f"under {self.least_words} words"
        if count > self.most_words:
            return f"over {self.most_words} words"
        if text[0] in string.punctuation or not text[0].isascii():
            return "a first character that is punctuation or not ASCII"
        banned = "|".join(re.escape(word) for word in self.banned)
        if text.lower().startswith(PROGRAM_OPENING) or (banned and re.search(rf"\b(?:{banned})\b", text, re.I)):
            return "a banned word"
        return "a mark of turns" if any(mark in text for mark in MARKS) else None


def tasks(reply: str, ended: bool) -> Iterator[tuple[str, bool]]:
    """The tasks of a reply, and whether each is whole: the last one of a reply that was cut is not.

    A reply without tasks is one that is not whole.
    """
    told = END.split(reply, maxsplit=1)
    ended = ended or len(told) > 1
    _, *found = (text.strip() for text in HEAD.split(told[0]))
    for place, text in enumerate(found or [reply.strip()], 1):
        yield text, bool(found) and (ended or place < len(found))


def _alone(prompts: pl.DataFrame) -> list[str]:
    """The texts of the prompts that are one message."""
    return [chat[0]["content"] for chat in prompts["chat"].to_list() if len(chat) == 1]
