"""Months as programs write them: texts in, whether they are the months that they should be out. Pure."""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence

ISO = re.compile(r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})(?:[-/.](?P<d>\d{1,2}))?(?!\d)")
COMPACT = re.compile(r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})?(?!\d)")
JAPANESE = re.compile(r"(?P<y>\d{4})年\s*(?P<m>\d{1,2})月(?:\s*(?P<d>\d{1,2})日)?")
AMERICAN = re.compile(r"(?P<m>\d{1,2})/(?:(?P<d>\d{1,2})/)?(?P<y>\d{4})(?!\d)")
NAMED = re.compile(r"(?:(?P<d>\d{1,2})[ -])?(?P<m>[A-Za-z]{3,9})\.?[ ,-]+(?:(?P<d2>\d{1,2}),? )?(?P<y>\d{4})(?!\d)")
FORMS = (ISO, COMPACT, JAPANESE, AMERICAN, NAMED)
NAMES = {name.lower(): at for at, name in enumerate(calendar.month_name) if name} | {
    name.lower(): at for at, name in enumerate(calendar.month_abbr) if name
}


def month(text: str) -> tuple[int, bool] | None:
    """(year · 12 + month − 1, stands on a month's last day), or None where it is no date."""
    found = next((match for form in FORMS if (match := form.match(text.strip()))), None)
    if not found:
        return None
    parts = found.groupdict()
    number = int(parts["m"]) if parts["m"].isdigit() else NAMES.get(parts["m"].lower(), 0)
    year, day = int(parts["y"]), int(parts.get("d") or parts.get("d2") or 1)
    if not (1 <= number <= 12 and 1 <= year <= 9998):
        return None
    last = calendar.monthrange(year, number)[1]
    return (year * 12 + number - 1, day == last) if 1 <= day <= last else None


def falling(texts: Sequence[str]) -> bool:
    """Do the rows go back in time?"""
    ends = [month(texts[at]) for at in (0, -1)] if texts else []
    return None not in ends and len(ends) == 2 and ends[0][0] > ends[1][0]


def fit(texts: Sequence[str], recorded: Sequence[str]) -> bool:
    """Is each text in the recorded month (YYYY-MM) of its row?

    A month's beginning in Tokyo, told in UTC, is the last day of the month before: right too, where all rows do so.
    """
    if len(texts) > len(recorded) or not texts:
        return False
    found = [month(text) for text in texts]
    if None in found:
        return False
    wanted = [month(text)[0] for text in recorded[: len(texts)]]
    told = [number for number, _ in found]
    return told == wanted or (all(last for _, last in found) and [number + 1 for number in told] == wanted)
