"""Append-only records of a study on disk, and the tidy frames made of them.

Layout: ``study.json``; ``launches/<id>/launch.json`` and ``server.log``; ``cells.jsonl``; ``requests.jsonl``.
A cell's line is written after its requests are on disk and holds their hash, so a cell is complete if its line is and
its requests are those. A torn last line is no record: it is cut off by the next append. Nothing else is ever rewritten.
A damaged line is named by `damage` and passed over.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
import pandas as pd

from analysis.errors import StoreError
from analysis.places import RECORDS
from analysis.records import schema, sound, withheld
from analysis.study import engine_k, graphs
from analysis.study.plan import Cell

#: The form of the records. It changes only when old records can no longer be read as they are: a key or a file that
#: moves or changes its meaning. A new key does not change it: old records get its value from `schema.DEFAULTS`.
FORMAT = 1


@dataclass(frozen=True)
class Frames:
    """Tidy frames of the cells that were asked for; columns and units in `analysis.records.schema`."""

    cells: pd.DataFrame
    requests: pd.DataFrame
    positions: pd.DataFrame
    launches: pd.DataFrame


class Store:
    """The records of one study. ``records`` is ``runs`` (what this machine measured) or ``reference`` (committed).

    A reference run is read-only: whatever would write there is a StoreError, but for ``publish`` (``publishing``).
    """

    _read_only = False

    def __init__(self, study: str, records: str = "runs", root: Path | None = None, publishing: bool = False):
        self.study = study
        self._read_only = records == "reference" and not publishing
        self.folder = (root or RECORDS[records]) / study
        self._check_owner()

    # -- writing -------------------------------------------------------------------------------------------

    def lock(self) -> filelock.FileLock:
        """Held while measuring. Entering it raises filelock.Timeout where another process measures this study."""
        self._make(self.folder)
        return filelock.FileLock(self.folder / ".lock", timeout=0)

    def write_study(self, content: dict[str, Any]) -> None:
        """Resolved parameters and provenance; replaced as a whole, atomically."""
        self._replace(self.folder / "study.json", {"format": FORMAT, "study": self.study, **content})

    def launch_folder(self, launch_id: str) -> Path:
        return self._make(self.folder / "launches" / launch_id)

    def write_launch(self, launch_id: str, content: dict[str, Any]) -> None:
        self._replace(self.launch_folder(launch_id) / "launch.json", {"launch_id": launch_id, **content})

    def append(self, cell: dict[str, Any], requests: Iterable[dict[str, Any]] = ()) -> None:
        """Put a cell on disk: its requests first, its own line last.

        Raises
        ------
        StoreError
            The disk is full or the folder cannot be written. What was on disk before stays as it was.
        """
        asked = list(requests)
        self._append("requests.jsonl", asked)
        hashed = {"requests_hash": sound.hash_of(asked)} if cell.get("status") == "ok" else {}
        self._append("cells.jsonl", [{**hashed, **cell}])
        for read in ("_records", "spoiled"):
            self.__dict__.pop(read, None)

    def append_outcome(self, outcome: dict[str, Any]) -> None:
        """Put the outcome of one generated program on disk; raises StoreError as `append` does."""
        self._append("outcomes.jsonl", [outcome])

    # -- reading -------------------------------------------------------------------------------------------

    def study_record(self) -> dict[str, Any]:
        """Content of study.json, empty where nothing was measured yet; of a damaged one, what the launches still say."""
        record, damage = self._read_json(self.folder / "study.json")
        return self._rebuilt() if damage else record

    def launch_ids(self) -> set[str]:
        folder = self.folder / "launches"
        return {p.name for p in folder.iterdir()} if folder.is_dir() else set()

    def complete(self) -> set[str]:
        """Identities of the cells with a record of status ok."""
        return {cell_id for cell_id, record in self._latest_ok().items()}

    def failures(self) -> list[dict[str, Any]]:
        """Records of cells that failed, oldest first."""
        return [r for r in self._records["cells"] if r["status"] not in ("ok", "set aside")]

    def damage(self) -> list[sound.Damage]:
        """What cannot be read in the records, each with its file and line; it is passed over by everything else."""
        found = [self._read_json(p)[1] for p in (self.folder / "study.json", *self._launch_files())]
        found += self._records["damage"] + self._read_lines("outcomes.jsonl")[1]
        shown = self._shown(self.folder / "requests.jsonl")
        found += [
            sound.Damage(shown, 0, f"of {r.get('label', r['cell_id'])}, {why}")
            for r in self._records["cells"]
            if (why := self.spoiled.get((r["cell_id"], r["launch_id"])))
        ]
        return [damage for damage in found if damage]

    @cached_property
    def spoiled(self) -> dict[tuple[str, str], str]:
        """Measurements that have lost a request or their launch's record, by (cell_id, launch_id), with the reason."""
        requests: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for r in self._records["requests"]:
            requests.setdefault((r["cell_id"], r["launch_id"]), []).append(r)
        launches = {p.parent.name for p in self._launch_files() if self._read_json(p)[1]}
        found = {}
        for r in self._records["cells"]:
            if r["status"] == "ok":
                key = (r["cell_id"], r["launch_id"])
                found[key] = sound.has_lost(r, requests.get(key, []))
                if key[1] in launches:
                    found[key] = found[key] or "the record of its launch is damaged"
        return {key: why for key, why in found.items() if why}

    def disturbed(self) -> list[dict[str, Any]]:
        """Records of cells that were measured on a disturbed machine, oldest first: set aside, or kept with the reason."""
        return [r for r in self._records["cells"] if r["status"] == "set aside" or r.get("disturbed")]

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Every record as it was written, oldest first; ``name`` is cells, requests or outcomes."""
        return self._read_lines(f"{name}.jsonl")[0]

    def launch(self, launch_id: str) -> dict[str, Any]:
        """Content of a launch's record; empty where the server never became healthy, or where it is damaged."""
        return self._read_json(self.folder / "launches" / launch_id / "launch.json")[0]

    def outcomes(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Outcomes of generated programs by (cell_id, index of the request)."""
        return {(r["cell_id"], r["index"]): r for r in self.lines("outcomes")}

    def frames(self, cells: Iterable[Cell]) -> Frames:
        """Frames of exactly the given cells, as far as they have records; checked by their schemas."""
        plan = {cell.id: cell for cell in cells}
        good = {cell_id: r for cell_id, r in self._latest_ok().items() if cell_id in plan}
        keys = {cell_id: _keys(plan[cell_id], record) for cell_id, record in good.items()}
        kept = {(r["cell_id"], r["launch_id"]) for r in good.values()}
        requests = [r for r in self._records["requests"] if (r["cell_id"], r["launch_id"]) in kept]
        launches = sorted({r["launch_id"] for r in good.values()})
        return Frames(
            cells=schema.cells([{**keys[c], **_counts(r), **self._side(plan[c], r)} for c, r in good.items()]),
            requests=schema.requests([{**keys[r["cell_id"]], **r} for r in requests]),
            positions=schema.positions(
                [
                    {**keys[c], "position": i, "drafts": r["drafts"], "accepted": accepted}
                    for c, r in good.items()
                    for i, accepted in enumerate(r.get("per_position", ()))
                ]
            ),
            launches=schema.launches([self._launch(i, good.values()) for i in launches]),
        )

    def _side(self, cell: Cell, record: dict[str, Any]) -> dict[str, str]:
        """Whether the cell's decode steps ran inside the graphs that its launch captured; see `graphs.side`."""
        name = record["launch_id"]
        if name not in self._facts:
            self._facts[name] = self.launch(name).get("facts") or {}
        return {"in_graphs": graphs.side(cell.arm, self._facts[name], cell.concurrency)}

    @cached_property
    def _facts(self) -> dict[str, dict[str, Any]]:
        """Startup facts by launch; a launch's record is written once."""
        return {}

    def _launch(self, launch_id: str, cells: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """A launch's record; its causes are those of the launch and then those of its cells, each with the cell's label."""
        content = self.launch(launch_id)
        if content:
            content["causes"] = [*(content.get("causes") or ())] + [
                {**cause, "cause": f"{r.get('label', r['cell_id'])}: {cause['cause']}"}
                for r in cells
                if r["launch_id"] == launch_id
                for cause in r.get("causes") or ()
            ]
        return content

    def publish(self, cells: Iterable[Cell], to: Store, study_file: str) -> int:
        """Copy the records of exactly these cells to an empty store, without logs, those under load thin; how many cells.

        ``study_file`` is the YAML that replays them, kept as ``study.yaml``.

        Raises
        ------
        StoreError
            The other store has records already: nothing is overwritten.
        """
        if to.complete():
            raise StoreError(
                f"{self._shown(to.folder)} has records already.",
                fix="Move it away first: records are never overwritten.",
            )
        wanted = {cell.id: cell.experiment for cell in cells}
        good = {cell_id: r for cell_id, r in self._latest_ok().items() if cell_id in wanted}
        kept = {(r["cell_id"], r["launch_id"]) for r in good.values()}
        study = {k: v for k, v in self.study_record().items() if k not in ("study", "format")}
        to.write_study(study)
        for launch_id in sorted({r["launch_id"] for r in good.values()}):
            content = self.launch(launch_id)
            to.write_launch(launch_id, {k: v for k, v in content.items() if k != "launch_id"})
        requests: dict[str, list[dict[str, Any]]] = {cell_id: [] for cell_id in good}
        for r in self._records["requests"]:
            if (cell_id := r["cell_id"], r["launch_id"]) in kept:
                requests[cell_id].append(withheld.thin(r) if wanted[cell_id] == "concurrency" else r)
        to._append("requests.jsonl", [r for own in requests.values() for r in own])
        if outcomes := [r for key, r in self.outcomes().items() if key[0] in good]:
            to._append("outcomes.jsonl", outcomes)
        aside = [r for r in self._records["cells"] if r["status"] == "set aside" and r["cell_id"] in good]
        kept_lines = [{**r, "requests_hash": sound.hash_of(requests[i])} for i, r in good.items()]
        to._append("cells.jsonl", aside + kept_lines)
        (to.folder / "study.yaml").write_text(study_file, encoding="utf-8")
        return len(good)

    @cached_property
    def _records(self) -> dict[str, list[Any]]:
        (cells, bad), (requests, worse) = (self._read_lines(f"{name}.jsonl") for name in ("cells", "requests"))
        return {"cells": cells, "requests": requests, "damage": bad + worse}

    def _latest_ok(self) -> dict[str, dict[str, Any]]:
        return {
            r["cell_id"]: r
            for r in self._records["cells"]
            if r["status"] == "ok" and (r["cell_id"], r["launch_id"]) not in self.spoiled
        }

    def _read_lines(self, name: str) -> tuple[list[dict[str, Any]], list[sound.Damage]]:
        path = self.folder / name
        return sound.read(path.read_bytes(), self._shown(path)) if path.exists() else ([], [])

    def _append(self, name: str, records: list[dict[str, Any]]) -> None:
        self._writable()
        path = self.folder / name
        self._make(self.folder)
        try:
            text = "".join(_json(r, separators=(",", ":")) + "\n" for r in records).encode()
        except ValueError as error:
            raise self._cannot_keep(path, error) from None
        try:
            with path.open("ab", buffering=0) as stream:  # a buffer would write its rest when the file is closed
                end = _end_of_last_line(path)
                stream.truncate(end)
                try:
                    rest = memoryview(text)
                    while rest:
                        rest = rest[stream.write(rest) :]
                    os.fsync(stream.fileno())
                except OSError:
                    os.truncate(path, end)  # half a record is none
                    raise
        except OSError as error:
            raise self._cannot_write(path, error) from None

    def _replace(self, path: Path, content: dict[str, Any]) -> None:
        self._writable()
        self._make(path.parent)
        fresh = path.with_suffix(".new")
        try:
            text = _json(content, indent=1, sort_keys=True) + "\n"
            with fresh.open("wb") as stream:
                stream.write(text.encode())
                stream.flush()
                os.fsync(stream.fileno())  # a name must not be on disk before its content
            os.replace(fresh, path)
        except ValueError as error:
            raise self._cannot_keep(path, error) from None
        except OSError as error:
            raise self._cannot_write(path, error) from None

    def _cannot_keep(self, path: Path, error: ValueError) -> StoreError:
        return StoreError(
            f"A value cannot be kept in {self._shown(path)}.",
            why=f"It is no number or no Unicode text: {error}"[:200],
            fix="Look at what the server or the program sent; nothing was written.",
        )

    def _writable(self) -> None:
        if self._read_only:
            raise StoreError(
                f"The reference run of {self.study} is read-only.",
                why="It is what was published; nothing is measured or changed in it.",
                fix='Set records to "runs": what is missing is then measured into a run of your own (data/runs).',
            )

    def _make(self, folder: Path) -> Path:
        self._writable()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._cannot_write(folder, error) from None
        return folder

    def _read_json(self, path: Path) -> tuple[dict[str, Any], sound.Damage | None]:
        if not path.exists():
            return {}, None
        try:
            return sound.whole(path.read_bytes(), path.stem), None
        except ValueError as error:
            return {}, sound.Damage(self._shown(path), 0, str(error))

    def _rebuilt(self) -> dict[str, Any]:
        """study.json from the newest launch, which has the same provenance; empty where no launch has one."""
        known = [content for i in sorted(self.launch_ids()) if (content := self.launch(i)).get("provenance")]
        newest = max(known, key=lambda r: str(r["provenance"]), default={})
        kept = {"provenance": newest["provenance"]} if newest else {}
        return {"format": FORMAT, "study": self.study, **kept}

    def _launch_files(self) -> list[Path]:
        return sorted((self.folder / "launches").glob("*/launch.json"))

    def _check_owner(self) -> None:
        record = self.study_record()
        if record and record.get("study") != self.study:
            raise StoreError(
                f"{self._shown(self.folder)} holds records of the study '{record.get('study')}', not of '{self.study}'.",
                why="A folder was copied or renamed.",
                fix=f"Move it to data/runs/{record.get('study')}, or give the study another name.",
            )
        if record and record.get("format") != FORMAT:
            raise StoreError(
                f"{self._shown(self.folder)} has records of format {record.get('format')}; this version reads {FORMAT}.",
                fix="Use the version of the study that wrote them, or measure again under another name.",
            )

    def _cannot_write(self, path: Path, error: OSError) -> StoreError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = (
            "Free some space and run again: everything measured so far is kept."
            if full
            else "Check the folder's owner and rights, then run again."
        )
        return StoreError(
            f"Records cannot be written to {self._shown(path)}.",
            why="The disk is full." if full else str(error.strerror),
            fix=fix,
        )

    def _shown(self, path: Path) -> str:
        return "/".join(path.parts[-3:])


def _json(value: Any, **form: Any) -> str:
    """JSON that every reader takes: NaN and infinities are a ValueError."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, **form)


def _end_of_last_line(path: Path) -> int:
    """Length of the file up to and including its last newline."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        while size:
            step = min(65536, size)
            stream.seek(size - step)
            if (at := stream.read(step).rfind(b"\n")) >= 0:
                return size - step + at + 1
            size -= step
    return 0


def _keys(cell: Cell, record: dict[str, Any]) -> dict[str, Any]:
    return {
        "cell_id": cell.id,
        "launch_id": record["launch_id"],
        "launch": cell.launch,
        "arm": cell.arm.name,
        "variant": cell.arm.variant,
        "k": cell.arm.k,
        "speculator": cell.arm.speculator.method,
        "experiment": cell.experiment,
        "workload": cell.workload,
        "concurrency": cell.concurrency,
        "repeat": cell.repeat,
        "context_tokens": cell.context.tokens if cell.context else 0,
        "thinks": "" if cell.sampling.thinking is None else "on" if cell.sampling.thinking else "off",
        "output_tokens": cell.sampling.max_tokens if cell.experiment == "output" else 0,
        "way": engine_k.of_arm(cell.arm),
    }


def _counts(record: dict[str, Any]) -> dict[str, Any]:
    energy = (record.get("state") or {}).get("energy_j", float("nan"))
    return {**{key: value for key, value in record.items() if key != "per_position"}, "energy_j": energy}
