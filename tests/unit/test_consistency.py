"""Derived numbers computed again: what does not fit is listed by name, and nothing else is."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import EvidenceError
from analysis.published import consistency, evidence, statements
from analysis.published.intervals import apply, interval, overlap


@pytest.fixture(scope="module")
def tables() -> evidence.Evidence:
    return evidence.load()


def changed(tables: evidence.Evidence, name: str, wanted: dict, printed: str) -> evidence.Evidence:
    """The tables with one printed number changed."""
    frame = getattr(tables, name).copy()
    hit = pd.Series(True, index=frame.index)
    for column, value in wanted.items():
        hit &= (frame[column] == value).fillna(False)
    assert hit.sum() == 1
    frame.loc[hit, ["printed", "value"]] = [printed, float(printed)]
    return dataclasses.replace(tables, **{name: frame})


def test_the_known_inconsistencies_and_no_others(tables):
    found = consistency.findings(tables)
    assert set(found["title"]) == {entry["title"] for entry in tables.known.values()}
    assert set(found["name"]) == set(tables.known)
    assert found["note"].str.len().min() >= 20


def test_every_derived_column_of_the_articles_is_computed_again(tables):
    checks = consistency.derived(tables)
    sure = checks["name"].str.split(": ").str[-1].value_counts()
    # 2.1: 6, headline: 6, 2.3: 4, 2.4: 2, 2.5: 1, 2.6: 2, 3.1: 12, A.2 and others below
    assert sure["speedup"] >= 45
    assert sure["chars_s"] == 12  # 2.1 prints characters, 2.3 and 2.6 do not
    assert sure["acceptance_rate"] == 12
    assert sure["mean_accepted"] == 11
    assert sure["draft_tokens"] == 5
    assert sure["per_request_tok_s"] >= 3
    assert sure["measured_over_theory"] == 6
    assert list(checks[~checks["ok"]]["name"]) == ["airelien, gemma-4-E4B-it K=3 html_game: acceptance_length_limit"]


@pytest.mark.parametrize(
    ("name", "wanted", "printed", "found"),
    [
        (
            "measurements",
            {"source": "suzuki-shoten", "table": "2.1-31b", "workload": "py_code", "metric": "speedup"},
            "3.61",
            "3.515",
        ),
        (
            "acceptance",
            {"source": "suzuki-shoten", "table": "A.1", "k": 8, "metric": "acceptance_rate"},
            "31.4",
            "30.37",
        ),
        (
            "acceptance",
            {"source": "suzuki-shoten", "table": "A.1", "k": 2, "metric": "p", "position": 1},
            "58.8",
            "1.349",
        ),
        (
            "measurements",
            {"source": "ai-muninn-27", "table": "concurrency", "concurrency": 4, "metric": "per_request_tok_s"},
            "87.28",
            "87.07",
        ),
        ("measurements", {"source": "billings", "table": "sweep", "k": 2, "metric": "speedup"}, "1.15", "1.125"),
        (
            "measurements",
            {"source": "airelien", "table": "bench", "label": "run 2", "metric": "tok_s"},
            "193.73",
            "191.6",
        ),
    ],
)
def test_a_changed_digit_is_a_new_finding(tables, name, wanted, printed, found):
    rows = consistency.findings(changed(tables, name, wanted, printed))
    new = rows[rows["title"] == ""]
    assert len(new) >= 1
    assert new["found"].str.contains(found, regex=False).any()


def test_a_mended_number_is_no_finding_any_more(tables):
    fixed = changed(tables, "stated", {"metric": "layers", "subject": "gemma-4-31B-it"}, "60")
    assert "32 layers" not in set(consistency.findings(fixed)["title"])


def test_the_overhead_of_zero_point_nine_is_called_impossible(tables):
    row = consistency.findings(tables).set_index("title").loc["an overhead of 0.9"]
    assert (row["kind"], row["printed"], row["found"]) == ("impossible", "0.9", "at least 1")


def test_a_printed_number_is_half_a_digit_wide():
    assert interval("13.74") == pytest.approx((13.735, 13.745))
    assert interval("832") == (831.5, 832.5)
    assert interval("870", "about") == (865.0, 875.0)
    assert interval("3591", metric="accepted") == (3591, 3591)
    assert interval("40", "up-to")[1] == 45.0 and interval("40", "up-to")[0] == -float("inf")


@given(st.floats(0.5, 500), st.floats(0.5, 500))
def test_a_rounded_quotient_is_always_consistent(a, b):
    """Whatever is printed with two decimals, the quotient of the true values lies in reach of the printed ones."""
    reach = apply(lambda x, y: x / y, interval(f"{a:.2f}"), interval(f"{b:.2f}"))
    assert overlap((a / b, a / b), reach)


def test_a_relation_that_picks_nothing_says_so(tables):
    broken = dataclasses.replace(
        tables, relations=[{"source": "x", "name": "y", "rows": {"a": {"table": "no such"}}, "holds": "a > 1"}]
    )
    with pytest.raises(EvidenceError, match="matches 0 rows"):
        statements.relations(broken)


def test_a_relation_is_arithmetic_only(tables):
    one = {"table": "A.3", "metric": "drafts"}
    broken = dataclasses.replace(
        tables, relations=[{"source": "x", "name": "y", "rows": {"a": one}, "holds": "max(a) > 1"}]
    )
    with pytest.raises(EvidenceError, match="only"):
        statements.relations(broken)
