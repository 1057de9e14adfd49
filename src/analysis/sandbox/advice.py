"""What to do where a wall does not hold: the machine's own state in, words out. Reads /proc/sys; changes nothing.

Switching a restriction off for the whole machine is never the advice: Ubuntu's restriction on user namespaces has a
profile for bubblewrap, and the walls of Landlock need no namespace.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

APPARMOR = "kernel/apparmor_restrict_unprivileged_userns"
PROFILE = (
    "Ubuntu keeps user namespaces from programs without a profile. Load its own profile for bubblewrap: sudo apt install "
    "bubblewrap apparmor-profiles; sudo cp /usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/; "
    "sudo apparmor_parser -r /etc/apparmor.d/bwrap-userns-restrict. It is for the system's bwrap"
)
SANDLOCK = "install the package sandlock (make setup brings it), whose walls need no namespace (Linux 6.7 or later)"


def fix(tried: Sequence[tuple[str, str]]) -> str:
    """`tried`: (wall, why it does not hold). One or two sentences, the likeliest first."""
    names = [name for name, _ in tried]
    said = " ".join(words for name, words in tried if name == "bubblewrap")
    parts = []
    if "landlock" not in names:
        parts.append(SANDLOCK)
    if reason := namespaces(said, "bubblewrap" in names):
        parts.append(reason)
    parts.append("or run the programs later, where a wall holds: python -m analysis run-programs STUDY")
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def namespaces(said: str, found: bool, root: Path = Path("/")) -> str:
    """Why bubblewrap gets no namespace here, as what to do; empty where nothing is known."""
    if not found:
        return "install bubblewrap (apt install bubblewrap)"
    sysctl = root / "proc/sys"
    if _value(sysctl / APPARMOR) == "1" and os.geteuid() != 0:
        return PROFILE
    if _value(sysctl / "user/max_user_namespaces") == "0":
        return "user namespaces are switched off here (user.max_user_namespaces = 0): ask who runs the machine for some"
    if _value(sysctl / "kernel/unprivileged_userns_clone") == "0":
        return "user namespaces are for root only here (kernel.unprivileged_userns_clone = 0): ask who runs the machine"
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return (
            "this is a container whose filter refuses namespaces: start it with --security-opt seccomp=unconfined, which "
            "holds for this container alone, or use Landlock's walls"
        )
    if re.search("not permitted|[Pp]ermission", said):
        return "the kernel makes no user namespace here, as in a chroot: run outside it, or in a container that allows them"
    return ""


def _value(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
