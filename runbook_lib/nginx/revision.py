"""The name of one rendered configuration: the canary's weight in it, and a hash of its content."""

from __future__ import annotations

import hashlib
import re

OURS = re.compile(r"w(\d{3}\.\d{2})-[0-9a-f]{8}")


def revision_of(weight_pct: float, content: str) -> str:
    """The revision of a content with a weight.

    >>> revision_of(8, "")
    'w008.00-e3b0c442'
    """
    return f"w{weight_pct:06.2f}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def weight_of(revision: str) -> float | None:
    """The weight in a revision; None where it is no revision of ours.

    >>> weight_of("w008.00-e3b0c442")
    8.0
    """
    named = OURS.fullmatch(revision)
    return float(named[1]) if named else None
