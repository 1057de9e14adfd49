"""What became of every planned measurement: two tables and a sentence. Pure: frames of `science.kept` in."""

from __future__ import annotations

import pandas as pd

from analysis.show.outputs import Table


def summary(table: pd.DataFrame) -> Table:
    """Planned, measured, repeated, failed and set aside, by arm."""
    return Table(
        table,
        "What became of every planned measurement",
        note="Repeated: set aside, and measured again after the others. Disturbed: it counts, though something else used the"
        " machine, since it could not be measured again.",
    )


def apart(table: pd.DataFrame) -> Table | None:
    """Each measurement that was set aside, failed or is disturbed, with the reason; None where there is none."""
    if table.empty:
        return None
    return Table(
        table,
        "Measurements set aside, failed, or kept though disturbed: all tokens over all seconds, then and in the record that counts",
        {"tok_s": ".1f", "kept_tok_s": ".1f"},
    )


def with_them(table: pd.DataFrame) -> Table | None:
    """The speeds with those set aside; None where none was."""
    if table.empty:
        return None
    return Table(table, "Speed with the measurements that were set aside", {"kept": ".1f", "all": ".1f"})


def said(table: pd.DataFrame, show: bool) -> str:
    """One sentence. In: `kept.summary`, and whether the numbers with those set aside are shown."""
    planned, measured, failed, aside = (int(table[c].sum()) for c in ("planned", "measured", "failed", "set_aside"))
    text = f"Planned measurements: {planned}; on record: {measured}; failed: {failed}; set aside: {aside}."
    return text + (" Set show_set_aside = True to see the speeds with them." if aside and not show else "")
