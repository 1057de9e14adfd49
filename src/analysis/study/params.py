"""What a study may say: the frozen `Study` with its models, server and variants. `study_file` reads it from YAML."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    PlainSerializer,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from analysis.frozen import Frozen
from analysis.places import inside
from analysis.study import axes, environment
from analysis.study.engine_k import WAYS, settings_of
from analysis.study.engines import ENGINES
from analysis.study.fingerprint import folder_hash
from analysis.study.own import PromptFile
from analysis.study.prompts import workloads
from analysis.study.sets import SETS
from analysis.study.speculator import MTP, NONE, SPECULATORS, of_settings
from analysis.visible import visible

Stamp = Literal["measured", "synthetic-acceptance", "miniature"]
#: Keys that studies gained after some were measured: unset, they are no part of a study's hash.
LATER = (
    "top_k",
    "min_p",
    "context_tokens",
    "context_document",
    "output_tokens",
    "engine_k",
    "batch_table",
    "speculators",
    "prompt_files",
    "thinking",
    "thinking_tokens",
)
K = Annotated[int, Field(ge=1, le=64, description="num_speculative_tokens of an arm that speculates")]


class Model(Frozen):
    """A checkpoint: a Hugging Face id (with a revision) or a folder, here or in the container."""

    model: Annotated[str, Field(min_length=1)]
    revision: str | None = None
    hub: str | None = Field(None, description="for a folder: the Hugging Face id that prefetch puts there")

    @property
    def known_as(self) -> str:
        """The name that may tell size and format: the Hugging Face id where one is given, else the folder."""
        return self.hub or self.model

    @property
    def local(self) -> bool:
        """True for a folder: it starts with a path sign or lies in the checkout."""
        return self.model.startswith(("/", "~", ".", "data/")) or os.path.isdir(inside(self.model))

    @property
    def fingerprint(self) -> str:
        """What the identity of a cell uses: SHA-256 over a folder's files, else ``id@revision``."""
        if self.local:
            found = folder_hash(str(inside(self.model)))
            return f"absent {self.model}" if found == "absent" else found
        return f"{self.model}@{self.revision or 'main'}"


class Patch(Frozen):
    """A file that a launch mounts over a faulty one of its image; `prefetch` gets it once."""

    url: str
    file: str = Field(description="where it is kept, such as $HOME/mtp_assets/gemma4_mtp.py")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="null: that of the first fetch"
    )


class Server(Frozen):
    """How an arm's server is started. A value of null leaves the flag to the engine's default."""

    backend: Literal["process", "docker", "external"] = "process"
    max_model_len: PositiveInt | None = None
    max_num_batched_tokens: PositiveInt | None = None
    max_num_seqs: PositiveInt | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    kv_cache_dtype: str | None = None
    graphs: Literal["engine", "cover"] = Field(
        "engine", description="cover: capture CUDA graphs up to (K + 1) x the largest concurrency; engine: its own rule"
    )
    max_cudagraph_capture_size: PositiveInt | None = Field(None, description="tokens per step; null: see graphs")
    dtype: str | None = None
    enforce_eager: bool = False
    prefix_caching: bool | None = False
    chunked_prefill: bool | None = None
    trust_remote_code: bool = False
    limit_mm_per_prompt: dict[str, int] | None = None
    tensor_parallel_size: PositiveInt | None = None
    load_format: str | None = None
    download_dir: str | None = None
    request_metrics: bool = Field(True, description="per-request speculation ledger (vLLM 0.32 and later)")
    served_model_name: str | None = None
    args: Annotated[tuple[str, ...], PlainSerializer(environment.shown_words)] = Field((), repr=False)
    env: Annotated[dict[str, str], PlainSerializer(environment.shown)] = Field(
        {}, repr=False, description="NAME: value, or NAME: $OTHER for a variable of the shell that starts the study"
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(0, description="0 = a free one")
    host: str | None = Field(
        None, description="address to listen on or to publish a container's port on; null = the loopback one"
    )
    serve: bool = Field(False, description="start by the command `vllm serve`, not by vLLM's module")
    order: tuple[str, ...] = Field((), description="flags that come first, in this order: a published launch's own")
    allow: tuple[str, ...] = Field(
        (),
        description="preflight checks that may fail, by their first words; acceptance: a drafter that accepts nothing",
    )
    patch: Patch | None = None
    start_minutes: PositiveFloat = 20
    memory_floor_gib: Annotated[float, Field(ge=0)] | None = Field(
        None, description="end the server below this much available memory; null: 8 where GPU and CPU share it, else 0"
    )
    # docker
    engine: Literal["docker", "podman"] = "docker"
    image: str | None = None
    digest: str | None = None
    container_name: str | None = None
    entrypoint: str | None = None
    gpus: str | None = "all"
    ipc: str | None = "host"
    shm_size: str | None = "64gb"
    mounts: tuple[str, ...] = Field((), description="host:container[:ro], as the engine's -v")
    model_flag: bool = Field(False, description="give the model as --model instead of the first argument")
    run_args: tuple[str, ...] = Field((), description="further arguments of the engine's run command")
    # external
    url: str | None = None
    flavour: str = Field("vllm", description="what serves: a name in analysis.study.engines")

    @field_validator("flavour")
    @classmethod
    def _engine_is_known(cls, name: str) -> str:
        if name not in ENGINES:
            raise ValueError(f"'{name}' is no engine; known are {', '.join(ENGINES)}")
        return name

    @field_validator("mounts")
    @classmethod
    def _mounts_have_two_sides(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if not all(value.split(":")[:2]) or ":" not in value:
                raise ValueError(f"'{value}' is not host:container or host:container:ro")
        return values

    @model_validator(mode="after")
    def _backend_needs(self) -> Server:
        if self.backend == "docker" and not self.image:
            raise ValueError("backend docker needs server.image")
        if self.backend == "external" and not self.url:
            raise ValueError("backend external needs server.url, such as http://127.0.0.1:8000")
        return self


def _changes_shown(changes: dict[str, Any]) -> dict[str, Any]:
    """A variant's changes of its server without their secrets."""
    known = {"env": environment.shown, "args": environment.shown_words}
    return {key: known[key](value) if key in known else value for key, value in changes.items()}


class Variant(Frozen):
    """A second family of arms: other models, flags, image or environment, compared within itself."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    target: Model | None = None
    drafter: Model | None = None
    server: Annotated[dict[str, Any], PlainSerializer(_changes_shown)] = Field({}, repr=False)
    speculative: dict[str, JsonValue] = {}
    k_values: tuple[K, ...] | None = None
    baseline: bool = True


class Proposer(Frozen):
    """One way of proposing tokens in a study that compares several: `Study.speculators`."""

    method: str
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")] | None = Field(
        None, description="where a method is named twice; null: the method"
    )
    drafter: Model | None = Field(None, description="null: the study's own, for the study's own method alone")
    k_values: Annotated[tuple[K, ...], Field(min_length=1)] | None = Field(None, description="null: the study's")
    settings: dict[str, JsonValue] = Field({}, description="further keys of --speculative-config")

    @field_validator("method")
    @classmethod
    def _method_is_known(cls, method: str) -> str:
        return method if method == NONE.method else of_settings({"method": method}).method


class Expect(Frozen):
    """What a first plan assumes before anything is measured: for the estimate of minutes only."""

    start_s: PositiveFloat = 180
    tok_s: PositiveFloat = 30
    prefill_tok_s: PositiveFloat = Field(2000, description="prompt tokens read per second, for filled contexts")


def _by_name(given: Any) -> Any:
    """``ngram`` stands for ``{method: ngram}``."""
    return {"method": given} if isinstance(given, str) else given


class Study(Frozen):
    """One study: everything that defines its arms and cells. Field order is the order of a study file."""

    study: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    title: Annotated[str, AfterValidator(visible)]
    stamp: Stamp = "measured"
    hardware: str | None = Field(None, description="name in data/hardware.yaml")
    model_shape: str | None = Field(None, description="name in data/models.yaml")
    target: Model
    drafter: Model | None = Field(None, description="none for a method that needs none (ngram, suffix)")
    server: Server = Server()
    speculative: dict[str, JsonValue] = Field(
        {}, description="further keys of --speculative-config; its method is mtp unless given"
    )
    speculators: tuple[Annotated[Proposer, BeforeValidator(_by_name)], ...] = Field(
        (), description="ways of proposing tokens to compare; the first is what chapters 02 to 08 show"
    )
    variants: tuple[Variant, ...] = ()
    workloads: Annotated[tuple[str, ...], Field(min_length=1)] = ("ja_finance", "en_finance", "py_code")
    prompt_files: tuple[PromptFile, ...] = Field(
        (), description="workloads of your own files; one may stand among workloads as well: {name: …, file: …}"
    )
    publish_text: bool = Field(True, description="false: prompts and answers stay out of records, notebooks and page")
    prompts: Literal["published", "all"] = "published"
    k_values: Annotated[tuple[K, ...], Field(min_length=1)] = (1, 2, 4, 8)
    k: K = Field(4, description="the K of chapters 02, 04, 06 and 07")
    concurrency: Annotated[tuple[Annotated[PositiveInt, Field(le=4096)], ...], Field(min_length=1)] = (1, 4, 8)
    repeats: Annotated[PositiveInt, Field(le=100)] = Field(
        3, description="at most 100: the mean then varies by a tenth of one"
    )
    launches: Annotated[PositiveInt, Field(le=100)] = Field(1, description="at most 100: a start takes minutes")
    timing_tokens: PositiveInt = Field(600, description="fixed length of a timing request")
    natural_stop: bool = Field(False, description="timing requests may stop early, as the articles measured")
    load_every_k: bool = Field(False, description="every K under load, not the study's K alone")
    engine_k: tuple[Literal["by_batch", "adaptive", "block", "fly"], ...] = Field(
        (), description="arms beside fixed K whose engine chooses K or the verification, at most the study's k"
    )
    batch_table: tuple[tuple[int, int, int], ...] | None = Field(
        None, description="by_batch: [[from, to, K], ...] by the number of running requests"
    )
    lossy: bool = Field(False, description="allow fly, which may change what the model says")
    concurrency_rounds: Annotated[PositiveInt, Field(le=100)] = Field(
        2, description="requests per stream in a concurrency measurement"
    )
    code_programs: Annotated[int, Field(ge=0, le=1000)] = Field(
        6, description="programs generated an arm in chapter 06"
    )
    code_tokens: PositiveInt = 1500
    greedy_tokens: Annotated[int, Field(ge=0)] = Field(200, description="0 = no losslessness measurements")
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0, le=10**6)] | None = Field(
        None, description="tokens that may be drawn; null: the server takes the checkpoint's own value, 0: all"
    )
    min_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="least share of the likeliest token's probability; null: the server's own value"
    )
    seed: int = 42
    thinking: tuple[bool, ...] = Field(
        (), description="[off, on]: each by the chat template's own switch, stopping naturally (chapter 05)"
    )
    thinking_tokens: PositiveInt | None = Field(
        None, description="most tokens of such an answer; null: 4 x timing_tokens"
    )
    raw_endpoint: bool = Field(False, description="adds the raw-completions experiment, a known trap")
    context_tokens: tuple[Annotated[int, Field(ge=32)], ...] = Field(
        (), description="prompt lengths: each prompt is filled to this many tokens, its question last (chapter 10)"
    )
    context_document: str | None = Field(None, description="a text file to fill with; null: neutral text of ours")
    output_tokens: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (), description="answer lengths, at the longest context if there is one (chapter 10)"
    )
    remeasure: Annotated[int, Field(ge=0, le=5)] = Field(
        1,
        description="how often a measurement on a disturbed machine is made again, after the others; a quarter of a launch at most",
    )
    warmup: Annotated[int, Field(ge=0)] = 1
    request_minutes: PositiveFloat = Field(15, description="time limit of one request")
    expect: Expect = Expect()
    costs: dict[str, Any] = Field({}, description="assumptions of chapter 09: fields of money.Assumptions")
    measure: Literal["missing", "never"] = "missing"
    records: Literal["runs", "reference"] = "runs"

    @model_validator(mode="before")
    @classmethod
    def _files_among_workloads(cls, raw: Any) -> Any:
        """A mapping among ``workloads`` is a prompt file, and its name the workload's."""
        listed = raw.get("workloads") if isinstance(raw, dict) else None
        if not isinstance(listed, list | tuple):
            return raw
        own = {f.get("name") for f in raw.get("prompt_files") or () if isinstance(f, dict)}
        listed = [{"name": w, "set": w} if isinstance(w, str) and w in SETS and w not in own else w for w in listed]
        if not any(isinstance(w, dict) for w in listed):
            return raw
        files = [w for w in listed if isinstance(w, dict)]
        names = [w.get("name") if isinstance(w, dict) else w for w in listed]
        return {**raw, "workloads": names, "prompt_files": [*(raw.get("prompt_files") or ()), *files]}

    @field_validator("prompt_files")
    @classmethod
    def _names_are_free(cls, values: tuple[PromptFile, ...]) -> tuple[PromptFile, ...]:
        names = [own.name for own in values]
        taken = set(names) & set(workloads())
        if taken or len(set(names)) != len(names):
            raise ValueError(
                f"the name '{min(taken or {n for n in names if names.count(n) > 1})}' is taken: choose another"
            )
        return values

    @field_validator("workloads", "engine_k")
    @classmethod
    def _distinct(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(values)) != len(values):
            raise ValueError("has a name twice")
        return values

    @field_validator("k_values", "concurrency", "context_tokens", "output_tokens")
    @classmethod
    def _sorted_and_distinct(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(values)) != len(values):
            raise ValueError("has a value twice")
        return tuple(sorted(values))

    @model_validator(mode="after")
    def _context_fits(self) -> Study:
        if problem := self.too_long_for(self.server):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _proposers_are_distinct(self) -> Study:
        own = self.speculative.get("method", MTP.method)
        for at, p in enumerate(self.speculators):
            method = SPECULATORS[p.method]
            if method.needs_drafter and p.drafter is None and p.method != own:
                raise ValueError(
                    f"'speculators.{at}': {method.title} needs a drafter of its own: {{method: {p.method}, drafter: {{model: …}}}}"
                )
        names = [v.name for v in self.families()]
        if (twice := {n for n in names if names.count(n) > 1}) and self.speculators:
            raise ValueError(
                f"'{min(twice)}' is named twice among speculators, variants and engine_k: give one a 'name'"
            )
        return self

    @model_validator(mode="after")
    def _drafters_are_there(self) -> Study:
        for variant in self.families():
            drafter = variant.drafter or self.drafter
            method = of_settings({**self.speculative, **variant.speculative}, drafter.model if drafter else None)
            if method.needs_drafter and drafter is None:
                of = "" if variant.name == "main" else f" (variant '{variant.name}')"
                raise ValueError(f"'drafter' is missing: {method.title} needs one{of}")
        return self

    @model_validator(mode="after")
    def _table_is_used(self) -> Study:
        if ("by_batch" in self.engine_k) != (self.batch_table is not None):
            have = "by_batch without 'batch_table'" if self.batch_table is None else "a batch_table and no by_batch"
            raise ValueError(f"'engine_k' has {have}: [[from, to, K], ...], such as the one that chapter 04 prints")
        return self

    def families(self) -> tuple[Variant, ...]:
        """The families of arms: the main one, the variants, and one for each way in which the engine chooses K."""
        ways = (
            Variant(
                name=way.replace("_", "-") + "-lossy" * WAYS[way].lossy,
                speculative=settings_of(way, self.batch_table),
                k_values=(self.k,),
                baseline=False,
            )
            for way in self.engine_k
        )
        return (*self._compared(), *self.variants, *ways)

    def _compared(self) -> tuple[Variant, ...]:
        """The main family, and one for each further way of proposing tokens; the baseline is of the main one."""
        named = [p for p in self.speculators if p.method != NONE.method]
        return tuple(
            Variant(
                name=(p.name or SPECULATORS[p.method].variant) if at else "main",
                drafter=p.drafter,
                speculative={**({} if p.method == MTP.method else {"method": p.method}), **p.settings},
                k_values=p.k_values,
                baseline=not at,
            )
            for at, p in enumerate(named)
        ) or (Variant(name="main"),)

    def server_of(self, variant: Variant) -> Server:
        """The study's server with a variant's changes. Raises pydantic's ValidationError; `validate` has checked it."""
        return Server.model_validate({**dict(self.server), **variant.server}) if variant.server else self.server

    def too_long_for(self, server: Server) -> str:
        """What is wrong with the lengths of requests for a server's context; empty if nothing."""
        longest = max(self.timing_tokens, self.code_tokens if self.code_programs else 0, self.greedy_tokens)
        filled, answer = axes.longest(self)
        if server.max_model_len and filled > server.max_model_len:
            return (
                f"a context of {filled - answer} tokens and an answer of {answer} do not fit server.max_model_len "
                f"({server.max_model_len}); raise it to {filled}, or lower context_tokens or output_tokens"
            )
        if not server.max_model_len or longest < server.max_model_len:
            return ""
        return (
            f"timing_tokens, code_tokens and greedy_tokens (up to {longest}) must be below "
            f"server.max_model_len ({server.max_model_len}), which also holds the prompt"
        )

    @property
    def hash(self) -> str:
        """Hash of the resolved parameters, less those that say only how to read or estimate."""
        kept = self.model_dump(mode="json", exclude={"measure", "records", "expect", "title", "costs", "lossy"})
        kept = {key: value for key, value in kept.items() if value not in (None, []) or key not in LATER}
        kept.pop("publish_text" if self.publish_text else "", None)
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]
