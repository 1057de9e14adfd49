"""Published claims and what a summary of measurements says of them. Pure.

A claim is numeric (a printed number, to be met on the same machine and model) or a shape (an order, a bound, a fall)
that can hold anywhere. Both are judged with three values: the intervals say yes, say no, or cannot tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import pandas as pd

from analysis.errors import EvidenceError
from analysis.published.evidence import Evidence

REPRODUCED, CONTRADICTED, UNCLEAR, UNTESTED = "reproduced", "contradicted", "not distinguishable", "not tested here"
#: columns that say what was measured, then the number; `quantisation` is a family (fp8, nvfp4, bf16, int4, gguf)
CONTEXT = ["study", "stamp", "hardware", "model", "architecture", "quantisation", "variant"]
SUMMARY = [*CONTEXT, "metric", "k", "workload", "concurrency", "position", "value", "lo", "hi", "n"]
TOLERANCE = 0.10
#: published metric -> metric of a summary, and the factor to its unit
METRICS = {
    "speedup": ("speedup", 1.0),
    "tok_s": ("tok_s", 1.0),
    "aggregate_tok_s": ("aggregate_tok_s", 1.0),
    "acceptance_rate": ("acceptance_rate", 0.01),
    "acceptance_length": ("acceptance_length", 1.0),
    "mean_accepted": ("mean_accepted", 1.0),
    "p": ("p", 0.01),
    "scaling": ("scaling", 1.0),
    "e2e_speedup": ("e2e_speedup", 1.0),
}
#: a source's workload -> ours, where the names differ; an unnamed one is compared with all of ours pooled
WORKLOADS = {"unstated": "pooled", "fixed_prompt": "en_fixed", "code": "py_code", "en": "en_finance"}


@dataclass(frozen=True)
class Claim:
    """One statement: `shape` claims carry a predicate, `numeric` ones the selector of the printed number."""

    id: str
    source: str
    table: str
    says: str
    predicate: str
    parameters: Mapping = field(default_factory=dict)
    row: Mapping = field(default_factory=dict)
    needs: str = ""

    @property
    def kind(self) -> str:
        return "numeric" if self.predicate == "number" else "shape"


def claims(evidence: Evidence) -> list[Claim]:
    """claims.yaml, checked: known predicate, unique id, and for each numeric claim exactly one printed number."""
    found: dict[str, Claim] = {}
    for entry in evidence.claims:
        entry = dict(entry)
        predicate = next((name for name in PREDICATES if name in entry), None)
        if predicate is None or entry.get("id") in found:
            raise EvidenceError(
                f"claims.yaml: claim '{entry.get('id')}' has no known predicate, or its id is taken.",
                why=f"Predicates are {', '.join(PREDICATES)}.",
                fix="Correct the claim.",
            )
        content = entry.pop(predicate)
        if predicate == "number":
            evidence.rows({"source": entry["source"], "table": entry["table"], **content}, single=True)
        part = {"row": content} if predicate == "number" else {"parameters": content}
        found[entry["id"]] = Claim(predicate=predicate, **part, **entry)
    return list(found.values())


def judge(evidence: Evidence, summary: pd.DataFrame, study: str, noise: float | None = None) -> pd.DataFrame:
    """Every claim with its verdict by one study; a claim about two models may use others of the same stamp and machine.

    In: summary with columns SUMMARY, of this study and any others; noise, the study's relative A/A floor if known.
    Out: id, source, table, kind, says, verdict, ours (our number with its interval), published, detail (what decided,
    or what a test would take), stamp. A miniature or synthetic summary never decides a numeric claim.
    """
    numbers = summary.to_dict("records")
    of_study = [row for row in numbers if row["study"] == study]
    beside = [
        row for row in numbers if of_study and all(row[name] == of_study[0][name] for name in ("stamp", "hardware"))
    ]
    rows = []
    for claim in claims(evidence):
        about = {"id": claim.id, "source": claim.source, "table": claim.table, "kind": claim.kind, "says": claim.says}
        decided = (
            _numeric(evidence, claim, of_study, noise)
            if claim.kind == "numeric"
            else _shape(evidence, claim, [of_study, beside], noise)
        )
        rows.append({**about, **decided})
    return pd.DataFrame(rows)


# ---------------------------------------------------------------------------------------------- numbers


def _numeric(evidence: Evidence, claim: Claim, summary: list[dict], noise: float | None) -> dict:
    printed = evidence.rows({"source": claim.source, "table": claim.table, **claim.row}, single=True).iloc[0]
    metric, factor = METRICS[printed["metric"]]
    scale = factor if printed["unit"] == "%" else 1.0 if factor == 0.01 else factor
    target = printed["value"] * scale
    selector = {
        "metric": metric,
        "model": printed["model"],
        "hardware": printed["hardware"],
        "stamp": "measured",
        "quantisation": family(printed["quantisation"]),
        "workload": printed["workload"],
        "concurrency": printed["concurrency"],
    }
    if pd.notna(printed["k"]):
        selector["k"] = printed["k"]
    if pd.notna(printed["position"]):
        selector["position"] = printed["position"]
    selector["workload"] = WORKLOADS.get(selector["workload"], selector["workload"])
    ours = _select(summary, selector)
    text = f"{printed['printed']} {printed['unit']}"
    if ours is None:
        takes = f"a measured study of {printed['model']} ({printed['quantisation']}) on {printed['hardware']}"
        takes += f", K = {printed['k']}" if "k" in selector else ""
        takes += f", {printed['workload']}, {printed['concurrency']} stream{'s' if printed['concurrency'] > 1 else ''}"
        return _result(UNTESTED, "", text, f"needs {takes}", "")
    band = (target * (1 - TOLERANCE), target * (1 + TOLERANCE))
    lo, hi, how = _interval(ours, noise)
    if hi < band[0] or lo > band[1]:  # noqa: SIM108
        verdict = CONTRADICTED
    else:
        verdict = REPRODUCED if band[0] <= lo and hi <= band[1] else UNCLEAR
    return _result(
        verdict, _show(ours, lo, hi), text, f"within {TOLERANCE:.0%} of the published number? {how}", "measured"
    )


def family(quantisation: str) -> str:
    """fp8-dynamic and fp8-block are one family; nvfp4a16 is nvfp4; awq-int4 is int4."""
    known = {"awq-int4": "int4", "nvfp4a16": "nvfp4"}
    return known.get(quantisation, quantisation.split("-")[0])


# ---------------------------------------------------------------------------------------------- shapes


def _shape(evidence: Evidence, claim: Claim, groups: list[list[dict]], noise: float | None) -> dict:
    """The first group that holds every number the predicate asks for decides."""
    for group in groups:
        case = Case(group, noise)
        try:
            answer = PREDICATES[claim.predicate](case, claim.parameters)
        except Missing:
            continue
        stamp = group[0]["stamp"]
        detail = list(dict.fromkeys(case.seen)) + [f"shape of the {stamp} study, no evidence about Gemma 4"] * (
            stamp == "miniature"
        )
        verdict = {True: REPRODUCED, False: CONTRADICTED, None: UNCLEAR}[answer]
        return _result(verdict, case.text(), _published(evidence, claim), "; ".join(detail), stamp)
    return _result(UNTESTED, "", _published(evidence, claim), f"needs {claim.needs}", "")


class Missing(LookupError):
    """The summary lacks a number that a predicate asks for."""


class Case:
    """The numbers one claim looked at, in the order of looking."""

    def __init__(self, summary: list[dict], noise: float | None):
        self.summary, self.noise = summary, noise
        self.shown: list[str] = []
        self.seen: list[str] = []

    def get(self, selector: Mapping) -> tuple[float, float, float]:
        """(value, lo, hi) of the one number that matches; raises Missing."""
        row = _select(self.summary, selector)
        if row is None:
            raise Missing(str(selector))
        lo, hi, how = _interval(row, self.noise)
        name = ", ".join(f"{key} {value}" for key, value in selector.items() if key != "metric")
        self.shown.append(f"{name or 'all'}: {_show(row, lo, hi)}")
        self.seen.append(how)
        return float(row["value"]), lo, hi

    def text(self) -> str:
        return "; ".join(dict.fromkeys(self.shown))


def greater(case: Case, p: Mapping) -> bool | None:
    """left > factor x right, for every combination in `each`; right may be a selector or a number."""
    factor = p.get("factor", 1.0)
    return _all(_above(case.get(e | p["left"]), _right(case, e, p["right"]), factor) for e in _each(p))


def ordering(case: Case, p: Mapping) -> bool | None:
    """Falling order along `along` (column and values), the rest of the selector being the same."""
    column, values = p["along"]["column"], p["along"]["values"]
    return _all(
        _all(_above(a, b, 1.0) for a, b in pairwise([case.get(e | p["of"] | {column: v}) for v in values]))
        for e in _each(p)
    )


def at_least(case: Case, p: Mapping) -> bool | None:
    """The number is `bound` or more, for every combination in `each`."""
    return _all(_above(case.get(e | p["of"]), (p["bound"],) * 3, 1.0) for e in _each(p))


def at_most(case: Case, p: Mapping) -> bool | None:
    """The number is `bound` or less, for every combination in `each`."""
    return _all(_above((p["bound"],) * 3, case.get(e | p["of"]), 1.0) for e in _each(p))


def near(case: Case, p: Mapping) -> bool | None:
    """Each number is within `tolerance` (relative) of the value beside it."""
    wide = p.get("tolerance", TOLERANCE)
    parts = []
    for entry in p["numbers"]:
        _, lo, hi = case.get({**p["of"], **entry["where"]})
        band = (entry["value"] * (1 - wide), entry["value"] * (1 + wide))
        outside = hi < band[0] or lo > band[1]
        parts.append(False if outside else True if band[0] <= lo and hi <= band[1] else None)
    return _all(parts)


PREDICATES = {
    "number": None,
    "greater": greater,
    "ordering": ordering,
    "at_least": at_least,
    "at_most": at_most,
    "near": near,
}


def _each(p: Mapping) -> list[dict]:
    column, values = next(iter(p.get("each", {}).items()), ("", [None]))
    return [{column: value} if column else {} for value in values]


def _right(case: Case, each: dict, right) -> tuple[float, float, float]:
    return case.get(each | right) if isinstance(right, Mapping) else (float(right),) * 3


def _above(left: tuple, right: tuple, factor: float) -> bool | None:
    """Is left above factor x right? None where the intervals overlap."""
    if left[1] > factor * right[2]:
        return True
    return False if left[2] < factor * right[1] else None


def _all(parts: Iterable[bool | None]) -> bool | None:
    parts = list(parts)
    return False if False in parts else None if None in parts else True


# ---------------------------------------------------------------------------------------------- rows


def _select(summary: list[dict], selector: Mapping) -> dict | None:
    """The row of the summary that matches; unnamed concurrency is 1, workload pooled, variant main, position none."""
    wanted = {"concurrency": 1, "workload": "pooled", "variant": "main", **selector}
    found = [row for row in summary if all(row[column] == value for column, value in wanted.items())]
    if "position" not in wanted:
        found = [row for row in found if pd.isna(row["position"])]
    return max(found, key=lambda row: row["n"], default=None)


def _interval(row: dict, noise: float | None) -> tuple[float, float, str]:
    """(lo, hi, where it comes from): the row's own interval, else the noise floor, else anything at all."""
    if pd.notna(row["lo"]) and pd.notna(row["hi"]):
        return float(row["lo"]), float(row["hi"]), "own interval"
    if noise is None:
        return 0.0, float("inf"), "not known yet: one launch and no noise floor; set `launches` to 3"
    return (
        row["value"] / (1 + noise),
        row["value"] * (1 + noise),
        f"no interval of its own: ±{noise:.0%}, the noise floor",
    )


def _show(row: dict, lo: float, hi: float) -> str:
    return f"{row['value']:.3g} ({'no interval yet' if hi == float('inf') else f'{lo:.3g} to {hi:.3g}'})"


def _published(evidence: Evidence, claim: Claim) -> str:
    """The printed numbers a shape claim rests on, where it names them."""
    texts = []
    for wanted in [claim.row] if isinstance(claim.row, Mapping) and claim.row else list(claim.row):
        for row in evidence.rows({"source": claim.source, "table": claim.table, **wanted}).to_dict("records"):
            texts.append(f"{row['printed']} {row['unit']}")
    return ", ".join(texts)


def _result(verdict: str, ours: str, published: str, detail: str, stamp: str) -> dict:
    return {"verdict": verdict, "ours": ours, "published": published, "detail": detail, "stamp": stamp}
