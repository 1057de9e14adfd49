"""How MTP works, drawn: one speculative step from the draft to the tokens that are kept, and an example in numbers.

Pure: nothing or a request frame in, a drawing or a sentence out. Colours are readable on white and on black.
"""

from __future__ import annotations

import html
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.science import arms
from analysis.show import words
from analysis.show.look import FONTS, INK

_DRAFT, _KEPT, _REFUSED, _BONUS = "#56B4E9", "#009E73", "#D55E00", "#E69F00"
#: Arrows down: height, and column. The text goes into the drafter once; every draft is checked; three tokens are kept.
_ARROWS = [(58, 0), *((128, n) for n in range(4)), *((198, n) for n in range(3))]
_ALT = (
    "Four rows. First: the text so far, ending in three tokens. Second: the drafter proposes four tokens, one after "
    "the other. Third: one forward pass of the target checks all four: the first two agree with it, the third does not, "
    "the fourth is dropped. Fourth: the step adds three tokens, the two accepted ones and one bonus token that the target "
    "chose itself."
)


@dataclass(frozen=True)
class Drawing:
    """A drawing that shows no data: SVG text, a caption, and in words what a sighted reader sees."""

    svg: str
    caption: str
    alt: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        source = b64encode(self.svg.encode()).decode()
        picture = f'<img alt="{html.escape(self.alt)}" src="data:image/svg+xml;base64,{source}" width="720">'
        text = f"<figure>{picture}<figcaption>{html.escape(self.caption)}</figcaption></figure>"
        return {"text/html": text, "text/plain": f"{self.caption}\n{self.alt}"}, {}


def one_step() -> Drawing:
    """One speculative step at K = 4 with two accepted drafts: draft, verify, accepted prefix, bonus token."""
    x = [244 + 84 * n for n in range(5)]
    parts = [
        _label(40, "text so far"),
        *(_box(x[n], 20, t, INK) for n, t in enumerate(["return", "data", "["])),
        _label(110, "1  drafter proposes K = 4"),
        *(_box(x[n], 90, t, _DRAFT, dashed=True) for n, t in enumerate(["&quot;close&quot;", "]", ".mean", "()"])),
        _label(180, "2  target checks all in one pass"),
        _box(x[0], 160, "&quot;close&quot; ✓", _KEPT),
        _box(x[1], 160, "] ✓", _KEPT),
        _box(x[2], 160, ".mean ✗", _REFUSED),
        _box(x[3], 160, "() –", INK, dashed=True),
        _label(250, "3  the step adds 3 tokens"),
        _box(x[0], 230, "&quot;close&quot;", _KEPT),
        _box(x[1], 230, "]", _KEPT),
        _box(x[2], 230, ".pct", _BONUS),
        f'<text x="{x[3]}" y="252" fill="{INK}">2 accepted + 1 bonus token</text>',
        *(f'<path d="M{x[n] + 37} {y} v24 m-4 -6 l4 6 l4 -6" fill="none" stroke="{INK}"/>' for y, n in _ARROWS),
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 285" font-family="{FONTS}" font-size="13">'
    caption = (
        "One step of MTP. Without a drafter the same forward pass of the target gives one token; here it gives three. "
        "In green: drafts that the target accepts. In red: the first that it refuses. In yellow: the bonus token."
    )
    return Drawing(head + "".join(parts) + "</svg>", caption, _ALT)


def example(requests: pd.DataFrame) -> str:
    """One recorded request in numbers: drafted, accepted, bonus. In: request frame with the engine's steps per request.

    The first answer with a speculating arm at the largest K is taken; without such a record the sentence says so.
    """
    known = requests[arms.speculating(requests) & (requests.steps > 0) & (requests.experiment == "timing")]
    if known.empty:
        return "No answer on record says how many drafts each of its steps accepted, so there is no example here."
    r = known.sort_values(
        ["k", "workload", "prompt_id", "launch", "repeat"], ascending=[False, True, True, True, True]
    ).iloc[0]
    steps, accepted, tokens = int(r.steps), int(r.step_accepted), int(r.completion_tokens)
    cut = 1 + steps + accepted - tokens
    end = f", less {words.plural(cut, 'token')} cut at the end" if cut > 0 else ""
    return (
        f"An answer of this study ({words.arm(r.arm)}, {words.workload(r.workload)}): {tokens} tokens took {steps} verify "
        f"steps instead of {tokens - 1}. The drafter proposed up to {steps * int(r.k)} tokens and the target accepted "
        f"{accepted}; each step added a bonus token, and the first token comes with the prompt: "
        f"1 + {steps} + {accepted} = {1 + steps + accepted}{end}. That is {1 + accepted / steps:.2f} tokens per step."
    )


def _label(y: int, text: str) -> str:
    return f'<text x="4" y="{y}" fill="{INK}" font-weight="600">{text}</text>'


def _box(x: int, y: int, text: str, color: str, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<rect x="{x}" y="{y}" width="74" height="32" rx="5" fill="{color}" fill-opacity="0.18" stroke="{color}"'
        f' stroke-width="2"{dash}/><text x="{x + 37}" y="{y + 21}" text-anchor="middle" fill="{INK}">{text}</text>'
    )
