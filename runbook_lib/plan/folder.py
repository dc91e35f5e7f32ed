"""The runbook's own folder on the Mac, host.runbook_dir: what lies in it, by name. No other file spells these paths."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunbookFolder:
    path: str

    @property
    def drain(self) -> str:
        """The kill switch: while this file is there, every new request goes to primary. Rendered into nginx."""
        return f"{self.path}/drain"

    @property
    def spare_drain(self) -> str:
        """Laid down with the sentinel, so that a drain needs no room on the disk."""
        return f"{self.drain}.spare"

    @property
    def pending(self) -> str:
        """The way back of a change of nginx that is not confirmed yet; a folder while there is one."""
        return f"{self.path}/pending"

    @property
    def lock(self) -> str:
        """Who changes this Mac now."""
        return f"{self.path}/lock"

    @property
    def lease(self) -> str:
        """Until when the canary may have traffic with nobody connected."""
        return f"{self.path}/lease"

    @property
    def snapshots(self) -> str:
        return f"{self.path}/snapshots"

    def snapshot(self, run: str) -> str:
        """What step 1 of a run kept, and what a rollback set aside."""
        return f"{self.snapshots}/{run}"

    @property
    def bin(self) -> str:
        """The few scripts that stay on the Mac."""
        return f"{self.path}/bin"

    @property
    def wrapper(self) -> str:
        """Runs a command with an env file."""
        return f"{self.bin}/with-env.sh"

    @property
    def sentinel(self) -> str:
        return f"{self.bin}/sentinel.sh"

    @property
    def sentinel_config(self) -> str:
        return f"{self.path}/sentinel.conf"

    @property
    def sentinel_log(self) -> str:
        return f"{self.path}/sentinel.log"

    @property
    def samples(self) -> str:
        """What the sentinel samples."""
        return f"{self.path}/samples.tsv"

    @property
    def events(self) -> str:
        """What the sentinel did by itself."""
        return f"{self.path}/sentinel-events.tsv"

    @property
    def guarded(self) -> str:
        """How far the sentinel has read the judge's log, and what it found."""
        return f"{self.path}/guarded"
