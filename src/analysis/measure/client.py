"""Sends the requests of a cell to one OpenAI-compatible server, each bounded in time and bytes, and stamps its chunks.

Tokens come from ``usage``, never from chunks: under MTP a chunk carries several tokens, so the gap between chunks is a
step gap, not an inter-token latency. What an answer must be is in `analysis.measure.stream`.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

from analysis.errors import ClientError, ConnectionLost, Deadlock
from analysis.measure import stream
from analysis.measure.stream import Answer
from analysis.servers import engines, web
from analysis.servers.engines.base import Engine, chosen
from analysis.servers.load import Load
from analysis.servers.wire import Capture, Sending, Wire
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
        self._span = min(FROZEN_S, 0.4 * timeout_s)
        self._looking, self._looked = threading.Lock(), (-1e9, None)
        self._listed = self._models()
        self._wire = Wire(self._url)

    def send(self, cell: Cell, each: Callable[[int], None] = lambda ended: None) -> tuple[list[Answer], Load]:
        """Send a cell's requests, each stream's one after the other; its answers and the load of the client itself.

        ``each`` is told now and then how many requests have ended. Answers are parsed when the last one has ended.

        Raises
        ------
        ClientError
            Empty or malformed answer, error status, time-out, connection lost; the first one ends the cell.
        """
        streams: dict[int, list[int]] = {}
        for index, request in enumerate(cell.requests):
            streams.setdefault(request.stream, []).append(index)
        sendings = [self._sending(cell, request) for request in cell.requests]
        try:
            begin, captures, load = self._wire.exchange([[sendings[i] for i in s] for s in streams.values()], each)
        except CancelledError:
            raise ClientError("The request was not sent.", why="The client was closed.") from None
        if len(captures) < len(streams) or not captures[0][0].sound:
            raise self._broken(cell, captures[0][0])
        order = [index for one in streams.values() for index in one]
        whole = [capture for one in captures for capture in one]
        answers = [self._read(cell, c, i, begin) for i, c in zip(order, whole, strict=True)]
        return sorted(answers, key=lambda a: a.index), load

    def ask(self, cell: Cell, request: Request) -> Answer:
        """One request, streamed; see `send` for errors."""
        return self.send(replace(cell, requests=(request,)))[0][0]

    def _sending(self, cell: Cell, request: Request) -> Sending:
        engine, chat, sampling = engines.of(cell.arm), cell.endpoint != "raw", cell.sampling
        body = {
            **({"messages": [{"role": "user", "content": request.text}]} if chat else {"prompt": request.text}),
            "model": self.model(cell.arm),
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.seed,
            **engine.body(sampling, chat),
        }
        return Sending(
            path="/v1/chat/completions" if chat else "/v1/completions",
            body=json.dumps(body, allow_nan=False).encode(),
            seconds=self._limit,
            most=BYTES + BYTES_PER_TOKEN * sampling.max_tokens,
            mark=stream.DONE,
            ended=stream.said_done,
            look=lambda: self._work(engine),
            looks=(self._limit - self._span, self._limit - 0.1 * self._span),
        )

    def _read(self, cell: Cell, capture: Capture, index: int, begin: float) -> Answer:
        engine, (_, names) = engines.of(cell.arm), self._served(cell.arm)
        reader = stream.Reader(engine, names, cell.endpoint != "raw", cell.sampling.max_tokens)
        try:
            return reader.read(capture, cell.requests[index], index, begin)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ClientError(
                "The server sent an answer that is not a chat completion.",
                why=f"{type(error).__name__}: {error}"[:200],
                fix=f"Check that {self._url} is an OpenAI-compatible server.",
            ) from None

    def _broken(self, cell: Cell, capture: Capture) -> ClientError:
        """Why an answer is not whole: what it says itself, else what became of its connection."""
        problem = capture.problem
        if capture.status not in (0, 200) and problem is None:
            return _refused(capture.status, bytes(capture.body))
        if capture.status == 200:
            try:
                self._read(cell, capture, 0, 0.0)
            except ClientError as error:
                return error
            except web.WebError:
                pass
        if isinstance(problem, web.TooSlow):
            return self._slow(capture.seen)
        if isinstance(problem, web.TooLong):
            return ClientError(
                "The answer to a request has no end, or is not the kind that was asked for.",
                why=f"{problem} ({BYTES + BYTES_PER_TOKEN * cell.sampling.max_tokens} bytes for {cell.sampling.max_tokens} tokens).",
                fix=f"Check what answers at {self._url}.",
            )
        return ConnectionLost(
            "The connection to the server broke during a request.",
            why=f"{problem}.",
            fix="Look at the server's log; run again: the measurement is repeated.",
        )

    def _slow(self, seen: list[tuple[int, int] | None]) -> ClientError:
        """What it means that a request got no complete answer in time, by two looks at the engine's work."""
        work = [look for look in seen if look]
        if len(work) == 2 and all(running for running, _ in work) and work[0][1] == work[1][1]:
            return Deadlock(
                f"The engine is frozen (a deadlock): a request runs, and no token was made in {0.9 * self._span:.1f} s.",
                why=f"Its counter of generated tokens stands at {work[0][1]}, and it still answers /health.",
                fix="End this server and start it anew (running again does it); a newer engine, fewer streams or "
                "enforce_eager may avoid it. A longer time limit does not help.",
            )
        return ClientError(
            f"A request got no complete answer within its time limit of {self._limit:g} s.",
            why="The server is stuck, or slower than expected.",
            fix="Raise request_minutes, or look at the server's log.",
        )

    def _work(self, engine: Engine) -> tuple[int, int] | None:
        """The engine's work now; the streams that ask within a moment share one look."""
        with self._looking:
            when, work = self._looked
            if time.monotonic() - when > 0.05 * self._span:
                work = engine.work(self._url)
                self._looked = (time.monotonic(), work)
            return work

    def model(self, arm: Arm) -> str:
        """The listed name of the arm's model, which its requests are sent with. Raises ClientError where it is not listed."""
        return self._served(arm)[0]

    def close(self) -> None:
        """Drop all connections: requests under way end with a ClientError."""
        self._wire.close()

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
