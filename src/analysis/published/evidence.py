"""data/published -> checked frames: published measurements, acceptance, statements, settings, failures, advice.

The tables' rules (fields, types, units, keys) are in datapackage.json and metrics.csv; this module only applies them. A
row that breaks one raises EvidenceError with file, line and reason.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import yaml

from analysis import shapes
from analysis.errors import EvidenceError
from analysis.places import DATA

FOLDER = DATA / "published"
#: quantisations that are named by a source but have no known bytes per parameter
OPEN_FORMATS = {"any", "unstated", "int4-autoround", "q4_k_m"}


@dataclass(frozen=True)
class Evidence:
    """The published tables. Frames keep `printed` (text) beside `value` (number) and `line` (line in the CSV).

    `claims`, `relations` and `known` are the YAML lists beside them, as read.
    """

    sources: pd.DataFrame
    metrics: pd.DataFrame
    measurements: pd.DataFrame
    acceptance: pd.DataFrame
    stated: pd.DataFrame
    recipes: pd.DataFrame
    failures: pd.DataFrame
    recommendations: pd.DataFrame
    claims: list[dict]
    relations: list[dict]
    known: dict[str, dict]

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """Measurements and acceptance under one another; acceptance has one stream."""
        both = pd.concat([self.measurements, self.acceptance], ignore_index=True)
        return both.assign(concurrency=both["concurrency"].fillna(1).astype(int))

    @cached_property
    def records(self) -> list[dict]:
        """`numbers` as dicts, None where a cell is empty."""
        missing_is_none = self.numbers.astype(object).where(self.numbers.notna(), None)
        return missing_is_none.to_dict("records")

    def rows(self, wanted: Mapping, single: bool = False) -> pd.DataFrame:
        """Rows of `numbers` that match every column: value. EvidenceError for none, or for several if `single`."""
        hits = [
            i for i, row in enumerate(self.records) if all(row[column] == value for column, value in wanted.items())
        ]
        frame = self.numbers.iloc[hits]
        if frame.empty or (single and len(frame) > 1):
            raise EvidenceError(
                f"A published number is picked by {dict(wanted)}, which matches {len(frame)} rows.",
                why="relations.yaml and claims.yaml name each printed number by columns of the tables.",
                fix="Correct the selector.",
            )
        return frame


def load(folder: Path = FOLDER) -> Evidence:
    """Read and check everything under `folder`. Raises EvidenceError with file, line and reason."""
    package = json.loads(_text(folder / "datapackage.json"))
    frames: dict[str, pd.DataFrame] = {}
    for resource in package["resources"]:
        name, path = resource["name"], resource["path"]
        frames[name] = parse(_text(folder / path), path, resource["schema"])
        for link in resource["schema"].get("foreignKeys", []):
            field, other = link["fields"], frames[link["reference"]["resource"]]
            _known(frames[name], path, field, set(other[link["reference"]["fields"]]))
    rules = frames["metrics"].set_index("metric").to_dict("index")
    for name in ("measurements", "acceptance"):
        check_rows(frames[name], f"{name}.csv", rules)
    return Evidence(
        **frames,
        claims=_yaml(folder / "claims.yaml") or [],
        relations=_yaml(folder / "relations.yaml") or [],
        known=_yaml(folder / "inconsistencies.yaml") or {},
    )


def parse(text: str, path: str, schema: Mapping) -> pd.DataFrame:
    """One CSV -> a frame, by its table schema: header, required fields, types, enumerations, limits, unique key.

    Adds `line` (1-based, as an editor shows it) and `printed` (the text of `value`). Raises EvidenceError.
    """
    fields = {field["name"]: field for field in schema["fields"]}
    reader = csv.DictReader(io.StringIO(text))
    if reader.fieldnames != list(fields):
        found, wanted = reader.fieldnames or [], list(fields)
        odd = next((f"'{a}' where '{b}' should be" for a, b in zip(found, wanted, strict=False) if a != b), "")
        _refuse(
            path,
            1,
            f"the header is not the one of datapackage.json: {odd or f'{len(found)} columns, not {len(wanted)}'}",
        )
    rows, seen = [], {}
    for raw in reader:
        line = reader.line_num
        if None in raw or None in raw.values():
            _refuse(path, line, f"has another number of fields than the header ({len(fields)})")
        row = {name: _cell(path, line, field, raw[name]) for name, field in fields.items()}
        key = tuple(raw[name] for name in schema["primaryKey"])
        if key in seen:
            _refuse(path, line, f"repeats line {seen[key]} (same {', '.join(schema['primaryKey'])})")
        seen[key] = line
        rows.append({**row, "line": line, **({"printed": raw["value"]} if "value" in fields else {})})
    frame = pd.DataFrame(rows)
    for name, field in fields.items():
        if field["type"] == "integer":
            frame[name] = frame[name].astype("Int64")
    return frame


def _cell(path: str, line: int, field: Mapping, text: str):
    """The typed value of one cell; None where empty."""
    name, rules = field["name"], field.get("constraints", {})
    if text == "":
        if rules.get("required"):
            _refuse(path, line, f"'{name}' is missing")
        return None if field["type"] != "string" else ""
    if "enum" in rules and text not in rules["enum"]:
        _refuse(path, line, f"'{name}' is '{text}', not one of {', '.join(rules['enum'])}")
    if field["type"] == "string":
        return text
    try:
        value = int(text) if field["type"] == "integer" else float(text)
    except ValueError:
        _refuse(
            path, line, f"'{name}' is '{text}', not {'a whole number' if field['type'] == 'integer' else 'a number'}"
        )
    if value < rules.get("minimum", value):
        _refuse(path, line, f"'{name}' is {text}, below {rules['minimum']}")
    return value


def check_rows(frame: pd.DataFrame, path: str, rules: Mapping[str, Mapping]) -> None:
    """Names known to hardware.yaml and models.yaml; unit and limits of each metric; spread and position in range."""
    targets, formats, aliases = shapes.models()
    _known(frame, path, "hardware", set(shapes.machines()))
    _known(frame, path, "model", set(targets) | set(aliases))
    _known(frame, path, "quantisation", set(formats) | OPEN_FORMATS)
    for row in frame.to_dict("records"):
        rule = rules[row["metric"]]
        units = rule["units"].split()
        if row["unit"] not in units:
            _refuse(path, row["line"], f"{row['metric']} is in '{row['unit']}', not in {' or '.join(units)}")
        scale = 100 if "%" in units and row["unit"] == "1" else 1
        if not _none(rule["low"]) and row["value"] * scale < rule["low"]:
            _refuse(path, row["line"], f"{row['metric']} is {row['printed']} {row['unit']}, below {rule['low']:g}")
        if not _none(rule["high"]) and row["value"] * scale > rule["high"]:
            _refuse(
                path, row["line"], f"{row['metric']} is {row['printed']} {row['unit']}, above {rule['high'] / scale:g}"
            )
        if not _none(row.get("position")) and not _none(row["k"]) and row["position"] >= row["k"]:
            _refuse(path, row["line"], f"position {row['position']} does not exist at K = {row['k']}")


def _known(frame: pd.DataFrame, path: str, field: str, names: set[str]) -> None:
    for line, value in zip(frame["line"], frame[field], strict=True):
        if value not in names:
            _refuse(path, line, f"{field} '{value}' is not known (known: {', '.join(sorted(names)[:12])} …)")


def _none(value) -> bool:
    return value is None or pd.isna(value)


def _refuse(path: str, line: int, reason: str):
    raise EvidenceError(
        f"data/published/{path}, line {line}: {reason}.",
        why="Every published number must carry its unit, its setting and its source.",
        fix=f"Correct line {line} of {path}.",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EvidenceError(f"data/published/{path.name} cannot be read.", why=str(error)[:300]) from None


def _yaml(path: Path):
    try:
        return yaml.safe_load(_text(path))
    except yaml.YAMLError as error:
        raise EvidenceError(f"data/published/{path.name} is not YAML.", why=str(error)[:300]) from None
