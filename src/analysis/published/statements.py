"""What the articles say in words, against our data: machines and models (stated.csv), ties of numbers (relations.yaml).

Pure: frames in, one row per check out (name, kind, where, printed, found, ok).
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping

import pandas as pd

from analysis import shapes
from analysis.errors import EvidenceError
from analysis.published.evidence import Evidence
from analysis.published.intervals import INF, Interval, apply, check, interval, overlap


def statements(evidence: Evidence) -> pd.DataFrame:
    """What articles state about machines and models, against hardware.yaml and what models.yaml's shapes give."""
    rows = []
    for row in evidence.stated.to_dict("records"):
        reach = _truth(row["subject"], row["metric"])
        if reach is not None:
            where = f"{row['source']} {row['table']}"
            span = interval(row["printed"], row["reading"])
            unit = "" if row["unit"] == "1" else f" {row['unit']}"
            name = f"{row['source']}, {row['subject']}: {row['metric']} {row['printed']}{unit}"
            rows.append(check(name, "statement", where, (row["printed"], span), reach))
    return pd.DataFrame(rows)


def _truth(subject: str, metric: str) -> Interval | None:
    """The stated quantity from our data, as an interval; None where our data do not decide it. Memory is decimal."""
    targets, formats, _ = shapes.models()
    if subject in shapes.machines():
        machine = shapes.machines()[subject]
        value = {
            "bandwidth": machine.bandwidth_gb_s,
            "bandwidth_tb": (machine.bandwidth_gb_s or 0) / 1000,
            "memory": machine.memory_gb,
            "usable_memory": machine.usable_gib,
            "device_memory": machine.device_gib,
            "compute_capability": machine.compute_capability,
        }.get(metric)
        return None if value is None else (value, value)
    if subject == "gemma-4":
        value = {"drafter_layers": 4, "drafter_sliding_layers": 3, "drafter_full_layers": 1}.get(metric)
        return None if value is None else (value, value)
    is_drafter = subject.endswith("-assistant")
    target = targets.get(subject.removesuffix("-assistant"))
    if target is None:
        return None
    return _drafter_truth(target, metric) if is_drafter else _target_truth(target, metric, targets, formats)


def _drafter_truth(target: shapes.Target, metric: str) -> Interval | None:
    drafter, parameters = target.drafter, shapes.drafter_parameters(target)
    value = {
        "drafter_memory": shapes.drafter_memory(target) / 1e6,
        "drafter_memory_gb": shapes.drafter_memory(target) / 1e9,
        "parameters": parameters / (1e6 if parameters < 1e8 else 1e9),
        "layers": shapes.DRAFTER_LAYERS,
        "shares_target_layers": target.layers,
        "vocabulary": target.vocabulary,
        "head_candidates": shapes.candidates(target),
    }.get(metric, getattr(drafter, metric, None))
    return None if value is None else (value, value)


def _target_truth(target: shapes.Target, metric: str, targets: Mapping, formats: Mapping) -> Interval | None:
    if metric.startswith("weights"):
        name = metric.removeprefix("weights_").replace("weights", "fp8").replace("awq", "awq-int4")
        fmt = formats[name]
        text = shapes.weight_memory(target, fmt) / 1e9
        # A build may leave layers unquantised, and may or may not count the encoders.
        return (text, INF if metric == "weights_awq" else text + 2 * target.vision_and_audio / 1e9)
    parts = shapes.footprint(target, formats["fp8"], context=4096)
    last = target.layers - 1
    active = shapes.dense_parameters(target) + target.experts_per_token * shapes.expert_parameters(target)
    fp8, small = formats["fp8"], targets["gemma-4-26B-A4B-it"]
    values: dict[str, Interval] = {
        "active_parameters": (active / 1e9, (active + shapes.embedding_parameters(target)) / 1e9),
        "effective_parameters": _point((shapes.dense_parameters(target) + shapes.embedding_parameters(target)) / 1e9),
        "kv_cache": _point(parts["kv"] / 1e9),
        "footprint": ((parts["total"] - parts["encoders"]) / 1e9, parts["total"] / 1e9),
        "shared_full_layer": _point(last),
        "shared_sliding_layer": _point(last - 1),
        "kv_growth_32k_over_8k": _point(shapes.kv_bytes(target, 32768) / shapes.kv_bytes(target, 8192)),
        "weight_bytes_over_26b": _point(shapes.step_bytes(target, fp8) / shapes.step_bytes(small, fp8)),
    }
    field = getattr(target, metric, None)
    return values.get(metric, None if field is None else _point(field))


def _point(value: float) -> Interval:
    return value, value


# ---------------------------------------------------------------------------------------------- relations in words


def relations(evidence: Evidence) -> pd.DataFrame:
    """relations.yaml: named rows, and one comparison (==, >=, <=, >) of arithmetic on them that should hold."""
    rows = []
    for relation in evidence.relations:
        for case in relation.get("cases", [{}]):
            picked = {
                name: _pick(evidence, {**relation.get("all", {}), **case, **wanted})
                for name, wanted in relation["rows"].items()
            }
            left, comparison, right = _evaluate(relation["holds"], {name: span for name, (_, span) in picked.items()})
            ok = {
                "Eq": overlap(left, right),
                "GtE": left[1] >= right[0],
                "LtE": left[0] <= right[1],
                "Gt": left[1] > right[0],
            }[comparison]
            where = relation["source"] + " " + ", ".join(str(value) for value in case.values())
            printed = ", ".join(f"{name} = {text}" for name, (text, _) in picked.items())
            rows.append(
                dict(
                    name=f"{relation['source']}: {relation['name']}",
                    kind="relation",
                    where=where.strip(),
                    printed=printed,
                    found=f"{relation['holds']} does not hold" if not ok else "",
                    ok=ok,
                )
            )
    return pd.DataFrame(rows)


def _pick(evidence: Evidence, wanted: Mapping) -> tuple[str, Interval]:
    """The row that matches, as (printed, interval). `take`: mean of all matches, spread, limit (a bound as a point)."""
    take = wanted.get("take", "")
    frame = evidence.rows(
        {column: value for column, value in wanted.items() if column != "take"}, single=take != "mean"
    )
    if take == "spread":
        return str(frame.iloc[0]["spread"]), (frame.iloc[0]["spread"],) * 2
    readings = ["exact"] * len(frame) if take == "limit" else frame["reading"]
    spans = [
        interval(text, reading, metric)
        for text, reading, metric in zip(frame["printed"], readings, frame["metric"], strict=True)
    ]
    low, high = (sum(span[i] for span in spans) / len(spans) for i in (0, 1))
    return (frame.iloc[0]["printed"] if len(spans) == 1 else f"{(low + high) / 2:.6g}"), (low, high)


def _evaluate(text: str, names: Mapping[str, Interval]) -> tuple[Interval, str, Interval]:
    """Arithmetic and one comparison over intervals; nothing else of Python."""
    operators = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}

    def walk(node: ast.expr) -> Interval:
        if isinstance(node, ast.Constant):
            return float(node.value), float(node.value)
        if isinstance(node, ast.Name):
            return names[node.id]
        if isinstance(node, ast.BinOp):
            return apply(operators[type(node.op)], walk(node.left), walk(node.right))
        raise EvidenceError("relations.yaml: only + - * / and one comparison.", why=text)

    tree = ast.parse(text, mode="eval").body
    return walk(tree.left), type(tree.ops[0]).__name__, walk(tree.comparators[0])
