"""The docker backend on a real engine: vLLM's CPU server in a container that the study starts, loses and removes."""

import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from analysis.errors import ServerError
from analysis.measure import campaign
from analysis.places import ROOT
from analysis.records import store
from analysis.servers import docker
from analysis.study import plan, study_file

TRAINED = ROOT / "data/miniature"
PAIR = Path(os.environ.get("ANALYSIS_TEST_PAIR", TRAINED))
NAMES = ("dense", "dense-assistant") if PAIR == TRAINED else ("target", "drafter")

pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("vllm"), reason="vLLM is not installed here"),
    pytest.mark.skipif(not (PAIR / NAMES[0] / "model.safetensors").is_file(), reason="the miniature is not here"),
]


def parameters(engine, tmp_path, **changes):
    note = tmp_path / "note.txt"
    note.write_text("green tea")
    target, drafter = (str(PAIR / name) for name in NAMES)
    server = {
        "backend": "docker",
        "engine": engine.name,
        "image": "localhost/analysis-test:1",
        "mounts": [*engine.mounts, f"{PAIR}:{PAIR}:ro", f"{note}:/note.txt:ro"],
        "gpus": None,
        "ipc": None,
        "shm_size": "512m",
        "env": {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "HF_HUB_OFFLINE": "1",
            "HOME": "/tmp",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        },
        "max_model_len": 700,
        "max_num_seqs": 2,
        "dtype": "bfloat16",
        "enforce_eager": True,
        "start_minutes": 12,
    }
    return {
        "study": "in-a-container",
        "title": "A miniature in a container",
        "stamp": "miniature",
        "target": {"model": target},
        "drafter": {"model": drafter},
        "server": {**server, **changes.pop("server", {})},
        "workloads": ["py_code"],
        "k_values": [2],
        "k": 2,
        "concurrency": [1],
        "concurrency_rounds": 1,
        "repeats": 1,
        "timing_tokens": 200,
        "code_programs": 0,
        "greedy_tokens": 0,
        **changes,
    }


def containers(engine):
    return engine("ps", "-aq", "--filter", f"label={docker.LABEL}").stdout.split()


def kill_mid_cell(engine, launch_record):
    """Kill the container a moment after its first cell began (the launch record is written just before)."""
    for _ in range(3000):
        if launch_record.exists():
            time.sleep(0.7)
            engine("kill", *containers(engine))
            return
        time.sleep(0.1)


def test_a_server_in_a_container_is_measured_killed_mid_cell_measured_again_and_removed(engine, tmp_path):
    made = plan.make(study_file.validate(parameters(engine, tmp_path)))
    records = store.Store(made.study.study, root=tmp_path / "runs")
    k = 2 if PAIR == TRAINED else 0  # a random drafter accepts nothing, and the study would stop it
    arm = next(a for a in made.arms if a.k == k)
    wanted = [c for c in made.cells if c.arm == arm and c.experiment == "timing"]
    first, second = (records.folder / f"launches/{arm.name}.1.{attempt}" for attempt in (1, 2))
    killer = threading.Thread(target=kill_mid_cell, args=(engine, first / "launch.json"))
    killer.start()
    with pytest.raises(ServerError, match="stopped while measuring"):
        campaign.ensure(made, wanted, records)
    killer.join()
    assert containers(engine) == []
    assert [f["status"] for f in records.failures()] == ["failed"]

    campaign.ensure(made, wanted, records)
    assert containers(engine) == []
    cells = records.frames(wanted).cells
    assert list(cells.status) == ["ok"] and list(cells.launch_id) == [second.name]
    assert (cells.accepted > 0).all() or not k
    for folder in (first, second):
        log = (folder / "server.log").read_text()
        assert "mounted file says: green tea" in log  # bind-mounted, and the log is the container's
        assert "Application startup complete" in log
    launched = records.frames(wanted).launches.iloc[0]
    assert launched.command.startswith(f"{engine.name} run -d") and docker.LABEL not in launched.command
    assert launched.image and "sha256:" in launched.image or len(launched.image) == 64


def test_a_container_whose_server_dies_while_loading_gives_the_cause_and_is_removed(engine, tmp_path):
    server = {"max_model_len": 100_000, "args": ["--no-such-flag"]}
    made = plan.make(study_file.validate(parameters(engine, tmp_path, server=server)))
    with pytest.raises(ServerError) as error:
        campaign.ensure(made, made.needed("baseline"), store.Store(made.study.study, root=tmp_path / "runs"))
    assert "stopped while loading" in str(error.value) and "--no-such-flag" in str(error.value)
    assert containers(engine) == []


def test_an_image_that_is_not_there_is_named(engine, tmp_path):
    server = {"image": "localhost/no-such-image:1"}
    made = plan.make(study_file.validate(parameters(engine, tmp_path, server=server)))
    with pytest.raises(ServerError) as error:
        campaign.ensure(made, made.needed("baseline"), store.Store(made.study.study, root=tmp_path / "runs"))
    assert "no-such-image" in str(error.value) and error.value.fix
    assert containers(engine) == []


def test_a_missing_file_is_not_mounted_as_a_folder(engine, tmp_path):
    given = parameters(engine, tmp_path)
    given["server"]["mounts"].append(f"{tmp_path}/gemma4_mtp.py:/patched/gemma4_mtp.py:ro")
    made = plan.make(study_file.validate(given))
    with pytest.raises(ServerError, match="no such file"):
        campaign.ensure(made, made.needed("baseline"), store.Store(made.study.study, root=tmp_path / "runs"))


def test_no_container_survives_a_study_that_is_killed(engine, tmp_path):
    given = parameters(engine, tmp_path)
    given["server"] |= {"entrypoint": "/usr/bin/sleep", "model_flag": False}
    given["target"]["model"] = "600"  # sleep 600 stands for a server that loads for ever
    given["server"] |= {"max_model_len": None, "max_num_seqs": None, "dtype": None, "enforce_eager": False}
    given["server"]["prefix_caching"] = None
    code = f"""
        from pathlib import Path
        from analysis.measure import campaign
        from analysis.study import plan, study_file
        from analysis.records import store
        made = plan.make(study_file.validate({given!r}))
        records = store.Store("in-a-container", root=Path({str(tmp_path / "runs")!r}))
        campaign.ensure(made, made.needed("baseline"), records)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stderr=subprocess.DEVNULL)
    for _ in range(300):
        if containers(engine):
            break
        time.sleep(0.1)
    assert len(containers(engine)) == 1
    time.sleep(1)
    child.send_signal(signal.SIGKILL)
    child.wait()
    for _ in range(400):
        if not containers(engine):
            break
        time.sleep(0.1)
    assert containers(engine) == []


def test_a_container_whose_keeper_was_killed_too_is_removed_by_the_next_run(engine, tmp_path):
    folder = str(tmp_path / "runs/launches/baseline.1.1")
    volumes = [word for mount in engine.mounts for word in ("-v", mount)]
    labelled = [*volumes, "--label", f"{docker.LABEL}={folder}", "--entrypoint", "/usr/bin/sleep"]
    engine("run", "-d", "--name", "left-behind", *labelled, "localhost/analysis-test:1", "600")
    assert docker.sweep({"/another/study"}, [engine.name]) == []
    assert docker.sweep({folder}, [engine.name]) == ["left-behind"]
    assert containers(engine) == []
