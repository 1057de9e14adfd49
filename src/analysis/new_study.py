"""``python -m analysis new NAME``: a commented study file for the machine that it finds, with a prompt file to fill in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from analysis.errors import ParamsError
from analysis.places import PARAMS, ROOT
from analysis.servers import machine

NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
EXAMPLES = (
    {"id": "example-1", "prompt": "Replace this line by a prompt of your own."},
    {"id": "example-2", "prompt": "Name three things that a good bug report has.", "max_tokens": 64},
    {"id": "example-3", "prompt": "Write a SQL query that counts tickets per week and per product."},
)


@dataclass(frozen=True)
class Kind:
    """A kind of machine: whether this one is of it, and the part of the file that follows from it."""

    title: str
    fits: Callable[[machine.Machine], bool]
    models: str
    tokens: int
    k_values: str
    launches: int
    expect: str
    greedy: int = 200


def _gib(here: machine.Machine) -> float:
    return max((gpu.total_gib or 0.0 for gpu in here.gpus), default=0.0)


_DOCKER = """\
target: {{model: {target}}}
drafter: {{model: {drafter}}}
server:
  backend: docker            # process: the vLLM of this folder's .venv; external: a server that you start yourself
  image: vllm/vllm-openai:v0.33.0
  mounts: ["$HOME/.cache/huggingface:/root/.cache/huggingface"]
  max_model_len: 8192        # prompt and answer together
  max_num_batched_tokens: 4096
  gpu_memory_utilization: {share}
  max_num_seqs: 16
  limit_mm_per_prompt: {{image: 0, audio: 0, video: 0}}   # text only
  start_minutes: 45
"""
_26B = {"target": "RedHatAI/gemma-4-26B-A4B-it-FP8-Dynamic", "drafter": "google/gemma-4-26B-A4B-it-assistant"}
_E4B = {"target": "google/gemma-4-E4B-it", "drafter": "google/gemma-4-E4B-it-assistant"}
_MINIATURE = """\
target: {model: data/miniature/dense}
drafter: {model: data/miniature/dense-assistant}
server:
  backend: process
  max_model_len: 2048        # prompt and answer together
  max_num_seqs: 8
  dtype: bfloat16
  enforce_eager: true
  env: {VLLM_CPU_KVCACHE_SPACE: "1"}
  start_minutes: 6
"""
#: Tried in this order; the last fits every machine.
KINDS = (
    Kind(
        "a GB10, whose memory CPU and GPU share",
        lambda here: any("GB10" in gpu.name for gpu in here.gpus),
        "hardware: gb10\nmodel_shape: gemma-4-26B-A4B-it\n"
        + _DOCKER.format(**_26B, share="0.5   # more can hang this machine"),
        600,
        "[1, 2, 4, 7]",
        2,
        "{start_s: 240, tok_s: 40}",
    ),
    Kind(
        "a GPU of 40 GiB or more",
        lambda here: _gib(here) >= 40,
        "model_shape: gemma-4-26B-A4B-it\n" + _DOCKER.format(**_26B, share="0.9"),
        600,
        "[1, 2, 4, 7]",
        2,
        "{start_s: 240, tok_s: 120}",
    ),
    Kind(
        "a GPU of 20 GiB or more",
        lambda here: _gib(here) >= 20,
        "model_shape: gemma-4-E4B-it\n" + _DOCKER.format(**_E4B, share="0.9"),
        600,
        "[1, 2, 4]",
        2,
        "{start_s: 180, tok_s: 80}",
    ),
    Kind(
        "no GPU that holds a Gemma 4: the built-in miniature, which shows how a report looks and nothing about Gemma 4",
        lambda here: True,
        "stamp: miniature\n" + _MINIATURE,
        64,
        "[2, 4]",
        1,
        "{start_s: 35, tok_s: 60}",
        greedy=48,
    ),
)

_FILE = """\
# {name}: is a drafter faster on my machine, for my prompts? Written for {title}.
# Look at it:   python -m analysis plan {name}        (launches, measurements, minutes; starts nothing)
# Check it:     python -m analysis preflight {name}
# Run it:       make study PARAMS={path}
study: {name}
title: {name}, my own prompts
{models}
# Your prompts: JSONL (a line is {{"prompt": "…"}} or {{"messages": […]}}, with "id" and "max_tokens" if wanted), CSV with a
# column prompt, one .txt, or a folder of .txt. Names of data/prompts.yaml may stand beside them: py_code, ja_finance, …
workloads:
  - {{name: mine, file: {prompts}, title: My prompts, max_tokens: {tokens}}}   # sample: 50 takes so many, by the seed
publish_text: true           # false: prompts and answers stay out of records, notebooks and page

k_values: {k_values}         # drafts per step to compare
k: 4                         # the one that the chapters on load and on output look at
concurrency: [1, 4]          # requests at the same time
concurrency_rounds: 1
repeats: 2                   # 2 or more: how far the baseline differs from itself
launches: {launches}                  # 2 or more: an interval for every speedup
timing_tokens: {tokens}           # length of an answer where no max_tokens says otherwise
greedy_tokens: {greedy}            # is the output still the same? 0 leaves it out
code_programs: 0
temperature: 0.7

# Further questions, each off until its line is used:
# context_tokens: [512, 4096]          # prompts filled to these lengths (chapter 10); context_document: my-manual.txt
# output_tokens: [32, 256]             # answers of these lengths (chapter 10)
# speculators: [mtp, {{method: ngram, k_values: [4, 8]}}]   # other ways of proposing tokens (chapter 11)
expect: {expect}   # for the estimate of minutes alone
"""


def write(name: str, here: machine.Machine | None = None, folder: Path = PARAMS) -> list[Path]:
    """Write the study file of this name, and a prompt file beside it unless there is one; what was written.

    Raises
    ------
    ParamsError
        The name cannot be one, or there is such a study.
    """
    if not NAME.fullmatch(name):
        raise ParamsError(
            f"'{name}' cannot be the name of a study.",
            why="It is the name of files and folders: small letters, digits, - and .",
            fix="Try: python -m analysis new my-study",
        )
    file, prompts = folder / f"{name}.yaml", folder / f"{name}.prompts.jsonl"
    if file.exists():
        raise ParamsError(
            f"There is a study {name}.", why=f"{_shown(file)} is there.", fix="Choose another name, or edit that file."
        )
    kind = next(kind for kind in KINDS if kind.fits(here or machine.look()))
    about = {
        key: getattr(kind, key) for key in ("title", "models", "tokens", "k_values", "launches", "expect", "greedy")
    }
    written = [file]
    if not prompts.exists():
        lines = (json.dumps(row, ensure_ascii=False) for row in EXAMPLES)
        prompts.write_text("\n".join(lines) + "\n", encoding="utf-8")
        written.append(prompts)
    text = _FILE.format(name=name, path=_shown(file), prompts=_shown(prompts), **about)
    file.write_text(text, encoding="utf-8")
    return written


def _shown(path: Path) -> str:
    """As a study file names it: from the checkout where it lies there."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
