"""The tables of chapters 00 to 07. Pure: frames in, `Table` out."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis.science import speedup
from analysis.science.stats import NoiseFloor
from analysis.servers.facts import StartupFacts, differences
from analysis.show import sentences, words
from analysis.show.outputs import Table
from analysis.study.plan import Plan

_SPEED = {
    "seconds": ".2f",
    "seconds_sd": ".2f",
    "tok_s": ".1f",
    "decode_tok_s": ".1f",
    "chars_s": ".0f",
    "chars": ".0f",
    "ttft": ".3f",
    "tpot": ".4f",
    "repetition": ".0%",
}
_TIMES = "{:.2f}×".format


def plan(plan: Plan) -> Table:
    """Launches, measurements and the most tokens, by launch and arm."""
    rows = []
    for arm, number in plan.launches():
        cells = plan.of(arm, number)
        rows.append(
            {
                "launch": number,
                "arm": arm.name,
                "K": arm.k,
                "measurements": len(cells),
                "requests": sum(len(c.requests) for c in cells),
                "most tokens": sum(c.tokens for c in cells),
            }
        )
    note = (
        f"{len(rows)} launches, {len(plan.cells)} measurements, about {plan.minutes():.0f} minutes if a start takes"
        f" {plan.study.expect.start_s:.0f} s and the baseline runs at {plan.study.expect.tok_s:g} tok/s."
    )
    return Table(pd.DataFrame(rows), "The plan: what will be launched and measured", note=note)


def checks(checks: list) -> Table:
    """The preflight table: check, verdict, evidence, fix."""
    return Table(
        pd.DataFrame(
            [{"check": c.name, "verdict": c.verdict, "evidence": c.evidence, "fix": c.fix or None} for c in checks]
        ),
        "Preflight: everything that can be known before a launch",
    )


def runs(requests: pd.DataFrame) -> Table:
    """Every run by workload: seconds, tok/s, ch/s, characters, TTFT, TPOT."""
    table = speedup.runs(requests).drop(columns=["variant", "k", "repetition", "decode_tok_s"])
    return Table(
        table,
        "Each repeat: means over the prompts of a workload, one stream. Seconds from sending to the last token",
        _SPEED,
    )


def speeds(table: pd.DataFrame) -> Table:
    """Means by arm and workload. In: `speedup.by_workload`."""
    return Table(
        table.drop(columns=["variant", "k"]),
        "Means over prompts and repeats, with the standard deviation over both; repeated text: share of word windows that occurred before",
        _SPEED,
    )


def cold_start(launches: pd.DataFrame) -> Table:
    columns = [
        c
        for c in [
            "arm",
            "launch",
            "ready_s",
            "weights_load_s",
            "load_s",
            "init_engine_s",
            "first_request_s",
            "weights_gib",
            "kv_tokens",
        ]
        if c in launches and launches[c].notna().any()
    ]
    return Table(
        launches[columns], "Cold start, kept apart from every speed", {"ready_s": ".1f", "first_request_s": ".2f"}
    )


def speedups(paired: pd.DataFrame, floor: NoiseFloor, headline: bool = False) -> Table:
    """Speedup with interval or spread, the published ratio beside it, and what it is worth. In: `speedup.paired`."""
    has_interval = paired.lo.notna().any()
    lo, hi = ("lo", "hi") if has_interval else ("prompt_min", "prompt_max")
    spread = "95 % interval" if has_interval else "range over prompts"
    table = pd.DataFrame(
        {
            "workload": paired.workload,
            "arm": paired.arm,
            "baseline [s]": paired.baseline_seconds,
            "arm [s]": paired.seconds,
            "speedup": paired.speedup,
            spread: [f"{a:.2f} to {b:.2f}×" if a == a else "–" for a, b in zip(paired[lo], paired[hi], strict=True)],
            "ratio of mean seconds": paired.ratio_of_means,
            "verdict": [speedup.verdict(r, floor) for _, r in paired.iterrows()],
        }
    )
    prompts, launches = int(paired.prompts.max()), int(paired.launches.max())
    note = f"{words.plural(prompts, 'prompt')} per workload, {words.started(launches)} {sentences.noise_floor(floor)}"
    if not has_interval:
        note += " One launch per arm gives no interval: the range over prompts is a spread."
    elif launches == 1:
        note += " With one launch, the interval takes from earlier studies of this machine how much a restart changes."
    formats = {"speedup": _TIMES, "ratio of mean seconds": _TIMES, "baseline [s]": ".2f", "arm [s]": ".2f"}
    caption = "Speedup: geometric mean of paired per-prompt ratios; the articles publish the ratio of mean seconds"
    return Table(table, caption, formats, note, headline=headline)


def variants(table: pd.DataFrame, targets: Mapping[str, str]) -> Table:
    """Variants at equal K. In: `costmodel.side_by_side`, and the target's name of each variant."""
    spread = [f"{lo:.2f} to {hi:.2f}×" if lo == lo else "–" for lo, hi in zip(table.lo, table.hi, strict=True)]
    shown = pd.DataFrame(
        {
            "workload": table.workload,
            "K": table.k,
            "variant": table.variant,
            "target": table.variant.map(targets),
            "AL": table.al,
            "step cost ρ": table.rho,
            "speedup": table.speedup,
            "95 % interval": spread,
            "against main": table.ratio.where(table.verdict != ""),
            "verdict": table.verdict.replace("", None),
        }
    )
    note = "" if len(table) else "This study has one variant: there is nothing to compare."
    formats = {"AL": ".2f", "step cost ρ": ".2f", "speedup": _TIMES, "against main": _TIMES}
    caption = (
        "Variants side by side at equal K: tokens per step (AL), cost of a step in baseline steps (ρ), speedup over the"
        " baseline of the variant, and that speedup divided by the one of main"
    )
    return Table(shown, caption, formats, note, headline=bool(len(table)))


def head_to_head(table: pd.DataFrame) -> Table:
    """Absolute speed of all arms side by side, each against the first baseline (mean over workloads)."""
    mean = table.groupby(["arm", "k"], as_index=False)[["seconds", "tok_s", "chars_s", "ttft"]].mean().sort_values("k")
    mean["vs baseline"] = mean.tok_s / mean.tok_s.iloc[0]
    return Table(
        mean.drop(columns="k"),
        "Head to head: means over workloads",
        {"seconds": ".2f", "tok_s": ".1f", "chars_s": ".0f", "ttft": ".3f", "vs baseline": _TIMES},
    )


def sweep(sweep: pd.DataFrame) -> Table:
    """Seconds and speedup by K, one row per K, as the articles print it."""
    part = sweep[sweep.variant == "main"]
    wide = part.pivot(index="k", columns="workload", values=["seconds", "speedup"]).swaplevel(axis=1)
    wide.columns = [f"{words.workload(w)} [{'s' if what == 'seconds' else '×'}]" for w, what in wide.columns]
    return Table(
        wide[sorted(wide.columns)].reset_index().rename(columns={"k": "K"}),
        "Mean seconds per request and speedup by K",
        dict.fromkeys(wide.columns, ".2f"),
    )


def recommendation(table: pd.DataFrame) -> Table:
    """Recommended K by workload. In: `speedup.recommend`."""
    return Table(
        table.rename(columns={"k": "recommended K"}).assign(among=[", ".join(map(str, n)) or "–" for n in table.among]),
        "Recommended K: the smallest one that is within the noise floor of the fastest",
        {"speedup": _TIMES, "best_speedup": _TIMES},
        headline=True,
    )


def acceptance(arms: pd.DataFrame) -> Table:
    """Drafts, draft tokens, accepted, AR, AL. In: `acceptance.by_arm`."""
    return Table(
        arms[["arm", "workload", "drafts", "draft_tokens", "accepted", "ar", "al"]],
        "Acceptance from the engine's counters",
        {"ar": ".1%", "al": ".2f"},
    )


def positions(table: pd.DataFrame) -> Table:
    """p_i and c_i in the articles' form: one row per arm and workload, positions joined by a slash."""
    part = table[table.variant == "main"]
    rows = [
        {
            "arm": arm,
            "workload": workload,
            "p_i [%]": " / ".join(f"{100 * v:.1f}" for v in g.p),
            "c_i [%]": " / ".join("–" if v != v else f"{100 * v:.1f}" for v in g.c),
        }
        for (arm, workload), g in part.groupby(["arm", "workload"])
    ]
    return Table(
        pd.DataFrame(rows),
        "Acceptance by draft position, the first position left: unconditional p_i and conditional c_i",
    )


def identities(table: pd.DataFrame) -> Table:
    """The checks of `acceptance.identities`, summed up: how many hold, and the first that does not."""
    rows = []
    for identity, group in table.groupby("identity", sort=False):
        bad = group[~group.holds]
        rows.append(
            {
                "identity": identity,
                "checked": len(group),
                "hold": int(group.holds.sum()),
                "first failure": None
                if bad.empty
                else f"{words.arm(bad.iloc[0].arm)}, {words.workload(bad.iloc[0].workload)}: {bad.iloc[0].left:g} ≠ {bad.iloc[0].right:g}",
            }
        )
    return Table(pd.DataFrame(rows), "What must hold between the counters, checked for every arm and workload")


def ledger(table: pd.DataFrame) -> Table:
    """Where the completion tokens come from. In: `acceptance.ledger`."""
    columns = [
        "arm",
        "workload",
        "completion_tokens",
        "requests",
        "drafts",
        "accepted",
        "residual",
        "undrafted",
        "cut",
        "unexplained",
    ]
    note = (
        "Completion tokens = requests + verify steps with a draft + accepted tokens + steps without a draft − tokens"
        " cut at the end. The last two come from the engine's record of each request; unexplained is what neither"
        " accounts for."
    )
    return Table(table[columns], "Where the completion tokens come from", note=note)


def programs(rates: pd.DataFrame) -> Table:
    """Share of generated programs that pass each check. In: `generated.rates`."""
    shares = ["parsed", "ran", "columns_ok", "rows_ok", "returns_ok", "chart_written", "passed"]
    bounds = zip(rates.passed_lo, rates.passed_hi, strict=True)
    interval = [f"{lo:.0%} to {hi:.0%}" if lo == lo else "not run" for lo, hi in bounds]
    table = rates.drop(columns=["k", "passed_lo", "passed_hi"]).assign(**{"passed, 95 %": interval})
    formats = dict.fromkeys(shares, ".0%") | dict.fromkeys(["generate_s", "execute_s", "total_s"], ".2f")
    caption = "Generated programs: share that passes each check, with its Wilson interval, and mean seconds"
    return Table(table, caption, formats, headline=True)


def agreement(table: pd.DataFrame) -> Table:
    return Table(
        table.drop(columns=["k", "arm"]),
        "Greedy texts: share of prompts with identical text (95 % Wilson interval), and mean share of the text before the first difference",
        dict.fromkeys(["share", "lo", "hi", "common_prefix"], ".0%"),
    )


def every_program(programs: pd.DataFrame) -> Table:
    """Outcome of every generated program. In: `generated.frame`."""
    columns = [
        "arm",
        "seed",
        "tokens",
        "generate_s",
        "execute_s",
        "parsed",
        "ran",
        "columns_ok",
        "rows",
        "returns_ok",
        "chart_written",
        "passed",
        "wall",
        "reason",
    ]
    if "wall" not in programs or not programs.wall.any():  # records from before it was kept
        columns.remove("wall")
    return Table(
        programs[columns],
        "Every generated program and what became of it",
        {"seed": "d", "generate_s": ".2f", "execute_s": ".2f"},
    )


def partings(pairs: pd.DataFrame) -> Table:
    """By workload: identical texts and the mean share before the first difference. In: `losslessness.pairs`."""
    table = pairs.groupby(["comparison", "workload"], as_index=False).agg(
        prompts=("same", "size"), identical=("same", "sum"), common=("common", "mean")
    )
    return Table(
        table,
        "Identical texts by workload, and the mean share of the text before the first difference",
        {"common": ".0%"},
    )


def launch_differences(launches: pd.DataFrame) -> Table:
    """Startup facts that differ from the baseline's and are not the drafter itself. In: launch frame."""
    fields = StartupFacts.model_fields
    read = [
        (
            r["arm"],
            StartupFacts.model_validate({k: v for k, v in r.items() if k in fields and v is not None and v == v}),
        )
        for r in launches.to_dict("records")
    ]
    baseline = next((f for arm, f in read if arm.startswith("baseline")), None)
    rows = [
        {"arm": arm, "fact": fact, "baseline": str(a), "this arm": str(b)}
        for arm, f in read
        if baseline and f != baseline
        for fact, a, b in differences(baseline, f)
    ]
    note = "" if rows else "None: apart from the drafter, all arms started with the same settings."
    return Table(
        pd.DataFrame(rows, columns=["arm", "fact", "baseline", "this arm"]),
        "Differences between the launches that are not the drafter",
        note=note,
    )


def causes(launches: pd.DataFrame) -> Table:
    """What the launches' logs and facts say is wrong or unexpected, with the fix. In: launch frame."""
    rows = [
        {"arm": r["arm"], "cause": c["cause"], "fix": c.get("fix", c.get("mend"))}
        for r in launches.to_dict("records")
        for c in (r.get("causes") if isinstance(r.get("causes"), list) else [])
    ]
    table = pd.DataFrame(rows, columns=["arm", "cause", "fix"])
    table = table.groupby(["cause", "fix"], sort=False).arm.agg(lambda a: ", ".join(dict.fromkeys(a))).reset_index()
    note = "" if rows else "None: no launch shows signs of a known failure."
    return Table(table[["arm", "cause", "fix"]], "Known problems found in the logs of the launches", note=note)
