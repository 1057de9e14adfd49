"""The picture that a program saved: untrusted bytes in, a PNG written by us out, or nothing. Only PNG is read.

The size is read from the header before anything is decoded; what is kept are pixels, no text, profile or second picture.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib

SMALLEST = 64
"""Pixels a side under which a picture is no chart."""
MOST_PIXELS = 20_000_000
MOST_BYTES = 1_000_000
"""Of the picture that is kept; a larger one is made smaller."""
WIDEST = 1_600
HEAD = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


def size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a PNG with a sound header, or None."""
    if len(data) < 57 or not data.startswith(HEAD) or struct.unpack(">I", data[29:33])[0] != zlib.crc32(data[12:29]):
        return None
    return struct.unpack(">II", data[16:24])


def rewritten(data: bytes) -> bytes:
    """The same pixels as a new PNG, at most `WIDEST` wide if it is large; empty where it is no chart."""
    found = size(data)
    if not found or min(found) < SMALLEST or found[0] * found[1] > MOST_PIXELS:
        return b""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=["PNG"]) as opened:
                picture = opened.convert("RGBA" if "A" in opened.getbands() or "transparency" in opened.info else "RGB")
    except Exception:  # whatever a decoder says of broken bytes
        return b""
    picture.info.clear()
    written = _png(picture)
    if len(written) > MOST_BYTES:
        picture.thumbnail((WIDEST, WIDEST))
        written = _png(picture)
    return written if len(written) <= 4 * MOST_BYTES else b""


def _png(picture) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=False)
    return out.getvalue()
