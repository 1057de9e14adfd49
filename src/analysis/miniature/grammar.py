"""A small grammar language: text with nested choices in, one random sentence out.

``{a|b|c}`` one of several, the earlier the likelier · ``{?a}`` present or absent · ``<1.5~2.5>`` a number in a
range, with the decimals of its bounds · ``@name`` another rule. Choices may nest.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import cache

Node = tuple  # ("text", str) | ("rule", str) | ("number", lo, hi, decimals) | ("choice", [seq, ...]) | ("maybe", seq)
_TOKEN = re.compile(r"\{\?|\{|\||\}|@[a-z_]+|<[\d.,]+~[\d.,]+>")


class Grammar:
    """Named rules and a skew: how strongly early alternatives are preferred.

    Parameters
    ----------
    rules : mapping of rule name to template
    skew : float
        Alternative i (from 0) has weight (i + 1) ** -skew: 0 is uniform, larger is more predictable (Zipf's law).
    """

    def __init__(self, rules: Mapping[str, str], skew: float):
        self.rules, self.skew = dict(rules), skew

    def say(self, template: str, rng: random.Random) -> str:
        """One random expansion of `template`."""
        return "".join(self._expand(parse(template), rng))

    def pick(self, options: Sequence, rng: random.Random):
        """One of `options`, the earlier the likelier."""
        return rng.choices(options, weights=_weights(len(options), self.skew))[0]

    def _expand(self, sequence: Sequence[Node], rng: random.Random) -> list[str]:
        out: list[str] = []
        for node in sequence:
            kind = node[0]
            if kind == "text":
                out.append(node[1])
            elif kind == "rule":
                out.extend(self._expand(parse(self.rules[node[1]]), rng))
            elif kind == "number":
                _, low, high, decimals = node
                out.append(f"{rng.uniform(low, high):.{decimals}f}")
            elif kind == "maybe":
                if rng.random() < 0.5:
                    out.extend(self._expand(node[1], rng))
            else:
                out.extend(self._expand(self.pick(node[1], rng), rng))
        return out


@cache
def parse(template: str) -> tuple[Node, ...]:
    """The tree of a template. Raises ValueError on unbalanced braces."""
    tokens = _split(template)
    sequence, rest = _sequence(tokens, 0, depth=0)
    if rest != len(tokens):
        raise ValueError(f"unbalanced braces in {template!r}")
    return sequence


def sentence_case(text: str) -> str:
    """First letter upper-case, single spaces."""
    text = re.sub(r" +", " ", text).strip().replace(" ,", ",").replace(" .", ".")
    return text[:1].upper() + text[1:]


@cache
def _weights(count: int, skew: float) -> tuple[float, ...]:
    return tuple((i + 1) ** -skew for i in range(count))


def _split(template: str) -> list[str]:
    tokens, at = [], 0
    for match in _TOKEN.finditer(template):
        if match.start() > at:
            tokens.append(template[at : match.start()])
        tokens.append(match.group())
        at = match.end()
    if at < len(template):
        tokens.append(template[at:])
    return tokens


def _sequence(tokens: list[str], at: int, depth: int) -> tuple[tuple[Node, ...], int]:
    nodes: list[Node] = []
    while at < len(tokens):
        token = tokens[at]
        if token in ("|", "}") and depth:
            break
        if token == "{":
            node, at = _choice(tokens, at + 1, depth + 1)
            nodes.append(node)
        elif token == "{?":
            inner, at = _sequence(tokens, at + 1, depth + 1)
            if at >= len(tokens) or tokens[at] != "}":
                raise ValueError("an optional part is not closed")
            nodes.append(("maybe", inner))
            at += 1
        elif token == "}":
            raise ValueError("a closing brace without an opening one")
        else:
            nodes.append(_leaf(token))
            at += 1
    return tuple(nodes), at


def _choice(tokens: list[str], at: int, depth: int) -> tuple[Node, int]:
    options = []
    while True:
        option, at = _sequence(tokens, at, depth)
        options.append(option)
        if at >= len(tokens):
            raise ValueError("a choice is not closed")
        at += 1
        if tokens[at - 1] == "}":
            return ("choice", tuple(options)), at


def _leaf(token: str) -> Node:
    if re.fullmatch(r"@[a-z_]+", token):
        return ("rule", token[1:])
    if match := re.fullmatch(r"<([\d.]+)~([\d.]+)>", token):
        low, high = match.groups()
        return ("number", float(low), float(high), len(low.partition(".")[2]))
    return ("text", token)
