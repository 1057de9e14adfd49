"""A `Study` -> its arms, launches and cells, with an estimate of minutes. Nothing is started here.

An arm is one server configuration; a cell (arm × workload × concurrency × repeat, within an experiment and a
launch) is the smallest thing measured. A cell's identity is a hash of everything that defines it, so a record
is either of exactly this cell or of another one.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle
from typing import Any

from analysis.errors import ParamsError
from analysis.study import axes, engine_k, graphs, speculator
from analysis.study.axes import Context
from analysis.study.own import workload
from analysis.study.params import Model, Server, Study
from analysis.study.prompts import Prompt
from analysis.study.speculator import NONE, Speculator

#: What each chapter needs, as (experiment, which arms). ``main`` is the speculating arm at the study's K.
NEEDS: dict[str, tuple[tuple[str, str], ...]] = {
    "setup": (),
    "baseline": (("timing", "baseline"),),
    "mtp": (("timing", "baseline"), ("timing", "main")),
    "k_sweep": (("timing", "all"),),
    "concurrency": (("concurrency", "all"),),
    "acceptance": (("timing", "all"),),
    "generated_python": (("code", "baseline"), ("code", "main")),
    "losslessness": (("greedy", "baseline"), ("greedy", "main")),
    "methods": (("timing", "all"),),
    "thinking": (("thinking", "all"),),
    "context": (("context", "all"), ("output", "all")),
    "everything": tuple(
        (e, "all") for e in ("timing", "concurrency", "code", "greedy", "raw", "context", "output", "thinking")
    ),
}

#: Chapters of optional axes: a study without the axis has no measurements for them, and that is no fault.
OPTIONAL = {"context", "methods", "thinking"}

#: Fields of a server that do not decide how its arm behaves, and so are no part of the arm's identity.
NOT_BEHAVIOUR = {
    "port",
    "host",
    "start_minutes",
    "graphs",
    "memory_floor_gib",
    "container_name",
    "engine",
    "request_metrics",
    "serve",
    "order",
    "allow",
    "patch",
}


@dataclass(frozen=True)
class Arm:
    """One server configuration. ``k`` is a number of tokens: 0 for the baseline, whose speculator is none."""

    name: str
    k: int
    speculator: Speculator
    variant: str
    target: Model
    drafter: Model | None
    server: Server
    speculative: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Hash of what decides the arm's behaviour: models, K, flags, image, environment; not port or time limit."""
        # without defaults: a field that the study gains later leaves the identity of what was measured before
        server = self.server.model_dump(mode="json", exclude=NOT_BEHAVIOUR, exclude_defaults=True)
        identity = {
            "target": self.target.fingerprint,
            "drafter": self.drafter.fingerprint if self.drafter and self.speculator.needs_drafter else None,
            "k": self.k,
            "server": server,
            "speculative": self.speculative if self.speculator.speculates else {},
        }
        return _hash(identity)


@dataclass(frozen=True)
class Sampling:
    temperature: float
    top_p: float
    max_tokens: int
    ignore_eos: bool
    top_k: int | None = None  # None: not sent; the server takes the checkpoint's own value
    min_p: float | None = None
    thinking: bool | None = None  # None: the template's own default, nothing is sent

    def identity(self) -> dict[str, Any]:
        """What stands in a cell's identity: values that are not sent are left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Request:
    """One chat completion to be sent: prompt, seed, and the stream that sends it."""

    prompt_id: str
    text: str
    seed: int
    stream: int
    messages: tuple[tuple[str, str], ...] = ()  # (role, content) of a whole conversation; its last one is the text

    def identity(self) -> dict[str, Any]:
        """What stands in a cell's identity: a request of one text has no messages."""
        return {key: value for key, value in asdict(self).items() if key != "messages" or value}

    def conversation(self) -> list[dict[str, str]]:
        """The messages that are sent: the text as the user's, at the end of the conversation if there is one."""
        return [*({"role": r, "content": c} for r, c in self.messages[:-1]), {"role": "user", "content": self.text}]


@dataclass(frozen=True)
class Cell:
    """The smallest thing measured, resumed and reported."""

    arm: Arm
    launch: int
    experiment: str
    workload: str
    concurrency: int
    repeat: int
    sampling: Sampling
    requests: tuple[Request, ...]
    endpoint: str = "chat"
    context: Context | None = None  # each prompt is filled to its length when the server can count tokens

    @property
    def id(self) -> str:
        return _hash(
            {
                "arm": self.arm.id,
                "launch": self.launch,
                "experiment": self.experiment,
                "concurrency": self.concurrency,
                "repeat": self.repeat,
                "sampling": self.sampling.identity(),
                "requests": [r.identity() for r in self.requests],
                "endpoint": self.endpoint,
                **({"context": self.context.identity()} if self.context else {}),
            }
        )

    @property
    def label(self) -> str:
        words = [self.arm.name, self.experiment, self.workload]
        words += [f"{self.context.tokens} tokens of context"] if self.context else []
        words += [f"{self.sampling.max_tokens} tokens of answer"] if self.experiment == "output" else []
        words += [f"thinking {_on(self.sampling.thinking)}"] if self.sampling.thinking is not None else []
        words += [f"{self.concurrency} stream{'s' * (self.concurrency > 1)}", f"repeat {self.repeat}"]
        return " · ".join(words)

    @property
    def tokens(self) -> int:
        """Upper bound of completion tokens."""
        return self.sampling.max_tokens * len(self.requests)


def _on(value: bool) -> str:
    return "on" if value else "off"


@dataclass(frozen=True)
class Plan:
    """All arms and cells of a study, in the order they would be measured."""

    study: Study
    arms: tuple[Arm, ...]
    cells: tuple[Cell, ...]

    def launches(self) -> list[tuple[Arm, int]]:
        """(arm, launch number) in order: seeded shuffle of the arms within each replicate, baseline first.

        With two or more replicates the last one runs its baseline last, so that drift is bracketed.
        """
        order: list[tuple[Arm, int]] = []
        for number in range(1, self.study.launches + 1):
            rng = random.Random(f"{self.study.seed}-{number}")
            baselines = [a for a in self.arms if not a.speculator.speculates]
            others = [a for a in self.arms if a.speculator.speculates]
            rng.shuffle(others)
            last = number == self.study.launches and number > 1
            order += [(a, number) for a in (others + baselines if last else baselines + others)]
        wanted = {(c.arm.id, c.launch) for c in self.cells}
        return [(arm, number) for arm, number in order if (arm.id, number) in wanted]

    def of(self, arm: Arm, launch: int) -> list[Cell]:
        """The cells of one launch, in the seeded order in which they are measured."""
        cells = [c for c in self.cells if c.arm.id == arm.id and c.launch == launch]
        random.Random(f"{self.study.seed}-{launch}-cells").shuffle(cells)
        return sorted(cells, key=lambda c: (c.experiment != "timing", c.experiment, c.repeat))

    def needed(self, chapter: str) -> list[Cell]:
        """The cells a chapter reads. Raises KeyError for an unknown chapter."""
        wanted = NEEDS[chapter]
        if chapter == "methods" and len({a.speculator for a in self.arms if a.speculator.speculates}) < 2:
            return []  # nothing to compare
        return [
            c
            for c in self.cells
            if any(c.experiment == e and _matches(c.arm, which, self.study.k) for e, which in wanted)
        ]

    def minutes(self) -> float:
        """Estimated minutes from ``expect``: start of each launch, tokens at the expected speed and batch gain, contexts."""
        expect = self.study.expect
        seconds = expect.start_s * len(self.launches())
        for cell in self.cells:
            gain = 1.5 if cell.arm.speculator.speculates else 1.0
            batch = cell.concurrency**0.6
            seconds += cell.tokens / (expect.tok_s * gain * batch)
            if cell.context:
                seconds += cell.context.tokens * len(cell.requests) / expect.prefill_tok_s
        return seconds / 60


def make(study: Study) -> Plan:
    """Expand a study into its plan. Raises ParamsError for an unknown workload, two arms that are the same, and
    synthetic acceptance rates that do not reach an arm's K."""
    arms = tuple(_arms(study))
    _all_differ(arms)
    cells = tuple(
        cell for launch in range(1, study.launches + 1) for arm in arms for cell in _cells(study, arm, launch)
    )
    for cell in cells:
        limit = cell.arm.server.max_model_len
        if limit and cell.sampling.max_tokens >= limit:
            raise ParamsError(
                f"An answer of {cell.sampling.max_tokens} tokens ({cell.workload}) does not fit server.max_model_len ({limit}).",
                why="It also holds the prompt.",
                fix="Lower max_tokens in the prompt file or at the workload, or raise server.max_model_len.",
            )
    return Plan(study, arms, cells)


def _arms(study: Study) -> Iterable[Arm]:
    for variant in study.families():
        settings = {**study.speculative, **variant.speculative}
        drafter = variant.drafter or study.drafter
        method = speculator.of_settings(settings, drafter.model if drafter else None)
        ks = variant.k_values if variant.k_values is not None else _k_values(study)
        if variant.name == "main":
            ks = sorted({*ks, study.k})
        for how, k in (*(((NONE, 0),) if variant.baseline else ()), *((method, k) for k in ks)):
            name = how.arm(k, variant.name)
            arm = Arm(
                name=name,
                k=k,
                speculator=how,
                variant=variant.name,
                target=variant.target or study.target,
                drafter=drafter if method.needs_drafter else None,
                server=study.server_of(variant),
                speculative=_speculative(settings, k, name),
            )
            engine_k.check(arm, lossy=study.lossy, greedy_tokens=study.greedy_tokens, hardware=study.hardware)
            yield _covered(arm, study)


def _covered(arm: Arm, study: Study) -> Arm:
    """The arm with a graph size that covers the study's loads, where it asks for that and the engine's own does not."""
    if arm.server.graphs == "engine":
        return arm
    outside = graphs.uncovered(arm, study.concurrency, study.hardware)
    fixed = arm.server.max_cudagraph_capture_size is not None
    if fixed and (outside or graphs.cut_size(arm)):
        raise ParamsError(
            f"The arm {arm.name} asks for graphs: cover, and for a size that does not cover.",
            why=graphs.sentence(arm, study.concurrency, study.hardware) + ".",
            fix="Remove server.max_cudagraph_capture_size: cover works it out.",
        )
    if not outside:
        return arm
    if (size := graphs.covering(arm, study.concurrency)) is None:
        raise ParamsError(
            f"No size of captured graphs covers the arm {arm.name}.",
            why=graphs.sentence(arm, study.concurrency, study.hardware) + ".",
            fix="Raise these two, or leave out the largest loads.",
        )
    return replace(arm, server=arm.server.model_copy(update={"max_cudagraph_capture_size": size}))


def _speculative(settings: dict[str, Any], k: int, arm: str) -> dict[str, Any]:
    """An arm's settings: of a longer list of `synthetic_acceptance_rates` the first K, which are all that vLLM takes."""
    rates = settings.get("synthetic_acceptance_rates")
    if not k or not isinstance(rates, list):
        return settings
    if len(rates) < k:
        raise ParamsError(
            f"The arm {arm} drafts {k} tokens and has {len(rates)} synthetic_acceptance_rates.",
            why="The engine wants one rate for every position: the chance that all drafts up to it are accepted.",
            fix=f"Give at least {k} in speculative.synthetic_acceptance_rates, or remove K = {k} from k_values and k.",
        )
    return {**settings, "synthetic_acceptance_rates": rates[:k]}


def _all_differ(arms: tuple[Arm, ...]) -> None:
    seen: dict[str, Arm] = {}
    for arm in arms:
        if (other := seen.get(arm.name) or seen.get(arm.id)) is not None:
            same_server = f"baseline: false in the variant '{arm.variant}': the main baseline is its baseline"
            raise ParamsError(
                f"The arms {other.name} and {arm.name} (variants '{other.variant}' and '{arm.variant}') are the same.",
                why="They have one name." if other.name == arm.name else "They would be one server, measured once.",
                fix=f"Set {same_server}."
                if not arm.speculator.speculates and other.name != arm.name
                else f"Rename or remove the variant '{arm.variant}', or change what its server does.",
            )
        seen |= {arm.name: arm, arm.id: arm}


def _k_values(study: Study) -> tuple[int, ...]:
    return tuple(sorted({*study.k_values, study.k}))


def _cells(study: Study, arm: Arm, launch: int) -> Iterable[Cell]:
    main = not arm.speculator.speculates or arm.k == study.k
    lossy = engine_k.lossy(engine_k.of_arm(arm))
    first = main and launch == 1 and (arm.variant == "main" or lossy)  # quality is looked at once
    cut = {"top_k": study.top_k, "min_p": study.min_p}
    sampling = Sampling(study.temperature, study.top_p, study.timing_tokens, not study.natural_stop, **cut)
    for name in study.workloads:
        found = workload(study, name)
        prompts = found.choose(study.prompts)
        for repeat in range(1, study.repeats + 1):
            for length, same in _by_length(prompts, study.timing_tokens).items():
                own = replace(sampling, max_tokens=length)
                yield Cell(arm, launch, "timing", name, 1, repeat, own, _in_turn(study, same, repeat))
            if study.raw_endpoint:
                yield Cell(
                    arm, launch, "raw", name, 1, repeat, sampling, _in_turn(study, prompts, repeat), endpoint="raw"
                )
            for point in axes.points(study, found):
                ends = point.thinking is None and sampling.ignore_eos  # a thought has no length of its own
                length = replace(sampling, max_tokens=point.output_tokens, thinking=point.thinking, ignore_eos=ends)
                asked = _in_turn(study, prompts, repeat)
                yield Cell(arm, launch, point.experiment, name, 1, repeat, length, asked, context=point.context)
        if main or study.load_every_k:
            for level in study.concurrency:
                yield Cell(arm, launch, "concurrency", name, level, 1, sampling, _at_once(study, prompts, level))
        if first and found.check and study.code_programs:
            natural = Sampling(study.temperature, study.top_p, study.code_tokens, ignore_eos=False, **cut)
            programs = tuple(
                Request(prompts[0].id, prompts[0].text, study.seed + 1000 + i, 0) for i in range(study.code_programs)
            )
            yield Cell(arm, launch, "code", name, 1, 1, natural, programs)
        if first and study.greedy_tokens:
            greedy = Sampling(0.0, 1.0, study.greedy_tokens, ignore_eos=False)
            for repeat in (
                (1,) if arm.speculator.speculates else (1, 2)
            ):  # the second is the null control: the baseline again
                yield Cell(arm, launch, "greedy", name, 1, repeat, greedy, _in_turn(study, prompts, 0))


def _by_length(prompts: tuple[Prompt, ...], usual: int) -> dict[int, tuple[Prompt, ...]]:
    """Prompts by the length of their answers: a measurement has one length."""
    lengths = sorted({p.max_tokens or usual for p in prompts})
    return {n: tuple(p for p in prompts if (p.max_tokens or usual) == n) for n in lengths}


def _in_turn(study: Study, prompts: tuple[Prompt, ...], repeat: int) -> tuple[Request, ...]:
    """Every prompt once, one stream, in a seeded order that is the same for every arm (pairs stay comparable)."""
    requests = [Request(p.id, p.text, study.seed + repeat, 0, p.messages) for p in prompts]
    random.Random(f"{study.seed}-{repeat}-prompts").shuffle(requests)
    return tuple(requests)


def _at_once(study: Study, prompts: tuple[Prompt, ...], level: int) -> tuple[Request, ...]:
    """``concurrency_rounds`` requests per stream (at least four in all); each has its own seed, so no two texts are the same."""
    count = max(level, 4) * study.concurrency_rounds
    return tuple(
        Request(p.id, p.text, study.seed + 100 + i, i % level, p.messages)
        for i, p in zip(range(count), cycle(prompts), strict=False)
    )


def _matches(arm: Arm, which: str, k: int) -> bool:
    if not arm.speculator.speculates:
        return which in ("all", "baseline")
    return which == "all" or (which == "main" and arm.k == k)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]
