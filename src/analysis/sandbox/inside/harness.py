"""Runs inside the sandbox: sets the limits, runs the program as ``__main__``, hands back what it made.

Everything goes out as JSON lines on one pipe: started, parsed, ran, frame, chart. The outside trusts none of it: it
caps the size, reads it as data and does the checks itself. Only the standard library is imported before the program.
"""

import base64
import inspect
import json
import os
import re
import resource
import signal
import sys
import traceback
import types

WORK = "/tmp/work"
COLUMNS = ["date", "close", "monthly_return"]
ROWS = 2_000
CHART_BYTES = 1_000_000
LIKELY_NAME = re.compile(r"(fetch|get|load|download|compute|calculate|calc)\w*return", re.IGNORECASE)
# Arguments for the parameters that a function of this task may ask for.
ARGUMENTS = {
    re.compile(r"ticker|symbol|index"): "^N225",
    re.compile(r"years|lookback"): 10,
    re.compile(r"period"): "10y",
    re.compile(r"interval"): "1mo",
}


def main():
    spec = json.loads(sys.argv[1])
    out = os.fdopen(spec["pipe"], "w", encoding="utf-8")
    limit(spec)

    def say(**event):
        out.write(json.dumps(event) + "\n")
        out.flush()

    say(event="started")
    path = os.path.join(WORK, "program.py")
    with open("/inside/program.py", encoding="utf-8") as file:
        source = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(source)
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        traceback.print_exception(error, limit=0)
        say(event="parsed", ok=False, error=in_words(error))
        return 1
    say(event="parsed", ok=True)

    module = types.ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    sys.path[0], sys.argv = WORK, [path]
    status, error = execute(code, module.__dict__)
    sys.stdout.flush()
    say(event="ran", status=status, error=error)
    if status == 0:
        frame, source_name = find_frame(module.__dict__)
        if frame is not None:
            say(event="frame", source=source_name, **plain(frame))
        chart, written = find_chart()
        if chart:
            say(event="chart", written=written, png=base64.b64encode(chart).decode("ascii"))
        if spec["warm_up"]:
            say(event="warm", limited=process_limit_holds(), **font_cache())
    sys.stdout.flush()
    return status


def limit(spec):
    """Hard limits; without privileges nobody inside can raise them again."""
    for name, value in (
        ("AS", spec["memory_bytes"]),
        ("NPROC", spec["processes"]),
        ("FSIZE", spec["file_bytes"]),
        ("NOFILE", 256),
        ("CORE", 0),
    ):
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    # The first limit names the reason (SIGXCPU); a program that ignores it meets the second.
    resource.setrlimit(resource.RLIMIT_CPU, (spec["cpu_s"], spec["cpu_s"] + 1))


def execute(code, namespace):
    """(exit status, error in words) of the program, by the interpreter's own rules."""
    try:
        exec(code, namespace)
    except SystemExit as leave:
        if leave.code is None or leave.code == 0:
            return 0, ""
        if not isinstance(leave.code, int):
            print(leave.code, file=sys.stderr)
        return (leave.code & 255 or 1) if isinstance(leave.code, int) else 1, f"it left with sys.exit({leave.code!r})"
    except BaseException as error:
        # Without the frames of this file: the reader's traceback starts in the program.
        traceback.print_exception(error.with_traceback(error.__traceback__.tb_next))
        return 1, in_words(error)
    return 0, ""


def in_words(error):
    return f"{type(error).__name__}: {error}".rstrip(": ")[:300]


def find_frame(namespace):
    """The result: a module-level frame with the three columns, else what a function of the program returns."""
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return None, ""
    frames = [(name, as_columns(value)) for name, value in namespace.items() if isinstance(value, pandas.DataFrame)]
    for name, frame in reversed(frames):
        if set(COLUMNS) <= set(frame.columns):
            return frame, name
    functions = [
        (name, value)
        for name, value in namespace.items()
        if inspect.isfunction(value) and value.__module__ == "__main__" and name != "main"
    ]
    functions.sort(key=lambda item: LIKELY_NAME.search(item[0]) is None)
    for name, function in functions:
        try:
            value = function(**arguments(function))
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
    given = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not parameter.empty or parameter.kind.name.startswith("VAR_"):
            continue
        guesses = [value for name, value in ARGUMENTS.items() if name.search(parameter.name)]
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
            records.append([str(date)[:32], number(close), number(change)])
    return {"columns": columns, "length": len(frame), "records": records}


def number(value):
    try:
        value = float(value)
    except (TypeError, ValueError):
        return None
    return value if value == value and abs(value) != float("inf") else None


def find_chart():
    """(PNG bytes, True) of the last picture saved; else (the figure left open, False)."""
    found = []
    for folder, _, names in os.walk("/tmp"):
        found += [os.path.join(folder, name) for name in names if name.lower().endswith(".png")]
    found = [path for path in found if os.path.isfile(path) and 0 < os.path.getsize(path) <= CHART_BYTES]
    if found:
        with open(max(found, key=os.path.getmtime), "rb") as file:
            return file.read(), True
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None and pyplot.get_fignums():
        path = os.path.join(WORK, "left-open.png")
        try:
            pyplot.savefig(path)
            with open(path, "rb") as file:
                return file.read()[:CHART_BYTES], False
        except Exception:
            pass
    return b"", False


def font_cache():
    """Matplotlib's list of fonts, so that later runs need not look for them."""
    import matplotlib
    import matplotlib.font_manager

    folder = matplotlib.get_cachedir()
    name = next(name for name in os.listdir(folder) if name.startswith("fontlist"))
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return {"name": name, "fonts": file.read()}


def process_limit_holds(limit=8):
    """Does the kernel refuse a process beyond the limit? It does not for root."""
    resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
    children = []
    try:
        while len(children) <= limit:
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
    except OSError:
        return True
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
    return False


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # Threads that the program left behind do not hold the result back.
    os._exit(status)
