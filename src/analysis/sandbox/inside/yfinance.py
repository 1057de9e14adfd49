"""Stand-in for yfinance inside the sandbox: the same calls and frame shapes, answered from one recorded series.

What is kept of the real library (releases since 0.2.55, 1.x):

* ``download`` returns two column levels (Price, Ticker) also for one ticker, unless ``multi_level_index=False``, with
  dates without time zone, prices adjusted by default (no "Adj Close" column), and one month where neither ``period``
  nor ``start`` is given. Programs written for the flat columns of older releases mostly cope, as with the real
  library: ``df["Close"]`` is then a frame of one column. ``SANDBOX_FLAT_COLUMNS=1`` gives them the old default.
* ``Ticker(...).history`` returns flat columns with dividends and splits, with dates in the exchange's time zone.
* An unknown ticker gives an empty frame and a line on standard error, not an exception.

What differs: the record ends on a fixed day, whatever the clock says. A window that would end later is moved back as a
whole, so "ten years until today" always is the same ten years of the record. Days are interpolated between the closes
of the months, so that the last close of a month is the month's close.
"""

from __future__ import annotations

import io
import os
import re
import sys
import zlib
from datetime import timedelta, timezone

import numpy as np
import pandas as pd

__version__ = "0.0.stand-in"

AS_OF = pd.Timestamp(os.environ["SANDBOX_AS_OF"])
FLAT = os.environ.get("SANDBOX_FLAT_COLUMNS") == "1"
NAMES = {"^N225": "Stand-in for the Nikkei 225 (generated, not market data)"}
PRICES = ["Close", "High", "Low", "Open", "Volume"]
PERIOD = re.compile(r"(\d+)(d|wk|mo|y)")
UNITS = {"d": "days", "wk": "weeks", "mo": "months", "y": "years"}
WHOLE = {"1d": None, "5d": "5D", "1wk": "W-MON", "1mo": "MS", "3mo": "3MS"}


def download(
    tickers,
    start=None,
    end=None,
    actions=False,
    threads=True,
    ignore_tz=None,
    group_by="column",
    auto_adjust=True,
    back_adjust=False,
    repair=False,
    keepna=False,
    progress=True,
    period=None,
    interval="1d",
    prepost=False,
    rounding=False,
    timeout=10,
    session=None,
    multi_level_index=None,
    **_,
):
    """Prices of one or several tickers; columns (Price, Ticker)."""
    names = tickers.replace(",", " ").split() if isinstance(tickers, str) else list(tickers)
    names = list(dict.fromkeys(name.upper() for name in names))
    parts = {name: _prices(name, start, end, period, interval, auto_adjust, actions) for name in names}
    failed = [name for name, part in parts.items() if part.empty]
    if failed:
        print(f"\n{len(failed)} Failed download:\n{failed}: no price data found", file=sys.stderr)
    frame = pd.concat(parts, axis=1, names=["Ticker", "Price"])
    if multi_level_index is None:
        multi_level_index = not FLAT
    if len(names) == 1 and not multi_level_index:
        return frame.droplevel("Ticker", axis=1)
    return frame.swaplevel(axis=1) if group_by == "column" else frame


class Ticker:
    """One ticker; `history` is what programs use."""

    def __init__(self, ticker, session=None, **_):
        self.ticker = ticker.upper()

    def __repr__(self):
        return f"yfinance.Ticker object <{self.ticker}>"

    def history(
        self, period=None, interval="1d", start=None, end=None, prepost=False, actions=True, auto_adjust=True, **_
    ):
        frame = _prices(self.ticker, start, end, period, interval, auto_adjust, actions).rename_axis(columns=None)
        if frame.empty:
            print(f"${self.ticker}: possibly delisted; no price data found", file=sys.stderr)
            return frame
        order = ["Open", "High", "Low", "Close"]
        frame = frame[order + [name for name in frame.columns if name not in order]]
        return frame.tz_localize(_tokyo())

    @property
    def info(self):
        if self.ticker not in NAMES:
            return {}
        last = float(_months()["Close"].iloc[-1])
        name = NAMES[self.ticker]
        return {
            "symbol": self.ticker,
            "shortName": name,
            "longName": name,
            "currency": "JPY",
            "quoteType": "INDEX",
            "regularMarketPrice": last,
            "previousClose": last,
        }

    fast_info = info


class Tickers:
    """Several tickers under one name."""

    def __init__(self, tickers, session=None, **_):
        names = tickers.replace(",", " ").split() if isinstance(tickers, str) else list(tickers)
        self.symbols = [name.upper() for name in names]
        self.tickers = {name: Ticker(name) for name in self.symbols}

    def history(self, *args, **kwargs):
        return download(self.symbols, *args, **kwargs)


def set_tz_cache_location(path):
    """Nothing is cached here."""


def _prices(ticker, start, end, period, interval, auto_adjust, actions):
    """Flat frame of one ticker in the window; index Date without time zone."""
    columns = PRICES if auto_adjust else ["Adj Close", *PRICES]
    extra = ["Dividends", "Stock Splits"] if actions else []
    empty = pd.DataFrame(columns=pd.Index(columns + extra, name="Price"), index=pd.DatetimeIndex([], name="Date"))
    if ticker not in NAMES or interval not in WHOLE:
        return empty.astype(float)
    try:
        first, last = _window(start, end, period)
    except ValueError as wrong:
        print(f"{ticker}: {wrong}", file=sys.stderr)
        return empty.astype(float)
    frame = _months() if interval == "1mo" else _days()
    frame = frame[(frame.index >= first) & (frame.index < last)]
    if WHOLE[interval] and interval != "1mo":
        rules = {"Open": "first", "High": "max", "Low": "min", "Close": "last", "Volume": "sum"}
        frame = frame.resample(WHOLE[interval], label="left", closed="left").agg(rules).dropna()
    frame = frame.assign(**{"Adj Close": frame["Close"]}) if not auto_adjust else frame
    frame = frame.assign(**{name: 0.0 for name in extra})[columns + extra]
    return frame.rename_axis(index="Date", columns="Price")


def _window(start, end, period):
    """[first, last) as days; moved back as a whole where it would end after the record."""
    last = _day(end if end is not None else pd.Timestamp.now())
    length = PERIOD.fullmatch(period or "1mo")
    if start is not None:
        first = _day(start)
    elif period == "max":
        first = pd.Timestamp(1900, 1, 1)
    elif period == "ytd":
        first = last.replace(month=1, day=1)
    elif length:
        first = last - pd.DateOffset(**{UNITS[length[2]]: int(length[1])})
    else:
        raise ValueError(f"Period '{period}' is invalid")
    late = max(last - AS_OF - pd.Timedelta(days=1), pd.Timedelta(0))
    return first - late, last - late


def _day(value):
    """Any date that the real library takes, as midnight without time zone."""
    stamp = pd.Timestamp(value, unit="s") if isinstance(value, (int, float)) else pd.Timestamp(value)
    return stamp.tz_localize(None).normalize()


def _months():
    """The record: one row per month, labelled with the month's first day."""
    with open(os.path.join(os.path.dirname(__file__), "prices.bin"), "rb") as file:
        text = io.StringIO(zlib.decompress(file.read()).decode())
    frame = pd.read_csv(text, comment="#", parse_dates=["date"], index_col="date").rename(columns=str.title)
    return frame.rename_axis("Date").astype({"Volume": "int64"})


def _days():
    """Business days between the months' closes, interpolated on a log scale."""
    months = _months()
    days = pd.bdate_range(months.index[0], AS_OF, name="Date")
    ends = days.to_series().groupby(days.to_period("M")).last()
    knots = np.interp(days.asi8, pd.DatetimeIndex(ends).asi8, np.log(months["Close"].to_numpy()))
    close = pd.Series(np.exp(knots).round(2), index=days)
    opened = close.shift(fill_value=close.iloc[0])
    volume = (months["Volume"] / 21).round().astype("int64").reindex(days, method="ffill")
    return pd.DataFrame(
        {
            "Open": opened,
            "High": np.maximum(opened, close),
            "Low": np.minimum(opened, close),
            "Close": close,
            "Volume": volume,
        }
    )


def _tokyo():
    try:
        from zoneinfo import ZoneInfo

        return ZoneInfo("Asia/Tokyo")
    except Exception:  # no zone data on this machine
        return timezone(timedelta(hours=9))
