"""Signs that no screen shows, or that reorder or steer what it shows, as their escapes: text in, text out. Pure.

Control characters would move a terminal's cursor, marks of direction (U+202A to U+202E, U+2066 to U+2069) let code read
otherwise than it runs, half characters (surrogates) cannot be written at all. Line feeds, tabs and joiners stay.
"""

from __future__ import annotations

import re

#: Unicode's categories Cc, Cf, Cs, Zl and Zp, less line feed, tab and the two joiners (they belong to emoji and scripts).
_SIGNS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f"
    r"\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)


def visible(text: str) -> str:
    """The text with such signs as ``\\x1b`` or ``\\u202e``."""
    return _SIGNS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
