"""Streamed chat completions, stamped chunk by chunk. Tokens come from ``usage``, never from chunks.

Under MTP a chunk carries several tokens, so the gap between chunks is a step gap, not an inter-token latency.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai

from analysis.errors import ClientError
from analysis.study.plan import Cell, Request


@dataclass(frozen=True)
class Answer:
    """One request's outcome. Times in seconds since its sending; ``gaps`` are the step gaps after the first content."""

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


class Client:
    """Sends the requests of a cell to one OpenAI-compatible server.

    Parameters
    ----------
    url : str
        Root of the server, without ``/v1``.
    timeout_s : float
        Limit of one request.
    """

    def __init__(self, url: str, timeout_s: float = 900.0):
        http = httpx.Client(
            timeout=httpx.Timeout(timeout_s, connect=10), trust_env=False, limits=httpx.Limits(max_connections=None)
        )
        self._api = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=http)
        self._url = url
        self.model = self._served_model()

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
        body: dict[str, Any] = {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": cell.sampling.max_tokens,
            "temperature": cell.sampling.temperature,
            "top_p": cell.sampling.top_p,
            "seed": request.seed,
            "extra_body": {"ignore_eos": True, "min_tokens": cell.sampling.max_tokens}
            if cell.sampling.ignore_eos
            else {},
        }
        if cell.arm.server.flavour == "llama.cpp":
            body["extra_body"] = {**body["extra_body"], "cache_prompt": False}  # its prefix cache is on unless told
        sent = time.perf_counter()
        begin = sent if begin is None else begin
        try:
            if cell.endpoint == "raw":
                stream = self._api.completions.create(prompt=request.text, **body)
            else:
                stream = self._api.chat.completions.create(messages=[{"role": "user", "content": request.text}], **body)
            return self._read(stream, request, index, sent, begin)
        except openai.APIStatusError as error:
            raise ClientError(
                f"The server refused a request (HTTP {error.status_code}).",
                why=_reason(error),
                fix=_fix(error),
                details=str(error.body)[:600],
            ) from None
        except openai.APITimeoutError:
            raise ClientError(
                "A request got no complete answer within its time limit.",
                why="The server is stuck, or slower than expected.",
                fix="Raise request_minutes, or look at the server's log.",
            ) from None
        except (openai.APIConnectionError, openai.APIError, httpx.HTTPError) as error:
            raise ClientError(
                "The connection to the server broke during a request.",
                why=str(error)[:200] or type(error).__name__,
                fix="Look at the server's log; run again to measure the cell anew.",
            ) from None
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ClientError(
                "The server sent an answer that is not a chat completion.",
                why=f"{type(error).__name__}: {error}"[:200],
                fix=f"Check that {self._url} is an OpenAI-compatible server.",
            ) from None

    def close(self) -> None:
        """Drop all connections: requests under way end with a ClientError."""
        self._api.close()

    def _read(self, stream: Any, request: Request, index: int, sent: float, begin: float) -> Answer:
        stamps: list[float] = []
        parts: list[str] = []
        finish, usage, extra, timings = "", None, {}, {}
        for chunk in stream:
            timings = (chunk.model_extra or {}).get("timings") or timings
            if chunk.usage is not None:
                usage, extra = chunk.usage, (chunk.model_extra or {}).get("metrics") or {}
            for choice in chunk.choices:
                piece = choice.text if hasattr(choice, "text") else choice.delta.content
                if piece:  # role-only and empty chunks are not content
                    stamps.append(time.perf_counter() - sent)
                    parts.append(piece)
                finish = choice.finish_reason or finish
        total = time.perf_counter() - sent
        if usage is None or not usage.completion_tokens:
            raise ClientError(
                "The server sent no token usage.",
                why="The answer was empty, or the server ignores stream_options.",
                fix="Check that the server is vLLM, or supports include_usage.",
            )
        if not stamps:
            raise ClientError(
                "The server sent an answer without any text.",
                why=f"{usage.completion_tokens} tokens, finish reason '{finish}'.",
                fix="Check the model's chat template and tokenizer.",
            )
        ledger = extra.get("speculative_decoding") or {}
        return Answer(
            index=index,
            prompt_id=request.prompt_id,
            seed=request.seed,
            stream=request.stream,
            started=sent - begin,
            seconds=total,
            ttft=stamps[0],
            last=stamps[-1],
            gaps=tuple(round(b - a, 5) for a, b in zip(stamps, stamps[1:], strict=False)),
            chunks=len(stamps),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            finish_reason=finish,
            text="".join(parts),
            steps_accepted=tuple(ledger.get("per_step_accepted") or ()),
            steps_drafted=tuple(ledger.get("per_step_drafted") or ()),
            draft_tokens=int(timings.get("draft_n") or 0),
            accepted_tokens=int(timings.get("draft_n_accepted") or 0),
            cached_tokens=int(timings.get("cache_n") or 0),
        )

    def _served_model(self) -> str:
        try:
            models = self._api.models.list().data
            return models[0].id
        except (openai.OpenAIError, httpx.HTTPError, IndexError, AttributeError, TypeError, ValueError) as error:
            raise ClientError(
                f"{self._url} does not list a model.",
                why=f"{type(error).__name__}: {error}"[:200],
                fix="Check that it is a running OpenAI-compatible server.",
            ) from None


def _reason(error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or body.get("error") or error.message)[:300]


def _fix(error: openai.APIStatusError) -> str:
    if "maximum context length" in _reason(error) or "max_model_len" in _reason(error):
        return "Lower timing_tokens, code_tokens or greedy_tokens, or raise server.max_model_len."
    return "Look at the server's log."
