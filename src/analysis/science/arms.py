"""Which rows of a frame speculate, and which are the baseline's. Pure."""

from __future__ import annotations

import pandas as pd

from analysis.study import engine_k, speculator


def speculating(frame: pd.DataFrame) -> pd.Series:
    """True for the rows of arms that speculate: by ``speculator``, or by the arm's name where a frame has no such column."""
    if "speculator" in frame:
        return frame.speculator != speculator.NONE.method
    return frame.arm.map(lambda name: speculator.of_arm(name)[0].speculates).astype(bool)


def baseline(frame: pd.DataFrame) -> pd.Series:
    """True for the rows of baselines."""
    return ~speculating(frame)


def baselines(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the baselines; a variant without one of its own is compared with the main one."""
    own = frame[baseline(frame)]
    main = own[own.variant == "main"]
    without = [v for v in frame.variant.unique() if v not in set(own.variant)]
    return pd.concat([own, *(main.assign(variant=v) for v in without)])


def of_the_drafter(frame: pd.DataFrame) -> pd.Series:
    """True for the rows whose counts by position are the drafter's: not those of arms whose engine chooses how many drafts
    are verified, and counts the others as rejected (`engine_k.Way.slots`)."""
    if "way" not in frame:
        return pd.Series(True, index=frame.index)
    return ~frame.way.map(engine_k.slots).astype(bool)


def lossy(frame: pd.DataFrame) -> pd.Series:
    """True for the rows of arms that may change what the model says."""
    if "way" not in frame:
        return pd.Series(False, index=frame.index)
    return frame.way.map(engine_k.lossy).astype(bool)


def only_arm(frame: pd.DataFrame, arm: str | None) -> str:
    """The arm asked for, or the only one that speculates. Raises ValueError where there is none or a choice."""
    there = sorted(frame[speculating(frame)].arm.unique())
    if arm in there or (arm is None and len(there) == 1):
        return arm or there[0]
    raise ValueError(
        f"which arm to compare: {', '.join(there) or 'none'} speculate{'s' * (len(there) == 1)}, asked: {arm}"
    )
