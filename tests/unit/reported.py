"""Further failures by the line that shows them, in the engine's form: id -> (log, words of cause and fix together)."""

ENGINE = "(EngineCore pid=2) ERROR 07-18 10:00:01 [core.py:1165] "

STARTS = {
    "shared-memory-denied": (
        f"{ENGINE}RuntimeError: unable to open shared memory object </torch_1_20> in read-write mode: Permission denied (13)",
        "ls -ld /dev/shm",
    ),
    "folder-not-writable": (
        "(APIServer pid=1) PermissionError: [Errno 13] Permission denied: '/.cache'",
        "may not write to /.cache",
    ),
    "folder-without-execution": (
        f"{ENGINE}OSError: /tmp/torchinductor_x/e2/c.main.so: failed to map segment from shared object.",
        "TORCHINDUCTOR_CACHE_DIR",
    ),
    "driver-cannot-be-newer": (
        f"{ENGINE}RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 804: forward compatibility was attempted on non supported HW",
        "Update the NVIDIA driver",
    ),
    "fabric-manager": (
        f"{ENGINE}RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized",
        "nvidia-fabricmanager",
    ),
    "no-gpu": ("RuntimeError: Failed to infer device type", "sees no GPU"),
    "ptx-too-new": (
        f"{ENGINE}torch.AcceleratorError: CUDA error: the provided PTX was compiled with an unsupported toolchain.",
        "newer than this machine's driver",
    ),
    "toolkit-older-than-gpu": (
        f"{ENGINE}RuntimeError: Ninja build failed. Ninja output:\nnvcc fatal   : Unsupported gpu architecture 'compute_120f'",
        "(compute_120f)",
    ),
    "kernel-too-large": (
        f"{ENGINE}triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 98304, Hardware limit: 65536. Reducing block sizes may help.",
        "needs 98304 bytes of the GPU's shared memory and this GPU has 65536",
    ),
    "matrix-library": (
        f"{ENGINE}RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "(NOT_INITIALIZED)",
    ),
    "several-gpus-do-not-fit": (
        "(APIServer pid=1)   Value error, Total number of attention heads (16) must be divisible by tensor parallel size (3).",
        "tensor_parallel_size to 1",
    ),
    "pipeline-parallel": (f"{ENGINE}AttributeError: 'GPUModelRunner' object has no attribute 'drafter'", "--pipeline"),
    "dtype-does-not-fit": (
        "(APIServer pid=1)   Value error, torch.bfloat16 is not supported for quantization method awq. Supported dtypes: [torch.float16]",
        "(torch.bfloat16, awq)",
    ),
    "quantisation-unsupported": (
        f"{ENGINE}RuntimeError: Unsupported FusedMoe scheme: num_bits=4 type='int' symmetric=True",
        "compressed-tensors",
    ),
    "value-refused": (
        "api_server.py: error: argument --kv-cache-dtype: invalid choice: 'fp7' (choose from 'auto', 'fp8')",
        "value of --kv-cache-dtype: invalid choice: 'fp7'",
    ),
    "weights-do-not-fit": (
        f"{ENGINE}ValueError: Following weights were not initialized from checkpoint: {{'layers.24.self_attn.k_norm.weight'}}",
        "not exchanged",
    ),
    "hub-unreachable": (
        "(APIServer pid=1) OSError: We couldn't connect to 'https://huggingface.co' to load the files",
        "HF_HUB_OFFLINE=1",
    ),
    "download-damaged": (
        "(APIServer pid=1) OSError: Consistency check failed: file should be of size 100 but has size 70 (model.safetensors).",
        "cut off or changed",
    ),
}
STARTS |= {
    "cpu-cache-too-large": (
        f"{ENGINE}ValueError: Available memory on node 0 (11.51/14.34 GiB) on kv cache allocation is less than requested memory for kv (4000.0 GiB). Decrease it.",
        "take 4000.0 GiB, and 11.51 of 14.34 GiB are free",
    ),
    "context-longer-than-model": (
        "(APIServer pid=1)   Value error, User-specified max_model_len (100000) is greater than the derived max_model_len (max_position_embeddings=2048 or model_max_length=None in model's config.json).",
        "100000 is longer than the 2048 tokens",
    ),
}
RUNNING = {"gpu-lost": (f"{ENGINE}torch.AcceleratorError: CUDA error: unknown error", "Xid")}
#: Another wording of an entry that has its line above or in test_diagnosis: (id, log).
WORDINGS = (
    ("worker-crashed", "ERROR [multiproc_executor.py:283] Worker proc VllmWorker-0 died unexpectedly, shutting down."),
    (
        "worker-crashed",
        "(EngineCore pid=2) ERROR [multiproc_executor.py:315] Worker proc VllmWorker-0 died unexpectedly (exit code: None), shutting down executor.\n"
        f"{ENGINE}RuntimeError: Executor failed.",
    ),
    (
        "architecture-unknown",
        "(APIServer pid=1)   Value error, Model architectures ['Gemma9ForCausalLM'] are not supported for now.",
    ),
    ("out-of-memory", f"{ENGINE}torch.AcceleratorError: CUDA error: out of memory"),
    ("out-of-memory", "terminate called after throwing an instance of 'std::bad_alloc'"),
    ("out-of-memory", f"{ENGINE}OSError: [Errno 12] Cannot allocate memory"),
    ("folder-not-writable", "OSError: [Errno 30] Read-only file system: '/root/.cache/vllm'"),
    ("no-gpu", f"{ENGINE}RuntimeError: No CUDA GPUs are available"),
    ("toolkit-older-than-gpu", f"{ENGINE}RuntimeError: FlashInfer requires GPUs with sm75 or higher"),
    ("toolkit-older-than-gpu", f"{ENGINE}RuntimeError: No supported CUDA architectures found for major versions [10]."),
    ("pipeline-parallel", "NotImplementedError: Pipeline parallelism is not supported for this model."),
    ("several-gpus-do-not-fit", f"{ENGINE}    assert self.total_num_kv_heads % tp_size == 0"),
    ("nccl", f"{ENGINE}torch.distributed.DistNetworkError: The client socket has timed out after 600000ms"),
    ("gpu-lost", f"{ENGINE}pynvml.NVMLError_GpuIsLost: GPU is lost"),
    ("matrix-library", f"{ENGINE}RuntimeError: cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
)
