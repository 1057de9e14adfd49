"""Files that a launch mounts over the engine's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from analysis.servers import checkpoints, patchfile
from analysis.servers.preflight.check import Check
from analysis.study.plan import Arm


def patch(arm: Arm, target: checkpoints.Files) -> Iterator[Check]:
    s = arm.server
    preview = "gemma4-0505" in (s.image or "")
    mount = next((m for m in s.mounts if "gemma4_mtp.py" in m.split(":")[1]), None)
    quantised = checkpoints.format_of(arm.target.known_as, target.config) != "bf16"
    name = "patched gemma4_mtp.py"
    if preview and quantised and mount is None:
        evidence = "the image's own file accepts 0 % with a quantised target, and nothing is mounted over it"
        fix = "Mount the file of commit d8b3826 (see gb10-31b-preview.yaml), or use a release image."
        yield Check(name, "fail", evidence, fix)
    if mount is None:
        return
    path = Path(os.path.expanduser(os.path.expandvars(mount.split(":")[0])))
    if not path.is_file():
        fetch = "Run: python -m analysis prefetch STUDY."
        fix = fetch + (f" First remove the folder {path}, which docker made." if path.is_dir() else "")
        yield Check(name, "fail", f"{mount.split(':')[0]} is not there", fix if s.patch else "Correct server.mounts.")
        return
    if found := patchfile.bugs(path.read_text(encoding="utf-8", errors="replace")):
        fix = "Fetch the file of commit d8b3826 again: python -m analysis prefetch STUDY."
        yield Check(name, "fail", "; ".join(found), fix)
    else:
        yield Check(name, "ok", "mounted, and neither of the two known bugs is in it")


def foreign(arm: Arm) -> Iterator[Check]:
    """A mount that replaces a file of vLLM's own package, other than the one patched file that a study may name."""
    for mount in arm.server.mounts:
        covered = mount.split(":")[1]
        if "/vllm/" in covered and covered.endswith(".py") and not covered.endswith("/gemma4_mtp.py"):
            evidence = f"{covered.rpartition('/vllm/')[2]} of vLLM's own package is replaced by another file"
            fix = "Remove the mount, unless that file was made for exactly this release: one of another release stops the start."
            yield Check("mounted over the engine", "warn", evidence, fix)
