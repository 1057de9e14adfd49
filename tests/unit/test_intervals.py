"""The spread of restarts, the interval of a ratio and the noise floor: small layouts worked out by hand."""

import json
import math

import numpy as np
import pytest

from analysis.records import earlier
from analysis.records.store import Store
from analysis.science import intervals, speedup
from analysis.science.intervals import Spread


def starts(**logs: list[float]) -> list[dict]:
    """One prompt; ``k4=[0.1, 0]`` are an arm's logarithms of seconds per token by launch."""
    return [
        {"k": int(name[1:]), "launch": n, "seconds": 100 * math.exp(value)}
        for name, values in logs.items()
        for n, value in enumerate(values, 1)
    ]


def test_the_restart_spread_is_the_residual_of_arms_and_launches(build):
    # launch 2 is slower by 0.3 for every arm: a block, and no restart. Left are ±0.01 in four starts and 0 in two, with
    # (3 - 1) · (2 - 1) degrees of freedom
    rows = starts(k0=[0.01, 0.3 - 0.01], k2=[1 - 0.01, 1.3 + 0.01], k4=[2.0, 2.3])
    found = intervals.spread(build.requests(*rows))
    assert found.df == 2
    assert found.restart == pytest.approx(math.sqrt(4 * 0.01**2 / 2))


def test_one_arm_alone_shows_its_launches_drift_included(build):
    found = intervals.spread(build.requests(*starts(k0=[0.0, 0.1, 0.2])))
    assert (found.restart, found.df) == (pytest.approx(0.1), 2)


def test_arms_with_unequal_launches_give_what_they_have(build):
    # k4 has one start, and so no residual. k0 and k2 differ by 0.02, then by 0.06, which is ±0.02 about the mean: the
    # residuals are ±0.01 in four starts, with one degree of freedom
    found = intervals.spread(build.requests(*starts(k0=[0.0, 0.0], k2=[0.02, 0.06], k4=[3.0])))
    assert (found.restart, found.df) == (pytest.approx(0.02), 1)


def test_no_arm_started_twice_gives_no_spread(build):
    assert intervals.spread(build.requests(*starts(k0=[0.0], k4=[1.0]))) is None
    assert not speedup.floor(build.requests(*starts(k0=[0.0], k4=[1.0]))).known


def test_longer_answers_other_experiments_and_failed_prompts_are_no_spread(build):
    rows = starts(k0=[0.0, 0.0], k4=[1.0, 1.0])
    rows += [
        {"launch": 1, "prompt_id": "long", "seconds": 50.0, "completion_tokens": 500}
    ]  # answered by one start alone
    rows += [{"launch": 2, "experiment": "greedy", "seconds": 900.0}]
    assert intervals.spread(build.requests(*rows)).restart == pytest.approx(0, abs=1e-9)


def test_workloads_share_a_restart_and_add_no_degrees_of_freedom(build):
    one = starts(k0=[0.0, 0.04], k4=[1.0, 1.0])
    both = one + [{**row, "workload": "en_finance"} for row in one]
    first, second = (intervals.spread(build.requests(*rows)) for rows in (one, both))
    assert (first.restart, first.df) == pytest.approx((0.02, 1))
    assert (second.restart, second.df) == pytest.approx((0.02, 1))


def test_the_interval_of_prompts_and_restarts_by_satterthwaite():
    # restarts: 2/2 · 0.04² = 0.0016 with 4; prompts 0.03² / 9 = 0.0001 with 8 degrees of freedom
    low, high, df = intervals.ratio(math.log(2), (0.04**2, 4), 1 / 2 + 1 / 2, (0.03**2, 8), 9)
    assert df == pytest.approx(0.0017**2 / (0.0016**2 / 4 + 0.0001**2 / 8))
    assert (low * high, high / 2) == pytest.approx(
        (4, math.exp(2.65754 * math.sqrt(0.0017))), rel=1e-3
    )  # t(0.975, 4.51)


def test_prompts_that_are_one_are_fixed_and_more_make_it_wider(build):
    rows = starts(k0=[0.0, 0.02], k4=[1.0, 1.0])
    one = speedup.paired(build.requests(*rows)).iloc[0]
    spread_out = [{**r, "prompt_id": "p2", "seconds": r["seconds"] * (1.2 if r["k"] else 1)} for r in rows]
    two = speedup.paired(build.requests(*rows, *spread_out)).iloc[0]
    assert math.log(two.hi / two.speedup) > math.log(one.hi / one.speedup) > 0


def test_the_floor_is_an_estimate_with_an_interval():
    # chi-square of 8 degrees of freedom: 2.1797 and 17.5345
    found = intervals.floor(Spread(0.05, 8.0), 2)
    assert found.factor == pytest.approx(math.exp(1.959964 * 0.05))
    assert found.low == pytest.approx(math.exp(1.959964 * 0.05 * math.sqrt(8 / 17.5345)), rel=1e-5)
    assert found.high == pytest.approx(math.exp(1.959964 * 0.05 * math.sqrt(8 / 2.1797)), rel=1e-5)
    assert (found.df, found.launches, found.between) == (8, 2, "launches")


def test_the_floor_falls_with_launches_where_the_largest_pair_only_grew(build):
    noise = np.random.default_rng(1).normal(0, 0.05, (5, 20))
    factors = [
        speedup.floor(build.requests(*starts(**{f"k{k}": list(noise[k, :n]) for k in range(5)}))).factor
        for n in (5, 20)
    ]
    assert factors[0] > factors[1] == pytest.approx(math.exp(1.96 * 0.05 * math.sqrt(2 / 20)), rel=0.01)


# -- earlier studies -----------------------------------------------------------------------------------------------


def record(root, study, launches, cores=2, seconds=lambda launch: 1.0):
    """A store with one timing request per launch of one arm."""
    store = Store(study, root=root)
    store.write_study({"provenance": {}})
    for n in range(1, launches + 1):
        name = f"baseline.{n}.1"
        facts = {"vllm_version": "0.32.0"}
        store.write_launch(
            name,
            {"arm": "baseline", "variant": "main", "k": 0, "launch": n, "facts": facts}
            | {"provenance": {"cpu": "a CPU", "cores": cores, "gpus": []}},
        )
        for experiment in ("timing", "greedy"):
            cell = {"cell_id": f"{experiment}{n}", "launch_id": name, "status": "ok"}
            label = f"baseline · {experiment} · py_code · 1 stream · repeat 1"
            own = {"cell_id": cell["cell_id"], "launch_id": name, "index": 0, "prompt_id": "p"}
            store.append({**cell, "label": label}, [{**own, "seconds": seconds(n), "completion_tokens": 10}])
    return Store(study, root=root)


def test_earlier_studies_of_this_machine_say_how_much_a_restart_changes(tmp_path):
    own = record(tmp_path, "own", 1)
    assert earlier.frames(own) == []
    record(tmp_path, "before", 3, seconds=lambda n: math.exp(0.1 * n))
    record(tmp_path, "elsewhere", 3, cores=64, seconds=lambda n: math.exp(n))
    record(tmp_path, "once", 1)
    (tmp_path / "copied").mkdir()
    (tmp_path / "copied" / "cells.jsonl").write_text("")
    (tmp_path / "copied" / "study.json").write_text(json.dumps({"study": "another"}))
    found = intervals.of_frames(earlier.frames(own))
    assert (found.restart, found.df, found.studies) == (pytest.approx(0.1), 2, 1)
