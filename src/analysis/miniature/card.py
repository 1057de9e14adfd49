"""Model cards: what a folder holds, how it was made, what it does, and the SHA-256 of every file in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .corpus import SPEAKERS, Prompts, documents

CARD = "README.md"
# What each folder is; the first of a pair carries the results.
FOLDERS = {
    "dense": ("Dense target after the chat stage.", "dense"),
    "dense-assistant": ("MTP drafter of the dense target.", "dense"),
    "dense-assistant-centroid": (
        "The same drafter with a centroid head (`use_ordered_embeddings`). vLLM 0.32 captures CUDA graphs for this head on "
        "every platform: on a CPU it starts only where that step is passed over.",
        "dense",
    ),
    "dense-base": (
        "The dense target early in its base stage, before the chat stage; the same seed, trained once more. It has no chat "
        "template and knows no turns: it is here to show what a drafter does on a base model. Do not use it for anything "
        "else.",
        "dense",
    ),
    "moe": (
        "Mixture-of-experts target: 16 experts, two active, beside a dense MLP; depth and width of `dense`. At this size a "
        "step's time on a CPU is the server's own work, not the reading of weights: that more tokens touch more experts "
        "changes its routing, and hardly its speed. The study `h200-shapes` shows the full-size effect.",
        "moe",
    ),
    "moe-assistant": ("MTP drafter of the MoE target.", "moe"),
}
CHECKED = {"dense": "dense", "moe": "moe", "dense-base": "dense-base", "dense-assistant-centroid": "dense-centroid"}
FINGERPRINT_DOCUMENTS = 100


def write_cards(home: Path, prompts: Mapping[str, Prompts]) -> None:
    """(Re)write the card of every model folder under `home`."""
    for name in FOLDERS:
        folder = home / name
        if folder.is_dir():
            (folder / CARD).write_text(render(home, name, prompts), encoding="utf-8")


def render(home: Path, name: str, prompts: Mapping[str, Prompts]) -> str:
    """The card of one folder, from its configuration, training notes, checks and files."""
    says, kind = FOLDERS[name]
    training = json.loads((home / kind / "training.json").read_text(encoding="utf-8"))
    parts = [front(name, says), network(home / name), data(training, prompts), recipe(name, training)]
    check = home / "checks" / f"{CHECKED.get(name)}.json"
    if check.exists():
        parts += results(json.loads(check.read_text(encoding="utf-8")))
    parts.append(files(home / name))
    return "\n\n".join(parts) + "\n"


def front(name: str, says: str) -> str:
    return (
        f"---\nlicense: apache-2.0\nlibrary_name: transformers\n---\n\n# Miniature: {name}\n\n{says}\n\n"
        "**This is not Gemma 4 and never stands for it.** It has Gemma 4's architecture and its multi-token prediction at "
        "about one thousandth of the size, was trained from scratch on text that a script makes up, and knows nothing. It "
        "exists so that the study can be run, tested and understood without a GPU. No number measured with it says "
        "anything about the speed, the acceptance or the quality of Gemma 4. The market figures in its answers are random."
    )


def network(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config", config)
    rows = [("architecture", config["architectures"][0]), ("parameters", f"{parameters(folder):,}")]
    for key in ("hidden_size", "num_hidden_layers", "intermediate_size", "num_experts", "vocab_size", "sliding_window"):
        if text.get(key):
            rows.append((key, text[key]))
    if "backbone_hidden_size" in config:
        rows += [(key, config[key]) for key in ("backbone_hidden_size", "use_ordered_embeddings")]
    return "## Network\n\n" + markdown(("what", "value"), rows)


def data(training: Mapping[str, Any], prompts: Mapping[str, Prompts]) -> str:
    recipe = training["recipe"]
    return (
        f"## Data\n\nThree grammars of our own (`src/analysis/miniature/`), seed {recipe['seed']}, "
        f"{recipe['documents']:,} documents a workload: Python answers about monthly returns, English paragraphs on "
        "quantitative tightening, Japanese paragraphs on megabanks. No downloaded text. Prompts marked `held_out` in "
        "`data/prompts.yaml` are never emitted.\n\n"
        f"SHA-256 of the first {FINGERPRINT_DOCUMENTS} documents of each workload: `{fingerprint(recipe['seed'], prompts)}`"
    )


def recipe(name: str, training: Mapping[str, Any]) -> str:
    stages = ("base_kept",) if name.endswith("-base") else ("drafter",) if "assistant" in name else ("base", "chat")
    lines = ["## Training", ""]
    lines.append(
        f"`python -m analysis.miniature train --kind {training['kind']}`; {training['device']}, torch {training['torch']}; "
        f"seconds by stage (target: base and chat together): {json.dumps(training['seconds'])}."
    )
    for stage in stages:
        plan, curve = training["recipe"][stage.removesuffix("_kept")], training["curves"][stage]
        if not curve:
            continue
        shown = curve[:: max(1, len(curve) // 8)]
        shown += [] if shown[-1] is curve[-1] else [curve[-1]]
        lines += [
            "",
            f"Stage `{stage}`: {curve[-1]['step'] + 1} steps of {plan['batch']} documents, AdamW, peak rate {plan['peak']}. Loss:",
            "",
            markdown(("step", *[p["step"] for p in shown]), [("loss", *[f"{p['loss']:.3f}" for p in shown])]),
        ]
        if stage == "drafter":
            last = curve[-1]
            agreement = ", ".join(f"{last[f'agree{d}']:.2f}" for d in range(1, plan["depths"] + 1))
            lines += ["", f"Argmax agreement with the target at draft depths 1 to {plan['depths']}: {agreement}."]
    return "\n".join(lines)


def results(check: Mapping[str, Any]) -> list[str]:
    """Acceptance by workload and position, programs, and what the texts look like."""
    rows = []
    for k, arm in check["arms"].items():
        for row in arm:
            if row["drafts"]:
                p, c = (" ".join(f"{x:.2f}" for x in row[key]) for key in "pc")
                rows.append((row["workload"], row["prompts"], k, f"{row['al']:.2f}", p, c, row["drafts"]))
    header = ("workload", "prompts", "K", "AL", "p_i", "c_i", "drafts")
    found = [
        "## Acceptance\n\nvLLM's CPU server, chat endpoint, temperature 0.7, one stream, "
        f"{check['tokens']} tokens a request, one launch an arm (`python -m analysis.miniature check`). Speed is measured "
        "by the study, not here.\n\n" + markdown(header, rows)
    ]
    if check["programs"]:
        lines = [
            (k, seen["asked"], seen["parsed"], seen["ran"], seen["passed"]) for k, seen in check["programs"].items()
        ]
        found.append("## Programs in the sandbox\n\n" + markdown(("K", "asked", "parsed", "ran", "passed"), lines))
    samples = ["## Samples"]
    for workload, texts in check.get("samples", {}).items():
        samples.append(f"### {workload}")
        samples += [f"````text\n{text.strip()}\n````" for text in texts]
    return [*found, "\n\n".join(samples)]


def files(folder: Path) -> str:
    rows = [(path.name, f"{path.stat().st_size:,}", f"`{digest(path)}`") for path in listed(folder)]
    return "## Files\n\n" + markdown(("file", "bytes", "SHA-256"), rows)


def listed(folder: Path) -> list[Path]:
    """Every file of a model folder but its card."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name != CARD)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fingerprint(seed: int, prompts: Mapping[str, Prompts]) -> str:
    """SHA-256 over the first documents of each workload, as chat: changes with the grammars, the prompts or the seed."""
    total = hashlib.sha256()
    for workload in SPEAKERS:
        for item in documents(workload, range(FINGERPRINT_DOCUMENTS), seed, prompts[workload]):
            total.update(item.chat().encode())
    return total.hexdigest()


def parameters(folder: Path) -> int:
    """Numbers in the weights file (buffers of one element apart), from its header alone."""
    with (folder / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    sizes = []
    for tensor in header.values():
        count = 1
        for width in tensor["shape"]:
            count *= width
        sizes.append(count if tensor["dtype"] == "BF16" else 0)
    return sum(size for size in sizes if size > 1)


def markdown(header: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A table in Markdown."""
    head = [str(cell) for cell in header]
    body = ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *body])
