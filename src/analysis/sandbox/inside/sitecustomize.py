"""Imported by the program's own interpreter at its start: when the program has ended, its table is put in a file.

The interpreter runs the program by its own rules; this only waits for its end (atexit, so after the program's own
handlers). What it writes is data that the program could have written itself, and is checked outside as such.
"""

import atexit
import os
import threading

_OWNER = os.getpid()
_FOLDER = os.environ.get("SANDBOX_RESULT", "")
COLUMNS = ["date", "close", "monthly_return"]
ROWS = 2_000
SEARCH_S = 5


def _hand_back():
    if os.getpid() != _OWNER or not _FOLDER:  # a child of the program that came to its end
        return
    import signal
    import sys

    def give_up(*_):
        raise TimeoutError

    try:
        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(SEARCH_S)  # a function that waits for ever is no fault of the program
        namespace = vars(sys.modules["__main__"])
        frame, source = find_frame(namespace)
        if frame is not None:
            _write({"source": source, **plain(frame)})
    except BaseException:
        pass
    finally:
        signal.alarm(0)


def _write(result):
    import json

    with open(os.path.join(_FOLDER, "frame.json"), "w", encoding="utf-8") as file:
        json.dump(result, file)


def find_frame(namespace):
    """The result: a module-level frame with the three columns, else what a function of the program returns."""
    import inspect
    import re
    import sys

    pandas = sys.modules.get("pandas")
    if pandas is None:
        return None, ""
    likely = re.compile(r"(fetch|get|load|download|compute|calculate|calc)\w*return", re.IGNORECASE)
    values = [(name, value) for name, value in namespace.items() if isinstance(value, pandas.DataFrame)]
    frames = [(name, as_columns(value)) for name, value in values]
    for name, frame in reversed(frames):
        if set(COLUMNS) <= set(frame.columns):
            return frame, name
    functions = [
        (name, value)
        for name, value in namespace.items()
        if inspect.isfunction(value) and value.__module__ == "__main__" and name != "main"
    ]
    functions.sort(key=lambda item: likely.search(item[0]) is None)
    for name, function in functions:
        try:
            value = function(**arguments(function))
        except TimeoutError:
            raise
        except BaseException:
            continue
        if isinstance(value, pandas.DataFrame):
            frames.append((f"{name}()", as_columns(value)))
            if set(COLUMNS) <= set(frames[-1][1].columns):
                break
    # A frame with other columns still lets the outside say which columns it had.
    return (frames[-1][1], frames[-1][0]) if frames else (None, "")


def arguments(function):
    """Guesses for the parameters without default; TypeError where there is none."""
    import inspect
    import re

    known = {"ticker|symbol|index": "^N225", "years|lookback": 10, "period": "10y", "interval": "1mo"}
    given = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not parameter.empty or parameter.kind.name.startswith("VAR_"):
            continue
        guesses = [value for words, value in known.items() if re.search(words, parameter.name)]
        if not guesses or parameter.kind is parameter.POSITIONAL_ONLY:
            raise TypeError(parameter.name)
        given[parameter.name] = guesses[0]
    return given


def as_columns(frame):
    """One level of column names; dates that stand in the index become the column ``date``."""
    if frame.columns.nlevels > 1:
        frame = frame.set_axis(frame.columns.get_level_values(0), axis=1)
    missing = set(COLUMNS) - set(frame.columns)
    if missing == {"date"} and str(frame.index.name).lower() == "date":
        frame = frame.rename_axis(index="date").reset_index()
    return frame


def plain(frame):
    """Columns, number of rows and the three columns as text and numbers."""
    columns = [str(name)[:80] for name in frame.columns[:40]]
    records = []
    if frame.columns.is_unique and set(COLUMNS) <= set(frame.columns):
        for date, close, change in frame[COLUMNS].head(ROWS).itertuples(index=False):
            records.append([str(date)[:40], number(close), number(change)])
    return {"columns": columns, "length": len(frame), "records": records}


def number(value):
    """A finite number; text that looks like one is none."""
    if isinstance(value, str | bytes):
        return None
    try:
        value = float(value)
    except (TypeError, ValueError):
        return None
    return value if value == value and abs(value) != float("inf") else None


def _keep_open_figure():
    """Before the handlers at exit: matplotlib's own closes all figures."""
    import sys

    pyplot = sys.modules.get("matplotlib.pyplot")
    try:
        if os.getpid() == _OWNER and _FOLDER and pyplot is not None and pyplot.get_fignums():
            pyplot.savefig(os.path.join(_FOLDER, "left-open.png"))
    except Exception:
        pass


def _leave(status, leave=os._exit):
    """os._exit skips the handlers: a program that ends well by it still hands back."""
    if status == 0:
        _hand_back()
    leave(status)


os._exit = _leave
atexit.register(_hand_back)
if hasattr(threading, "_register_atexit"):
    threading._register_atexit(_keep_open_figure)
