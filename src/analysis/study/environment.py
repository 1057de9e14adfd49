"""Variables of a server: which are secrets, what may be shown of them, and what they are when the server starts. Pure.

A value ``$NAME`` refers to the variable NAME of the process that starts the server: the study file then holds no secret.
A secret that stands in the file all the same is used, and is ``***`` wherever it would be written or printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from analysis.errors import ParamsError

HIDDEN = "***"
REFERENCE = re.compile(r"\$(?:\{(?P<braced>[A-Za-z_]\w*)\}|(?P<plain>[A-Za-z_]\w*))")
_NAME = re.compile(
    r"(^|[_-])(secret|password|passwd|passphrase|credentials?|apikey)([_-]|$)|(^|[_-])(token|pass|pwd|key|auth|cookie)$",
    re.IGNORECASE,
)
#: Forms of keys that are secret under any name: of Hugging Face, OpenAI, GitHub, AWS; a password in an address.
_VALUE = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\bsk-[\w-]{16,}|\bgh[pousr]_\w{20,}|\bgithub_pat_\w+|\bAKIA[A-Z0-9]{12,}|//[^/@\s]*:[^/@\s]+@"
)
_FLAGS = ("-e", "--env")
SECRET_FLAG = re.compile(r"--?(api[_-]key|hf[_-]token|token|password)", re.IGNORECASE)


def secret(name: str, value: str) -> bool:
    """Does the name, or the form of the value, look like a secret? A reference is none."""
    return bool(value) and not REFERENCE.fullmatch(value) and bool(_NAME.search(name) or _VALUE.search(value))


def from_outside(name: str, value: str) -> bool:
    """Is the value not written down where a launch is rendered or started by name: a reference, or a secret?"""
    return bool(REFERENCE.fullmatch(value)) or secret(name, value)


def shown(env: Mapping[str, Any]) -> dict[str, Any]:
    """The variables as they may be written and printed, in the order of their names."""
    return {name: HIDDEN if secret(name, str(value)) else value for name, value in sorted(env.items())}


def shown_words(words: Iterable[str]) -> list[str]:
    """A command's words without its secrets: values of ``-e NAME=…`` and of flags such as ``--api-key``."""
    out: list[str] = []
    before = ""
    for word in words:
        name, sign, value = word.partition("=")
        if before in _FLAGS and sign:
            word = f"{name}={HIDDEN}" if secret(name, value) else word
        elif SECRET_FLAG.fullmatch(before) or (sign and SECRET_FLAG.fullmatch(name)):
            value = value if sign and SECRET_FLAG.fullmatch(name) else word
            hidden = value if REFERENCE.fullmatch(value) else HIDDEN
            word = f"{name}={hidden}" if value is not word else hidden
        elif name == "--env" and sign:
            key, _, value = value.partition("=")
            word = f"--env={key}={HIDDEN}" if secret(key, value) else word
        else:
            word = _VALUE.sub(HIDDEN, word)
        out.append(word)
        before = word
    return out


def resolved(env: Mapping[str, str], around: Mapping[str, str]) -> dict[str, str]:
    """The variables as the server gets them. `around`: those of the process that starts it.

    Raises
    ------
    ParamsError
        A reference to a variable that is not set, or a value that was hidden when it was written.
    """
    found = {}
    for name, value in env.items():
        match = REFERENCE.fullmatch(value)
        asked = match and (match["braced"] or match["plain"])
        if asked and asked not in around:
            raise ParamsError(
                f"server.env: {name} is ${asked}, and ${asked} is not set.",
                fix=f"Set it in the shell that starts the study: export {asked}=…",
            )
        if value == HIDDEN:
            raise ParamsError(
                f"server.env: {name} is hidden here.",
                why="Secrets are not written into records.",
                fix=f"Refer to a variable of your shell in the study file: {name}: ${name}",
            )
        found[name] = around[asked] if asked else value
    return found
