"""Load: inside and outside the graphs, which setting wins, one launch for all, and counters of engines that choose K."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis.published import evidence
from analysis.published import load as published
from analysis.science import acceptance, load, speedup
from analysis.science.stats import NoiseFloor

sys.path.insert(0, str(Path(__file__).parent))
from load_frames import RECORDED, measured, recorded


def test_the_identities_hold_for_each_way_of_choosing_k():
    cells, positions, _ = recorded()
    assert acceptance.identities(cells, positions).holds.all()
    assert len(cells) == 12


@pytest.mark.parametrize("way", ["", "adaptive"])
def test_with_fixed_k_and_adaptive_verification_every_draft_counts_k_slots(way):
    cells = recorded()[0]
    own = cells[cells.way == way]
    assert (own.draft_tokens == 8 * own.drafts).all() and len(own) == 4


def test_by_batch_a_draft_counts_its_own_k_and_a_step_without_one_counts_nothing():
    cells = recorded()[0]
    own = cells[cells.way == "by_batch"].set_index("concurrency")
    assert own.draft_tokens[1] == 8 * own.drafts[1]  # one running request: K = 8
    assert 4 <= own.draft_tokens[64] / own.drafts[64] < 4.2  # 64: K = 4, and 8 as the last ones end
    assert own.drafts[256] == 65 and own.completion_tokens[256] == 49152  # 256: K = 0 until few are left


def test_acceptance_of_the_drafter_is_that_of_fixed_k_alone():
    cells, positions, _ = recorded()
    assert set(acceptance.by_arm(cells).arm) == {"mtp-k8@k8"}
    assert set(acceptance.by_position(positions).arm) == {"mtp-k8@k8"}


def test_what_the_engine_chose_at_each_load():
    """256 streams: adaptive accepts 24,787 of 195,960 slots; 49,152 − 256 decoded − 24,787 = 24,109, fewer than its 24,495
    drafts, so those are the steps. By batch 65 drafts in 48,810 steps."""
    cells, _, requests = recorded()
    table = load.chosen(cells, requests).set_index(["arm", "concurrency"])
    adaptive, batch = table.loc[("mtp-k8@k8-adaptive", 256)], table.loc[("mtp-k8@k8-bybatch", 256)]
    assert adaptive.per_slot == pytest.approx(24787 / 195960) and adaptive.slots == 8 and adaptive.drafted == 1
    assert adaptive.tokens_per_step == pytest.approx(1 + 24787 / 24495)
    assert batch.drafted == pytest.approx(65 / 48810) and batch.tokens_per_step == pytest.approx(1 + 86 / 48810)
    assert "mtp-k8@k8" not in table.index.get_level_values(0)


def test_steps_by_batch_that_no_record_has_are_found_by_their_tokens():
    """A request of 192 tokens with two recorded steps that accepted 8: 1 + 2 + 8 = 11, so 181 steps had no draft."""
    first = next(r for r in RECORDED if r["arm"] == "k8-bybatch" and r["streams"] == 256)["first"]
    assert first["drafted"] == [8, 4] and sum(first["accepted"]) == 8
    key = {"variant": "b", "arm": "mtp-k8@b", "k": 8, "speculator": "mtp", "workload": "w", "way": "by_batch"}
    cells = pd.DataFrame(
        [{**key, "requests": 1, "completion_tokens": 192, "drafts": 2, "draft_tokens": 12, "accepted": 8}]
    )
    request = {**key, "steps": 2, "step_accepted": 8, "undrafted_steps": 0, "completion_tokens": 192}
    row = acceptance.ledger(cells, pd.DataFrame([request])).iloc[0]
    assert (row.residual, row.undrafted, row.cut, row.unexplained) == (181, 181, 0, 0)
    fixed = acceptance.ledger(cells.assign(way=""), pd.DataFrame([{**request, "way": ""}])).iloc[0]
    assert fixed.unexplained != 181 or fixed.undrafted == 0


def test_the_table_of_a_real_h100_gains_below_and_loses_beyond_the_graphs_and_not_with_graphs_that_cover():
    table = speedup.concurrency(*measured()).set_index(["arm", "concurrency"])
    assert table.over_baseline[("mtp-k4", 96)] == pytest.approx(1.64, abs=0.01)
    assert table.over_baseline[("mtp-k4", 112)] == pytest.approx(0.854, abs=0.003)
    assert table.over_baseline[("mtp-k4@cover", 112)] == pytest.approx(1.667, abs=0.005)
    assert table.in_graphs[("mtp-k4", 96)] == "inside" and table.in_graphs[("mtp-k4", 112)] == "outside"
    lo, hi = table.lo[("mtp-k4", 96)], table.hi[("mtp-k4", 96)]
    assert lo < 1.638 < hi and table.lo[("baseline", 96)] != table.lo[("baseline", 96)]


def test_one_launch_gives_no_interval_and_no_floor():
    cells, requests = measured(launches=(1,))
    table = speedup.concurrency(cells, requests)
    assert table.lo.isna().all() and not load.floor(cells).known


def test_the_floor_under_load_comes_from_the_restarts_of_all_arms():
    # two starts of three arms leave (2 - 1) · (3 - 1) degrees of freedom
    floor = load.floor(measured()[0])
    assert floor.known and floor.df == 2 and floor.launches == 2
    assert 1 < floor.factor < floor.high


def test_winners_and_the_one_launch_for_every_load():
    table = speedup.concurrency(*measured())
    floor = NoiseFloor(1.03, "launches, under load", 5)
    best = load.winners(table, floor).set_index("concurrency")
    assert (best.arm == "mtp-k4@cover").all()
    assert best.as_good[64] == ("mtp-k4",) and best.as_good[112] == ()  # 7,764 is within 3 % of 7,958
    found = load.one_for_all(table, floor).set_index("arm")
    assert found.within["mtp-k4@cover"] and found.worst["mtp-k4@cover"] == 1
    assert not found.judged["mtp-k4"] and found.leaves["mtp-k4"] == 112  # two kinds of loads: no verdict
    assert found.judged["baseline"] and not found.within["baseline"]
    assert found["at"]["baseline"] == 64 and found.worst["baseline"] == pytest.approx(4654 / 7958, rel=0.01)
    assert list(found.index)[-1] == "mtp-k4"


def test_an_arm_that_was_not_measured_at_every_load_is_not_asked():
    cells, requests = measured()
    gone = ~((cells.arm == "mtp-k4@cover") & (cells.concurrency == 192))
    found = load.one_for_all(speedup.concurrency(cells[gone], requests[gone]), NoiseFloor(1.0, "", 0))
    assert "mtp-k4@cover" not in set(found.arm)


def test_the_table_of_k_comes_from_the_arms_of_fixed_k_inside_the_graphs():
    rows = []
    for streams, speeds in {
        1: (100, 150, 190),
        16: (900, 1500, 1400),
        64: (3000, 4000, 9999),
        256: (9000, 8000, 7000),
    }.items():
        for k, speed in zip((0, 2, 4), speeds, strict=True):
            side = "outside" if (k, streams) == (4, 64) else "inside"
            rows.append({"arm": f"mtp-k{k}" if k else "baseline", "variant": "main", "k": k, "way": "", "in_graphs": side,
                         "workload": "w", "concurrency": streams, "aggregate_tok_s": float(speed)})  # fmt: skip
    table = pd.DataFrame(rows)
    assert load.batch_table(table) == [[1, 15, 4], [16, 255, 2], [256, 256, 0]]
    cover = table[(table.k == 4) & (table.concurrency > 16)].assign(
        arm="mtp-k4@cover", variant="cover", in_graphs="inside"
    )
    assert load.batch_table(pd.concat([table, cover])) == [[1, 15, 4], [16, 63, 2], [64, 255, 4], [256, 256, 0]]
    other = cover.assign(arm="baseline@cover", k=0)  # a variant with a baseline of its own is another server
    assert load.batch_table(pd.concat([table, cover, other])) == [[1, 15, 4], [16, 255, 2], [256, 256, 0]]
    assert load.batch_table(table[table.k == 0]) == []


def test_the_main_arms_come_before_those_of_variants():
    table = speedup.concurrency(*measured())
    assert list(dict.fromkeys(table.arm)) == ["baseline", "mtp-k4", "mtp-k4@cover"]


def test_published_loads_are_inside_outside_or_not_known():
    found = published.sides(evidence.load()).to_dict("records")

    def row(source, streams):
        return next(r for r in found if r["source"] == source and r["concurrency"] == streams)

    own = row("ai-muninn-27", 8)
    assert (own["tokens"], own["in_graphs"], own["why"]) == (40, "inside", "8 × 5 = 40 ≤ 512")
    assert row("nvidia-370354", 8)["why"] == "sglang has rules of its own"
    bare = next(r for r in found if r["source"] == "jarvislabs" and r["arm"] == "dflash")
    assert (bare["tokens"], bare["in_graphs"], bare["why"]) == (256, "not known", "its launch is not published")


@pytest.mark.parametrize(
    ("streams", "flags", "side"),
    [(64, {}, "inside"), (128, {}, "outside"), (8, {"enforce-eager": "on"}, "none"),
     (8, {"max-cudagraph-capture-size": "16"}, "not known")],
)  # fmt: skip
def test_the_sum_of_a_published_launch(streams, flags, side):
    rows = [("x", "launch", "flag", n, v) for n, v in {"max-model-len": "4096", **flags}.items()]
    recipes = pd.DataFrame(rows, columns=["source", "recipe", "part", "name", "value"])
    row = {"source": "x", "engine": "vllm", "k": 4.0, "concurrency": streams}
    assert published._side(row, recipes)["in_graphs"] == side
