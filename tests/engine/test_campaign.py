"""What is measured, recorded, resumed and refused, on an engine that does as it is told."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
import yaml

from analysis.errors import ClientError, CountersError, Deadlock, MissingCells, PreflightError, ServerError, StoreError
from analysis.measure import campaign
from analysis.records import merge
from analysis.records.store import Store
from analysis.science import acceptance, kept, speedup
from analysis.study import plan
from analysis.study.study_file import load_study


def launches(store):
    return sorted(store.launch_ids())


def test_one_launch_an_arm_measures_all_its_cells_whichever_chapter_asked_first(study):
    plan, store = study()
    campaign.ensure(plan, plan.needed("baseline"), store)
    assert launches(store) == ["baseline.1.1"]
    assert store.complete() == {c.id for c in plan.cells if c.arm.k == 0}
    campaign.ensure(plan, plan.needed("mtp"), store)
    assert launches(store) == ["baseline.1.1", "mtp-k2.1.1"]
    assert (
        campaign.ensure(plan, plan.needed("everything"), store)
        == f"All {len(plan.cells)} measurements are on record; nothing was launched."
    )
    assert launches(store) == ["baseline.1.1", "mtp-k2.1.1"]


def test_the_command_measure_fills_one_arm_then_the_rest_and_needs_nothing_that_runs_notebooks(study, tmp_path):
    made, _ = study(server={"allow": ["architecture"]})  # the stand-in has no model
    file = tmp_path / "bare.yaml"
    file.write_text(yaml.safe_dump({**made.study.model_dump(mode="json", exclude_defaults=True), "study": "bare"}))
    code = f"""
        import sys
        from pathlib import Path
        from analysis.records import store
        store.RECORDS["runs"] = Path({str(tmp_path)!r})
        from analysis.__main__ import main
        code = main(["measure", {str(file)!r}, *sys.argv[1:]])
        heavy = {{"papermill", "nbconvert", "nbformat", "snakemake", "plotly"}} & set(sys.modules)
        sys.exit(f"imported {{heavy}}" if heavy else code)
    """

    def measure(*words):
        command = [sys.executable, "-c", textwrap.dedent(code), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    store = Store("bare", root=tmp_path)
    assert measure("--arm", "mtp-k2").returncode == 0
    assert launches(store) == ["mtp-k2.1.1"]
    assert "bare" in measure().stdout
    assert launches(store) == ["baseline.1.1", "mtp-k2.1.1"]
    assert store.complete() == {c.id for c in made.cells}
    assert "There is no arm 'k9'" in measure("--arm", "k9").stderr


def test_the_ledger_of_an_engine_that_accepts_every_second_draft_adds_up(study):
    plan, store = study()
    campaign.ensure(plan, plan.cells, store)
    frames = store.frames(plan.cells)
    arms = acceptance.by_arm(frames.cells)
    assert (arms.al == 2).all()  # one of two drafts and the bonus token
    assert (arms.ar == 0.5).all()
    ledger = acceptance.ledger(frames.cells, frames.requests)
    assert (ledger.unexplained == 0).all()
    assert acceptance.identities(frames.cells, frames.positions).holds.all()
    timing = frames.requests[(frames.requests.experiment == "timing") & (frames.requests.k == 2)]
    assert (timing.completion_tokens == 9).all() and (timing.steps == 4).all()  # 1 + 4 steps of 2
    assert set(speedup.paired(frames.requests).launches) == {1}


def test_a_drafter_that_accepts_nothing_stops_the_launch_unless_the_study_allows_it(study):
    plan, store = study("accepts-nothing")
    with pytest.raises(PreflightError, match="accepted 0 times in"):
        campaign.ensure(plan, plan.needed("k_sweep"), store)
    assert not [c for c in store.complete() if c in {x.id for x in plan.cells if x.arm.k}]
    plan, store = study("accepts-nothing", server={"allow": ["acceptance"]})
    campaign.ensure(plan, plan.needed("k_sweep"), store)
    assert (acceptance.by_arm(store.frames(plan.needed("k_sweep")).cells).al == 1).all()


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("stops-drafting", "drafting-disabled"),
        ("stops-accepting", "acceptance-zero"),
        ("preempts", "preempted"),
        ("ledger-differs", "ledger-disagrees"),
        ("compiles", "compiled-while-measured"),
        ("", None),
    ],
)
def test_a_measurement_during_which_the_engine_fell_sick_is_marked(study, fault, cause):
    """The warm-up was sound; the first two requests after it as well."""
    plan, store = study(fault, timing_tokens=41, code_programs=0, greedy_tokens=0)
    cells = [c for c in plan.needed("k_sweep") if c.arm.k]
    campaign.ensure(plan, cells, store)
    records = [json.loads(line) for line in (store.folder / "cells.jsonl").read_text().splitlines()]
    kinds = [[c["id"] for c in record["causes"] if c["id"] != "repetition"] for record in records]
    assert kinds[-1] == ([cause] if cause else [])


def test_the_warm_up_sends_a_prompt_of_every_workload_and_none_of_it_is_counted(study):
    plan, store = study()
    campaign.ensure(plan, plan.needed("baseline"), store)
    log = (store.folder / "launches/baseline.1.1/server.log").read_text()
    asked = [line.split()[-1] for line in log.splitlines() if line.startswith("warm-up ")]
    first_words = {next(iter(c.requests)).text[:3] for c in plan.needed("baseline")}
    assert first_words <= set(asked)
    assert store.frames(plan.needed("baseline")).cells.requests.tolist() == [1, 1, 1]


def test_a_replay_with_a_missing_cell_names_it_and_launches_nothing(study):
    plan, store = study(measure="never")
    with pytest.raises(MissingCells) as error:
        campaign.ensure(plan, plan.needed("baseline"), store)
    assert "baseline · timing" in str(error.value) and "Fix:" in str(error.value)
    assert not store.folder.exists()


def test_a_replay_without_the_model_folder_says_how_to_get_it(study):
    plan, store = study(measure="never", target={"model": "data/cache/not-here"}, server={"load_format": "dummy"})
    with pytest.raises(MissingCells, match="data/cache/not-here is not here.*run python -m analysis.dummy"):
        campaign.ensure(plan, plan.needed("baseline"), store)


def test_a_server_that_dies_while_loading_is_diagnosed_with_its_mend_and_last_lines(study):
    plan, store = study("dies-loading")
    with pytest.raises(ServerError) as error:
        campaign.ensure(plan, plan.needed("baseline"), store)
    text = str(error.value)
    assert "stopped while loading (exit 1" in text
    assert "max-num-batched-tokens 2048 is below 2496" in text
    assert "server.max_num_batched_tokens to 4096" in text
    assert len(text.splitlines()) < 25


def test_a_server_that_takes_memory_below_the_floor_is_ended_alone_and_named(study, tmp_path, monkeypatch):
    """As on a machine whose CPU and GPU share memory, where the host would hang: 7 GiB left, a floor of 8."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 125829120 kB\nMemAvailable: 20971520 kB\n")
    monkeypatch.setenv("ANALYSIS_MEMINFO", str(meminfo))
    made, store = study("eats-memory", server={"memory_floor_gib": 8})
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        with pytest.raises(ServerError) as error:
            campaign.ensure(made, made.cells, store)
        assert "fell to 7.0 GiB, below the floor of 8 GiB" in str(error.value)
        assert "gpu_memory_utilization" in str(error.value)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    meminfo.write_text("MemTotal: 125829120 kB\nMemAvailable: 20971520 kB\n")
    monkeypatch.setenv("STUDY_FAULT", "none")
    campaign.ensure(made, made.cells, store)  # records are whole: the rest is measured
    assert {c.id for c in made.cells} <= store.complete()


def test_a_cell_beside_a_program_that_burns_a_core_is_set_aside_measured_again_and_marked(study):
    made, store = study(remeasure=1)
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        campaign.ensure(made, made.needed("baseline"), store)
    finally:
        burner.kill()
        burner.wait()
    found = store.disturbed()
    assert {r["status"] for r in found} == {"set aside", "ok"}
    assert all("other programs used" in r["disturbed"] for r in found)
    set_aside = [r for r in found if r["status"] == "set aside"]
    assert len(set_aside) == max(2, len([c for c in made.cells if c.arm.k == 0]) // 4)
    assert store.complete() >= {c.id for c in made.needed("baseline")}
    assert not store.failures()


def test_a_cell_disturbed_for_a_while_is_measured_again_after_the_others_on_a_quiet_machine(study, monkeypatch):
    """The second cell of the launch says that the host took half of the machine; no other does."""
    made, store = study(remeasure=1)
    wanted, seen = made.needed("baseline"), []
    real = campaign.state.disturbance

    def disturbance(found):
        seen.append(found)
        return real({**found, "others_cores": 0.0, "steal": 0.5 if len(seen) == 2 else 0.0})

    monkeypatch.setattr(campaign.state, "disturbance", disturbance)
    campaign.ensure(made, wanted, store)
    lines = store.lines("cells")
    assert lines[1]["status"] == "set aside" and "the host took 50% of the machine's time" in lines[1]["reason"]
    again = [at for at, r in enumerate(lines) if r["cell_id"] == lines[1]["cell_id"]]
    own = [c for c in made.cells if c.arm.k == 0]
    assert again[0] == 1 and again[1] >= len(own) and lines[again[1]]["status"] == "ok"
    assert "the host" not in lines[again[1]]["disturbed"]
    total, rows = kept.summary(own, lines).iloc[0], kept.apart(lines)
    assert (total.planned, total.measured, total.failed) == (len(own), len(own), 0)
    (row,) = rows[rows.label == lines[1]["label"]].itertuples()  # a busy machine may set others aside, too
    assert row.reason == lines[1]["reason"]
    assert row.tok_s == pytest.approx(lines[1]["completion_tokens"] / lines[1]["wall_s"])


def test_a_measurement_that_a_kernel_was_compiled_in_is_set_aside_and_measured_again(study):
    made, store = study("compiles-once", remeasure=1)
    campaign.ensure(made, made.needed("baseline"), store)
    set_aside = [r for r in store.lines("cells") if r["status"] == "set aside"]
    assert [r["reason"] for r in set_aside if "compiled" in r["reason"]] == [
        "Kernels were compiled while requests were timed (fused_moe_kernel)."
    ]
    kept = [r for r in store.lines("cells") if r["status"] == "ok"]
    assert not [c for r in kept for c in r["causes"] if c["id"] == "compiled-while-measured"]


def test_a_measurement_that_compiles_each_time_is_kept_once_and_flagged(study):
    made, store = study("compiles", remeasure=1)
    campaign.ensure(made, made.needed("baseline"), store)
    kept = [r for r in store.lines("cells") if r["status"] == "ok"]
    assert {c.id for c in made.needed("baseline")} <= {r["cell_id"] for r in kept}
    assert "compiled-while-measured" in {c["id"] for r in kept for c in r["causes"]}
    assert len(store.lines("cells")) <= 2 * len(kept)


def test_graphs_that_the_engine_cuts_under_cover_stop_the_launch(study):
    server = {"enforce_eager": False, "graphs": "cover", "max_num_seqs": 304, "max_num_batched_tokens": 4096}
    made, store = study("cuts-graphs", concurrency=[1, 300], server=server)
    with pytest.raises(PreflightError) as error:
        campaign.ensure(made, [c for c in made.cells if c.arm.k], store)
    assert "captures graphs up to 8 tokens per step, and 912 were asked for" in error.value.what
    assert "Truncating max_cudagraph_capture_size" in error.value.why


def test_launches_measured_apart_are_merged_into_one_store(study, tmp_path):
    made, store = study()
    parts = []
    for arm in made.arms:
        part = Store(made.study.study, root=tmp_path / arm.name / "data" / "runs")
        campaign.ensure(made, [c for c in made.cells if c.arm == arm], part)
        parts.append(tmp_path / arm.name)
    found = merge.merge(made, store, parts)
    assert sum(part.measurements for part in found) == len(made.cells)
    assert store.complete() == {c.id for c in made.cells}
    assert launches(store) == ["baseline.1.1", "mtp-k2.1.1"]
    assert (store.folder / "launches" / "mtp-k2.1.1" / "server.log").is_file()
    assert "All" in campaign.ensure(made, made.cells, store)  # nothing is launched
    frames = store.frames(made.cells)
    assert len(frames.requests) == sum(len(c.requests) for c in made.cells)
    with pytest.raises(StoreError) as error:
        merge.merge(made, store, parts[:1])
    assert "in this study's own folder as well" in error.value.what


def test_without_a_floor_memory_is_nobodys_business(study, tmp_path, monkeypatch):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable: 1024 kB\n")
    monkeypatch.setenv("ANALYSIS_MEMINFO", str(meminfo))
    made, store = study()
    campaign.ensure(made, made.needed("baseline"), store)
    assert store.complete()


def test_a_server_that_never_becomes_healthy_is_given_up_after_its_time(study):
    plan, store = study("never-healthy", server={"start_minutes": 0.05})
    with pytest.raises(ServerError, match="not healthy after 0.05 minutes"):
        campaign.ensure(plan, plan.needed("baseline"), store)


def test_a_server_that_dies_mid_cell_fails_that_cell_and_the_next_run_measures_only_what_is_missing(study):
    plan, store = study("dies-mid-cell")
    with pytest.raises(ServerError, match="stopped while measuring"):
        campaign.ensure(plan, plan.needed("baseline"), store)
    assert [f["status"] for f in store.failures()] == ["failed"]
    assert "stopped while measuring" in store.failures()[0]["reason"]
    done = store.complete()
    healthy, _ = study()  # FAULT is part of the environment, so of the arm's identity: these are other cells
    assert not done & {c.id for c in healthy.cells}


def test_a_worker_that_dies_during_a_request_is_waited_for_until_the_server_ends_and_the_log_is_named(study):
    plan, store = study("worker-dies-mid-cell")
    with pytest.raises(ServerError, match="stopped while measuring") as error:
        campaign.ensure(plan, plan.needed("baseline"), store)
    assert "server.log" in str(error.value) and "was killed from outside (signal 9)" in str(error.value)


def test_a_frozen_engine_ends_its_launch_after_one_limit_and_is_named(study):
    plan, store = study("hangs-mid-cell", request_minutes=0.03)
    begin = time.monotonic()
    with pytest.raises(Deadlock, match="frozen"):
        campaign.ensure(plan, plan.needed("baseline"), store)
    assert len(store.failures()) == 1 and time.monotonic() - begin < 30


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("empty", ClientError, "no token usage"),
        ("not-json", ClientError, "not a chat completion"),
        ("refuses", ClientError, "refused a request (HTTP 400)"),
        ("counters-fall", CountersError, "fell from"),
    ],
)
def test_a_bad_answer_fails_its_cell_with_the_reason_and_the_others_go_on(study, fault, kind, words):
    plan, store = study(fault)
    with pytest.raises(kind) as error:
        campaign.ensure(plan, plan.needed("baseline"), store)
    assert words in str(error.value) and "Fix:" in str(error.value)
    assert store.failures() and all(f["reason"] for f in store.failures())


def test_missing_counters_stop_the_launch_before_anything_is_counted(study):
    plan, store = study("counters-missing")
    with pytest.raises(CountersError, match="lacks vllm:spec_decode_num_drafts_total"):
        campaign.ensure(plan, [c for c in plan.cells if c.arm.k], store)
    assert not store.complete()


def test_a_server_that_fell_back_to_another_method_is_refused(study):
    plan, store = study("wrong-method")
    with pytest.raises(PreflightError, match="'draft_model', not by MTP"):
        campaign.ensure(plan, [c for c in plan.cells if c.arm.k], store)
    assert not store.complete()


def test_a_port_in_use_is_said_before_anything_starts(study):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        plan, store = study(server={"port": port})
        with pytest.raises(ServerError, match=f"Port {port} is in use"):
            campaign.ensure(plan, plan.needed("baseline"), store)


def test_two_studies_at_once_are_refused(study):
    plan, store = study()
    with store.lock(), pytest.raises(StoreError, match="Another process is measuring"):
        campaign.ensure(plan, plan.needed("baseline"), store)


def _run_in_background(study_folder, fault="hangs-mid-cell", environment=None):
    """A study in a process of its own, as a kernel would run it; returns when a cell is under way."""
    code = f"""
        import signal
        from pathlib import Path
        from analysis.measure import campaign
        from analysis.study import plan, study_file
        from analysis.records import store
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore Ctrl-C
        made = plan.make(study_file.load_study("miniature", k_values=[2], k=2, repeats=1, concurrency=[1], prompts="published",
                                           timing_tokens=9,
            code_programs=0, greedy_tokens=0, warmup=1, remeasure=0, server={{"env": {{"FAULT": "{fault}"}}, "start_minutes": 0.5}}))
        campaign.ensure(made, made.cells, store.Store(made.study.study, root=Path({str(study_folder)!r})))
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, **(environment or {})},
    )
    log = study_folder / "miniature/launches/baseline.1.1/server.log"
    for _ in range(300):
        if log.exists() and "LLM engine" in log.read_text():
            time.sleep(1.5)
            return child
        time.sleep(0.1)
    raise AssertionError("the study did not start its server")


def _servers(folder):
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("ANALYSIS_LAUNCH", "").startswith(str(folder.resolve())):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_process_is_left_when_the_study_is_killed(study, tmp_path, how):
    study()  # sets PYTHONPATH
    child = _run_in_background(tmp_path)
    assert _servers(tmp_path)
    os.kill(child.pid, how)
    child.wait(timeout=30)
    for _ in range(150):
        if not _servers(tmp_path):
            break
        time.sleep(0.1)
    assert not _servers(tmp_path)
    cells = tmp_path / "miniature/cells.jsonl"
    assert not cells.exists() or all(json.loads(line)["status"] == "ok" for line in cells.read_text().splitlines())


def test_after_a_kill_only_the_cell_that_was_cut_and_what_followed_are_measured(study, tmp_path):
    study()
    # a fault from outside the study file: the same cells, with and without it
    child = _run_in_background(tmp_path, "", {"STUDY_FAULT": "hangs-later"})
    records = tmp_path / "miniature/cells.jsonl"
    for _ in range(100):
        if records.exists() and len(records.read_text().splitlines()) >= 2:
            break
        time.sleep(0.1)
    time.sleep(1)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    before = records.read_text()
    settings = dict(k_values=[2], concurrency=[1], code_programs=0, greedy_tokens=0, remeasure=0)
    made = plan.make(
        load_study(
            "miniature",
            repeats=1,
            prompts="published",
            timing_tokens=9,
            k=2,
            **settings,
            server={"env": {"FAULT": ""}, "start_minutes": 0.5},
        )
    )
    store = Store("miniature", root=tmp_path)
    done = store.complete()
    assert 0 < len(done) < len(made.cells)
    campaign.ensure(made, made.cells, store)
    after = [json.loads(line)["cell_id"] for line in records.read_text().splitlines()]
    assert records.read_text().startswith(before)
    assert sorted(after) == sorted(c.id for c in made.cells)  # every cell once


def test_what_survives_a_killed_guard_is_ended_by_the_next_run(study, tmp_path):
    study()
    child = _run_in_background(tmp_path)
    guards = [p for p in _servers(tmp_path) if "analysis.servers.guard" in " ".join(p.cmdline())]
    everything = psutil.Process(child.pid).children(recursive=True)
    for process in [*guards, psutil.Process(child.pid)]:
        process.kill()
    child.wait()
    time.sleep(0.5)
    from analysis.servers import process as backend

    backend.sweep({str((tmp_path / "miniature/launches/baseline.1.1").resolve())})
    gone, alive = psutil.wait_procs(everything, timeout=10)
    assert not alive


# -- lengths of context and answer -----------------------------------------------------------------------------------


AXES = {"context_tokens": [64, 128], "output_tokens": [4, 12], "workloads": ["en_finance"], "code_programs": 0}


def test_contexts_are_filled_by_the_server_s_own_count_and_recorded_with_their_length(study):
    plan, store = study(**AXES, greedy_tokens=0)
    campaign.ensure(plan, plan.needed("context"), store)
    requests = store.frames(plan.needed("context")).requests
    filled = requests[requests.context_tokens > 0]
    assert set(filled.context_tokens) == {64, 128} and (filled.prompt_tokens == filled.context_tokens).all()
    assert set(requests[requests.experiment == "output"].completion_tokens) == {4, 12}
    assert store.frames(plan.needed("baseline")).requests.context_tokens.eq(0).all()
    assert "nothing was launched" in campaign.ensure(plan, plan.needed("everything"), store)


def test_a_prompt_of_another_length_than_was_counted_is_not_recorded(study):
    plan, store = study("miscounts", **AXES, greedy_tokens=0)
    with pytest.raises(CountersError, match="do not add up") as error:
        campaign.ensure(plan, plan.needed("context"), store)
    assert "was filled to" in error.value.why


# -- own prompts -----------------------------------------------------------------------------------------------------


def test_with_publish_text_false_no_word_of_prompt_or_answer_is_in_any_artefact(study, tmp_path, monkeypatch):
    """The stand-in answers with the first three letters of the prompt, over and over: a canary in both."""
    from analysis import chapter, report
    from analysis.places import NOTEBOOKS
    from analysis.records import store as stores

    file = tmp_path / "tickets.jsonl"
    rows = [{"prompt": f"Zq{n} has lost the key CANARY-{n}-7731, what now?", "id": f"t{n}"} for n in range(3)]
    file.write_text("\n".join(json.dumps(r) for r in rows))
    own = [{"name": "tickets", "file": str(file), "title": "Support tickets"}]
    settings = {"workloads": own, "publish_text": False, "code_programs": 0, "context_tokens": [64], "study": "canary"}
    plan, _ = study(**settings)
    monkeypatch.setitem(stores.RECORDS, "runs", tmp_path / "runs")
    store = Store("canary")
    campaign.ensure(plan, plan.cells, store)

    requests = store.frames(plan.cells).requests
    timing = requests[(requests.experiment == "timing") & (requests.prompt_id == "t1")]
    assert timing.text.str.startswith("sha256:").all() and (timing.chars == len("Zq1 " * 9)).all()
    assert timing.text.nunique() == 1 and timing.repetition.gt(0).all()

    yaml_file = tmp_path / "canary.yaml"
    yaml_file.write_text(yaml.safe_dump(plan.study.model_dump(mode="json", exclude_defaults=True)))
    env = dict(
        os.environ,
        STUDY_HOME=str(tmp_path / "home"),
        PYTHONPATH=f"{os.environ['PYTHONPATH']}:{NOTEBOOKS.parent / 'src'}",
    )
    (tmp_path / "home/data").mkdir(parents=True)
    (tmp_path / "home/data/runs").symlink_to(tmp_path / "runs")
    for command in (
        ["chapter", str(yaml_file), str(NOTEBOOKS / "02_mtp.ipynb"), str(tmp_path / "out/02_mtp.ipynb")],
        [
            "chapter",
            str(yaml_file),
            str(NOTEBOOKS / "07_losslessness.ipynb"),
            str(tmp_path / "out/07_losslessness.ipynb"),
        ],
        ["export", str(yaml_file), "--out", str(tmp_path / "out/export")],
    ):
        done = subprocess.run([sys.executable, "-m", "analysis", *command], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "out").glob("*.ipynb"))
    report.render(pages, tmp_path / "out/index.html", title="t", stamp="miniature")

    assert chapter.chapters(yaml_file)
    # the stand-in prints what it is warmed up with; a real engine logs no request
    found = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".jsonl" or p.name == "requests.jsonl"]
    found = [p for p in found if p.name not in ("server.log", "tickets.jsonl")]
    assert {"requests.jsonl", "index.html", "requests.csv", "study.json"} <= {p.name for p in found}
    assert [p for p in found if any(word in p.read_bytes() for word in (b"CANARY", b"Zq1", b"Zq2"))] == []
