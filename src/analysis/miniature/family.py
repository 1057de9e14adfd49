"""The whole recipe: corpus → tokenizer → base target → chat target → drafter → centroid head → folders."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from . import rehearsal, rows, shapes
from .centroids import CentroidDrafter, CentroidHead, centroid_loss, cluster
from .corpus import BOS, END, SPEAKERS, TURN, Prompts
from .export import write, write_json
from .network import Drafter, Target
from .training import Schedule, adam, batch_stream, clip, drafter_loss, span, target_loss, train


@dataclass(frozen=True)
class Recipe:
    """Sizes of one training; the defaults made the committed dense weights."""

    seed: int = 20260711
    documents: int = 24_000
    length: int = 640
    base: Schedule = Schedule(steps=300, batch=64, decay_from=1.0)
    base_kept: int = 40  # the base model is the target after so many steps of its base stage
    chat: Schedule = Schedule(steps=1600, batch=64, decay_from=0.3)
    drafter: Schedule = Schedule(steps=800, batch=48)
    centroid_steps: int = 200
    copies: int = 48
    sampled: int = 288


PLAIN_SHARE = 3 / 19  # of the documents, also read as plain text: the base stage is 300 of 1900 steps
RECIPES = {
    "dense": Recipe(),
    # The same corpus; no base stage of its own, and fewer steps.
    "moe": Recipe(
        base=Schedule(steps=0, batch=64, decay_from=1.0),
        chat=Schedule(steps=800, batch=64, decay_from=0.3),
        drafter=Schedule(steps=350, batch=48),
    ),
}
TINY = Recipe(
    documents=40,
    length=640,
    base=Schedule(steps=2, batch=2, warm_up=1),
    chat=Schedule(steps=2, batch=2, warm_up=1),
    drafter=Schedule(steps=2, batch=2, warm_up=1),
    centroid_steps=2,
    copies=2,
    sampled=24,
)


class Family:
    """One run of the recipe in a work folder; every stage is kept there and skipped when it is complete."""

    def __init__(self, kind: str, recipe: Recipe, prompts: dict[str, Prompts], work: Path, device: str, workers: int):
        self.kind, self.recipe, self.prompts = kind, recipe, prompts
        self.work, self.device, self.workers = work, device, workers
        self.seconds: dict[str, float] = {}
        self.curves: dict[str, list] = {}
        torch.manual_seed(recipe.seed)
        torch.backends.cuda.matmul.allow_tf32 = True

    def corpus(self) -> None:
        """Tokenizer, plain rows and chat rows."""
        self.work.mkdir(parents=True, exist_ok=True)
        places = [self.work / name for name in ("tokenizer.json", "plain.npz", "chat.npz")]
        recipe = self.recipe
        if not all(place.exists() for place in places):
            found = rows.write_corpus(recipe.documents, recipe.seed, self.prompts, self.workers)
            tokenizer = rows.learn_tokenizer(found)
            plain = found[: int(len(found) * PLAIN_SHARE)]
            rows.save(rows.to_rows(tokenizer, plain, chat=False, length=recipe.length), places[1])
            rows.save(rows.to_rows(tokenizer, found, chat=True, length=recipe.length), places[2])
            tokenizer.save(str(places[0]))
        self.tokenizer = Tokenizer.from_file(str(places[0]))
        self.plain, self.chat = rows.load(places[1]), rows.load(places[2])

    def target(self) -> Target:
        """The base stage on plain documents, kept as it is then, and the chat stage that goes on from it."""
        recipe, shape = self.recipe, shapes.target(self.kind)
        target = Target(shape).to(self.device)
        self.compile(target)
        kept = replace(recipe.base, steps=min(recipe.base_kept, recipe.base.steps))
        # the base stage in two parts, with the same rates and batches as in one: its beginning is kept as a model
        for stage, plan, data, offset in (
            ("base_kept", kept, self.plain, 0),
            ("base", recipe.base, self.plain, 0),
            ("chat", recipe.chat, self.chat, 1),
        ):
            loss = target_loss(target, plan.balance if self.kind == "moe" else 0.0)
            state = self.work / f"{self.kind}-{stage}.pt"
            if stage == "base" and not state.exists():
                shutil.copyfile(self.work / f"{self.kind}-base_kept.pt", state)
            self.curves[stage] = train(
                target, loss, data, plan, recipe.seed + offset, self.device, state, f"{self.kind} {stage}"
            )
            if stage == "base_kept" and plan.steps:
                write(self.work / f"{self.kind}-base", shape, target, self.tokenizer, chat=False)
        write(self.work / self.kind, shape, target, self.tokenizer, chat=True)
        return target.requires_grad_(False)

    def drafter(self, target: Target) -> Drafter:
        recipe, shape = self.recipe, shapes.drafter()
        torch.manual_seed(recipe.seed + 2)
        drafter = Drafter(shape).to(self.device)
        self.compile(drafter)
        loss = drafter_loss(drafter, target, recipe.drafter)
        state = self.work / f"{self.kind}-drafter.pt"
        self.curves["drafter"] = train(
            drafter, loss, self.chat, recipe.drafter, recipe.seed + 3, self.device, state, f"{self.kind} drafter"
        )
        write(self.work / f"{self.kind}-assistant", shape, drafter, self.tokenizer, chat=False)
        return drafter.requires_grad_(False)

    def compile(self, model: Target | Drafter) -> None:
        """Compiled layers train about three times as fast on a GPU; MINIATURE_EAGER=1 goes without."""
        if self.device == "cuda" and not os.environ.get("MINIATURE_EAGER"):
            for layer in model.model.layers:
                layer.compile(dynamic=False)

    def uncompiled(self, target: Target, drafter: Drafter) -> tuple[Target, Drafter]:
        """Copies for changing shapes."""
        copies = Target(shapes.target(self.kind)).to(self.device), Drafter(shapes.drafter()).to(self.device)
        for copy, model in zip(copies, (target, drafter), strict=True):
            copy.load_state_dict(model.state_dict())
            copy.requires_grad_(False).eval()
        return copies

    def centroid_head(self, target: Target, drafter: Drafter) -> None:
        """Clusters of the drafter's embedding, then a short training of the centroids alone."""
        recipe = self.recipe
        means, ordering = cluster(
            drafter.model.embed_tokens.weight.detach(), shapes.CENTROIDS, rounds=8, seed=recipe.seed
        )
        head = CentroidHead(means, ordering).to(self.device)
        optimiser = adam(head, Schedule(steps=1, batch=1, peak=3e-3), self.device)
        batches = batch_stream(self.chat, min(16, recipe.chat.batch), recipe.seed + 4, 0, self.device)
        for _ in range(recipe.centroid_steps):
            ids, first, last = next(batches)
            with torch.no_grad(), torch.autocast(self.device, dtype=torch.bfloat16):
                hidden, shared, _ = target(ids)
                out, _ = drafter(target.embed(ids)[:, 1:], hidden[:, :-1], clip(shared, ids.shape[1] - 1))
                out = out[span(ids.shape[1] - 1, first - 1, last - 2, ids.device)].float()
            centroid_loss(drafter, head, out).backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        folder = self.work / f"{self.kind}-assistant-centroid"
        write(folder, shapes.drafter(centroids=True), CentroidDrafter(drafter, head), self.tokenizer, chat=False)

    def rehearse(self, target: Target, drafter: Drafter, depths: int = 8) -> dict[str, dict]:
        """Acceptance by workload, for a published and a held-out prompt, from sampled texts."""
        found: dict[str, dict] = {}
        stop = self.tokenizer.token_to_id(END)
        for workload in SPEAKERS:
            for label, text in (
                ("published", self.prompts[workload].listed[0]),
                ("held out", sorted(self.prompts[workload].held_out)[0]),
            ):
                turn = f"{BOS}{TURN}user\n{text}{END}\n{TURN}model\n"
                prompt = torch.tensor(self.tokenizer.encode(turn, add_special_tokens=False).ids, device=self.device)
                ids = rehearsal.sample(target, prompt, self.recipe.copies, self.recipe.sampled, 0.7, self.recipe.seed)
                stops = [
                    next((at for at in range(len(prompt), ids.shape[1]) if row[at] == stop), ids.shape[1])
                    for row in ids.tolist()
                ]
                guesses = rehearsal.drafts(target, drafter, ids, depths)
                seen = rehearsal.acceptance(*rehearsal.walk(ids, guesses[:4], len(prompt), stops))
                eight = rehearsal.acceptance(*rehearsal.walk(ids, guesses, len(prompt), stops))
                found[f"{workload} {label}"] = {"k4": seen, "k8": eight}
                print(
                    workload,
                    label,
                    "AL4",
                    round(seen["al"], 2),
                    seen["p"],
                    seen["c"],
                    "AL8",
                    round(eight["al"], 2),
                    flush=True,
                )
                print(self.tokenizer.decode(ids[0, len(prompt) : stops[0]].tolist())[:700], flush=True)
        return found

    def run(self, centroids: bool, rehearse: bool) -> None:
        """Every stage, timed; leaves ``<kind>.training.json`` beside the folders."""
        self.timed("corpus", self.corpus)
        target = self.timed("target", self.target)
        drafter = self.timed("drafter", lambda: self.drafter(target))
        target, drafter = self.uncompiled(target, drafter)
        if centroids:
            self.timed("centroids", lambda: self.centroid_head(target, drafter))
        self.note({})
        if rehearse:
            self.note(self.timed("rehearsal", lambda: self.rehearse(target, drafter)))

    def timed(self, name: str, stage: Callable[[], Any]) -> Any:
        begun = time.monotonic()
        result = stage()
        self.seconds[name] = round(time.monotonic() - begun, 1)
        print(f"{name}: {self.seconds[name]} s", flush=True)
        return result

    def note(self, rehearsed: dict) -> None:
        """What the model card tells of the training."""
        write_json(
            self.work / f"{self.kind}.training.json",
            {
                "kind": self.kind,
                "recipe": asdict(self.recipe),
                "device": torch.cuda.get_device_name() if self.device == "cuda" else "CPU",
                "torch": torch.__version__,
                "seconds": self.seconds,
                "curves": self.curves,
                "rehearsal": rehearsed,
            },
        )
