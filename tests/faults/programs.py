"""Hostile programs and generated sound ones, behind each wall: the verdict, the reason, the time, and what is left of them."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import yaml
from doors import Row

from analysis.sandbox import Availability, Outcome, confined, probe, record
from analysis.sandbox.limits import Limits
from analysis.sandbox.outcome import judge
from analysis.sandbox.walls import bubblewrap, container, landlock

sys.path.insert(0, str(Path(__file__).parents[1]))
from processes import orphan

KINDS = {"bubblewrap": bubblewrap, "landlock": landlock, "container": container}
GOOD = """
import pandas as pd, yfinance as yf
def good():
    d = yf.download("^N225", period="10y", interval="1mo")
    d.columns = d.columns.get_level_values(0)
    d = d[["Close"]].rename(columns={"Close": "close"}); d.index.name = "date"
    d["monthly_return"] = d["close"].pct_change()
    return d.reset_index()[["date", "close", "monthly_return"]]
"""
TRIES = """
def t(name, f):
    try:
        print("ESCAPED" if f() else "no", name)
    except BaseException as e:
        print("held", name, type(e).__name__)
"""
BEFORE = {"good": GOOD, "tries": TRIES, "": ""}
LIMITS, PATIENT = Limits(seconds=4.0, memory_mb=700), Limits(seconds=60.0, memory_mb=700)
"""For programs that are to be stopped after their time, and for the others: the machine may be busy."""
SPARE_S = 30.0
"""Seconds above its limit that a run may take on a busy machine: the wall, the parser, the reading of files."""
OUTSIDE = 45687
"""A port on the loopback address of this machine, TCP and UDP: who reaches it has got out."""


def hostile() -> dict[str, dict[str, str]]:
    return yaml.safe_load(Path(__file__).with_name("programs.yaml").read_text(encoding="utf-8"))


def wall_of(kind: str) -> tuple[Availability, probe.Ready] | str:
    """What `probe.ready` gives where this kind of wall is the only one; in words why it does not hold."""
    said = "not installed, or the kernel has none"
    for found in KINDS[kind].find():
        said = probe.check(found)
        if isinstance(said, probe.Ready):
            return Availability(True, found.name, found.version, ""), said
    return said


def verdict(ready: probe.Ready, code: str, limits: Limits = LIMITS) -> tuple[Outcome, float]:
    """The outcome of a program behind a wall, and the seconds that all of it took."""
    begin = time.monotonic()
    traces = confined.run(ready.wall, code, limits, fonts=ready.fonts)
    return judge(traces, wall=ready.wall.name, recorded=record.series()), time.monotonic() - begin


def fault_of(name: str, says: str, outcome: Outcome, seconds: float) -> str:
    """What is wrong with the verdict on a hostile program; empty where it is right."""
    if outcome.passed and not re.fullmatch(says, ""):
        return f"{name}: passed"
    if not re.match(says if outcome.reason else f"(?:{says})$", outcome.reason) or (outcome.reason and not says):
        return f"{name}: says {outcome.reason[:100]!r}"
    if "ESCAPED" in outcome.stdout + outcome.stderr:
        return f"{name}: {next(line for line in outcome.stdout.splitlines() if 'ESCAPED' in line)}"
    if outcome.chart_written and name.startswith("chart"):
        return f"{name}: its file counts as a chart"
    return f"{name}: took {seconds:.0f} s" if seconds > limits(says).seconds + SPARE_S else ""


def limits(says: str) -> Limits:
    return LIMITS if "still running" in says else PATIENT


def left(begin: float) -> list[str]:
    """Processes of programs, started since `begin` [s since 1970], that have nobody above them any more."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            young = process.create_time() > begin - 1 and process.status() != psutil.STATUS_ZOMBIE
            if young and orphan(process):
                found.append(" ".join(process.cmdline())[:80])
    return found


def tried(kind: str, ready: probe.Ready, names: Iterable[str] | None = None, workers: int = 4) -> Row:
    """Hostile programs behind one wall; nothing may be left of them a second later, and nothing may have come out."""
    row, known, begin = Row(f"hostile programs, {kind}"), hostile(), time.time()
    chosen = list(names or known)
    with listening() as reached, tempfile.NamedTemporaryFile("w+") as canary, ThreadPoolExecutor(workers) as pool:
        canary.write("canary")
        canary.flush()
        code = [BEFORE[known[n].get("after", "")] + known[n]["code"] for n in chosen]
        # the coding of a program stands in its first lines
        code = [text if known[n].get("after") else known[n]["code"] for n, text in zip(chosen, code, strict=True)]
        code = [text.replace("@CANARY@", canary.name) for text in code]
        given = [limits(known[n]["says"]) for n in chosen]
        for name, (outcome, seconds) in zip(
            chosen, pool.map(lambda *one: verdict(ready, *one), code, given), strict=True
        ):
            row.add(fault_of(name, known[name]["says"], outcome, seconds))
        if Path(canary.name).read_text() != "canary":
            row.add("a file outside was written")
    end = time.monotonic() + 1.0
    while (still := left(begin)) and time.monotonic() < end:
        time.sleep(0.05)
    for line in still:
        row.add(f"left behind: {line}")
    for said in reached:
        row.add(f"reached from inside: {said}")
    return row


@contextlib.contextmanager
def listening() -> Iterator[list[str]]:
    """A listener on this machine's loopback address, TCP and UDP; what came there."""
    said: list[str] = []
    tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with contextlib.suppress(OSError):  # another run listens there already
        tcp.bind(("127.0.0.1", OUTSIDE))
        udp.bind(("127.0.0.1", OUTSIDE))
        tcp.listen()
    with tcp, udp:
        yield said
        for line, take in ((tcp, lambda: tcp.accept()), (udp, lambda: udp.recv(99))):
            line.setblocking(False)
            with contextlib.suppress(OSError):
                said.append(str(take())[:60])


# --- sound programs, generated ------------------------------------------------------------------------------------------

FETCH = (
    'd = yf.download("^N225", period="10y", interval="1mo", progress=False)\nd.columns = d.columns.get_level_values(0)\ns = d["Close"]',
    's = yf.Ticker("^N225").history(period="10y", interval="1mo", auto_adjust=False)["Close"]',
    'd = yf.download("^N225", period="10y", interval="1mo")\ns = d["Close"].squeeze()',
    'd = yf.download(["^N225"], period="10y", interval="1mo", auto_adjust=False)\ns = d.xs("^N225", axis=1, level=1)["Adj Close"]',
)
CHANGE = (
    "r = s.pct_change()",
    "r = s / s.shift(1) - 1",
    "import numpy as np\nr = np.exp(np.log(s).diff()) - 1",
    "r = pd.Series([None, *[b / a - 1 for a, b in zip(s, s[1:])]], index=s.index, dtype=float)",
    "r = s.diff() / s.shift()",
    "r = s.rolling(2).apply(lambda pair: pair.iloc[1] / pair.iloc[0] - 1)",
    "r = s.pct_change() * 100",
)
DATE = (
    "s.index",
    's.index.strftime("%Y-%m")',
    's.index.strftime("%Y/%m/%d")',
    's.index.strftime("%b %Y")',
    's.index.tz_localize(None).to_period("M")',
    "[d.date() for d in s.index]",
    '[f"{d.year}年{d.month}月" for d in s.index]',
    "s.index.tz_localize(None) + pd.offsets.MonthEnd(0)",
)
TABLE = (
    'frame = pd.DataFrame({{"date": {date}, "close": s.values, "monthly_return": r.values}})',
    'frame = pd.DataFrame(list(zip({date}, s, r)), columns=["date", "close", "monthly_return"])',
    'frame = pd.concat([s.rename("close"), r.rename("monthly_return")], axis=1)\nframe.insert(0, "date", {date})\n'
    "frame = frame.reset_index(drop=True)",
    'frame = s.to_frame("close").assign(monthly_return=r.values, date={date})[["date", "close", "monthly_return"]]',
)
AFTER = (
    "",
    "frame = frame.dropna()",
    "frame = frame[::-1]",
    'frame["close"] = frame["close"].round(0)',
    'frame["monthly_return"] = frame["monthly_return"].fillna(0)',
    'frame["close"] = frame["close"].astype("float32")',
)
SHAPE = (
    "{body}",
    "def get():\n{indented}\n    return frame\nresult = get()",
    "class Study:\n    def run(self):\n{twice}\n        return frame\nanswer = Study().run()",
    "def main():\n    global frame\n{indented}\nif __name__ == '__main__':\n    main()",
    "from concurrent.futures import ThreadPoolExecutor\ndef get():\n{indented}\n    return frame\n"
    "with ThreadPoolExecutor(1) as pool:\n    table = pool.submit(get).result()",
    "def fetch_returns(ticker='^N225', years=10):\n{indented}\n    return frame",
)
END = (
    "",
    "import sys; sys.exit(0)",
    "import os; os._exit(0)",
    "import atexit; atexit.register(lambda: print('bye'))",
    "import os; os.closerange(3, 256)",
    "print(locals().get('frame', ''))",
    "import warnings; warnings.warn('a warning is no failure')",
    "import subprocess; subprocess.run(['true'], check=True)",
    "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.savefig('chart.png')",
    "import threading; threading.Thread(target=print, args=('x',)).start()",
    "raise SystemExit",
)


def sound(number: int) -> str:
    """A program that does the published task rightly, in one of some 400,000 ways."""
    dice = random.Random(f"sound {number}")
    table = dice.choice(TABLE).format(date=dice.choice(DATE))
    body = "\n".join([dice.choice(FETCH), dice.choice(CHANGE), table, dice.choice(AFTER)])
    once, twice = ("\n".join(" " * at + line for line in body.split("\n")) for at in (4, 8))
    text = dice.choice(SHAPE).format(body=body, indented=once, twice=twice)
    return f"import pandas as pd\nimport yfinance as yf\n{text}\n{dice.choice(END)}\n"


def tried_sound(kind: str, ready: probe.Ready, count: int, first: int = 0, workers: int = 4) -> Row:
    """Generated sound programs behind one wall: each must pass."""
    row = Row(f"sound programs, {kind}")
    limits = Limits(seconds=60.0, memory_mb=2_048)
    numbers = range(first, first + count)
    with ThreadPoolExecutor(workers) as pool:
        for number, (outcome, _) in zip(
            numbers, pool.map(lambda n: verdict(ready, sound(n), limits), numbers), strict=True
        ):
            row.add("" if outcome.passed else f"sound program {number}: {outcome.reason[:150]}")
    return row


if __name__ == "__main__":
    import sys

    kind, count, *names = sys.argv[1:]
    found = wall_of(kind)
    begin = time.monotonic()
    print(tried(kind, found[1], names or None), f"   {time.monotonic() - begin:.0f} s", flush=True)
    begin = time.monotonic()
    print(tried_sound(kind, found[1], int(count)), f"   {time.monotonic() - begin:.0f} s")
