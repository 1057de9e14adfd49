"""What names this machine or its user in a text is replaced: text in, text and the number of places out. Pure but for `here`.

| what                                         | becomes                |
|----------------------------------------------|------------------------|
| the checkout, the working and temporary folder | ``<folder>``         |
| the home folder                              | ``~``                  |
| a home folder by its form: ``/home/name``    | ``/home/<user>``       |
| ``user@host``, a host in an address          | ``<user>@<host>``      |

A bare word is no name: somebody may be called *baseline*, *summary* or *model*.
"""

from __future__ import annotations

import getpass
import html
import json
import re
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from analysis.places import HOME, ROOT

_HOMES = re.compile(r"(?<![\w.~-])/(home|Users)/(?!<user>)[\w.-]+|(\b[A-Za-z]:\\{1,2}Users\\{1,2})(?!<user>)[\w.-]+")
_END = r"(?![\w-])"


@dataclass(frozen=True)
class Names:
    """Folders, user and hosts of one machine; empty where there is none."""

    home: str = ""
    folders: tuple[str, ...] = ()
    user: str = ""
    hosts: tuple[str, ...] = ()


def here() -> Names:
    """The names of this machine and its user."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        user = ""
    try:
        home = str(Path.home())
    except RuntimeError:
        home = ""
    folders = {str(ROOT), str(HOME), str(Path.cwd()), tempfile.gettempdir()} - {home}
    host = socket.gethostname()
    return Names(home, tuple(sorted(folders)), user, tuple(dict.fromkeys(h for h in (host, host.split(".")[0]) if h)))


def masked(text: str, names: Names) -> tuple[str, int]:
    """The text without what names the machine, and in how many places something was replaced."""
    count = 0
    shown = {folder: "<folder>" for folder in names.folders if _long_enough(folder)}
    if _long_enough(names.home) or names.home == "/root":
        shown[names.home] = "~"
    for folder in sorted(shown, key=len, reverse=True):  # the checkout before the home folder that it lies in
        for form in _forms(folder):
            text, found = re.subn(rf"(?<![\w.~-]){re.escape(form)}{_END}", shown[folder].replace("\\", r"\\"), text)
            count += found
    text, found = _HOMES.subn(lambda m: f"/{m[1]}/<user>" if m[1] else f"{m[2]}<user>", text)
    count += found
    for host in names.hosts:
        if names.user:
            text, found = re.subn(rf"(?<![\w.-]){re.escape(names.user)}@{re.escape(host)}{_END}", "<user>@<host>", text)
            count += found
        text, found = re.subn(rf"(//|@){re.escape(host)}{_END}", r"\1<host>", text)
        count += found
    return text, count


def masked_tree(value: Any, names: Names, markup: bool = False) -> tuple[Any, int]:
    """`masked` on every string of a JSON value; in HTML and SVG the signs are escaped, pictures in base64 stay."""
    if isinstance(value, str):
        if _BASE64.fullmatch(value):
            return value, 0
        text, count = masked(value, names)
        return (_SIGNS.sub(r"&lt;\1&gt;", text) if markup and count else text), count
    if isinstance(value, list):
        pairs = [masked_tree(item, names, markup) for item in value]
        return [item for item, _ in pairs], sum(n for _, n in pairs)
    if isinstance(value, dict):
        pairs = {key: masked_tree(item, names, markup or key in _MARKUP) for key, item in value.items()}
        return type(value)({key: item for key, (item, _) in pairs.items()}), sum(n for _, n in pairs.values())
    return value, 0


_SIGNS = re.compile(r"<(folder|user|host)>")
_MARKUP = {"text/html", "text/markdown", "image/svg+xml", "table_html"}
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]{120,}")


def _long_enough(folder: str) -> bool:
    """A folder of two parts or more: ``/`` and ``/tmp`` name nobody."""
    return folder.count("/") + folder.count("\\") > 1


def _forms(folder: str) -> list[str]:
    """The folder as it may stand in a text: as it is, in JSON, in JSON within JSON, in HTML, in an address."""
    escaped = json.dumps(folder)[1:-1]
    again = json.dumps(escaped)[1:-1]
    forms = [folder, escaped, again, html.escape(folder), html.escape(escaped), quote(folder)]
    return sorted(dict.fromkeys(forms), key=len, reverse=True)
