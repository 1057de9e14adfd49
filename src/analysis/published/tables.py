"""The tables and sentences of chapters 08 and 09. Pure: tidy frames in, `Table` and text out."""

from __future__ import annotations

import pandas as pd

from analysis.published import physics
from analysis.published.evidence import Evidence
from analysis.science import costmodel, money
from analysis.science.money import Assumptions
from analysis.show import words
from analysis.show.outputs import Table

_TIMES, _TOK, _TWO = "{:.2f}×".format, "{:.1f}".format, "{:.2f}".format


def bounds(checked: pd.DataFrame) -> Table:
    """Published speeds above the bound, with the bounds at each kind of routing and what would be needed."""
    odd = checked[checked["verdict"].isin([physics.DEGENERATE, physics.IMPOSSIBLE])].reset_index(drop=True)
    columns = [
        "source",
        "table",
        "k",
        "concurrency",
        "tok_s",
        "bound",
        "bound_identical",
        "bound_same",
        "needs_al",
        "verdict",
        "verdict_measured",
    ]
    note = (
        "Bound: each token on experts of its own. Tokens per step it would need: at that bound; K + 1 is the most a"
        " step can give. The last column uses the best bandwidth that others measured."
    )
    return Table(
        odd[columns],
        "Speeds above the bandwidth bound [tok/s]",
        {"k": "{:.0f}".format, "tok_s": _TWO}
        | dict.fromkeys(["bound", "bound_identical", "bound_same", "needs_al"], _TOK),
        note,
    )


def uncheckable(checked: pd.DataFrame) -> Table:
    """Published speeds that cannot be checked, and why."""
    rows = checked[checked["verdict"] == "not checkable"].groupby(["source", "model", "why"], sort=False)["tok_s"]
    return Table(
        rows.agg(lambda v: ", ".join(f"{x:.4g}" for x in v)).reset_index(), "Speeds that cannot be checked [tok/s]"
    )


def step_costs(costs: pd.DataFrame) -> Table:
    """Cost of a step for each published setting, from its acceptance length and speedup. In: `physics.step_costs`."""
    note = (
        "ρ = acceptance length / speedup, in baseline steps; a value below one is impossible. ρ from bytes: bytes read"
        " in a step over those of a baseline step."
    )
    return Table(
        costs,
        "Cost of a speculative step from published numbers",
        {"speedup": _TIMES} | dict.fromkeys(["al", "rho", "rho_independent", "rho_same"], "{:.2f}".format),
        note,
    )


def conditional(evidence: Evidence) -> Table:
    """Conditional acceptance and the geometric fit of every published acceptance vector."""
    p = evidence.acceptance[(evidence.acceptance["metric"] == "p") & ~evidence.acceptance["table"].isin(["3.2"])].copy()
    p["p"] = p["value"] / p["unit"].map({"%": 100, "1": 1})
    p = p.drop_duplicates(["source", "model", "k", "position"])
    p["c"] = p["p"] / p.groupby(["source", "model", "k"])["p"].shift(1).fillna(1.0)
    whole = p.groupby(["source", "model", "k"]).filter(lambda g: len(g) == g["k"].iloc[0])
    fits = costmodel.geometric_fit(whole, by=["source", "model", "k"]).set_index(["source", "model", "k"])
    chains = whole.groupby(["source", "model", "k"])["c"].agg(lambda c: " ".join(f"{v:.2f}" for v in c))
    table = fits.join(chains).reset_index()
    note = "c_i: acceptance at a position where the one before was accepted. α: one c_i for all positions with the same acceptance length."
    return Table(
        table, "Conditional acceptance, published", dict.fromkeys(["alpha", "al", "worst"], "{:.3f}".format), note
    )


def rooflines(table: pd.DataFrame) -> Table:
    """Bandwidth bound of each model on each machine. In: `physics.rooflines`."""
    return Table(
        table,
        "The most that bandwidth allows at one stream, FP8 layers [tok/s]",
        {"fits": lambda v: "yes" if v else "no", "gb_a_token": _TOK, "baseline": _TOK, "k4": _TOK},
        "With K = 4, each token is on experts of its own. Weights only.",
    )


def footprints(table: pd.DataFrame) -> Table:
    """Memory by part, corrected. In: `physics.footprints`."""
    return Table(
        table,
        "Memory of target and drafter, FP8 layers, one context of 4096 tokens [GB]",
        dict.fromkeys(table.columns[1:], "{:.2f}".format),
        "A server reserves its share of memory whatever the model needs: this is what has to fit.",
    )


def claim_counts(table: pd.DataFrame) -> Table:
    """Verdicts by source and kind. In: `verdicts.of_study`."""
    counts = table.pivot_table(index=["source", "kind"], columns="verdict", values="id", aggfunc="count", fill_value=0)
    return Table(counts.reset_index(), "Published claims by verdict", headline=True)


def claims(table: pd.DataFrame) -> Table:
    """Every claim with its verdict, our number and the published one. In: `verdicts.of_study`."""
    order = {"contradicted": 0, "reproduced": 1, "not distinguishable": 2, "not tested here": 3}
    shown = table.sort_values("verdict", key=lambda v: v.map(order), kind="stable", ignore_index=True)
    columns = ["says", "source", "table", "verdict", "ours", "published", "detail", "stamp"]
    note = (
        "A number counts as reproduced within ten percent, on the same machine and model; the direction of an effect"
        " can hold anywhere. Intervals are 95 %; where a number has none, the noise floor."
    )
    return Table(shown[columns], "Published claims and what this study says of them", note=note)


def inconsistencies(found: pd.DataFrame) -> Table:
    """What does not fit inside the articles. In: `consistency.findings`."""
    return Table(
        found[["title", "where", "printed", "found", "note"]], "Numbers of the articles that contradict each other"
    )


def checks_sentence(counts: pd.Series, found: pd.DataFrame) -> str:
    """How many derived numbers were computed again, and how many did not fit."""
    return (
        f"{counts.sum()} checks on published numbers ({', '.join(f'{n} {name}' for name, n in counts.items())}) leave"
        f" {len(found)} inconsistencies."
    )


def advice(evidence: Evidence) -> Table:
    """Published recommendations with the load they are meant for."""
    rows = evidence.recommendations
    columns = ["source", "case", "model", "k_low", "k_high", "streams", "advice", "expected_value", "expected_unit"]
    return Table(rows[columns], "What the articles recommend")


def failures(evidence: Evidence) -> Table:
    """Published start-up failures with their fixes."""
    columns = ["source", "failure", "symptom", "cause", "fix", "setting", "bad_value", "good_value"]
    return Table(evidence.failures[columns], "Published failures and their fixes")


def assumptions(assumptions: Assumptions) -> Table:
    """What the cost of a token rests on."""
    rows = {
        "machine": assumptions.machine,
        "price of the machine": f"{assumptions.price:g}",
        "years until written off": f"{assumptions.years:g}",
        "watts while busy": f"{assumptions.watts:g}",
        "price per kWh": f"{assumptions.kwh_price:g}",
        "share of the time busy": f"{assumptions.utilisation:.0%}",
        "API prices per million tokens": ", ".join(f"{p:g}" for p in assumptions.api_prices),
    }
    return Table(pd.DataFrame(rows.items(), columns=["assumption", "value"]), "Assumptions, money in one currency")


def break_even(checked: pd.DataFrame, given: Assumptions) -> Table:
    """Tokens per day above which owning is cheaper, against what the machine can serve, by model and arm."""
    frame = checked[
        (checked["hardware"] == given.machine)
        & (checked["verdict"] == physics.POSSIBLE)
        & (checked["source"] == "suzuki-shoten")
        & checked["computed"]
        & checked["table"].str.startswith("2.1")
    ]
    rows = []
    for (model, k), group in frame.groupby(["model", "k"]):
        speed = group["tok_s"].mean()
        served = money.tokens_a_day(speed)
        row = {"model": model, "k": k, "tok_s": speed, "most per day": served}
        for api in given.api_prices:
            needed = money.break_even_tokens(speed, api, given)
            reach = "never: energy costs more" if needed == float("inf") else f"{needed:,.0f}: more than it serves"
            row[f"at {api:g} per million"] = f"{needed:,.0f}" if needed <= served else reach
        rows.append(row)
    note = (
        "Speed: mean of the three published workloads, one stream. What MTP changes is how much a machine can serve;"
        " the threshold moves only by the energy of a token."
    )
    return Table(
        pd.DataFrame(rows),
        "Tokens per day above which owning is cheaper than an API",
        {"k": "{:.0f}".format, "tok_s": _TOK, "most per day": "{:,.0f}".format},
        note,
    )


def break_even_table(costs: pd.DataFrame) -> Table:
    """Acceptance length got against the one needed; speedup predicted as AL / rho against measured."""
    table = costs.drop(columns=["lo", "hi", "launches", "rho"]).assign(margin=costs["al"] / costs["break_even"] - 1)
    formats = {
        "margin": "+.0%",
        "predicted": _TIMES,
        "measured": _TIMES,
        "al": "{:.2f}".format,
        "break_even": "{:.2f}".format,
    }
    return Table(
        table,
        "Acceptance length measured and needed, and the speedup that follows",
        formats,
        "Predicted: AL / cost of a step. Measured: ratio of TPOT. Both come from the same runs, so they check the"
        " arithmetic and not each other.",
    )


def fits(table: pd.DataFrame) -> Table:
    """Constant conditional acceptance by arm and workload. In: `costmodel.geometric_fit`."""
    return Table(
        table[table["variant"] == "main"].drop(columns="variant").reset_index(drop=True),
        "Acceptance described by one number: the same c_i at every position",
        dict.fromkeys(["alpha", "al", "worst"], "{:.3f}".format),
        "α: one c_i for all positions that gives the same acceptance length.",
    )


def sweep_sentence(sweep: pd.DataFrame) -> str:
    """How well the sweep was predicted, and which K the prediction would have chosen."""
    main = sweep[sweep["variant"] == "main"]
    parts = []
    for workload, group in main.groupby("workload", sort=False):
        guess, best = group.loc[group["predicted"].idxmax()], group.loc[group["measured"].idxmax()]
        same = "as measured" if guess.k == best.k else f"measured best is K = {best.k}"
        parts.append(f"K = {guess.k} for {words.workload(workload)} ({same})")
    return "Predicted from the baseline, the smallest and the largest K, the best choice is " + ", ".join(parts) + "."
