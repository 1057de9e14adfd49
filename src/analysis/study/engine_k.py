"""Arms whose engine chooses K, or how drafts are verified, itself: one row per way, what it needs, what its counts mean.

A study asks for them in one line, ``engine_k: [by_batch, adaptive, block]``; each becomes an arm beside those of fixed K.
Source: vLLM 0.32 and 0.33, `vllm/config/speculative.py`, `vllm/config/vllm.py`, `vllm/v1/spec_decode/dynamic/utils.py`;
what an engine says is quoted from there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis import shapes
from analysis.errors import ParamsError

if TYPE_CHECKING:
    from analysis.study.plan import Arm

#: Keys of ``--speculative-config``.
TABLE, ADAPTIVE, METHOD = (
    "num_speculative_tokens_per_batch_size",
    "enable_adaptive_verification",
    "rejection_sample_method",
)
RUNNER = "VLLM_USE_V2_MODEL_RUNNER"


@dataclass(frozen=True)
class Way:
    """One way.

    Parameters
    ----------
    title : str
        What a reader sees.
    settings : mapping
        Keys of ``--speculative-config``; the table of ``by_batch`` is the study's.
    slots : bool
        Its counters count places that were drafted, not tokens that were verified: acceptance by position is
        *accepted per slot drafted*, and no figure of the drafter.
    lossy : bool
        It may change what the model says.
    since : (int, int)
        First release of vLLM that has it.
    """

    name: str
    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    slots: bool = False
    lossy: bool = False
    since: tuple[int, int] = (0, 32)


WAYS: dict[str, Way] = {
    way.name: way
    for way in (
        Way("by_batch", "K by the number of running requests", slots=True),
        Way("adaptive", "adaptive verification", {ADAPTIVE: True}, slots=True),
        Way("block", "block verification", {METHOD: "block"}),
        Way("fly", "FLy verification (lossy)", {METHOD: "fly"}, lossy=True, since=(0, 33)),
    )
}


def of(settings: Mapping[str, Any]) -> str:
    """The way that an arm's settings ask for; empty for an arm of fixed K with the usual verification."""
    if settings.get(TABLE) is not None:
        return "by_batch"
    if settings.get(ADAPTIVE):
        return "adaptive"
    method = settings.get(METHOD)
    return method if method in WAYS else ""


def of_arm(arm: Arm) -> str:
    """The way of an arm; empty for a baseline and for an arm of fixed K."""
    return of(arm.speculative) if arm.speculator.speculates else ""


def slots(way: str) -> bool:
    """Whether acceptance by position of such an arm is per slot drafted, and so nothing of the drafter."""
    return way in WAYS and WAYS[way].slots


def lossy(way: str) -> bool:
    """Whether such an arm may change what the model says."""
    return way in WAYS and WAYS[way].lossy


def tokens_at(settings: Mapping[str, Any], k: int, streams: int) -> int:
    """K at a load: the table's (a load in a gap or beyond it has that of the range before), never more than the arm's."""
    found = k
    for start, _, tokens in sorted(settings.get(TABLE) or ()):
        if streams >= start:
            found = min(tokens, k)
    return found


def settings_of(way: str, table: tuple[tuple[int, int, int], ...] | None) -> dict[str, Any]:
    """Keys of ``--speculative-config`` of a way; ``table`` is that of ``by_batch``."""
    return {TABLE: [list(row) for row in table or ()]} if way == "by_batch" else dict(WAYS[way].settings)


def check(arm: Arm, *, lossy: bool, greedy_tokens: int, hardware: str | None) -> None:
    """Whether an arm can be what it asks for, before anything is launched.

    Raises
    ------
    ParamsError
        With what the engine says of it: a table that is none, a runner, mode, attention or method that it refuses, a
        lossy way without the study's ``lossy``, two ways at once.
    """
    asked = of_arm(arm)
    if not asked:
        return
    way = WAYS[asked]
    if arm.speculator.method != "mtp":
        raise ParamsError(
            f"The arm {arm.name} asks for {way.title} with {arm.speculator.title}.",
            why="It is read and tested for MTP alone: a table of K, and an estimate from draft logits, are of one drafter.",
            fix="Remove it from engine_k, or give the variant the method mtp.",
        )
    if len(ways := [w for w in WAYS if _has(arm.speculative, w)]) > 1:
        raise ParamsError(
            f"The arm {arm.name} has {' and '.join(ways)} at once.",
            why="Which of them made a difference could not be told.",
            fix="Give each a variant of its own, or name them in engine_k.",
        )
    for judge in (_table, _adaptive, _runner, _rates, _verification):
        judge(arm, asked)
    if asked == "adaptive":
        _attention(arm, hardware)
    if way.lossy and not lossy:
        raise ParamsError(
            f"The arm {arm.name} verifies by '{asked}', which is lossy.",
            why='vLLM: "FLy verification is a lossy speculative decoding method and may degrade model outputs."',
            fix="Set lossy: true in the study file to measure it all the same; its arms are then named as lossy.",
        )
    if way.lossy and "lossy" not in arm.variant:
        raise ParamsError(
            f"The arm {arm.name} is lossy, and its name does not say so.",
            why="Tables and figures show an arm by its name.",
            fix=f"Name the variant {arm.variant}-lossy, or ask for it by engine_k: [fly].",
        )
    if way.lossy and not greedy_tokens:
        raise ParamsError(
            f"The arm {arm.name} is lossy, and its output is compared with nothing.",
            why="greedy_tokens is 0, so chapter 07 has no texts.",
            fix="Set greedy_tokens above 0.",
        )


def _has(settings: Mapping[str, Any], way: str) -> bool:
    if way == "by_batch":
        return settings.get(TABLE) is not None
    return bool(settings.get(ADAPTIVE)) if way == "adaptive" else settings.get(METHOD) == way


def _table(arm: Arm, way: str) -> None:
    if way != "by_batch":
        return
    rows = arm.speculative[TABLE]

    def wrong(what: str, why: str) -> ParamsError:
        return ParamsError(
            f"The table of the arm {arm.name} {what}.",
            why=why,
            fix="Write batch_table as [[from, to, K], …] in ascending order from 1 to the largest load, such as "
            f"[[1, 16, {arm.k}], [17, 256, 1]].",
        )

    if not isinstance(rows, list) or not rows:
        raise wrong("is empty", 'vLLM: "num_speculative_tokens_per_batch_size must not be empty."')
    if bad := [r for r in rows if not _is_row(r)]:
        raise wrong(
            f"has the row {bad[0]}",
            'vLLM: "Each num_speculative_tokens_per_batch_size entry must be a 3-item sequence: (range_start, '
            'range_end, num_speculative_tokens)", each a whole number, the range within itself ascending.',
        )
    if rows[0][0] != 1:
        raise wrong(f"begins at {rows[0][0]}", 'vLLM: "The first batch-size range must start at 1".')
    for (_, end, _), (start, *_) in zip(rows, rows[1:], strict=False):
        if start <= end:
            raise wrong(f"has {start} in two ranges", 'vLLM: "Batch-size ranges must be non-overlapping and sorted."')
        if start > end + 1:
            raise wrong(
                f"has a gap from {end + 1} to {start - 1}", "vLLM would go on with the K of the range before, unsaid."
            )
    if (most := max(r[2] for r in rows)) > arm.k:
        raise wrong(f"has K = {most}, and the arm drafts at most {arm.k}", "vLLM would cut it to that, unsaid.")
    if (limit := arm.server.max_num_seqs) and rows[-1][1] < limit:
        raise wrong(
            f"ends at {rows[-1][1]}, and the server takes {limit} requests at once",
            "vLLM would go on with the K of the last range, unsaid.",
        )


def _is_row(row: Any) -> bool:
    whole = isinstance(row, list | tuple) and len(row) == 3 and all(type(x) is int for x in row)
    return whole and 0 < row[0] <= row[1] and row[2] >= 0


def _adaptive(arm: Arm, way: str) -> None:
    if way != "adaptive":
        return
    given = " ".join(arm.server.args)
    for bad, why, fix in (
        (
            arm.server.enforce_eager or re.search(r"cudagraph_mode\W+(?:NONE|PIECEWISE)", given),
            "Adaptive verification requires full CUDA graphs. Use cudagraph mode FULL, FULL_DECODE_ONLY, or "
            "FULL_AND_PIECEWISE, or disable adaptive verification.",
            "Set server.enforce_eager to false and leave the graph mode to the engine.",
        ),
        (
            "--enable-lora" in given,
            "Adaptive verification is not currently compatible with LoRA",
            "Remove --enable-lora from server.args.",
        ),
        (
            re.search(r"--pipeline-parallel-size[ =]([2-9]|1\d)", given),
            "Adaptive verification is not currently compatible with pipeline parallelism",
            "Remove --pipeline-parallel-size from server.args.",
        ),
    ):
        if bad:
            raise ParamsError(f"The engine would refuse the arm {arm.name}.", why=f'vLLM: "{why}"', fix=fix)


def _runner(arm: Arm, way: str) -> None:
    if arm.server.env.get(RUNNER) == "0":
        says = {
            "adaptive": '"Model Runner V1 does not support: adaptive draft verification"',
            "by_batch": '"Overriding cudagraph_mode … to PIECEWISE for reliability. Use VLLM_USE_V2_MODEL_RUNNER=1 if '
            'you want to use full CUDA graphs."',
            "block": "runner V1 has the standard verification alone, and would go on with that, unsaid.",
        }
        if way in says:
            raise ParamsError(
                f"The arm {arm.name} asks for {WAYS[way].title}, and its environment for runner V1.",
                why=f"vLLM: {says[way]}",
                fix=f"Remove {RUNNER} from server.env, or set it to 1.",
            )


def _attention(arm: Arm, hardware: str | None) -> None:
    """A forced FlashInfer takes what adaptive verification sends on SM100 alone."""
    given = " ".join(arm.server.args) + " " + arm.server.env.get("VLLM_ATTENTION_BACKEND", "")
    machine = shapes.machines().get(hardware or "")
    family = int(machine.compute_capability) if machine and machine.compute_capability else 0
    if "flashinfer" in given.lower() and family != 10:
        raise ParamsError(
            f"The arm {arm.name} forces FlashInfer on {machine.name if machine else 'a GPU that is not SM100'}.",
            why='vLLM: "device-cpu query lens mismatch not supported, this is needed for adaptive verification"',
            fix="Remove FlashInfer from server.args and server.env, or set TRITON_ATTN.",
        )


def _rates(arm: Arm, way: str) -> None:
    rates = [key for key in ("synthetic_acceptance_rates", "synthetic_acceptance_length") if key in arm.speculative]
    if rates and way in ("block", "fly"):
        raise ParamsError(
            f"The arm {arm.name} verifies by '{way}' and has {rates[0]}.",
            why=f'vLLM: "{" / ".join(("synthetic_acceptance_rates", "synthetic_acceptance_length"))} are only valid '
            "with rejection_sample_method='synthetic'.\"",
            fix="Measure it with a drafter whose acceptance is real.",
        )
    if way == "adaptive" and arm.speculative.get(METHOD) == "synthetic":
        raise ParamsError(
            f"The arm {arm.name} verifies adaptively what is accepted by hand.",
            why="The engine decides by the draft's own probabilities, and acceptance set by hand does not follow them.",
            fix="Measure it with a drafter whose acceptance is real.",
        )


def _verification(arm: Arm, way: str) -> None:
    if way == "fly" and arm.k < 2:
        raise ParamsError(
            f"The arm {arm.name} drafts {arm.k} token.",
            why='vLLM: "FLy requires num_speculative_tokens to be at least 2."',
            fix="Set k to 2 or more.",
        )
