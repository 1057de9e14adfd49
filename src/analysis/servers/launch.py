"""An arm -> the exact command that starts it. Pure: strings and lists in, strings and lists out."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys

from analysis.places import inside
from analysis.study import environment
from analysis.study.plan import Arm

PORT_IN_CONTAINER = 8000
LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
NAME = "vllm-mtp"
#: First release of vLLM with `--per-request-spec-decode-metrics`.
LEDGER_SINCE = (0, 29)


def speculative_config(arm: Arm) -> dict | None:
    """The value of ``--speculative-config``: None for a baseline."""
    return arm.speculator.config(arm.k, _path(arm, arm.drafter.model) if arm.drafter else None, arm.speculative)


def vllm_args(arm: Arm, *, host: str | None = None, port: int | None = None) -> list[str]:
    """Arguments of vLLM's OpenAI server, the model first (or as ``--model`` where ``server.model_flag``)."""
    s = arm.server
    model = _path(arm, arm.target.model)
    flags = [(flag, *values) for flag, *values in _flags(arm, host, port)]
    rank = {flag: place for place, flag in enumerate(s.order)}
    flags.sort(key=lambda words: rank.get(words[0], len(rank)))  # stable: the rest keeps its order
    return [*(["--model"] if s.model_flag else []), model, *(word for words in flags for word in words)]


def serve_command(arm: Arm, host: str, port: int) -> list[str]:
    """``vllm serve MODEL …``: what a person types, a unit or a manifest runs."""
    words = vllm_args(arm, host=host, port=port)
    return ["vllm", "serve", *words[arm.server.model_flag :]]  # `vllm serve` takes the model in first place alone


def process_command(arm: Arm, port: int) -> list[str]:
    """Command of the ``process`` backend: the interpreter that runs this, on the loopback address unless told."""
    if arm.server.serve:
        return serve_command(arm, arm.server.host or LOOPBACK, port)
    args = vllm_args(arm, host=arm.server.host or LOOPBACK, port=port)
    if not arm.server.model_flag:
        args = ["--model", *args]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *args]


def docker_command(
    arm: Arm, port: int | None = None, name: str = NAME, labels: dict[str, str] | None = None
) -> list[str]:
    """Command of the ``docker`` backend: ``docker run -d …`` (or podman), image by tag or by digest.

    Parameters
    ----------
    port : int, optional
        Published port, on the loopback address unless `server.host` names another one (0.0.0.0: all of them).
    labels : dict, optional
        How the study finds its own containers again; a printed launch has none.
    """
    s = arm.server
    out = [s.engine, "run", "-d", "--name", s.container_name or name]
    for key, value in (labels or {}).items():
        out += ["--label", f"{key}={value}"]
    for flag, value in (("--gpus", s.gpus), ("--ipc", s.ipc), ("--shm-size", s.shm_size)):
        if value:
            out += [flag, value]
    address = "" if s.host == EVERYWHERE else f"[{s.host}]:" if ":" in (s.host or "") else f"{s.host or LOOPBACK}:"
    out += ["-p", f"{address}{s.port or port or PORT_IN_CONTAINER}:{PORT_IN_CONTAINER}"]
    for mount in s.mounts:
        out += ["-v", _mount(mount)]
    for key, value in sorted(s.env.items()):
        out += ["-e", f"{key}={value}"]
    if s.entrypoint:
        out += ["--entrypoint", s.entrypoint]
    out += [*s.run_args, image(arm)]
    return out + vllm_args(arm)


def by_name(command: list[str], env: dict[str, str]) -> list[str]:
    """The command with secrets and references of ``env`` by name alone (``-e NAME``): neither it nor ``ps`` shows a value."""
    listed = {f"{k}={v}": k for k, v in env.items() if environment.from_outside(k, v)}
    return [
        listed.get(word, word) if before == "-e" else word
        for before, word in zip(["", *command], command, strict=False)
    ]


def exposure(arm: Arm) -> str:
    """Who but this machine can reach the server, as a sentence; empty for one on the loopback address alone."""
    s = arm.server
    words = " ".join(s.run_args)
    if s.backend == "external":
        return ""
    if s.backend == "docker" and re.search(r"--net(work)?[= ]host\b", words) and "--host" not in s.args:
        where = "every address of this machine (--network host)"
    elif s.backend == "docker" and re.search(r"(^| )(-p|--publish)\b", words):
        where = "the addresses of server.run_args"
    elif s.host and not s.host.startswith("127.") and s.host not in ("localhost", "::1"):
        where = "every address of this machine" if s.host in (EVERYWHERE, "::") else s.host
    else:
        return ""
    return f"The server listens on {where}, without a password: whoever reaches it can use the model (server.host)"


def has_ledger(arm: Arm) -> bool:
    """Whether the arm's engine has the ledger of drafts per request: the locked one, or an image whose tag says so."""
    if arm.server.backend != "docker":
        return arm.server.backend == "process"
    release = re.search(r":v(\d+)\.(\d+)", arm.server.image or "")
    return bool(release) and (int(release[1]), int(release[2])) >= LEDGER_SINCE


def image(arm: Arm) -> str:
    """The image by its tag, or by its digest where the study pins one."""
    name = arm.server.image or ""
    return f"{name.split('@')[0]}@{arm.server.digest}" if arm.server.digest else name


def shell(command: list[str], env: dict[str, str] | None = None) -> str:
    """A copy-pasteable, wrapped shell line, without secrets. ``$HOME``, ``~`` and references to variables stay for the shell."""
    words = [_quote(f"{k}={v}") for k, v in environment.shown(env or {}).items()]
    words += [_quote(word) for word in environment.shown_words(command)]
    lines: list[str] = []
    for word in words:
        follows_option = bool(lines) and lines[-1].startswith("-") and " " not in lines[-1]
        complete = bool(lines) and lines[-1].startswith("-") and not follows_option
        if not lines or complete or word.startswith("-") or (not follows_option and len(lines[-1]) + len(word) > 100):
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return " \\\n  ".join(lines)


def host_folder(arm: Arm, path: str) -> str | None:
    """Where a path of the container lies on this machine, by the arm's mounts; None where no mount covers it."""
    for mount in arm.server.mounts:
        outside, inside_, *_ = mount.split(":")
        if path == inside_ or path.startswith(inside_.rstrip("/") + "/"):
            return outside + path[len(inside_.rstrip("/")) :]
    return None


def _flags(arm: Arm, host: str | None, port: int | None) -> list[list[str]]:
    """Every flag with its values, in the study's own order."""
    s = arm.server
    out = [["--revision", arm.target.revision]] if arm.target.revision and not arm.target.local else []
    for flag, value in (
        ("--served-model-name", s.served_model_name),
        ("--host", host),
        ("--port", port),
        ("--max-model-len", s.max_model_len),
        ("--max-num-batched-tokens", s.max_num_batched_tokens),
        ("--gpu-memory-utilization", s.gpu_memory_utilization),
        ("--max-num-seqs", s.max_num_seqs),
        ("--kv-cache-dtype", s.kv_cache_dtype),
        ("--max-cudagraph-capture-size", s.max_cudagraph_capture_size),
        ("--dtype", s.dtype),
        ("--tensor-parallel-size", s.tensor_parallel_size),
        ("--load-format", s.load_format),
        ("--download-dir", s.download_dir),
    ):
        if value is not None:
            out.append([flag, f"{value:g}" if isinstance(value, float) else str(value)])
    if s.limit_mm_per_prompt is not None:
        out.append(["--limit-mm-per-prompt", _compact(s.limit_mm_per_prompt)])
    for name, value in (("prefix-caching", s.prefix_caching), ("chunked-prefill", s.chunked_prefill)):
        if value is not None:
            out.append([f"--enable-{name}" if value else f"--no-enable-{name}"])
    if s.enforce_eager:
        out.append(["--enforce-eager"])
    if s.trust_remote_code:
        out.append(["--trust-remote-code"])
    if s.request_metrics and arm.speculator.speculates and has_ledger(arm):
        out.append(["--per-request-spec-decode-metrics", "detailed"])
    for word in s.args:
        if word.startswith("-") or not out:
            out.append([word])
        else:
            out[-1].append(_path(arm, word))
    if (speculative := speculative_config(arm)) is not None:
        out.append(["--speculative-config", _compact(speculative)])
    return out


def _mount(mount: str) -> str:
    """A folder of the checkout becomes absolute: an engine takes a bare name for a volume."""
    outside, _, rest = mount.partition(":")
    known = not outside.startswith(("/", "$", "~")) and inside(outside).exists()
    return f"{inside(outside)}:{rest}" if known else mount


def _quote(word: str) -> str:
    if word.startswith(("$HOME/", "~/")) and not any(c in word for c in " '\"{}"):
        return word
    name, sign, value = word.partition("=")
    if sign and name.isidentifier() and environment.REFERENCE.fullmatch(value):
        return f'{name}="{value}"'
    return f"{name}={shlex.quote(value)}" if sign and name.isidentifier() else shlex.quote(word)


def _path(arm: Arm, word: str) -> str:
    """Places in the checkout become absolute for a process; ids, values and container paths stay as they are."""
    here = arm.server.backend == "process" and "/" in word and os.path.exists(inside(word))
    return str(inside(word)) if here else word


def _compact(value: dict) -> str:
    return json.dumps(value, separators=(",", ":"))
