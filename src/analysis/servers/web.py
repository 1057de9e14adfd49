"""HTTP to one server, bounded in bytes and in time whatever the other side sends: silence, drips, streams without end.

A limit holds from connecting to the last byte. A watchdog shuts the socket down, so that no single read can outlast it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

CONNECT_S = 10.0
#: Most bytes and seconds of the small answers: `/health`, `/v1/models`, `/version`, `/props`; and of `/metrics`.
SMALL_BYTES, SMALL_S = 2**20, 10.0
METRICS_BYTES, METRICS_S = 2**24, 10.0


class WebError(Exception):
    """No complete answer: refused, broken off, or not HTTP."""


class TooSlow(WebError):
    """The time limit passed before the last byte."""


class TooLong(WebError):
    """More bytes than an honest answer of this kind has, or a compressed one (which was not asked for)."""


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """The answer as JSON; raises ValueError where it is none, is nested too deeply, or holds NaN or infinities."""
        return loads(self.content)


def loads(text: bytes | str) -> Any:
    """JSON as the standard has it: without NaN and infinities. Every failure is a ValueError."""
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def get(url: str, *, seconds: float = SMALL_S, most: int = SMALL_BYTES) -> Reply:
    """GET one address. Raises WebError after ``seconds`` or ``most`` bytes at the latest."""
    return _whole(url, "GET", None, seconds, most)


def post(url: str, body: dict[str, Any], *, seconds: float, most: int = SMALL_BYTES) -> Reply:
    """POST JSON to one address, and read the whole answer; errors as `get`."""
    return _whole(url, "POST", body, seconds, most)


class Channel:
    """A connection to one server, kept open from request to request; for one thread at a time.

    Parameters
    ----------
    url : str
        Root of the server.
    """

    def __init__(self, url: str):
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        try:
            self._http = kind(parts.hostname or "", parts.port, timeout=CONNECT_S)
        except ValueError as error:
            raise WebError(f"{url} is no address: {error}") from None
        self._root = parts.path.rstrip("/")
        self._late = threading.Event()
        self._sock: socket.socket | None = None  # of the request under way; http.client may let go of it early

    def open(self, path: str, body: dict[str, Any] | None, seconds: float, most: int) -> Answering:
        """Send one request; its answer as it comes. Raises WebError."""
        self._late.clear()
        deadline = time.monotonic() + seconds
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        headers = {"Accept-Encoding": "identity", "Accept": "*/*"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        method = "GET" if content is None else "POST"
        for fresh in (self._http.sock is None, True):
            try:
                if self._http.sock is None:
                    self._http.timeout = max(0.01, min(CONNECT_S, deadline - time.monotonic()))
                    self._http.connect()
                self._sock = self._http.sock
                self._sock.settimeout(max(0.01, deadline - time.monotonic()))
                watchdog = threading.Timer(max(0.0, deadline - time.monotonic()), self.cut)
                watchdog.daemon = True
                watchdog.start()
                try:
                    self._http.request(method, self._root + path, body=content, headers=headers)
                    return Answering(self, self._http.getresponse(), most, watchdog)
                except BaseException:
                    watchdog.cancel()
                    raise
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
                self.close()  # an idle connection that the server closed meanwhile is opened anew, once
                if fresh or self._late.is_set():
                    raise self.problem(error) from None
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.close()
                raise self.problem(error) from None
        raise WebError("no connection")

    @property
    def late(self) -> bool:
        """True once the limit of the request under way has passed."""
        return self._late.is_set()

    def problem(self, error: Exception) -> WebError:
        """What a failed read or write means: the limit, or the other side."""
        if self._late.is_set() or isinstance(error, TimeoutError):
            return TooSlow("its time limit passed")
        return WebError(str(error)[:200] or type(error).__name__)

    def cut(self) -> None:
        """End what is under way, from any thread."""
        self._late.set()
        self.hurry(0.01)
        with contextlib.suppress(OSError, AttributeError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def hurry(self, seconds: float) -> None:
        """From here on no single read waits longer than this."""
        with contextlib.suppress(OSError, AttributeError):
            self._sock.settimeout(seconds)

    def close(self) -> None:
        """Drop the connection."""
        with contextlib.suppress(OSError):
            self._http.close()


class Answering:
    """An answer on its way: status, then `lines` or `read`. The watchdog ends it where the limit passes."""

    def __init__(self, channel: Channel, response: http.client.HTTPResponse, most: int, watchdog: threading.Timer):
        self._channel, self._response, self._watchdog = channel, response, watchdog
        self._left = most
        self._ended = False
        self.status = response.status
        if response.getheader("Content-Encoding", "identity").lower() not in ("identity", ""):
            self.finish()
            raise TooLong("it is compressed, which was not asked for")

    def pieces(self) -> Iterator[bytes]:
        """Bytes as they come, until the end of the answer."""
        try:
            while piece := self._response.read1(65536):
                self._left -= len(piece)
                if self._left < 0:
                    raise TooLong("it does not end within the most that an answer of its kind may have")
                yield piece
            if self._channel.late:
                raise TooSlow("its time limit passed")
            if self._response.length:
                raise WebError(f"it broke off {self._response.length} bytes before its end")
            self._ended = True
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            raise self._channel.problem(error) from None
        finally:
            self.finish()

    def lines(self) -> Iterator[bytes]:
        """Whole lines without their ends (LF, CRLF or CR LF); a rest without an end counts as one."""
        rest = b""
        for piece in self.pieces():
            *whole, rest = (rest + piece).split(b"\n")
            yield from (line.rstrip(b"\r") for line in whole)
        if rest:
            yield rest

    def read(self) -> bytes:
        return b"".join(self.pieces())

    def hurry(self, seconds: float) -> None:
        """The answer is there; what else comes is waited for no longer than this."""
        self._channel.hurry(seconds)

    def finish(self) -> None:
        """Stop the watchdog; drop the connection unless the answer was read to its end. Does nothing the second time."""
        self._watchdog.cancel()
        self._response.close()  # also one that was read to its end: http.client sees the end of a counted one only so
        if not self._ended:
            self._channel.close()


def _whole(url: str, method: str, body: dict[str, Any] | None, seconds: float, most: int) -> Reply:
    parts = urlsplit(url)
    channel = Channel(f"{parts.scheme}://{parts.netloc}")
    try:
        answer = channel.open(parts.path or "/", body, seconds, most)
        return Reply(answer.status, answer.read())
    finally:
        channel.close()


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is beyond every number")
    return value
