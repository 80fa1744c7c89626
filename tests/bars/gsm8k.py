"""Bar `gsm8k`: all 7,473 and 1,319 rows of GSM8K through the whole loop, and not one of them wrong.

    python -m tests.bars.gsm8k [--engine vllm] [--home FOLDER]

A little model is built here and taught the form of an answer; it then guesses, so almost nothing is solved, but
something is. Afterwards every row in the store is compared with what plain Python makes of the two files. Besides, the
verifier must agree with the answer key on every reference solution. The files are looked for in the folder gsm8k of
FLYWHEEL_TEST_DATA, or of ../shared/data.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from data.files import Jsonl
from filters.completions import Completions
from filters.score_filters import Correct
from filters.text_filters import Cap, Distinct, Finished
from flywheel import Exam, Gate, Recipe, Sampling, Sft, WarmStart
from flywheel.store.ids import generation_id, prompt_id
from flywheel.store.schema import SUBJECTS, WORKED
from flywheel.store.store import Store
from judges.rules.math.verify import MathVerify

DATA = Path(os.environ.get("FLYWHEEL_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data")) / "gsm8k"
ROWS = {"train": 7473, "test": 1319}
SAMPLES, CAP, TAUGHT = 2, 1, 1024
CONTEXT = 512


@dataclass(frozen=True)
class Form:
    """WORKED: the first questions with nothing but their final answers, so that the model learns to give one."""

    path: str
    count: int

    def __call__(self) -> pl.DataFrame:
        """The examples, in the order of the file."""
        prompts = Jsonl(self.path, reference_after="####", limit=self.count)()
        return prompts.select("chat", completion=pl.format("#### {}", "reference")).match_to_schema(WORKED)


right = MathVerify()
recipe = Recipe(
    name="gsm8k-bar",
    base="set by the bar",
    warm_start=WarmStart(
        examples=Form(str(DATA / "train.jsonl"), TAUGHT),
        train=Sft(lr=5e-3, epochs=2, batch_size=16, max_length=CONTEXT),
    ),
    prompts=Jsonl(DATA / "train.jsonl", reference_after="####"),
    sampling=Sampling(n=SAMPLES, temperature=0.7, top_k=40, max_tokens=12),
    judges=(right,),
    keep=(Correct(), Finished(), Distinct(), Cap(CAP)),
    pick=Completions(),
    train=Sft(lr=3e-4, epochs=1, batch_size=32, max_length=CONTEXT),
    exam=Exam(
        name="gsm8k-test",
        prompts=Jsonl(DATA / "test.jsonl", reference_after="####"),
        judge=right,
        sampling=Sampling(temperature=0.0, max_tokens=12),
    ),
    gate=Gate(promote="always"),
    iterations=1,
    engine="local",
)


def build(folder: Path) -> None:
    """A Llama of a quarter of a million parameters with a tokenizer of its own."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    library: Any = transformers

    special = ["<pad>", "<end>", "<user>", "<assistant>"]
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)])
    pieces.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2048, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    pieces.train_from_iterator([text for row in rows("train") for text in row.values()], trainer)
    tokenizer = library.PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        pad_token="<pad>",
        eos_token="<end>",
        additional_special_tokens=special[2:],
        model_max_length=CONTEXT,
    )
    tokenizer.chat_template = (
        "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}<end>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    torch.manual_seed(0)
    ends: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    model = library.LlamaForCausalLM(
        library.LlamaConfig(vocab_size=2048, max_position_embeddings=CONTEXT, **sizes, **ends)
    )
    model.generation_config = library.GenerationConfig(**ends)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def rows(part: str) -> list[dict[str, str]]:
    """The file, by plain Python."""
    return [json.loads(line) for line in (DATA / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]


class Truth:
    """What must be in the store, from the two files alone."""

    def __init__(self) -> None:
        self.reference, self.part = dict[str, str](), dict[str, str]()
        for part in ROWS:
            for row in rows(part):
                id = prompt_id([{"role": "user", "content": row["question"]}])
                self.reference[id], self.part[id] = row["answer"].split("####")[1].strip(), part
        questions = {part: [row["question"] for row in rows(part)] for part in ROWS}
        held_out = set[tuple[str, ...]]().union(*map(grams, questions["test"]))
        ids = [prompt_id([{"role": "user", "content": question}]) for question in questions["train"]]
        close = [bool(grams(question) & held_out) for question in questions["train"]]
        self.near = {id for id, near in zip(ids, close, strict=True) if near}
        self.proposed = [id for id in ids if id not in self.near]
        self.exam = {id for id, part in self.part.items() if part == "test"}


def grams(text: str, n: int = 13) -> set[tuple[str, ...]]:
    """Every 13 words in a row, or the whole of a shorter text."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)} or {tuple(words)}


def problems(store: Store, truth: Truth) -> Iterator[str]:
    """Everything in the store that is not as it must be."""
    prompts = store.sql("SELECT id, chat, reference FROM prompts").rows()
    yield from (f"prompt {id} is not what its chat hashes to" for id, chat, _ in prompts if prompt_id(chat) != id)
    known = {id: reference for id, _, reference in prompts}
    for id, wanted in truth.reference.items():
        if known.get(id) != wanted and not (id in truth.near and id not in known):  # what is left out need not be there
            yield f"prompt {id} has the reference {known.get(id)!r}, not {wanted!r}"
    if len(prompts) != len(known) or not set(known) <= set(truth.reference):
        yield f"{len(prompts)} prompts are stored, of which {len(set(known) - set(truth.reference))} are in no file"
    proposed = store.sql("SELECT prompt FROM proposals ORDER BY position")["prompt"].to_list()
    if proposed != truth.proposed:
        yield f"{len(proposed)} proposals are not the {len(truth.proposed)} rows in the order of the file"
    yield from wrong_generations(store, truth)
    yield from wrong_judgments(store, truth)
    yield from wrong_examples(store, truth)
    yield from wrong_grades(store, truth)


def wrong_generations(store: Store, truth: Truth) -> Iterator[str]:
    """SAMPLES answers to each proposal, one to each exam prompt for each of two checkpoints, and no other."""
    made = store.sql('SELECT id, prompt, checkpoint, draw, "index", role, tokens, finish_reason, text FROM generations')
    yield from (f"generation {row[0]} has another id" for row in made.rows() if generation_id(*row[1:5]) != row[0])
    answers = Counter(made.filter(role="answer").select("prompt", "index").rows())
    if answers != Counter((id, index) for id in truth.proposed for index in range(SAMPLES)):
        yield f"{answers.total()} answers are not {SAMPLES} for each proposal"
    papers = Counter(made.filter(role="exam").select("prompt", "checkpoint").rows())
    graded = {checkpoint for _, checkpoint in papers}
    if len(graded) != 2 or papers != Counter((id, checkpoint) for id in truth.exam for checkpoint in graded):
        yield f"{papers.total()} exam answers of {len(graded)} checkpoints are not one for each prompt"
    odd = made.filter((pl.col("tokens") < 1) | (pl.col("tokens") > 12) | pl.col("text").str.contains("<end>|<pad>"))
    yield from (f"generation {id} has odd tokens" for id in odd["id"])


def wrong_judgments(store: Store, truth: Truth) -> Iterator[str]:
    """One for each generation; where the answer is plain, the verdict is what comparing two whole numbers gives."""
    judged = store.sql(
        "SELECT g.id, g.prompt, g.text, j.score, j.status "
        "FROM generations g LEFT JOIN judgments j ON j.generation = g.id"
    )
    if judged["id"].n_unique() != len(judged) or judged["status"].null_count():
        yield f"{judged['status'].null_count()} generations have no judgment, or some have two"
    for id, prompt, text, score, status in judged.rows():
        plain = re.fullmatch(r"\s*#### (-?\d+)\s*", text)
        if (score is None) != (status != "ok"):
            yield f"generation {id} has score {score} with status {status}"
        if plain and score != float(int(plain[1]) == float(truth.reference[prompt].replace(",", ""))):
            yield f"generation {id} says {text!r}, wanted {truth.reference[prompt]}, and has score {score}"


def wrong_examples(store: Store, truth: Truth) -> Iterator[str]:
    """Exactly the answers that are right, finished, distinct and drawn, none of them to an exam prompt."""
    rows = store.sql(
        "SELECT e.prompt, e.chosen, g.text, g.prompt AS asked, g.role, g.finish_reason, j.score "
        "FROM examples e JOIN generations g ON g.id = e.generations[1] JOIN judgments j ON j.generation = g.id "
        "WHERE e.origin = 'synthetic'"
    )
    for prompt, chosen, text, asked, role, finish, score in rows.rows():
        if (prompt, chosen, role, finish, score) != (asked, text, "answer", "stop", 1.0) or prompt in truth.exam:
            yield f"an example of prompt {prompt} should not be one"
    solved = store.sql(
        "SELECT DISTINCT g.prompt FROM generations g JOIN judgments j ON j.generation = g.id "
        "WHERE g.role = 'answer' AND g.finish_reason = 'stop' AND j.score = 1"
    )["prompt"]
    if Counter(rows["prompt"]) != Counter(solved):  # CAP is 1
        yield f"{len(rows)} examples are not {CAP} for each of the {len(solved)} prompts solved"
    trained = set(store.sql("SELECT prompt FROM examples")["prompt"])  # the worked ones of the warm start as well
    yield from (f"exam prompt {id} is trained on" for id in trained & truth.exam)
    yield from (f"prompt {id}, a near-duplicate of an exam prompt, is trained on" for id in trained & truth.near)


def wrong_grades(store: Store, truth: Truth) -> Iterator[str]:
    """One for each exam prompt and checkpoint, which says what the judgment says."""
    query = (
        "SELECT r.prompt, r.checkpoint, r.n, r.correct, r.unscored, count(*) AS papers, "
        "sum((j.score = 1)::INT) AS correct_now, sum((j.score IS NULL)::INT) AS unscored_now "
        "FROM grades r JOIN generations g ON g.prompt = r.prompt AND g.checkpoint = r.checkpoint AND g.role = 'exam' "
        "JOIN judgments j ON j.generation = g.id GROUP BY ALL"
    )
    grades = store.sql(query)
    if len(grades) != 2 * len(truth.exam) or set(grades["prompt"]) != truth.exam:
        yield f"{len(grades)} grades are not one for each exam prompt of each checkpoint"
    for row in grades.rows(named=True):
        if (row["n"], row["correct"], row["unscored"]) != (row["papers"], row["correct_now"] or 0, row["unscored_now"]):
            yield f"the grade of {row['prompt']} is not what its judgment says"
    decided = store.sql("SELECT decision FROM decisions")["decision"].to_list()
    if decided != ["promote", "promote"]:
        yield f"the decisions are {decided}"


def agreement(part: str) -> int:
    """Reference solutions that the verifier finds right, where the corrupted one is wrong as well."""
    solutions = [row["answer"] for row in rows(part)]
    corrupted = [re.sub(r"#### (.+)", lambda found: f"#### 1{found[1]}", solution) for solution in solutions]
    texts = [*solutions, *corrupted]
    subjects = pl.DataFrame(
        {"generation": [str(i) for i in range(len(texts))], "text": texts, "reference": 2 * solutions}
    )
    empty = [pl.lit(None, kind).alias(name) for name, kind in SUBJECTS.items() if name not in subjects.columns]
    scores = MathVerify().read(subjects.with_columns(empty).select(SUBJECTS.names()), None)["score"]
    return int(((scores.head(len(solutions)) == 1) & (scores.tail(len(solutions)) == 0)).sum())


def measure(home: Path, engine: str) -> dict[str, Any]:
    """Run the loop by its command, and look at every row."""
    build(home / "model")
    started = time.monotonic()
    settings = [f"base={home / 'model'}", f"engine={engine}"]
    argv = ["run", __file__, "--home", str(home), *(word for setting in settings for word in ("--set", setting))]
    subprocess.run([sys.executable, "-m", "flywheel.cli.app", *argv], check=True)
    store, truth = Store(home / "flywheel.duckdb"), Truth()
    wrong = list(problems(store, truth))
    counts = "SELECT count(*), (SELECT count(*) FROM judgments), (SELECT count(*) FROM examples) FROM generations"
    generations, judgments, examples = store.sql(counts).row(0)
    return {
        "seconds": round(time.monotonic() - started),
        "prompts": {part: sum(1 for id in truth.part if truth.part[id] == part) for part in ROWS},
        "left out": ROWS["train"] - len(truth.proposed),
        "generations": generations,
        "judgments": judgments,
        "examples": examples,
        "wrong": len(wrong),
        "first wrong": wrong[:5],
        "agreement": {part: agreement(part) for part in ROWS},
    }


def main() -> int:
    """Measure and print the bar."""
    options = argparse.ArgumentParser()
    options.add_argument("--engine", default="local")
    options.add_argument("--home", type=Path)
    chosen = options.parse_args()
    if not DATA.is_dir():
        sys.exit(
            f"GSM8K is not at {DATA}: set FLYWHEEL_TEST_DATA to the folder that holds gsm8k/train.jsonl and test.jsonl"
        )
    with tempfile.TemporaryDirectory() as folder:
        value = measure(chosen.home or Path(folder), chosen.engine)
    target = {"prompts": ROWS, "wrong": 0, "agreement": ROWS}
    ok = all(value[name] == wanted for name, wanted in target.items()) and value["examples"] > TAUGHT
    print(json.dumps({"bar": "gsm8k", "value": value, "target": target, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
