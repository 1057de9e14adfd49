"""What a result is worth: closes, months, returns and charts that are right, in every usual form, and those that are not."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.sandbox import chart, dates
from analysis.sandbox.confined import Traces
from analysis.sandbox.outcome import judge

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
RECORDED = [(f"{2016 + at // 12}-{at % 12 + 1:02d}", 10_000.0 + 37 * at + 500 * (at % 3)) for at in range(130)]


def change(at):
    return RECORDED[at][1] / RECORDED[at - 1][1] - 1


def months(count=120, scale=1.0, at=1, first=None, form="{}-01"):
    rows = [[form.format(RECORDED[at + n][0]), RECORDED[at + n][1], scale * change(at + n)] for n in range(count)]
    rows[0][2] = first
    return rows


def judged(records=None, columns=("date", "close", "monthly_return"), **more):
    result = {} if records is None else {"columns": list(columns), "length": len(records), "records": records}
    traces = Traces(**{"started": True, "parsed": True, "status": 0, "result": result, **more})
    return judge(traces, wall="bubblewrap", recorded=RECORDED)


def test_a_right_result_passes_without_a_reason_and_names_its_wall():
    outcome = judged(months())
    assert outcome.passed and outcome.reason == "" and outcome.rows == 120 and not outcome.chart_written
    assert outcome.row()["wall"] == "bubblewrap"


@pytest.mark.parametrize("count, passed", [(117, False), (118, True), (121, True), (122, False)])
def test_ten_years_are_118_to_121_months(count, passed):
    assert judged(months(count)).passed is passed


@pytest.mark.parametrize(
    "seen, reason",
    [
        ({"status": 1, "stderr": "Traceback …\nKeyError: 'Close'\n"}, "KeyError: 'Close'"),
        ({"status": 7}, "it ended with exit 7"),
        ({"status": -11}, "it crashed (segmentation fault)"),
        ({"status": -9}, "it was killed"),
        ({"status": -9, "stopped": "it was still running after 2 s"}, "stopped: it was still running after 2 s"),
        ({"parsed": False, "error": "SyntaxError: invalid syntax"}, "does not parse: SyntaxError: invalid syntax"),
    ],
)
def test_a_right_table_does_not_help_a_program_that_was_seen_to_fail(seen, reason):
    outcome = judged(months(), **seen)
    assert not outcome.passed and not outcome.ran and outcome.reason == reason and not outcome.columns_ok


@patient
@given(
    st.integers(1, 9),
    st.integers(118, 121),
    st.sampled_from([1.0, 100.0]),
    st.sampled_from(["none", "zero", "right"]),
    st.booleans(),
    st.sampled_from([None, 0, 1, 2]),
    st.sampled_from(["{}", "{}-01", "{}-28 00:00:00", "{}-01 00:00:00+09:00", "{}-15"]),
)
def test_every_sound_variant_passes(at, count, scale, first, falling, digits, form):
    given_first = {"none": None, "zero": 0.0, "right": scale * change(at)}[first]
    rows = months(count, scale, at, given_first, form)
    if digits is not None:
        rows = [[date, round(close, digits), value] for date, close, value in rows]
        if scale == 100.0:
            rows = [[date, close, value and round(value, 2)] for date, close, value in rows]
    assert judged(rows[::-1] if falling else rows).passed


@pytest.mark.parametrize(
    "row, field, value",
    [
        (7, 2, 0.9),
        (7, 2, None),
        (119, 2, 0.9),
        (60, 1, 0.0),
        (60, 1, None),
        (0, 2, 0.9),
        (5, 0, "2020-01-01"),
        (5, 0, ""),
    ],
)
def test_one_wrong_value_fails_the_check(row, field, value):
    records = months()
    records[row][field] = value
    assert not judged(records).passed


@pytest.mark.parametrize("date", ["NaT", "a007", "2020-01-01", "1970-01-01 00:00:00.000000007", "{shifted}"])
def test_dates_that_are_not_the_months_of_the_closes_fail(date):
    rows = months()
    shifted = [[RECORDED[2 + n][0] if date == "{shifted}" else date, *row[1:]] for n, row in enumerate(rows)]
    outcome = judged(shifted)
    assert outcome.reason == "the dates are not the months of the closes" and not outcome.rows_ok


def test_returns_that_fit_closes_that_are_not_recorded_fail():
    outcome = judged([[date, close * 2, value] for date, close, value in months()])
    assert outcome.reason == "the closes are not the recorded ones" and not outcome.returns_ok


def test_text_in_place_of_numbers_and_other_columns_are_named():
    assert judged([[date, None, None] for date, *_ in months()]).reason == "close holds something that is no number"
    assert judged([], columns=("Date", "\x1b[31mClose")).reason == "the columns are Date, \\x1b[31mClose"


@pytest.mark.parametrize(
    "text, month",
    [
        ("2016-11", "2016-11"),
        ("2016/11/30", "2016-11"),
        ("201611", "2016-11"),
        ("20161101", "2016-11"),
        ("2016年11月", "2016-11"),
        ("11/2016", "2016-11"),
        ("11/01/2016", "2016-11"),
        ("Nov 2016", "2016-11"),
        ("1 November 2016", "2016-11"),
        ("November 1, 2016", "2016-11"),
        ("Nov-2016", "2016-11"),
    ],
)
def test_months_are_read_as_people_write_them(text, month):
    assert dates.fit([text], [month])


def test_a_month_that_begins_in_tokyo_may_be_told_in_utc():
    assert dates.fit(["2016-10-31 15:00:00+00:00", "2016-11-30 15:00:00+00:00"], ["2016-11", "2016-12"])
    assert not dates.fit(["2016-10-30", "2016-11-30"], ["2016-11", "2016-12"])
    assert not dates.fit(["2016-13-01"], ["2017-01"]) and not dates.fit(["2016-02-30"], ["2016-02"])


def png(width, height, flip=0, text=b""):
    from PIL import Image, PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text("note", text.decode() or "x")
    out = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(out, "PNG", pnginfo=info)
    data = bytearray(out.getvalue())
    data[29] ^= flip
    return bytes(data)


def test_a_chart_is_a_png_of_some_size_written_anew_without_its_texts():
    outcome = judged(months(), chart=png(640, 480, text=b"<script>"), chart_written=True)
    assert outcome.chart_written and chart.size(outcome.chart_png) == (640, 480) and b"script" not in outcome.chart_png
    for data in (png(1, 1), png(640, 480, flip=1), png(640, 480)[:90], b"<svg/>", b"", b"GIF89a" + bytes(100)):
        assert not judged(months(), chart=data, chart_written=True).chart_written


def test_a_picture_of_many_pixels_is_no_chart_and_is_not_decoded(monkeypatch):
    from PIL import Image

    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = part(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + part(b"IDAT", zlib.compress(bytes(100_000))) + part(b"IEND", b"")
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("decoded"))
    assert chart.rewritten(bomb) == b""


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@patient
@given(st.dictionaries(st.sampled_from(["columns", "length", "records", "source"]), json), st.integers(-9, 3))
def test_a_forged_table_never_breaks_the_judge_and_never_passes_empty(result, status):
    outcome = judge(Traces(parsed=True, status=status, result=result), recorded=RECORDED)
    assert not outcome.passed and outcome.reason
