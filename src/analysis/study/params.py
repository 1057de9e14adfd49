"""papermill_params/*.yaml -> a validated, frozen `Study`. An unknown key is an error with the nearest right name."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from analysis.errors import ParamsError
from analysis.places import PARAMS, RECORDS, inside
from analysis.study.engines import ENGINES

Stamp = Literal["measured", "synthetic-acceptance", "miniature"]
K = Annotated[int, Field(ge=1, le=64, description="num_speculative_tokens of an MTP arm")]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, str_strip_whitespace=True, allow_inf_nan=False)


class Model(Frozen):
    """A checkpoint: a Hugging Face id (with a revision) or a folder, here or in the container."""

    model: Annotated[str, Field(min_length=1)]
    revision: str | None = None
    hub: str | None = Field(None, description="for a folder: the Hugging Face id that prefetch puts there")

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
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    port: Annotated[int, Field(ge=0, le=65535)] = Field(0, description="0 = a free one")
    host: str | None = Field(None, description="address to listen on; null = the loopback one")
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


class Variant(Frozen):
    """A second family of arms: other models, flags, image or environment, compared within itself."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    target: Model | None = None
    drafter: Model | None = None
    server: dict[str, Any] = {}
    speculative: dict[str, JsonValue] = {}
    k_values: tuple[K, ...] | None = None
    baseline: bool = True


class Expect(Frozen):
    """What a first plan assumes before anything is measured: for the estimate of minutes only."""

    start_s: PositiveFloat = 180
    tok_s: PositiveFloat = 30


class Study(Frozen):
    """One study: everything that defines its arms and cells. Field order is the order of a study file."""

    study: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    title: str
    stamp: Stamp = "measured"
    hardware: str | None = Field(None, description="name in data/hardware.yaml")
    model_shape: str | None = Field(None, description="name in data/models.yaml")
    target: Model
    drafter: Model
    server: Server = Server()
    speculative: dict[str, JsonValue] = Field({}, description="further keys of --speculative-config")
    variants: tuple[Variant, ...] = ()
    workloads: Annotated[tuple[str, ...], Field(min_length=1)] = ("ja_finance", "en_finance", "py_code")
    prompts: Literal["published", "all"] = "published"
    k_values: Annotated[tuple[K, ...], Field(min_length=1)] = (1, 2, 4, 8)
    k: K = Field(4, description="the K of chapters 02, 04, 06 and 07")
    concurrency: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 4, 8)
    repeats: PositiveInt = 3
    launches: PositiveInt = 1
    timing_tokens: PositiveInt = Field(600, description="fixed length of a timing request")
    natural_stop: bool = Field(False, description="timing requests may stop early, as the articles measured")
    load_every_k: bool = Field(False, description="every K under load, not the study's K alone")
    concurrency_rounds: PositiveInt = Field(2, description="requests a stream in a concurrency cell")
    code_programs: Annotated[int, Field(ge=0)] = Field(6, description="programs generated an arm in chapter 06")
    code_tokens: PositiveInt = 1500
    greedy_tokens: Annotated[int, Field(ge=0)] = Field(200, description="0 = no losslessness cells")
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0, le=10**6)] | None = Field(
        None, description="tokens that may be drawn; null: the server takes the checkpoint's own value, 0: all"
    )
    min_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="least share of the likeliest token's probability; null: the server's own value"
    )
    seed: int = 42
    raw_endpoint: bool = Field(False, description="adds the raw-completions experiment, a known trap")
    remeasure: Annotated[int, Field(ge=0, le=5)] = Field(
        1,
        description="times that a cell measured on a disturbed machine is measured again; a tenth of a launch at most",
    )
    warmup: Annotated[int, Field(ge=0)] = 1
    request_minutes: PositiveFloat = Field(15, description="time limit of one request")
    expect: Expect = Expect()
    costs: dict[str, Any] = Field({}, description="assumptions of chapter 09: fields of costmodel.Assumptions")
    measure: Literal["missing", "never"] = "missing"
    records: Literal["runs", "reference"] = "runs"

    @field_validator("workloads")
    @classmethod
    def _distinct(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(values)) != len(values):
            raise ValueError("has a name twice")
        return values

    @field_validator("k_values", "concurrency")
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

    def server_of(self, variant: Variant) -> Server:
        """The study's server with a variant's changes. Raises pydantic's ValidationError; `validate` has checked it."""
        return Server.model_validate({**self.server.model_dump(), **variant.server}) if variant.server else self.server

    def too_long_for(self, server: Server) -> str:
        """What is wrong with the lengths of requests for a server's context; empty if nothing."""
        longest = max(self.timing_tokens, self.code_tokens if self.code_programs else 0, self.greedy_tokens)
        if not server.max_model_len or longest < server.max_model_len:
            return ""
        return (
            f"timing_tokens, code_tokens and greedy_tokens (up to {longest}) must be below "
            f"server.max_model_len ({server.max_model_len}), which also holds the prompt"
        )

    @property
    def hash(self) -> str:
        """Hash of the resolved parameters, less those that say only how to read or estimate."""
        kept = self.model_dump(mode="json", exclude={"measure", "records", "expect", "title", "costs"})
        kept = {key: value for key, value in kept.items() if value is not None or key not in ("top_k", "min_p")}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def load_study(name_or_path: str | Path, **overrides: Any) -> Study:
    """Read, override and validate one study.

    Parameters
    ----------
    name_or_path : str or Path
        ``miniature`` (a name in papermill_params) or the path of a YAML file. With ``records="reference"`` a name means
        the study as its reference run was measured: it may have more launches than one's own first run.
    **overrides
        Top-level keys that replace those of the file; None leaves the file's value.

    Raises
    ------
    ParamsError
        No such file, malformed YAML, unknown key (with the nearest right name), or a value of the wrong type.
    """
    path = _find(name_or_path, overrides.get("records") or "runs")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:  # 2026-02-30 is a ValueError
        raise ParamsError(
            f"{path.name} is not YAML.",
            why=" ".join(str(error).split())[:300],
            fix="Compare with papermill_params/miniature.yaml.",
        ) from None
    if not isinstance(raw, dict):
        raise ParamsError(
            f"{path.name} must hold key: value lines, and holds a {type(raw).__name__}.",
            fix="Compare with papermill_params/miniature.yaml.",
        )
    return validate({**raw, **{key: value for key, value in overrides.items() if value is not None}}, path.name)


def validate(raw: dict[str, Any], where: str = "parameters") -> Study:
    """Validate a mapping as a `Study`; every problem in it becomes one line of a `ParamsError`."""
    try:
        study = Study.model_validate(raw)
        problems = _of_variants(study)
    except ValidationError as error:
        problems = [_problem(item) for item in error.errors()]
    except RecursionError:
        raise ParamsError(f"{where} refers to itself.", fix="Remove the YAML anchor that contains itself.") from None
    if problems:
        raise ParamsError(
            f"{where}: {len(problems)} parameter{'s are' if len(problems) > 1 else ' is'} wrong.",
            why=" ".join(problems) if len(problems) == 1 else "\n  " + "\n  ".join(problems[:12]),
            fix=f"Correct papermill_params/{where}."
            if where.endswith(".yaml")
            else "Correct the parameters cell, or the study's file.",
        )
    return study


def reference_file(study: Study) -> str:
    """YAML of a study as it was measured, to be read again without a server; defaults are left out."""
    kept = study.model_copy(update={"records": "reference", "measure": "never"})
    text = yaml.safe_dump(kept.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    return f"# The study as its reference run was measured; it starts no server.\n{text}"


def known_keys() -> set[str]:
    """Every top-level key of a study file, which are also the names a notebook's parameters may have."""
    return set(Study.model_fields)


def stray(names: set[str]) -> list[str]:
    """Sentences for names that are no parameter of a study, each with the nearest right name."""
    return [f"'{name}' is not a parameter{_nearest(name, known_keys())}." for name in sorted(names - known_keys())]


@lru_cache(maxsize=32)
def folder_hash(folder: str) -> str:
    """SHA-256 over names and contents of the files that an engine loads from a model folder, or ``absent``."""
    path = Path(folder)
    if not os.path.isdir(path):  # False for an impossible name, where Path.is_dir may raise
        return "absent"
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and _LOADED.search(p.name)):
        digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


#: Weights, tokenizer, configuration, chat template; not the cards and training records that lie beside them.
_LOADED = re.compile(
    r"\.(safetensors|jinja|model|index\.json)$|^(.*config|tokenizer|special_tokens_map|added_tokens|vocab|chat_template)\.json$"
)


def _find(name_or_path: str | Path, records: str = "runs") -> Path:
    given = Path(name_or_path)
    measured = RECORDS["reference"] / given / "study.yaml"
    if records == "reference" and not given.suffix and os.path.isfile(measured):
        return measured
    if given.suffix in {".yaml", ".yml"}:
        for candidate in (given, PARAMS / given.name):
            if os.path.isfile(candidate):  # Path.is_file may raise for an impossible name
                return candidate
    elif os.path.isfile(PARAMS / f"{given}.yaml"):
        return PARAMS / f"{given}.yaml"
    names = sorted(p.stem for p in PARAMS.glob("*.yaml"))
    raise ParamsError(
        f"There is no study '{name_or_path}'.",
        why=f"papermill_params has {', '.join(names)}{_nearest(given.stem, set(names))}.",
        fix="Name one of these, or copy one and change it.",
    )


def _nearest(name: str, names: set[str]) -> str:
    close = difflib.get_close_matches(str(name), sorted(names), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def _of_variants(study: Study) -> list[str]:
    """What is wrong with the servers of a study's variants, as sentences."""
    problems = []
    for at, variant in enumerate(study.variants):
        try:
            if problem := study.too_long_for(study.server_of(variant)):
                problems.append(f"'variants.{at}.server': {problem}.")
        except ValidationError as error:
            problems += [_problem({**item, "loc": ("variants", at, "server", *item["loc"])}) for item in error.errors()]
    return problems


def _problem(item: dict[str, Any]) -> str:
    """One pydantic error as a sentence that names the key."""
    loc = [str(part) for part in item["loc"]]
    key = ".".join(loc) or "the study"
    if item["type"] == "extra_forbidden":
        siblings = _fields_at(loc[:-1])
        return f"'{key}' is not a parameter{_nearest(loc[-1], siblings)}."
    if item["type"] == "missing":
        return f"'{key}' is missing."
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    shown = repr(item.get("input"))
    given = "" if len(loc) == 0 or len(shown) > 80 else f" (given: {shown})"
    return (
        f"'{key}' must be {message}{given}."
        if item["msg"].startswith("Input should be ")
        else f"'{key}': {message}{given}."
    )


def _fields_at(loc: list[str]) -> set[str]:
    here: Any = Study
    for part in loc:
        nested = {
            "target": Model,
            "drafter": Model,
            "server": Server,
            "variants": Variant,
            "expect": Expect,
            "patch": Patch,
        }.get(part)
        here = nested or here
    return set(here.model_fields)
