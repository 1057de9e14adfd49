"""Records measured apart are taken in: identities checked first, nothing overwritten, nothing written where one is wrong."""

import json

import pytest

from analysis.errors import StoreError
from analysis.records import merge
from analysis.records.store import Store
from analysis.study import plan
from analysis.study.study_file import load_study

SETTINGS = dict(k_values=[2], k=2, concurrency=[1], repeats=1, code_programs=0, greedy_tokens=0, workloads=["py_code"])


@pytest.fixture
def made():
    return plan.make(load_study("miniature", prompts="published", **SETTINGS))


def record(made, root, arm, launch_id, cells=None, **parameters):
    """A STUDY_HOME with one launch of an arm: every planned measurement of it, or those given."""
    store = Store(made.study.study, root=root / "data" / "runs")
    store.write_study({"parameters": {**made.study.model_dump(mode="json"), **parameters}})
    store.write_launch(launch_id, {"arm": arm, "k": 0, "facts": {}})
    (store.launch_folder(launch_id) / "server.log").write_text(f"log of {launch_id}\n")
    for cell_id, label in cells or [(c.id, c.label) for c in made.cells if c.arm.name == arm]:
        line = {"cell_id": cell_id, "launch_id": launch_id, "label": label, "reason": ""}
        store.append({**line, "status": "set aside"})
        store.append(
            {**line, "status": "ok", "wall_s": 1.0}, [{"cell_id": cell_id, "launch_id": launch_id, "index": 0}]
        )
    return root


def test_every_line_log_and_request_arrives_and_the_parts_stay(made, tmp_path):
    parts = [record(made, tmp_path / a, a, f"{a}.1.1") for a in ("baseline", "mtp-k2")]
    into = Store(made.study.study, root=tmp_path / "all")
    found = merge.merge(made, into, parts)
    assert [(p.measurements, p.launches) for p in found] == [(2, 1), (2, 1)]
    assert into.complete() == {c.id for c in made.cells}
    assert len(into.lines("cells")) == 8 and len(into.lines("requests")) == 4
    assert (into.folder / "launches" / "mtp-k2.1.1" / "server.log").read_text() == "log of mtp-k2.1.1\n"
    assert into.launch("baseline.1.1")["launch_id"] == "baseline.1.1"
    assert Store(made.study.study, root=parts[0] / "data" / "runs").complete()


def test_a_launch_whose_name_is_taken_becomes_the_next_attempt(made, tmp_path):
    into = Store(made.study.study, root=tmp_path / "all")
    into.launch_folder("mtp-k2.1.1")  # a start that failed here
    merge.merge(made, into, [record(made, tmp_path / "a", "mtp-k2", "mtp-k2.1.1")])
    assert {r["launch_id"] for r in into.lines("cells") + into.lines("requests")} == {"mtp-k2.1.2"}
    assert into.launch("mtp-k2.1.2")["launch_id"] == "mtp-k2.1.2"


def test_the_study_folder_itself_may_be_named(made, tmp_path):
    root = record(made, tmp_path / "a", "baseline", "baseline.1.1")
    into = Store(made.study.study, root=tmp_path / "all")
    assert merge.merge(made, into, [root / "data" / "runs" / made.study.study])[0].measurements == 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("twice", "as well"),
        ("foreign", "none of this study"),
        ("parameters", "other parameters"),
        ("empty", "has no records"),
        ("own", "own folder"),
    ],
)
def test_one_wrong_folder_and_nothing_is_written(made, tmp_path, wrong, words):
    good = record(made, tmp_path / "good", "baseline", "baseline.1.1")
    into = Store(made.study.study, root=tmp_path / "all")
    bad = {
        "twice": lambda: record(made, tmp_path / "bad", "baseline", "baseline.1.1"),
        "foreign": lambda: record(made, tmp_path / "bad", "mtp-k2", "mtp-k2.1.1", [("0" * 12, "of another prompt")]),
        "parameters": lambda: record(made, tmp_path / "bad", "mtp-k2", "mtp-k2.1.1", timing_tokens=7),
        "empty": lambda: tmp_path / "nothing",
        "own": lambda: record(made, tmp_path / "all", "mtp-k2", "mtp-k2.1.1"),
    }[wrong]()
    if wrong == "own":
        into = Store(made.study.study, root=bad / "data" / "runs")
    before = sorted(into.folder.rglob("*"))
    with pytest.raises(StoreError) as error:
        merge.merge(made, into, [good, bad])
    assert words in error.value.what and error.value.fix
    assert sorted(into.folder.rglob("*")) == before


def test_the_command_says_what_came_and_what_is_missing(made, tmp_path, monkeypatch, capsys):
    from analysis.__main__ import main
    from analysis.records import store
    from analysis.study import study_file

    monkeypatch.setitem(store.RECORDS, "runs", tmp_path / "all")
    file = tmp_path / "miniature.yaml"
    file.write_text(json.dumps({**made.study.model_dump(mode="json", exclude_defaults=True)}))
    assert study_file.load_study(file).hash == made.study.hash
    part = record(made, tmp_path / "a", "baseline", "baseline.1.1")
    assert main(["merge", str(file), str(part)]) == 0
    printed = capsys.readouterr().out
    assert "2 measurements in 1 launches" in printed and "2 of 4 measurements are still missing" in printed
