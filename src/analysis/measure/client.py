"""Sends the requests of a cell to one OpenAI-compatible server, each bounded in time and bytes, and stamps its chunks.

Tokens come from ``usage``, never from chunks: under MTP a chunk carries several tokens, so the gap between chunks is a
step gap, not an inter-token latency. What an answer must be is in `analysis.measure.stream`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from analysis.errors import ClientError, ConnectionLost, Deadlock
from analysis.measure.stream import Answer, Reader
from analysis.servers import engines, web
from analysis.servers.engines.base import Engine, chosen
from analysis.study.plan import Arm, Cell, Request

__all__ = ["Answer", "Client"]

#: Most bytes of an answer: a token's chunk has some 300, with usage and ledger under 1000; the rest are pings.
BYTES, BYTES_PER_TOKEN = 2**18, 4096
#: The engine is frozen if it makes no token in this many last seconds of a request's time limit (at most 40 % of it).
FROZEN_S = 30.0


class Client:
    """Sends requests to one server.

    Parameters
    ----------
    url : str
        Root of the server, without ``/v1``.
    timeout_s : float
        Limit of one request, from its sending to the last byte of its answer.

    Raises
    ------
    ClientError
        The server does not list a model.
    """

    def __init__(self, url: str, timeout_s: float = 900.0):
        self._url, self._limit = url.rstrip("/"), timeout_s
        self._idle: list[web.Channel] = []
        self._busy: set[web.Channel] = set()
        self._closed = False
        self._listed = self._models()

    def send(self, cell: Cell, each: Callable[[Answer], None] = lambda answer: None) -> list[Answer]:
        """Send a cell's requests: each stream in its own thread, its requests one after the other.

        Raises
        ------
        ClientError
            Empty or malformed answer, error status, time-out, connection lost; the first one ends the cell.
        """
        streams: dict[int, list[tuple[int, Request]]] = {}
        for index, request in enumerate(cell.requests):
            streams.setdefault(request.stream, []).append((index, request))
        begin = time.perf_counter()

        def run(queue: list[tuple[int, Request]]) -> list[Answer]:
            answers = []
            for index, request in queue:
                answers.append(self.ask(cell, request, index, begin))
                each(answers[-1])
            return answers

        if len(streams) == 1:
            return run(next(iter(streams.values())))
        with ThreadPoolExecutor(len(streams)) as pool:
            futures = [pool.submit(run, queue) for queue in streams.values()]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.close()
                raise
            return sorted((a for f in futures for a in f.result()), key=lambda a: a.index)

    def ask(self, cell: Cell, request: Request, index: int = 0, begin: float | None = None) -> Answer:
        """One request, streamed; see `send` for errors."""
        engine, (model, names) = engines.of(cell.arm), self._served(cell.arm)
        chat = cell.endpoint != "raw"
        sampling = cell.sampling
        body = {
            **({"messages": [{"role": "user", "content": request.text}]} if chat else {"prompt": request.text}),
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.seed,
            **engine.body(sampling, chat),
        }
        reader = Reader(engine, names, chat, sampling.max_tokens)
        path = "/v1/chat/completions" if chat else "/v1/completions"
        most = BYTES + BYTES_PER_TOKEN * sampling.max_tokens
        with _Watch(engine, self._url, self._limit) as watch, self._channel() as channel:
            sent = time.perf_counter()
            try:
                answering = channel.open(path, body, self._limit, most)
                try:
                    if answering.status != 200:
                        raise _refused(answering.status, answering.read())
                    return reader.read(answering, request, index, sent, sent if begin is None else begin)
                finally:
                    answering.finish()
            except web.TooSlow:
                raise watch.verdict() from None
            except web.TooLong as error:
                raise ClientError(
                    "The answer to a request has no end, or is not the kind that was asked for.",
                    why=f"{error} ({most} bytes for {sampling.max_tokens} tokens).",
                    fix=f"Check what answers at {self._url}.",
                ) from None
            except web.WebError as error:
                raise ConnectionLost(
                    "The connection to the server broke during a request.",
                    why=f"{error}.",
                    fix="Look at the server's log; run again: the measurement is repeated.",
                ) from None
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                raise ClientError(
                    "The server sent an answer that is not a chat completion.",
                    why=f"{type(error).__name__}: {error}"[:200],
                    fix=f"Check that {self._url} is an OpenAI-compatible server.",
                ) from None

    def model(self, arm: Arm) -> str:
        """The listed name of the arm's model, which its requests are sent with. Raises ClientError where it is not listed."""
        return self._served(arm)[0]

    def close(self) -> None:
        """Drop all connections: requests under way end with a ClientError."""
        self._closed = True
        for channel in list(self._busy):
            channel.cut()
        while self._idle:
            self._idle.pop().close()

    def _served(self, arm: Arm) -> tuple[str, set[str]]:
        """The arm's model in the list, and every name of the same weights."""
        engine = engines.of(arm)
        try:
            models = engine.models(self._listed)
        except ValueError as error:
            raise self._no_list(error) from None
        found = chosen(models, engine.names(arm))
        ours = arm.server.backend != "external" and arm.server.served_model_name is None
        if found is None and ours and len(models) == 1:
            found = models[0]  # a server that the study started serves its arm, by whatever name
        if found is None:
            raise ClientError(
                f"{self._url} does not serve '{engine.names(arm)[0]}'.",
                why=f"It lists {', '.join(m.id[:60] for m in models[:5]) or 'no model'}.",
                fix="Set server.served_model_name to the name under which the arm's model is listed.",
            )
        same = {m.id for m in models if set(m.also) & set(found.also)}
        return found.id, {found.id, *found.also, *same}

    def _models(self) -> Any:
        try:
            reply = web.get(f"{self._url}/v1/models")
            listed = reply.json()
            if reply.status != 200 or not listed["data"][0]["id"]:
                raise ValueError(f"HTTP {reply.status}")
            return listed
        except (web.WebError, ValueError, LookupError, TypeError) as error:
            raise self._no_list(error) from None

    def _no_list(self, error: Exception) -> ClientError:
        return ClientError(
            f"{self._url} does not list a model.",
            why=f"{type(error).__name__}: {error}"[:200],
            fix="Check that it is a running OpenAI-compatible server.",
        )

    @contextlib.contextmanager
    def _channel(self) -> Iterator[web.Channel]:
        """A connection of this thread's own, kept open between requests."""
        channel = self._idle.pop() if self._idle else web.Channel(self._url)
        self._busy.add(channel)
        try:
            if self._closed:
                raise ClientError("The request was not sent.", why="Another request of the same measurement failed.")
            yield channel
        finally:
            self._busy.discard(channel)
            if self._closed:
                channel.close()
            else:
                self._idle.append(channel)


class _Watch:
    """Looks at the engine's work twice near the end of a request's time, to tell a slow engine from a frozen one."""

    def __init__(self, engine: Engine, url: str, limit: float):
        self._engine, self._url, self._limit = engine, url, limit
        self._span = min(FROZEN_S, 0.4 * limit)
        self._seen: list[tuple[int, int] | None] = []
        self._over = threading.Event()

    def __enter__(self) -> _Watch:
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def verdict(self) -> ClientError:
        """What it means that the request got no complete answer in time."""
        seen = [work for work in self._seen if work]
        if len(seen) == 2 and all(running for running, _ in seen) and seen[0][1] == seen[1][1]:
            return Deadlock(
                f"The engine is frozen (a deadlock): a request runs, and no token was made in {0.9 * self._span:.1f} s.",
                why=f"Its counter of generated tokens stands at {seen[0][1]}, and it still answers /health.",
                fix="End this server and start it anew (running again does it); a newer engine, fewer streams or "
                "enforce_eager may avoid it. A longer time limit does not help.",
            )
        return ClientError(
            f"A request got no complete answer within its time limit of {self._limit:g} s.",
            why="The server is stuck, or slower than expected.",
            fix="Raise request_minutes, or look at the server's log.",
        )

    def _run(self) -> None:
        for pause in (self._limit - self._span, 0.9 * self._span):
            if self._over.wait(pause):
                return
            self._seen.append(self._engine.work(self._url))


def _refused(status: int, content: bytes) -> ClientError:
    """An answer with an error status as an error of ours."""
    with contextlib.suppress(ValueError):
        body = web.loads(content)
        error = body.get("error") if isinstance(body, dict) else None
        said = error.get("message") if isinstance(error, dict) else error or (body or {}).get("message")
        if said:
            content = str(said).encode(errors="replace")
    reason = content.decode(errors="replace").strip()[:300] or "It gives no reason."
    fix = "Look at the server's log."
    if "maximum context length" in reason or "max_model_len" in reason:
        fix = "Lower timing_tokens, code_tokens or greedy_tokens, or raise server.max_model_len."
    kind = ConnectionLost if status >= 500 and "Engine" in reason else ClientError
    return kind(f"The server refused a request (HTTP {status}).", why=reason, fix=fix)
