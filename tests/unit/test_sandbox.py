"""The sandbox: programs in answers, the recorded stand-in, and programs that mean well."""

from __future__ import annotations

import sys
import textwrap
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.sandbox import Program, available, extract, record, run, run_many

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


@pytest.mark.parametrize(
    "line", ["```" + " " * 200_000 + "`", "~" * 200_000 + "`", "\t" * 200_000 + "``", "```py " * 40_000]
)
def test_a_line_of_blanks_or_fence_characters_without_end_is_read_once(line):
    begin = time.process_time()
    assert extract(f"{line}\n```py\nx = 1\n```") == Program("x = 1")
    assert time.process_time() - begin < 5  # milliseconds here; hours where a line is read anew from each blank


def test_a_mark_may_have_blanks_before_and_after_it():
    assert extract("``` \t python  \nx = 1\n```") == Program("x = 1")


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
    assert len(record.series()) == 154 and record.series()[0][0] == "2014-01"  # … 2026-10


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
        *("chart_written", "passed", "execute_s", "reason", "wall"),
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
        ("import sys; sys.exit(3)", "it ended with exit 3"),
        ("import sys; sys.exit('no data')", "no data"),
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
