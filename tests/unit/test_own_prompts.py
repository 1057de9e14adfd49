"""A user's own prompt files: every form is read, every fault is one sentence with its line, before anything is launched."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import ParamsError
from analysis.show import words
from analysis.study import own, plan
from analysis.study.own import PromptFile


@pytest.fixture
def file(tmp_path):
    """file("tickets.jsonl", content) -> its path."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def read(file, seed=42, **more):
    own.read.cache_clear()
    return own.read(PromptFile(name="tickets", file=file, **more), seed)


def lines(*rows):
    return "\n".join(json.dumps(r) for r in rows) + "\n"


# -- forms -----------------------------------------------------------------------------------------------------------


def test_jsonl_of_prompts_with_their_own_ids_and_lengths(file):
    path = file("t.jsonl", lines({"prompt": "One?"}, {"prompt": "Two?", "id": "b", "max_tokens": 7, "category": "x"}))
    found = read(path, max_tokens=50).prompts
    assert [(p.id, p.text, p.max_tokens) for p in found] == [("tickets-1", "One?", 50), ("b", "Two?", 7)]


def test_jsonl_of_conversations_ends_with_what_is_asked(file):
    talk = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}]
    talk += [{"role": "assistant", "content": "Hi."}, {"role": "user", "content": "And now?"}]
    (found,) = read(file("t.jsonl", lines({"messages": talk}))).prompts
    assert found.text == "And now?" and found.messages[0] == ("system", "Be short.")


def test_csv_with_quotes_and_line_breaks(file):
    text = 'id,prompt,max_tokens\na,"One, two\nthree?",9\nb,Four?,\n'
    found = read(file("t.csv", text)).prompts
    assert [(p.id, p.text, p.max_tokens) for p in found] == [("a", "One, two\nthree?", 9), ("b", "Four?", None)]


def test_plain_text_is_one_prompt_a_file(file, tmp_path):
    file("many/b.txt", "Second?\n")
    file("many/a.md", "First?")
    file("many/notes.bin", b"\0")
    assert [(p.id, p.text) for p in read(str(tmp_path / "many")).prompts] == [("a", "First?"), ("b", "Second?")]
    assert [p.id for p in read(file("one.txt", "Only this?")).prompts] == ["one"]


def test_a_sample_comes_from_the_seed_and_keeps_the_order(file):
    path = file("t.jsonl", lines(*({"prompt": f"{n}?"} for n in range(50))))
    first, again, other = (read(path, seed, sample=12).prompts for seed in (1, 1, 2))
    assert len(first) == 12 and first == again != other
    assert [p.id for p in first] == sorted((p.id for p in first), key=lambda i: int(i.split("-")[1]))


@given(st.lists(st.text(min_size=1).filter(lambda t: t.strip() and "\0" not in t), min_size=1, max_size=5))
def test_whatever_is_written_as_jsonl_is_read_back(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("own") / "t.jsonl"
    path.write_text(lines(*({"prompt": t} for t in texts)), encoding="utf-8")
    assert [p.text for p in read(str(path)).prompts] == [t.strip() for t in texts]


def test_japanese_is_seen(file):
    assert read(file("t.txt", "日銀の政策について教えてください。")).language == "ja"
    assert read(file("u.txt", "Explain the policy.")).language == "en"


# -- faults ----------------------------------------------------------------------------------------------------------

FAULTS = {
    "empty": ("t.jsonl", b"", "is empty"),
    "blank": ("t.jsonl", b"\n \n", "is empty"),
    "binary": ("t.jsonl", b"\x89PNG\r\n\xff", "is not text"),
    "zero byte": ("t.jsonl", b'{"prompt": "a"}\0', "is not text"),
    "not JSONL": ("t.jsonl", b'{"prompt": "a"}\n{"prompt": \n', "is not JSON in line 2"),
    "a list": ("t.jsonl", b'["a"]\n', "has no prompt in line 1"),
    "both forms": ("t.jsonl", b'{"prompt": "a", "messages": []}\n', "has no prompt in line 1"),
    "mixed forms": (
        "t.jsonl",
        b'{"prompt": "a"}\n{"messages": [{"role": "user", "content": "b"}]}\n',
        "mixes two forms: line 1 and line 2",
    ),
    "10 MB": ("t.jsonl", b'{"prompt": "' + b"a" * 10 * 2**20 + b'"}\n', "has 10 MB in line 1"),
    "ids twice": (
        "t.jsonl",
        b'{"prompt": "a", "id": 1}\n{"prompt": "b", "id": "1"}\n',
        "has the id '1' twice: line 1 and line 2",
    ),
    "empty prompt": ("t.jsonl", b'{"prompt": "  "}\n', "has an empty prompt in line 1"),
    "no number": ("t.jsonl", b'{"prompt": "a", "max_tokens": "many"}\n', "has a max_tokens in line 1"),
    "zero tokens": ("t.jsonl", b'{"prompt": "a", "max_tokens": 0}\n', "has a max_tokens in line 1"),
    "no role": ("t.jsonl", b'{"messages": [{"content": "a"}]}\n', "has messages in line 1 that are no conversation"),
    "tool role": ("t.jsonl", b'{"messages": [{"role": "tool", "content": "a"}]}\n', "are no conversation"),
    "nothing asked": (
        "t.jsonl",
        b'{"messages": [{"role": "assistant", "content": "a"}]}\n',
        "with a message of the assistant",
    ),
    "no column": ("t.csv", b"question\na\n", "has no column 'prompt'"),
    "too many fields": ("t.csv", b"prompt\na,b\n", "is not CSV in line 2"),
    "open quote": ("t.csv", b'prompt\n"a\n', "is not CSV in line"),
    "unknown kind": ("t.parquet", b"PAR1", "has a name of no known kind"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_file_is_one_screen(file, name):
    place, content, said = FAULTS[name]
    with pytest.raises(ParamsError) as error:
        read(file(place, content))
    assert said in error.value.what and "workload tickets" in error.value.what
    assert len(str(error.value).splitlines()) <= 4 and error.value.fix


def test_a_missing_file_says_what_is_there_instead(file, tmp_path):
    file("ticket.jsonl", "{}")
    with pytest.raises(ParamsError, match="cannot be read") as error:
        read(str(tmp_path / "tickets.jsonl"))
    assert "ticket.jsonl" in error.value.why


def test_a_study_with_a_faulty_file_fails_when_it_is_planned(build, tmp_path):
    study = build.study(workloads=["py_code", {"name": "tickets", "file": str(tmp_path / "none.jsonl")}])
    with pytest.raises(ParamsError, match="cannot be read"):
        plan.make(study)


@pytest.mark.parametrize(
    ("workloads", "said"),
    [
        ([{"name": "py_code", "file": "a"}], "'py_code' is taken"),
        ([{"name": "a", "file": "a"}, {"name": "a", "file": "b"}], "taken"),
        ([{"name": "a"}], "'prompt_files.0': 'file' is missing"),
        ([{"name": "a", "file": "b", "tokens": 3}], "not a parameter"),
        ([{"name": "A B", "file": "b"}], "prompt_files.0.name"),
    ],
)
def test_a_mistake_in_the_study_is_one_sentence(build, workloads, said):
    with pytest.raises(ParamsError) as error:
        build.study(workloads=workloads)
    assert said in error.value.why


# -- the plan --------------------------------------------------------------------------------------------------------


def test_own_workloads_are_planned_as_any_other_and_have_their_title(build, file):
    path = file("t.jsonl", lines({"prompt": "One?"}, {"prompt": "Two?", "max_tokens": 7}, {"prompt": "Three?"}))
    own.read.cache_clear()
    spec = {"name": "tickets", "file": path, "title": "Support tickets", "max_tokens": 11}
    made = plan.make(build.study(workloads=["py_code", spec]))
    timing = [c for c in made.cells if c.experiment == "timing" and c.workload == "tickets" and c.arm.k == 0]
    assert {c.sampling.max_tokens: len(c.requests) for c in timing} == {7: 1, 11: 2}
    assert words.workload("tickets") == "Support tickets"
    assert {c.workload for c in made.cells if c.experiment == "concurrency"} == {"py_code", "tickets"}


def test_the_identity_is_of_the_text_not_of_the_place(build, file):
    def ids(path):
        own.read.cache_clear()
        return {c.id for c in plan.make(build.study(workloads=[{"name": "tickets", "file": path}])).cells}

    same = lines({"prompt": "One?", "id": "a"})
    assert (
        ids(file("x/t.jsonl", same))
        == ids(file("y/u.jsonl", same))
        != ids(file("z/t.jsonl", same.replace("One", "Two")))
    )


def test_a_conversation_is_sent_whole_and_is_part_of_the_identity(build, file):
    def request(system):
        own.read.cache_clear()
        talk = [{"role": "system", "content": system}, {"role": "user", "content": "Now?"}]
        made = plan.make(
            build.study(workloads=[{"name": "tickets", "file": file("t.jsonl", lines({"messages": talk}))}])
        )
        return made.cells[0].requests[0], made.cells[0].id

    (one, first), (_, second) = request("Be short."), request("Be long.")
    assert one.conversation() == [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Now?"}]
    assert first != second


def test_an_answer_that_does_not_fit_is_refused_before_anything_starts(build, file):
    own.read.cache_clear()
    path = file("t.jsonl", lines({"prompt": "One?", "max_tokens": 4096}))
    with pytest.raises(ParamsError, match="An answer of 4096 tokens"):
        plan.make(build.study(workloads=[{"name": "tickets", "file": path}], server={"max_model_len": 2048}))


def test_a_study_that_uses_every_axis_at_once_counted_by_hand(build, file):
    own.read.cache_clear()
    path = file("t.jsonl", lines({"prompt": "One?"}, {"prompt": "Two?", "max_tokens": 7}))
    made = plan.make(
        build.study(
            workloads=["py_code", {"name": "tickets", "file": path}],
            speculators=["none", "mtp", {"method": "ngram", "k_values": [4]}],
            context_tokens=[64, 128],
            output_tokens=[4, 40],
            thinking=[False, True],
            repeats=2,
            launches=2,
        )
    )
    kinds = [c.experiment for c in made.cells]
    # 4 arms (baseline, MTP at K = 1 and 2, n-gram at 4) in 2 launches with 2 repeats: 16 of every point.
    # timing: py_code, and tickets at two lengths of answer: 3 points. each axis: 2 workloads x 2 values: 4 points.
    # load: 2 arms (baseline, K = 2) x 2 launches x 2 workloads x 2 levels.
    assert {k: kinds.count(k) for k in set(kinds)} == {
        "timing": 48,
        "context": 64,
        "output": 64,
        "thinking": 64,
        "concurrency": 16,
    }
    assert len(made.launches()) == 8 and len({c.id for c in made.cells}) == 256
    # prompt tokens at 2000 a second, answers at 30 tokens a second (half as many again with drafts), 8 starts of 180 s
    assert made.minutes() > 8 * 180 / 60
