"""Find what names this machine or its user in a text. In: HTML or notebook text. Out: the offending snippets."""

from __future__ import annotations

import getpass
import re
import socket
import tempfile
from pathlib import Path

# The embedded library and generated programs are not ours to judge; long base64 runs hold pictures and arrays.
_SKIPPED = re.compile(
    r'<script data-library="[^"]*">.*?</script>'
    r'|<pre class=\\?"generated\\?".*?</pre>'
    r"|[A-Za-z0-9+/=]{120,}",
    re.DOTALL,
)
_PATHS = re.compile(
    r"(?<![\w.~-])/(?:home|Users)/[\w.-]+"
    r"|(?<![\w.~-])/(?:root|tmp|var/tmp|var/folders|private/var)/[\w.-]+"
    r"|\b[A-Za-z]:\\{1,2}Users\\{1,2}[\w.-]+"
)
# Names that many machines share and that ordinary prose uses; they count only in name@host.
_ORDINARY = {
    "admin",
    "build",
    "builder",
    "container",
    "debian",
    "desktop",
    "docker",
    "fedora",
    "host",
    "jupyter",
    "jovyan",
    "laptop",
    "linux",
    "local",
    "localhost",
    "localdomain",
    "machine",
    "nobody",
    "nvidia",
    "python",
    "root",
    "runner",
    "server",
    "spark",
    "test",
    "ubuntu",
    "user",
    "work",
    "worker",
    "workstation",
}


def leaks(text: str) -> list[str]:
    """Absolute home and temporary paths, and this machine's user and host names, found in ``text``.

    Parameters
    ----------
    text : str
        HTML of a page or JSON of a notebook.

    Returns
    -------
    list of str
        Each offending piece once, in the order found; empty if the text is clean. Names under four letters and
        everyday words (``root``, ``ubuntu``) count only as ``name@host``.
    """
    text = _SKIPPED.sub(" ", text)
    found = [match.group() for match in _PATHS.finditer(text)]
    for folder in (str(Path.home()), tempfile.gettempdir(), str(Path.cwd())):
        if len(folder) > 1 and folder.count("/") + folder.count("\\") > 1:
            found += re.findall(rf"(?<![\w.~-]){re.escape(folder)}(?![\w-])", text)
    user, hosts = _names()
    for name in [user, *hosts]:
        if len(name) >= 4 and name.lower() not in _ORDINARY:
            found += re.findall(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)
    for host in hosts:
        found += re.findall(rf"(?<![\w-]){re.escape(user)}@{re.escape(host)}(?![\w-])", text)
    return list(dict.fromkeys(found))


def _names() -> tuple[str, list[str]]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        user = ""
    host = socket.gethostname()
    return user, list(dict.fromkeys(name for name in (host, host.split(".")[0]) if name))
