"""``python -m analysis.miniature corpus|train|draft|check|card``: make the miniature models and look at them."""

from __future__ import annotations

import argparse
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import yaml

from ..places import DATA
from .corpus import SPEAKERS, document, prompts_from

HOME = DATA / "miniature"
WORK = DATA / "cache" / "miniature"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis.miniature", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    corpus = commands.add_parser("corpus", help="print documents of the corpus")
    corpus.add_argument("--seed", type=int, default=0)
    corpus.add_argument("--count", type=int, default=1, help="documents a workload")
    train = commands.add_parser("train", help="train a pair from scratch, or go on where it stopped")
    train.add_argument("--kind", choices=("dense", "moe"), default="dense")
    train.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    train.add_argument("--work", type=Path, default=WORK, help="checkpoints and results; a later run goes on from them")
    train.add_argument("--documents", type=int, help="documents a workload")
    train.add_argument("--steps", type=int, nargs=3, metavar=("BASE", "CHAT", "DRAFTER"))
    train.add_argument("--centroids", action="store_true", help="also a drafter with the centroid head")
    train.add_argument("--rehearse", action="store_true", help="acceptance at the end, without a server (slow)")
    train.add_argument("--tiny", action="store_true", help="two steps a stage: only shows that the path works")
    draft = commands.add_parser("draft", help="train the small draft model, or go on where it stopped")
    draft.add_argument("--home", type=Path, default=HOME, help="folder of the models")
    draft.add_argument("--work", type=Path, default=WORK, help="checkpoints; a later run goes on from them")
    check = commands.add_parser("check", help="serve a pair and look at acceptance, speed and programs")
    check.add_argument("--pair", choices=("dense", "dense-centroid", "moe", "dense-base"), default="dense")
    check.add_argument("--k", type=int, nargs="+", default=[0, 4], help="drafts a step; 0 is the baseline")
    check.add_argument("--repeats", type=int, default=2, help="requests a prompt")
    check.add_argument("--tokens", type=int, default=192, help="tokens a request")
    check.add_argument("--programs", type=int, default=0, help="programs to run in the sandbox, an arm")
    check.add_argument("--home", type=Path, default=HOME, help="folder of the models")
    check.add_argument(
        "--save",
        action="store_true",
        help="keep the result for the model card; arms that are kept already and not looked at again stay",
    )
    commands.add_parser("card", help="write the model cards").add_argument("--home", type=Path, default=HOME)
    options = parser.parse_args(arguments)
    listing = yaml.safe_load((DATA / "prompts.yaml").read_text(encoding="utf-8"))
    prompts = prompts_from(listing)
    if options.command == "corpus":
        for workload in SPEAKERS:
            for index in range(options.count):
                print(document(workload, prompts[workload], random.Random(f"{options.seed}/{workload}/{index}")).chat())
    if options.command == "train":
        run_training(options, prompts)
    if options.command == "draft":
        from .draft import make

        make(options.home / "dense-draft", options.home / "dense" / "tokenizer.json", prompts, options.work)
    if options.command == "check":
        run_check(options, prompts)
    if options.command == "card":
        from .card import write_cards

        write_cards(options.home, prompts)
    return 0


def run_training(options: argparse.Namespace, prompts: dict) -> None:
    """Training needs torch and transformers; the other commands start without them."""
    import torch

    from .family import RECIPES, TINY, Family

    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    recipe = TINY if options.tiny else RECIPES[options.kind]
    if options.documents:
        recipe = replace(recipe, documents=options.documents)
    if options.steps:
        base, chat, drafter = options.steps
        recipe = replace(
            recipe,
            base=replace(recipe.base, steps=base),
            chat=replace(recipe.chat, steps=chat),
            drafter=replace(recipe.drafter, steps=drafter),
        )
    Family(options.kind, recipe, prompts, options.work, device, os.cpu_count() or 1).run(
        options.centroids, options.rehearse
    )


def run_check(options: argparse.Namespace, prompts: dict) -> None:
    from .check import check
    from .export import write_json

    texts = {workload: (list(found.listed), sorted(found.held_out)) for workload, found in prompts.items()}
    result = check(options.home, options.pair, options.k, texts, options.repeats, options.tokens, options.programs)
    if options.save:
        place = options.home / "checks" / f"{options.pair}.json"
        place.parent.mkdir(exist_ok=True)
        if place.exists():
            before = json.loads(place.read_text(encoding="utf-8"))
            for part in ("arms", "programs"):
                result[part] = dict(sorted({**before[part], **result[part]}.items()))
        write_json(place, result)
        print(f"kept in {place.name}")


if __name__ == "__main__":
    raise SystemExit(main())
