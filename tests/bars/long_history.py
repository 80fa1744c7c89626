"""A store with a long history, as a run would leave it: what the bar `scale` asks its questions of.

An iteration has 12,500 prompts with 8 answers each, which a rule judges and two filters thin out; a sample of them is
judged by a model as well, twice, with words, and compared in pairs. Every iteration trains a checkpoint on 5,000
answers and examines it. Texts are sentences of frequent and rare words, 400 bytes on average, 2% of them nearly copies.
"""

import string
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from flywheel.store.schema import DRAWN, TABLES

PROMPTS, N, POOL = 12_500, 8, 50_000
SENTENCES, MEAN_SENTENCES = 200_000, 3.3
JUDGED_BY_MODEL, VOTES, TRAINED, EXAM = 1_000, 2, 5_000, 500
RULE, MODEL = "Numeric(after='Answer:')", "Rubric(model='policy', scale=(1.0, 5.0)) 0a1b2c"
NOW = datetime(2026, 1, 1)
LETTERS = np.frombuffer((string.digits + string.ascii_letters).encode(), dtype="S1")
Frames = dict[str, pl.DataFrame]


class History:
    """Makes the frames of one iteration after the other. The same seed gives the same history."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)
        self.sentences = pl.Series(sentences(self.generator))
        self.pool, self.exam = self.ids(POOL), self.ids(EXAM)
        self.policies = [self.id()]
        self.iterations: list[str] = []
        self.draws: list[str] = []

    def ids(self, count: int) -> pl.Series:
        """As wide and as random as the real ones, which are hashes."""
        letters = self.generator.choice(LETTERS, (count, 12))
        return pl.Series(np.ascontiguousarray(letters).view("S12").ravel().astype("U12"), dtype=pl.String)

    def id(self) -> str:
        return str(self.ids(1)[0])

    def begin(self) -> Frames:
        chats = self.texts(POOL + EXAM)
        prompts = pl.DataFrame({"id": pl.concat([self.pool, self.exam]), "text": chats}).select(
            "id", chat=chat("text"), reference=pl.lit("42"), meta=pl.lit(None), source=pl.lit("numbers.jsonl")
        )
        return {
            "runs": table("runs", {"id": "run", "name": "long", "recipe": "{}", "versions": "{}", "seed": 0}),
            "prompts": whole("prompts", prompts),
            "exams": table(
                "exams", {"id": "exam", "name": "numbers", "position": np.arange(EXAM), "prompt": self.exam}
            ),
            "checkpoints": table("checkpoints", {"id": self.policies[0], "kind": "base", "weights": "base"}),
        }

    def texts(self, count: int) -> pl.Series:
        lengths = np.clip(self.generator.poisson(MEAN_SENTENCES, count), 1, 40)
        rows = np.repeat(np.arange(count), lengths)
        chosen = self.sentences.gather(self.generator.integers(0, SENTENCES, len(rows)))
        return (
            pl.DataFrame({"row": rows, "text": chosen})
            .group_by("row", maintain_order=True)
            .agg(pl.col("text").str.join(" "))["text"]
        )

    def iteration(self) -> Frames:
        """All rows of the next iteration."""
        number = len(self.iterations) + 1
        iteration, policy, candidate = self.id(), self.policies[-1], self.id()
        draw, asked = self.id(), self.id()
        start = (number - 1) * PROMPTS % POOL
        prompts = self.pool[start : start + PROMPTS]
        drawn = {"checkpoint": policy, "draw": draw}
        answers = self.generations(prompts, N, "answer", drawn)
        right = self.generator.random(len(answers)) < 0.3 + number / 300
        examined = self.generations(self.exam, 4, "exam", {"checkpoint": candidate, "draw": "exam"})
        said, votes = self.votes(answers, right, {"checkpoint": policy, "draw": asked})
        passed = self.generator.random(len(examined)) < 0.5
        kept = self.kept(iteration, answers, right)
        self.policies.append(candidate)
        self.iterations.append(iteration)
        self.draws.append(draw)
        return {
            "iterations": table("iterations", {"id": iteration, "run": "run", "number": number, "policy": policy,
                                               "draw": draw, "recipe": "{}"}),
            "draws": table("draws", {"id": [draw, asked], "engine": "vllm", "n": [N, VOTES], "temperature": 1.0,
                                     "top_p": 1.0, "top_k": 0, "max_tokens": 300, "stop": [[], []], "seed": number}),
            "proposals": table("proposals", {"iteration": iteration, "position": np.arange(PROMPTS),
                                             "prompt": prompts}),
            "generations": pl.concat([answers, said, examined]),
            "judgments": pl.concat([rule(answers, right), votes, rule(examined, passed)]),
            "comparisons": self.comparisons(answers),
            "selections": kept,
            **self.training(iteration, candidate, policy, answers, kept),
            **self.told(number, iteration, candidate, policy),
        }  # fmt: skip

    def generations(self, prompts: pl.Series, n: int, role: str, drawn: dict[str, str]) -> pl.DataFrame:
        count = len(prompts) * n
        texts = self.texts(count)
        copies = pl.Series(self.generator.random(count) < 0.02)
        texts = pl.select(
            pl.when(copies).then(texts.shift(1).fill_null("").str.to_uppercase()).otherwise(texts)
        ).to_series()
        return table(
            "generations",
            {
                "id": self.ids(count), "prompt": prompts.gather(np.arange(count) // n), **drawn,
                "index": np.arange(count) % n, "role": role, "text": texts,
                "finish_reason": pl.Series(np.where(self.generator.random(count) < 0.9, "stop", "length")),
                "prompt_tokens": self.generator.integers(20, 200, count), "tokens": texts.str.len_bytes() // 4,
                "logprob": -100 * self.generator.random(count), "seed": self.generator.integers(0, 2**31, count),
                "engine": "vllm 0.32.0", "template": "a template",
                "created_at": NOW + timedelta(hours=len(self.iterations)),
            },
        )  # fmt: skip

    def votes(
        self, answers: pl.DataFrame, right: np.ndarray, asked: dict[str, str]
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """What a model said of some of the answers, and the scores that were read of it."""
        of = answers.head(JUDGED_BY_MODEL).with_columns(right=pl.Series(right[:JUDGED_BY_MODEL]))
        said = self.generations(self.ids(len(of)), VOTES, "judgment", asked)
        both = of.select(pl.all().repeat_by(VOTES).explode())
        spread = self.generator.integers(1, 4, len(both))
        score = pl.Series(both["right"].cast(pl.Float64) * 2 + spread)
        failed = pl.Series(self.generator.random(len(both)) < 0.03)
        votes = both.select(
            *DRAWN, generation="id", judge=pl.lit(MODEL), vote=pl.Series(np.arange(len(both)) % VOTES),
            score=pl.when(~failed).then(score), status=pl.Series(np.where(failed, "unparsable", "ok")),
            detail=pl.when(failed).then(pl.lit("no score")), trace=said["id"],
        )  # fmt: skip
        return said, whole("judgments", votes)

    def comparisons(self, answers: pl.DataFrame) -> pl.DataFrame:
        a, b = answers["id"][: 2 * JUDGED_BY_MODEL : 2], answers["id"][1 : 2 * JUDGED_BY_MODEL : 2]
        verdicts = pl.Series(self.generator.choice(["a", "b", "tie"], len(a) * 2))
        orders = pl.Series(["ab", "ba"] * len(a))
        pairs = {"a": a.gather(np.arange(2 * len(a)) // 2), "b": b.gather(np.arange(2 * len(a)) // 2)}
        return table("comparisons", {**pairs, "order": orders, "judge": "Duel()", "vote": 0, "verdict": verdicts,
                                     "status": "ok"})  # fmt: skip

    def kept(self, iteration: str, answers: pl.DataFrame, right: np.ndarray) -> pl.DataFrame:
        ids = answers["id"]
        first = {"iteration": iteration, "position": 0, "filter": "Correct()", "generation": ids, "kept": right,
                 "reason": pl.Series(np.where(right, "kept", "dropped by Correct()"))}  # fmt: skip
        left = ids.filter(pl.Series(right))
        few = self.generator.random(len(left)) < 2 * TRAINED / len(left)
        second = {"iteration": iteration, "position": 1, "filter": "Cap(4)", "generation": left, "kept": few,
                  "reason": pl.Series(np.where(few, "kept", "dropped by Cap(4)"))}  # fmt: skip
        return pl.concat([table("selections", first), table("selections", second)])

    def training(
        self, iteration: str, candidate: str, policy: str, answers: pl.DataFrame, kept: pl.DataFrame
    ) -> Frames:
        last = kept.filter((pl.col("position") == 1) & pl.col("kept")).head(TRAINED)["generation"]
        taught = answers.filter(pl.col("id").is_in(last.implode()))
        dataset = self.id()
        examples = taught.select(
            "prompt", dataset=pl.lit(dataset), position=pl.int_range(pl.len()), chat=chat("text"), chosen="text",
            rejected=pl.lit(None), weight=pl.lit(1.0), origin=pl.lit("synthetic"), generations=pl.concat_list("id"),
        )  # fmt: skip
        steps = np.arange(1, 501)
        loss = {"checkpoint": candidate, "step": steps, "name": "loss", "value": 3 / np.sqrt(steps)}
        return {
            "examples": whole("examples", examples),
            "datasets": table("datasets", {"id": dataset, "kind": "selected", "rows": len(taught), "real": 0,
                                           "synthetic": len(taught)}),
            "iteration_datasets": table("iteration_datasets", {"iteration": iteration, "dataset": dataset}),
            "checkpoints": table("checkpoints", {"id": candidate, "kind": "trained", "parent": policy,
                                                 "dataset": dataset, "weights": candidate}),
            "metrics": table("metrics", loss),
        }  # fmt: skip

    def told(self, number: int, iteration: str, candidate: str, policy: str) -> Frames:
        """Grades, the decision, events and the judges' health."""
        correct = self.generator.binomial(4, 0.4 + number / 400, EXAM)
        grades = {"checkpoint": candidate, "exam": "exam", "prompt": self.exam, "n": 4, "correct": correct,
                  "unscored": 0, "majority": correct > 2}  # fmt: skip
        decision = {"iteration": iteration, "candidate": candidate, "incumbent": policy, "decision": "promote",
                    "policy": candidate, "exam": "exam", "score": correct.mean() / 4, "difference": 0.01, "low": 0.0,
                    "high": 0.02, "p": 0.04, "gained": 9, "lost": 4}  # fmt: skip
        steps = pl.Series(["propose", "sample", "judge", "select", "train", "examine"])
        events = {"run": "run", "iteration": number, "step": steps, "kind": "done", "rows": 9, "tokens": 10**6,
                  "seconds": 60.0}  # fmt: skip
        measures = pl.Series(["accuracy", "kappa", "score", "deviation", "failed", "verbosity"])
        health = {"run": "run", "iteration": number, "judge": MODEL, "measure": measures, "value": 0.5, "low": 0.4,
                  "high": 0.6, "n": JUDGED_BY_MODEL}  # fmt: skip
        return {
            "grades": table("grades", grades),
            "decisions": table("decisions", decision),
            "events": table("events", events),
            "health": table("health", health),
        }


def sentences(generator: np.random.Generator) -> list[str]:
    words = np.array(["".join(map(chr, generator.integers(97, 123, generator.integers(1, 12)))) for _ in range(5000)])
    ranks = np.minimum(generator.zipf(1.2, (SENTENCES, 14)) - 1, len(words) - 1)
    return [" ".join(row) for row in words[ranks].tolist()]


def rule(answers: pl.DataFrame, right: np.ndarray) -> pl.DataFrame:
    """A rule's votes, with what it read."""
    return table(
        "judgments",
        {"generation": answers["id"], "judge": RULE, "vote": 0, "score": pl.Series(right).cast(pl.Float64),
         "status": "ok", "detail": "42", **{name: answers[name] for name in DRAWN}},
    )  # fmt: skip


def chat(column: str) -> pl.Expr:
    return pl.concat_list(pl.struct(role=pl.lit("user"), content=pl.col(column).str.head(200)))


def table(name: str, columns: dict[str, Any]) -> pl.DataFrame:
    """A frame for that table of the store; a value that is no column is the same in every row."""
    defaults = {"created_at": NOW}
    whole_columns = {of: columns.get(of, defaults.get(of)) for of in TABLES[name]}
    many = {of: value for of, value in whole_columns.items() if isinstance(value, (np.ndarray, pl.Series, list))}
    one = {of: pl.lit(value) for of, value in whole_columns.items() if of not in many}
    start = pl.DataFrame(many) if many else pl.DataFrame({"_": [0]})
    return whole(name, start.with_columns(**one))


def whole(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(list(TABLES[name])).cast(TABLES[name])
