"""Servers that somebody else runs: looked at, waited for, measured, never started or ended."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from analysis.errors import ServerError
from analysis.measure import campaign
from analysis.records import store
from analysis.science import acceptance
from analysis.servers import external
from analysis.study import plan, study_file

STAND_IN = Path(__file__).parents[1] / "engine" / "stand_in"


def parameters(url, flavour="vllm", **changes):
    server = {
        "backend": "external",
        "url": url,
        "flavour": flavour,
        "start_minutes": 0.1,
        "served_model_name": "stand-in",
    }
    server |= changes.pop("server", {})
    return {
        "study": "somebody-elses",
        "title": "A server that is there",
        "target": {"model": "data/miniature/dense"},
        "drafter": {"model": "data/miniature/dense-assistant"},
        "server": server,
        "workloads": ["en_finance"],
        "k_values": [2],
        "k": 2,
        "concurrency": [1, 2],
        "repeats": 1,
        "timing_tokens": 10,
        "code_programs": 0,
        "greedy_tokens": 0,
        **changes,
    }


@contextlib.contextmanager
def vllm_by_hand(k=0, port=None, model="data/miniature/dense"):
    """Somebody starts the stand-in of vLLM's server in a terminal."""
    if port is None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--port", str(port)]
    command += ["--no-enable-prefix-caching"]
    if k:
        command += ["--speculative-config", f'{{"method":"mtp","model":"d","num_speculative_tokens":{k}}}']
    env = {**os.environ, "PYTHONPATH": str(STAND_IN)}
    server = psutil.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url, workers = f"http://127.0.0.1:{port}", []
    try:
        for _ in range(300):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                    break
            time.sleep(0.1)
        workers = server.children(recursive=True)
        yield url, server
    finally:
        for process in (server, *workers):  # an engine's own process ends when its server does
            with contextlib.suppress(psutil.Error):
                process.kill()
        server.wait()


def opened(tmp_path, given):
    made = plan.make(study_file.validate(given))
    return made, store.Store(made.study.study, root=tmp_path)


def test_the_arms_of_a_server_started_by_hand_are_measured_one_after_the_other(tmp_path):
    with vllm_by_hand() as (url, first):
        made, records = opened(tmp_path, parameters(url))
        campaign.ensure(made, made.needed("baseline"), records)
        assert first.poll() is None  # never ended by the study
    port = int(url.rsplit(":")[-1])
    with vllm_by_hand(k=2, port=port) as (_, second):
        campaign.ensure(made, made.needed("everything"), records)
        assert second.poll() is None
    frames = records.frames(made.cells)
    assert len(frames.cells) == len(made.cells) and (frames.cells.status == "ok").all()
    assert (acceptance.by_arm(frames.cells).al == 2).all()
    assert set(frames.launches.command) == {f"external {url}"}


def test_the_study_waits_until_the_right_arm_is_started(tmp_path):
    with vllm_by_hand() as (url, first):
        made, records = opened(tmp_path, parameters(url, server={"start_minutes": 1}))
        port, said = int(url.rsplit(":")[-1]), []

        def restart():
            time.sleep(2)
            first.kill()
            first.wait()
            with vllm_by_hand(k=2, port=port):
                done.wait(60)

        done = threading.Event()
        owner = threading.Thread(target=restart)
        owner.start()
        arm = next(a for a in made.arms if a.k == 2)
        with external.serve(
            arm, records.launch_folder("mtp-k2.1.1") / "server.log", "mtp-k2.1.1", said.append
        ) as server:
            assert server.facts.k == 2
        done.set()
        owner.join()
    assert any("its K is 0, and this arm's is 2" in text for text in said)


def test_a_server_of_another_arm_or_model_is_not_measured(tmp_path):
    with vllm_by_hand(k=3) as (url, _):
        made, records = opened(tmp_path, parameters(url))
        with pytest.raises(ServerError) as error:
            campaign.ensure(made, [c for c in made.cells if c.arm.k == 2], records)
        assert "its K is 3, and this arm's is 2" in str(error.value)
        assert "num_speculative_tokens" in str(error.value)  # the launch that the owner has to start
        seen = external.look(url)
        server = {"served_model_name": None}
        given = parameters(url, target={"model": "google/gemma-4-31B-it"}, server=server)
        other = plan.make(study_file.validate(given)).arms[0]
        assert "not google/gemma-4-31B-it" in external.mismatch(other, seen)


def test_nobody_there_is_one_screen(tmp_path):
    made, records = opened(tmp_path, parameters("http://127.0.0.1:9", server={"start_minutes": 0.02}))
    with pytest.raises(ServerError) as error:
        campaign.ensure(made, made.needed("baseline"), records)
    assert "nothing healthy answers there" in str(error.value) and len(str(error.value).splitlines()) < 25


def test_a_server_that_is_ended_mid_study_is_named_as_somebody_elses(tmp_path):
    with vllm_by_hand() as (url, server):
        made, _ = opened(tmp_path, parameters(url))
        with external.serve(made.arms[0], tmp_path / "server.log", "x") as running:
            running.check("measuring")
            server.kill()
            server.wait()
            with pytest.raises(ServerError, match="external server .* stopped answering while measuring"):
                running.check("measuring")


def test_llama_cpps_own_token_counts_become_complete_records(tmp_path, llama):
    url, seen = llama(drafts=True)
    given = parameters(url, "llama.cpp", k_values=[3], k=3)
    made, records = opened(tmp_path, given)
    cells = [c for c in made.cells if c.arm.k == 3]
    campaign.ensure(made, cells, records)
    frame = records.frames(cells).cells
    timing = frame[frame.experiment == "timing"].iloc[0]
    # 10 tokens: one from the prompt, then 3 steps of 2 accepted and 1 bonus token, each from 3 drafted
    assert (timing.completion_tokens, timing.drafts, timing.draft_tokens, timing.accepted) == (10, 3, 9, 6)
    assert acceptance.by_arm(frame).al.iloc[0] == 3
    assert all(body["cache_prompt"] is False for body in seen if body.get("stream"))
    assert records.frames(cells).launches.vllm_version.iloc[0] == "llama.cpp b8681-test"
    assert records.frames(cells).launches.sampling_defaults.iloc[0] == "temperature: 0.8, top_k: 40, min_p: 0.05"


def test_a_llama_cpp_baseline_that_drafts_is_not_the_baseline(tmp_path, llama):
    url, _ = llama(drafts=True)
    made, records = opened(tmp_path, parameters(url, "llama.cpp", server={"start_minutes": 0.02}))
    with pytest.raises(ServerError, match="is not arm baseline"):
        campaign.ensure(made, made.needed("baseline"), records)
    url, _ = llama(drafts=False)
    made, records = opened(tmp_path / "other", parameters(url, "llama.cpp"))
    campaign.ensure(made, made.needed("baseline"), records)
    assert records.frames(made.needed("baseline")).cells.drafts.sum() == 0
