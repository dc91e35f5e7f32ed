"""Why a gateway ended is told by what its log says, never guessed from the exit code."""

import pytest

from runbook_lib.gateway.openclaw import explain_exit

LISTENING = "another gateway instance is already listening on ws://127.0.0.1:18789"


@pytest.mark.parametrize(
    ("last_exit", "said", "told"),
    [
        ("1", LISTENING, "Exit 1: the port is taken. "),
        ("1", "listen EADDRINUSE: address already in use 127.0.0.1:18789", "Exit 1: the port is taken. "),
        ("1", "duplicate rows resolve to canonical session key", "an agent's database has the same session twice"),
        ("78: EX_CONFIG", "Invalid config at gateway.port", "Exit 78: the configuration is invalid. "),
    ],
)
def test_an_exit_is_told_by_the_cause_that_the_log_names(last_exit: str, said: str, told: str) -> None:
    assert told in explain_exit(last_exit, said)


@pytest.mark.parametrize("last_exit", ["1", "78: EX_CONFIG"])
def test_no_cause_is_guessed_where_the_log_names_none(last_exit: str) -> None:
    code = last_exit.partition(":")[0]
    told = f"Exit {code}: the end of its log names no known cause. "
    assert explain_exit(last_exit, "TypeError: x is not a function") == told
    assert explain_exit(last_exit) == told


def test_a_cause_of_another_exit_code_is_not_this_ones() -> None:
    assert "port" not in explain_exit("78: EX_CONFIG", LISTENING)


@pytest.mark.parametrize("last_exit", ["", "(never exited)", "0", "137", "15"])
def test_nothing_is_said_of_an_exit_that_is_not_openclaws_own(last_exit: str) -> None:
    assert explain_exit(last_exit, LISTENING) == ""
