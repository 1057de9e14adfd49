"""Published numbers against one another: every derived number is computed again from the raw ones beside it.

A derived number is consistent if some values inside the intervals of its inputs give a value inside its own; what no
rounding can explain is a finding. Nothing that an article says is typed here: rows come from the tables, statements
that need words from relations.yaml.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from analysis import shapes
from analysis.published.evidence import Evidence
from analysis.published.intervals import Interval, apply, check, interval, last_digit
from analysis.published.statements import relations, statements

SETTING = ["source", "hardware", "engine", "engine_version", "model", "quantisation", "workload", "sampling", "label"]
SPEEDS = {"seconds", "chars_s", "tok_s", "aggregate_tok_s", "speedup"}
RAW = {
    "seconds",
    "chars_s",
    "tok_s",
    "aggregate_tok_s",
    "chars",
    "p",
    "mean_accepted",
    "acceptance_rate",
    "theoretical_speedup",
}

#: derived metric, the inputs beside it (`base.` = the baseline's row, `one.` = the row at one stream), the formula
FORMULAS: list[tuple[str, tuple[str, ...], Callable[..., float]]] = [
    ("acceptance_rate", ("accepted", "draft_tokens"), lambda a, d: 100 * a / d),
    ("mean_accepted", ("accepted", "drafts"), operator.truediv),
    ("draft_tokens", ("drafts", "k"), operator.mul),
    ("mean_accepted", ("sum_p",), lambda s: s / 100),
    ("acceptance_length", ("sum_p",), lambda s: 1 + s / 100),
    ("acceptance_rate", ("sum_p", "k"), operator.truediv),
    ("acceptance_length_limit", ("k",), lambda k: k + 1),
    ("chars_s", ("chars", "seconds"), operator.truediv),
    ("tok_s", ("tokens", "seconds"), operator.truediv),
    ("tok_s", ("ms_per_token",), lambda ms: 1000 / ms),
    ("per_request_tok_s", ("aggregate_tok_s", "concurrency"), operator.truediv),
    ("scaling", ("aggregate_tok_s", "one.aggregate_tok_s"), operator.truediv),
    ("speedup", ("base.seconds", "seconds"), operator.truediv),
    ("speedup", ("tok_s", "base.tok_s"), operator.truediv),
    ("speedup", ("aggregate_tok_s", "base.tok_s"), operator.truediv),
    ("speedup", ("aggregate_tok_s", "base.aggregate_tok_s"), operator.truediv),
    ("slowdown", ("base.tok_s", "tok_s"), lambda b, t: 100 * (1 - t / b)),
    ("time_share", ("seconds", "base.seconds"), lambda s, b: 100 * s / b),
    ("theoretical_speedup", ("acceptance_length", "overhead_factor"), operator.truediv),
    ("theoretical_speedup", ("mean_accepted",), lambda m: 1 + m),
    ("measured_over_theory", ("speedup", "theoretical_speedup"), lambda s, t: 100 * s / t),
    ("e2e_seconds", ("seconds", "exec_seconds"), operator.add),
    ("saved_seconds", ("base.e2e_seconds", "e2e_seconds"), operator.sub),
    ("e2e_speedup", ("base.e2e_seconds", "e2e_seconds"), operator.truediv),
    ("bandwidth_used", ("bytes_per_token", "tok_s"), operator.mul),
]


def checks(evidence: Evidence) -> pd.DataFrame:
    """Every check that was made, one row each: name, kind, where, printed, found (what it should be), ok."""
    return pd.concat(f(evidence) for f in (derived, repeats, settings, floors, statements, relations))


def counts(evidence: Evidence) -> pd.Series:
    """Number of checks by kind."""
    return checks(evidence)["kind"].value_counts(sort=False)


def findings(evidence: Evidence) -> pd.DataFrame:
    """All inconsistencies: name, kind, where, printed, found; title and note from inconsistencies.yaml."""
    rows = checks(evidence)
    rows = rows.loc[~rows["ok"], ["name", "kind", "where", "printed", "found"]]
    joined = rows.groupby(["name", "kind"], sort=False).agg(lambda cell: "; ".join(dict.fromkeys(cell))).reset_index()
    known = [evidence.known.get(name, {}) for name in joined["name"]]
    return joined.assign(**{part: [entry.get(part, "") for entry in known] for part in ("title", "note")})


# ---------------------------------------------------------------------------------------------- derived columns


def derived(evidence: Evidence) -> pd.DataFrame:
    """Every formula on every row that has its inputs: name, where, printed, found, ok; one row per check."""
    cells = _cells(evidence.records)
    baselines = {key: cell for key, cell in cells.items() if key[-2] == 0}
    rows = []
    for key, cell in cells.items():
        for metric, inputs, formula in FORMULAS:
            if metric not in cell or (
                metric == "theoretical_speedup" and "overhead_factor" in cell and len(inputs) == 1
            ):
                continue
            known = _inputs(inputs, key, cell, baselines, cells)
            if known is None:
                continue
            reach = apply(formula, *known)
            rows.append(check(f"{_subject(key)}: {metric}", "derived", key[0] + " " + key[-1], cell[metric], reach))
    return pd.DataFrame(rows)


def _cells(records: list[dict]) -> dict[tuple, dict]:
    """One dict of metric -> (printed, interval) per setting and table; `sum_p` where every position is printed."""
    cells: dict[tuple, dict] = {}
    for row in records:
        k = -1 if row["k"] is None else int(row["k"])
        key = (*[row[name] for name in SETTING], row["arm"] if k else "", row["concurrency"], k, row["table"])
        cell = cells.setdefault(key, {"k": ("", (k, k)), "concurrency": ("", (row["concurrency"],) * 2)})
        span = interval(row["printed"], row["reading"], row["metric"])
        span = (
            apply(lambda v: 100 * v, span) if row["unit"] == "1" and row["metric"] in ("p", "acceptance_rate") else span
        )
        if row["metric"] == "p":
            cell.setdefault("p", {})[int(row["position"])] = span
        elif row["metric"] not in cell or row["reading"] == "exact":
            cell[row["metric"]] = (row["printed"], span)
            if row["against"]:
                cell["against"] = row["against"]
    for cell in cells.values():
        spans = cell.pop("p", {})
        if len(spans) == cell["k"][1][0]:
            cell["sum_p"] = ("", (sum(s[0] for s in spans.values()), sum(s[1] for s in spans.values())))
    return cells


def _inputs(names: Iterable[str], key: tuple, cell: dict, baselines: Mapping, cells: Mapping) -> list[Interval] | None:
    """Intervals of a formula's inputs; None where one is not printed."""
    spans = []
    for name in names:
        where, _, metric = name.rpartition(".")
        found = cell.get(metric)
        if where == "base":
            found = _baseline(key, cell, metric, baselines)
        elif where == "one":
            found = cells.get((*key[:-3], 1, *key[-2:]), {}).get(metric)
        if found is None:
            return None
        spans.append(found[1])
    return spans


def _baseline(key: tuple, cell: dict, metric: str, baselines: Mapping) -> tuple | None:
    """The baseline's number: same table first, then any of the source; `against` may name another model."""
    model = cell.get("against") if shapes.shape_of(cell.get("against", "")) else key[4]
    streams = key[-3] if metric.startswith("aggregate") else 1
    wanted = (*key[:4], model, *key[5:9])
    hits = [(k, c[metric]) for k, c in baselines.items() if k[:9] == wanted and k[-3] == streams and metric in c]
    return next((found for k, found in hits if k[-1] == key[-1]), hits[0][1] if hits else None)


# ---------------------------------------------------------------------------------------------- repeats and settings


def repeats(evidence: Evidence) -> pd.DataFrame:
    """The same quantity printed in two tables must be the same number, to one unit of the coarser one's last digit."""
    groups: dict[tuple, list[dict]] = defaultdict(list)
    for row in evidence.records:
        if row["metric"] in RAW:
            alone = row["metric"] == "aggregate_tok_s" and row["concurrency"] == 1
            metric = "tok_s" if alone else row["metric"]
            bound = row["reading"] if row["reading"] in ("at-least", "up-to") else ""
            key = [row[name] for name in (*SETTING, "arm", "k", "concurrency", "position")]
            groups[(*key, metric, bound)].append(row)
    rows = []
    for key, group in groups.items():
        first, metric = group[0], key[-2]
        kind = "speed" if metric in SPEEDS else metric
        for column, what in (("printed", kind), ("spread", "spread")):
            given: dict[str, dict] = {}
            for row in group:
                if row[column] is not None:
                    given.setdefault(str(row[column]), row)
            one = next(iter(given.values()), None)
            name = f"{first['source']}, {first['model']} K={first['k']} {first['workload']}: {what} printed twice"
            for other in list(given.values())[1:]:
                texts = [str(row[column]) for row in (one, other)]
                unit = max(10.0 ** last_digit(str(row[column]), row["reading"]) for row in (one, other))
                rows.append(
                    {
                        "name": name,
                        "kind": "repeat",
                        "where": f"{first['source']} {one['table']}, {other['table']}",
                        "printed": f"{metric} {texts[0]}" if what != "spread" else f"spread of {metric} {texts[0]}",
                        "found": texts[1],
                        "ok": abs(float(texts[0]) - float(texts[1])) <= unit * (1 + 1e-9),
                    }
                )
    return pd.DataFrame(rows)


def settings(evidence: Evidence) -> pd.DataFrame:
    """One measured number of four digits or more, printed for two values of K, was measured at one of them."""
    numbers = evidence.measurements
    long = numbers[numbers["metric"].isin({"tok_s", "seconds"}) & (numbers["printed"].str.count(r"\d") >= 4)]
    rows = []
    for keys, group in long.groupby(
        ["source", "model", "quantisation", "workload", "sampling", "label", "metric", "printed"]
    ):
        ks = sorted(group["k"].dropna().unique())
        where = f"{keys[0]} {', '.join(dict.fromkeys(group['table']))}"
        rows.append(
            dict(
                name=f"{keys[0]}, {keys[1]}: one speed at two K",
                kind="setting",
                where=where,
                printed=keys[-1],
                found="K = " + " and ".join(map(str, ks)),
                ok=len(ks) < 2,
            )
        )
    return pd.DataFrame(rows)


def floors(evidence: Evidence) -> pd.DataFrame:
    """Numbers below what is possible at all (metrics.csv, `floor`)."""
    floor = evidence.metrics.set_index("metric")["floor"]
    rows = []
    for row in evidence.records:
        least, what = floor[row["metric"]], f"{row['source']}, {row['model']} K={row['k']} {row['workload']}"
        if pd.notna(least):
            high = interval(row["printed"], row["reading"])[1]
            rows.append(
                dict(
                    name=f"{what}: {row['metric']} below {least:g}",
                    kind="impossible",
                    where=f"{row['source']} {row['table']}",
                    printed=row["printed"],
                    found=f"at least {least:g}",
                    ok=high >= least,
                )
            )
    return pd.DataFrame(rows)


def _subject(key: tuple) -> str:
    parts = dict(zip(SETTING, key, strict=False))
    label = f" ({parts['label']})" if parts["label"] else ""
    return f"{parts['source']}, {parts['model']} K={key[-2] if key[-2] >= 0 else '?'} {parts['workload']}{label}"
