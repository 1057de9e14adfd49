"""Make the study's environment: `.venv` in the repository, filled from one lock. Run by `make setup`.

In: a bare Python 3.11 to 3.13, nothing else. Out: an environment with every package of requirements/<lock>.txt, the
project itself installed in place, and a stamp; with a stamp that fits, a second run does nothing. A run that was cut
is completed by the next one. What pip printed is in setup.log in the environment. No type hints and no newer syntax:
an older Python must be able to read this file, to say that it is too old.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import needs  # noqa: E402
from needs import NEEDS  # noqa: E402

ROOT = os.path.dirname(HERE)
REQUIREMENTS = os.path.join(ROOT, "requirements")
TORCH_INDEX = os.path.join(REQUIREMENTS, "torch-cpu-index.txt")
STAMP = ".lock-sha"
LOG = "setup.log"
OLDEST_DRIVER = 580  # the locked torch is built for CUDA 13
FAILURES = [  # what pip prints -> why, fix
    (r"No space left on device", "the disk is full", "free some space ({gib} GiB are needed), then run again"),
    (
        r"name resolution|Name or service not known|Failed to establish a new connection|Read timed out|ProxyError"
        r"|SSLError|Connection(Reset|Refused|Error)|Max retries exceeded",
        "the package index cannot be reached",
        "check the network (behind a proxy: set HTTPS_PROXY), then run again",
    ),
    (
        r"No matching distribution found|Could not find a version|ResolutionImpossible",  # the last: beside a constraint
        "the package index that pip uses has no such build for this machine and Python",
        "check `pip config list`: a mirror may lack it; or choose another lock (make setup LOCK=...)",
    ),
    (r"Permission denied", "a file of the environment is not writable", "check who owns it, or remove it: make clean"),
    (r"error: command '?.*(gcc|cc|g\+\+)", "a package had to be built and there is no compiler", "install gcc"),
]


class SetupError(Exception):
    """What, why and fix, shown on one screen."""

    def __init__(self, what, why="", fix=""):
        lines = [what] + (["Why: " + why] if why else []) + (["Fix: " + fix] if fix else [])
        super().__init__("\n".join(lines))


def say(text):
    print("setup: " + text, flush=True)


# --- which Python, which lock -----------------------------------------------------------------------------------


def find_python():
    """Run again under a fitting Python when this one does not fit and another is on the PATH."""
    if needs.OLDEST <= sys.version_info[:2] <= needs.NEWEST:
        return
    for minor in range(needs.NEWEST[1], needs.OLDEST[1] - 1, -1):
        other = shutil.which("python3.%d" % minor)
        # version managers leave names on the PATH that only print an error
        if other and subprocess.call([other, "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
            os.execv(other, [other, os.path.abspath(__file__)] + sys.argv[1:])


def gpu():
    """(an NVIDIA driver answers, how that is known)."""
    if os.path.exists("/proc/driver/nvidia/version"):
        return True, "NVIDIA driver loaded"
    tool = shutil.which("nvidia-smi") or shutil.which("/usr/lib/wsl/lib/nvidia-smi")
    if not tool:
        return False, "no NVIDIA driver"
    try:
        listed = subprocess.run([tool, "-L"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False, "nvidia-smi is there but does not answer"
    if listed.returncode == 0 and b"GPU" in listed.stdout:
        return True, "nvidia-smi lists a GPU"
    return False, "nvidia-smi is there but lists no GPU"


def driver_version():
    """Major version of the loaded NVIDIA driver, or None."""
    try:
        with open("/proc/driver/nvidia/version", encoding="utf-8") as file:
            found = re.search(r"\b(\d{3})\.\d+", file.read())
    except OSError:
        return None
    return int(found.group(1)) if found else None


def choose_lock(asked):
    """(lock, why) for this machine, or the one that was asked for."""
    if asked:
        name = re.sub(r"^requirements/|\.txt$", "", asked)
        if name not in NEEDS:
            raise SetupError("There is no lock %r." % asked, "", "choose one of: " + ", ".join(sorted(NEEDS)))
        return name, "as asked by LOCK"
    if not sys.platform.startswith("linux"):
        system = {"darwin": "macOS", "win32": "Windows"}.get(sys.platform, sys.platform)
        wsl = "; on Windows, WSL 2 counts as Linux" if sys.platform == "win32" else ""
        raise SetupError(
            "The study cannot be set up on %s." % system,
            "vLLM has no build for it: its packages are for Linux on x86-64 and aarch64.",
            "use a Linux machine, a Linux container or a virtual machine%s. "
            "The published reports in reports/ open in any browser." % wsl,
        )
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if machine not in ("x86_64", "aarch64"):
        raise SetupError("The study cannot be set up on %s." % machine, "vLLM has builds for x86-64 and aarch64.")
    has_gpu, why = gpu()
    return ("cuda-" if has_gpu else "cpu-") + machine, why + ", " + machine


def check_machine(lock, venv):
    """Stop before anything is downloaded when the install cannot end well, with all that is missing."""
    home = os.path.abspath(os.environ.get("STUDY_HOME") or ROOT)
    folders = [venv, os.path.join(home, "data", "runs"), os.path.join(home, "reports")]
    missing = needs.message(needs.look(lock, venv, bool(installed_pins(venv)), folders), lock)
    if missing:
        raise SetupError(missing)
    driver = driver_version()
    if lock.startswith("cuda") and driver and driver < OLDEST_DRIVER:
        say(
            "warning: NVIDIA driver %d is older than %d, which CUDA 13 needs: update it first" % (driver, OLDEST_DRIVER)
        )
    if lock == "cpu-aarch64":
        say("note: this lock was resolved for aarch64 but has not been run there")
    if lock == "cpu-x86_64" and not needs.cpu_has("avx512f"):
        say("note: this CPU has no AVX-512: vLLM's CPU build runs, with fewer features and slower")


# --- what is there already -----------------------------------------------------------------------------------------


def venv_python(venv):
    return os.path.join(venv, "bin", "python")


def is_conda(venv):
    """A conda environment is filled, never made, emptied or cleaned."""
    return os.path.exists(os.path.join(venv, "conda-meta"))


def site_packages(venv):
    lib = os.path.join(venv, "lib")
    names = sorted(name for name in (os.listdir(lib) if os.path.isdir(lib) else []) if name.startswith("python3."))
    for name in names:
        folder = os.path.join(lib, name, "site-packages")
        if os.path.isdir(folder):
            return folder
    return None


def installed_pins(venv):
    """Names of the .dist-info folders of an environment: one for each installed package."""
    site = site_packages(venv)
    return {name for name in os.listdir(site) if name.endswith(".dist-info")} if site else set()


def wanted_stamp(lock):
    """What the environment is made from: the lock, and pyproject.toml for the entry points."""
    digest = hashlib.sha256()
    for path in (os.path.join(REQUIREMENTS, lock + ".txt"), os.path.join(ROOT, "pyproject.toml")):
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def root_hash():
    """An environment that was moved or copied points to the sources of its old place."""
    return hashlib.sha256(ROOT.encode()).hexdigest()


def read_stamp(venv):
    try:
        with open(os.path.join(venv, STAMP), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def is_current(venv, stamp, lock):
    if stamp.get("inputs") != wanted_stamp(lock) or stamp.get("root") != root_hash():
        return False
    return os.access(venv_python(venv), os.X_OK) and len(installed_pins(venv)) >= stamp.get("packages", 0)


def drop_torn_packages(venv):
    """Forget packages whose files a cut run left incomplete, so that pip installs them again."""
    site = site_packages(venv)
    if not site or is_conda(venv):  # conda's own packages are recorded differently
        return
    for name in os.listdir(site):
        folder = os.path.join(site, name)
        if name.startswith("~") and os.path.isdir(folder):
            shutil.rmtree(folder, ignore_errors=True)
            continue
        if not name.endswith(".dist-info"):
            continue
        record = os.path.join(folder, "RECORD")
        whole = os.path.exists(record)
        if whole:
            with open(record, encoding="utf-8") as file:
                paths = [line.rsplit(",", 2)[0].strip('"') for line in file if line.strip()]
            whole = all(os.path.exists(os.path.join(site, path)) for path in paths if not path.endswith(".pyc"))
        if not whole:
            say("%s was left incomplete and will be installed again" % name[: -len(".dist-info")])
            shutil.rmtree(folder)


# --- pip ----------------------------------------------------------------------------------------------------------


def make_venv(venv):
    """The empty environment; one whose Python or pip does not run is made anew."""
    python = venv_python(venv)
    if is_conda(venv):
        return
    runs = (
        os.path.exists(python)
        and subprocess.call([python, "-m", "pip", "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        == 0
    )
    if runs:
        return
    if os.path.exists(python) or os.path.islink(python):
        say("the Python in %s does not run any more: making it anew" % os.path.relpath(venv, ROOT))
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", venv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if made.returncode:
        why = made.stdout.decode(errors="replace").strip()[-600:]
        raise SetupError("The virtual environment could not be made.", why)


def pip(venv, title, arguments, total=0):
    """Run pip with its output in the log and one line of progress on the screen. Returns (exit code, output)."""
    command = [venv_python(venv), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    command += ["--progress-bar", "off", "--no-warn-script-location", "--no-compile", *arguments]
    state = {"seen": 0, "doing": "", "lines": []}
    began = time.monotonic()
    before = len(installed_pins(venv))
    child = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def read():
        with open(os.path.join(venv, LOG), "a", encoding="utf-8") as log:
            log.write("\n== %s\n" % title)
            for line in child.stdout:
                log.write(line)
                state["lines"].append(line)
                words = line.split()
                if line.startswith(("Collecting ", "Requirement already satisfied: ")):
                    state["seen"] += 1
                    state["doing"] = "finding"
                elif len(words) > 1 and words[0] == "Downloading":
                    state["doing"] = "downloading %s %s" % (words[1].split("/")[-1].split("-")[0], " ".join(words[2:4]))
                elif line.startswith("Installing collected"):
                    state["doing"] = "installing"

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    shown, screen = -1.0, sys.stdout.isatty()
    try:
        while reader.is_alive():
            reader.join(0.3)
            passed = time.monotonic() - began
            if state["doing"] == "installing":
                count = len(installed_pins(venv)) - before
                doing = "installing %d" % count + (" of %d" % (total - before) if total > before else "")
            else:
                doing = "%d of %d, %s" % (state["seen"], total, state["doing"]) if total else state["doing"]
            line = "setup: %s: %s (%d:%02d)" % (title, doing or "starting", passed // 60, passed % 60)
            if screen:
                print("\r\033[K" + line[: shutil.get_terminal_size().columns - 1], end="", flush=True)
            elif passed - shown >= 20 and passed > 5:
                shown = passed
                print(line, flush=True)
        code = child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise
    finally:
        if screen:
            print("\r\033[K", end="", flush=True)
    return code, "".join(state["lines"])


def pip_or_stop(venv, title, arguments, total, lock):
    code, output = pip(venv, title, arguments, total)
    if code == 0:
        return
    last = "\n".join("  | " + line[:180] for line in output.rstrip().splitlines()[-10:])
    log = os.path.relpath(os.path.join(venv, LOG), ROOT)
    why, fix = "pip ended with exit code %d; the end of %s is below" % (code, log), "read %s, then run again" % log
    for pattern, reason, cure in FAILURES:
        if re.search(pattern, output):
            why, fix = reason, cure.format(gib=NEEDS[lock][0])
            break
    raise SetupError("pip could not install the %s." % title, why, fix + "; what is installed is kept\n" + last)


def install_torch(venv, pin, lock):
    """torch's CPU build: from wherever pip looks already, and only then from PyTorch's index of CPU builds."""
    code, output = pip(venv, "torch", ["--no-deps", pin])
    if code == 0:
        return
    if not re.search(FAILURES[2][0], output):
        return pip_or_stop(venv, "torch", ["--no-deps", pin], 0, lock)
    say("%s is not where pip looks: taking it from PyTorch's index of CPU builds" % pin)
    pip_or_stop(venv, "torch (PyTorch's index)", ["--no-deps", "-r", TORCH_INDEX, pin], 0, lock)


def compile_packages(venv):
    """Byte-compile on all cores (pip uses one). Left to the first import, it would count into a launch's load time."""
    say("compiling the packages")
    command = [venv_python(venv), "-W", "ignore", "-m", "compileall", "-q", "-q", "-j", "0", site_packages(venv)]
    # some packages carry templates that are no valid Python: they stay uncompiled, as with pip
    subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def project(venv):
    """The folder that pip installs in place: the checkout, or, where that cannot be written, one that links to it."""
    if os.access(os.path.join(ROOT, "src"), os.W_OK):
        return ROOT
    folder = os.path.join(venv, "project")
    os.makedirs(os.path.join(folder, "src"), exist_ok=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(os.path.join(ROOT, name), os.path.join(folder, name))
    link = os.path.join(folder, "src", "analysis")
    if os.path.islink(link):
        os.remove(link)
    os.symlink(os.path.join(ROOT, "src", "analysis"), link)
    return folder


VERIFY = """
import importlib.metadata, sys
from packaging.requirements import Requirement
wrong = []
for line in open(sys.argv[1], encoding="utf-8"):
    if not line[:1].isalnum():
        continue
    pin = Requirement(line.split("#")[0])
    if pin.marker and not pin.marker.evaluate():
        continue
    try:
        found = importlib.metadata.version(pin.name)
    except importlib.metadata.PackageNotFoundError:
        found = "missing"
    if not found.startswith(str(pin.specifier)[2:]):
        wrong.append(f"{pin.name} (wanted {str(pin.specifier)[2:]}, found {found})")
print(", ".join(wrong))
"""


# The compiled library that the engine would choose here, and the model class of the drafter. The library is loaded, not
# imported: those for AVX-512 and AVX2 define no module of their own name.
ENGINE = """
import importlib.util, sys, torch
name = "vllm._C"
if not importlib.util.find_spec(name):  # the CUDA build from 0.33 on
    name = "vllm._C_stable_libtorch"
if sys.argv[1] == "cpu-x86_64":
    if not torch.cpu._is_avx512_supported():
        name = "vllm._C_AVX2"
    elif not torch.cpu._is_avx512_bf16_supported():
        name = "vllm._C_AVX512"
try:
    torch.ops.load_library(importlib.util.find_spec(name).origin)
    from vllm.model_executor.models.gemma4_mtp import Gemma4MTP
except (AttributeError, ImportError, OSError) as error:
    sys.exit("%s: %s" % (type(error).__name__, error))
"""


def load_engine(venv, lock):
    """Load what every launch loads first, so that a broken installation is known here and not in the first launch."""
    say("loading the engine")
    done = subprocess.run(
        [venv_python(venv), "-W", "ignore", "-c", ENGINE, lock],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=venv,
    )
    if done.returncode == 0:
        return
    lines = done.stdout.strip().splitlines() or ["exit code %d, no output" % done.returncode]
    if lock.startswith("cuda") and "libcuda.so" in lines[-1]:
        say("note: no NVIDIA driver is loaded here, so the engine cannot be tried: %s" % lines[-1])
        return
    library = re.search(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file", lines[-1])
    raise SetupError(
        "The engine cannot be loaded: " + lines[-1][-400:],
        "",
        "install the package of your system that has %s, then run again" % library.group(1)
        if library
        else "make setup LOCK=%s after make clean; if it stays, the lines below say where it stopped\n%s"
        % (lock, "\n".join("  | " + line[:180] for line in lines[-8:])),
    )


def install(venv, lock):
    path = os.path.join(REQUIREMENTS, lock + ".txt")
    with open(path, encoding="utf-8") as file:
        pins = [line.split()[0] for line in file if line[:1].isalnum()]
    drop_torn_packages(venv)
    make_venv(venv)
    open(os.path.join(venv, LOG), "w").close()
    for pin in pins:
        if pin.startswith("torch==") and "+" in pin:
            install_torch(venv, pin, lock)
    pip_or_stop(venv, "packages", ["--no-deps", "-r", path], len(pins), lock)
    pip_or_stop(venv, "project", ["--no-deps", "--no-build-isolation", "--editable", project(venv)], 0, lock)
    compile_packages(venv)
    checked = subprocess.run(
        [venv_python(venv), "-c", VERIFY, path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if checked.returncode or checked.stdout.strip():
        raise SetupError(
            "The environment does not agree with %s." % os.path.relpath(path, ROOT),
            checked.stdout.strip()[-1000:],
            "make clean, then make setup",
        )
    load_engine(venv, lock)
    stamp = {"lock": lock, "inputs": wanted_stamp(lock), "root": root_hash(), "packages": len(installed_pins(venv))}
    with open(os.path.join(venv, STAMP), "w", encoding="utf-8") as file:
        json.dump(stamp, file)


def main():
    parser = argparse.ArgumentParser(description="Make the environment of the study.")
    parser.add_argument("--venv", default=os.path.join(ROOT, ".venv"), help="environment to make or to fill")
    parser.add_argument("--lock", default="", help="one of: " + ", ".join(sorted(NEEDS)))
    parser.add_argument("--repair", action="store_true", help="check every package even if the stamp fits")
    parser.add_argument("--which", action="store_true", help="only say which lock this machine gets, and why")
    asked = parser.parse_args()
    venv = os.path.abspath(asked.venv)
    stamp = read_stamp(venv)
    if not asked.repair and not asked.which and stamp.get("lock") in NEEDS:
        wanted = choose_lock(asked.lock)[0] if asked.lock else stamp["lock"]
        if wanted == stamp["lock"] and is_current(venv, stamp, wanted):
            return
    find_python()
    lock, why = choose_lock(asked.lock)
    say("lock %s (%s)%s" % (lock, why, "" if asked.lock else "; another one: make setup LOCK=..."))
    if asked.which:
        return
    check_machine(lock, venv)
    os.makedirs(venv, exist_ok=True)
    import fcntl  # not on Windows, which does not come this far

    # a folder that stays is locked: the environment itself may be made anew, and no file is left behind
    guard = os.open(REQUIREMENTS, os.O_RDONLY)
    try:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another set-up is running here: waiting for it")
            fcntl.flock(guard, fcntl.LOCK_EX)
        stamp = read_stamp(venv)
        if stamp.get("lock") == lock and is_current(venv, stamp, lock) and not asked.repair:
            return
        if stamp:
            os.remove(os.path.join(venv, STAMP))
        if stamp.get("lock", lock) != lock and not is_conda(venv):
            say("the environment was made from %s: making it anew" % stamp["lock"])
            shutil.rmtree(venv)
        began = time.monotonic()
        install(venv, lock)
        passed = time.monotonic() - began
    finally:
        os.close(guard)
    say("ready: %d packages in %d:%02d" % (len(installed_pins(venv)), passed // 60, passed % 60))


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        sys.exit("\n" + str(error))
    except KeyboardInterrupt:
        sys.exit("\nStopped. Run the same command again: it goes on where it was.")
