"""After a step: the run's page and the board of all regions made anew, what is new sealed."""

from __future__ import annotations

from functools import cache

from runbook_lib.audit.seal import describe, seal, unsealed_steps
from runbook_lib.errors import HostError
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.vault import Vault
from runbook_lib.plan import reading
from runbook_lib.records import manifest
from runbook_lib.records.evidence import Run
from runbook_lib.show.board import publish


def file_away(run: Run) -> str:
    """Page and board, then the seal; returns what was sealed, empty where nothing was new.

    Raises EvidenceError where the run cannot be sealed; page and board are made all the same.
    """
    publish(run.directory)
    made = seal(run, secrets_of(run), reading.load(run.region).evidence.signing_key)
    return describe(made) if made else ""


def file_unsealed(run: Run | None) -> str:
    """The same, where somebody has run a step with papermill alone since the last seal."""
    if run is None or not unsealed_steps(run, manifest.newest(run.directory)):
        return ""
    return file_away(run)


@cache
def secrets_of(run: Run) -> Vault:
    """A vault that knows what can be resolved of a plan's secrets; the Mac is only asked for those that lie there."""
    plan = reading.load(run.region)
    if any(reference.startswith("file:") for reference in plan.secret_references):
        try:
            with Mac.connect(plan, run.ledger()) as mac:
                mac.vault.resolve_all(plan.secret_references)
                return mac.vault
        except HostError:
            pass  # the manifest names what was not sought
    vault = Vault(None)
    vault.resolve_all(plan.secret_references)
    return vault
