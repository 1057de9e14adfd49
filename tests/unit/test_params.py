"""Study files: what is valid, and that everything else is one screen that names the key."""

import datetime
import math
import time

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from analysis.errors import ParamsError
from analysis.places import PARAMS
from analysis.study import fingerprint, params, plan, study_file

FILES = sorted(PARAMS.glob("*.yaml"))
VALID = {
    "study": "demo",
    "title": "A small study",
    "target": {"model": "org/target", "revision": "abc"},
    "drafter": {"model": "org/drafter"},
    "server": {"max_model_len": 4096, "env": {"A": "1"}, "args": ["--x"]},
    "speculative": {"draft_sample_method": "greedy"},
    "variants": [{"name": "eager", "server": {"enforce_eager": True}, "k_values": [2]}],
    "workloads": ["py_code", "en_finance"],
    "k_values": [1, 2],
    "k": 2,
    "concurrency": [1, 4],
    "repeats": 1,
    "code_programs": 1,
    "expect": {"start_s": 10, "tok_s": 5},
}


def refused(raw: dict) -> str:
    with pytest.raises(ParamsError) as error:
        study_file.validate(raw)
    return str(error.value)


def write(folder, text: str):
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# -- what is valid -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_study_file_is_valid_and_has_a_plan(path):
    study = study_file.load_study(path)
    assert study.study == path.stem
    assert plan.make(study).cells


def test_a_study_is_found_by_its_name_and_by_its_path():
    assert study_file.load_study("miniature") == study_file.load_study(PARAMS / "miniature.yaml")
    assert study_file.load_study("papermill_params/miniature.yaml") == study_file.load_study("miniature")


def test_overrides_replace_keys_and_none_leaves_the_file_s_value():
    study = study_file.load_study("miniature", repeats=5, k_values=None)
    assert study.repeats == 5
    assert study.k_values == study_file.load_study("miniature").k_values


def test_lists_of_numbers_are_sorted():
    study = study_file.validate({**VALID, "k_values": [8, 1, 4], "concurrency": [8, 1]})
    assert study.k_values == (1, 4, 8) and study.concurrency == (1, 8)


def test_a_study_cannot_be_changed_after_validation():
    study = study_file.validate(VALID)
    with pytest.raises(ValueError, match="frozen"):
        study.repeats = 9


def test_the_hash_is_of_what_is_measured_and_not_of_how_it_is_read():
    one = study_file.validate(VALID)
    same = {"measure": "never", "records": "reference", "expect": {"start_s": 99}, "title": "Another title"}
    assert study_file.validate({**VALID, **same}).hash == one.hash
    assert study_file.validate({**VALID, "temperature": 0.8}).hash != one.hash
    assert study_file.validate({**VALID, "server": {"max_model_len": 2048}}).hash != one.hash


def test_a_model_folder_is_known_by_its_content(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    first = params.Model(model=str(tmp_path)).fingerprint
    fingerprint.folder_hash.cache_clear()
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert params.Model(model=str(tmp_path)).fingerprint != first
    assert params.Model(model=f"{tmp_path}/none").fingerprint == f"absent {tmp_path}/none"


def test_a_model_of_the_hub_is_known_by_its_revision():
    assert params.Model(model="org/name").fingerprint == "org/name@main"
    assert params.Model(model="org/name", revision="abc").fingerprint == "org/name@abc"


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw, told",
    [
        ({"k_value": [1]}, "'k_value' is not a parameter (did you mean 'k_values'?"),
        (
            {"server": {"enforce_eagre": True}},
            "'server.enforce_eagre' is not a parameter (did you mean 'enforce_eager'?",
        ),
        ({"target": {"model": "a/b", "revison": "x"}}, "'target.revison' is not a parameter (did you mean 'revision'?"),
        ({"variants": [{"name": "v", "basline": False}]}, "'variants.0.basline' is not a parameter"),
        (
            {"variants": [{"name": "v", "server": {"enforce_eagre": True}}]},
            "'variants.0.server.enforce_eagre' is not a parameter (did you mean 'enforce_eager'?",
        ),
        ({"variants": [{"name": "v", "server": {"backend": "docker"}}]}, "'variants.0.server'"),
        ({"variants": [{"name": "v", "server": {"max_model_len": 100}}]}, "'variants.0.server'"),
        ({"variants": [{"name": "V 1"}]}, "'variants.0.name'"),
        ({"repeats": "many"}, "'repeats' must be a whole number"),
        ({"repeats": 0}, "'repeats' must be more than 0 (given: 0)"),
        ({"k_values": [0, 4]}, "'k_values.0' must be at least 1 (given: 0)"),
        ({"k_values": [-1]}, "'k_values.0'"),
        ({"k_values": []}, "'k_values'"),
        ({"k_values": [4, 4]}, "'k_values': has a value twice"),
        ({"k": 0}, "'k' must be"),
        ({"workloads": []}, "'workloads'"),
        ({"workloads": "py_code"}, "'workloads' must be a list, such as [1, 2] (given: 'py_code')"),
        ({"workloads": ["py_code", "py_code"]}, "'workloads': has a name twice"),
        ({"concurrency": []}, "'concurrency'"),
        ({"temperature": math.nan}, "'temperature' must be a finite number"),
        ({"request_minutes": math.inf}, "'request_minutes' must be a finite number"),
        ({"temperature": "1e-3 or so"}, "'temperature'"),
        ({"stamp": "mesured"}, "'stamp' must be 'measured', 'synthetic-acceptance' or 'miniature'"),
        ({"study": "Not A Name"}, "'study'"),
        ({"target": None}, "'target'"),
        ({"target": {"model": ""}}, "'target.model'"),
        ({"target": {"model": " "}}, "'target.model'"),
        ({"server": {"backend": "docker"}}, "backend docker needs server.image"),
        ({"server": {"backend": "external"}}, "backend external needs server.url"),
        ({"server": {"max_model_len": 600}}, "must be below server.max_model_len (600)"),
        ({"server": {"port": 70000}}, "'server.port'"),
        ({"server": {"env": {"A": 1}}}, "'server.env.A' must be text (given: 1)"),
        ({"speculative": {"when": datetime.date(2026, 5, 6)}}, "'speculative.when'"),
        ({"speculative": {"a": {1, 2}}}, "'speculative.a'"),
        ({1: "x"}, "'1'"),
        ({None: "x"}, "'None'"),
        ({"stüdy": "x"}, "'stüdy' is not a parameter (did you mean 'study'?"),
        ({"日本語": "x"}, "'日本語' is not a parameter"),
    ],
)
def test_a_wrong_parameter_is_named_with_the_reason(raw, told):
    message = refused({**VALID, **raw})
    assert told in message and "Fix:" in message and "Traceback" not in message


def test_a_missing_parameter_is_named():
    assert "'drafter' is missing: MTP needs one." in refused({k: v for k, v in VALID.items() if k != "drafter"})


def test_all_problems_are_told_at_once():
    message = refused({**VALID, "repeats": 0, "k_value": 3, "top_p": 2})
    assert "3 parameters are wrong" in message
    assert all(key in message for key in ("'repeats'", "'k_value'", "'top_p'"))


def test_a_mapping_that_contains_itself_is_refused():
    circle: dict = {}
    circle["again"] = circle
    assert "speculative" in refused({**VALID, "speculative": circle})
    assert "variants.0.server" in refused({**VALID, "variants": [{"name": "v", "server": circle}]})


@pytest.mark.parametrize("model", ["~nobody-has-this-name/model", "x" * 5000, "a\0b", "./" + "y" * 300])
def test_an_impossible_model_path_is_an_absent_model_and_no_crash(model):
    assert plan.make(study_file.validate({**VALID, "target": {"model": model}})).cells[0].id


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["miniatur", "", ".", "é", "a\0b", "x" * 5000, "no.yaml", "papermill_params"])
def test_an_unknown_study_lists_the_known_ones(name):
    with pytest.raises(ParamsError, match="miniature") as error:
        study_file.load_study(name)
    assert error.value.fix


def test_a_mistyped_study_name_is_corrected():
    with pytest.raises(ParamsError, match="did you mean 'miniature'"):
        study_file.load_study("minature")


@pytest.mark.parametrize(
    "text",
    [
        "study: [unclosed",
        "a: *nowhere",
        "a: 2026-02-30",
        "a: 0x_",
        "a: !!float many",
        "a: !!timestamp never",
        "a: !!python/object:os.system x",
        "? [a, b]\n: c",
        "\x00",
        "seed: " + "9" * 5000,
        "[" * 29,
    ],
    ids=lambda t: repr(t[:24]),
)
def test_a_file_that_is_not_yaml_is_one_clear_error(tmp_path, text):
    with pytest.raises(ParamsError, match="study.yaml is not YAML"):
        study_file.load_study(write(tmp_path, text))


def test_brackets_without_end_are_refused_at_once(tmp_path):
    with pytest.raises(ParamsError, match="nested more than 30 deep"):
        study_file.load_study(write(tmp_path, "[" * 3000))


@pytest.mark.parametrize("text", ["", "- a\n- b", "just words", "42"])
def test_a_file_without_keys_is_one_clear_error(tmp_path, text):
    with pytest.raises(ParamsError, match="must hold key: value lines"):
        study_file.load_study(write(tmp_path, text))


def test_bytes_that_are_no_text_are_one_clear_error(tmp_path):
    (tmp_path / "study.yaml").write_bytes(b"study: \xff\xfe")
    with pytest.raises(ParamsError, match="is not YAML"):
        study_file.load_study(tmp_path / "study.yaml")


def test_anchors_and_merges_work_as_in_any_yaml(tmp_path):
    text = yaml.safe_dump({k: v for k, v in VALID.items() if k not in ("variants", "server")})
    text += (
        "server: &base {max_model_len: 2048}\nvariants:\n- name: eager\n  server: {<<: *base, enforce_eager: true}\n"
    )
    study = study_file.load_study(write(tmp_path, text))
    assert study.server_of(study.variants[0]).max_model_len == 2048
    assert study.server_of(study.variants[0]).enforce_eager


@pytest.mark.parametrize("key", ["speculative", "server", "variants", "target", "title"])
def test_an_anchor_that_contains_itself_is_one_clear_error(tmp_path, key):
    text = yaml.safe_dump({k: v for k, v in VALID.items() if k != key})
    with pytest.raises(ParamsError, match=key):
        study_file.load_study(write(tmp_path, text + f"{key}: &me {{again: *me, list: [*me]}}\n"))


# -- any input -----------------------------------------------------------------------------------------------------

KEYS = st.one_of(
    st.sampled_from(sorted(params.Study.model_fields)),
    st.sampled_from(["name", "model", "backend", "max_model_len", "env", "args", "patch", "url", "start_s"]),
    st.text(max_size=8),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 9),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["docker", "external", "process", "py_code", "main", "2026-01-01", "~x/y", "/", "1e-3"]),
    st.dates(),
    st.binary(max_size=3),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(KEYS, SCALARS), inner, max_size=4)),
    max_leaves=10,
)
PATHS = [
    *((key,) for key in sorted(params.Study.model_fields)),
    *(("server", key) for key in params.Server.model_fields),
    *(("variants", 0, key) for key in params.Variant.model_fields),
    *(("variants", 0, "server", key) for key in params.Server.model_fields),
    *(("target", key) for key in params.Model.model_fields),
    ("speculative", "model"),
    ("expect", "tok_s"),
    ("server", "env", "A"),
]


def put(raw, path, value):
    """A deep copy with one value replaced."""
    if not path:
        return value
    if isinstance(raw, list):
        return [put(item, path[1:], value) if at == path[0] else item for at, item in enumerate(raw)]
    raw = raw if isinstance(raw, dict) else {}
    return {**raw, path[0]: put(raw.get(path[0]), path[1:], value)}


@settings(max_examples=150)
@given(st.dictionaries(st.one_of(KEYS, SCALARS.filter(lambda v: v == v)), VALUES, max_size=6))
def test_any_mapping_is_a_study_or_an_error_that_names_a_key(raw):
    try:
        assert study_file.validate(raw).hash
    except ParamsError as error:
        assert any(f"'{key}" in str(error) for key in [*raw, *params.Study.model_fields, "the study"])
        assert len(str(error).splitlines()) < 25


@settings(max_examples=300)
@given(st.sampled_from(PATHS), VALUES)
@example(("variants", 0, "server", "env"), {"A": datetime.date(2026, 1, 1)})
@example(("speculative", "model"), "\ud800")
def test_one_wrong_value_anywhere_is_a_study_or_an_error_that_names_its_key(path, value):
    try:
        study = study_file.validate(put(VALID, path, value))
    except ParamsError as error:
        assert path[0] in str(error) and len(str(error).splitlines()) < 25
    else:
        assert study.hash


SMALL = [p for p in PATHS if p[-1] not in {"launches", "repeats", "concurrency_rounds", "concurrency", "code_programs"}]


@settings(max_examples=150)
@given(st.sampled_from(SMALL), VALUES)
def test_a_valid_study_has_a_plan_or_one_clear_error(path, value):
    try:
        study = study_file.validate(put(VALID, path, value))
        made = plan.make(study)
    except ParamsError as error:
        assert str(error)
    else:
        assert len({cell.id for cell in made.cells}) == len(made.cells)
        assert made.minutes() > 0


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(0, 30), st.text(max_size=12))
def test_a_damaged_study_file_is_a_study_or_one_clear_error(tmp_path, at, cut, noise):
    whole = (PARAMS / "gb10-26b-options.yaml").read_text(encoding="utf-8")
    at %= len(whole)
    path = tmp_path / "study.yaml"
    path.write_bytes((whole[:at] + noise + whole[at + cut :]).encode("utf-8", errors="surrogatepass"))
    try:
        assert study_file.load_study(path).hash
    except ParamsError as error:
        assert "study.yaml" in str(error)


def test_references_that_grow_without_end_are_refused_at_once(tmp_path):
    rows = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)), "title: *a9"]
    file = tmp_path / "laughs.yaml"
    file.write_text("\n".join(rows) + "\n")
    begin = time.process_time()
    with pytest.raises(ParamsError, match="reference inside") as error:
        study_file.load_study(file)
    assert time.process_time() - begin < 1 and "Line 2" in error.value.why


@pytest.mark.parametrize("text", ["[" * 190_000, "title: " + "{a: " * 40_000, "\n".join("- " * n for n in range(600))])
def test_lists_in_lists_without_end_are_refused_at_once(tmp_path, text):
    file = tmp_path / "deep.yaml"
    file.write_text(text)
    begin = time.process_time()
    with pytest.raises(ParamsError, match=r"deep\.yaml"):
        study_file.load_study(file)
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("key", ["repeats", "launches", "concurrency_rounds"])
def test_counts_that_no_study_has_are_refused(key):
    with pytest.raises(ParamsError, match="1 parameter"):
        study_file.load_study("miniature", **{key: 20_000})


def test_a_long_key_is_cut_in_the_message(tmp_path):
    file = tmp_path / "long.yaml"
    file.write_text(f"? {'k' * 5000}\n: 1\nstudy: x\ntitle: x\ntarget: {{model: a}}\ndrafter: {{model: b}}\n")
    with pytest.raises(ParamsError) as error:
        study_file.load_study(file)
    assert len(str(error.value)) < 1000


def test_a_path_below_the_checkout_names_its_study_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert study_file.load_study("data/reference/miniature/study.yaml").study == "miniature"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k_values": "4"}, "'k_values' must be a list, such as [1, 2] (given: '4')."),
        ({"k_values": 4}, "'k_values' must be a list, such as [1, 2] (given: 4)."),
        ({"k_values": [0, 4]}, "'k_values.0' must be at least 1 (given: 0)."),
        ({"measure": "nver"}, "'measure' must be 'missing' or 'never' (given: 'nver') (did you mean 'never'?)."),
        ({"concurrency": ["a"]}, "'concurrency.0' must be a whole number (given: 'a')."),
    ],
)
def test_a_mistake_in_a_chapters_cell_is_blamed_on_the_cell_in_its_own_words(changes, words):
    with pytest.raises(ParamsError) as error:
        study_file.load_study("miniature", **changes)
    assert error.value.what == "The chapter's parameters cell: 1 parameter is wrong."
    assert (error.value.why, error.value.fix) == (words, "Correct the chapter's parameters cell.")


def test_a_mistake_in_a_file_is_blamed_on_the_file_where_it_lies(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text((PARAMS / "miniature.yaml").read_text(encoding="utf-8").replace("repeats:", "repeets:"))
    with pytest.raises(ParamsError) as error:
        study_file.load_study(path)
    assert str(path) in error.value.what and error.value.fix == f"Correct {path}."
    assert "'repeets' is not a parameter (did you mean 'repeats'?)." in error.value.why
