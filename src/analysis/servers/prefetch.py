"""Download what a study needs before it starts: checkpoints, and the patched file; sizes first, resumable, checked.

Checkpoints come through huggingface_hub, which resumes a broken file and puts it where the server looks: the cache that
the study mounts, or the folder that a container path stands for. A second run downloads nothing.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import httpx

from analysis.errors import PreflightError
from analysis.servers import checkpoints, machine, patchfile
from analysis.study.params import Model, Patch
from analysis.study.plan import Arm, Plan
from analysis.study.sets import StandardSet

#: Files of a repository that a server reads; other formats of the same weights stay where they are.
WANTED = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
NOT_WANTED = ("original/*", "onnx/*", "*.gguf")
GIB = 2**30
Say = Callable[[str], None]


@dataclass(frozen=True)
class Download:
    """One repository: its files with sizes in bytes, and where they go (a folder, or the cache if None)."""

    repo: str
    revision: str | None
    folder: Path | None
    cache: Path
    files: tuple[tuple[str, int], ...]

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.files)


def run(plan: Plan, say: Say = print, endpoint: str | None = None) -> list[Path]:
    """Download everything that a plan's arms need and that is not here; the paths of what is there afterwards.

    Raises
    ------
    PreflightError
        The hub does not answer, a model is gated or unknown, the disk is too small, or the patch is not the right file.
    """
    say(f"What {plan.study.study} needs:")
    patches = list(dict.fromkeys(a.server.patch for a in plan.arms if a.server.patch))
    done = [fetch_patch(patch, say) for patch in patches]
    wanted, present = [], []
    for arm, model in _models(plan):
        files = checkpoints.find(arm, model)
        if files.complete:
            say(f"  {model.model}: here ({files.gib:.1f} GiB)")
            present.append(files.folder)
        elif (repo := model.hub if model.local else model.model) is None:
            say(f"  {model.model}: the study does not name where it comes from; put it there by hand")
        else:
            wanted.append(_listed(arm, model, repo, endpoint))
            say(f"  {repo}: {wanted[-1].bytes / GIB:.2f} GiB in {len(wanted[-1].files)} files, to {_place(wanted[-1])}")
    _room(wanted)
    for number, download in enumerate(wanted, 1):
        present.append(_download(download, f"{number} of {len(wanted)}", say, endpoint))
    say(f"Everything is here{'' if wanted else '; nothing was downloaded'}. Offline from now on: HF_HUB_OFFLINE=1.")
    return [*done, *present]


def fetch_set(known: StandardSet, say: Say = print) -> Path:
    """Get a standard prompt set once, by the package `datasets`, as one JSON object per line."""
    path = Path(known.file)
    if path.is_file():
        say(f"  {known.title}: here")
        return path
    try:
        datasets = import_module("datasets")
    except ImportError:
        raise PreflightError(
            f"{known.title} cannot be fetched.",
            why="The package datasets is not installed: it is an optional part of the study.",
            fix=f"Install it (pip install datasets), or put the rows of {known.hub} into {_tilde(path)}.",
        ) from None
    with _hub(known.hub):
        rows = datasets.load_dataset(known.hub, known.config, split=known.split)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".part")
    fresh.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    os.replace(fresh, path)
    say(f"  {known.title}: {len(rows)} rows fetched")
    return path


def fetch_patch(patch: Patch, say: Say = print) -> Path:
    """Get the patched file once, hold it to its SHA-256, and look for the bugs it is to fix.

    Without a hash in the study the first fetch is trusted on two grounds, a commit in its address and neither bug in
    the file; its hash is then kept beside it, and every later run is held to that.
    """
    path = Path(os.path.expanduser(os.path.expandvars(patch.file)))
    kept = path.with_name(path.name + ".sha256")
    known = patch.sha256 or (kept.read_text().split()[0] if kept.is_file() else None)
    if path.is_dir():
        raise PreflightError(
            f"{patch.file} is a folder.",
            why="docker made it: it was to be mounted before it was fetched.",
            fix=f"Remove it (rmdir {path}), then run prefetch again.",
        )
    if path.is_file() and _hash(path) == known:
        say(f"  {path.name}: here, SHA-256 {known[:16]}…")
        return path
    fresh = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    _get(patch.url, fresh)
    found = _hash(fresh)
    if known and found != known:
        raise PreflightError(
            f"{path.name} is not the file that was expected: SHA-256 {found}.",
            why=f"The study, or the first fetch, has {known}.",
            fix=f"Look at {fresh.name} beside it; if it is right, correct server.patch.sha256 and remove {kept.name}.",
        )
    if bugs := patchfile.bugs(fresh.read_text(encoding="utf-8", errors="replace")):
        raise PreflightError(
            f"{path.name} from {patch.url} is not the patched one.",
            why="; ".join(bugs) + ".",
            fix="Correct server.patch.url: it must name the commit that fixes both.",
        )
    os.replace(fresh, path)
    kept.write_text(f"{found}  {path.name}\n")
    say(f"  {path.name}: fetched, SHA-256 {found} (put it into server.patch.sha256 to pin it)")
    return path


def _models(plan: Plan) -> Iterator[tuple[Arm, Model]]:
    seen = set()
    for arm in plan.arms:
        for model in (arm.target, arm.drafter):
            if (
                model is not None
                and arm.server.backend != "external"
                and (model, arm.variant) not in seen
                and model not in {m for m, _ in seen}
            ):
                seen.add((model, arm.variant))
                yield arm, model


def _listed(arm: Arm, model: Model, repo: str, endpoint: str | None) -> Download:
    from huggingface_hub import HfApi

    with _hub(repo):
        info = HfApi(endpoint=endpoint).model_info(repo, revision=model.revision, files_metadata=True)
    files = tuple(
        (f.rfilename, f.size or 0)
        for f in info.siblings or ()
        if any(fnmatch.fnmatch(f.rfilename, p) for p in WANTED)
        and not any(fnmatch.fnmatch(f.rfilename, p) for p in NOT_WANTED)
    )
    return Download(repo, model.revision, checkpoints.goes_to(arm, model), checkpoints.cache(arm), files)


def _download(download: Download, which: str, say: Say, endpoint: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    got, path = 0, None
    for number, (name, size) in enumerate(sorted(download.files, key=lambda f: f[1]), 1):
        share = f"{got / GIB:.2f} of {download.bytes / GIB:.2f} GiB"
        say(f"  {download.repo} ({which}): file {number} of {len(download.files)}, {share} done: {name}")
        with _hub(download.repo):
            path = hf_hub_download(
                download.repo,
                name,
                revision=download.revision,
                cache_dir=download.cache,
                local_dir=download.folder,
                endpoint=endpoint,
            )
        got += size
    return download.folder or Path(path or download.cache).parent


def _room(downloads: list[Download]) -> None:
    for place in {d.folder or d.cache for d in downloads}:
        needed = sum(d.bytes for d in downloads if (d.folder or d.cache) == place) / GIB
        free = machine.free_gib(place)
        if free is not None and needed > free:
            raise PreflightError(
                f"{needed:.1f} GiB are to be downloaded to {_tilde(place)}, and {free:.1f} GiB are free there.",
                fix="Free space, or put the cache on another disk (server.mounts, HF_HOME).",
            )


class _hub:
    """The hub's errors as one screen."""

    def __init__(self, repo: str):
        self._repo = repo

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> bool:
        if error is None or isinstance(error, (PreflightError, KeyboardInterrupt)):
            return False
        name = type(error).__name__
        fix = "Run the same command again: what is downloaded is kept, and a broken file goes on where it stopped."
        why = " ".join(str(error).split())[:200] or name
        if name == "GatedRepoError":
            why, fix = "The model is gated.", "Accept its licence on its page, then set HF_TOKEN, and run it again."
        elif name in ("RepositoryNotFoundError", "RevisionNotFoundError"):
            why, fix = (
                "The hub knows no such model or revision, or not for you.",
                "Correct the model's id, or set HF_TOKEN.",
            )
        elif name == "OfflineModeIsEnabled":
            why, fix = "HF_HUB_OFFLINE=1 forbids it.", "Unset HF_HUB_OFFLINE for this command."
        raise PreflightError(f"{self._repo} could not be downloaded ({name}).", why=why, fix=fix) from None


def _get(url: str, to: Path) -> None:
    """Download a small file; a part that is there already is continued where the server can."""
    have = to.stat().st_size if to.is_file() else 0
    try:
        with httpx.stream(
            "GET", url, headers={"Range": f"bytes={have}-"} if have else {}, follow_redirects=True, timeout=60
        ) as answer:
            if answer.status_code == 416:  # nothing after what we have
                return
            answer.raise_for_status()
            with to.open("ab" if answer.status_code == 206 else "wb") as stream:
                for piece in answer.iter_bytes():
                    stream.write(piece)
    except httpx.HTTPError as error:
        raise PreflightError(
            f"{url.rsplit('/', 1)[-1]} could not be fetched.",
            why=str(error)[:200] or type(error).__name__,
            fix=f"Run it again where the network is, or put the file there by hand: curl -fsSL -o FILE {url}",
        ) from None


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _place(download: Download) -> str:
    return _tilde(download.folder or download.cache)


def _tilde(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
