"""What came back of a streamed answer, byte by byte stamped -> an `Answer`, or the reason why it cannot count. Pure.

Every chunk is checked: its model, its types, what its text is (content, thinking, a tool call), one finish reason, a
usage that fits the text and does not change once the answer is finished, nothing after ``[DONE]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.errors import ClientError, ConnectionLost
from analysis.servers import web
from analysis.servers.engines.base import Engine, Ledger, count
from analysis.servers.wire import Capture
from analysis.study.plan import Request

#: No tokenizer of these models has a longer token, in bytes of text.
LONGEST_TOKEN = 512
THINKING = ("reasoning", "reasoning_content")  # vLLM's key and its older one, which is llama.cpp's too
FINISHED = ("stop", "length")
DONE = b"[DONE]"


@dataclass(frozen=True)
class Answer:
    """One request's outcome. Times in seconds since its sending; ``gaps`` are the step gaps after the first token.

    A chunk of thinking carries tokens as one of content does, and is stamped as well; ``text`` is the content alone.
    """

    index: int
    prompt_id: str
    seed: int
    stream: int
    started: float
    seconds: float
    ttft: float
    last: float
    gaps: tuple[float, ...]
    chunks: int
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    text: str
    steps_accepted: tuple[int, ...] = field(default=())
    steps_drafted: tuple[int, ...] = field(default=())
    draft_tokens: int = 0  # llama.cpp says these two per request; vLLM's come from its counters
    accepted_tokens: int = 0
    cached_tokens: int = 0
    thinking: str = ""
    thinking_chunks: int = 0
    connect: float = 0.0  # what opening a connection took, where none was open; not in the other times


class Reader:
    """Reads one answer.

    Parameters
    ----------
    engine : Engine
        Whose ledger the chunks may carry.
    models : set of str
        Names of the model that was asked for.
    chat : bool
        False: the raw completions endpoint.
    most_tokens : int
        ``max_tokens`` of the request.
    """

    def __init__(self, engine: Engine, models: set[str], chat: bool, most_tokens: int):
        self._engine, self._models, self._chat, self._most = engine, models, chat, most_tokens
        self._stamps: list[float] = []
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._thinking_chunks = 0
        self._finish = ""
        self._usage: tuple[int, int] | None = None
        self._ledger = Ledger()
        self._events = 0

    def read(self, capture: Capture, request: Request, index: int, begin: float) -> Answer:
        """Raises ClientError for an answer that cannot count, ValueError for one that is no chat completion.

        ``begin`` is when its measurement began, on the clock of the capture.
        """
        done: float | None = None
        for stamp, data in _events(capture):
            now = stamp - capture.sent
            if done is not None:
                raise ClientError(
                    "The server went on after the end of an answer.",
                    why=f"After [DONE] came {data[:80]!r}.",
                    fix="Look at what stands between the study and the engine (a proxy?).",
                )
            elif data.strip() == DONE:
                done = now
            else:
                self._events += 1
                self._chunk(web.loads(data), now)
        if capture.problem is not None:
            raise capture.problem
        total = done if done is not None else capture.over - capture.sent
        answer = self._answer(request, index, capture.sent - begin, total, done is not None)
        return replace(answer, connect=capture.connect_s)

    def _chunk(self, chunk: Any, now: float) -> None:
        if not isinstance(chunk, dict):
            raise ValueError(f"a chunk is {str(chunk)[:80]}")
        if chunk.get("error") is not None:
            raise _broken_off(chunk["error"])
        model = chunk.get("model")
        if model is not None and (not isinstance(model, str) or model not in self._models):
            raise ClientError(
                f"The server answers as '{str(model)[:80]}', and '{min(self._models)[:80]}' was asked for.",
                why="Another model made (part of) this answer.",
                fix="Let the address serve the arm's model alone, or set server.served_model_name to its name.",
            )
        choices = chunk.get("choices")
        if not isinstance(choices, list | None):
            raise ValueError("choices is no list")
        for choice in choices or ():
            if not isinstance(choice, dict) or choice.get("index", 0) != 0:
                raise ValueError("it holds more than one answer, or none")
            self._choice(choice, now)
        self._ledger = self._engine.ledger(chunk, self._ledger)
        if chunk.get("usage") is not None:
            self._count(chunk["usage"])

    def _choice(self, choice: dict[str, Any], now: float) -> None:
        delta = choice.get("delta") if self._chat else choice
        if not isinstance(delta, dict | None):
            raise ValueError("delta is no object")
        delta = delta or {}
        if delta.get("tool_calls") or delta.get("function_call"):
            raise ClientError(
                "The answer is a tool call, not text.",
                why="The server has a tool parser on, which took the model's text for a call.",
                fix="Remove --enable-auto-tool-choice and --tool-call-parser (llama.cpp: --tools) from the server.",
            )
        content = _string(delta, "content" if self._chat else "text")
        thinking = "".join(_string(delta, key) for key in THINKING[: 1 if delta.get(THINKING[0]) else 2])
        if content or thinking:  # role-only and empty chunks carry no token
            if self._finish:
                raise ClientError(
                    "The server sent text after the end of an answer.",
                    why=f"It had said that the answer was finished ({self._finish}).",
                    fix="Look at what stands between the study and the engine (a proxy?).",
                )
            self._stamps.append(now)
            self._text.append(content)
            self._thinking.append(thinking)
            self._thinking_chunks += bool(thinking)
        if finish := _string(choice, "finish_reason"):
            if self._finish:
                raise ClientError(
                    "An answer ended twice.",
                    why=f"Its finish reasons are '{self._finish}' and '{finish[:40]}'.",
                    fix="Look at what stands between the study and the engine (a proxy?).",
                )
            self._finish = finish

    def _count(self, usage: Any) -> None:
        """Take a usage: it may grow while the answer does (some servers send it with every chunk), and not change after."""
        if not isinstance(usage, dict):
            raise ValueError("usage is no object")
        now = (
            count(usage.get("prompt_tokens"), "prompt_tokens"),
            count(usage.get("completion_tokens"), "completion_tokens"),
        )
        old = self._usage
        self._usage = now
        final = self._finish and self._counted_final
        if old and (now[0] != old[0] or now[1] < old[1] or (final and now != old)):
            raise ClientError(
                "The server changed its token usage.",
                why=f"It said {old[1]} tokens after {old[0]} of the prompt, and then {now[1]} after {now[0]}.",
                fix="Look at what stands between the study and the engine (a proxy?).",
            )
        self._counted_final = bool(self._finish)

    _counted_final = False

    def _answer(self, request: Request, index: int, started: float, total: float, ended: bool) -> Answer:
        if self._events and not ended and self._usage is None:
            raise ConnectionLost(
                "The connection to the server broke during a request.",
                why="The answer stopped before its end ([DONE]).",
                fix="Look at the server's log; run again: the measurement is repeated.",
            )
        if self._usage is None or not self._usage[1]:
            raise ClientError(
                "The server sent no token usage.",
                why="The answer was empty, or the server ignores stream_options.",
                fix="Check that the server is vLLM, or supports include_usage.",
            )
        prompt_tokens, tokens = self._usage
        if self._finish not in FINISHED:
            raise ClientError(
                f"An answer did not end in the usual way: finish reason '{self._finish[:40]}'."
                if self._finish
                else "An answer has no finish reason.",
                why="The engine aborted it, or something between the study and the engine cut it.",
                fix="Look at the server's log; run again: the measurement is repeated.",
            )
        if not self._stamps:
            raise ClientError(
                "The server sent an answer without any text.",
                why=f"{tokens} tokens, finish reason '{self._finish}'.",
                fix="Check the model's chat template and tokenizer.",
            )
        text, thinking = _whole("".join(self._text)), _whole("".join(self._thinking))
        size = len(text.encode()) + len(thinking.encode())
        if tokens < len(self._stamps) or size > tokens * LONGEST_TOKEN or tokens > self._most:
            raise ClientError(
                "The token usage of an answer cannot be right.",
                why=f"It says {tokens} tokens; there are {len(self._stamps)} chunks with text, {size} bytes, "
                f"and at most {self._most} tokens were asked for.",
                fix="Look at what stands between the study and the engine (a proxy that counts by itself?).",
            )
        return Answer(
            index=index,
            prompt_id=request.prompt_id,
            seed=request.seed,
            stream=request.stream,
            started=started,
            seconds=total,
            ttft=self._stamps[0],
            last=self._stamps[-1],
            gaps=tuple(round(b - a, 5) for a, b in zip(self._stamps, self._stamps[1:], strict=False)),
            chunks=len(self._stamps),
            prompt_tokens=prompt_tokens,
            completion_tokens=tokens,
            finish_reason=self._finish,
            text=text,
            steps_accepted=self._ledger.steps_accepted,
            steps_drafted=self._ledger.steps_drafted,
            draft_tokens=self._ledger.draft_tokens,
            accepted_tokens=self._ledger.accepted_tokens,
            cached_tokens=self._ledger.cached_tokens,
            thinking=thinking,
            thinking_chunks=self._thinking_chunks,
        )


def said_done(body: bytes) -> bool:
    """True where an answer holds the event that says it is over."""
    return any(line.removeprefix(b"data:").strip() == DONE for line in body.split(b"\n") if line.startswith(b"data:"))


def _events(capture: Capture) -> Iterator[tuple[float, bytes]]:
    """Each server-sent event that is not empty: when its last byte came, and its data. Comments (pings) are none.

    The rest of an answer that broke off is no event.
    """
    data: list[bytes] = []
    at = piece = 0
    stamp = capture.sent
    *lines, rest = bytes(capture.body).split(b"\n")
    for line in lines:
        at += len(line) + 1
        while capture.ends[piece] < at:
            piece += 1
        stamp = capture.stamps[piece]
        line = line.rstrip(b"\r")
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            if event := b"\n".join(data):
                yield stamp, event
            data = []
    if rest.startswith(b"data:"):
        stamp = capture.stamps[-1]
        data.append(rest.rstrip(b"\r")[5:].removeprefix(b" "))
    if capture.problem is None and (event := b"\n".join(data)):
        yield stamp, event


def _string(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{key} is no text: {str(value)[:60]}")
    return value


def _whole(text: str) -> str:
    """The text with surrogate pairs joined, which some servers send in two chunks."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        pass
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ClientError(
            "An answer holds half a character (a lone surrogate), so its text cannot be kept.",
            why="The server cut its text in the middle of a character.",
            fix="Look at the server's tokenizer and at what stands between it and the study.",
        ) from None


def _broken_off(error: Any) -> ClientError:
    said = str(error.get("message") if isinstance(error, dict) else error)[:300]
    if any(sign in said for sign in ("EngineCore", "EngineDead", "engine is dead", "died")):
        what = "The engine died during a request."
    else:
        what = "The server broke off an answer with an error."
    return ConnectionLost(what, why=said, fix="Look at the server's log; run again: the measurement is repeated.")
