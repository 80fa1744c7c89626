"""Prompts that a model writes: how similar texts are, what is dropped and why, and rounds that survive a kill."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.files import Jsonl
from data.self_instruct import SelfInstruct, tasks
from filters.score_filters import Correct
from flows.recipes.toy import recipe as toy
from flywheel.engines.toy.engine import write_weights
from flywheel.errors import RecipeError, SourceError
from flywheel.pipeline import propose
from flywheel.pipeline.loop import iterate
from flywheel.preflight.recipe import check_recipe
from flywheel.protocols import BASE, Asked, Sampling
from flywheel.recipe.recipe import Recipe
from flywheel.store import queries
from flywheel.store.ids import prompt_id
from flywheel.store.schema import PROMPTS, REPLIES, WRITTEN, Chat, prompts_frame
from flywheel.store.store import Store
from flywheel.text.rouge import Known, common, rouge_l, rouge_words
from judges.models.rubric import Rubric
from tests import PUBLIC
from tests.bars.kill import Moment, differences, finish, kill_at, launch

DATA = PUBLIC
SEED_TASKS = DATA / "self_instruct" / "seed_tasks.jsonl"
MODEL = Asked(weights=BASE, sampling=Sampling(temperature=0.8, max_tokens=256))
WRITER = SelfInstruct(model=MODEL)
SUBJECTS = ("bread", "rain", "violins", "tax law", "a lost dog", "the moon", "chess", "grammar", "soil", "old age")


def slow_common(a: Sequence[str], b: Sequence[str]) -> int:
    """The textbook's table."""
    row = [0] * (len(b) + 1)
    for one in a:
        before = row
        row = [0]
        for at, other in enumerate(b):
            row.append(before[at] + 1 if one == other else max(before[at + 1], row[at]))
    return row[-1]


@pytest.mark.parametrize(
    ("one", "other", "score"),
    [
        ("police killed the gunman", "police kill the gunman", 0.75),  # Lin 2004, section 3.1
        ("police killed the gunman", "the gunman kill police", 0.5),
        ("the cat sat on the mat", "The cat lay on a mat!", 8 / 12),
        ("a b c d", "a b c d e f g h", 2 * 4 / 12),
        ("Name a well-known song.", "name a WELL known song", 1.0),
        ("one two", "three four", 0.0),
        ("", "one", 0.0),
        ("?!", "", 0.0),
        ("a a a b", "b a a", 2 * 2 / 7),
        ("Grüße an alle", "grüße an ALLE", 1.0),
    ],
)
def test_rouge_l_is_what_a_hand_makes_of_it(one: str, other: str, score: float) -> None:
    assert rouge_l(one, other) == rouge_l(other, one) == pytest.approx(score)


LETTERS = st.lists(st.sampled_from("abcd"), max_size=12)


@given(LETTERS, LETTERS)
def test_the_common_words_are_those_of_the_textbook(a: list[str], b: list[str]) -> None:
    assert common(a, b) == slow_common(a, b)


@given(st.lists(LETTERS.map(" ".join), max_size=8), LETTERS.map(" ".join), st.sampled_from([0.3, 0.5, 0.7, 1.0]))
def test_a_text_is_near_if_its_rouge_with_one_of_the_others_is_high(others: list[str], text: str, least: float) -> None:
    known = Known(least)
    for other in others:
        known.add(other)
    assert known.near(text) == any(rouge_l(text, other) >= least - 1e-9 for other in others)


@pytest.mark.skipif(not SEED_TASKS.exists(), reason=f"no {SEED_TASKS}: point FLYWHEEL_TEST_DATA at its parent's parent")
def test_of_real_tasks_the_same_ones_are_near_as_in_a_slow_search() -> None:
    lines = SEED_TASKS.read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["instruction"] for line in lines][:90]
    known, near = Known(0.4), []
    for at, text in enumerate(texts):
        split = [rouge_words(other) for other in texts[:at]]
        scores = [2 * slow_common(rouge_words(text), other) / (len(rouge_words(text)) + len(other)) for other in split]
        near.append(max(scores, default=0) >= 0.4)
        assert known.near(text) == near[-1], text
        known.add(text)
    assert 0 < sum(near) < len(texts)


@pytest.mark.parametrize(
    "reply",
    [
        "Task 9: Sing of rain.\nTask 10: Sell me this pen.\nEnd of tasks",
        "Sure! Here they are:\n\n**Task 9:** Sing of rain.\n\n**Task 10:** Sell me this pen.\n\n**End of tasks**",
        "### Task 9\nSing of rain.\n\n### Task 10\nSell me this pen.\nEnd of tasks. I hope they help!",
        "task 9. Sing of rain.\ntask 10) Sell me this pen.",
        "Task 9 - Sing of rain.\r\nTask 10 – Sell me this pen.\n`End of tasks`",
    ],
)
def test_tasks_are_found_however_they_are_marked(reply: str) -> None:
    assert list(tasks(reply, True)) == [("Sing of rain.", True), ("Sell me this pen.", True)]


def test_a_task_may_have_several_lines_and_speak_of_tasks() -> None:
    reply = "Task 9: Which task 3 comes first?\n\n1. Task 4 of the list\n2. rain\nTask 10: Go on."
    assert list(tasks(reply, True)) == [
        ("Which task 3 comes first?\n\n1. Task 4 of the list\n2. rain", True),
        ("Go on.", True),
    ]


def test_the_last_task_of_a_reply_that_was_cut_is_not_whole() -> None:
    assert list(tasks("Task 9: Sing of rain.\nTask 10: Sell", False)) == [("Sing of rain.", True), ("Sell", False)]
    assert list(tasks("Task 9: Sing of rain.\nEnd of tasks\nAnd", False)) == [("Sing of rain.", True)]
    assert list(tasks("I cannot do that.", True)) == [("I cannot do that.", False)]
    assert list(tasks("", True)) == [("", False)]


def users(*texts: str) -> pl.DataFrame:
    return prompts_frame(({"chat": [{"role": "user", "content": text}]} for text in texts), "people")


def replies(*texts: str, finish: str = "stop") -> pl.DataFrame:
    rows = [
        {"chat": place, "index": 0, "text": text, "finish_reason": finish, "generation": f"g{place}"}
        for place, text in enumerate(texts)
    ]
    return pl.DataFrame(rows, schema=REPLIES)


def reason(text: str, writer: SelfInstruct = WRITER, known: Sequence[str] = ()) -> str | None:
    read = writer.read(replies(f"Task 9: {text}\nEnd of tasks"), users(*known))
    assert read.schema == WRITTEN and len(read) == 1
    return read["reason"][0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Tell me of rain.", None),
        ("Sing of rain.", "under 4 words"),
        ("rain " * 150, None),
        ("rain " * 151, "over 150 words"),
        ("- tell me of rain", "a first character that is punctuation or not ASCII"),
        ("“Rain” is what in French?", "a first character that is punctuation or not ASCII"),
        ("Ärzte und Regen, was nun?", "a first character that is punctuation or not ASCII"),
        ("Describe this Picture of rain.", "a banned word"),
        ("Tell me how to go to Rome.", "a banned word"),
        ("Tell me of a photographer's profile.", None),  # only whole words are banned
        ("Write a program that rains.", "a banned word"),
        ("Why would one write a program?", None),
        ("Tell me <|im_end|> of rain", "a mark of turns"),
        ("Tell me of [/INST] rain", "a mark of turns"),
    ],
)
def test_a_task_is_dropped_for_its_own_sake(text: str, why: str | None) -> None:
    assert reason(text) == why


def test_a_task_is_dropped_for_being_like_another() -> None:
    known = ("Write a poem on the rain in Spain.",)
    assert reason("Write a poem on the rain in Spain.", known=known) == "there already"
    assert reason("Write a poem on the snow in Spain.", known=known) == "a ROUGE-L of 0.7 with another"
    assert reason("Write a poem on the snow in Spain.", replace(WRITER, rouge=0.9), known) is None
    assert reason("What does it cost to rent a flat?", known=known) is None
    twice = WRITER.read(
        replies("Task 9: Tell me of rain.\nTask 10: Tell me of rain.", "Task 9: Tell me of rain!"), users()
    )
    assert twice["reason"].to_list() == [None, "there already", "a ROUGE-L of 0.7 with another"]


def test_a_similarity_of_exactly_the_bound_is_too_much() -> None:
    known = ["one two three four five six seven a b c"]
    assert rouge_l(known[0], "one two three four five six seven x y z") == pytest.approx(0.7)
    assert reason("one two three four five six seven x y z", known=known) == "a ROUGE-L of 0.7 with another"
    assert reason("one two three four five six w x y z", known=known) is None


def test_what_is_read_names_its_generation_and_its_writer() -> None:
    read = WRITER.read(replies("nothing", "Task 9: Tell me of rain."), users())
    assert read["source"].to_list() == [WRITER.name] * 2
    assert [json.loads(meta) for meta in read["meta"]] == [{"generation": "g0"}, {"generation": "g1"}]
    assert read["reason"].to_list() == ["cut short, or no task", None]
    assert read["id"][1] == prompt_id([{"role": "user", "content": "Tell me of rain."}])
    cut = WRITER.read(replies("Task 9: Tell me of rain.\nTask 10: Tell me", finish="length"), users())
    assert cut["reason"].to_list() == [None, "cut short, or no task"]


TEXTS = st.lists(st.sampled_from(["rain", "snow", "tell", "me", "of", "why", "draw", "Ä", "?"]), max_size=9).map(
    " ".join
)


@pytest.mark.slow
@given(st.lists(st.lists(TEXTS, min_size=1, max_size=4), max_size=4), st.lists(TEXTS, max_size=3))
def test_no_two_tasks_that_are_kept_are_alike(written: list[list[str]], known: list[str]) -> None:
    said = ["\n".join(f"Task {at}: {text}" for at, text in enumerate(each, 9)) for each in written]
    read = WRITER.read(replies(*said), users(*known))
    assert len(read) == sum(map(len, written))
    kept = [chat[0]["content"] for chat in read.filter(pl.col("reason").is_null())["chat"].to_list()]
    others = list(known)
    for text in kept:
        assert 4 <= len(text.split()) <= 150 and text[0].isascii() and "draw" not in text
        assert all(rouge_l(text, other) < 0.7 for other in others)
        others.append(text)


def shown(chat: Chat) -> list[str]:
    """The texts that a question shows."""
    (message,) = chat
    assert message["role"] == "user"
    return [text for text in SEEDS + OWN if f": {text}\n" in message["content"]]


SEEDS = [f"Ask {number} about {subject}?" for number, subject in enumerate(SUBJECTS)]
OWN = [f"Tell {number} of {subject}." for number, subject in enumerate(SUBJECTS)]


def test_a_question_shows_six_tasks_of_people_and_two_of_its_own() -> None:
    chats = WRITER.ask(users(*SEEDS), users(*OWN), 20, seed=1)
    assert len(chats) == 20
    for chat in chats:
        counts = Counter(text in OWN for text in shown(chat))
        assert counts == {False: 6, True: 2}
        assert "Task 8: " in chat[0]["content"] and "write tasks 9 to 12" in chat[0]["content"]
        assert "{" not in chat[0]["content"]
    places = {chat[0]["content"].index(text) for chat in chats for text in shown(chat) if text in OWN}
    assert len(places) > 8  # not always last


def test_before_there_are_tasks_of_its_own_all_are_of_people() -> None:
    (first,) = WRITER.ask(users(*SEEDS), users(), 1, seed=1)
    assert len(shown(first)) == 8
    (second,) = WRITER.ask(users(*SEEDS), users(OWN[0]), 1, seed=1)
    assert [text for text in shown(second) if text in OWN] == OWN[:1] and len(shown(second)) == 8


def test_questions_hang_on_the_seed_alone() -> None:
    def ask(seed: int) -> list[Chat]:
        return WRITER.ask(users(*SEEDS), users(*OWN), 3, seed)

    assert ask(1) == ask(1) != ask(2)
    assert len({str(chat) for chat in ask(1)}) == 3


def test_slots_in_a_task_are_text() -> None:
    (chat,) = WRITER.ask(users(*(f"{text} {{first}} {{tasks}}" for text in SEEDS[:8])), users(), 1, seed=0)
    assert chat[0]["content"].count("{first} {tasks}") == 8


def test_long_prompts_and_conversations_are_not_shown() -> None:
    talk = {"chat": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi!"}]}
    odd = pl.concat([users("rain " * 151), prompts_frame([talk], "people")])
    (chat,) = WRITER.ask(pl.concat([odd, users(*SEEDS[:8])]), users(), 1, seed=0)
    assert sorted(shown(chat)) == sorted(SEEDS[:8])
    with pytest.raises(
        RecipeError, match=r"shows 8 tasks at a time, but only 7 of 9 prompts are one message of at most"
    ):
        WRITER.ask(pl.concat([odd, users(*SEEDS[:7])]), users(), 1, seed=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shots": 2, "own_shots": 2},
        {"own_shots": -1},
        {"new": 0},
        {"rouge": 0.0},
        {"least_words": 0},
        {"least_words": 9, "most_words": 8},
        {"template": "Write something."},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match="SelfInstruct"):
        replace(WRITER, **wrong)  # type: ignore[arg-type]


def test_another_wording_or_model_is_another_proposer() -> None:
    others = [WRITER, replace(WRITER, template="{tasks}"), replace(WRITER, model=replace(MODEL, weights="x"))]
    assert len({other.name for other in others}) == 3


@pytest.fixture
def writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The toy recipe, whose prompts a proposer writes in rounds of 4 questions, and whose judge needs no reference."""
    monkeypatch.setattr(propose, "QUESTIONS", 4)
    judge = Rubric(model=Asked(weights=BASE, sampling=Sampling(n=1, temperature=0.7)))
    exam = replace(toy.exam, prompts=replace(toy.exam.prompts, side=4))  # type: ignore[type-var]
    return replace(
        toy,
        base=str(write_weights(tmp_path / "weights", 0.5, 1)),
        proposer=WRITER,
        prompts_per_iteration=30,
        sampling=Sampling(n=2, temperature=0.7),
        judges=(judge,),
        keep=(Correct(4.0),),
        exam=exam,
        gate=replace(toy.gate, promote="always"),
        batch=64,
    )


def spun(recipe: Recipe, home: Path, step: str | None = None) -> Store:
    """The store after the run, or after the first thing that `step` stored."""
    for progress in iterate(lambda iteration: recipe, home):
        if progress.step == step:
            break
    return Store(home / "flywheel.duckdb")


@pytest.mark.slow
def test_a_model_writes_the_prompts_of_every_iteration(writing: Recipe, tmp_path: Path) -> None:
    writer = replace(WRITER, rouge=0.6)
    store = spun(replace(writing, proposer=writer), tmp_path)
    rows = store.sql("""select i.number, p.id, p.chat, p.source, p.meta, g.role, g.text, g.checkpoint
                        from proposals r join iterations i on i.id = r.iteration join prompts p on p.id = r.prompt
                        left join generations g on g.id = p.meta->>'$.generation' order by i.number, r.position""")
    assert rows["number"].value_counts().sort("number").rows() == [(1, 30), (2, 30)]
    assert rows["id"].n_unique() == 60
    assert set(rows["source"]) == {writer.name} and set(rows["role"]) == {"proposal"}
    assert rows["checkpoint"].n_unique() == 1  # that of the base, in the second iteration too
    texts = [chat[0]["content"] for chat in rows["chat"].to_list()]
    assert all(text in said for text, said in zip(texts, rows["text"], strict=True))
    known = [chat[0]["content"] for chat in writing.prompts()["chat"].to_list()]
    for text in texts:
        assert all(rouge_l(text, other) < 0.6 for other in known)
        known.append(text)
    assert store.sql("select count(*) from generations where role = 'answer'").item() == 60 * 2
    own = store.sql("select chat from prompts where source = $source", {"source": f"proposer {writer.name}"})
    assert sum(any(f": {text}\n" in chat[0]["content"] for text in texts) for chat in own["chat"].to_list()) > 8
    note = store.sql("select detail from events where step = 'propose' order by iteration")["detail"]
    assert all(text.startswith("30 prompts written in ") and "dropped: " in text for text in note)


@pytest.mark.slow
def test_a_run_that_stops_after_any_round_ends_with_the_same_rows(writing: Recipe, tmp_path: Path) -> None:
    writing = replace(writing, batch=256, iterations=1, prompts_per_iteration=45)
    spun(writing, tmp_path / "calm")
    rounds = 0
    for _ in range(20):  # one stored thing more each time, then away
        steps = iterate(lambda iteration: writing, tmp_path / "stormy")
        stopped = next(steps)
        rounds += stopped.step == "propose"
        if stopped.step == "sample":
            list(steps)
            break
        steps.close()
    assert rounds > 2 and differences(tmp_path / "calm", tmp_path / "stormy") == []


RECIPE = """
'''A recipe for a kill.'''
from dataclasses import replace
from data.self_instruct import SelfInstruct
from flows.recipes.toy import recipe as toy
from flywheel.pipeline import propose
from flywheel import BASE, Asked, Gate, Sampling
propose.QUESTIONS = 4
model = Asked(weights=BASE, sampling=Sampling(temperature=0.8, max_tokens=256))
recipe = replace(toy, proposer=SelfInstruct(model=model), prompts_per_iteration=60, gate=Gate(promote="always"))
"""


@pytest.mark.slow
def test_killed_in_the_middle_of_a_round_and_run_again_the_rows_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_TOY_WEIGHTS", str(write_weights(tmp_path / "weights", 0.3, 1, delay=0.1)))
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    path, small = tmp_path / "writing.py", ("exam.prompts.side=2", "batch=64")
    path.write_text(RECIPE)
    finish(str(path), tmp_path / "calm", 1, small)
    for delay in (0.05, 0.0):
        hit = kill_at(launch(str(path), tmp_path / "stormy", 1, small), Moment(1, "propose", delay))
        assert hit == "parent in 1:propose"
        stored = Store(tmp_path / "stormy" / "flywheel.duckdb")
        assert 0 < stored.sql("select count(*) from proposals").item() < 60
    finish(str(path), tmp_path / "stormy", 1, small)
    assert differences(tmp_path / "calm", tmp_path / "stormy") == []


@pytest.mark.slow
def test_a_proposer_that_is_exhausted_is_told_with_all_reasons(writing: Recipe, tmp_path: Path) -> None:
    narrow = replace(writing, proposer=replace(WRITER, rouge=0.3, banned=("wheel",)), prompts_per_iteration=12)
    with pytest.raises(SourceError) as told:
        spun(narrow, tmp_path)
    message = str(told.value)
    assert (
        "is exhausted, as 12 prompts are wanted: " in message and " prompts written in 12 rounds; dropped: " in message
    )
    assert "(a ROUGE-L of 0.3 with another)" in message and "(a banned word)" in message and "\n" not in message
    store = Store(tmp_path / "flywheel.duckdb")
    asked = store.sql("select count(*) from generations where role = 'proposal'").item()
    assert asked == 12 * 4  # no question comes twice
    with pytest.raises(SourceError) as again:
        spun(narrow, tmp_path)
    assert str(again.value) == message  # from what is stored: nothing is asked again
    assert store.sql("select count(*) from generations where role = 'proposal'").item() == asked


@dataclass(frozen=True)
class Copier:
    """Writes what is in the exam, and four words of its own."""

    exam: tuple[str, ...]
    model: Asked = MODEL
    name: str = "copier"

    def ask(self, seeds: pl.DataFrame, written: pl.DataFrame, count: int, seed: int) -> list[Chat]:
        return [[{"role": "user", "content": f"Copy. {seed} {at}"}] for at in range(count)]

    def read(self, replies: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
        own = [" ".join(text.split()[:4]) for text in replies["text"]]
        new = prompts_frame(({"chat": [{"role": "user", "content": text}]} for text in (*self.exam, *own)), self.name)
        there = pl.when(pl.col("id").is_in(known["id"].implode())).then(pl.lit("there already"))
        return new.with_columns(reason=there).cast(WRITTEN)


@pytest.mark.slow
def test_what_comes_too_near_the_exam_is_not_worked_on(writing: Recipe, tmp_path: Path) -> None:
    exam = [chat[-1]["content"] for chat in writing.exam.prompts()["chat"].to_list()]
    copying = replace(writing, proposer=Copier(tuple(exam[:5])), prompts_per_iteration=20)
    store = spun(copying, tmp_path, "sample")
    worked_on = queries.proposed(store, store.sql("select id from iterations where number = 1").item())
    assert len(worked_on) == 20 and not set(worked_on["id"]) & set(writing.exam.prompts()["id"])
    note = store.sql("select detail from events where step = 'propose'").item()
    assert "(13 words in a row with the exam)" in note and int(note.split("dropped: ")[1].split()[0]) >= 5


@pytest.mark.slow
def test_seeds_near_the_exam_are_not_shown(writing: Recipe, tmp_path: Path) -> None:
    """A seed is known all the same: what is like it is not written anew."""
    long = "How many apples are there if one basket has twelve of them and the other one has"
    people, item = tmp_path / "people.jsonl", tmp_path / "exam.jsonl"
    item.write_text(json.dumps({"question": f"{long} 9?"}))
    texts = [f"{long} 9, do you know?", *SEEDS[:8]]
    people.write_text("\n".join(json.dumps({"question": text}) for text in texts))
    exam = replace(writing.exam, prompts=Jsonl(item, reference=None))
    recipe = replace(writing, prompts=Jsonl(people, reference=None), exam=exam, prompts_per_iteration=8)
    store = spun(recipe, tmp_path, "sample")
    asked = store.sql("select chat from prompts where source like 'proposer %'")["chat"].to_list()
    assert asked and all(SEEDS[0] in chat[0]["content"] and long not in chat[0]["content"] for chat in asked[:4])


def test_what_is_wrong_with_a_proposer_is_told_before_any_work(writing: Recipe) -> None:
    check_recipe(writing)
    few = replace(writing.prompts, side=1, last=7)  # type: ignore[type-var]
    with pytest.raises(RecipeError) as told:
        check_recipe(replace(writing, prompts=few, prompts_per_iteration=None))
    assert "prompts_per_iteration must say how many new prompts the proposer writes" in str(told.value)
    assert "proposer: SelfInstruct shows 8 tasks at a time, but only 7 of 7 prompts" in str(told.value)
    with pytest.raises(RecipeError, match="proposer must be a Proposer or None, not 'me'"):
        check_recipe(replace(writing, proposer="me"))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="prompts gives no prompts"):
        check_recipe(replace(writing, prompts=no_prompts))


def no_prompts() -> pl.DataFrame:
    return pl.DataFrame(schema=PROMPTS)
