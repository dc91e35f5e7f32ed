"""Nothing leaves a notebook's kernel with a known secret in it: what it shows, prints or raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from IPython import get_ipython


def guard_outputs(redact: Callable[[str], str]) -> None:
    """Put `redact` around the text of every message of this kernel; outside of one there is nothing to guard.

    Messages are JSON there, in which `redact` must know a secret by its escaped spelling, too.
    """
    kernel: Any = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return
    pack = kernel.session.pack

    def pack_redacted(message: Any) -> bytes:
        return redact(pack(message).decode()).encode()

    kernel.session.pack = pack_redacted
