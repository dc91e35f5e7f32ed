"""Waiting until something is so, and how long something took, in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    ask: Callable[[], T],
    is_so: Callable[[T], bool],
    within_s: float,
    every_s: float,
    pause: Callable[[float], None] = time.sleep,
) -> T:
    """Ask until the answer is so or the time is over, and return the last answer: whoever waited looks at it.

    It is asked at least once, and once more when the time is over.
    """
    give_up = time.monotonic() + within_s
    while True:
        is_last = time.monotonic() >= give_up
        answer = ask()
        if is_last or is_so(answer):
            return answer
        pause(max(0.0, min(every_s, give_up - time.monotonic())))


def in_words(seconds: float) -> str:
    """How long something took.

    >>> in_words(4.25), in_words(65), in_words(7_500)
    ('4.2 s', '1 min 05 s', '2 h 05 min')
    """
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, left_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {left_s:02} s"
