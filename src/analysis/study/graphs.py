"""Which decode steps run inside the engine's captured CUDA graphs: tokens per step against the largest captured size.

vLLM captures graphs up to a number of *tokens* per step. A decode step of s streams that draft K tokens has s × (K + 1)
tokens; beyond the captured size it runs without a full graph, and MTP can lose under load by a launch setting alone.
Source of the rule: vLLM 0.32 and 0.33, `max_cudagraph_capture_size`; measured on an H100 (26B-A4B shapes, K = 4: a
speedup of 1.64 at 96 streams, 0.85 at 112, 1.67 at 112 with a size that covers it).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.study.plan import Arm

FLAG = "--max-cudagraph-capture-size"
#: Largest size that vLLM takes by itself [tokens per step]; 1,024 on data-centre Blackwell (SM100) alone, so not on GB10.
DEFAULT_LARGEST = 512
#: Sequences that vLLM serves at once where a study does not say: enough that the largest size decides.
DEFAULT_SEQUENCES = 256


def step_tokens(streams: int, k: int) -> int:
    """Tokens of one decode step: each stream verifies K drafts and one token more."""
    return streams * (k + 1)


def largest_captured(arm: Arm) -> int | None:
    """Tokens per step up to which the arm's engine captures graphs; None where it captures none or is not known.

    The size that the study sets is taken as it stands; else vLLM's own rule:
    min(max_num_seqs × (K + 1) × 2, 512), and never more than max_num_batched_tokens.
    """
    server = arm.server
    if server.enforce_eager or server.backend == "external" or arm.target.model.startswith("data/miniature"):
        return None
    if server.max_cudagraph_capture_size is not None:
        return server.max_cudagraph_capture_size
    if FLAG in server.args and (place := server.args.index(FLAG) + 1) < len(server.args):
        return int(server.args[place]) if server.args[place].isdigit() else None
    largest = min((server.max_num_seqs or DEFAULT_SEQUENCES) * (arm.k + 1) * 2, DEFAULT_LARGEST)
    return min(largest, server.max_num_batched_tokens or largest)


def covering(k: int, streams: Iterable[int]) -> int:
    """The size that covers the largest load [tokens per step]: a multiple of K + 1, which vLLM keeps as it stands."""
    return step_tokens(max(streams), k)


def beyond(arm: Arm, streams: Iterable[int]) -> list[int]:
    """The loads at which the arm's steps are larger than any captured graph, in order."""
    largest = largest_captured(arm)
    return [] if largest is None else sorted(s for s in set(streams) if step_tokens(s, arm.k) > largest)


def cut_size(arm: Arm) -> int | None:
    """The size to which vLLM cuts the one that the study sets, where that is no multiple of K + 1; else None."""
    size = arm.server.max_cudagraph_capture_size
    return size // (arm.k + 1) * (arm.k + 1) if size and size % (arm.k + 1) else None


def sentence(arm: Arm, streams: Iterable[int]) -> str:
    """What is beyond the graphs of an arm, or wrong with its size, and the flag that covers it; empty where nothing is."""
    if (kept := cut_size(arm)) is not None:
        return f"{arm.name}: vLLM cuts {FLAG} {arm.server.max_cudagraph_capture_size} to {kept}, a multiple of K + 1"
    loads = sorted(set(streams))
    outside = beyond(arm, loads)
    if not outside:
        return ""
    first = outside[0]
    return (
        f"{arm.name}: at {first} streams a step has {first} × {arm.k + 1} = {step_tokens(first, arm.k)} tokens, more than "
        f"the {largest_captured(arm)} up to which CUDA graphs are captured; {FLAG} {covering(arm.k, loads)} covers "
        f"{loads[-1]} streams (server.graphs: cover)"
    )
