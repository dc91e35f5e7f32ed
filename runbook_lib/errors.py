"""Everything that can go wrong, as one tree.

RunbookError
├── PlanError            the parameters are wrong; nothing was touched           exit 2
├── EvidenceError        a run folder, ledger or log cannot be believed          exit 2
├── HostError            the Mac could not be asked                              exit 3
│   ├── RouteRefused         ssh refuses its configuration: the parameter is named   exit 2
│   ├── HostUnreachable      no connection: address, port, jump host, timeout
│   ├── HostKeyRefused       the host's key is unknown or has changed
│   ├── ConnectionLost       the connection went away; the command may still run
│   └── CommandTimeout       the connection is fine, the command took too long
├── CommandFailed        the Mac answered: a command's exit code was not 0       exit 1
├── ActionFailed         a change was refused or could not be proven; it was undone as the message says   exit 1
├── WorkersUnreachable   there is no cluster that could do the work              exit 2
└── GateClosed           the runbook stops here
    ├── StepNotReady         the step before has not passed                      exit 3
    ├── GateWaiting          a person has to approve, or there is nothing to approve   exit 3
    ├── StepFailed           the verdict is fail                                 exit 1
    ├── StepInconclusive     the verdict is inconclusive                         exit 3
    └── HostLocked           somebody else changes this Mac                      exit 3
"""

from __future__ import annotations


class RunbookError(Exception):
    exit_code = 1


def exit_code_of(said: str) -> int:
    """The exit code of an error that a notebook ended with, as `Name: what happened`; 1 for any other exception."""
    kind = globals().get(said.partition(":")[0])
    return kind.exit_code if isinstance(kind, type) and issubclass(kind, RunbookError) else 1


class PlanError(RunbookError):
    """All mistakes of one parameters file at once; `mistakes` holds a sentence each."""

    exit_code = 2

    def __init__(self, source: str, mistakes: list[str]) -> None:
        self.source, self.mistakes = source, mistakes
        count = f"{len(mistakes)} mistake{'s' * (len(mistakes) != 1)}"
        super().__init__("\n  ".join([f"{source}: {count}, nothing was touched", *mistakes]))


class EvidenceError(RunbookError):
    exit_code = 2


class HostError(RunbookError):
    exit_code = 3

    def __init__(self, host: str, happened: str, next_step: str) -> None:
        self.host = host
        super().__init__(f"{host}: {happened}. Next: {next_step}")


class RouteRefused(HostError):
    """What the parameters and the ssh_config say leads to no Mac; nothing was touched."""

    exit_code = 2


class HostUnreachable(HostError):
    pass


class HostKeyRefused(HostError):
    pass


class ConnectionLost(HostError):
    pass


class CommandTimeout(HostError):
    pass


class CommandFailed(RunbookError):
    """A remote command answered with an exit code other than 0."""

    def __init__(self, host: str, command: str, exit_status: int, output: str) -> None:
        self.host, self.exit_status, self.output = host, exit_status, output
        super().__init__(f"{host}: {command} ended with {exit_status}: {output.strip()[-2000:] or 'no output'}")


class ActionFailed(RunbookError):
    pass


class WorkersUnreachable(RunbookError):
    exit_code = 2


class GateClosed(RunbookError):
    pass


class StepNotReady(GateClosed):
    exit_code = 3


class GateWaiting(GateClosed):
    exit_code = 3


class StepFailed(GateClosed):
    exit_code = 1


class StepInconclusive(GateClosed):
    exit_code = 3


class HostLocked(GateClosed):
    exit_code = 3
