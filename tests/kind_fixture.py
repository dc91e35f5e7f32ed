"""A practice Mac with a canary for each kind of gateway: primary on the older version, the canary's on the newer one.

The real OpenClaw is installed and started once. Used as lab_fixture is: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from mac_fixture import PROJECT, connected, plan_of

from runbook_lib.lab import npm
from runbook_lib.lab.kinds import KINDS
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac.actions import apply
from runbook_lib.mac.mac import Mac
from runbook_lib.steps import install, snapshot
from runbook_lib.steps.snapshot import Snapshot


@dataclass(frozen=True)
class Rollout:
    """A connected practice Mac after steps 1 and 2; the canary is installed and not started."""

    lab: PracticeMac
    mac: Mac
    taken: Snapshot

    @property
    def versions(self) -> tuple[str, str]:
        return self.lab.kind.upgrade


@pytest.fixture(scope="package", params=["standin", pytest.param("openclaw", marks=pytest.mark.openclaw)])
def rollout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rollout]:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="lab-", dir="/tmp") as folder:
        kind = replace(KINDS[request.param], asks_model=True)  # runs that can be held, of both kinds
        patch.setitem(KINDS, kind.name, kind)
        before, after = kind.upgrade
        root = Path(folder).resolve() / "l"
        root.mkdir()
        cache = PROJECT / ".lab/cache"
        cache.mkdir(parents=True, exist_ok=True)
        (root / "cache").symlink_to(cache)
        lab = PracticeMac(root, kind.name, say=lambda _: None, version=before)
        try:
            lab.up()
            runtime = {"canary_version": after, "drain_timeout_s": 4}
            with connected(plan_of(lab, runtime=runtime), tmp_path_factory.mktemp("ledger")) as mac:
                taken = _install(lab, mac)
                yield Rollout(lab, mac, taken)
        finally:
            lab.down(keep_cache=True)


def _install(lab: PracticeMac, mac: Mac) -> Snapshot:
    """Steps 1 and 2; the packages come from the cache where they are, as `make demo` shows them come from npm."""
    npm.install(lab.layout, lab.layout.prefix("canary"), lab.kind, lab.kind.upgrade[1])
    _, facts = apply(mac, snapshot.prepare_tools(mac), snapshot.propose_snapshot(mac, "before"))
    taken = Snapshot.from_facts(facts)
    apply(mac, *install.propose_all(mac, taken.archive("primary")))
    return taken
