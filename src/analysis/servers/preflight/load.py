"""Loads against the captured CUDA graphs, and releases of engines that choose K: what can be known before a launch."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.servers.preflight.check import Check
from analysis.servers.preflight.releases import release
from analysis.study import engine_k, graphs
from analysis.study.plan import Plan


def of_graphs(plan: Plan) -> Iterator[Check]:
    """A warning for each arm with a load beyond its graphs, or a size that vLLM would cut; the flag is in it."""
    for arm in plan.arms:
        loads = sorted({c.concurrency for c in plan.cells if c.arm.id == arm.id})
        if loads and (said := graphs.sentence(arm, loads, plan.study.hardware)):
            size = graphs.covering(arm, loads)
            flag = f", or add {graphs.FLAG} {size}" if size else ""
            fix = f"Set server.graphs: cover{flag}; or leave it, and read those loads as outside the graphs."
            yield Check(f"CUDA graphs of {arm.name}", "warn", said.removeprefix(f"{arm.name}: "), fix)


def of_ways(plan: Plan) -> Iterator[Check]:
    """Whether the engine's release has the way in which an arm lets it choose."""
    for arm in plan.arms:
        way = engine_k.WAYS.get(engine_k.of_arm(arm))
        version = release(arm) if way else None
        if version and version[:2] < way.since:
            since = ".".join(map(str, way.since))
            evidence = f"{way.title} came with vLLM {since}, and this is {'.'.join(map(str, version[:2]))}"
            yield Check(
                f"engine of {arm.name}", "fail", evidence, f"Use vLLM {since} or later, or leave {way.name} out."
            )
        elif way and way.lossy:
            fix = "Read chapter 07 before its speed."
            yield Check(f"engine of {arm.name}", "warn", f"{way.title}: it may change what the model says", fix)
