"""Chapter 05: thought and answer apart, as a table and a sentence. Pure: `thinking.by_part` in."""

from __future__ import annotations

import pandas as pd

from analysis.show import words
from analysis.show.outputs import Table


def parts(table: pd.DataFrame) -> Table | None:
    """Every arm with thinking off and on; None where the study has no such axis."""
    if table.empty:
        return None
    return Table(
        table.drop(columns=["variant", "k"]),
        "Thinking off and on: the thought and the answer after it, one stream, natural stop",
        {"tokens": ".0f", "seconds": ".2f", "tok_s": ".1f", "al": ".2f"},
        "Acceptance of each part is from the engine's record of each request; where a parser swallows the marks around a "
        "thought, steps at its edge are shared out as the chunks are.",
    )


def compared(table: pd.DataFrame) -> str:
    """Whether drafts are accepted more in thought or in the answer."""
    if table.empty:
        return "This study leaves thinking to the template: set `thinking: [off, on]` in its file to see thought and answer apart."
    on = table[(table.thinks == "on") & table.al.notna()]
    wide = on.pivot_table(index=["arm", "workload"], columns="part", values="al")
    if not {"thought", "answer"} <= set(wide.columns) or wide.dropna().empty:
        return "No answer on record holds both a thought and what the engine accepted in it."
    said = (
        f"{words.arm(arm)} on {words.workload(workload)}: {row.thought:.2f} tokens per step in the thought, {row.answer:.2f} in the answer"
        for (arm, workload), row in wide.dropna().iterrows()
    )
    return f"{'; '.join(said)}."
