"""One check of preflight: its name, verdict, evidence and fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One check: ``fail`` stops a measurement, ``warn`` is worth knowing."""

    name: str
    verdict: Verdict
    evidence: str
    fix: str = ""
