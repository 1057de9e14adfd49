"""Secrets of a server: used when it starts, and nowhere written or printed."""

import json
import shlex

import pytest

from analysis.errors import ParamsError
from analysis.servers import backend, docker, launch, preflight, render
from analysis.session import launch_line
from analysis.study import environment, plan
from analysis.study.study_file import load_study, reference_file, validate

TOKEN = "opensesame-4711"
ENV = {"HF_TOKEN": TOKEN, "LEVEL": "3", "WANDB_API_KEY": "$MY_KEY"}


def study(**server):
    server = {"image": "i", "env": ENV, "args": ["--api-key", TOKEN], **server}
    variants = [{"name": "other", "server": {"env": {"DB_PASSWORD": TOKEN}, "args": [f"--api-key={TOKEN}"]}}]
    raw = {"study": "x", "title": "x", "target": {"model": "t"}, "drafter": {"model": "d"}, "variants": variants}
    return validate({**raw, "server": server})


@pytest.mark.parametrize(
    "name, value, secret",
    [
        ("HF_TOKEN", "x", True),
        ("AWS_SECRET_ACCESS_KEY", "x", True),
        ("db-password", "x", True),
        ("HF_TOKEN", "$HF_TOKEN", False),
        ("HF_TOKEN", "", False),
        ("ANY", "hf_abcdefghijklmnopqrst", True),
        ("HTTPS_PROXY", "http://me:word@proxy:8080", True),
        ("TOKENIZERS_PARALLELISM", "false", False),
        ("VLLM_MAX_TOKENS_PER_EXPERT", "4", False),
        ("VLLM_USE_V2_MODEL_RUNNER", "1", False),
        ("KEYBOARD", "x", False),
    ],
)
def test_what_looks_like_a_secret(name, value, secret):
    assert environment.secret(name, value) is secret


@pytest.mark.parametrize("kind", ["process", "docker", "external"])
def test_no_form_of_a_launch_shows_a_secret(kind):
    for arm in plan.make(study(backend=kind, url="http://127.0.0.1:1")).arms:
        for form in ("process", "docker", "kubernetes", "systemd", "external"):
            text = render.launch(arm, form)
            assert TOKEN not in text and ("HF_TOKEN" in text or arm.variant == "other"), form
        assert TOKEN not in launch_line(arm) + backend.shown(launch.docker_command(arm)) + repr(arm)


def test_a_command_in_the_records_has_none_of_this_machines_folders(monkeypatch, tmp_path):
    home = tmp_path / "Übung 測定"
    monkeypatch.setattr(backend, "HOME", home)
    models = [f"{home}/data/cache/shapes/m", f"{backend.ROOT}/data/miniature/dense"]
    command = ["/opt/x/bin/python3.12", "-m", "serve", *models]
    assert backend.shown(command) == "python -m serve data/cache/shapes/m data/miniature/dense"


def test_a_shell_line_hides_the_secret_and_leaves_the_reference_to_the_shell():
    line = render.launch(plan.make(study(backend="docker")).arms[0], "docker").replace("\\\n", "")
    assert "-e HF_TOKEN='***'" in line and '-e WANDB_API_KEY="$MY_KEY"' in line and "-e LEVEL=3" in line
    assert shlex.split(line)[-1:] != [TOKEN] and "--api-key '***'" in line


def test_a_container_gets_secrets_by_name_alone(monkeypatch):
    monkeypatch.setenv("MY_KEY", "from outside")
    arm = plan.make(study(backend="docker")).arms[0]
    words, env = docker._with_env(arm, launch.docker_command(arm)[:-2])
    assert TOKEN not in " ".join(words[:-2]) and words[words.index("HF_TOKEN") - 1] == "-e"
    assert (env["HF_TOKEN"], env["WANDB_API_KEY"], "LEVEL=3" in words) == (TOKEN, "from outside", True)


def test_records_hold_no_secret_and_a_new_secret_is_no_new_arm():
    made = study()
    kept = json.dumps(made.model_dump(mode="json")) + reference_file(made) + repr(made)
    assert TOKEN not in kept and "***" in kept and "$MY_KEY" in kept
    other = study(env={**ENV, "HF_TOKEN": "another"})
    assert [a.id for a in plan.make(made).arms] == [a.id for a in plan.make(other).arms]
    assert made.server_of(made.variants[0]).env == {"DB_PASSWORD": TOKEN} and made.server.env["HF_TOKEN"] == TOKEN


def test_references_are_read_when_the_server_starts():
    assert environment.resolved({"A": "$B", "C": "${B}", "D": "x$B"}, {"B": "1"}) == {"A": "1", "C": "1", "D": "x$B"}
    with pytest.raises(ParamsError, match=r"HF_TOKEN is \$NOT_SET, and \$NOT_SET is not set"):
        environment.resolved({"HF_TOKEN": "$NOT_SET"}, {})
    with pytest.raises(ParamsError, match="hidden"):
        environment.resolved({"HF_TOKEN": "***"}, {})


def test_preflight_names_a_variable_that_is_not_set_and_a_secret_in_the_file(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    found = {check.name: check for check in preflight.run(plan.make(study()))}
    assert found["variables"].verdict == "fail" and "$MY_KEY is not set" in found["variables"].evidence
    assert found["secrets"].verdict == "warn" and TOKEN not in str(found)


@pytest.mark.parametrize(
    "text",
    [
        f"server: {{env: {{HF_TOKEN: [{TOKEN}]}}}}",
        f"server: {{env: HF_TOKEN={TOKEN}}}",
        f"server: {{env: {{HF_TOKEN: {TOKEN}",
        f"server: {{env: {{HF_TOKEN: {TOKEN}: 1}}}}",
        f"server: {{args: {{--api-key: {TOKEN}}}}}",
    ],
)
def test_an_error_message_quotes_no_secret(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text("study: x\ntitle: x\ntarget: {model: t}\ndrafter: {model: d}\n" + text)
    with pytest.raises(ParamsError) as error:
        load_study(path)
    assert TOKEN not in str(error.value)


# --- ports ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "server, published, said",
    [
        ({}, "127.0.0.1:8000:8000", ""),
        ({"port": 9000}, "127.0.0.1:9000:8000", ""),
        ({"port": 9000, "host": "0.0.0.0"}, "9000:8000", "every address of this machine, without a password"),
        ({"host": "192.0.2.7"}, "192.0.2.7:8000:8000", "192.0.2.7, without"),
        ({"run_args": ["--network", "host"]}, "127.0.0.1:8000:8000", "every address of this machine (--network host)"),
        ({"run_args": ["-p", "1:2"]}, "127.0.0.1:8000:8000", "the addresses of server.run_args"),
    ],
)
def test_a_port_is_published_on_the_loopback_address_unless_the_study_says_so(server, published, said):
    arm = plan.make(study(backend="docker", **server)).arms[0]
    words = launch.docker_command(arm)
    assert words[words.index("-p") + 1] == published
    assert said in launch.exposure(arm) and bool(said) == bool(launch.exposure(arm))


def test_plan_says_who_can_reach_the_server(capsys):
    from analysis.__main__ import main

    assert main(["plan", "gb10-31b-preview"]) == 0
    assert "Open to others: the server listens on every address of this machine" in capsys.readouterr().out
    assert main(["plan", "gb10-31b"]) == 0
    assert "Open to others" not in capsys.readouterr().out
