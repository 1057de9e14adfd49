"""Prompts are filled to a measured length, question last; exact counts by tokenizers that can be counted by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import ClientError, ParamsError
from analysis.measure import fill
from analysis.study import axes, neutral, plan
from analysis.study.axes import Context

TEMPLATE = 7  # tokens that a chat template adds around any prompt


def by_words(text: str) -> int:
    return TEMPLATE + len(text.split())


def by_characters(text: str) -> int:
    return TEMPLATE + len(text)


@given(st.integers(60, 3000), st.sampled_from(["en", "ja", "python"]), st.integers(0, 9))
def test_a_prompt_has_exactly_the_wanted_tokens_and_ends_with_its_question(tokens, language, seed):
    for count in (by_words, by_characters):
        if count is by_words and language == "ja":
            continue  # its words have no spaces between them
        text = fill.fill(Context(tokens, language), "What is the answer?", seed, count)
        assert text.endswith("\n\nWhat is the answer?")
        assert count(text) == tokens


@given(st.integers(100, 4000), st.lists(st.integers(1, 40), min_size=1, max_size=50))
def test_tokens_of_uneven_length_are_filled_as_far_as_they_go_and_no_further(tokens, sizes):
    """Tokens of up to 40 characters: the count stands still for 40 characters, and the next one is too much."""

    def count(text: str) -> int:
        whole, rest = divmod(len(text), sum(sizes))
        return TEMPLATE + whole * len(sizes) + sum(sum(sizes[: i + 1]) <= rest for i in range(len(sizes)))

    asked = []
    text = fill.fill(Context(tokens, "en"), "Why?", 1, lambda t: asked.append(t) or count(t))
    assert count(text) <= tokens and count("x" + text) >= tokens
    assert len(asked) < 40


def test_a_long_context_is_found_by_few_counts():
    asked = []
    fill.fill(Context(100_000, "en"), "Why?", 1, lambda t: asked.append(t) or by_words(t))
    assert len(asked) <= 14


def test_a_question_longer_than_the_context_says_how_long_it_is():
    with pytest.raises(ParamsError, match="A context of 32 tokens is too short: a question alone has 57"):
        fill.fill(Context(32, "en"), "word " * 50, 1, by_words)


def test_a_document_is_used_once_and_one_that_is_too_short_says_how_far_it_goes(tmp_path):
    file = tmp_path / "manual.txt"
    file.write_text("press the green button " * 30)  # 120 words
    text = fill.fill(Context(100, "", str(file)), "Which button?", 1, by_words)
    assert by_words(text) == 100 and text.startswith("press the green button press")
    with pytest.raises(ParamsError, match="fills 129 tokens, and 400 are wanted") as error:
        fill.fill(Context(400, "", str(file)), "Which button?", 1, by_words)
    assert "longer document" in error.value.fix


def test_each_seed_has_another_text_and_arms_share_it():
    one, again, other = (fill.fill(Context(300, "en"), "Why?", seed, by_words) for seed in (1, 1, 2))
    assert one == again != other


def test_a_filler_counts_a_prompt_once_however_often_it_is_sent(build):
    made = plan.make(build.study(context_tokens=[300], repeats=2))
    cells = [c for c in made.cells if c.context]
    counted = []
    filler = fill.Filler(lambda text: counted.append(text) or by_words(text))
    sent = [filler.cell(c) for c in cells]
    first = len(counted)
    assert [filler.cell(c) for c in cells] == sent and len(counted) == first
    assert {by_words(r.text) for c in sent for r in c.requests} == {300}
    plain = next(c for c in made.cells if c.experiment == "timing")
    assert filler.cell(plain) is plain


def test_a_server_without_a_tokenizer_endpoint_is_named(build):
    arm = plan.make(build.study()).arms[0]
    with pytest.raises(ClientError, match="does not count the tokens") as error:
        fill.of_server("http://127.0.0.1:9", "m", arm).cell(
            next(c for c in plan.make(build.study(context_tokens=[64])).cells if c.context)
        )
    assert "/tokenize" in error.value.fix


@pytest.mark.parametrize(("read", "said"), [(300, ""), (303, ""), (297, ""), (304, "read 304"), (296, "read 296")])
def test_a_measured_length_may_be_a_hundredth_away(build, read, said):
    cell = next(c for c in plan.make(build.study(context_tokens=[300])).cells if c.context)
    assert said in fill.misses(cell, [300, read]) and bool(fill.misses(cell, [300, read])) == bool(said)


# -- the text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "ja", "python"])
def test_neutral_text_hardly_repeats_itself_and_a_short_one_begins_a_long_one(language):
    long = neutral.text(language, 3, 40_000)
    assert long.startswith(neutral.text(language, 3, 1_234)) and len(long) == 40_000
    end = {"en": ". ", "ja": "。", "python": "\n\n"}[language]
    parts = long.split(end)
    assert len(set(parts)) > 0.9 * len(parts)


def test_neutral_python_is_python():
    compile(neutral.text("python", 1, 30_000).rsplit("\n\n", 2)[0], "neutral", "exec")


def test_a_language_without_a_text_of_its_own_is_filled_in_english():
    assert neutral.text("html", 1, 500) == neutral.text("en", 1, 500)


# -- the plan ----------------------------------------------------------------------------------------------------


def test_the_axes_counted_by_hand(build):
    # arms: baseline, K = 1, K = 2; 2 workloads x 2 repeats; 3 contexts and 2 lengths of answer
    axes_on = {"context_tokens": [64, 128, 256], "output_tokens": [4, 40]}
    made = plan.make(build.study(workloads=["py_code", "en_finance"], repeats=2, **axes_on))
    kinds = [c.experiment for c in made.cells]
    assert {k: kinds.count(k) for k in ("timing", "context", "output")} == {"timing": 12, "context": 36, "output": 24}
    assert {c.context.tokens for c in made.cells if c.experiment == "output"} == {256}, (
        "answers: at the longest context"
    )
    assert {c.sampling.max_tokens for c in made.cells if c.experiment == "context"} == {20}
    assert len({c.id for c in made.cells}) == len(made.cells)
    assert len(made.needed("context")) == 60


def test_a_study_without_axes_has_the_hash_and_the_cells_it_had(build):
    plain = build.study()
    assert "context" not in {c.experiment for c in plan.make(plain).cells}
    assert plain.hash == build.study(context_tokens=[], output_tokens=[], context_document=None).hash
    assert plain.hash != build.study(context_tokens=[64]).hash
    timing = {c.id for c in plan.make(plain).cells}
    assert timing < {c.id for c in plan.make(build.study(context_tokens=[64])).cells}


def test_without_contexts_answers_of_other_lengths_follow_the_plain_prompt(build):
    cells = [c for c in plan.make(build.study(output_tokens=[4])).cells if c.experiment == "output"]
    assert {c.context for c in cells} == {None} and {c.sampling.max_tokens for c in cells} == {4}


def test_the_identity_holds_the_document_s_text_and_not_its_place(build, tmp_path):
    def ids(file):
        made = plan.make(build.study(context_tokens=[64], context_document=str(file)))
        return {c.id for c in made.cells if c.context}

    files = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    for file, text in zip(files, ("one text", "one text", "another"), strict=True):
        file.write_text(text)
    assert ids(files[0]) == ids(files[1]) != ids(files[2])


def test_a_context_that_does_not_fit_the_server_says_what_would(build):
    with pytest.raises(ParamsError) as error:
        build.study(context_tokens=[512, 4096], timing_tokens=200, server={"max_model_len": 4096})
    assert "a context of 4096 tokens and an answer of 200 do not fit server.max_model_len (4096)" in error.value.why
    assert "raise it to 4296" in error.value.why


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), (b"", "is empty"), (b"\xff\xfe", "is not text"), (b"a\0b", "is not text")],
)
def test_a_document_that_cannot_be_used_is_one_sentence(tmp_path, content, said):
    file = tmp_path / "document.txt"
    if content is not None:
        file.write_bytes(content)
    axes.read.cache_clear()
    with pytest.raises(ParamsError, match=said):
        axes.read(str(file))
