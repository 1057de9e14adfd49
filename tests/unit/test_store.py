"""Records on disk: what survives a crash, a full disk, a damaged file, a second writer; and what frames hold."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.errors import MissingCells, StoreError
from analysis.measure import campaign
from analysis.records import store
from analysis.records.store import Store
from analysis.study import plan, study_file


@pytest.fixture
def cells(build):
    return plan.make(build.study(repeats=3)).needed("mtp")


@pytest.fixture
def kept(tmp_path):
    return Store("demo", root=tmp_path)


def record(cell, launch="l1", **changes) -> dict:
    zero = dict.fromkeys(["draft_tokens", "generation_tokens", "prefix_hits", "preemptions", "prompt_tokens"], 0)
    plain = {"cell_id": cell.id, "launch_id": launch, "status": "ok", "reason": "", "wall_s": 9.0, "requests": 1}
    plain |= {"completion_tokens": 20, "drafts": 10, "accepted": 7, "per_position": [5, 2][: cell.arm.k]}
    return {**plain, **zero, **changes}


def request(build, cell, launch="l1", **changes) -> dict:
    row = {"cell_id": cell.id, "launch_id": launch, **changes}
    keys = ("launch", "arm", "variant", "k", "experiment", "workload", "concurrency", "repeat")
    return {k: v for k, v in build.request(row).items() if k not in keys}


def failed(cell, launch="l1") -> dict:
    return {"cell_id": cell.id, "launch_id": launch, "status": "failed", "reason": "the server died"}


def file(kept, name="cells.jsonl"):
    return kept.folder / name


# -- what is complete ----------------------------------------------------------------------------------------------


def test_a_cell_is_complete_once_its_line_is_on_disk(kept, build, cells):
    assert kept.complete() == set()
    kept.append(record(cells[0]), [request(build, cells[0])])
    assert kept.complete() == {cells[0].id}
    assert Store("demo", root=kept.folder.parent).complete() == {cells[0].id}


def test_a_failed_cell_is_a_record_and_not_complete(kept, cells):
    kept.append(failed(cells[0]))
    assert kept.complete() == set()
    assert [r["reason"] for r in kept.failures()] == ["the server died"]


def test_a_failure_does_not_undo_what_was_measured_before(kept, cells):
    kept.append(record(cells[0]))
    kept.append(failed(cells[0], "l2"))
    assert kept.complete() == {cells[0].id}


def test_text_of_any_language_comes_back_as_it_was(kept, build, cells):
    text = '日銀\n\u2028 \x00 "quoted" \\ 🙂'
    kept.append(record(cells[0]), [request(build, cells[0], text=text)])
    kept.write_launch("l1", {"facts": {}, **launch(cells[0])})
    assert kept.frames(cells).requests.text.tolist() == [text]


# -- torn, damaged, foreign ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", ['{"cell_id": "x", "sta', "{", '{"cell_id": "x", "status": "ok"}', "\xe6"])
def test_a_torn_last_line_is_measured_again(kept, cells, torn):
    kept.append(record(cells[0]))
    with file(kept).open("ab") as stream:
        stream.write(torn.encode("latin-1"))
    again = Store("demo", root=kept.folder.parent)
    assert again.complete() == {cells[0].id}
    again.append(record(cells[1]))
    assert Store("demo", root=kept.folder.parent).complete() == {cells[0].id, cells[1].id}
    assert [json.loads(line)["cell_id"] for line in file(kept).read_text().splitlines()] == [c.id for c in cells[:2]]


def test_a_cell_whose_line_was_torn_is_missing_to_the_campaign(kept, build, cells):
    study = plan.make(build.study(repeats=3, measure="never"))
    for cell in cells:
        kept.append(record(cell))
    assert "nothing was launched" in campaign.ensure(study, cells, kept)
    file(kept).write_bytes(file(kept).read_bytes()[:-2])
    with pytest.raises(MissingCells, match=f"1 of {len(cells)} measurements"):
        campaign.ensure(study, cells, Store("demo", root=kept.folder.parent))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.data())
def test_a_file_cut_anywhere_gives_whole_records_and_takes_new_ones(tmp_path, cells, data):
    """A crash can cut the file at any byte: a multi-byte letter, the middle of a line, a newline."""
    kept = Store("cut", root=tmp_path)
    file(kept).unlink(missing_ok=True)
    for cell in cells[:3]:
        kept.append(record(cell, reason="日本語"))
    whole = file(kept).read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    file(kept).write_bytes(whole[:at])
    left = whole[:at].count(b"\n")
    again = Store("cut", root=tmp_path)
    assert again.complete() == {c.id for c in cells[:left]}
    again.append(record(cells[3]))
    assert Store("cut", root=tmp_path).complete() == {c.id for c in cells[:left]} | {cells[3].id}


def test_a_torn_line_longer_than_one_block_is_cut_too(kept, cells):
    kept.append(record(cells[0]))
    with file(kept).open("ab") as stream:
        stream.write(b'{"text": "' + b"x" * 200_000)
    kept.append(record(cells[1]))
    assert Store("demo", root=kept.folder.parent).complete() == {cells[0].id, cells[1].id}


DAMAGED = [
    "{broken",
    "",
    "5",
    "null",
    '["cell_id"]',
    "{}",
    "\x00" * 20,
    '{"cell_id": []}',
    '{"cell_id": NaN}',
    "[" * 9999,
]


@pytest.mark.parametrize("line", DAMAGED)
@pytest.mark.parametrize("name", ["cells.jsonl", "requests.jsonl", "outcomes.jsonl"])
def test_a_damaged_line_is_named_with_its_file_and_passed_over(kept, build, cells, name, line):
    kept.append(record(cells[0]), [request(build, cells[0])])
    kept.append_outcome({"cell_id": cells[0].id, "index": 0})
    with file(kept, name).open("a") as stream:
        stream.write(line + "\n")
    kept.append(record(cells[1]), [request(build, cells[1])])
    before = file(kept, name).read_bytes()
    again = Store("demo", root=kept.folder.parent)
    assert again.complete() == {cells[0].id, cells[1].id} and list(again.outcomes()) == [(cells[0].id, 0)]
    (damage,) = again.damage()
    assert (damage.file, damage.line) == (f"{kept.folder.parent.name}/demo/{name}", 2)
    assert "elete" not in str(damage)
    assert file(kept, name).read_bytes() == before


WRONG = {
    "cells.jsonl": [("launch_id", v) for v in (-1, 10**19, None, "../x", ["a", -1])]
    + [("per_position", v) for v in (None, [-1], [10**16], ["1"], [float("nan")], [float("inf")])]
    + [("status", None), ("wall_s", "9"), ("wall_s", -1), ("drafts", 1.5), ("accepted", True)],
    "requests.jsonl": [("text", None), ("text", 5), ("seconds", float("inf")), ("completion_tokens", 0), ("seed", 1e3)]
    + [("steps_accepted", [None]), ("launch_id", ""), ("text", "\ud800")],
}


@pytest.mark.parametrize(("name", "field", "value"), [(n, f, v) for n, changes in WRONG.items() for f, v in changes])
def test_a_value_of_a_wrong_kind_costs_its_own_measurement_alone(kept, build, cells, name, field, value):
    for cell in cells[:2]:
        kept.append(record(cell), [request(build, cell)])
    kept.write_launch("l1", {"facts": {}, **launch(cells[0])})
    lines = file(kept, name).read_text().splitlines()
    lines[0] = json.dumps({**json.loads(lines[0]), field: value})
    file(kept, name).write_text("\n".join(lines) + "\n")
    again = Store("demo", root=kept.folder.parent)
    assert again.complete() == {cells[1].id}
    assert len(again.frames(cells).requests) == 1
    assert (
        again.damage()[0].line == 1
        and field in again.damage()[0].why
        or value == "\ud800"
        or "no number" in str(again.damage()[0])
    )


def _cut(lines):
    return lines[:1]


def _twice(lines):
    return [lines[0], *lines]


def _emptied(lines):
    return [lines[0], "{}"]


def _changed(lines):
    return [lines[0], lines[1].replace("some text", "other")]


@pytest.mark.parametrize("change", [_cut, _twice, _emptied, _changed])
def test_a_measurement_that_lost_or_changed_a_request_is_measured_again(kept, build, cells, change):
    kept.append(record(cells[0], requests=2), [request(build, cells[0]), request(build, cells[0], index=1)])
    kept.append(record(cells[1]), [request(build, cells[1], index=0)])
    path = file(kept, "requests.jsonl")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*change(lines[:2]), *lines[2:]]) + "\n")
    again = Store("demo", root=kept.folder.parent)
    assert again.complete() == {cells[1].id}
    assert any("requests" in damage.why for damage in again.damage())
    again.append(record(cells[0], "l2"), [request(build, cells[0], "l2")])
    assert again.complete() == {cells[0].id, cells[1].id}


def test_old_records_know_their_requests_by_number(kept, build, cells):
    kept.append(record(cells[0], requests_hash=None), [request(build, cells[0])])
    assert kept.complete() == {cells[0].id}
    file(kept, "requests.jsonl").write_text("")
    assert Store("demo", root=kept.folder.parent).complete() == set()


def test_a_damaged_launch_is_measured_again_and_named(kept, build, cells):
    kept.append(record(cells[0]), [request(build, cells[0])])
    kept.write_launch("l1", {"facts": {}, **launch(cells[0])})
    (kept.folder / "launches/l1/launch.json").write_text("{")
    again = Store("demo", root=kept.folder.parent)
    assert again.complete() == set()
    assert any(damage.file.endswith("l1/launch.json") for damage in again.damage())


@pytest.mark.parametrize(
    "content, why",
    [
        ("{}", "'k' is missing"),
        ('{"arm": "baseline", "launch": 1, "k": "0", "facts": {}}', "'k' is '0', not a count"),
        ('{"arm": "baseline", "launch": 1, "k": 0, "facts": []}', "'facts' is [], not an object"),
        (
            '{"arm": "baseline", "launch": 1, "k": 0, "facts": {"capture_sizes": "all"}}',
            "'facts.capture_sizes' is of another kind",
        ),
        (
            '{"arm": "baseline", "launch": 1, "k": 0, "facts": {}, "causes": [1]}',
            "'causes' is [1], not a list of causes",
        ),
    ],
)
def test_a_launch_with_a_part_of_another_kind_is_named(kept, build, cells, content, why):
    kept.append(record(cells[0]), [request(build, cells[0])])
    kept.write_launch("l1", {"facts": {}, **launch(cells[0])})
    file(kept, "launches/l1/launch.json").write_text(content)
    again = Store("demo", root=kept.folder.parent)
    assert again.complete() == set() and why in str(again.damage()[0])
    assert again.frames(cells).cells.empty


def test_records_of_another_study_are_refused(kept, tmp_path):
    kept.write_study({"stamp": "measured"})
    (tmp_path / "demo").rename(tmp_path / "other")
    with pytest.raises(StoreError, match="holds records of the study 'demo', not of 'other'") as error:
        Store("other", root=tmp_path)
    assert "data/runs/demo" in error.value.fix


def test_records_of_another_format_are_refused(kept, tmp_path):
    kept.write_study({"format": 99})
    with pytest.raises(StoreError, match="format 99"):
        Store("demo", root=tmp_path)


def test_a_damaged_study_record_is_read_from_the_launches_and_named(kept, tmp_path, cells):
    kept.write_study({"stamp": "measured"})
    kept.write_launch("l1", {"provenance": {"commit": "abc"}, **launch(cells[0])})
    file(kept, "study.json").write_text("{")
    again = Store("demo", root=tmp_path)
    assert again.study_record()["provenance"] == {"commit": "abc"}
    assert "study.json" in str(again.damage()[0]) and "writes it anew" in str(again.damage()[0])
    again.write_study({"stamp": "measured"})
    assert not again.damage()


def test_a_study_without_records_is_empty_and_leaves_no_folder(tmp_path):
    empty = Store("demo", root=tmp_path)
    assert (empty.complete(), empty.failures(), empty.outcomes(), empty.launch_ids(), empty.study_record()) == (
        set(),
        [],
        {},
        set(),
        {},
    )
    assert not empty.folder.exists()


# -- a disk that is full -------------------------------------------------------------------------------------------

FILL = """
    import json, resource, signal, sys
    from pathlib import Path
    from analysis.errors import StoreError
    from analysis.records.store import Store

    kept, room, size = Store("demo", root=Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
    kept.append({"cell_id": "a", "launch_id": "l1", "status": "ok"}, [{"cell_id": "a", "launch_id": "l1", "text": "kept"}])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = (kept.folder / "requests.jsonl").stat().st_size + room
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        kept.append({"cell_id": "b", "status": "ok"}, [{"cell_id": "b", "text": "y" * size}])
    except StoreError as error:
        print(error)
"""


@pytest.mark.parametrize("room, size", [(0, 100), (3000, 5000), (9000, 40_000)])
def test_a_file_that_cannot_grow_keeps_what_it_had_and_no_fragment_of_the_rest(tmp_path, room, size):
    # the kernel takes a part of the record before it refuses: that part must go, and nothing may follow it
    code = [sys.executable, "-c", textwrap.dedent(FILL), str(tmp_path), str(room), str(size)]
    done = subprocess.run(code, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Records cannot be written to" in done.stdout
    assert (
        file(Store("demo", root=tmp_path), "requests.jsonl").read_text()
        == '{"cell_id":"a","launch_id":"l1","text":"kept"}\n'
    )
    assert Store("demo", root=tmp_path).complete() == {"a"}


SMALL_DISK = """
    set -e
    mount -t tmpfs -o size=64k none "$1"
    exec "$2" -c "$3" "$1"
"""
FILL_DISK = """
    import sys
    from pathlib import Path
    from analysis.errors import StoreError
    from analysis.records.store import Store

    kept, root = Store("demo", root=Path(sys.argv[1])), Path(sys.argv[1])
    kept.append({"cell_id": "a", "launch_id": "l1", "status": "ok"}, [{"cell_id": "a", "launch_id": "l1", "text": "kept"}])
    before = {p.name: p.read_bytes() for p in kept.folder.iterdir()}
    try:
        kept.append({"cell_id": "b", "launch_id": "l1", "status": "ok"}, [{"cell_id": "b", "launch_id": "l1", "text": "y" * 90_000}])
    except StoreError as error:
        print(error)
    assert {p.name: p.read_bytes() for p in kept.folder.iterdir()} == before
    kept.append({"cell_id": "c", "launch_id": "l1", "status": "ok"}, [{"cell_id": "c", "launch_id": "l1", "text": "fits"}])
    print(sorted(Store("demo", root=root).complete()))
"""


def test_a_full_disk_keeps_every_record_and_takes_new_ones_once_there_is_room(tmp_path):
    code = ["unshare", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK, "sh", str(tmp_path), sys.executable]
    if not shutil.which("unshare") or subprocess.run([*code[:3], "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file system of a few pages can be mounted here")
    done = subprocess.run([*code, textwrap.dedent(FILL_DISK)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "The disk is full." in done.stdout and "everything measured so far is kept" in done.stdout
    assert done.stdout.splitlines()[-1] == "['a', 'c']"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_study_record_that_finds_the_disk_full_leaves_the_old_one(kept):
    kept.write_study({"stamp": "measured"})
    file(kept, "study.new").symlink_to("/dev/full")
    with pytest.raises(StoreError, match="The disk is full") as error:
        kept.write_study({"stamp": "miniature"})
    assert "kept" in error.value.fix
    assert Store("demo", root=kept.folder.parent).study_record()["stamp"] == "measured"


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path, cells):
    (tmp_path / "demo").write_text("a file stands where the folder should be")
    kept = Store.__new__(Store)
    kept.study, kept.folder = "demo", tmp_path / "demo" / "inner"
    with pytest.raises(StoreError, match="cannot be written"):
        kept.append(record(cells[0]))


# -- two at once ---------------------------------------------------------------------------------------------------


def test_a_study_that_is_being_measured_is_not_measured_by_a_second_process(kept, build, cells):
    other = "from analysis.records.store import Store; from pathlib import Path; import sys\n"
    other += "with Store('demo', root=Path(sys.argv[1])).lock():\n    print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", other, str(kept.folder.parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().strip() == "held"
        with pytest.raises(StoreError, match="Another process is measuring the study demo") as error:
            campaign.ensure(plan.make(build.study(repeats=3)), cells, kept)
        process.stdin.close()
        process.wait(timeout=60)
    assert "run again" in error.value.fix
    with kept.lock():
        pass  # free again


# -- frames --------------------------------------------------------------------------------------------------------


def launch(cell, **changes) -> dict:
    plain = {"launch": cell.launch, "arm": cell.arm.name, "variant": cell.arm.variant, "k": cell.arm.k, "facts": {}}
    return {**plain, "ready_s": 20.0, "first_request_s": 1.0, "command": "serve", **changes}


def test_frames_hold_the_planned_cells_and_no_others(kept, build, cells):
    for cell in cells:
        kept.append(record(cell), [request(build, cell)])
    kept.write_launch("l1", launch(cells[0]))
    frames = kept.frames(cells[:2])
    assert frames.cells.cell_id.tolist() == frames.requests.cell_id.tolist() == [c.id for c in cells[:2]]
    assert frames.launches.launch_id.tolist() == ["l1"]


def test_keys_of_a_row_come_from_the_plan(kept, build, cells):
    cell = cells[-1]
    kept.append(record(cell), [request(build, cell)])
    kept.write_launch("l1", launch(cell))
    keys = ["arm", "k", "variant", "experiment", "workload", "concurrency", "repeat", "launch"]
    assert tuple(kept.frames(cells).requests[keys].iloc[0]) == (
        "mtp-k2",
        2,
        "main",
        "timing",
        "py_code",
        1,
        cell.repeat,
        1,
    )


def test_positions_are_one_row_each_with_the_drafts_of_the_cell(kept, cells):
    kept.append(record(cells[-1]))
    table = kept.frames(cells).positions
    assert table[["position", "drafts", "accepted"]].to_numpy().tolist() == [[0, 10, 5], [1, 10, 2]]


def test_requests_without_the_line_of_their_cell_are_left_out(kept, build, cells):
    """The process died between the requests and the cell's line: those requests do not count."""
    kept._append("requests.jsonl", [request(build, cells[0], "l1", text="cut off")])
    kept.append(record(cells[0], "l2"), [request(build, cells[0], "l2", text="measured again")])
    assert kept.frames(cells).requests.text.tolist() == ["measured again"]


def test_a_failed_cell_is_no_row(kept, build, cells):
    kept.append(failed(cells[0]), [request(build, cells[0])])
    frames = kept.frames(cells)
    assert frames.cells.empty and frames.requests.empty and frames.positions.empty and frames.launches.empty


def test_the_newest_good_record_of_a_cell_wins_with_its_own_requests(kept, build, cells):
    for number, launch_id in enumerate(["l1", "l2"]):
        kept.append(record(cells[0], launch_id, wall_s=float(number)), [request(build, cells[0], launch_id)])
    kept.append(failed(cells[0], "l3"))
    frames = kept.frames(cells)
    assert frames.cells.wall_s.tolist() == [1.0]
    assert frames.cells.launch_id.tolist() == frames.requests.launch_id.tolist() == ["l2"]


def test_a_record_with_an_impossible_value_is_named_and_measured_again(kept, cells):
    kept.append(record(cells[0], wall_s=-1.0))
    assert kept.complete() == set() and len(kept.frames(cells).cells) == 0
    assert "'wall_s' is -1.0, not a time" in str(kept.damage()[0])


def test_a_changed_cell_has_no_record(kept, cells):
    kept.append(record(cells[0]))
    changed = replace(cells[0], sampling=replace(cells[0].sampling, temperature=0.1))
    assert kept.frames([changed]).cells.empty


def test_frames_are_read_again_after_an_append(kept, cells):
    kept.append(record(cells[0]))
    assert len(kept.frames(cells).cells) == 1
    kept.append(record(cells[1]))
    assert len(kept.frames(cells).cells) == 2


def test_outcomes_of_programs_are_found_by_cell_and_index(kept):
    kept.append_outcome({"cell_id": "a", "index": 0, "passed": False})
    kept.append_outcome({"cell_id": "a", "index": 0, "passed": True})
    assert kept.outcomes()[("a", 0)]["passed"] is True


def test_the_study_record_is_replaced_as_a_whole(kept):
    kept.write_study({"stamp": "measured", "old": 1})
    kept.write_study({"stamp": "miniature"})
    assert kept.study_record() == {"format": store.FORMAT, "study": "demo", "stamp": "miniature"}
    assert [p.name for p in kept.folder.iterdir()] == ["study.json"]


# -- a reference run -----------------------------------------------------------------------------------------------


def test_a_published_run_holds_its_cells_and_the_file_that_replays_them(kept, build, cells, tmp_path):
    kept.write_study({"parameters": {}, "provenance": {"commit": "abc"}})
    kept.write_launch("l1", {"arm": "baseline", "k": 0, "facts": {}})
    for cell in cells:
        kept.append(record(cell), [request(build, cell)])
    reference = Store("demo", root=tmp_path / "reference")
    text = study_file.reference_file(build.study(repeats=3, launches=1))
    assert kept.publish(cells[:2], reference, text) == 2
    assert Store("demo", root=tmp_path / "reference").complete() == {c.id for c in cells[:2]}
    replayed = study_file.load_study(reference.folder / "study.yaml")
    assert (replayed.records, replayed.measure, replayed.repeats) == ("reference", "never", 3)
    assert [c.id for c in plan.make(replayed).needed("mtp")] == [c.id for c in cells]
    with pytest.raises(StoreError, match="has records already"):
        kept.publish(cells, Store("demo", root=tmp_path / "reference"), text)


def test_what_is_published_of_requests_under_load_is_thin_and_reads_the_same(kept, build, tmp_path):
    made = plan.make(build.study())
    one = next(c for c in made.cells if c.experiment == "timing")
    many = next(c for c in made.cells if c.experiment == "concurrency")
    answer = {"gaps": [0.1, 0.4, 0.2], "text": "one two " * 9, "steps_accepted": [1, 0], "steps_drafted": [1, 0]}
    kept.write_study({"parameters": {}})
    kept.write_launch("l1", {"arm": "baseline", "k": 0, "facts": {}})
    for cell in (one, many):
        kept.append(record(cell), [request(build, cell, **answer)])
    reference = Store("demo", root=tmp_path / "reference")
    kept.publish([one, many], reference, "study: demo")
    lines = {r["cell_id"]: r for r in map(json.loads, file(reference, "requests.jsonl").read_text().splitlines())}
    assert (lines[one.id]["gaps"], lines[one.id]["text"]) == ([0.1, 0.4, 0.2], answer["text"])
    assert lines[many.id]["gaps"] == [0.2] and lines[many.id]["text"].startswith("sha256:")
    stores = (Store("demo", root=s.folder.parent) for s in (kept, reference))
    before, after = (s.frames([one, many]).requests.drop(columns="text") for s in stores)
    pd.testing.assert_frame_equal(before, after)
    assert after.repetition.iloc[1] > 0.5


def test_a_reference_run_is_read_only(cells, build, tmp_path, monkeypatch):
    monkeypatch.setitem(store.RECORDS, "reference", tmp_path)
    reference = Store("demo", "reference")
    for write in (
        lambda: reference.append(record(cells[0]), [request(build, cells[0])]),
        lambda: reference.write_study({}),
        lambda: reference.write_launch("l1", {}),
        lambda: reference.launch_folder("l1"),
        lambda: reference.append_outcome({"cell_id": "x", "index": 0}),
        reference.lock,
    ):
        with pytest.raises(StoreError, match="reference run of demo is read-only"):
            write()
    assert list(tmp_path.iterdir()) == []
    Store("demo", "reference", publishing=True).write_study({})
    assert (tmp_path / "demo" / "study.json").is_file()
