"""The miniature's corpus: seeded, valid, and silent about held-out prompts."""

from __future__ import annotations

import ast
import random

import pytest
import yaml

from analysis.miniature import english, japanese, programs
from analysis.miniature.corpus import END, SPEAKERS, TURN, documents, prompts_from
from analysis.miniature.grammar import Grammar, parse, sentence_case
from analysis.places import DATA

PROMPTS = prompts_from(yaml.safe_load((DATA / "prompts.yaml").read_text(encoding="utf-8")))
ALLOWED = {"__future__", "matplotlib", "matplotlib.pyplot", "pandas", "yfinance"}


@pytest.mark.parametrize("workload", SPEAKERS)
def test_the_same_seed_gives_the_same_documents(workload):
    def some(seed, indices):
        return [item.chat() for item in documents(workload, indices, seed, PROMPTS[workload])]

    assert some(1, range(20)) == some(1, range(20))
    assert some(1, range(10, 20)) == some(1, range(20))[10:]
    assert some(1, range(20)) != some(2, range(20))


@pytest.mark.parametrize("workload", SPEAKERS)
def test_held_out_prompts_are_never_emitted_and_listed_ones_are(workload):
    questions = {item.question for item in documents(workload, range(1500), 3, PROMPTS[workload])}
    assert len(PROMPTS[workload].held_out) == 2
    assert not questions & PROMPTS[workload].held_out
    assert set(PROMPTS[workload].listed) <= questions


def test_a_grammar_that_would_say_a_held_out_prompt_is_asked_again(monkeypatch):
    held = sorted(PROMPTS["py_code"].held_out)[0]
    answers = iter([held, held, "another question"])
    monkeypatch.setattr(programs, "prompt", lambda rng: next(answers))
    monkeypatch.setattr("analysis.miniature.corpus.LISTED_SHARE", 0.0)
    [item] = documents("py_code", [0], 1, PROMPTS["py_code"])
    assert item.question == "another question"


def test_every_program_parses_and_imports_only_what_the_sandbox_has():
    rng = random.Random(4)
    seen = set()
    for _ in range(300):
        tree = ast.parse(programs.program(rng))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                seen |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                seen.add(node.module)
    assert seen <= ALLOWED
    assert {"pandas", "yfinance", "matplotlib.pyplot"} <= seen


def test_every_program_leaves_its_frame_in_a_module_level_name_prints_it_and_saves_a_chart():
    rng = random.Random(5)
    for _ in range(100):
        code = programs.program(rng)
        main = ast.parse(code).body[-1]
        assert isinstance(main, ast.If)
        assert isinstance(main.body[0], ast.Assign)
        name = main.body[0].targets[0].id
        assert f"print({name}.head())" in code
        assert "savefig(" in code
        assert '"monthly_return"' in code


def test_answers_follow_the_order_of_the_question():
    assert english.order_of("reverse repo first, then bank reserves and the TGA") == ["rrp", "reserves", "tga"]
    assert japanese.order_of("配当方針を中心に、NIMと含み損も") == ["dividend", "nim", "loss"]


def test_prose_has_no_grammar_left_in_it():
    rng = random.Random(6)
    for speaker in (english, japanese):
        for _ in range(200):
            text = speaker.answer(speaker.prompt(rng), rng)
            assert not set("{}@|<>") & set(text)
            assert "  " not in text


def test_answers_differ_from_each_other():
    for workload in SPEAKERS:
        answers = {item.answer for item in documents(workload, range(200), 7, PROMPTS[workload])}
        assert len(answers) == 200


def test_a_chat_document_is_two_closed_turns():
    [item] = documents("en_finance", [0], 8, PROMPTS["en_finance"])
    assert item.chat().startswith(f"<bos>{TURN}user\n{item.question}{END}\n{TURN}model\n")
    assert item.chat().count(TURN) == item.chat().count(END) == 2
    assert TURN not in item.plain()


def test_grammar_choices_options_numbers_and_rules():
    grammar = Grammar({"who": "{Fed|Bank}"}, skew=0.0)
    said = {grammar.say("@who {?really }says <1.0~1.2>", random.Random(n)) for n in range(200)}
    assert {text.replace("really ", "").split()[0] for text in said} == {"Fed", "Bank"}
    assert {float(text.split()[-1]) for text in said} <= {1.0, 1.1, 1.2}
    assert any("really" in text for text in said) and any("really" not in text for text in said)


def test_a_skewed_grammar_prefers_early_options():
    grammar = Grammar({}, skew=2.0)
    rng = random.Random(9)
    counts = [sum(grammar.say("{a|b}", rng) == letter for _ in range(1000)) for letter in "ab"]
    # weights 1 and 1/4: 80 % against 20 %
    assert 720 < counts[0] < 880


@pytest.mark.parametrize("template", ["{a|b", "a}b", "{?a"])
def test_unbalanced_templates_are_refused(template):
    with pytest.raises(ValueError):
        parse(template)


def test_sentence_case_keeps_the_rest():
    assert sentence_case("in 2025  the TGA rose .") == "In 2025 the TGA rose."
