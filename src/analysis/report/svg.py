"""Static pictures for the page. In: SVG text as matplotlib writes it. Out: an inline ``<svg>`` that stays apart."""

from __future__ import annotations

import re

from analysis.show.look import INK


def inline_svg(text: str, prefix: str) -> str:
    """The ``<svg>`` element with ids that no other picture has, in the page's own text colour and at its width.

    Parameters
    ----------
    text : str
        A whole SVG document.
    prefix : str
        Put before every id; unique in the page.
    """
    start, end = text.find("<svg"), text.rfind("</svg>")
    if start < 0 or end < 0:
        return ""
    body = text[start : end + len("</svg>")]
    for part in ("style", "metadata", "script", "foreignObject"):  # a <style> would reach the whole page
        body = re.sub(rf"<{part}\b.*?</{part}>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"\son\w+=\"[^\"]*\"", "", body)
    body = re.sub(r'(?<=\sid=")(?=[^"]+")', f"{prefix}-", body)
    body = re.sub(r'(?<=href="#)(?=[^"]+")', f"{prefix}-", body)
    body = re.sub(r"(?<=url\(#)", f"{prefix}-", body)
    # Black is no arm's colour: matplotlib draws whiskers with it.
    body = re.sub(rf"{INK}|#000000(?=[;\"])", "currentColor", body, flags=re.IGNORECASE)
    opening = body[: body.index(">") + 1]
    bare = re.sub(r'\s(?:width|height|version|xmlns(?::\w+)?)="[^"]*"', "", opening)
    bare = bare.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
    return (bare + body[len(opening) :]).replace("xlink:href", "href")
