"""Every study's launch in every form: valid to the program that reads it, and the same command in all of them."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.errors import ParamsError
from analysis.places import PARAMS
from analysis.servers import launch, render
from analysis.study import plan
from analysis.study.study_file import load_study, validate

SCHEMA = json.loads((Path(__file__).parents[1] / "schemas" / "kubernetes.json").read_text())
ARMS = [
    pytest.param(arm, id=f"{file.stem}-{arm.name}")
    for file in sorted(PARAMS.glob("*.yaml"))
    for arm in plan.make(load_study(file)).arms
    if arm.k in (0, 2, 4)
]


def as_the_shell_reads_it(line):
    """The words of a command line after the shell expanded it, with /home/user as home."""
    done = subprocess.run(
        ["sh", "-c", "printf '%s\\0' " + line], env={"HOME": "/home/user"}, capture_output=True, check=True
    )
    return done.stdout.decode().split("\0")[:-1]


def as_words(line):
    return shlex.split(line.replace("\\\n", " "))


def arm(study, name):
    return next(a for a in plan.make(load_study(study)).arms if a.name == name)


def test_a_shell_reads_the_printed_published_launch_as_the_published_words():
    for name in ("baseline", "mtp-k4"):
        one = arm("gb10-31b-preview", name)
        words = [w.replace("$HOME/", "/home/user/") for w in launch.docker_command(one)]
        assert as_the_shell_reads_it(render.launch(one, "docker")) == words


@pytest.mark.parametrize("one", ARMS)
def test_kubernetes_manifests_satisfy_the_schema(one):
    documents = list(yaml.safe_load_all(render.launch(one, "kubernetes")))
    assert [d["kind"] for d in documents] == ["Deployment", "Service"]
    for document in documents:
        jsonschema.validate(document, SCHEMA)
    pod = documents[0]["spec"]["template"]["spec"]
    assert {m["name"] for m in pod["containers"][0].get("volumeMounts", [])} == {
        v["name"] for v in pod.get("volumes", [])
    }


def test_the_schema_refuses_a_manifest_with_a_mistyped_field():
    deployment = next(yaml.safe_load_all(render.launch(arm("gb10-31b-preview", "mtp-k4"), "kubernetes")))
    deployment["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(deployment, SCHEMA)


@pytest.mark.parametrize("one", ARMS)
def test_a_shell_line_has_the_model_and_k_of_the_arm(one):
    for form in ("process", "docker"):
        lines = [line for line in render.launch(one, form).splitlines() if not line.startswith("#")]
        words = as_the_shell_reads_it("\n".join(lines))
        given = [json.loads(words[i + 1]) for i, w in enumerate(words) if w == "--speculative-config"]
        assert [g["num_speculative_tokens"] for g in given] == ([one.k] if one.k else [])


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
@pytest.mark.parametrize("one", [p for p in ARMS if p.values[0].k == p.values[0].k])
def test_systemd_accepts_the_unit(one, tmp_path):
    unit = tmp_path / "vllm-arm.service"
    unit.write_text(render.launch(one, "systemd") + "\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "vllm-arm.service" not in done.stderr


def test_a_unit_keeps_json_and_percent_signs_through_systemds_quoting():
    one = arm("gb10-31b-preview", "mtp-k4")
    start = next(line for line in render.launch(one, "systemd").splitlines() if line.startswith("ExecStart="))
    words = [w.replace("%h/", "$HOME/").replace("%%", "%") for w in shlex.split(start.removeprefix("ExecStart="))]
    expected = [w for w in launch.docker_command(one) if w != "-d"]
    assert words[:3] == ["/usr/bin/env", "docker", "run"] and words[3] == "--rm"
    assert words[4:] == expected[2:]


def test_a_local_model_is_mounted_for_a_container_and_a_container_path_is_undone_for_a_process():
    inside = render.launch(arm("miniature", "mtp-k4"), "docker")
    assert "/data/miniature/dense-assistant:ro" in inside
    outside = render.launch(arm("gb10-26b-targets", "mtp-k4"), "process")
    assert "~/models/gemma4-26b-a4b-it-fp8" in outside and "/tmp/gemma4_mtp.py" in outside.splitlines()[0]


def test_a_digest_pins_the_image():
    one = arm("gb10-31b", "mtp-k4")
    digest = "sha256:" + "0" * 64
    pinned = one.server.model_copy(update={"digest": digest})
    from dataclasses import replace

    assert launch.image(replace(one, server=pinned)) == f"vllm/vllm-openai:v0.33.0@{digest}"


WORDS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    args=st.lists(WORDS, max_size=4),
    env=st.dictionaries(st.from_regex(r"\A[A-Z_]{1,8}\Z"), WORDS, max_size=3),
    mounts=st.lists(st.tuples(WORDS, WORDS), max_size=3),
    target=WORDS,
    backend=st.sampled_from(["process", "docker", "external"]),
)
def test_whatever_a_valid_server_holds_every_form_is_printed_and_read_back(args, env, mounts, target, backend):
    server = {"backend": backend, "image": "i", "url": "http://127.0.0.1:8000", "args": args, "env": env}
    raw = {"study": "x", "title": "x", "target": {"model": target}, "drafter": {"model": "d"}}
    try:
        study = validate({**raw, "server": {**server, "mounts": [":".join(m) for m in mounts]}})
    except ParamsError as error:
        assert "server.mounts" in str(error) or "target.model" in str(error)
        return
    for one in plan.make(study).arms[:2]:
        assert as_words(render.launch(one, "docker"))[:2] == ["docker", "run"]
        assert "num_speculative_tokens" in render.launch(one, "process") or not one.k
        assert len(list(yaml.safe_load_all(render.launch(one, "kubernetes")))) == 2
        assert "ExecStart=" in render.launch(one, "systemd")


def test_a_mount_with_one_side_is_named():
    raw = {"study": "x", "title": "x", "target": {"model": "t"}, "drafter": {"model": "d"}}
    with pytest.raises(ParamsError) as error:
        validate({**raw, "server": {"mounts": ["/models"]}})
    assert "server.mounts" in str(error.value) and "host:container" in str(error.value)
