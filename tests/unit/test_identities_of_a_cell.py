"""The counts of a cell must add up exactly: each identity, just kept and broken by one."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from analysis.errors import CountersError
from analysis.measure import campaign
from analysis.servers.engines.counts import Counters
from analysis.study import plan
from analysis.study.study_file import load_study

CELL = next(c for c in plan.make(load_study("miniature")).cells if c.arm.k == 4 and c.sampling.ignore_eos)
TOKENS = CELL.sampling.max_tokens
#: 96 tokens: 1 of the prompt, 35 steps, 60 accepted
SOUND = Counters(drafts=35, draft_tokens=140, accepted=60, per_position=(25, 15, 12, 8), generation_tokens=TOKENS)


def answers(tokens=TOKENS):
    return [SimpleNamespace(completion_tokens=tokens, prompt_tokens=20)]


def test_counts_that_add_up_are_taken():
    campaign._check(CELL, SOUND, answers())
    campaign._check(CELL, replace(SOUND, draft_tokens=139), answers())  # a last step may draft fewer


@pytest.mark.parametrize(
    ("changed", "tokens", "words"),
    [
        ({"generation_tokens": TOKENS + 1}, TOKENS, "usage says"),
        ({"generation_tokens": TOKENS - 1}, TOKENS, "usage says"),
        ({"per_position": (25, 15, 12, 7)}, TOKENS, "summed over positions"),
        ({"draft_tokens": 141}, TOKENS, "141 draft tokens from 35 drafts of at most 4"),
        ({"prefix_hits": 1}, TOKENS, "the prefix cache is off and served 1 tokens"),
        ({"generation_tokens": TOKENS - 1}, TOKENS - 1, "a request of fixed length gave"),
    ],
)
def test_counts_that_are_off_by_one_are_refused(changed, tokens, words):
    with pytest.raises(CountersError) as error:
        campaign._check(CELL, replace(SOUND, **changed), answers(tokens))
    assert words in error.value.why
