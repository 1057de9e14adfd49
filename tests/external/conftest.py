"""A server that answers as llama.cpp's does, from answers recorded in the form of its documentation."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SETTINGS = {"n_ctx": 4096, "params": {"temperature": 0.8, "top_k": 40, "min_p": 0.05, "samplers": ["top_k"], "seed": 1}}


class LlamaServer(BaseHTTPRequestHandler):
    """`/health`, `/props`, `/v1/models` and chat completions with ``timings``, streamed or not."""

    protocol_version = "HTTP/1.1"
    drafts = True
    name = "stand-in"
    seen: list = []

    def log_message(self, *_):
        pass

    def do_GET(self):
        answers = {
            "/health": {"status": "ok"},
            "/props": {"build_info": "b8681-test", "default_generation_settings": SETTINGS},
            "/v1/models": {"object": "list", "data": [{"id": self.name, "object": "model"}]},
        }
        found = answers.get(self.path)
        self._send(200 if found else 404, json.dumps(found or {"error": {"code": 404}}).encode())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append(body)
        tokens = body["max_tokens"]
        timings = {
            "cache_n": 0,
            "prompt_n": 23,
            "prompt_ms": 30.9,
            "predicted_n": tokens,
            "predicted_ms": 7.14 * tokens,
            "predicted_per_second": 140.0,
        }
        if self.drafts:
            steps = (tokens - 1) // 3  # every step accepts 2 of 3 drafted tokens
            timings |= {"draft_n": 3 * steps, "draft_n_accepted": 2 * steps}
        usage = {"prompt_tokens": 23, "completion_tokens": tokens, "total_tokens": 23 + tokens}
        base = {"id": "chatcmpl-1", "created": 1, "model": self.name}
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "1 2 3"}, "finish_reason": "length"}
            answer = {**base, "object": "chat.completion", "choices": [choice], "usage": usage, "timings": timings}
            return self._send(200, json.dumps(answer).encode())
        chunk = {**base, "object": "chat.completion.chunk"}
        lines = [
            {
                **chunk,
                "choices": [{"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}],
            },
            *(
                {**chunk, "choices": [{"index": 0, "delta": {"content": f"word{i} "}, "finish_reason": None}]}
                for i in range(5)
            ),
            {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]},
            {**chunk, "choices": [], "usage": usage, "timings": timings},
        ]
        text = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
        self._send(200, text.encode(), "text/event-stream")

    def _send(self, status, content, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def llama():
    """make(drafts) -> (url, requests seen so far); all servers end with the test."""
    servers = []

    def make(drafts=True, name="stand-in"):
        handler = type("Handler", (LlamaServer,), {"drafts": drafts, "name": name, "seen": []})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", handler.seen

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()
