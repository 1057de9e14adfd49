"""A model folder -> the hash that stands in identities and provenance."""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=32)
def folder_hash(folder: str) -> str:
    """SHA-256 over names and contents of the files that an engine loads from a model folder, or ``absent``."""
    path = Path(folder)
    if not os.path.isdir(path):  # False for an impossible name, where Path.is_dir may raise
        return "absent"
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and _LOADED.search(p.name)):
        digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


#: Weights, tokenizer, configuration, chat template; not the cards and training records that lie beside them.
_LOADED = re.compile(
    r"\.(safetensors|jinja|model|index\.json)$|^(.*config|tokenizer|special_tokens_map|added_tokens|vocab|chat_template)\.json$"
)
