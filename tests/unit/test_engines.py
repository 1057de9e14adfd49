"""Engines: one object each; what llama.cpp says and is told; and a new engine is one file and one row."""

import shlex
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis.errors import CountersError, ParamsError
from analysis.measure import campaign
from analysis.measure.counters import parse
from analysis.records.store import Store
from analysis.servers import engines, external, render, web
from analysis.servers.engines.base import Ledger
from analysis.study import engines as table
from analysis.study import plan, study_file

sys.path.insert(0, str(Path(__file__).parent))
from scripted import MODEL, chunk, serving, usage, words


def made(flavour="llama.cpp", url="http://127.0.0.1:8080", server=None, **changes):
    given = {
        "study": "engines",
        "title": "Some engine",
        "target": {"model": "models/gemma-4-26b.gguf"},
        "drafter": {"model": "models/mtp.gguf"},
        "server": {"backend": "external", "url": url, "flavour": flavour, "start_minutes": 0.02, **(server or {})},
        "workloads": ["en_finance"],
        "k_values": [3],
        "k": 3,
        "concurrency": [1],
        "repeats": 1,
        "timing_tokens": 6,
        "code_programs": 0,
        "greedy_tokens": 0,
    }
    return plan.make(study_file.validate({**given, **changes}))


def arm(k, **more):
    return next(a for a in made(**more).arms if a.k == k)


@pytest.mark.parametrize("name", table.ENGINES)
def test_every_row_of_the_table_has_its_engine(name):
    assert engines.named(name).name == name


def test_an_unknown_engine_is_refused_with_the_known_ones():
    with pytest.raises(ParamsError, match="vllm, llama.cpp"):
        made("sglang")


def test_no_module_outside_the_engines_asks_which_engine_it_is():
    source = Path(engines.__file__).parents[2]
    asking = [p for p in source.rglob("*.py") if "server.flavour" in p.read_text(encoding="utf-8")]
    assert [p.relative_to(source).as_posix() for p in asking] == ["servers/engines/__init__.py", "study/engines.py"]


# -- llama.cpp -----------------------------------------------------------------------------------------------------


def test_the_launch_of_llama_cpp_has_todays_flags():
    words_ = shlex.split(render.launch(arm(3, server={"served_model_name": "gemma"}), "external"))
    for pair in (
        ["--model", "models/gemma-4-26b.gguf"],
        ["--alias", "gemma"],
        ["--model-draft", "models/mtp.gguf"],
        ["--spec-type", "draft-mtp"],
        ["--spec-draft-n-max", "3"],
        ["--reasoning", "off"],
        ["--port", "8080"],
    ):
        at = words_.index(pair[0])
        assert words_[at : at + 2] == pair
    assert "--no-cache-prompt" in words_ and "--draft-max" not in words_
    baseline = render.launch(arm(0), "external")
    assert "--spec" not in baseline and "--model-draft" not in baseline


def test_draft_n_is_a_total_and_not_k():
    seen = engines.base.Seen(models=(engines.base.Model("models/gemma-4-26b.gguf"),), drafts=True)
    engine = engines.named("llama.cpp")
    assert engine.facts(seen).k is None and engine.mismatch(arm(3), seen) == ""
    ledger = engine.ledger({"timings": {"draft_n": 208, "draft_n_accepted": 150}}, Ledger())
    assert (ledger.draft_tokens, ledger.accepted_tokens) == (208, 150)


def test_a_real_answer_of_llama_cpp_is_counted():
    """The end of an answer of llama-server (commit 0c1e570) with the miniature's MTP drafter, K = 4: 24 tokens are one
    from the prompt, 9 of steps and 14 accepted.
    """
    timings = {"cache_n": 0, "prompt_n": 29, "predicted_n": 24, "draft_n": 28, "draft_n_accepted": 14}
    end = {"choices": [], "usage": {"completion_tokens": 24, "prompt_tokens": 29}, "timings": timings}
    engine = engines.named("llama.cpp")
    ledger = engine.ledger(end, Ledger())
    assert (ledger.draft_tokens, ledger.accepted_tokens, ledger.cached_tokens) == (28, 14, 0)
    totals = {"draft_tokens": 28, "accepted_tokens": 14, "cached_tokens": 0}
    answer = SimpleNamespace(completion_tokens=24, prompt_tokens=29, **totals)
    counted = engine.of_answers([answer], 4)
    assert (counted.drafts, counted.accepted, counted.generation_tokens) == (9, 14, 24)


@pytest.mark.parametrize("timings", [[], {"draft_n": "3"}, {"draft_n": -1}, {"draft_n": 3, "draft_n_accepted": 4}])
def test_odd_timings_are_refused(timings):
    with pytest.raises(ValueError, match=r"timings|draft_n"):
        engines.named("llama.cpp").ledger({"timings": timings}, Ledger())


def test_the_list_of_llama_cpp_is_looked_at():
    with serving(models=("Qwen",)) as (url, script):
        it = arm(3, url=url, server={"served_model_name": MODEL})
        assert external.mismatch(it, external.look(url, it)) == "it serves Qwen, not served"
        assert script.seen == []  # another model is not made to answer
    by_file = engines.base.Seen(models=(engines.base.Model("gemma-4-26b.gguf"),), drafts=True)
    assert external.mismatch(arm(3), by_file) == ""


def test_a_drafter_that_llama_cpp_dropped_is_told_with_the_usual_reason():
    seen = engines.base.Seen(models=(engines.base.Model("gemma-4-26b.gguf"),), drafts=False)
    assert "memory for the drafter's context" in external.mismatch(arm(3), seen)


# -- vLLM's counters -------------------------------------------------------------------------------------------------


def page(*models, tokens=10):
    names = ["generation_tokens_total", "prompt_tokens_total", "prefix_cache_hits_total", "num_preemptions_total"]
    names += ["num_requests_running"]
    return "".join(f'vllm:{n}{{model_name="{m}"}} {tokens * (i + 1)}\n' for i, m in enumerate(models) for n in names)


def test_counters_of_another_model_beside_ours_are_left_out():
    assert parse(page("ours", "other"), 0, "ours").generation_tokens == 10
    assert parse(page("ours"), 0, "an alias of it").generation_tokens == 10
    with pytest.raises(CountersError, match="tokens of 2 models"):
        parse(page("one", "other"), 0, "ours")
    with pytest.raises(CountersError, match="tokens of 2 models"):
        parse(page("one", "other"), 0)


ODD = [
    "# HELP  b\n# TYPE a counter\n",
    '# HELP a b\n# TYPE a counter\nvllm:cache_size_tokens="123",enable_prefix_caching="False"} 1.0\n',
    'vllm:generation_tokens_total{a="b" 1lm:x{posi al{e="0"} 10.0\n',
    'vllm:spec_decode_num_accepted_tokens_per_pos_total{position="x"} 1\n',
    "vllm:generation_tokens_total 1e400\n",
    "vllm:num_requests_running NaN\n",
    "{}{}{}\n",
    "\x00\n",
]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_page_of_metrics_gives_counters_or_one_clear_error(odd):
    for text in (odd, page("m") + odd, odd + page("m")):
        try:
            parse(text, 2)
        except CountersError as error:
            assert error.what and error.fix


@pytest.mark.parametrize("odd", ODD)
def test_a_server_with_odd_metrics_is_none_that_can_be_measured(odd):
    with serving(pages={"/metrics": (200, odd.encode())}) as (url, _):
        seen = external.look(url)
        assert seen is None or seen.k in (0, 1)


# -- a new engine ----------------------------------------------------------------------------------------------------

TOY = """
from analysis.servers.engines.base import Engine, Ledger, Seen, count


class Toy(Engine):
    name = "toy"

    def body(self, sampling, chat):
        return {**super().body(sampling, chat), "ignore_eos": sampling.ignore_eos}

    def ledger(self, chunk, known):
        drafted = chunk.get("drafted")
        return known if drafted is None else Ledger(draft_tokens=count(drafted, "drafted"))

    def command(self, arm):
        return ["toy-server", arm.target.model]


ENGINE = Toy()
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text(textwrap.dedent(TOY))
    monkeypatch.setattr(engines, "__path__", [*engines.__path__, str(tmp_path)])
    monkeypatch.setitem(table.ENGINES, "toy", "toy")
    yield
    sys.modules.pop("analysis.servers.engines.toy", None)


def test_a_new_engine_is_one_file_and_one_row(toy, tmp_path):
    def answer(server):
        tokens = server.seen[-1]["max_tokens"]
        return [*words(tokens), chunk(finish="length"), usage(tokens, drafted=0), "[DONE]"]

    with serving() as (url, server):
        server.events = lambda: answer(server)
        it = made("toy", url, {"served_model_name": MODEL})
        records = Store("engines", root=tmp_path)
        baseline = [c for c in it.cells if c.arm.k == 0]
        campaign.ensure(it, baseline, records)
        assert (records.frames(baseline).cells.status == "ok").all()
        assert all(body["ignore_eos"] and body["model"] == MODEL for body in server.seen)
    assert "toy-server models/gemma-4-26b.gguf" in (records.folder / "launches/baseline.1.1/server.log").read_text()


# -- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "[-Infinity]", "[1e999]", "[" * 10**5, "{", "\ud800x"])
def test_json_of_a_server_is_sound_or_a_value_error(text):
    with pytest.raises(ValueError):
        web.loads(text.encode(errors="surrogatepass"))
