"""Everything knowable before a launch, each check with verdict, evidence and fix. Nothing is started.

A check that cannot be made here is left out or warned of, never raised: a bare machine gets the whole table.
``server.allow`` turns a failure into a warning for a study that walks into a trap on purpose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from analysis.servers import checkpoints, engines, machine
from analysis.servers.preflight import (
    context,
    engine,
    host,
    load,
    models,
    mounts,
    releases,
    room,
    settings,
    speculators,
)
from analysis.servers.preflight.check import Check, Verdict
from analysis.servers.preflight.engine import engine_verdict
from analysis.study.plan import Arm, Plan

__all__ = ["Check", "Verdict", "engine_verdict", "run"]


def run(plan: Plan, here: machine.Machine | None = None) -> list[Check]:
    """All checks of a plan, in the order in which their failures would be met. ``here`` stands in for this machine."""
    here = here or machine.look()
    checks = [*host.of_machine(plan, here), *host.disk_for_records(), *host.of_sandbox(plan)]
    for arm in _distinct(plan):
        checks += [_allowed(arm, check) for check in _of_arm(plan, arm, here)]
    checks += [*load.of_ways(plan), *load.of_graphs(plan)]
    named = (replace(check, fix=check.fix.replace("STUDY", plan.study.study)) for check in checks)
    return list(dict.fromkeys(named))


def _of_arm(plan: Plan, arm: Arm, here: machine.Machine) -> Iterator[Check]:
    target = checkpoints.find(arm, arm.target)
    drafter = checkpoints.find(arm, arm.drafter) if arm.drafter else None
    known = engines.of(arm).preflight
    if "engine" in known:
        yield from engine.of_engine(plan, arm)
        yield from releases.of_release(plan, arm, here)
        yield from host.shared_memory(arm, here)
    yield from engine.of_container(arm)
    for role, model, files in (("target", arm.target, target), ("drafter", arm.drafter, drafter)):
        if model and files:
            yield models.of_checkpoint(arm, role, model, files)
            yield from models.repository(role, model)
    yield from models.disk_for_checkpoints(plan, arm, target, drafter)
    yield from models.chat_template(arm, target)
    if drafter and arm.speculator.method == "mtp":
        yield from models.pair(arm, target, drafter)
    for name, checks in (
        ("patch", lambda: mounts.patch(arm, target)),
        ("patch", lambda: mounts.foreign(arm)),
        ("batched tokens", lambda: room.batched_tokens(arm, target)),
        ("memory", lambda: room.memory(plan, arm, target, here)),
        ("memory", lambda: room.page_cache(arm, here)),
        ("MoE configuration", lambda: room.moe_config(plan, arm, target, here)),
        ("engine", lambda: settings.arguments(plan, arm)),
    ):
        yield from checks() if name in known else ()
    yield from speculators.method(arm, drafter)
    yield from context.lengths(plan, arm, target)
    yield from context.template(plan, arm, target)
    yield from settings.prefix_cache(arm)
    yield from settings.address(arm)
    yield from settings.variables(arm)


def _distinct(plan: Plan) -> list[Arm]:
    """The largest-K arm of every variant: it has the target, and the drafter where there is one."""
    last: dict[str, Arm] = {}
    for arm in plan.arms:
        last[arm.variant] = arm
    return list(last.values())


def _allowed(arm: Arm, check: Check) -> Check:
    if check.verdict == "fail" and any(check.name.startswith(words) for words in arm.server.allow):
        return replace(check, verdict="warn", evidence=f"{check.evidence} (allowed by the study, on purpose)")
    return check
