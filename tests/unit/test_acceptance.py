"""Acceptance, positions and the token ledger, held to the published counts (suzuki-shoten, tables A.1 and A.3)."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.science import acceptance

#: K: drafts, draft tokens, accepted, accepted by position (whole numbers that give the printed percentages and sum),
#: printed acceptance rate [%], printed p_i [%]
PUBLISHED = {
    "26B K=1": (1, 3027, 3027, 2367, (2367,), 78.2, (78.2,)),
    "26B K=2": (2, 2306, 4612, 3091, (1758, 1333), 67.0, (76.2, 57.8)),
    "26B K=4": (4, 1814, 7256, 3591, (1310, 973, 747, 561), 49.5, (72.2, 53.6, 41.2, 30.9)),
    "26B K=8": (
        8,
        1576,
        12608,
        3829,
        (1157, 824, 585, 406, 304, 240, 173, 140),
        30.4,
        (73.4, 52.3, 37.1, 25.8, 19.3, 15.2, 11.0, 8.9),
    ),
    "31B K=4": (4, 1890, 7560, 4117, (1488, 1113, 862, 654), 54.5, (78.7, 58.9, 45.6, 34.6)),
}


@pytest.fixture(params=PUBLISHED.values(), ids=PUBLISHED)
def published(request, build):
    k, drafts, draft_tokens, accepted, counts, rate, p = request.param
    row = {"k": k, "drafts": drafts, "draft_tokens": draft_tokens, "accepted": accepted, "per_position": counts}
    return build.cells(row), build.positions(row), rate, p


def test_published_counts_give_the_published_rate_and_length(published):
    cells, positions, rate, p = published
    row = acceptance.by_arm(cells).iloc[0]
    assert round(100 * row.ar, 1) == rate
    assert row.al == pytest.approx(1 + sum(p) / 100, abs=0.002)


def test_published_counts_give_the_published_positions(published):
    _, positions, _, p = published
    assert tuple((100 * acceptance.by_position(positions).p).round(1)) == p


def test_conditional_acceptance_of_the_published_runs_is_nearly_flat(build):
    _, drafts, _, _, counts, _, _ = PUBLISHED["26B K=4"]
    table = acceptance.by_position(build.positions({"k": 4, "drafts": drafts, "per_position": counts}))
    assert tuple(table.c.round(2)) == (0.72, 0.74, 0.77, 0.75)


def test_the_identities_hold_for_the_published_counts(published):
    cells, positions, _, _ = published
    table = acceptance.identities(cells, positions)
    assert len(table) == 3 and table.holds.all()


def test_counts_are_summed_over_cells_before_dividing(build):
    rows = [
        {"k": 1, "repeat": 1, "drafts": 10, "draft_tokens": 10, "accepted": 10, "per_position": (10,)},
        {"k": 1, "repeat": 2, "drafts": 90, "draft_tokens": 90, "accepted": 30, "per_position": (30,)},
    ]
    row = acceptance.by_arm(build.cells(*rows)).iloc[0]
    assert (row.al, row.ar) == pytest.approx((1.4, 0.4))  # not the mean of 1.0 and 1/3
    assert acceptance.by_position(build.positions(*rows)).p.iloc[0] == pytest.approx(0.4)


def test_arms_and_workloads_are_kept_apart_and_the_baseline_has_no_acceptance(build):
    rows = [{"k": k, "workload": w, "drafts": 10, "draft_tokens": 10 * k} for k in (1, 2) for w in ("a", "b")]
    table = acceptance.by_arm(build.cells(*rows, {"k": 0}))
    assert list(zip(table.k, table.workload, strict=True)) == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]


def test_nothing_drafted_gives_no_number_rather_than_a_division_by_zero(build):
    row = {"k": 2, "drafts": 0, "per_position": (0, 0)}
    assert acceptance.by_arm(build.cells(row))[["al", "ar"]].isna().all(axis=None)
    assert acceptance.by_position(build.positions(row))[["p", "c"]].isna().all(axis=None)


def test_after_a_position_that_never_accepted_the_conditional_share_is_unknown(build):
    table = acceptance.by_position(build.positions({"k": 3, "drafts": 10, "per_position": (5, 0, 0)}))
    assert table.c.tolist()[:2] == [0.5, 0] and table.c.isna().tolist() == [False, False, True]


COUNTS = st.integers(1, 10**6).flatmap(
    lambda drafts: st.tuples(st.just(drafts), st.lists(st.integers(0, drafts), min_size=1, max_size=8))
)


@settings(max_examples=15)
@given(COUNTS)
def test_al_is_one_plus_the_sum_of_positions_for_any_counts(build, counts):
    drafts, accepted = counts[0], sorted(counts[1], reverse=True)
    row = {"k": len(accepted), "drafts": drafts, "accepted": sum(accepted), "per_position": accepted}
    row["draft_tokens"] = drafts * len(accepted)
    cells = pd.DataFrame([build.cell(row)])  # past the schema, whose checks take most of the time
    positions = cells.merge(pd.DataFrame({"position": range(len(accepted)), "n": accepted}), how="cross")
    positions = positions.assign(accepted=positions.n)
    p = acceptance.by_position(positions).p
    assert acceptance.by_arm(cells).al.iloc[0] == pytest.approx(1 + p.sum())
    assert acceptance.al_from_positions(p, len(accepted)) == pytest.approx(1 + p.sum())
    assert acceptance.identities(cells, positions).holds.all()


def test_positions_measured_at_k_8_predict_every_smaller_k():
    p = [v / 100 for v in PUBLISHED["26B K=8"][-1]]
    assert acceptance.al_from_positions(p, 1) == pytest.approx(1.734)
    assert acceptance.al_from_positions(p, 4) == pytest.approx(2.886)
    assert acceptance.al_from_positions(p, 8) == pytest.approx(3.43)  # printed: 2.43 accepted a step
    assert acceptance.al_from_positions(p, 0) == 1


def test_a_larger_k_than_was_measured_cannot_be_predicted():
    with pytest.raises(ValueError, match="K = 4 needs 4 positions; 2"):
        acceptance.al_from_positions([0.7, 0.5], 4)


@pytest.mark.parametrize(
    "broken, identity",
    [
        ({"accepted": 3590}, "Σ accepted per position = accepted"),
        ({"accepted": 3590}, "AL = 1 + Σ p_i"),
        ({"draft_tokens": 7257}, "draft tokens ≤ K × drafts"),
    ],
)
def test_a_count_that_is_off_by_one_breaks_its_identity(build, broken, identity):
    k, drafts, draft_tokens, accepted, counts, _, _ = PUBLISHED["26B K=4"]
    row = {"k": k, "drafts": drafts, "draft_tokens": draft_tokens, "accepted": accepted, "per_position": counts}
    table = acceptance.identities(build.cells({**row, **broken}), build.positions(row)).set_index("identity")
    assert not table.holds[identity]


# Two requests at K = 2. The first has three full steps, accepting 2, 0, 1: 1 + 3 + 3 = 7 tokens made, and 6 asked for,
# so one was cut. The second has a full step (1 accepted) and one without a draft: 1 + 2 + 1 = 4 tokens, none cut.
LEDGER = [
    {"k": 2, "completion_tokens": 6, "steps_accepted": [2, 0, 1], "steps_drafted": [2, 2, 2]},
    {"k": 2, "completion_tokens": 4, "steps_accepted": [1, 0], "steps_drafted": [2, 0]},
]
CELL = {"k": 2, "requests": 2, "completion_tokens": 10, "drafts": 4, "draft_tokens": 8, "accepted": 4}


def test_the_ledger_accounts_for_cut_tokens_and_for_steps_without_a_draft(build):
    row = acceptance.ledger(build.cells(CELL), build.requests(*LEDGER)).iloc[0]
    assert row.residual == 10 - (2 + 4 + 4)
    assert (row.undrafted, row.cut, row.unexplained) == (1, 1, 0)


def test_a_cut_token_alone_makes_the_residual_negative(build):
    cell = {**CELL, "requests": 1, "completion_tokens": 6, "drafts": 3, "accepted": 3}
    row = acceptance.ledger(build.cells(cell), build.requests(LEDGER[0])).iloc[0]
    assert (row.residual, row.undrafted, row.cut, row.unexplained) == (-1, 0, 1, 0)


def test_a_token_that_nothing_accounts_for_is_unexplained(build):
    row = acceptance.ledger(build.cells({**CELL, "completion_tokens": 11}), build.requests(*LEDGER)).iloc[0]
    assert (row.residual, row.unexplained) == (1, 1)


def test_without_a_per_request_ledger_the_residual_stays_unsplit(build):
    bare = [{**r, "steps_accepted": [], "steps_drafted": []} for r in LEDGER]
    assert acceptance.ledger(build.cells(CELL), build.requests(*bare)).unexplained.isna().all()
    assert acceptance.ledger(build.cells(CELL), build.requests(LEDGER[0], bare[1])).unexplained.isna().all()
