"""Reading a whole log: which error is the root, what is shown of an unknown one, and how long it takes."""

import time

import pytest

from analysis.servers import diagnosis, facts, loglines, process, signs

ORDINARY = (
    '(APIServer pid=1) INFO:     127.0.0.1:60738 - "POST /v1/chat/completions HTTP/1.1" 200 OK\n'
    "(APIServer pid=1) INFO 11-26 12:42:27 [loggers.py:335] Engine 000: Avg prompt throughput: 99.0 tokens/s, Avg generation throughput: 198.4 tokens/s, Running: 1 reqs, Waiting: 0 reqs, GPU KV cache usage: 0.1%\n"
    "(APIServer pid=1) INFO 11-26 12:42:27 [metrics.py:101] SpecDecoding metrics: Mean acceptance length: 3.48, Accepted: 693 tokens, Drafted: 837 tokens, Per-position acceptance rate: 0.986, 0.810, 0.688\n"
    "Gemma4AssistantForCausalLM gemma4_mtp.py gpu_model_runner.py Gemma4TextConfig\n"
)
API = "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}\n"
RETRY = "(APIServer pid=1) ERROR [repo_utils.py:47] Error retrieving safetensors: Repo id must be in the form 'name': '/models/x'., retrying 1 of 2\n"


def engine(*lines):
    return "".join(f"(EngineCore pid=2) ERROR 11-26 12:16:02 [core.py:1510] {line}\n" for line in lines)


UNKNOWN = engine(
    "EngineCore failed to start.",
    "Traceback (most recent call last):",
    '  File "/x/vllm/v1/engine/core.py", line 1, in run',
    '  File "/x/vllm/model_executor/models/gemma4.py", line 20, in forward',
    "RuntimeError: the answer is 42",
)


def seconds(log):
    begin = time.process_time()
    diagnosis.of_stopped(log), diagnosis.silent(log), diagnosis.compiled_kernels(log)
    loglines.first_error(log), facts.read(log)
    return time.process_time() - begin


@pytest.mark.parametrize("log", [ORDINARY, UNKNOWN, RETRY], ids=["ordinary", "errors", "retries"])
def test_five_megabytes_of_log_are_read_in_seconds(log):
    assert seconds(log * (5_000_000 // len(log))) < 10  # 0.3 s here; two hours before


@pytest.mark.parametrize("piece", ["E=", "Using default MoE config", "x", "(", "0.", "nvidia-container-cli: ", "\t"])
def test_one_endless_line_is_read_in_seconds(piece):
    assert seconds("Using default MoE config. " + piece * (500_000 // len(piece))) < 10


def test_every_sign_has_a_fixed_phrase_that_each_of_its_lines_must_have():
    every = [s for f in signs.table() for s in (*f.signs, *(s for group in f.beside for s in group))]
    assert len(every) > 90 and all(len(s.phrase) >= 4 for s in every)
    assert signs.phrase(r"draft model.*(?:not support|vocab)") == "draft model"
    assert signs.phrase(r"[Aa]sync(?:hronous)? scheduling (?:is|was)") == " scheduling "
    assert signs.phrase(r"ab\.cde?f{2,3}g+hi\d+xy") == "ab.cd"


def test_the_last_root_error_wins_over_an_earlier_harmless_one():
    deepgemm = engine("RuntimeError: Assertion error (/x/deepgemm-src/layout.hpp:59): Unknown SF transformation")
    assert diagnosis.of_stopped(RETRY + deepgemm + API).id == "deepgemm-unsupported"
    missing = RETRY.replace(", retrying 1 of 2", "").replace("ERROR [repo_utils.py:47] Error retrieving", "OSError:")
    assert diagnosis.of_stopped(missing + deepgemm + API).id == "deepgemm-unsupported"
    assert diagnosis.of_stopped(missing + API).id == "model-folder-missing"


def test_a_retry_or_a_piece_of_information_is_not_named_as_the_cause_of_an_unknown_error():
    assert diagnosis.of_stopped(RETRY + UNKNOWN + API) is None
    note = "(EngineCore pid=2) INFO [x.py:1] Cannot find libcuda.so.1: cannot open shared object file\n"
    assert diagnosis.of_stopped(note + UNKNOWN + API) is None


def test_a_killed_process_is_the_cause_only_where_nothing_was_raised_before_it():
    killed = API.replace("{'EngineCore': 1}", "{}")
    assert diagnosis.of_stopped(ORDINARY + killed).id == "engine-killed"
    echo = engine("Exception: WorkerProc initialization failed due to an exception in a background process.")
    assert diagnosis.of_stopped(ORDINARY + echo + killed).id == "engine-killed"
    assert diagnosis.of_stopped(UNKNOWN + killed) is None
    died = "(EngineCore pid=2) ERROR [multiproc_executor.py:315] Worker proc W died unexpectedly (exit code: -6)\n"
    assert (
        diagnosis.of_stopped(engine("torch.AcceleratorError: CUDA error: device-side assert triggered") + died).id
        == "device-side-assert"
    )
    assert diagnosis.of_stopped(died + engine("RuntimeError: cancelled")).id == "worker-crashed"


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libnuma.so.1", "libnuma1"),
        ("libcuda.so.1", "NVIDIA driver"),
        ("libcudart.so.13", "CUDA runtime"),
        ("libnccl.so.2", "NCCL"),
        ("libgomp.so.1", "libgomp1"),
        ("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
        ("libpython3.11.so.1.0", "libpython3-dev"),
        ("libssl.so.3", "libssl3"),
        ("libunheard-of.so.7", "what brings libunheard-of.so.7"),
    ],
)
def test_a_missing_library_is_named_with_the_package_that_has_it(library, package):
    found = diagnosis.of_stopped(f"ImportError: {library}: cannot open shared object file: No such file or directory")
    assert found.id == "missing-library" and library in found.cause and package in found.fix


def test_a_warning_that_a_library_is_missing_explains_the_error_far_below_it():
    warning = "(EngineCore pid=2) WARNING [interface.py:222] Failed to import from vllm._C: ImportError('libnuma.so.1: cannot open shared object file: No such file or directory')\n"
    late = engine("AttributeError: '_OpNamespace' '_C' object has no attribute 'init_cpu_threads_env'")
    found = diagnosis.of_stopped(warning + ORDINARY * 100 + late + API)
    assert found.id == "missing-library-behind"
    assert "libnuma.so.1" in found.cause and "follows from it" in found.cause and "libnuma1" in found.fix


def test_an_unknown_error_is_shown_as_the_engine_raised_it_and_not_as_the_api_server_ends(tmp_path):
    log = tmp_path / "a/b/c/server.log"
    log.parent.mkdir(parents=True)
    tail = "".join(f'(APIServer pid=1)   File "/x/asyncio/runners.py", line {i}, in run\n' for i in range(20))
    log.write_text(ORDINARY + UNKNOWN + tail + API)
    text = str(process.failure("The server stopped.", log))
    assert "first error is not known to this study: RuntimeError: the answer is 42" in text
    assert "models/gemma4.py:20, in forward" in text and "runners.py" not in text
    assert "a/b/c/server.log" in text


def test_the_root_error_is_the_workers_before_the_engines_before_the_api_servers():
    worker = "(VllmWorker-0 pid=3) ERROR [multiproc_executor.py:953] ValueError: first\n"
    assert loglines.first_error(API + worker + UNKNOWN).text == "ValueError: first"
    found = loglines.first_error(UNKNOWN)
    assert (found.text, found.frame) == ("RuntimeError: the answer is 42", "models/gemma4.py:20, in forward")
    alone = "Traceback (most recent call last):\n  File \"/x/a/b.py\", line 3, in f\nKeyError: 'a'\n\nOSError: last\n"
    assert loglines.first_error(alone).text == "OSError: last"
    assert loglines.first_error(ORDINARY) is None and loglines.first_error("") is None


def test_an_exception_whose_name_does_not_end_in_error_is_one_where_frames_lead_to_it():
    frame = '(EngineCore pid=2) ERROR [core.py:1]   File "/x/triton/compiler.py", line 7, in raise_\n'
    line = "(EngineCore pid=2) ERROR [core.py:1] triton.runtime.errors.NoRoom: 98304 bytes\n"
    found = loglines.first_error(ORDINARY + frame + line + API)
    assert (found.text, found.frame) == ("triton.runtime.errors.NoRoom: 98304 bytes", "triton/compiler.py:7, in raise_")
    assert loglines.first_error(ORDINARY + line) is None


def test_the_reason_on_the_line_after_a_validation_error_belongs_to_it():
    log = "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n  Value error, no such thing\n"
    assert loglines.first_error(log).text.endswith("for VllmConfig: Value error, no such thing")


def test_an_optional_import_that_fails_with_a_warning_is_no_error():
    log = "(EngineCore pid=2) WARNING 11-26 12:39:06 [import_utils.py:417] AssertionError: Expected one _C_extension*.so\n"
    assert loglines.first_error(log) is None


@pytest.mark.parametrize("entry", signs.table(), ids=lambda entry: entry.id)
def test_every_sign_finds_what_its_cause_and_fix_are_to_say(entry):
    for sign in entry.signs:
        names = dict.fromkeys([n for s in [sign, *sum(entry.beside, ())] for n in s.pattern.groupindex], "libx.so")
        said = signs.told(entry, signs.Match(0, names, ["x"] * sign.pattern.groups))
        assert "{" not in said.cause.replace("{}", "") and said.fix.endswith((".", ")"))
