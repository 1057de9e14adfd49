"""Executed notebooks made without a kernel, with invented numbers: what the report's tests render."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib import pyplot
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from plotly.subplots import make_subplots

from analysis.show.look import MATPLOTLIB, arm_style
from analysis.show.outputs import Figure, Panel, Say, SideBySide, Table

matplotlib.use("Agg")
WORKLOADS = ["ja_finance", "en_finance", "py_code"]
SWEEP = [1, 2, 4, 8]
CODE = """import pandas as pd
import yfinance as yf

# Download one year of daily closes and compare month ends.
data = yf.download("^N225", period="1y")["Close"]
monthly = data.resample("ME").last()
table = pd.DataFrame({"close": monthly, "monthly_return": monthly.pct_change() * 100})
print(table.round(2).to_string())
"""


def output_of(thing, count: int = 1) -> list:
    """What the kernel would have written for ``thing``."""
    if isinstance(thing, Figure):
        data, metadata = thing.bundle()
        text = f"**{thing.title}** {thing.caption}"
        caption = new_output("display_data", data={"text/markdown": text}, metadata={"caption": True})
        return [new_output("display_data", data=data, metadata=metadata), caption]
    if isinstance(thing, str):
        return [new_output("stream", name="stdout", text=thing)]
    data, metadata = thing._repr_mimebundle_()
    return [new_output("execute_result", data=data, metadata=metadata, execution_count=count)]


def notebook(*parts):
    """Notebook of markdown (str), or of (source, things shown, tags…) for a code cell that ran."""
    cells = []
    for part in parts:
        if isinstance(part, str):
            cells.append(new_markdown_cell(part))
            continue
        source, things, *tags = part
        count = len(cells) + 1
        outputs = [output for thing in things for output in output_of(thing, count)]
        cell = new_code_cell(source, outputs=outputs, execution_count=count)
        cell.metadata["tags"] = list(tags)
        cells.append(cell)
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    return new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})


def speedup_bars(stamp: str = "miniature") -> Figure:
    random = np.random.default_rng(1)
    rows = [
        {
            "workload": w,
            "k": k,
            "speedup": 0.9 + 0.2 * i + 0.12 * k - 0.011 * k * k + random.normal(0, 0.03),
            "half": 0.06,
        }
        for i, w in enumerate(WORKLOADS)
        for k in SWEEP
    ]
    frame = pd.DataFrame(rows)
    live = go.Figure()
    with matplotlib.rc_context(MATPLOTLIB):
        still, axes = pyplot.subplots()
        for at, (k, part) in enumerate(frame.groupby("k")):
            style = arm_style(k)
            error = {"type": "data", "array": part.half, "thickness": 1.2}
            live.add_bar(x=part.workload, y=part.speedup, name=f"K = {k}", marker_color=style.color, error_y=error)
            axes.bar(np.arange(3) + at * 0.2, part.speedup, 0.18, yerr=part.half, color=style.color, label=f"K = {k}")
        live.update_yaxes(title="speedup over baseline [×]")
        axes.set_xticks(np.arange(3) + 0.3, WORKLOADS)
        axes.set_ylabel("speedup over baseline [×]")
        axes.legend(ncols=4, loc="upper left")
    return Figure(
        live,
        still,
        "MTP pays most on code; K = 4 is enough",
        "Speedup by workload and K: geometric mean of paired ratios; bars show the 95 % interval over launches.",
        "Grouped bars. On every workload speedup grows up to K = 4 and stays level at K = 8; py_code is the highest.",
        frame,
        stamp,
    )


def throughput_lines(stamp: str = "miniature") -> Figure:
    levels = [1, 2, 4, 8, 16]
    live = go.Figure()
    rows = []
    with matplotlib.rc_context(MATPLOTLIB):
        still, axes = pyplot.subplots()
        for k in (0, *SWEEP):
            style = arm_style(k)
            y = [40 * (1 + 0.1 * k) * c**0.8 / (1 + 0.01 * k * c) for c in levels]
            rows += [
                {"arm": f"mtp-k{k}" if k else "baseline", "streams": c, "tok_s": v}
                for c, v in zip(levels, y, strict=True)
            ]
            name = f"K = {k}" if k else "baseline"
            line = {"color": style.color, "dash": style.dash, "width": 2}
            live.add_scatter(
                x=levels, y=y, name=name, mode="lines+markers", line=line, marker={"symbol": style.symbol, "size": 8}
            )
            axes.plot(levels, y, color=style.color, linestyle=style.mpl_linestyle, marker=style.mpl_marker, label=name)
        live.update_xaxes(title="concurrent streams", type="log", tickvals=levels)
        live.update_yaxes(title="aggregate throughput [tok/s]")
        axes.set_xscale("log", base=2)
        axes.set_xlabel("concurrent streams")
        axes.set_ylabel("aggregate throughput [tok/s]")
        axes.legend()
    return Figure(
        live,
        still,
        "The gain shrinks as streams are added",
        "Aggregate tokens per second at 1 to 16 streams. Every arm was launched once, so there is no interval.",
        "Five rising lines that come closer to each other from left to right.",
        pd.DataFrame(rows),
        stamp,
        sources=("cells of the concurrency experiment",),
    )


def acceptance_panels(stamp: str = "miniature") -> Figure:
    """Three panels that share an axis: the widest figure a chapter has."""
    positions = np.arange(1, 5)
    live = make_subplots(1, 3, shared_yaxes=True, subplot_titles=WORKLOADS)
    rows = []
    with matplotlib.rc_context(MATPLOTLIB):
        still, grid = pyplot.subplots(1, 3, sharey=True, figsize=(8.4, 3.9))
        for at, (workload, axes) in enumerate(zip(WORKLOADS, grid, strict=True)):
            style = arm_style(4)
            share = (0.6 + 0.1 * at) ** positions
            rows += [{"workload": workload, "position": int(i), "p": p} for i, p in zip(positions, share, strict=True)]
            line, marker = {"color": style.color, "dash": style.dash}, {"symbol": style.symbol}
            live.add_scatter(x=positions, y=share, line=line, marker=marker, mode="lines+markers", row=1, col=at + 1)
            axes.plot(positions, share, color=style.color, linestyle=style.mpl_linestyle, marker=style.mpl_marker)
            axes.set_title(workload, fontsize=10)
            axes.set_xlabel("position in the draft (0 is first)")
        live.update_xaxes(title="position in the draft (0 is first)")
        live.update_yaxes(title="accepted share", col=1)
        live.update_layout(showlegend=False)
        grid[0].set_ylabel("accepted share")
    return Figure(
        live,
        still,
        "Later positions are accepted less often",
        "Unconditional acceptance p_i at K = 4.",
        "Three falling curves; the one of py_code falls slowest.",
        pd.DataFrame(rows),
        stamp,
    )


def wide_table() -> Table:
    random = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "arm": ["baseline", "mtp-k1", "mtp-k2", "mtp-k4", "mtp-k8"],
            "workload": ["py_code"] * 5,
            "launches": [1] * 5,
            "requests": [12] * 5,
            "seconds": random.uniform(3, 9, 5),
            "tok/s": random.uniform(40, 90, 5),
            "ch/s": random.uniform(100, 300, 5),
            "TTFT [s]": random.uniform(0.1, 0.2, 5),
            "TPOT [ms]": random.uniform(10, 30, 5),
            "AL [tok/step]": [None, 1.7, 2.3, 3.1, 3.9],
            "AR [%]": [None, 70.1, 65.3, 52.4, 36.7],
            "speedup [×]": [1.0, 1.2, 1.4, 1.71, 1.66],
        }
    )
    formats = {"seconds": ".2f", "tok/s": ".1f", "speedup [×]": ".2f"}
    note = "A dash: the baseline drafts nothing."
    return Table(frame, "Head to head on py_code, one stream", formats, note, headline=True)


def panels() -> SideBySide:
    with matplotlib.rc_context():
        import io

        drawing, axes = pyplot.subplots(figsize=(4, 2))
        axes.bar(range(12), np.sin(range(12)))
        picture = io.BytesIO()
        drawing.savefig(picture, format="png", dpi=80, metadata={"Software": None})
        pyplot.close(drawing)
    good = Panel(
        "baseline", CODE, "table and chart are right (0.9 s)", True, picture.getvalue(), "Bars of monthly returns"
    )
    bad = Panel(
        "mtp-k4", CODE.replace("pct_change() * 100", "diff()"), "monthly_return is not the percentage change", False
    )
    return SideBySide([good, bad], "What each arm wrote for the same prompt and seed")


def demo_notebooks() -> dict[str, nbformat.NotebookNode]:
    """File name → executed notebook."""
    facts = Table(
        pd.DataFrame({"fact": ["vLLM", "commit"], "value": ["0.32.0", "4c4382e"]}), "Provenance", provenance=True
    )
    setup = (
        'study = "miniature"        # name of the study under data/runs\nk_values = [1, 2, 4, 8]    # drafts per step'
    )
    return {
        "00_setup.ipynb": notebook(
            "# What will be measured, and on what?\n\nThe machine, the versions and the plan.",
            "Needs: nothing · writes: the plan · see also [the sweep](03_k_sweep.ipynb)",
            ("from analysis import open_study", []),
            (setup, [], "parameters"),
            ("s.plan()", ["\x1b[32mok\x1b[0m  5 launches\rok  5 launches, 90 cells, about 12 minutes\n"]),
            ("s.provenance()", [facts], "provenance"),
        ),
        "03_k_sweep.ipynb": notebook(
            "# How many tokens should the drafter propose?\n\nEvery draft costs a pass; a rejected one is waste.",
            ("from analysis import figures, open_study, speedup, tables", []),
            ("figures.speedup_by_k(sweep)", [speedup_bars()]),
            ("tables.k_sweep(sweep)", [wide_table()]),
            ("s.say(sentence)", [Say("On `py_code` K = 4 is fastest: **1.71×** the baseline.", "headline")]),
            ("s.say(warning)", [Say("One launch per arm: there is no interval over launches.", "warning")]),
            "## Limits\n\nOne machine, one prompt set. `K` above 8 was not tried.\n\n- one batch\n- short contexts",
            ("s.provenance()", [facts], "provenance"),
        ),
        "04_concurrency.ipynb": notebook(
            "# Does the gain survive several streams?\n\nAggregate throughput, MTP against baseline at every level.",
            ("figures.throughput(levels)", [throughput_lines()]),
            ("figures.acceptance(positions)", [acceptance_panels()]),
            ("s.say(text)", [Say("At 8 streams the gain of K = 4 is about half of what one stream sees.")]),
            "## Limits\n\n| level | meaning |\n|---|---|\n| 1 | one stream |\n| 8 | eight streams |",
            ("s.provenance()", [facts], "provenance"),
        ),
        "06_generated_python.ipynb": notebook(
            "# Is the generated Python still right?\n\nEvery program runs in a sandbox without network.",
            ("tables.side_by_side(outcomes)", [panels()]),
            ("s.say(text)", [Say("11 of 12 programs gave the right table under both arms.", "headline")]),
            ("s.provenance()", [facts], "provenance"),
        ),
    }


def write_demo(folder: Path) -> list[Path]:
    """The demo's notebooks in ``folder``, as papermill would leave them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, node in demo_notebooks().items():
        nbformat.write(node, folder / name)
    return sorted(folder.glob("*.ipynb"))
