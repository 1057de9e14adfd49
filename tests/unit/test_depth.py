"""Length of prompt and answer against the gain: numbers worked out by hand."""

import pytest

from analysis.science import depth
from analysis.show import depth as shown

# seconds of a request of 101 tokens: reading the prompt (1 s per 1000 tokens), then 100 tokens at 0.10 s in the
# baseline, 0.05 s with K = 4 at 1000 tokens, 0.095 s at 2000, 0.12 s at 4000
TPOT = {1000: (0.10, 0.05), 2000: (0.10, 0.095), 4000: (0.10, 0.12)}
# 100 tokens are decoded in 50 steps of two tokens, in 80 of 1.25, in 100 of one
DRAFTS = {1000: 50, 2000: 80, 4000: 100}


@pytest.fixture(scope="module")
def frames(build):
    requests, cells = [], []
    for length, tpots in TPOT.items():
        for k, tpot in zip((0, 4), tpots, strict=True):
            for launch in (1, 2):
                wobble = 1.003 ** ((launch - 1.5) * (1 if k else -1))
                at = {"experiment": "context", "context_tokens": length, "k": k, "launch": launch}
                at["cell_id"] = f"{length}-{k}-{launch}"
                ttft = length / 1000 * wobble
                seconds = ttft + 100 * tpot * wobble
                requests.append(
                    {**at, "seconds": seconds, "ttft": ttft, "last": seconds, "completion_tokens": 101}
                    | {"prompt_tokens": length}
                )
                drafts = DRAFTS[length] if k else 0
                cells.append({**at, "drafts": drafts, "draft_tokens": 4 * drafts, "accepted": 100 - drafts if k else 0})
    return build.cells(*cells), build.requests(*requests)


@pytest.fixture(scope="module")
def table(frames):
    return depth.by_length(*frames)


def at(table, length, k=4):
    return table[(table.context_tokens == length) & (table.k == k)].iloc[0]


def test_the_gain_at_each_length_is_of_whole_requests_at_that_length(table):
    assert at(table, 1000).speedup == pytest.approx((1 + 10) / (1 + 5))
    assert at(table, 4000).speedup == pytest.approx((4 + 10) / (4 + 12))
    assert at(table, 1000).decode_gain == pytest.approx(2.0)
    assert at(table, 2000).prefill_tok_s == pytest.approx(1000, rel=1e-5)
    assert len(table) == 6


def test_a_step_costs_what_decoding_says_and_the_drafts_count(table):
    # 100 tokens in 50 steps at 0.05 s a token: 0.1 s a step, one baseline step
    assert (at(table, 1000).al, at(table, 1000).rho) == pytest.approx((2.0, 1.0))
    # 80 steps in 9.5 s: 0.11875 s a step
    assert (at(table, 2000).al, at(table, 2000).rho) == pytest.approx((1.25, 1.1875))


def test_a_gain_inside_the_noise_at_its_length_is_none(table):
    # the two starts of both arms differ by the factor 1.003 in opposite ways: a residual of log(1.003) / 2 in each of four
    # starts, one degree of freedom, so a restart's sd is log(1.003), and the floor exp(1.96 · √2 · log(1.003) / √2)
    assert at(table, 2000).factor == pytest.approx(1.003**1.959964)
    # t = 12.706: half an interval is 12.706 · log(1.003) = 0.038, and the gain at 2000 tokens log(12 / 11.5) = 0.043
    assert [at(table, n).verdict for n in TPOT] == ["faster", "faster", "slower"]


def test_the_drafter_is_switched_off_beyond_the_last_length_at_which_it_pays(table):
    (row,) = depth.switch_off(table).itertuples()
    assert (row.pays_to, row.longest, row.beyond) == (2000, 4000, "slower")
    chosen = depth.recommend(table)
    assert list(chosen.k) == [4, 4, 0]
    said = shown.advice(chosen, depth.switch_off(table))
    assert "Python code: K = 4 up to 2,000 tokens, then no K told from none up to 4,000 tokens of prompt." in said
    assert "Switch off MTP with K = 4 on Python code beyond 2,000 tokens." in said


def test_a_gain_that_comes_back_is_not_switched_off(table):
    again = table.copy()
    again.loc[(again.k == 4) & (again.context_tokens == 2000), "verdict"] = "not distinguishable"
    again.loc[(again.k == 4) & (again.context_tokens == 4000), "verdict"] = "faster"
    (row,) = depth.switch_off(again).itertuples()
    assert (row.pays_to, row.beyond) == (1000, "faster")
    assert "No arm has to be switched off" in shown.advice(depth.recommend(again), depth.switch_off(again))


def test_where_the_noise_hides_the_loss_nothing_is_switched_off(table):
    noisy = table.copy()
    noisy.loc[(noisy.k == 4) & (noisy.context_tokens == 4000), "verdict"] = "not distinguishable"
    said = shown.advice(depth.recommend(noisy), depth.switch_off(noisy))
    assert "No arm has to be switched off up to 4,000 tokens." in said
    assert "cannot be told from none here for MTP with K = 4 on Python code beyond 2,000 tokens." in said


def test_an_arm_that_never_pays_is_off_at_every_length(table):
    never = table.copy()
    never.loc[never.k == 4, "verdict"] = "slower"
    (row,) = depth.switch_off(never).itertuples()
    assert (row.pays_to, row.beyond) == (0, "slower")
    assert "Switch off MTP with K = 4 on Python code at any length measured." in shown.advice(
        depth.recommend(table), depth.switch_off(never)
    )


@pytest.mark.parametrize("draw", [shown.time_to_first_token, shown.acceptance, shown.step_cost, shown.speedup])
def test_a_figure_says_its_numbers_and_is_the_same_twice(table, draw):
    one, two = draw(table, "measured"), draw(table, "measured")
    assert one.static == two.static and one.alt and "1,000 tokens" in one.alt
    assert one.title[0].isupper()


def test_the_title_says_what_length_does(table):
    assert shown.speedup(table, "measured").title == (
        "The gain shrinks with longer prompts: 1.83× at 1,000 tokens, 0.88× at 4,000"
    )
    assert "2.00 tokens per step at the shortest, 1.00 at the longest" in shown.acceptance(table, "measured").title


def test_a_study_without_lengths_says_so_in_one_line_and_shows_nothing(build):
    none = depth.by_length(build.cells({"k": 4}), build.requests({"k": 0}, {"k": 4}))
    answers = depth.by_length(build.cells({"k": 4}), build.requests({"k": 0}, {"k": 4}), "output_tokens")
    assert none.empty and "set `context_tokens`" in shown.nothing(none, answers)
    drawn = [f(none, "measured") for f in (shown.time_to_first_token, shown.acceptance, shown.step_cost, shown.speedup)]
    assert drawn == [None] * 4 and shown.lengths(none) is None
    assert depth.recommend(none).empty and depth.switch_off(none).empty


def test_the_lengths_measured_are_named(table):
    assert shown.nothing(table, table.iloc[:0]) == "Measured with prompts of 1,000, 2,000 and 4,000 tokens."
