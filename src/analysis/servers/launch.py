"""An arm -> the exact command that starts it. Pure: strings and lists in, strings and lists out."""

from __future__ import annotations

import json
import shlex
import sys

from analysis.params import inside
from analysis.plan import Arm

PORT_IN_CONTAINER = 8000


def speculative_config(arm: Arm) -> dict | None:
    """The value of ``--speculative-config``: None for a baseline; ``method`` is mtp unless the study says otherwise."""
    if arm.k == 0:
        return None
    return {"method": "mtp", "model": _path(arm, arm.drafter.model), "num_speculative_tokens": arm.k, **arm.speculative}


def vllm_args(arm: Arm, *, host: str | None = None, port: int | None = None) -> list[str]:
    """Arguments of vLLM's OpenAI server, the model first (or as ``--model`` where ``server.model_flag``)."""
    s, out = arm.server, []
    model = _path(arm, arm.target.model)
    out += ["--model", model] if s.model_flag else [model]
    if arm.target.revision and not arm.target.local:
        out += ["--revision", arm.target.revision]
    for flag, value in (
        ("--served-model-name", s.served_model_name),
        ("--host", host),
        ("--port", port),
        ("--max-model-len", s.max_model_len),
        ("--max-num-batched-tokens", s.max_num_batched_tokens),
        ("--gpu-memory-utilization", s.gpu_memory_utilization),
        ("--max-num-seqs", s.max_num_seqs),
        ("--kv-cache-dtype", s.kv_cache_dtype),
        ("--dtype", s.dtype),
        ("--tensor-parallel-size", s.tensor_parallel_size),
        ("--load-format", s.load_format),
        ("--download-dir", s.download_dir),
    ):
        if value is not None:
            out += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    if s.limit_mm_per_prompt is not None:
        out += ["--limit-mm-per-prompt", _compact(s.limit_mm_per_prompt)]
    for name, value in (("prefix-caching", s.prefix_caching), ("chunked-prefill", s.chunked_prefill)):
        if value is not None:
            out.append(f"--enable-{name}" if value else f"--no-enable-{name}")
    if s.enforce_eager:
        out.append("--enforce-eager")
    if s.trust_remote_code:
        out.append("--trust-remote-code")
    if s.request_metrics and arm.k and s.backend == "process":
        out += ["--per-request-spec-decode-metrics", "detailed"]
    out += list(s.args)
    if (speculative := speculative_config(arm)) is not None:
        out += ["--speculative-config", _compact(speculative)]
    return out


def process_command(arm: Arm, port: int) -> list[str]:
    """Command of the ``process`` backend: the interpreter that runs this, on the loopback address."""
    args = vllm_args(arm, host="127.0.0.1", port=port)
    if not arm.server.model_flag:
        args = ["--model", *args]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *args]


def docker_command(arm: Arm, port: int = PORT_IN_CONTAINER, name: str = "vllm-mtp") -> list[str]:
    """Command of the ``docker`` backend: ``docker run -d …`` (or podman), image by tag or by digest."""
    s = arm.server
    out = [s.engine, "run", "-d", "--name", s.container_name or name]
    for flag, value in (("--gpus", s.gpus), ("--ipc", s.ipc), ("--shm-size", s.shm_size)):
        if value:
            out += [flag, value]
    out += ["-p", f"{port}:{PORT_IN_CONTAINER}"]
    for mount in s.mounts:
        out += ["-v", mount]
    for key, value in sorted(s.env.items()):
        out += ["-e", f"{key}={value}"]
    if s.entrypoint:
        out += ["--entrypoint", s.entrypoint]
    out += list(s.run_args)
    image = s.image or ""
    out.append(f"{image.split('@')[0]}@{s.digest}" if s.digest else image)
    return out + vllm_args(arm)


def shell(command: list[str], env: dict[str, str] | None = None) -> str:
    """A copy-pasteable, wrapped shell line. ``$HOME`` and ``~`` stay for the shell to expand."""
    words = [f"{k}={shlex.quote(v)}" for k, v in sorted((env or {}).items())] + [_quote(w) for w in command]
    lines: list[str] = []
    for word in words:
        follows_option = bool(lines) and lines[-1].startswith("-") and " " not in lines[-1]
        if not lines or word.startswith("-") or (not follows_option and len(lines[-1]) + len(word) > 100):
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return " \\\n  ".join(lines)


def _quote(word: str) -> str:
    if word.startswith(("$HOME/", "~/")) and not any(c in word for c in " '\"{}"):
        return word
    return shlex.quote(word)


def _path(arm: Arm, model: str) -> str:
    """Folders of the checkout become absolute for a process; ids and container paths stay as they are."""
    return str(inside(model)) if arm.server.backend == "process" and inside(model).is_dir() else model


def _compact(value: dict) -> str:
    return json.dumps(value, separators=(",", ":"))
