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


def cuda_log(speculative, sizes, drafter):
    """The telling lines of a start on an H100 (vLLM 0.32.0, 26B-A4B in FP8), shortened."""
    engine = "(EngineCore pid=24) INFO 11-26 12:39:03 "
    config = (
        f"{engine}[core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='x', speculative_config={speculative}, "
        "tensor_parallel_size=1, disable_flashinfer_q_quantization=False, quantization=fp8, quantization_config=None, "
        "enforce_eager=False, kv_cache_dtype=auto, enable_prefix_caching=False, " + "filler=0, " * 400 + ""
        "compilation_config={'cudagraph_mode': <CUDAGraphMode.FULL_AND_PIECEWISE: (2, 1)>, 'compile_sizes': [], "
        f"'cudagraph_capture_sizes': {sizes}, 'max_cudagraph_capture_size': {sizes[-1]}}}\n"
    )
    return (
        config
        + f"{engine}[gpu_worker.py:518] Using V2 Model Runner\n"
        + f"{engine}[__init__.py:797] Selected CutlassFP8ScaledMMLinearKernel for Fp8PerTensorOnlineLinearMethod\n"
        + f"{engine}[cuda.py:446] Using AttentionBackendEnum.TRITON_ATTN backend.\n"
        + f"{engine}[fp8.py:525] Using TRITON Fp8 MoE backend out of potential backends: ['AITER', 'TRITON'].\n"
        + f"{engine}[base_loader.py:82] Initializing model took 0.604309 seconds\n"
        + drafter
        + f"{engine}[model_runner.py:424] Model loading took 25.33 GiB memory and 4.173968 seconds\n"
        + f"{engine}[fused_moe.py:1150] Using configuration from /x/configs/E=128,N=704,device_name=NVIDIA_H100_80GB_HBM3,dtype=fp8_w8a8.json for MoE layer.\n"
        + f"{engine}[model_runner.py:1127] Graph capturing finished in 29 secs, took 0.33 GiB\n"
        + f"{engine}[gpu_worker.py:759] Available KV cache memory: 38.89 GiB\n"
        + f"{engine}[kv_cache_utils.py:2327] GPU KV cache size: 184,711 tokens, Maximum concurrency for 4,096 tokens per request: 45.10x\n"
        + f"{engine}[model_runner.py:1127] Graph capturing finished in 7 secs, took 0.18 GiB\n"
        + f"{engine}[core.py:395] init engine (profile, create kv cache, warmup model) took 183.57 s (compilation: 106.88 s)\n"
    )


MTP = "SpeculativeConfig(method='mtp', model='y', num_spec_tokens=4)"


def test_a_start_on_a_cuda_gpu_is_read():
    read = facts.read(cuda_log(MTP, [1, 2, 4, 5, 8, 160], ""))
    assert (read.attention, read.drafter_attention) == ("TRITON_ATTN", "TRITON_ATTN")  # said once, so the drafter's too
    assert (read.moe_kernel, read.linear_kernel) == ("TRITON", "CutlassFP8ScaledMMLinearKernel")
    assert read.moe_config == "E=128,N=704,device_name=NVIDIA_H100_80GB_HBM3,dtype=fp8_w8a8.json"
    assert (read.runner, read.quantization, read.kv_cache_dtype, read.k) == ("V2", "fp8", "auto", 4)
    assert (read.graph_mode, read.max_capture_size, read.capture_sizes) == (
        "FULL_AND_PIECEWISE",
        160,
        (1, 2, 4, 5, 8, 160),
    )
    assert (read.compile_s, read.init_engine_s, read.capture_s, read.capture_gib) == (106.88, 183.57, 36.0, 0.51)
    assert (read.kv_tokens, read.kv_gib, read.max_concurrency) == (184_711, 38.89, 45.1)
    assert read.prefix_caching is False and read.eager is False


def test_the_baseline_beside_it_differs_in_the_captured_size_alone():
    baseline = facts.read(cuda_log("None", [1, 2, 4, 8, 32], ""))
    assert baseline.method is None and baseline.drafter_attention is None and baseline.max_capture_size == 32
    arm = facts.read(cuda_log(MTP, [1, 2, 160], ""))
    assert facts.differences(baseline, arm) == [("max_capture_size", 32, 160)]


def test_a_drafter_with_another_attention_backend_is_told():
    line = "(EngineCore pid=24) INFO [cuda.py:446] Using FLASH_ATTN attention backend out of potential backends: ['FLASH_ATTN']\n"
    read = facts.read(cuda_log(MTP, [1, 160], line))
    assert (read.attention, read.drafter_attention) == ("TRITON_ATTN", "FLASH_ATTN")


def test_values_that_the_server_takes_by_itself_are_kept():
    """A study that sends no top_k is measured with the checkpoint's, so the launch's record says which."""
    line = "(APIServer pid=1) WARNING 11-26 12:18:16 [model.py:1893] Default vLLM sampling parameters have been overridden by "
    line += "the model's `generation_config.json`: `{'temperature': 1.0, 'top_k': 64, 'top_p': 0.95}`. If this is not intended, …"
    assert facts.read(line).sampling_defaults == "temperature: 1.0, top_k: 64, top_p: 0.95"
    assert facts.read("x").sampling_defaults is None


def test_a_quantisation_of_none_is_none_and_a_damaged_number_raises_nothing():
    assert facts.read("X LLM engine (v1) with config: a=1, quantization=None, q=2").quantization is None
    assert (
        facts.read("Model loading took . GiB memory and 3.2 seconds\nGPU KV cache size: , tokens").weights_gib is None
    )
