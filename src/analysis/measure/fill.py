"""Fills the prompts of a cell to its context: text first, question last, cut where the server counts the wanted tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from analysis.errors import ClientError, ParamsError
from analysis.servers import engines, web
from analysis.study.axes import Context
from analysis.study.plan import Arm, Cell, Request

#: A filled prompt may be this share, or this many tokens, away from the wanted length.
CLOSE, CLOSE_TOKENS = 0.01, 2


class Filler:
    """Fills prompts for one server; a prompt that was filled once is remembered.

    Parameters
    ----------
    count : callable
        Text of a prompt -> its tokens, with the chat template around it.
    """

    def __init__(self, count: Callable[[str], int]):
        self._count = count
        self._known: dict[tuple[Context, str, int], str] = {}

    def cell(self, cell: Cell) -> Cell:
        """The cell as it is sent; without a context, the cell itself.

        Raises
        ------
        ParamsError
            The question alone is longer than the context, or the user's document is too short for it.
        """
        if cell.context is None:
            return cell
        return replace(cell, requests=tuple(self._request(cell.context, r) for r in cell.requests))

    def _request(self, context: Context, request: Request) -> Request:
        key = (context, request.text, request.seed)
        if key not in self._known:
            self._known[key] = fill(context, request.text, request.seed, self._count)
        return replace(request, text=self._known[key])


def of_server(url: str, model: str, arm: Arm) -> Filler:
    """A filler that asks a server's own tokenizer; raises ClientError where the server cannot count."""
    engine = engines.of(arm)

    def count(text: str) -> int:
        try:
            return engine.count_prompt(url, model, text)
        except (web.WebError, ValueError, LookupError, TypeError, NotImplementedError) as error:
            raise ClientError(
                f"{url} does not count the tokens of a prompt.",
                why=f"Its tokenizer endpoint: {error or type(error).__name__}"[:200],
                fix="Remove context_tokens, or use an engine that has /tokenize (vLLM, llama.cpp).",
            ) from None

    return Filler(count)


def fill(context: Context, question: str, seed: int, count: Callable[[str], int]) -> str:
    """The longest beginning of the context's text, and the question, that together have at most the wanted tokens.

    ``count`` is asked for as few texts as a search between two bounds needs: the count grows with the text, nearly
    in proportion. Raises ParamsError, see `Filler.cell`.
    """

    def prompt(characters: int) -> str:
        text = context.text(seed, characters)
        return f"{text}\n\n{question}" if text else question

    low, at_low = 0, count(question)
    if at_low > context.tokens:
        raise ParamsError(
            f"A context of {context.tokens} tokens is too short: a question alone has {at_low}.",
            why="It stands last, and is not cut.",
            fix=f"Raise context_tokens above {at_low}, or remove the workload.",
        )
    high, at_high = 4 * context.tokens, 0
    while (at_high := count(prompt(high))) <= context.tokens:
        if len(context.text(seed, high)) < high:
            if at_high == context.tokens:
                return prompt(high)
            raise ParamsError(
                f"The context_document fills {at_high} tokens, and {context.tokens} are wanted.",
                why="It is used once, from its beginning: text that repeats itself is predicted too easily.",
                fix="Name a longer document, lower context_tokens, or leave context_document out: neutral text has no end.",
            )
        low, at_low, high = high, at_high, 2 * high
    while high - low > 1 and at_low < context.tokens:
        slope = (at_high - at_low) / (high - low)
        guess = low + int((context.tokens + 0.5 - at_low) / slope)
        # a guess that hugs a bound converges slowly: it is kept inside by a part of the span
        margin = max(1, (high - low) // 16)
        middle = min(max(guess, low + margin), high - margin) if high - low > 2 else low + 1
        if (tokens := count(prompt(middle))) <= context.tokens:
            low, at_low = middle, tokens
        else:
            high, at_high = middle, tokens
    return prompt(low)


def misses(cell: Cell, prompt_tokens: list[int]) -> str:
    """What is wrong with the measured lengths of a cell's prompts, as a phrase; empty where they are as wanted."""
    if cell.context is None:
        return ""
    wanted = cell.context.tokens
    away = max(prompt_tokens, key=lambda n: abs(n - wanted))
    if abs(away - wanted) <= max(CLOSE_TOKENS, CLOSE * wanted):
        return ""
    return f"a prompt was filled to {wanted} tokens and the server read {away}"
