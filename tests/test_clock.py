"""Waiting until something is so, told by a clock of the test's own pauses; and durations in words."""

from __future__ import annotations

import pytest

from runbook_lib.clock import in_words, wait_until


def test_what_is_so_at_once_is_not_waited_for() -> None:
    pauses: list[float] = []
    assert wait_until(lambda: 7, lambda answer: answer == 7, 60, 5, pauses.append) == 7
    assert pauses == []


def test_it_is_asked_until_it_is_so() -> None:
    answers, pauses = iter(["no", "not yet", "yes", "never asked"]), list[float]()
    assert wait_until(lambda: next(answers), lambda answer: answer == "yes", 60, 5, pauses.append) == "yes"
    assert pauses == [5, 5]
    assert next(answers) == "never asked"


def test_when_the_time_is_over_the_last_answer_comes_back() -> None:
    """Asked once at the very end, too, so that what came true during the last pause counts."""
    asked: list[int] = []

    def ask() -> int:
        asked.append(len(asked))
        return asked[-1]

    assert wait_until(ask, lambda answer: False, 0, 5) == 0
    assert asked == [0], "at least once, and at once where there is no time"
    last = wait_until(ask, lambda answer: False, 0.2, 0.05)
    assert last == asked[-1] and len(asked) >= 3


def test_a_pause_is_never_longer_than_what_is_left() -> None:
    pauses: list[float] = []
    answers = iter(range(100))
    wait_until(lambda: next(answers), lambda answer: answer == 3, 2, 30, pauses.append)
    assert len(pauses) == 3 and all(0 < pause <= 2 for pause in pauses)


def test_what_asking_raises_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 // 0, bool, 60, 5)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"), (4.24, "4.2 s"), (59.94, "59.9 s"), (59.99, "1 min 00 s"), (65, "1 min 05 s"),
        (3599.6, "1 h 00 min"), (7500, "2 h 05 min"), (172_800, "48 h 00 min"),
    ],
)  # fmt: skip
def test_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
