"""One log per known failure, written by us in the engine's form: the right cause and fix; a healthy log has none."""

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from analysis.places import DATA
from analysis.servers import diagnosis, facts
from analysis.show import tables
from analysis.study import plan
from analysis.study.study_file import load_study

sys.path.insert(0, str(Path(__file__).parent))
import reported

HEALTHY = """
(APIServer pid=1) INFO 11-01 10:00:00 [model.py:612] Resolved architecture: Gemma4ForConditionalGeneration
(APIServer pid=1) INFO 11-01 10:00:00 [model.py:612] Resolved architecture: Gemma4MTPModel
(EngineCore pid=2) INFO 11-01 10:00:02 [core.py:133] Initializing a V1 LLM engine (v0.28.0) with config: model='google/gemma-4-31B-it', speculative_config=SpeculativeConfig(method='mtp', model='google/gemma-4-31B-it-assistant', num_spec_tokens=4), dtype=torch.bfloat16, max_seq_len=4096, enforce_eager=False, kv_cache_dtype=fp8, enable_prefix_caching=False
(EngineCore pid=2) INFO 11-01 10:00:03 [gpu/model_runner.py:88] Starting to load model google/gemma-4-31B-it...
(EngineCore pid=2) INFO 11-01 10:00:40 [gemma4_mtp.py:610] Detected MTP model. Sharing target model embedding weights with the draft model.
(EngineCore pid=2) INFO 11-01 10:00:40 [gemma4_mtp.py:633] Gemma4 MTP: draft layer 0 (sliding_attention) -> language_model.model.layers.58.self_attn.attn
(EngineCore pid=2) INFO 11-01 10:00:41 [model_runner.py:230] Model loading took 32.5 GiB memory and 34.19 seconds
(EngineCore pid=2) INFO 11-01 10:00:59 [kv_cache_utils.py:1307] GPU KV cache size: 120,000 tokens
(APIServer pid=1) INFO 11-01 10:01:10 [loggers.py:335] SpecDecoding metrics: Mean acceptance length: 3.18, Accepted: 410 tokens, Drafted: 752 tokens, Per-position acceptance rate: 0.787, 0.589, 0.456, 0.346, Avg Draft acceptance rate: 54.5%
INFO:     Application startup complete.
"""
MTP = "(EngineCore pid=2) INFO [gemma4_mtp.py:297] Gemma4MTPModel Gemma4AssistantForCausalLM gemma4_assistant\n"
RAISED = 'Traceback (most recent call last):\n  File "vllm/v1/worker/{file}", line 1, in load\n'

#: id -> (last lines of a log, words that must be in cause and fix together)
STARTS = {
    "memory-floor": (
        "analysis memory watch: the server is ended: 6.9 GiB of memory are available, the floor is 8 GiB",
        "fell to 6.9 GiB",
    ),
    "engine-not-running": (
        "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "systemctl",
    ),
    "engine-not-allowed": (
        "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
        "usermod",
    ),
    "no-gpu-runtime": (
        'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].',
        "nvidia-ctk",
    ),
    "image-missing": (
        "Error response from daemon: manifest for vllm/vllm-openai:gemma4-0505 not found: manifest unknown",
        "server.image",
    ),
    "image-of-another-machine": ("exec /usr/bin/python3: exec format error", "aarch64"),
    "image-no-space": ("write /var/lib/docker/tmp/x: no space left on device", "20 GB"),
    "mount-missing": (
        "Error: statfs /home/user/mtp_assets/gemma4_mtp.py: no such file or directory",
        "/home/user/mtp_assets/gemma4_mtp.py",
    ),
    "container-name-taken": (
        'Conflict. The container name "/vllm-mtp" is already in use by container "1f"',
        "container_name",
    ),
    "shared-memory": ("RuntimeError: unable to open shared memory object </torch_1> in read-write mode", "shm_size"),
    "batched-tokens-below-mm-item": (
        "ValueError: Chunked MM input disabled but max_tokens_per_mm_item (2496) is larger than max_num_batched_tokens (2048). Please increase max_num_batched_tokens.",
        "2048 is below 2496",
    ),
    "no-memory-for-cache-blocks": (
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine.",
        "max_model_len",
    ),
    "less-free-than-asked": (
        "ValueError: Free memory on device cuda:0 (22.45/23.99 GiB) on startup is less than desired GPU memory utilization (0.95, 22.79 GiB).",
        "Only 22.45 of 23.99",
    ),
    "max-model-len-needs-more-cache": (
        "ValueError: To serve at least one request with the models's max seq len (131072), (10.5 GiB KV cache is needed, which is larger than the available KV cache memory (4.1 GiB).",
        "shorter",
    ),
    "hami-limit-zero": (
        "[HAMI-core Msg]: env CUDA_DEVICE_MEMORY_LIMIT_0=0m\nRuntimeError: CUDA error at EagleProposer.__init__",
        "24000m",
    ),
    "method-unknown": ("NotImplementedError: Unsupported speculative method: 'mtp'", "method mtp"),
    "assistant-as-draft-model": (
        MTP + "NotImplementedError: Speculative Decoding with draft models is not supported yet.",
        "generic draft model",
    ),
    "architecture-unknown": (
        "ValueError: Model architectures ['Gemma4AssistantForCausalLM'] are not supported for now.",
        "0.28.0",
    ),
    "transformers-breaks-gemma4": (
        "transformers 5.15.0\nAttributeError: 'Gemma4TextConfig' object has no attribute 'layer_scalar'",
        "5.14.1",
    ),
    "preview-file-unpatched": (
        MTP
        + '  File "gemma4_mtp.py", line 420, in load_weights\n    assert param_data.shape == loaded_weight.shape\nAssertionError',
        "d8b3826",
    ),
    "v1-runner-width": (
        MTP
        + RAISED.format(file="gpu_model_runner.py")
        + "RuntimeError: mat1 and mat2 shapes cannot be multiplied (8192x2816 and 5632x1024)",
        "VLLM_USE_V2_MODEL_RUNNER",
    ),
    "flag-unknown": (
        "api_server.py: error: unrecognized arguments: --per-request-spec-decode-metrics detailed",
        "request_metrics",
    ),
    "port-taken": ("OSError: [Errno 98] Address already in use", "server.port"),
    "gated": ("huggingface_hub.errors.GatedRepoError: 401 Client Error. Cannot access gated repo for url", "HF_TOKEN"),
    "hub-offline": (
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find the requested files in the disk cache",
        "prefetch",
    ),
    "model-folder-missing": (
        "OSError: nowhere/x is not a local folder and is not a valid model identifier listed on the hub",
        "target.model",
    ),
    "out-of-memory": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "gpu_memory_utilization",
    ),
    "metadata-vllm": ("importlib.metadata.PackageNotFoundError: No package metadata was found for vllm", "api_server"),
    "no-vllm": ("ModuleNotFoundError: No module named 'vllm'", "make setup"),
    "driver-older-than-image": (
        "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.9, please update your driver to a newer version: unknown.",
        "12.9",
    ),
    "toolkit-in-cdi-mode": (
        "invoking the NVIDIA Container Runtime Hook directly (e.g. specifying the docker --gpus flag) is not supported.",
        "nvidia.com/gpu=all",
    ),
    "shared-memory-needs": (
        "RuntimeError: Insufficient space in /dev/shm for the message queue: 160 MiB required, 64 MiB free",
        "needs 160 MiB there, and 64 MiB are free",
    ),
    "undefined-symbol": (
        "ImportError: /x/vllm/_C.abi3.so: undefined symbol: _ZN3c1013MessageLoggerC1EPKciib",
        "one lock",
    ),
    "torchvision-of-another-torch": (
        "RuntimeError: operator torchvision::nms does not exist",
        "pip uninstall torchvision",
    ),
    "missing-library": (
        "ImportError: libcudart.so.13: cannot open shared object file: No such file or directory",
        "nvidia-cuda-runtime",
    ),
    "missing-library-behind": (
        "WARNING [interface.py:222] Failed to import from vllm._C: ImportError('libnuma.so.1: cannot open shared object file')\nAttributeError: '_OpNamespace' '_C' object has no attribute 'init_cpu_threads_env'",
        "apt install libnuma1",
    ),
    "driver-does-not-fit": (
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 803: system has unsupported display driver / cuda driver combination",
        "--gpus all",
    ),
    "no-kernel-image": (
        "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device",
        "cu130",
    ),
    "ptxas-too-old": ("ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'", "TRITON_PTXAS_PATH"),
    "deepgemm-unsupported": (
        "RuntimeError: Assertion error (/x/deepgemm-src/csrc/apis/layout.hpp:59): Unknown SF transformation",
        "VLLM_USE_DEEP_GEMM",
    ),
    "cutlass-unsupported": (
        "RuntimeError: cutlass_gemm_caller, /x/c3x/cutlass_gemm_caller.cuh:61, Error Internal",
        "VLLM_DISABLED_KERNELS",
    ),
    "fp8-unsupported": (
        "ValueError(\"type fp8e4nv not supported in this architecture. The supported fp8 dtypes are ('fp8e4b15', 'fp8e5')\")",
        "kv_cache_dtype to null",
    ),
    "flashinfer-not-built": ("RuntimeError: Ninja build failed. Ninja output: ninja: build stopped", "nvcc"),
    "token-budget-negative": (
        "  Value error, max_num_scheduled_tokens is set to -1792 based on the speculative decoding settings, which does not allow any tokens to be scheduled.",
        "max_num_seqs",
    ),
    "less-free-unified": (
        "ValueError: Free memory on device cuda:0 (61.22/121.69 GiB) on startup is less than desired GPU memory utilization (0.8, 97.35 GiB).",
        "drop_caches",
    ),
    "expert-parallel-with-drafter": (
        "ValueError: Number of experts in the model must be greater than 0 when expert parallelism is enabled.",
        "--enable-expert-parallel",
    ),
    "gemma4-unified-unknown": (
        "  Value error, The checkpoint you are trying to load has model type `gemma4_unified` but Transformers does not recognize this architecture.",
        "5.10",
    ),
    "foreign-model-file": (
        "  File \"/x/vllm/model_executor/models/gemma4.py\", line 227, in __init__\nTypeError: FusedMoE.__init__() got an unexpected keyword argument 'reduce_results'",
        "server.mounts",
    ),
    "drafter-quantised": (
        '  File "/x/models/gemma4_mtp.py", line 458, in load_weights\nRuntimeError: start (4096) + length (4096) exceeds dimension size (4096).',
        "BF16",
    ),
    "repository-missing": (
        "RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1)\nRepository Not Found for url: https://huggingface.co/api/models/google/gemma-4-26B-it-assistant.",
        "no such repository",
    ),
    "hub-limits": ("huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: x", "HF_TOKEN"),
    "weights-damaged": (
        "safetensors._safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered",
        "prefetch",
    ),
    "out-of-memory-graphs": (
        '  File "vllm/v1/worker/gpu_worker.py", line 700, in compile_or_warm_up_model\n    x = self.model_runner.capture_model()\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 486.00 MiB.',
        "while CUDA graphs were captured",
    ),
    "nccl": (
        "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)",
        "NCCL_P2P_DISABLE",
    ),
    "engine-killed": (
        "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
        "dmesg",
    ),
}
#: A server that came up, and stopped while it answered.
RUNNING = {
    "drafter-graphs-with-tp": (
        "(EngineCore pid=2) ERROR [core.py:1]     self._centroids_graphs[size].replay()\n(EngineCore pid=2) ERROR [core.py:1] torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
        "tensor_parallel_size 1",
    ),
    "illegal-memory-access": (
        "(EngineCore pid=2) ERROR [core.py:1] torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
        "records are kept",
    ),
    "device-side-assert": (
        "(EngineCore pid=2) ERROR [core.py:1] torch.AcceleratorError: CUDA error: device-side assert triggered",
        "smaller K",
    ),
    "kernel-crash": (
        "(EngineCore pid=2) ERROR [core.py:1] torch.AcceleratorError: CUDA error: unspecified launch failure",
        "Xid",
    ),
    "rpc-timeout": (
        "(EngineCore pid=2) ERROR [core.py:1] TimeoutError: RPC call to sample_tokens timed out.",
        "(sample_tokens)",
    ),
    "worker-killed": (
        "(EngineCore pid=2) ERROR [multiproc_executor.py:315] Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor.\n(EngineCore pid=2) ERROR [core.py:1] RuntimeError: cancelled",
        "signal 9",
    ),
    "worker-crashed": (
        "(EngineCore pid=2) ERROR [multiproc_executor.py:315] Worker proc VllmWorker-0 died unexpectedly (exit code: -11), shutting down executor.",
        "exit code: -11",
    ),
}
SILENT = {
    "compiled-in-inference": (
        "WARNING [jit_monitor.py:135] Triton kernel JIT compilation during inference: fused_moe_kernel. This causes a latency spike",
        "(fused_moe_kernel)",
    ),
    "graphs-cut": ("WARNING [vllm.py:1] Truncating max_cudagraph_capture_size to 40", "40 tokens per step"),
    "acceptance-zero": (
        "SpecDecoding metrics: Mean acceptance length: 1.00, Accepted: 0 tokens, Drafted: 220 tokens, Avg Draft acceptance rate: 0.0%",
        "gemma4_mtp.py",
    ),
    "target-without-chat-template": (
        "ChatTemplateResolutionError: As of transformers v4.44, default chat template is no longer allowed",
        "-it target",
    ),
    "moe-config-missing": (
        "WARNING [fused_moe.py:1164] Using default MoE config. Performance might be sub-optimal! Config file not found at /x/configs/E=128,N=704,device_name=NVIDIA_GB10,dtype=fp8_w8a8.json",
        "E=128,N=704,device_name=NVIDIA_GB10",
    ),
    "budget-shrunk": (
        "WARNING [vllm.py:2276] max_num_scheduled_tokens is set to 2048 based on the speculative decoding settings. This may lead to suboptimal performance.",
        "2048 tokens",
    ),
    "async-scheduling-off": (
        "WARNING [vllm.py:1605] Async scheduling is disabled with mtp-based speculative decoding",
        "baseline",
    ),
    "dynamic-k-dropped": (
        "WARNING [vllm.py:1067] Dynamic speculative decoding is not supported with data parallelism. Disabling num_speculative_tokens_per_batch_size and falling back to static",
        "K is fixed",
    ),
    "drafting-disabled": ("WARNING Speculative decoding is disabled for batches above 8", "switched drafting off"),
    "cpu-without-openmp": (
        "WARNING [cpu_worker.py:130] Speculative decoding on CPU without Intel OpenMP in LD_PRELOAD will cause significant performance loss.",
        "libiomp5",
    ),
    "preempted": ("WARNING [scheduler.py:10] Preempted request chatcmpl-1: not enough KV cache", "concurrency"),
}


def arm(k=4, study="gb10-31b"):
    return next(a for a in plan.make(load_study(study)).arms if a.k == k)


STARTS |= reported.STARTS
RUNNING |= reported.RUNNING


@pytest.mark.parametrize("name", STARTS)
def test_a_start_that_failed_for_a_known_reason_names_it_and_its_mend(name):
    log, words = STARTS[name]
    found = diagnosis.of_stopped(HEALTHY.split("(EngineCore pid=2) INFO 11-01 10:00:03")[0] + log + "\n")
    assert found is not None and found.id == name
    assert words in f"{found.cause} {found.fix}"


@pytest.mark.parametrize("name", RUNNING)
def test_a_server_that_stops_while_it_answers_names_the_reason(name):
    log, words = RUNNING[name]
    dead = "(APIServer pid=1) ERROR [async_llm.py:704] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue."
    found = diagnosis.of_stopped(f"{HEALTHY}{log}\n{dead}\n")
    assert found is not None and found.id == name
    assert words in f"{found.cause} {found.fix}"


@pytest.mark.parametrize("name", SILENT)
def test_a_server_that_runs_and_is_sick_is_told(name):
    log, words = SILENT[name]
    found = diagnosis.of_running(HEALTHY + log + "\n", facts.read(HEALTHY), arm())
    assert [c.id for c in found] == [name]
    assert words in f"{found[0].cause} {found[0].fix}"


@pytest.mark.parametrize(("name", "log"), reported.WORDINGS)
def test_another_wording_of_a_known_failure_is_the_same_failure(name, log):
    assert diagnosis.of_stopped(f"{HEALTHY}{log}\n").id == name


def test_every_known_failure_has_its_test_and_every_test_its_entry():
    table = yaml.safe_load((DATA / "failures.yaml").read_text())["failures"]
    assert {e["id"] for e in table if e["when"] == "start"} == set(STARTS)
    assert {e["id"] for e in table if e["when"] == "running"} == set(RUNNING)
    assert {e["id"] for e in table if e["when"] == "silent"} == set(SILENT)
    assert all(e["cause"] and e["fix"] and e["source"] for e in table)


def test_a_healthy_log_has_no_cause_of_any_kind():
    assert diagnosis.of_stopped(HEALTHY) is None
    assert diagnosis.silent(HEALTHY) == []
    assert diagnosis.of_running(HEALTHY, facts.read(HEALTHY), arm()) == []


def test_signs_that_concern_the_drafter_are_no_fault_of_a_baseline():
    log = HEALTHY.replace("method='mtp'", "method=None") + SILENT["budget-shrunk"][0]
    assert diagnosis.of_running(log, facts.StartupFacts(), arm(0)) == []


def test_a_method_that_fell_back_to_a_generic_draft_model_is_told():
    log = HEALTHY.replace("method='mtp'", "method='draft_model'")
    asked = next(a for a in plan.make(load_study("rtx4090-26b-awq")).arms if a.k == 2)
    assert "method-fell-back" in [c.id for c in diagnosis.of_running(log, facts.read(log), asked)]
    assert "method-fell-back" in [c.id for c in diagnosis.of_running(log, facts.read(log), arm())]


def test_eager_mode_left_on_is_told_whether_asked_for_or_not():
    log = HEALTHY.replace("enforce_eager=False", "enforce_eager=True")
    (found,) = diagnosis.of_running(log, facts.read(log), arm())
    assert found.id == "eager-on" and "does not ask" in found.cause
    asked = replace(arm(), server=arm().server.model_copy(update={"enforce_eager": True}))
    (found,) = diagnosis.of_running(log, facts.read(log), asked)
    assert "as the study asks" in found.cause


def test_another_k_a_drafting_baseline_and_a_prefix_cache_are_told():
    log = HEALTHY.replace("num_spec_tokens=4", "num_spec_tokens=2")
    assert [c.id for c in diagnosis.of_running(log, facts.read(log), arm())] == ["another-k"]
    assert [c.id for c in diagnosis.of_running(HEALTHY, facts.read(HEALTHY), arm(0))] == ["baseline-drafts"]
    log = HEALTHY.replace("enable_prefix_caching=False", "enable_prefix_caching=True")
    assert [c.id for c in diagnosis.of_running(log, facts.read(log), arm())] == ["prefix-cache-on"]


def ids(causes):
    return [c.id for c in causes]


def test_counters_tell_of_idle_drafting_of_zero_acceptance_and_of_preemptions():
    assert ids(diagnosis.of_counts(4, 0, 0, 0)) == ["drafting-disabled"]
    assert diagnosis.of_counts(4, 1, 4, 1) == []
    assert ids(diagnosis.of_counts(4, 100, 400, 7)) == ["acceptance-zero"]  # 7 < 2 % of 400 = 8
    assert diagnosis.of_counts(4, 100, 400, 8) == []
    assert ids(diagnosis.of_counts(4, 5, 20, 0)) == ["acceptance-zero"]
    assert diagnosis.of_counts(4, 5, 19, 0) == []  # too few to tell
    assert ids(diagnosis.of_counts(0, 0, 0, 0, preemptions=1)) == ["preempted"]
    assert diagnosis.of_counts(0, 0, 0, 0, preemptions=0) == []


def test_drafting_that_stops_in_the_middle_of_a_cell_is_told_by_its_steps():
    # 2 requests, 202 tokens, 100 accepted: 100 steps; 10 and 2 per request may be without a draft
    assert diagnosis.of_counts(4, 86, 344, 100, tokens=202, requests=2) == []
    (found,) = diagnosis.of_counts(4, 85, 340, 100, tokens=202, requests=2)
    assert found.id == "drafting-stopped" and "85 of about 100 steps" in found.cause
    assert diagnosis.of_counts(4, 85, 340, 100, tokens=202, requests=2, may_pause=True) == []
    assert diagnosis.of_counts(4, 0, 0, 0, tokens=2, requests=2) == []  # one token each: nothing to draft
    assert ids(diagnosis.of_counts(4, 0, 0, 0, tokens=3, requests=2)) == ["drafting-disabled"]


def test_a_method_that_looks_tokens_up_may_find_none():
    assert diagnosis.of_counts(4, 0, 0, 0, tokens=202, requests=2, needs_drafter=False) == []
    assert diagnosis.of_counts(4, 50, 200, 0, tokens=202, requests=2, needs_drafter=False) == []


def test_counters_and_the_requests_own_ledger_must_agree():
    assert diagnosis.of_counts(4, 40, 160, 60, ledger=(40, 60)) == []
    (found,) = diagnosis.of_counts(4, 40, 160, 60, ledger=(40, 61))
    assert found.id == "ledger-disagrees" and "2.50 by one and 2.52 by the other" in found.cause
    assert diagnosis.of_counts(0, 0, 0, 0, ledger=(0, 0)) == []


def test_a_kernel_compiled_while_requests_were_timed_marks_the_cell():
    log = "INFO x\n" + 2 * (SILENT["compiled-in-inference"][0] + "\n")
    assert diagnosis.compiled_kernels(log) == ["fused_moe_kernel"]
    assert diagnosis.compiled_kernels(HEALTHY) == []
    (found,) = diagnosis.of_counts(0, 0, 0, 0, compiled=["fused_moe_kernel"])
    assert found.id == "compiled-while-measured" and "fused_moe_kernel" in found.cause


def test_the_table_of_causes_names_each_once_with_its_arms_and_is_empty_for_healthy_launches():
    cause = {"id": "eager-on", "cause": "Eager mode is on.", "fix": "Set it off.", "source": "ours"}
    rows = [
        {"arm": "baseline", "causes": [cause]},
        {"arm": "mtp-k4", "causes": [cause]},
        {"arm": "mtp-k1", "causes": None},
    ]
    shown = tables.causes(pd.DataFrame(rows))
    assert shown.frame.to_dict("records") == [
        {"arm": "baseline, mtp-k4", "cause": "Eager mode is on.", "fix": "Set it off."}
    ]
    assert tables.causes(pd.DataFrame([{"arm": "baseline", "causes": []}])).frame.empty
    assert tables.causes(pd.DataFrame(columns=["arm"])).frame.empty
