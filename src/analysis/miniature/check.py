"""Serve a pair with vLLM's CPU server and look: acceptance and speed by workload, and whether the programs run.

A look, not a measurement: one launch an arm, few requests. The study itself measures through the campaign.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ServerError

# Pair → target, drafter. A base model has no chat template; the trap is shown by lending it one.
PAIRS = {
    "dense": ("dense", "dense-assistant"),
    "dense-centroid": ("dense", "dense-assistant-centroid"),
    "moe": ("moe", "moe-assistant"),
    "dense-base": ("dense-base", "dense-assistant"),
}
PER_POSITION = re.compile(r'^vllm:spec_decode_num_accepted_tokens_per_pos_total\{.*position="(\d+)".*\} (\S+)$', re.M)
DRAFTS = re.compile(r"^vllm:spec_decode_num_drafts_total\{.*\} (\S+)$", re.M)
READY_SECONDS = 300


@contextmanager
def served(target: Path, drafter: Path | None, k: int, extra: tuple[str, ...] = ()) -> Iterator[str]:
    """The base address of a server for one arm; it is stopped with its whole process group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(target)]
    command += ["--served-model-name", "miniature", "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--max-model-len", "1024", "--max-num-seqs", "8", "--no-enable-prefix-caching", *extra]
    if drafter and k:
        speculation = {"method": "mtp", "model": str(drafter), "num_speculative_tokens": k}
        command += ["--speculative-config", json.dumps(speculation)]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", **os.environ, "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until_healthy(address, process, log)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def wait_until_healthy(address: str, process: subprocess.Popen, log: Any) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    log.seek(0)
    tail = log.read().decode(errors="replace")[-3000:]
    raise ServerError("The miniature's server did not become healthy.", "see the end of its log", "", tail)


def ask(address: str, text: str, seed: int, tokens: int, fixed: bool, temperature: float = 0.7) -> dict[str, Any]:
    """One chat completion: text, completion tokens, seconds."""
    body = {
        "model": "miniature",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "temperature": temperature,
        "seed": seed,
        "ignore_eos": fixed,
    }
    request = urllib.request.Request(
        f"{address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    begun = time.monotonic()
    with urllib.request.urlopen(request, timeout=300) as reply:
        answer = json.load(reply)
    return {
        "seconds": time.monotonic() - begun,
        "tokens": answer["usage"]["completion_tokens"],
        "text": answer["choices"][0]["message"]["content"],
        "finish": answer["choices"][0]["finish_reason"],
    }


def counters(address: str) -> tuple[float, dict[int, float]]:
    """Drafts and accepted tokens a position so far (zeros on a baseline)."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=30) as reply:
        page = reply.read().decode()
    drafts = sum(float(value) for value in DRAFTS.findall(page))
    return drafts, {int(position): float(value) for position, value in PER_POSITION.findall(page)}


def look(
    address: str, prompts: Mapping[str, tuple[list[str], list[str]]], repeats: int, tokens: int
) -> list[dict[str, Any]]:
    """One row a workload and kind of prompt: tokens a second, AL, p_i, c_i. `prompts`: (listed, held out) a workload."""
    found = []
    for workload, kinds in prompts.items():
        for label, texts in zip(("listed", "held out"), kinds, strict=True):
            ask(address, texts[0], seed=0, tokens=16, fixed=True)
            drafts, accepted = counters(address)
            replies = [ask(address, text, 1 + n, tokens, fixed=True) for text in texts for n in range(repeats)]
            drafts_after, accepted_after = counters(address)
            drafts = drafts_after - drafts
            p = [(accepted_after[i] - accepted.get(i, 0)) / drafts for i in sorted(accepted_after)] if drafts else []
            found.append(
                {
                    "workload": workload,
                    "prompts": label,
                    "tok_s": sum(r["tokens"] for r in replies) / sum(r["seconds"] for r in replies),
                    "al": 1 + sum(p),
                    "p": p,
                    "c": [b / a if a else 0.0 for a, b in zip([1.0, *p], p, strict=False)],
                    "drafts": int(drafts),
                    "texts": [r["text"] for r in replies],
                }
            )
    return found


def programs(address: str, texts: list[str], seeds: int) -> dict[str, Any]:
    """Programs answered with a natural stop: how many parse, run and pass the sandbox's check, and why others fail."""
    from .. import sandbox

    answers = [ask(address, texts[seed % len(texts)], 100 + seed, 700, fixed=False)["text"] for seed in range(seeds)]
    outcomes = sandbox.run_many([sandbox.extract(answer) for answer in answers])
    return {
        "asked": seeds,
        "parsed": sum(outcome.parsed for outcome in outcomes),
        "ran": sum(outcome.ran for outcome in outcomes),
        "passed": sum(outcome.passed for outcome in outcomes),
        "reasons": sorted({outcome.reason for outcome in outcomes if outcome.reason}),
    }


def check(
    home: Path,
    pair: str,
    ks: list[int],
    prompts: Mapping[str, tuple[list[str], list[str]]],
    repeats: int,
    tokens: int,
    seeds: int,
) -> dict[str, Any]:
    """All arms of a pair, one server after the other; prints as it goes."""
    target, drafter = PAIRS[pair]
    template = home / target / "chat_template.jinja"
    extra = () if template.exists() else ("--chat-template", str(home / "dense" / "chat_template.jinja"))
    result: dict[str, Any] = {"pair": pair, "tokens": tokens, "repeats": repeats, "arms": {}, "programs": {}}
    baseline = None
    for k in ks:
        with served(home / target, home / drafter, k, extra) as address:
            rows = look(address, prompts, repeats, tokens)
            if k == 0:
                baseline = {(row["workload"], row["prompts"]): row["tok_s"] for row in rows}
            print(f"{pair}, K = {k}\n{table(rows, baseline)}", flush=True)
            result["arms"][str(k)] = [
                {key: rounded(value) for key, value in row.items() if key != "texts"} for row in rows
            ]
            if k == 4 or "samples" not in result:
                result["samples"] = {
                    row["workload"]: spread(row["texts"], repeats)[:5] for row in rows if row["prompts"] == "listed"
                }
            if seeds:
                result["programs"][str(k)] = programs(address, prompts["py_code"][0], seeds)
                print(f"programs: {result['programs'][str(k)]}", flush=True)
    return result


def spread(texts: list[str], repeats: int) -> list[str]:
    """The texts with the first of every prompt in front."""
    return [text for repeat in range(repeats) for text in texts[repeat::repeats]]


def rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


def table(rows: list[dict[str, Any]], baseline: Mapping[tuple[str, str], float] | None = None) -> str:
    """Rows of `look` as text; with tokens a second of a baseline, the speedup too."""
    lines = []
    for row in rows:
        line = f"{row['workload']:<11} {row['prompts']:<9} {row['tok_s']:6.1f} tok/s"
        if baseline:
            line += f" {row['tok_s'] / baseline[row['workload'], row['prompts']]:5.2f}x"
        if row["drafts"]:
            p, c = (" ".join(f"{x:.2f}" for x in row[key]) for key in "pc")
            line += f"  AL {row['al']:.2f}  p {p}  c {c}  ({row['drafts']} drafts)"
        lines.append(line)
    return "\n".join(lines)
