"""Energy per token: a scripted counter is exact; a machine without one says so."""

import math

import pytest

from analysis.measure import state
from analysis.records import store
from analysis.science import energy
from analysis.science.money import Assumptions
from analysis.show import energy as shown


def test_a_scripted_counter_is_read_exactly(monkeypatch, tmp_path):
    counter = iter([1000.0, 1600.5])
    monkeypatch.setattr(state, "_nvml", lambda: object())
    monkeypatch.setattr(state, "_read_gpu", lambda handle, gpu: None)
    monkeypatch.setattr(state, "_energy", lambda handle: next(counter))
    with state.Watch(str(tmp_path)) as watch:
        pass
    assert watch.state["energy_j"] == 600.5
    assert store._counts({"state": watch.state, "per_position": [1]})["energy_j"] == 600.5
    assert math.isnan(store._counts({"wall_s": 1.0})["energy_j"])


def test_both_definitions_with_idle_power_subtracted_or_not(build):
    # 600 J in 10 s: 60 W; 200 tokens out and 100 in
    row = {"energy_j": 600.0, "wall_s": 10.0, "prompt_tokens": 100, "completion_tokens": 200}
    cells = build.cells(row, {**row, "k": 4, "energy_j": 450.0, "wall_s": 5.0}, {**row, "experiment": "greedy"})
    base, own = energy.per_token(cells).itertuples()
    assert (base.watts, base.j_per_output, base.j_per_token) == pytest.approx((60, 3, 2))
    assert (base.tok_s_per_w, own.against) == pytest.approx((1 / 3, 0.75))
    base, own = energy.per_token(cells, idle_w=20).itertuples()
    assert (base.j_per_output, own.j_per_output, own.against) == pytest.approx((2, 1.75, 0.875))
    assert energy.watts(cells) == pytest.approx(1050 / 15)
    assert "0.75 times the baseline's energy per output token" in shown.said(energy.per_token(cells))


def test_repeats_and_launches_are_summed_and_loads_kept_apart(build):
    row = {"energy_j": 100.0, "completion_tokens": 100, "wall_s": 1.0}
    cells = build.cells(
        row, {**row, "launch": 2, "energy_j": 300.0}, {**row, "experiment": "concurrency", "concurrency": 8}
    )
    assert energy.per_token(cells)[["concurrency", "j_per_output"]].values.tolist() == [[1, 2.0], [8, 1.0]]


def test_a_machine_without_a_counter_says_so(build):
    found = energy.per_token(build.cells({}, {"k": 4}))
    assert found.empty and shown.per_token(found) is None
    assert shown.said(found).startswith("Energy: not readable.")
    assert energy.watts(build.cells({})) is None


def test_the_cost_of_a_token_takes_measured_watts_unless_the_study_states_its_own():
    assert Assumptions.of({}, 345.0).watts == 345
    assert Assumptions.of({"watts": 100.0}, 345.0).watts == 100
    assert Assumptions.of({}).watts == 200
