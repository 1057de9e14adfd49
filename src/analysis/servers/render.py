"""An arm -> a copy-pasteable launch: a shell line, a container, a Kubernetes manifest, or a systemd unit. Text only."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Any

import yaml

from analysis.places import inside
from analysis.servers import engines
from analysis.servers import launch as commands
from analysis.study import environment
from analysis.study.params import Model
from analysis.study.plan import Arm

#: Image for an arm whose study names none: from 0.29 on the dense and the MoE model run on the same model runner.
RELEASE_IMAGE = "vllm/vllm-openai:v0.33.0"
CACHE = "/root/.cache/huggingface"
SYSTEMD_HOME = "%h"


def launch(arm: Arm, form: str) -> str:
    """Text of the launch of ``arm`` as ``process``, ``docker``, ``kubernetes`` or ``systemd``.

    Forms other than the study's own are derived: folders that a container needs become mounts, container paths become
    paths of this machine, and a missing image becomes the release that the study recommends.
    """
    render = {"docker": _docker, "process": _process, "kubernetes": kubernetes, "systemd": systemd}
    return render.get(form, _external)(arm)


def kubernetes(arm: Arm) -> str:
    """A Deployment and its Service. The GPU is asked for as ``nvidia.com/gpu``; mounts become ``hostPath`` volumes."""
    arm, s = _contained(arm), arm.server
    name = s.container_name or commands.NAME
    port = s.port or commands.PORT_IN_CONTAINER
    script = "exec " + commands.shell(commands.serve_command(arm, s.host or "0.0.0.0", port))
    volumes, mounts = _volumes(arm)
    container: dict[str, Any] = {
        "name": "vllm-server",
        "image": commands.image(arm),
        "command": ["sh", "-c"],
        "args": [script],
        "ports": [{"name": "http", "containerPort": port}],
        "startupProbe": {
            "httpGet": {"path": "/health", "port": "http"},
            "periodSeconds": 10,
            "failureThreshold": max(1, round(s.start_minutes * 6)),
        },
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10},
    }
    if s.env:
        container["env"] = [_variable(k, v, f"{name}-secrets") for k, v in sorted(s.env.items())]
    if s.gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": s.tensor_parallel_size or 1}}
    if mounts:
        container["volumeMounts"] = mounts
    pod: dict[str, Any] = {"containers": [container]}
    if s.ipc == "host":
        pod["hostIPC"] = True
    if volumes:
        pod["volumes"] = volumes
    labels = {"app": name}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},  # two pods would ask for the same GPU
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": port, "targetPort": "http"}]},
    }
    text = yaml.dump_all([deployment, service], Dumper=_Literal, sort_keys=False, width=4096).rstrip()
    given = "".join(f' --from-literal={k}="${k}"' for k in _from_outside(s.env))
    return f"# first: kubectl create secret generic {name}-secrets{given}\n{text}" if given else text


def systemd(arm: Arm) -> str:
    """A unit for ``~/.config/systemd/user`` (or ``/etc/systemd/system``); it is started by hand, never restarted."""
    s = arm.server
    container = s.backend == "docker"
    if container:
        words = [w for w in commands.docker_command(arm) if w != "-d"]
        words.insert(words.index("run") + 1, "--rm")
        words = commands.by_name(words, s.env)
        stop = [f"ExecStop=-/usr/bin/env {s.engine} stop {s.container_name or commands.NAME}"]
    else:
        arm = _outside(arm)
        words = commands.serve_command(arm, s.host or "127.0.0.1", s.port or commands.PORT_IN_CONTAINER)
        stop = ["KillSignal=SIGTERM"]
    outside = _from_outside(s.env)
    plain = {} if container else {k: v for k, v in sorted(s.env.items()) if k not in outside}
    env = [f"Environment={_unit_word(f'{k}={v}')}" for k, v in plain.items()]
    env += [f"PassEnvironment={' '.join(outside)}"] * bool(outside)  # first: systemctl --user import-environment NAME
    lines = [
        "[Unit]",
        f"Description=vLLM, arm {arm.name}: {arm.target.model}, K = {arm.k}",
        "After=network-online.target" + (f" {s.engine}.service" if container and s.engine == "docker" else ""),
        "Wants=network-online.target",
        "",
        "[Service]",
        "Type=exec",
        *env,
        "ExecStart=/usr/bin/env " + " ".join(_unit_word(w) for w in environment.shown_words(words)),
        *stop,
        f"TimeoutStartSec={s.start_minutes * 60:.0f}",
        "TimeoutStopSec=60",
        "Restart=no",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines)


def _from_outside(env: dict[str, str]) -> list[str]:
    """Variables whose value is not written down, in the order of their names."""
    return [k for k, v in sorted(env.items()) if environment.from_outside(k, v)]


def _variable(name: str, value: str, secrets: str) -> dict[str, Any]:
    """A variable of a container; one whose value is not written down comes from a Secret of the cluster."""
    if environment.from_outside(name, value):
        return {"name": name, "valueFrom": {"secretKeyRef": {"name": secrets, "key": name}}}
    return {"name": name, "value": value}


def _docker(arm: Arm) -> str:
    return commands.shell(commands.docker_command(_contained(arm)))


def _process(arm: Arm) -> str:
    s = arm.server
    if s.backend == "process" and not s.serve:
        command = commands.process_command(arm, s.port or commands.PORT_IN_CONTAINER)
        return commands.shell(["python", *command[1:]], s.env)
    lines = []
    for mount in s.mounts if s.backend == "docker" else ():
        outside, covered, *_ = mount.split(":")
        if covered.endswith(".py"):
            lines.append(f"# first replace {covered.split('dist-packages/')[-1]} of the installed vLLM by {outside}")
    arm = _outside(arm)
    command = commands.serve_command(arm, s.host or "127.0.0.1", s.port or commands.PORT_IN_CONTAINER)
    return "\n".join([*lines, commands.shell(command, s.env)])


def _external(arm: Arm) -> str:
    """What the owner of an external server starts; the study only measures it."""
    if (command := engines.of(arm).command(arm)) is not None:
        return commands.shell(command, arm.server.env)
    if not arm.server.port and (port := re.search(r":(\d+)", arm.server.url or "")):
        arm = replace(arm, server=arm.server.model_copy(update={"port": int(port[1])}))
    return _docker(arm) if arm.server.image else _process(arm)


def _contained(arm: Arm) -> Arm:
    """The arm as a container sees it: an image, and every model folder or the cache mounted."""
    s, mounts = arm.server, list(arm.server.mounts)
    models = {}
    for role in ("target", "drafter"):
        model: Model | None = getattr(arm, role)
        if model is None:
            continue
        folder = inside(model.model)
        if model.local and s.backend != "docker" and commands.host_folder(arm, model.model) is None:
            models[role] = model.model_copy(update={"model": str(folder)})
            mounts.append(f"{folder}:{folder}:ro")
    if not s.mounts and not arm.target.local:
        mounts.append(f"$HOME/.cache/huggingface:{CACHE}")
    server = s.model_copy(update={"image": s.image or RELEASE_IMAGE, "mounts": tuple(dict.fromkeys(mounts))})
    return replace(arm, server=server, **models)


def _outside(arm: Arm) -> Arm:
    """The arm as this machine sees it: container paths through the mounts, folders of the checkout absolute."""
    models = {}
    for role in ("target", "drafter"):
        model: Model | None = getattr(arm, role)
        if model is None:
            continue
        if (path := commands.host_folder(arm, model.model)) is None and model.local:
            path = str(inside(model.model))
        models[role] = model.model_copy(update={"model": path}) if path else model
    return replace(arm, **models)


def _volumes(arm: Arm) -> tuple[list[dict], list[dict]]:
    volumes, mounts = [], []
    for number, mount in enumerate(arm.server.mounts):
        outside, covered, *options = mount.split(":")
        path = os.path.expanduser(os.path.expandvars(outside))  # Kubernetes expands nothing in a hostPath
        volumes.append({"name": f"mount-{number}", "hostPath": {"path": path}})
        mounts.append(
            {"name": f"mount-{number}", "mountPath": covered, **({"readOnly": True} if "ro" in options else {})}
        )
    if arm.server.ipc != "host" and arm.server.gpus and arm.server.shm_size:
        size = re.sub(r"(?i)g[b]?$", "Gi", arm.server.shm_size)
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    return volumes, mounts


def _unit_word(word: str) -> str:
    """One word of ExecStart: systemd has its own quotes, and its own meaning of ``%`` and ``$``."""
    home = next((h for h in ("$HOME", "~") if word.startswith(h + "/")), "")
    rest = word[len(home) :].replace("\\", "\\\\").replace("%", "%%").replace("$", "$$").replace('"', '\\"')
    text = (SYSTEMD_HOME if home else "") + rest
    return f'"{text}"' if any(c in rest for c in " \t'\"{};") else text


class _Literal(yaml.SafeDumper):
    """YAML with scripts as literal blocks and without anchors, as people write manifests."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Literal.add_representer(str, _text)
