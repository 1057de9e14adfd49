"""Which decode steps run inside the engine's captured CUDA graphs: tokens per step against the sizes that are captured.

vLLM captures graphs up to a number of *tokens* per step. A decode step of s streams that draft K tokens has s × (K + 1)
tokens; beyond the captured sizes it runs without a full graph, and MTP can lose under load by a launch setting alone.
Source of the rules: vLLM 0.32 and 0.33, `VllmConfig._set_cudagraph_sizes` and the runner's `_init_candidates`; measured on
an H100 (26B-A4B shapes, K = 4: a speedup of 1.64 at 96 streams, 0.85 at 112, 1.67 at 112 with a size that covers it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis import shapes
from analysis.study import engine_k

if TYPE_CHECKING:
    from analysis.study.plan import Arm

FLAG = "--max-cudagraph-capture-size"
#: Releases whose rules these are.
RELEASES = ((0, 32), (0, 33))
#: Largest size that vLLM takes by itself [tokens per step], by the family of the GPU; SM100 is data-centre Blackwell, and
#: GB10 (SM121) is not of it.
DEFAULT_LARGEST = 512
LARGEST_OF_FAMILY = {10: 1024}
#: Sequences that vLLM serves at once where a study does not say, at most: enough that the largest size decides.
DEFAULT_SEQUENCES = 1024
#: Where the steps of a measurement ran, by its launch's log: all inside captured graphs, larger than any of them, with an
#: engine that captures none (eager mode, CPU), or with one whose log does not say.
SIDES = ("inside", "outside", "none", "not known")


def step_tokens(streams: int, k: int) -> int:
    """Tokens of one decode step: each stream verifies K drafts and one token more."""
    return streams * (k + 1)


@dataclass(frozen=True)
class Captured:
    """What an engine captures: its sizes in ascending order, and the sequences it serves at once."""

    sizes: tuple[int, ...]
    sequences: int = DEFAULT_SEQUENCES

    @property
    def largest(self) -> int:
        """Tokens per step of the largest graph of any kind."""
        return self.sizes[-1]

    def of_whole_steps(self, k: int) -> int:
        """Tokens of the largest full graph of steps of K + 1 tokens per stream; 0 where there is none.

        Each size is rounded up to a multiple of K + 1, and left out where that is more than the largest size.
        """
        step, most = k + 1, min(self.largest, self.sequences * (k + 1))
        return max((up for size in self.sizes if (up := -(-size // step) * step) <= most), default=0)

    def holds(self, streams: int, k: int) -> bool:
        """Whether a decode step of so many streams has a full graph."""
        return step_tokens(streams, k) <= self.of_whole_steps(k)


def captured(arm: Arm, hardware: str | None = None) -> Captured | None:
    """What the arm's engine captures by its own rule, or by the size that the study sets; None where it captures none
    or is not known.

    Parameters
    ----------
    hardware : str, optional
        Name in data/hardware.yaml: a data-centre Blackwell captures larger graphs by itself.
    """
    server = arm.server
    if server.enforce_eager or server.backend == "external":
        return None
    sequences, given = server.max_num_seqs or DEFAULT_SEQUENCES, _given(arm)
    if given is not None:
        return Captured(_kept(arm, given), sequences)
    largest = min(sequences * (arm.k + 1) * 2, _default_largest(hardware))
    tokens = server.max_num_batched_tokens or largest
    steps = {
        count * (k + 1)
        for k, most in _tiers(arm, sequences)
        for count in {*grid(min(most, _default_largest(hardware))), most}
        if count * (k + 1) <= min(largest, tokens)
    }
    return Captured(tuple(sorted({*grid(min(largest, tokens), tokens), *steps})), sequences)


def holds(arm: Arm, found: Captured, streams: int) -> bool:
    """Whether the arm's decode steps at a load have a full graph among those captured.

    An arm whose engine chooses K by the batch drafts what its table says there; where verification is adaptive, the
    engine may verify as little as one token per stream, and is inside as long as that fits.
    """
    running = min(streams, found.sequences)
    if engine_k.of_arm(arm) == "adaptive":
        return running <= found.largest
    return found.holds(running, engine_k.tokens_at(arm.speculative, arm.k, running))


def side(arm: Arm, facts: Mapping[str, Any], streams: int) -> str:
    """One of `SIDES` for a measurement, by the startup facts of its launch (``capture_sizes``, ``eager``)."""
    sizes = facts.get("capture_sizes") or ()
    if facts.get("eager") or facts.get("max_capture_size") == 0 or facts.get("graph_mode") == "NONE":
        return "none"
    if not sizes:
        return "not known"
    found = Captured(tuple(sizes), arm.server.max_num_seqs or DEFAULT_SEQUENCES)
    return "inside" if holds(arm, found, streams) else "outside"


def covering(arm: Arm, streams: Iterable[int]) -> int | None:
    """The smallest size that covers the largest load [tokens per step] and that vLLM keeps; None where there is none.

    vLLM keeps a size of its own grid: a multiple of 8 up to 256, of 16 above.
    """
    server = arm.server
    return _covering(
        max(_running(arm, streams)), arm.k, server.max_num_seqs or DEFAULT_SEQUENCES, server.max_num_batched_tokens
    )


def _covering(streams: int, k: int, sequences: int, tokens: int | None) -> int | None:
    least = step_tokens(streams, k)
    sizes = (s for s in grid(least * 2 + 32) if s >= least and (tokens is None or s <= tokens))
    return next((s for s in sizes if Captured(grid(s), sequences).holds(streams, k)), None)


def _room(streams: int, k: int) -> tuple[int, int]:
    """(sequences, tokens of a batch) that a server needs so that some size covers a load."""
    size = next(s for s in grid(step_tokens(streams, k) * 2 + 32) if _covering(streams, k, s, s) == s)
    return next(n for n in range(streams, size + 1) if Captured(grid(size), n).holds(streams, k)), size


def beyond(arm: Arm, streams: Iterable[int], hardware: str | None = None) -> list[int]:
    """The loads at which the arm's steps are larger than any captured graph of whole steps, in order."""
    found = captured(arm, hardware)
    return [] if found is None else sorted(s for s in set(streams) if not holds(arm, found, s))


def uncovered(arm: Arm, streams: Iterable[int], hardware: str | None = None) -> bool:
    """Whether the widest step that the arm may take at some load has no full graph: what `graphs: cover` mends."""
    found = captured(arm, hardware)
    return found is not None and not all(
        found.holds(s, engine_k.tokens_at(arm.speculative, arm.k, s)) for s in _running(arm, streams)
    )


def cut_size(arm: Arm) -> int | None:
    """The size to which vLLM cuts the one that the study sets, where that is not one of its grid; else None."""
    given = _given(arm)
    if given is None:
        return None
    kept = _kept(arm, given)[-1]
    return kept if kept != given else None


def sentence(arm: Arm, streams: Iterable[int], hardware: str | None = None) -> str:
    """What is beyond the graphs of an arm, or wrong with its size, and the flag that covers it; empty where nothing is."""
    loads = _running(arm, streams)
    flag = covering(arm, loads)
    if (kept := cut_size(arm)) is not None:
        return (
            f"{arm.name}: vLLM cuts {FLAG} {_given(arm)} to {kept}: it keeps multiples of 8 up to 256, of 16 above; "
            f"{flag or kept} is one"
        )
    outside = beyond(arm, loads, hardware)
    if not outside:
        return ""
    first, found = outside[0], captured(arm, hardware)
    k = engine_k.tokens_at(arm.speculative, arm.k, first)
    tokens, whole = step_tokens(first, k), found.of_whole_steps(k)
    limit = f"{found.largest} tokens" if tokens > found.largest else f"{whole} tokens, the most in whole steps"
    room = _room(loads[-1], arm.k)
    hint = ""
    if _given(arm) is not None and _given(arm) <= loads[-1]:
        hint = f"; {_given(arm)} looks like a number of sequences, and it is one of tokens"
    return (
        f"{arm.name}: at {first} streams a step has {first} × {k + 1} = {tokens} > {limit} up to which CUDA graphs are "
        f"captured{hint}; "
        + (
            f"{FLAG} {flag} covers {loads[-1]} streams (server.graphs: cover)"
            if flag
            else f"no {FLAG} covers {loads[-1]} streams: server.max_num_seqs must be {room[0]} or more, and "
            f"server.max_num_batched_tokens {room[1]}"
        )
    )


def _running(arm: Arm, streams: Iterable[int]) -> list[int]:
    """The loads as the engine runs them, in order: never more requests at once than it serves."""
    return sorted({min(s, arm.server.max_num_seqs or DEFAULT_SEQUENCES) for s in streams})


def _given(arm: Arm) -> int | None:
    """The size that the study sets, by its key or as a flag of its own."""
    server = arm.server
    if server.max_cudagraph_capture_size is not None:
        return server.max_cudagraph_capture_size
    if FLAG in server.args and (place := server.args.index(FLAG) + 1) < len(server.args):
        return int(server.args[place]) if server.args[place].isdigit() else None
    return None


def _kept(arm: Arm, given: int) -> tuple[int, ...]:
    """The sizes that a size given by hand leads to: vLLM's grid up to it, or up to the tokens of a batch."""
    tokens = arm.server.max_num_batched_tokens
    return grid(min(given, tokens or given), tokens)


def grid(largest: int, tokens: int | None = None) -> tuple[int, ...]:
    """vLLM's own sizes up to the largest: 1, 2, 4, each 8 below 256, each 16 above; and the tokens of a batch."""
    sizes = [*(s for s in (1, 2, 4) if s <= largest), *range(8, min(largest + 1, 256), 8), *range(256, largest + 1, 16)]
    return tuple(sorted({*sizes, *((tokens,) if tokens and tokens <= largest else ())}))


def _default_largest(hardware: str | None) -> int:
    machine = shapes.machines().get(hardware or "")
    family = int(machine.compute_capability) if machine and machine.compute_capability else 0
    return LARGEST_OF_FAMILY.get(family, DEFAULT_LARGEST)


def _tiers(arm: Arm, sequences: int) -> Sequence[tuple[int, int]]:
    """(K, largest load at it) for every K that the arm's engine may choose by the batch; else its one K."""
    widest = {engine_k.tokens_at(arm.speculative, arm.k, s): s for s in range(1, sequences + 1)}
    return list(widest.items())
