"""Ready-made validators: what `set()` may be told to accept as a signature."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from distcache.config import whole

if TYPE_CHECKING:
    from collections.abc import Callable

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]*|[A-Za-z0-9_-]*)={0,2}")


def base64_signature(*, min_length: int = 1, max_length: int = 1024 * 1024) -> Callable[[str], bool]:
    """Accepts base64, standard or URL-safe (not mixed), padded to a multiple of four, of a length within the limits."""
    least = whole("min_length", min_length, 0)
    most = whole("max_length", max_length, least)

    def accepts(signature: str) -> bool:
        return least <= len(signature) <= most and len(signature) % 4 == 0 and bool(_BASE64.fullmatch(signature))

    return accepts
