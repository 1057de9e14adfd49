"""No file of the repository names a machine, holds a merge marker, or is something that a run makes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tracked(*patterns: str) -> list[Path]:
    """The files of the repository; in an exported copy without git, none."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return []
    listed = subprocess.run(["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# A home folder with a name in it; container paths (/root/.cache) and invented names (/home/user, /home/ada) are fine.
MACHINE_PATH = re.compile(
    r"/home/(?!user\b|you\b|ada\b|alice\b|somebody\b)[A-Za-z0-9_.-]+/"
    r"|/Users/(?!user\b|you\b|ada\b|alice\b|somebody\b)[A-Za-z0-9_.-]+/"
    r"|[A-Za-z]:\\\\?Users\\\\?(?!user\b|you\b|ada\b|alice\b|somebody\b)\w+"
    r"|(?<!\w)/root/\w|/tmp/tmp\w{6,}|/var/folders/\w|site-packages/\S+\.py\b.*line \d+"
)
MERGE = re.compile(r"^(?:<{7}|>{7}|\|{7}) \S", re.MULTILINE)
BINARY = {".safetensors", ".png", ".parquet", ".npz", ".woff2", ".gz", ".ico", ".jpg"}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    found = {
        relative(path): path.read_text(encoding="utf-8", errors="replace")
        for path in tracked()
        if path.suffix not in BINARY
    }
    if not found:
        pytest.skip("not a git checkout")
    return found


def test_no_file_holds_a_path_of_somebodys_machine(texts):
    found = {name: MACHINE_PATH.search(text) for name, text in texts.items() if name != relative(Path(__file__))}
    assert {name: match.group(0) for name, match in found.items() if match} == {}


def test_no_file_holds_a_merge_marker(texts):
    assert [name for name, text in texts.items() if MERGE.search(text)] == []


@pytest.mark.parametrize("text", ["/home/bob/x", "/Users/bob/x", r"C:\Users\bob", "/root/work", "/tmp/tmpab12cd34"])
def test_a_leaked_path_is_seen(text):
    assert MACHINE_PATH.search(f"log: {text}/y")


@pytest.mark.parametrize("text", ["/root/.cache/huggingface", "/home/<name>/", "~/.cache", "/home/user/x", "/dev/shm"])
def test_a_container_path_or_placeholder_is_no_leak(text):
    assert not MACHINE_PATH.search(text)


def test_a_merge_marker_is_seen():
    assert MERGE.search("a\n" + "<" * 7 + " HEAD\n") and not MERGE.search("a\n=======\n")


def test_nothing_that_a_run_makes_is_in_the_repository(texts):
    made = re.compile(r"(^|/)(data/runs/|__pycache__/|\.ipynb_checkpoints/|\.venv/|[^/]+\.egg-info/)")
    assert [name for name in texts if made.search(name)] == []
