"""The computed sentences beside the tables and figures of chapters 00 to 07. Pure: frames in, text out."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis.science.speedup import verdict
from analysis.science.stats import NOT_KNOWN, NoiseFloor, geometric_mean
from analysis.show import words
from analysis.study import speculator


def noise_floor(floor: NoiseFloor) -> str:
    """What the noise floor is, and how it was measured."""
    if not floor.known:
        advice = floor.advice or "set `launches` to 3"
        return (
            "No arm was started twice, and no earlier study of this machine and engine says how much a restart changes, so "
            f"there is no noise floor and no verdict: {advice}."
        )
    estimate = f" (95 % interval {floor.low:.3f} to {floor.high:.3f})" if floor.low == floor.low else ""
    return (
        f"Two arms that are the same differ by a factor of up to {floor.factor:.3f}{estimate} in 95 of 100 studies, by the"
        f" {floor.between} on record ({floor.df:g} degree{'s' * (floor.df != 1)} of freedom)."
    )


def best_k(table: pd.DataFrame) -> str:
    """One sentence for the recommendation. In: `speedup.recommend`."""
    parts = [
        f"K = {r.k} for {words.workload(r.workload)} ({r.speedup:.2f}×{_others(r)})"
        if r.k
        else f"no drafter for {words.workload(r.workload)}"
        for r in table[table.k.notna()].itertuples()
    ]
    unknown = [
        f"{words.workload(r.workload)} (K = {r.best_k} was fastest, {r.best_speedup:.2f}×)"
        for r in table[table.k.isna()].itertuples()
    ]
    text = f"Use {'; '.join(parts)}. " if parts else ""
    text += f"Which K to use is {NOT_KNOWN} for {'; '.join(unknown)}. " if unknown else ""
    return text + words.started(table.launches.max())


def _others(row) -> str:
    """The other K that the data do not tell from the fastest."""
    rest = [str(k) for k in row.among if k != row.k]
    return f"; not distinguishable from K = {', '.join(rest)}" if rest else ""


def speedup(paired: pd.DataFrame, floor: NoiseFloor) -> str:
    """What each speculating arm gains by workload. In: `speedup.paired`."""
    sentences = []
    for arm, group in paired.groupby("arm", sort=False):
        parts = []
        for _, r in group.iterrows():
            interval = f" (95 % interval {r.lo:.2f} to {r.hi:.2f})" if r.lo == r.lo else ""
            said = {"not distinguishable": " (not distinguishable from the baseline)", NOT_KNOWN: f" ({NOT_KNOWN})"}
            parts.append(
                f"{words.workload(r.workload)} {r.speedup:.2f}× as fast{interval}" + said.get(verdict(r, floor), "")
            )
        sentences.append(f"{words.arm(arm)} makes {', '.join(parts)}.")
    return " ".join([*sentences, words.started(paired.launches.max())])


def variants(table: pd.DataFrame, targets: Mapping[str, str]) -> str:
    """Means over workloads of every variant against main, and how many workloads differ. In: `costmodel.side_by_side`."""
    sentences = []
    for k, group in table.groupby("k"):
        mean = {v: g for v, g in group.groupby("variant")}
        main = mean.pop("main")
        for variant, own in mean.items():
            differ = own.verdict.isin(["more", "less"]).sum()
            sentences.append(
                f"At K = {k} {targets[variant]} accepts {own.al.mean():.2f} tokens per step for {own.rho.mean():.2f} baseline "
                f"steps, {targets['main']} {main.al.mean():.2f} for {main.rho.mean():.2f}: its speedup is "
                f"{geometric_mean(own.ratio):.2f} times the other's, distinguishable on {differ} of {len(own)} workloads"
            )
    if not sentences:
        return "One variant: nothing to compare."
    unknown = f" Which of them differ is {NOT_KNOWN}: set `launches` to 3." if NOT_KNOWN in set(table.verdict) else ""
    return f"{'; '.join(sentences)}. {words.started(table.launches.max())}{unknown}"


def late(late: pd.DataFrame) -> str:
    """Which requests waited unusually long for their first token. In: `speedup.late_first_tokens`."""
    if late.empty:
        return "No request waited unusually long for its first token."
    waits = [
        f"{words.arm(r.arm)}, {words.workload(r.workload)}, launch {r.launch}, repeat {r.repeat}: {r.ttft:.2f} s"
        f" (median of the arm {r.median:.2f} s)"
        for r in late.itertuples()
    ]
    return (
        f"{len(late)} request{'s' * (len(late) != 1)} waited unusually long for the first token: {'; '.join(waits)}. "
        "Something ran once, on demand, such as the compilation of a kernel. Seconds per request, and the speedups computed "
        "from them, include this wait; TPOT and step costs do not."
    )


def ledger(ledger: pd.DataFrame, identities: pd.DataFrame) -> str:
    """Whether the token counts add up. In: `acceptance.ledger`, `acceptance.identities`."""
    held = f"{int(identities.holds.sum())} of {len(identities)} checks of the counters hold"
    if ledger.unexplained.isna().all():
        return (
            f"{held}; the engine keeps no record per request, so a difference of {int(ledger.residual.sum())} tokens is"
            " shown and not explained."
        )
    return f"{held}, and {int(ledger.unexplained.abs().sum())} of {int(ledger.completion_tokens.sum())} completion tokens are unexplained."


def programs(rates: pd.DataFrame, compared: tuple[float, float, float]) -> str:
    """How the generated programs of the arms compare. In: `generated.rates`, `generated.compare`."""
    total, generate, p = compared
    if rates.passed.isna().all():
        return (
            f"{rates.programs.sum()} generated programs are kept and were not run: no wall of the sandbox holds where they "
            f"were generated. Run them where one does (python -m analysis run-programs). Generating was {generate:.2f}× as fast."
        )
    parts = [f"{words.arm(r.arm)}: {r.passed:.0%} of {r.programs} programs pass" for r in rates.itertuples()]
    return (
        f"{'; '.join(parts)} (exact McNemar test, p = {p:.2f}). Generating and executing together,"
        f" {_speculation(rates)} is {total:.2f}× as fast; generating alone {generate:.2f}×."
    )


def _speculation(rates: pd.DataFrame) -> str:
    """What the arms of a frame speculate by: "MTP"."""
    found = (speculator.of_arm(name)[0] for name in rates.arm)
    return " and ".join(dict.fromkeys(s.title for s in found if s.speculates))


def agreement(table: pd.DataFrame, p: Mapping[str, float]) -> str:
    """What the control says about the agreement of the arms. In: `losslessness.agreement`, `against_control`."""
    parts = [f"{words.comparison(r.comparison)}: {r.identical} of {r.prompts}" for r in table.itertuples()]
    values = (f"p = {value:.2f}" + f" for {words.arm(arm)}" * (len(p) > 1) for arm, value in p.items())
    return f"Identical greedy texts, {'; '.join(parts)} (exact McNemar test against the control, {', '.join(values)})."
