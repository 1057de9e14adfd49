"""What serves, one object per engine: how it is asked, what it counts, how it says what it is, how it is launched.

To add one: a file here with an ``ENGINE``, and its row in `analysis.study.engines.ENGINES`.
"""

from __future__ import annotations

from importlib import import_module

from analysis.servers.engines.base import Engine
from analysis.study import engines as table
from analysis.study.plan import Arm


def of(arm: Arm) -> Engine:
    """The engine that serves an arm."""
    return named(arm.server.flavour)


def named(name: str) -> Engine:
    """An engine by its name in the table; raises KeyError for another name."""
    return import_module(f"{__name__}.{table.ENGINES[name]}").ENGINE
