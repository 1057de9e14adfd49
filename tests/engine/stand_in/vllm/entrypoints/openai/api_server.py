"""A stand-in for vLLM's OpenAI server: the same doors and counters, no model, and faults on demand.

Started by the study's process backend in place of the real one (first on PYTHONPATH). The environment variable
``FAULT`` names what goes wrong. Every step drafts K tokens and accepts half of them, rounded up.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULT = os.environ.get("STUDY_FAULT") or os.environ.get("FAULT", "")
WARM_UP = 32  # tokens of a warm-up request, which no test asks for in a cell
options = argparse.ArgumentParser()
options.add_argument("--port", type=int)
options.add_argument("--speculative-config", type=json.loads, default={})
ARGS, _ = options.parse_known_args()
K = ARGS.speculative_config.get("num_speculative_tokens", 0)
STATE = {"drafts": 0, "draft_tokens": 0, "accepted": 0, "generated": 0, "prompt": 0, "requests": 0, "running": 0}
LOCK = threading.Lock()


def metrics():
    label = 'engine="0",model_name="stand-in"'
    names = {
        "vllm:generation_tokens": STATE["generated"],
        "vllm:prompt_tokens": STATE["prompt"],
        "vllm:prefix_cache_hits": 0,
        "vllm:num_preemptions": STATE["requests"] if FAULT == "preempts" else 0,
    }
    if K and FAULT != "counters-missing":
        names |= {
            f"vllm:spec_decode_num_{n}": STATE[s]
            for n, s in (("drafts", "drafts"), ("draft_tokens", "draft_tokens"), ("accepted_tokens", "accepted"))
        }
    lines = []
    for name, value in names.items():
        lines += [
            f"# TYPE {name} counter",
            f"{name}_total{{{label}}} {float(value)}",
            f"{name}_created{{{label}}} 1.79e+09",
        ]
    if K:
        name = "vllm:spec_decode_num_accepted_tokens_per_pos"
        lines.append(f"# TYPE {name} counter")
        for position in range(K):
            each = STATE["accepted"] // max(1, (K + 1) // 2) if position < (K + 1) // 2 else 0
            lines += [f'{name}_total{{{label},position="{position}"}} {float(each)}']
    for name, value in (("vllm:num_requests_running", STATE["running"]), ("vllm:num_requests_waiting", 0)):
        lines += [f"# TYPE {name} gauge", f"{name}{{{label}}} {float(value)}"]
    return "\n".join(lines) + "\n"


def prompt_tokens(body):
    """Words of the prompt, and five for a template."""
    return 5 + len((body["messages"][0]["content"] if "messages" in body else body["prompt"]).split())


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, body, kind="application/json", status=200):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/health":
            self.answer("", status=503 if FAULT == "never-healthy" else 200)
        elif self.path == "/metrics":
            if FAULT == "counters-fall" and STATE["requests"] > 2:
                STATE.update(generated=1)
            self.answer(metrics(), "text/plain; version=0.0.4")
        else:
            self.answer(
                json.dumps(
                    {
                        "object": "list",
                        "data": [{"id": "stand-in", "object": "model", "created": 0, "owned_by": "tests"}],
                    }
                )
            )

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            return self.answer(json.dumps({"count": prompt_tokens(body), "max_model_len": 10**6, "tokens": []}))
        with LOCK:
            STATE["requests"] += body["max_tokens"] != WARM_UP
            STATE["running"] += 1
        try:
            self.complete(body)
        finally:
            with LOCK:
                STATE["running"] -= 1

    def complete(self, body):
        counted = STATE["requests"] > 2
        if FAULT == "dies-mid-cell" and counted:
            print("RuntimeError: the stand-in was told to die", flush=True)
            os._exit(9)
        if FAULT == "worker-dies-mid-cell" and counted:  # the worker is gone at once, the server two seconds later
            print(
                "ERROR Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor.", flush=True
            )
            threading.Timer(2.5, os._exit, [1]).start()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            return self.chunk({"error": {"message": "EngineCore encountered an issue. See stack trace (above)."}})
        if (FAULT == "hangs-mid-cell" and counted) or (FAULT == "hangs-later" and STATE["requests"] > 8):
            time.sleep(600)
        if FAULT == "eats-memory" and counted:
            with open(os.environ["ANALYSIS_MEMINFO"], "w") as stream:
                stream.write("MemTotal: 125829120 kB\nMemAvailable: 7340032 kB\n")
            time.sleep(600)
        if FAULT == "empty" and counted:
            return self.answer("", "text/event-stream")
        if FAULT == "not-json" and counted:
            return self.answer("data: <html>proxy error</html>\n\n", "text/event-stream")
        if FAULT == "refuses" and counted:
            return self.answer(
                json.dumps({"error": {"message": "maximum context length is 8 tokens", "code": 400}}), status=400
            )
        tokens, made, accepted, drafted = body["max_tokens"], 1, [], []
        steps = [1]
        while made < tokens:
            idle = FAULT == "stops-drafting" and counted
            useless = idle or FAULT == "accepts-nothing" or (FAULT == "stops-accepting" and counted)
            accepted.append(0 if useless else min((K + 1) // 2, tokens))
            drafted.append(0 if idle else K)
            made += 1 + accepted[-1]
            steps.append(1 + accepted[-1])
        once = FAULT == "compiles-once" and STATE["requests"] == 3 and counted
        if (FAULT == "compiles" and counted) or once:
            print(
                "WARNING [jit_monitor.py:135] Triton kernel JIT compilation during inference: fused_moe_kernel.",
                flush=True,
            )
        word = body["messages"][0]["content"][:3] if "messages" in body else "raw"
        if tokens == WARM_UP:
            print(f"warm-up {word}", flush=True)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for step in steps:
            time.sleep(0.002)
            self.chunk({"choices": [{"index": 0, "delta": {"content": f"{word} " * step}, "finish_reason": None}]})
        with LOCK:
            STATE["drafts"] += sum(d > 0 for d in drafted)
            STATE["draft_tokens"] += sum(drafted)
            STATE["accepted"] += sum(accepted)
            STATE["generated"] += tokens
            STATE["prompt"] += prompt_tokens(body)
        self.chunk({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "length"}]})
        prompt = prompt_tokens(body) - (FAULT == "miscounts" and counted) * 9
        usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": tokens + prompt}
        if FAULT == "ledger-differs" and accepted:
            accepted[0] = 0
        ledger = {"speculative_decoding": {"per_step_accepted": accepted, "per_step_drafted": drafted}} if K else None
        self.chunk({"choices": [], "usage": usage, "metrics": ledger})
        self.wfile.write(b"data: [DONE]\n\n")

    def chunk(self, content):
        content = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "stand-in", **content}
        self.wfile.write(f"data: {json.dumps(content)}\n\n".encode())
        self.wfile.flush()


if __name__ == "__main__":
    if FAULT == "dies-loading":
        print(
            "ValueError: Chunked MM input disabled but max_tokens_per_mm_item (2496) is larger than max_num_batched_tokens (2048)."
        )
        sys.exit(1)
    # vLLM's engine core is a process of its own, in a session of its own
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True)
    method = "draft_model" if FAULT == "wrong-method" else "mtp"
    speculative = f"SpeculativeConfig(method='{method}', model='drafter', num_spec_tokens={K})" if K else "None"
    print(
        f"INFO Initializing a V1 LLM engine (v0.0.0) with config: speculative_config={speculative}, enforce_eager=True"
        + (", compilation_config={'max_cudagraph_capture_size': 8}" if FAULT == "cuts-graphs" else ""),
        flush=True,
    )
    if FAULT == "slow-start":
        time.sleep(600)
    ThreadingHTTPServer(("127.0.0.1", ARGS.port), Handler).serve_forever()
