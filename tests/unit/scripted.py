"""A small server that answers as a script says: real sockets on the loopback address, one thread per connection."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "served"
USAGE = object()  # stands for the usage chunk, which counts the chunks with text


def chunk(delta=None, finish=None, model=MODEL, **more):
    choices = [] if delta is None and finish is None else [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices, **more}


def words(count, key="content", text="word{} "):
    return [chunk({key: text.format(i)}) for i in range(count)]


def usage(tokens, prompt=5, **more):
    return chunk(usage={"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": tokens + prompt}, **more)


def sound(tokens=8):
    return [
        chunk({"role": "assistant", "content": ""}),
        *words(tokens),
        chunk(finish="length"),
        usage(tokens),
        "[DONE]",
    ]


class Script(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        answer = self.server.pages.get(self.path, (404, b"{}"))
        if callable(answer):
            return answer(self)
        status, content = answer
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self):
        self.server.seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        if self.server.status != 200:
            content = json.dumps(self.server.events).encode()
            self.send_response(self.server.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        self.send_response(200)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        chunked = self.server.headers.get("Transfer-Encoding") == "chunked"
        self.server.connections.add(self.client_address)
        if not chunked:
            self.send_header("Connection", "close")
        self.end_headers()

        def write(content):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content) if chunked else content)

        with contextlib.suppress(OSError):
            for event in self.server.events() if callable(self.server.events) else self.server.events:
                if isinstance(event, float):
                    time.sleep(event)
                elif isinstance(event, bytes):
                    write(event)
                else:
                    data = event if isinstance(event, str) else json.dumps(event)
                    write(f"data: {data}\n\n".encode())
                self.wfile.flush()
            if chunked:
                self.wfile.write(b"0\r\n\r\n")
        self.close_connection = not chunked or self.server.hangs_up


@contextlib.contextmanager
def serving(events=(), pages=None, status=200, models=(MODEL,), headers=None):
    """A scripted server; yields (url, server), with what it was asked in ``server.seen``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Script)
    server.daemon_threads, server.handle_error = True, lambda *_: None
    server.connections, server.hangs_up = set(), False
    server.events, server.status, server.seen, server.headers = events, status, [], headers or {}
    listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in models]}
    server.pages = {"/health": (200, b""), "/v1/models": (200, listed), **(pages or {})}
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        server.shutdown()
        server.server_close()


def drip(handler):
    """A page that never ends: one byte now and then."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(200):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)


def flood(handler):
    """A page without end, as fast as it is read."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(2000):
            handler.wfile.write(b"#" * 65536)
    handler.close_connection = True
