"""Many streams to one server, on one event loop: requests out, bytes back with the time at which they came.

Nothing is read here beyond HTTP's own framing: what an answer says is parsed when the clock has stopped. Every request is
bounded, from its sending to its last byte, in time and in bytes, whatever the other side sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import selectors
import ssl
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httptools

from analysis.servers.load import Load, Rounds
from analysis.servers.web import CONNECT_S, TooLong, TooSlow, WebError

#: The calling thread looks this often at how many requests have ended.
LOOK_S = 0.5
#: How long a connection is waited for once an answer said that it is over.
AFTER_END_S = 2.0


@dataclass(frozen=True)
class Sending:
    """One request: its path and JSON body, its limits, and how its answer says that it is over (``mark``, then ``ended``)."""

    path: str
    body: bytes
    seconds: float
    most: int
    mark: bytes = b"[DONE]"
    ended: Callable[[bytes], bool] = lambda body: False
    #: Asked at ``looks`` seconds after sending, in a thread of its own, while no whole answer is there.
    look: Callable[[], Any] | None = None
    looks: tuple[float, ...] = ()


@dataclass
class Capture:
    """What came back. ``stamps[i]`` is when the body had its first ``ends[i]`` bytes; times as ``time.perf_counter``."""

    status: int = 0
    sent: float = 0.0
    over: float = 0.0
    connect_s: float = 0.0  # what opening its connection took, where none was open; before ``sent``
    body: bytearray = field(default_factory=bytearray)
    stamps: array = field(default_factory=lambda: array("d"))
    ends: array = field(default_factory=lambda: array("Q"))
    problem: WebError | None = None
    seen: list[Any] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return self.problem is None and self.status == 200


class Wire:
    """Connections to one server, kept open, and the thread of the loop that serves them all.

    Parameters
    ----------
    url : str
        Root of the server. Raises WebError where it is no address.
    """

    def __init__(self, url: str):
        parts = urlsplit(url)
        try:
            self._host, self._secure = parts.hostname or "", parts.scheme == "https"
            self._port = parts.port or (443 if self._secure else 80)
        except ValueError as error:
            raise WebError(f"{url} is no address: {error}") from None
        self._root, self._netloc = parts.path.rstrip("/"), parts.netloc.rpartition("@")[2]
        self.rounds = Rounds()
        self._loop = asyncio.SelectorEventLoop(_Selector(self.rounds))
        self._idle: list[_Line] = []
        self._lines: set[_Line] = set()
        self._ended = 0
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="streams")
        self._thread.start()

    def exchange(
        self, streams: Sequence[Sequence[Sending]], each: Callable[[int], None] = lambda ended: None
    ) -> tuple[float, list[list[Capture]], Load]:
        """Send the requests: every stream's one after the other, the streams side by side.

        Connections are opened before the first request goes out. The first answer that is not `Capture.sound` ends it
        all: it is then the only one that comes back.

        Returns
        -------
        tuple
            When it began (``time.perf_counter``), the captures of each stream, and how busy the loop was.
        """
        self._ended = 0
        running = asyncio.run_coroutine_threadsafe(self._exchange(streams), self._loop)
        quiet = gc.isenabled()
        gc.disable()  # a collection stops every stream for as long as it takes
        try:
            told = 0
            while True:
                try:
                    return running.result(LOOK_S)
                except NotYet:
                    if running.done():
                        raise
                if self._ended > told:
                    told = self._ended
                    each(told)
        except BaseException:
            running.cancel()
            raise
        finally:
            if quiet:
                gc.enable()

    def close(self) -> None:
        """Drop all connections and end the loop: what is under way breaks off."""
        if self._loop.is_closed():
            return

        async def drop() -> None:
            for line in list(self._lines):
                line.drop()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        with contextlib.suppress(NotYet):
            asyncio.run_coroutine_threadsafe(drop(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._loop.is_running():
            self._loop.close()

    async def _exchange(self, streams: Sequence[Sequence[Sending]]) -> tuple[float, list[list[Capture]], Load]:
        missing = len(streams) - len(self._idle)
        opened = await asyncio.gather(*(self._connect(CONNECT_S) for _ in range(missing)), return_exceptions=True)
        self._idle += [line for line in opened if isinstance(line, _Line)]  # else a request will say why not
        self.rounds.start()
        begin = time.perf_counter()
        tasks = [asyncio.create_task(self._stream(stream)) for stream in streams]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            broken = next((t.exception() for t in tasks if t.done() and t.exception()), None)
            captures = [t.result() for t in tasks] if broken is None else []
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        load = self.rounds.stop(sum(len(c.stamps) for stream in captures for c in stream))
        if isinstance(broken, _Broken):
            return begin, [[broken.capture]], load
        if broken is not None:
            raise broken
        return begin, captures, load

    async def _stream(self, stream: Sequence[Sending]) -> list[Capture]:
        captures = []
        for sending in stream:
            captures.append(await self._one(sending))
            if not captures[-1].sound:
                raise _Broken(captures[-1])
            self._ended += 1
        return captures

    async def _one(self, sending: Sending) -> Capture:
        head = (
            f"POST {self._root}{sending.path} HTTP/1.1\r\nHost: {self._netloc}\r\nAccept: */*\r\n"
            "Accept-Encoding: identity\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(sending.body)}\r\n\r\n"
        ).encode()
        while True:
            kept = bool(self._idle)
            capture = Capture()
            if kept:
                line = self._idle.pop()
            else:
                opened = time.perf_counter()
                try:
                    line = await self._connect(min(CONNECT_S, sending.seconds))
                except WebError as problem:
                    capture.problem = problem
                    return capture
                capture.connect_s = time.perf_counter() - opened
            try:
                await line.exchange(head + sending.body, sending, capture)
            except asyncio.CancelledError:
                line.drop()
                raise
            if line.open:
                self._idle.append(line)
            # a kept connection that the server closed meanwhile is opened anew
            if not (kept and capture.problem and not capture.status and not isinstance(capture.problem, TooSlow)):
                return capture

    async def _connect(self, seconds: float) -> _Line:
        context = ssl.create_default_context() if self._secure else None
        make = self._loop.create_connection(lambda: _Line(self), self._host, self._port, ssl=context)
        try:
            _, line = await asyncio.wait_for(make, seconds)
        except (TimeoutError, OSError, ValueError) as error:
            raise (TooSlow if isinstance(error, TimeoutError) else WebError)(
                str(error)[:200] or "no connection"
            ) from None
        return line

    def opened(self, line: _Line) -> None:
        self._lines.add(line)

    def lost(self, line: _Line) -> None:
        self._lines.discard(line)
        with contextlib.suppress(ValueError):
            self._idle.remove(line)


class _Broken(Exception):
    def __init__(self, capture: Capture):
        super().__init__()
        self.capture = capture


class _Line(asyncio.Protocol):
    """One connection: at most one request at a time. The ``on_…`` methods are called by the parser of HTTP."""

    def __init__(self, wire: Wire):
        self._wire, self._capture, self._over = wire, None, None
        self._timers: list[asyncio.TimerHandle] = []
        self.open = False

    async def exchange(self, content: bytes, sending: Sending, capture: Capture) -> None:
        """Send one request and wait until its answer is over; what is wrong with it is in the capture."""
        loop = asyncio.get_running_loop()
        self._sending, self._capture, self._framed, self._marked = sending, capture, False, None
        self._parser = httptools.HttpResponseParser(self)
        self._over = loop.create_future()
        self._timers = [loop.call_later(sending.seconds, self._end, TooSlow("its time limit passed"))]
        if sending.look:
            self._timers += [loop.call_later(when, self._look) for when in sending.looks]
        capture.sent = time.perf_counter()
        self._transport.write(content)
        try:
            await self._over
        finally:
            self._quiet()
            self._capture = None

    def drop(self) -> None:
        self._end(WebError("it was dropped"))
        self._transport.abort()

    # -- the connection ----------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport, self.open = transport, True
        self._wire.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._capture is None:
            return self._transport.abort()  # nothing was asked
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(error.__context__ if isinstance(error.__context__, TooLong) else WebError(f"{error}"[:200]))

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        self._wire.lost(self)
        if self._capture is not None:
            whole = self._capture.status and not self._framed and error is None
            self._end(None if whole else WebError(f"{error or 'it broke off before its end'}"[:200]))

    # -- HTTP --------------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-encoding" and value.lower() not in (b"identity", b""):
            raise TooLong("it is compressed, which was not asked for")
        self._framed |= name in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        self._capture.status = self._parser.get_status_code()

    def on_body(self, piece: bytes) -> None:
        capture, sending = self._capture, self._sending
        body, before = capture.body, len(capture.body)
        body += piece
        capture.stamps.append(self._wire.rounds.now)
        capture.ends.append(len(body))
        if len(body) > sending.most:
            raise TooLong("it does not end within the most that an answer of its kind may have")
        if body.find(sending.mark, max(0, before - len(sending.mark))) >= 0:
            self._timers.append(asyncio.get_running_loop().call_later(AFTER_END_S, self._end_of_wait))

    def on_message_complete(self) -> None:
        if self._capture is not None and not self._over.done():
            if not self._parser.should_keep_alive():
                self.open = False
                self._transport.close()
            self._finish(None)

    # -- ends --------------------------------------------------------------------------------------------------

    def _end_of_wait(self) -> None:
        if self._capture is not None and self._sending.ended(bytes(self._capture.body)):
            self._end(None)

    def _end(self, problem: WebError | None) -> None:
        """Leave the connection; an answer that said it is over is whole, whatever came of the connection."""
        self.open = False
        self._transport.abort()
        if self._capture is not None and not self._over.done():
            self._finish(problem and (None if self._sending.ended(bytes(self._capture.body)) else problem))

    def _finish(self, problem: WebError | None) -> None:
        self._quiet()
        self._capture.problem, self._capture.over = problem, self._wire.rounds.now
        self._over.set_result(None)

    def _quiet(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers = []

    def _look(self) -> None:
        capture = self._capture
        if capture is not None:
            looking = asyncio.get_running_loop().run_in_executor(None, self._sending.look)
            looking.add_done_callback(lambda done: done.cancelled() or capture.seen.append(done.result()))


class _Selector(selectors.DefaultSelector):
    """Tells `Rounds` when the loop waits and when it works."""

    def __init__(self, rounds: Rounds):
        super().__init__()
        self._rounds = rounds

    def select(self, timeout: float | None = None) -> list[Any]:
        waits = time.perf_counter()
        ready = super().select(timeout)
        self._rounds.woken(waits, time.perf_counter(), len(ready))
        return ready
