"""Arms whose engine chooses K or the verification: their names, flags, what is refused, and what their counters mean."""

import pytest

from analysis.errors import ParamsError
from analysis.servers import launch
from analysis.study import engine_k, plan
from analysis.study.study_file import load_study, validate

NAME = "h200-miniature-load"


def study(**changes):
    raw = load_study(NAME).model_dump(mode="json")
    return validate({**raw, **changes})


def arms(**changes):
    return {a.name: a for a in plan.make(study(**changes)).arms}


def server(**changes):
    return {**load_study(NAME).server.model_dump(mode="json"), **changes}


def refused(**changes) -> ParamsError:
    with pytest.raises(ParamsError) as error:
        arms(**changes)
    assert len(str(error.value).splitlines()) <= 12
    return error.value


def test_one_line_gives_an_arm_for_each_way_beside_those_of_fixed_k():
    assert set(arms()) == {
        *("baseline", "mtp-k1", "mtp-k2", "mtp-k4"),
        *("mtp-k4@by-batch", "mtp-k4@adaptive", "mtp-k4@block"),
    }


def test_the_launch_says_what_the_engine_is_to_do():
    found = {n: launch.speculative_config(a) for n, a in arms().items()}
    table = [[1, 32, 4], [33, 128, 2], [129, 256, 1]]
    assert found["mtp-k4@by-batch"]["num_speculative_tokens_per_batch_size"] == table
    assert found["mtp-k4@adaptive"]["enable_adaptive_verification"] is True
    assert found["mtp-k4@block"]["rejection_sample_method"] == "block"
    assert set(found["mtp-k4"]) == {"method", "model", "num_speculative_tokens"}


def test_a_study_without_the_line_keeps_its_hash_and_its_arms():
    before = load_study("miniature")
    assert before.hash == "b5e306da78f9"
    assert before.hash != before.model_copy(update={"engine_k": ("block",)}).hash


@pytest.mark.parametrize(("streams", "k"), [(1, 4), (32, 4), (33, 2), (128, 2), (129, 1), (400, 1)])
def test_the_table_gives_k_at_a_load(streams, k):
    assert engine_k.tokens_at(arms()["mtp-k4@by-batch"].speculative, 4, streams) == k


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([[2, 256, 4]], "begins at 2"),
        ([[1, 32, 4], [40, 256, 1]], "has a gap from 33 to 39"),
        ([[1, 32, 4], [32, 256, 1]], "has 32 in two ranges"),
        ([[33, 256, 1], [1, 32, 4]], "begins at 33"),
        ([[1, 256, 5]], "has K = 5, and the arm drafts at most 4"),
        ([[1, 256, -1]], "has the row [1, 256, -1]"),
        ([[32, 1, 4]], "has the row [32, 1, 4]"),
        ([[1, 128, 4]], "ends at 128, and the server takes 256"),
        ([], "is empty"),
    ],
)
def test_a_table_that_is_none_is_refused_in_the_engines_words(table, words):
    error = refused(batch_table=table)
    assert words in error.what and "vLLM" in error.why and "batch_table" in error.fix


def test_by_batch_needs_its_table_and_a_table_needs_by_batch():
    assert "by_batch without 'batch_table'" in refused(batch_table=None).why
    assert "a batch_table and no by_batch" in refused(engine_k=["block"]).why


def test_a_table_for_another_method_is_refused():
    error = refused(speculative={"method": "ngram"}, drafter=None)
    assert "n-gram lookup" in error.what


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"enforce_eager": True}, "requires full CUDA graphs"),
        ({"args": ["--compilation-config", '{"cudagraph_mode":"PIECEWISE"}']}, "requires full CUDA graphs"),
        ({"env": {"VLLM_USE_V2_MODEL_RUNNER": "0"}}, "Model Runner V1 does not support: adaptive draft verification"),
        ({"args": ["--enable-lora"]}, "not currently compatible with LoRA"),
        ({"args": ["--pipeline-parallel-size", "2"]}, "not currently compatible with pipeline parallelism"),
        ({"args": ["--attention-config", '{"backend":"FLASHINFER"}']}, "needed for adaptive verification"),
    ],
)
def test_adaptive_verification_is_refused_before_the_launch_in_the_engines_words(changes, words):
    assert words in refused(server=server(**changes), engine_k=["adaptive"], batch_table=None).why


@pytest.mark.parametrize(("way", "words"), [("block", "standard verification alone"), ("by_batch", "PIECEWISE")])
def test_runner_v1_does_not_do_what_these_arms_ask(way, words):
    table = {"batch_table": None} if way == "block" else {}
    assert words in refused(server=server(env={"VLLM_USE_V2_MODEL_RUNNER": "0"}), engine_k=[way], **table).why


def test_flashinfer_is_no_obstacle_on_data_centre_blackwell(monkeypatch):
    from analysis import shapes

    known = shapes.machines()
    monkeypatch.setattr(
        shapes, "machines", lambda: known | {"h200": known["h200"].model_copy(update={"compute_capability": 10.0})}
    )
    given = {"args": ["--attention-config", '{"backend":"FLASHINFER"}']}
    assert "mtp-k4@adaptive" in arms(server=server(**given), engine_k=["adaptive"], batch_table=None)


def test_fly_needs_the_word_lossy_and_texts_to_compare():
    fly = {"engine_k": ["fly"], "batch_table": None}
    assert "lossy: true" in refused(**fly).fix
    assert "greedy_tokens is 0" in refused(**fly, lossy=True, greedy_tokens=0).why
    assert "at least 2" in refused(**fly, lossy=True, k=1, k_values=[1]).why
    made = plan.make(study(**fly, lossy=True))
    assert {c.arm.name for c in made.needed("losslessness")} == {"baseline", "mtp-k4", "mtp-k4@fly-lossy"}
    own = {"name": "entropy", "baseline": False, "k_values": [4], "speculative": {"rejection_sample_method": "fly"}}
    assert "its name does not say so" in refused(variants=[own], engine_k=[], batch_table=None, lossy=True).what


@pytest.mark.parametrize(("way", "words"), [("block", "only valid"), ("adaptive", "does not follow")])
def test_acceptance_set_by_hand_cannot_show_these_ways(way, words):
    rates = {"rejection_sample_method": "synthetic", "synthetic_acceptance_rates": [0.7, 0.5, 0.4, 0.3]}
    assert words in refused(speculative=rates, engine_k=[way], batch_table=None).why


def test_two_ways_at_once_are_refused():
    both = {"name": "both", "baseline": False, "speculative": {"enable_adaptive_verification": True}}
    both["speculative"]["rejection_sample_method"] = "block"
    assert "adaptive and block at once" in refused(variants=[both], engine_k=[], batch_table=None).what


def test_a_release_that_has_not_the_way_is_told_before_the_launch(monkeypatch):
    from analysis.servers.preflight import load

    made = plan.make(study(engine_k=["fly"], batch_table=None, lossy=True))
    for version, verdict, words in (((0, 32, 0), "fail", "came with vLLM 0.33"), ((0, 33, 0), "warn", "lossy")):
        monkeypatch.setattr(load, "release", lambda arm, version=version: version)
        (check,) = load.of_ways(made)
        assert check.verdict == verdict and words in check.evidence
