"""vLLM's counters: exact names, sums over engines, and every reason to refuse a reading."""

import dataclasses
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import CountersError
from analysis.measure import counters
from analysis.measure.counters import PER_POSITION, SCALARS, Counters, difference, parse

COUNT = st.integers(0, 2**40)
#: suzuki-shoten's table A.1, row K = 4; counts by position that give its percentages and its sum
TABLE = {"drafts": 1814, "draft_tokens": 7256, "accepted": 3591}
POSITIONS = (1310, 973, 747, 561)


def page(values: dict, per_position=(), running=0, waiting=0, engines=1, created=1.7e9) -> str:
    """An answer of /metrics as vLLM writes it: a ``_created`` gauge beside each counter, samples by engine."""
    lines = []
    for key, name in SCALARS.items():
        if key not in values:
            continue
        family = name.removesuffix("_total")
        lines += [f"# HELP {family} Text.", f"# TYPE {family} counter"]
        for engine in range(engines):
            share = values[key] // engines + (values[key] % engines if engine == 0 else 0)
            lines.append(f'{name}{{engine="{engine}",model_name="m"}} {float(share)}')
            lines.append(f'{family}_created{{engine="{engine}",model_name="m"}} {created}')
    for position, value in enumerate(per_position):
        labels = f'{{engine="0",model_name="m",position="{position}"}}'
        lines += [f"{PER_POSITION}{labels} {float(value)}", f"{PER_POSITION[:-6]}_created{labels} {created}"]
    lines += [f"vllm:num_requests_running {running}", f"vllm:num_requests_waiting {waiting}"]
    return "\n".join(lines) + "\n"


def every(**changes: int) -> dict[str, int]:
    return {**dict.fromkeys(SCALARS, 0), **changes}


def test_a_page_of_the_published_run_gives_its_counts():
    read = parse(page(every(**TABLE, generation_tokens=5405), POSITIONS), k=4)
    assert (read.drafts, read.draft_tokens, read.accepted) == (1814, 7256, 3591)
    assert read.per_position == POSITIONS
    assert read.generation_tokens == 5405


def test_engines_are_summed():
    assert parse(page(every(drafts=1815, accepted=11), engines=2), k=4).drafts == 1815


@given(st.fixed_dictionaries(dict.fromkeys(SCALARS, COUNT)), st.lists(COUNT, max_size=4), st.floats(1e9, 2e9))
def test_created_gauges_are_never_swallowed(values, per_position, created):
    read = parse(page(values, per_position, created=created), k=4)
    assert {key: getattr(read, key) for key in SCALARS} == values
    assert read.per_position == tuple(per_position) + (0,) * (4 - len(per_position))


def test_a_position_without_a_sample_counts_nothing():
    assert parse(page(every(drafts=10, accepted=3), [3]), k=4).per_position == (3, 0, 0, 0)


def test_a_baseline_needs_no_speculative_counters():
    plain = {key: 7 for key in SCALARS if key not in counters.SPECULATIVE}
    read = parse(page(plain), k=0)
    assert (read.generation_tokens, read.drafts, read.per_position) == (7, 0, ())


@pytest.mark.parametrize("key", list(SCALARS))
def test_a_missing_counter_is_named(key):
    values = every()
    del values[key]
    with pytest.raises(CountersError) as error:
        parse(page(values), k=2)
    assert SCALARS[key] in error.value.what and error.value.fix


def test_a_missing_drafter_s_counter_points_to_the_method_in_the_log():
    with pytest.raises(CountersError, match="drafter") as error:
        parse(page({k: 0 for k in SCALARS if k not in counters.SPECULATIVE}), k=2)
    assert "method='mtp'" in error.value.fix


def test_a_page_without_the_gauge_of_running_requests_is_refused():
    with pytest.raises(CountersError, match="num_requests_running"):
        parse(page(every()).replace("vllm:num_requests", "vllm:other"), k=2)


def test_running_and_waiting_requests_are_both_under_way():
    assert parse(page(every(), running=2, waiting=3), k=2).running == 5


def test_acceptance_at_a_position_beyond_k_means_another_server():
    with pytest.raises(CountersError, match="position 2, and K is 2"):
        parse(page(every(), [5, 4, 3]), k=2)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "1.5"])
@pytest.mark.parametrize("sample", [SCALARS["accepted"], PER_POSITION + '{position="0"}'])
def test_a_value_that_is_no_count_is_refused(sample, value):
    with pytest.raises(CountersError, match="no count"):
        parse(page(every()) + f"{sample} {value}\n", k=2)


@pytest.mark.parametrize("text", ["", "\n", "<html><body>502</body></html>", '{"detail": "Not Found"}', "\x00\xff"])
def test_an_answer_that_is_not_metrics_is_one_clear_error(text):
    with pytest.raises(CountersError):
        parse(text, k=2)


@given(st.text(string.printable + "é\x00", max_size=80), st.integers(0, 400))
def test_noise_in_a_page_gives_counters_or_a_counters_error(noise, at):
    text = page(every(**TABLE), POSITIONS)
    try:
        assert isinstance(parse(text[:at] + noise + text[at:], k=4), Counters)
    except CountersError as error:
        assert error.what


@given(
    st.fixed_dictionaries(dict.fromkeys(SCALARS, COUNT)),
    st.fixed_dictionaries(dict.fromkeys(SCALARS, COUNT)),
    st.tuples(COUNT, COUNT),
    st.tuples(COUNT, COUNT),
)
def test_a_difference_is_what_was_added(before, added, positions, more):
    after = {key: before[key] + added[key] for key in SCALARS}
    delta = difference(
        Counters(**before, per_position=positions),
        Counters(**after, per_position=tuple(a + b for a, b in zip(positions, more, strict=True))),
    )
    assert delta == Counters(**added, per_position=more)


@pytest.mark.parametrize("key", list(SCALARS))
def test_any_counter_that_falls_rejects_the_cell(key):
    full = Counters(**dict.fromkeys(SCALARS, 100), per_position=(60, 40))
    with pytest.raises(CountersError, match=f"{key} fell from 100 to 99"):
        difference(full, dataclasses.replace(full, **{key: 99}))


def test_a_position_that_falls_rejects_the_cell():
    full = Counters(**dict.fromkeys(SCALARS, 100), per_position=(60, 40))
    with pytest.raises(CountersError, match="position 1 fell from 40 to 39"):
        difference(full, dataclasses.replace(full, per_position=(60, 39)))
