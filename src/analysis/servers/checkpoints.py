"""Where a checkpoint is on this machine (folder, mount or Hugging Face cache), and what its files say."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.places import inside
from analysis.servers import launch
from analysis.study.params import Model
from analysis.study.plan import Arm

LONGEST_HEADER = 100_000_000  # bytes, as the format itself limits it
HUB_IN_CONTAINER = "/root/.cache/huggingface"
#: Name of a format in data/models.yaml by the words of a checkpoint's name.
FORMATS = (
    *(("nvfp4", "nvfp4"), ("fp8", "fp8"), ("gguf", "gguf"), ("awq", "awq-int4"), ("unquantized", "bf16")),
    *(("w4a16", "int4"), ("gptq", "int4"), ("int4", "int4"), ("4bit", "int4"), ("4-bit", "int4"), ("qat", "int4")),
)


@dataclass(frozen=True)
class Files:
    """A checkpoint's folder on this machine, or None.

    ``missing`` are files its index names that are not there, ``damaged`` those that are cut off or not what their names
    say: JSON that is none, weights whose length is not the one that their own table of contents gives.
    """

    name: str
    folder: Path | None
    missing: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    chat_template: bool | None = None
    gib: float = 0.0
    damaged: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return self.folder is not None and not self.missing and not self.damaged


def find(arm: Arm, model: Model) -> Files:
    """Look for a checkpoint where the arm's server would. Nothing is downloaded, nothing raises."""
    folder = _folder(arm, model)
    if folder is None or not folder.is_dir():
        return Files(model.model, None)
    config = _json(folder / "config.json")
    tokenizer = _json(folder / "tokenizer_config.json")
    weights = _json(folder / "model.safetensors.index.json").get("weight_map") or {}
    wanted = sorted(set(weights.values())) or ([] if made_up(arm) else ["model.safetensors"])
    missing = [f for f in ["config.json", *wanted] if not (folder / f).is_file()]
    return Files(
        name=model.model,
        folder=folder,
        missing=tuple(missing),
        config=config,
        chat_template=(folder / "chat_template.jinja").is_file() or bool(tokenizer.get("chat_template")),
        gib=sum(f.stat().st_size for f in folder.glob("*.safetensors")) / 2**30,
        damaged=tuple(sorted(f.name for f in folder.iterdir() if not _sound(f))),
    )


def made_up(arm: Arm) -> bool:
    """True where the engine makes up the weights, so that a folder without any is complete."""
    return arm.server.load_format == "dummy"


def cache(arm: Arm) -> Path:
    """The Hugging Face cache that the arm's server uses, as a folder of this machine."""
    if arm.server.download_dir and (mounted := launch.host_folder(arm, arm.server.download_dir)):
        return _expanded(mounted)
    if mounted := launch.host_folder(arm, HUB_IN_CONTAINER):
        return _expanded(mounted) / "hub"
    home = arm.server.env.get("HF_HOME") or os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or _expanded(home) / "hub")


def goes_to(arm: Arm, model: Model) -> Path | None:
    """The folder that `prefetch` fills for a model given as a container path; None for an id in the cache."""
    if not model.local:
        return None
    mounted = launch.host_folder(arm, model.model)
    return _expanded(mounted) if mounted else inside(model.model)


def format_of(name: str, config: dict[str, Any]) -> str:
    """Name of the weights' format in data/models.yaml, by the configuration or else by the checkpoint's name."""
    method = json.dumps(config.get("quantization_config") or {}).lower()
    for word, known in FORMATS:
        if word in name.lower() or (method and f'"{word}' in method):
            return known
    return "int4" if re.search(r'"(?:num_)?bits": 4\b', method) else "bf16"


def family(name: str) -> str | None:
    """``26b-a4b``, ``31b``, ``e4b`` …: the size in a Gemma 4 checkpoint's name; None where it names none."""
    found = re.search(r"gemma-?4[-_]?(e\db|\d+b(?:-a\d+b)?)", name.lower())
    return found[1] if found else None


def multimodal(name: str, config: dict[str, Any]) -> bool:
    """True for a checkpoint with an image or sound encoder; the published Gemma 4 ones have both."""
    if config:
        return bool(config.get("vision_config") or config.get("audio_config"))
    return family(name) is not None


def _folder(arm: Arm, model: Model) -> Path | None:
    if model.local:
        return goes_to(arm, model)
    try:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(model.model, "config.json", cache_dir=cache(arm), revision=model.revision)
    except Exception:  # not a repository name: the launch would say so
        return None
    return Path(found).parent if isinstance(found, str) else None


def _expanded(path: str) -> Path:
    return Path(os.path.expanduser(os.path.expandvars(path)))


def _sound(path: Path) -> bool:
    """False for a file that is cut off or no longer what its name says, as far as its beginning and length tell."""
    try:
        if path.suffix == ".safetensors":
            return _whole(path)
        if path.name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json"):
            json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return True  # what cannot be read is another matter
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return False
    return True


def _whole(path: Path) -> bool:
    """Safetensors: 8 bytes with the length of a JSON header, which says where each tensor ends; then the tensors."""
    size = path.stat().st_size
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= min(size - 8, LONGEST_HEADER):
            return False
        header = json.loads(stream.read(length))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return size == 8 + length + max(ends, default=0)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
