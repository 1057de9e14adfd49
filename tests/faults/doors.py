"""Every door through which text of others comes in, tried with damaged inputs: seeds, mutations, and what must hold.

A door takes bytes. It holds where it returns or raises an error of the study, within its time; anything else is a fault,
named by its kind and place. An input is known by its door and number: the same number gives the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from analysis.errors import StudyError
from analysis.places import DATA, PARAMS, ROOT

sys.path.insert(0, str(ROOT / "tests/unit"))
import scripted

SECONDS = 5.0
"""Time that one input may take; a study file or a log of this size takes milliseconds."""
LINES, LONGEST = 60, 20_000
"""Lines and characters of an error as it is shown: one screen, and no input quoted whole."""


@dataclass
class Row:
    """What became of the inputs of one kind: how many were tried and held, and each fault with its count."""

    kind: str
    tried: int = 0
    held: int = 0
    faults: Counter = field(default_factory=Counter)

    def add(self, fault: str = "") -> None:
        self.tried += 1
        self.held += not fault
        if fault:
            self.faults[fault] += 1

    def __str__(self) -> str:
        more = "".join(f"\n    {count} x {fault}" for fault, count in self.faults.most_common(20))
        return f"{self.kind:44} {self.tried:>6} {self.held:>6} {self.tried - self.held:>6}{more}"


Take = Callable[[bytes], None]


# --- damaged inputs ------------------------------------------------------------------------------------------------

ODD = [
    *(
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'""',
        b"-1",
        b"0",
        b"1e400",
        b"NaN",
        b"-Infinity",
        b"1.5",
        b"9" * 30,
        b"\xff\xfe",
    ),
    *(
        b'"\\ud800"',
        b"\\u0000",
        b"\x00",
        b"\xef\xbb\xbf",
        b"\x1b[2J",
        "\u202e".encode(),
        b"[" * 3_000,
        b'{"a":' * 2_000,
        b"&a [*a]",
    ),
    *(
        b"*a",
        b"!!python/name:os.system",
        b"<<: *x",
        b"data: ",
        b"\n\n",
        b"\r\n",
        b"```",
        b"~" * 500,
        b" " * 5_000,
        b"E=" * 900,
    ),
    *(
        b"2026-02-30",
        b"1_0",
        b"0x1F",
        b"%s{}",
        b"../../etc/passwd",
        b"'" * 9,
        b'"' * 9,
        "日銀".encode(),
        b"_total",
        b"a" * 20_000,
    ),
]


def damaged(seed: bytes, others: list[bytes], dice: random.Random) -> bytes:
    """A seed with one to four damages: cut, doubled, swapped, moved, overwritten, or a value replaced by an odd one."""
    data = seed
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        data = dice.choice((_flip, _cut, _double, _insert, _truncate, _lines, _value, _structure, _structure, _splice))(
            data, others, dice
        )
    return data[:300_000]


def _span(data: bytes, dice: random.Random, most: int = 400) -> tuple[int, int]:
    begin = dice.randrange(len(data) + 1)
    return begin, min(len(data), begin + dice.randrange(1, most))


def _flip(data, others, dice):
    at = dice.randrange(len(data) + 1)
    return data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]


def _cut(data, others, dice):
    begin, end = _span(data, dice)
    return data[:begin] + data[end:]


def _double(data, others, dice):
    begin, end = _span(data, dice)
    return data[:end] + data[begin:end] * dice.choice((1, 2, 50)) + data[end:]


def _insert(data, others, dice):
    at = dice.randrange(len(data) + 1)
    return data[:at] + dice.choice(ODD) + data[at:]


def _truncate(data, others, dice):
    return data[: dice.randrange(len(data) + 1)]


def _lines(data, others, dice):
    lines = data.split(b"\n")
    a, b = dice.randrange(len(lines)), dice.randrange(len(lines))
    lines[a], lines[b] = lines[b], dice.choice((lines[a], lines[b], b""))
    return b"\n".join(lines)


VALUE = re.compile(rb'-?\d+(?:\.\d+)?|"[^"\n]{0,40}"|(?<=: )[^\n,}]{1,40}|\[[^\[\]\n]{0,80}\]|null|true|false')


def _value(data, others, dice):
    found = list(VALUE.finditer(data[:60_000]))
    if not found:
        return _insert(data, others, dice)
    at = dice.choice(found)
    return data[: at.start()] + dice.choice(ODD) + data[at.end() :]


def _structure(data, others, dice):
    """A JSON object of one line or file: a key goes, or a value becomes one of another kind."""
    lines = data.split(b"\n")
    at = dice.randrange(len(lines))
    for number in (at, *range(len(lines))):
        try:
            value = json.loads(lines[number])
        except (ValueError, RecursionError):
            continue
        inside = value
        for _ in range(dice.randrange(4)):
            below = list(inside.values()) if isinstance(inside, dict) else inside if isinstance(inside, list) else []
            if not (choices := [v for v in below if isinstance(v, dict | list) and v]):
                break
            inside = dice.choice(choices)
        if not isinstance(inside, dict | list) or not inside:
            continue
        key = dice.choice(list(inside)) if isinstance(inside, dict) else dice.randrange(len(inside))
        if dice.random() < 0.3:
            del inside[key]
        else:
            inside[key] = dice.choice(VALUES)
        lines[number] = json.dumps(value).encode()
        return b"\n".join(lines)
    return _value(data, others, dice)


VALUES = (
    None,
    True,
    -1,
    0,
    10**20,
    1.5,
    "",
    "x",
    "\ud800",
    [],
    {},
    [[]],
    [None],
    ["x"],
    {"x": 1},
    [1, 2],
    "../..",
    "1",
    float("nan"),
)


def _splice(data, others, dice):
    other = dice.choice(others)
    begin, end = _span(other, dice, 2_000)
    at = dice.randrange(len(data) + 1)
    return data[:at] + other[begin:end] + data[at:]


# --- the doors -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def study_file(folder: Path) -> Iterator[tuple[list[bytes], Take]]:
    from analysis.servers import render
    from analysis.study import plan
    from analysis.study.study_file import load_study

    path = folder / "damaged.yaml"

    def take(data: bytes) -> None:
        path.write_bytes(data)
        made = plan.make(load_study(path))
        for arm in made.arms[:2]:
            render.launch(arm, arm.server.backend)

    names = ("miniature", "gb10-26b-methods", "miniature-context", "rtx5090m-e4b", "h100-31b")
    yield [(PARAMS / f"{name}.yaml").read_bytes() for name in names], take


@contextlib.contextmanager
def prompt_file(folder: Path) -> Iterator[tuple[list[bytes], Take]]:
    from analysis.study import own

    def take(data: bytes) -> None:
        for form in ("jsonl", "csv", "txt"):
            path = folder / f"prompts.{form}"
            path.write_bytes(data)
            with contextlib.suppress(StudyError):
                own.read.__wrapped__(own.PromptFile(name="mine", file=str(path)), 1)

    lines = [{"prompt": "日銀の金利"}, {"prompt": "b", "id": "x", "max_tokens": 9}]
    talk = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}
    texts = ["\n".join(map(json.dumps, lines)), json.dumps(talk), 'prompt,id\n"a,b",1\nc,2\n', "plain text\n"]
    yield [text.encode() for text in texts], take


RECORDS = DATA / "reference/miniature-context"


@contextlib.contextmanager
def records(folder: Path) -> Iterator[tuple[list[bytes], Take]]:
    """The files of a small study, one after the other in one input; everything that reads records is asked."""
    from analysis.records.store import Store
    from analysis.study import plan
    from analysis.study.study_file import load_study

    made = plan.make(load_study("miniature-context", records="reference"))
    study = folder / "runs/miniature-context"
    cells = [json.loads(line) for line in (RECORDS / "cells.jsonl").read_text().splitlines()[:5]]
    kept = {(c["cell_id"], c["launch_id"]) for c in cells}
    asked = [json.loads(line) for line in (RECORDS / "requests.jsonl").read_text().splitlines()]
    asked = [r for r in asked if (r["cell_id"], r["launch_id"]) in kept][:12]
    program = {"cell_id": cells[0]["cell_id"], "index": 0, "passed": True, "reason": "", "execute_s": 1.0}
    study.mkdir(parents=True)
    for file, lines in (("cells.jsonl", cells), ("requests.jsonl", asked), ("outcomes.jsonl", [program])):
        (study / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
    shutil.copy(RECORDS / "study.json", study)
    for launch in {launch for _, launch in kept}:
        shutil.copytree(RECORDS / "launches" / launch, study / "launches" / launch)
    files = sorted(path for path in study.rglob("*") if path.is_file())
    for path in files:
        if path.suffix == ".json":
            path.write_text(json.dumps(json.loads(path.read_text())))
    whole = {path: path.read_bytes() for path in files}
    wanted = [cell for cell in made.cells if cell.id in {id_ for id_, _ in kept}]

    def take(data: bytes) -> None:
        parts = data.split(BETWEEN)
        for number, path in enumerate(files):
            path.write_bytes(parts[number] if number < len(parts) else whole[path])
        store = Store("miniature-context", root=folder / "runs")
        complete = store.complete()
        store.failures(), store.disturbed(), store.outcomes(), store.study_record()
        for damage in store.damage():
            assert damage.file and len(str(damage)) < LONGEST
        if zlib.crc32(data) % 4 == 0:  # tables are checked column by column, which takes most of the time
            store.frames([cell for cell in wanted if cell.id in complete])

    yield [BETWEEN.join([whole[path] for path in files])], take


BETWEEN = b"\n=====\n"


@contextlib.contextmanager
def log(folder: Path) -> Iterator[tuple[list[bytes], Take]]:
    from analysis.servers import diagnosis, engines, loglines
    from analysis.study import plan
    from analysis.study.study_file import load_study

    arms = plan.make(load_study("miniature")).arms

    def take(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        for arm in (arms[0], arms[-1]):
            diagnosis.of_running(text, engines.of(arm).read_log(text), arm)
        engines.named("llama.cpp").read_log(text)
        diagnosis.of_stopped(text)
        loglines.first_error(text)
        diagnosis.compiled_kernels(text)

    texts = [path.read_bytes() for path in sorted((ROOT / "tests/unit/data").rglob("*.log"))]
    yield [text[:30_000] for text in texts] or [LOG], take


LOG = b"""INFO Initializing a V1 LLM engine (v0.32.0) with config: speculative_config=SpeculativeConfig(method='mtp', num_spec_tokens=2)
Resolved architecture: Gemma4
Model loading took 5.2 GiB memory and 3.2 seconds
GPU KV cache size: 1,234 tokens
Maximum concurrency for 2,048 tokens per request: 3.4x
Traceback (most recent call last):
  File "x.py", line 1, in f
ValueError: Free memory on device cuda:0 (61.2/121.69 GiB) is less than desired
"""
METRICS = b"""# TYPE vllm:spec_decode_num_drafts counter
vllm:spec_decode_num_drafts_total{engine="0",model_name="m"} 1.0
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="m"} 2.0
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="m"} 1.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="0"} 1.0
vllm:generation_tokens_total{engine="0",model_name="m"} 10.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 5.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 0.0
vllm:num_preemptions_total{engine="0",model_name="m"} 0.0
vllm:num_requests_running{engine="0",model_name="m"} 0.0
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
vllm:cache_config_info{cache_dtype="auto",num_gpu_blocks="12",enable_prefix_caching="False"} 1.0
"""


@contextlib.contextmanager
def metrics(folder: Path) -> Iterator[tuple[list[bytes], Take]]:
    """The page of counters, and the same page as an external server shows it."""
    from analysis.measure.counters import snapshot
    from analysis.servers import engines

    with scripted.serving() as (url, server):

        def take(data: bytes) -> None:
            server.pages["/metrics"] = (200, data)
            for k in (0, 2):
                with contextlib.suppress(StudyError):
                    engines.named("vllm").parse(data.decode("utf-8", "replace"), k)
            with contextlib.suppress(StudyError):
                snapshot(url, 2, idle_s=0.0)

        yield [METRICS], take


@contextlib.contextmanager
def answer(flavour: str, folder: Path) -> Iterator[tuple[list[bytes], Take]]:
    """The stream of one answer, over a real connection."""
    from analysis.measure.client import Client

    asked = _cell(flavour)
    with scripted.serving() as (url, server):
        client = Client(url, 3.0)

        def take(data: bytes) -> None:
            server.events = [data]
            client.ask(asked, asked.requests[0])

        try:
            ledger = {"speculative_decoding": {"per_step_accepted": [1, 2, 2], "per_step_drafted": [2, 2, 2]}}
            timings = {
                "cache_n": 0,
                "prompt_n": 5,
                "predicted_n": 8,
                "predicted_ms": 9.0,
                "draft_n": 6,
                "draft_n_accepted": 4,
            }
            more = {"metrics": ledger} if flavour == "vllm" else {"timings": timings}
            events = [*scripted.words(4), *scripted.words(4, "reasoning"), scripted.chunk(finish="length")]
            whole = [*events, scripted.usage(8, **more)]
            yield [b"".join(f"data: {json.dumps(e)}\n\n".encode() for e in whole) + b"data: [DONE]\n\n"], take
        finally:
            client.close()


def _cell(flavour: str):
    from analysis.study import plan, study_file
    from analysis.study.plan import Cell, Request, Sampling

    server = {
        "backend": "external",
        "url": "http://127.0.0.1:1",
        "flavour": flavour,
        "served_model_name": scripted.MODEL,
    }
    raw = {
        "study": "x",
        "title": "x",
        "target": {"model": "t"},
        "drafter": {"model": "d"},
        "server": server,
        "k_values": [2],
        "k": 2,
    }
    arm = next(a for a in plan.make(study_file.validate(raw)).arms if a.k)
    sampling = Sampling(temperature=0.7, top_p=1.0, max_tokens=64, ignore_eos=True)
    return Cell(arm, 1, "timing", "en_finance", 1, 1, sampling, (Request("p", "hello", 7, 0),), "chat")


@contextlib.contextmanager
def pages(folder: Path) -> Iterator[tuple[list[bytes], Take]]:
    """`/v1/models`, `/props`, `/version`, `/tokenize`: what an external server says of itself."""
    from analysis.measure.client import Client
    from analysis.servers import engines, external

    cells = {flavour: _cell(flavour) for flavour in ("vllm", "llama.cpp")}
    with scripted.serving() as (url, server):

        def take(data: bytes) -> None:
            server.pages |= dict.fromkeys(("/v1/models", "/props", "/version", "/metrics"), (200, data))
            for cell in cells.values():
                with contextlib.suppress(StudyError):
                    client = Client(url, 2.0)
                    try:
                        client.model(cell.arm)
                    finally:
                        client.close()
                seen = external.look(url, cell.arm)
                external.mismatch(cell.arm, seen)
                if seen:
                    engines.of(cell.arm).facts(seen)

        listed = {
            "object": "list",
            "data": [{"id": scripted.MODEL, "object": "model", "max_model_len": 4096, "root": "t"}],
        }
        props = {
            "default_generation_settings": {"n_ctx": 4096, "speculative.n_max": 2},
            "total_slots": 1,
            "build_info": "b1",
        }
        yield [json.dumps(listed).encode(), json.dumps({**listed, **props}).encode()], take


@contextlib.contextmanager
def answer_text(folder: Path) -> Iterator[tuple[list[bytes], Take]]:
    from analysis.measure import degenerate
    from analysis.sandbox import extract

    def take(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        found = extract(text)
        assert found is None or found.code.strip()
        degenerate.level(text)

    yield (
        [
            b"Sure:\n```bash\npip install x\n```\n1. Run\n   ```python\n   if x:\n       y()\n   ```\n~~~~py\n```\n~~~~\n"
        ],
        take,
    )


@contextlib.contextmanager
def chart(folder: Path) -> Iterator[tuple[list[bytes], Take]]:
    import io

    from PIL import Image, PngImagePlugin

    from analysis.sandbox import chart as charts

    def take(data: bytes) -> None:
        written = charts.rewritten(data)
        if written:
            assert charts.size(written) and len(written) <= 4 * charts.MOST_BYTES and b"secret" not in written

    seeds = []
    for mode in ("RGB", "RGBA", "P", "1", "I;16"):
        out, text = io.BytesIO(), PngImagePlugin.PngInfo()
        text.add_text("comment", "secret")
        Image.new(mode, (80, 70)).save(out, "PNG", pnginfo=text)
        seeds.append(out.getvalue())
    yield seeds, take


@contextlib.contextmanager
def report_of_a_run(folder: Path) -> Iterator[tuple[list[bytes], Take]]:
    """What came back from behind the wall: it is judged, and the verdict can be kept."""
    import base64

    from analysis.records.store import Store
    from analysis.sandbox import confined, record
    from analysis.sandbox.outcome import judge

    recorded = record.series()
    store = Store("programs", root=folder)

    def take(data: bytes) -> None:
        traces = confined._traces(confined._events(data), "", "", 1.0, {})
        found = judge(traces, wall="x", recorded=recorded)
        store.append_outcome({"cell_id": "a", "index": 0, **found.row()})

    rows = [[f"{month}-01", close, None] for month, close in recorded[-120:]]
    for before, row in zip(rows, rows[1:], strict=False):
        row[2] = row[1] / before[1] - 1
    table = json.dumps(
        {"source": "frame", "columns": ["date", "close", "monthly_return"], "length": 120, "records": rows}
    )
    said = base64.b64encode(b"hello").decode()
    ended = {"event": "ended", "status": 0, "stopped": "", "seconds": 1.0, "cpu": False, "stdout": said, "stderr": said}
    lines = [
        {"event": "started"},
        {"event": "parsed", "ok": True},
        {**ended, "result": table, "chart": "", "chart_written": False},
    ]
    yield ["\n".join(map(json.dumps, lines)).encode() + b"\n"], take


@contextlib.contextmanager
def notebook(folder: Path) -> Iterator[tuple[list[bytes], Take]]:
    from analysis.report import executed

    path = folder / "01_damaged.ipynb"

    def take(data: bytes) -> None:
        path.write_bytes(data)
        executed.sort(executed.check(executed.read(path), path.name), path.name)

    golden = ROOT / "tests/golden"
    yield (
        [(golden / name).read_bytes()[:120_000] for name in ("05_acceptance.ipynb",) if (golden / name).exists()]
        or [NOTEBOOK],
        take,
    )


NOTEBOOK = json.dumps(
    {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
        "cells": [
            {"id": "a", "cell_type": "markdown", "metadata": {}, "source": "# Title\n\nText"},
            {
                **{
                    "id": "b",
                    "cell_type": "code",
                    "metadata": {"tags": ["provenance"]},
                    "source": "x",
                    "execution_count": 1,
                },
                "outputs": [
                    {"output_type": "stream", "name": "stdout", "text": "hello"},
                    {
                        "output_type": "display_data",
                        "metadata": {"say": "reading"},
                        "data": {"text/markdown": "x", "text/html": "<b>"},
                    },
                ],
            },
        ],
    }
).encode()

DOORS = {
    "study file": study_file,
    "prompt file": prompt_file,
    "records of a study": records,
    "log of a server": log,
    "page of counters": metrics,
    "answer of vLLM": partial(answer, "vllm"),
    "answer of llama.cpp": partial(answer, "llama.cpp"),
    "list of models, properties": pages,
    "program in an answer": answer_text,
    "chart of a program": chart,
    "report of a run": report_of_a_run,
    "executed notebook": notebook,
}


# --- trying --------------------------------------------------------------------------------------------------------


class TooLong(BaseException):
    """Not to be caught by what is tried."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises TooLong in a block that takes more CPU time; only in the main thread."""

    def over(*_):
        raise TooLong

    previous = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)


def outcome(take: Take, data: bytes, seconds: float = SECONDS) -> str:
    """What is wrong with how a door took an input; empty where it held."""
    begin = time.monotonic()
    try:
        with limited(seconds):
            take(data)
    except StudyError as error:
        text = str(error)
        if len(text) > LONGEST or len(text.splitlines()) > LINES:
            return f"an error of {len(text)} characters in {len(text.splitlines())} lines"
    except TooLong:
        return f"not done after {seconds:g} s of CPU time"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        ours = next(
            (f for f in reversed(traceback.extract_tb(error.__traceback__)) if "/analysis/" in f.filename), place
        )
        return f"{type(error).__name__} at {Path(ours.filename).name}:{ours.lineno} ({str(error)[:80]!r})"
    took = time.monotonic() - begin
    return f"took {took:.0f} s" if took > 10 * SECONDS else ""


def inputs(name: str, seeds: list[bytes], count: int, first: int = 0) -> Iterator[bytes]:
    """The damaged inputs of a door by their numbers; every hundredth is a seed as it is."""
    for number in range(first, first + count):
        dice = random.Random(f"{name} {number}")
        seed = dice.choice(seeds)
        yield seed if number % 100 == 0 else damaged(seed, seeds, dice)


def tried(name: str, count: int, first: int = 0) -> Row:
    """So many damaged inputs at one door."""
    row = Row(name)
    with tempfile.TemporaryDirectory(prefix="door-") as folder, DOORS[name](Path(folder)) as (seeds, take):
        for number, data in enumerate(inputs(name, seeds, count, first), first):
            fault = outcome(take, data)
            row.add(f"{fault} [input {number}]" if fault and len(row.faults) < 3 else fault)
    return row


if __name__ == "__main__":
    begun = time.monotonic()
    for door in sys.argv[2:] or DOORS:
        print(tried(door, int(sys.argv[1])), f"   {time.monotonic() - begun:.1f} s", flush=True)
        begun = time.monotonic()
