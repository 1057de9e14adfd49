"""A startup log -> facts, by lines in the form of several vLLM releases; and what differs between two arms."""

from analysis.servers import facts

BILLINGS = """
INFO [model.py:1] Resolved architecture: Gemma4ForConditionalGeneration
INFO [model.py:1] Resolved architecture: Gemma4MTPModel
INFO [core.py:1] Initializing a V1 LLM engine (v0.21.0) with config: model='x', speculative_config=SpeculativeConfig(method='mtp', model='google/gemma-4-26B-A4B-it-assistant', num_spec_tokens=2), enforce_eager=False, quantization=compressed-tensors, kv_cache_dtype=auto
Detected MTP model. Sharing target model embedding weights with the draft model.
Gemma4 MTP: keeping draft model's own lm_head (draft_dim != backbone_dim).
Gemma4 MTP: draft layer 0 (sliding_attention) -> language_model.model.layers.28.self_attn.attn
Gemma4 MTP: draft layer 3 (full_attention)    -> language_model.model.layers.29.self_attn.attn
Model loading took 17.41 GiB memory and 34.19 seconds
INFO [kv_cache_utils.py:1] GPU KV cache size: 31,904 tokens
WARNING [fused_moe.py:1] Using default MoE config. Performance might be sub-optimal! Config file not found at /x/E=128,N=704,device_name=NVIDIA_GB10,dtype=fp8_w8a8.json
"""


def test_the_published_log_lines_are_read():
    read = facts.read(BILLINGS)
    assert (read.vllm_version, read.method, read.k) == ("0.21.0", "mtp", 2)
    assert (read.architecture, read.drafter_architecture) == ("Gemma4ForConditionalGeneration", "Gemma4MTPModel")
    assert read.shares_embedding and read.own_lm_head and len(read.draft_layers) == 2
    assert read.draft_layers[1] == "3 full_attention -> language_model.model.layers.29.self_attn.attn"
    assert (read.weights_gib, read.load_s, read.kv_tokens) == (17.41, 34.19, 31904)
    assert read.moe_config_missing == "E=128,N=704,device_name=NVIDIA_GB10,dtype=fp8_w8a8.json"
    assert read.quantization == "compressed-tensors" and read.eager is False


def test_an_empty_log_says_nothing():
    read = facts.read("")
    assert read.method is None and read.k is None and read.runner is None and read.mends == ()


def test_only_what_is_not_the_drafter_itself_is_a_difference_between_arms():
    baseline = facts.StartupFacts(runner="V2", async_scheduling=True, kv_tokens=120_000, load_s=30)
    arm = facts.StartupFacts(runner="V1", async_scheduling=True, kv_tokens=90_000, load_s=44, method="mtp", k=4)
    assert facts.differences(baseline, arm) == [("runner", "V2", "V1")]
