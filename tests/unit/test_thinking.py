"""Thinking off and on: the switch is sent, thought and answer are told apart; numbers by hand."""

import json

import pytest

from analysis.errors import ParamsError
from analysis.science import thinking
from analysis.servers import engines, machine, preflight
from analysis.show import thinking as shown
from analysis.study import own, plan


def test_each_switch_is_measured_by_its_own_and_stops_naturally(build):
    made = plan.make(build.study(thinking=[False, True], repeats=2))
    cells = made.needed("thinking")
    # 3 arms x 1 workload x 2 repeats x 2 switches
    assert len(cells) == 12 and {c.sampling.thinking for c in cells} == {False, True}
    assert {(c.sampling.max_tokens, c.sampling.ignore_eos) for c in cells} == {(80, False)}
    assert {
        c.sampling.max_tokens for c in plan.make(build.study(thinking=[True], thinking_tokens=50)).needed("thinking")
    } == {50}
    assert plan.make(build.study()).needed("thinking") == []


@pytest.mark.parametrize("flavour", ["vllm", "llama.cpp"])
def test_the_switch_is_sent_only_where_it_was_asked_for(build, flavour):
    engine = engines.named(flavour)
    made = plan.make(build.study(thinking=[False, True]))
    sent = {c.sampling.thinking: engine.body(c.sampling, True).get("chat_template_kwargs") for c in made.cells}
    assert sent[True] == {"enable_thinking": True} and sent[False] == {"enable_thinking": False}
    assert sent[None] == (None if flavour == "vllm" else {"enable_thinking": False})
    assert all("chat_template_kwargs" not in engine.body(c.sampling, False) for c in made.cells if flavour == "vllm")


def test_a_study_without_the_axis_keeps_its_hash_and_its_cells(build):
    assert (
        build.study().hash == build.study(thinking=[], thinking_tokens=None).hash != build.study(thinking=[True]).hash
    )
    with pytest.raises(ParamsError):
        build.study(thinking=["loud"])


@pytest.fixture(scope="module")
def table(build):
    """A thought of 3 chunks (1 + 2 steps that accept 3 and 1) and an answer of 4 steps that accept 1 each; 1 s a step."""
    at = {"experiment": "thinking", "thinks": "on", "k": 4, "ttft": 0.5, "last": 6.5, "seconds": 6.5}
    talk = {"chunks": 7, "thinking_chunks": 3, "gaps": [1.0] * 6, "steps_accepted": [3, 1, 1, 1, 1, 1]}
    base = {**at, "k": 0, "last": 10.5, "seconds": 10.5, "completion_tokens": 11}
    rows = [
        {**at, **talk, "steps_drafted": [4] * 6, "completion_tokens": 15},
        {
            **at,
            "thinks": "off",
            "chunks": 3,
            "gaps": [3.0] * 2,
            "steps_accepted": [2, 0],
            "steps_drafted": [4, 4],
            "completion_tokens": 5,
        },
        {**base, "chunks": 11, "thinking_chunks": 6, "gaps": [1.0] * 10},
    ]
    return thinking.by_part(build.requests(*rows)).set_index(["k", "thinks", "part"])


def test_thought_and_answer_have_their_own_tokens_speed_and_acceptance(table):
    thought, answer = table.loc[(4, "on", "thought")], table.loc[(4, "on", "answer")]
    # thought: 1 token with the prompt, 2 steps with 4 accepted = 7 tokens, of which 6 in 2 s
    assert (thought.tokens, thought.seconds, thought.tok_s, thought.al) == pytest.approx((7, 2.0, 3.0, 3.0))
    # answer: 4 steps with 4 accepted = 8 tokens in 4 s
    assert (answer.tokens, answer.seconds, answer.tok_s, answer.al) == pytest.approx((8, 4.0, 2.0, 2.0))


def test_with_thinking_off_all_is_answer_and_the_baseline_has_no_acceptance(table):
    assert (4, "off", "thought") not in table.index
    off = table.loc[(4, "off", "answer")]
    assert (off.tokens, off.tok_s, off.al) == pytest.approx((5, 4 / 6, 2.0))
    base = table.loc[(0, "on", "thought")]
    assert (base.tokens, base.seconds, base.tok_s) == pytest.approx((6, 5.0, 1.0)) and base.al != base.al


def test_what_is_said_has_the_numbers(table, build):
    assert "MTP with K = 4 on Python code: 3.00 tokens per step in the thought, 2.00 in the answer" in shown.compared(
        table.reset_index()
    )
    none = thinking.by_part(build.requests({"k": 0}))
    assert "set `thinking: [off, on]`" in shown.compared(none) and shown.parts(none) is None


def checks(build, tmp_path, template, **study):
    for folder in ("target",):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "chat_template.jinja").write_text(template)
    own.read.cache_clear()
    made = plan.make(build.study(target={"model": str(tmp_path / "target")}, **study))
    return {c.name: c for c in preflight.run(made, machine.Machine())}


def test_a_template_without_a_switch_is_refused_before_anything_starts(build, tmp_path):
    assert checks(build, tmp_path, "{{ messages }}", thinking=[True])["thinking"].verdict == "fail"
    found = checks(build, tmp_path, "{% if enable_thinking %}think{% endif %}", thinking=[False, True])["thinking"]
    assert found.verdict == "warn" and "--reasoning-parser" in found.fix


def test_a_template_that_refuses_a_role_is_quoted(build, tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]}))
    own_prompts = {"workloads": [{"name": "tickets", "file": str(file)}]}
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    found = checks(build, tmp_path, refuses, **own_prompts)["chat template and own prompts"]
    assert found.verdict == "fail" and "System role not supported" in found.evidence
    assert checks(build, tmp_path, "{{ messages }}", **own_prompts)["chat template and own prompts"].verdict == "ok"
    assert checks(build, tmp_path, "{{ messages }}", **own_prompts)["own conversations"].verdict == "fail", (
        "not sent whole yet"
    )
