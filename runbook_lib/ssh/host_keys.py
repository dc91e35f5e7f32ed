"""Whether a host is the one we know: its key against known_hosts, as ssh decides it."""

from __future__ import annotations

import ipaddress
import subprocess
import tempfile

import paramiko

from runbook_lib.errors import HostKeyRefused, HostUnreachable
from runbook_lib.plan.models import HostSection
from runbook_lib.ssh import cannot, known_hosts
from runbook_lib.ssh.certificates import Certificate
from runbook_lib.ssh.known_hosts import CA, REVOKED
from runbook_lib.ssh.settings import Settings, by_hand

CERTIFICATE = "-cert-v01@openssh.com"


class HostKeys:
    """What is known of one host, and what is to be said of it."""

    def __init__(self, section: HostSection, hop: Settings, loopback: bool) -> None:
        self._section, self._hop = section, hop
        self._users = hop.files_in_one("userknownhostsfile")
        self._files = [*self._users, *hop.files_in_one("globalknownhostsfile")]
        self._known = known_hosts.read(self._files)
        self._name = hop.key_name.lower()
        self._unchecked = loopback and hop.says("nohostauthenticationforlocalhost")
        self.notes = list(self._known.skipped)

    def algorithms(self, able: list[str]) -> list[str]:
        """The host key algorithms to ask for, those of keys that are known first. Raises HostUnreachable where none of
        ssh_config's can be used.
        """
        wanted = [name for name in self._hop.algorithms("hostkeyalgorithms") if name in able]
        if not wanted:
            raise HostUnreachable(
                self._section.alias,
                f"{self._hop.alias}: none of its HostKeyAlgorithms can be used here "
                f"({self._hop.one('hostkeyalgorithms')})",
                f"allow one of {', '.join(able)} in ssh_config",
            )
        certified = bool(self._lines(CA))
        kinds = {line.kind for line in self._lines("")}

        def place(name: str) -> int:
            if name.endswith(CERTIFICATE):
                return 0 if certified else 3
            return 1 if name in kinds or (name.startswith("rsa-") and "ssh-rsa" in kinds) else 2

        return sorted(wanted, key=place)

    def check(self, key: paramiko.PKey) -> None:
        """Let the host in, or raise HostKeyRefused. A new key is kept where ssh_config says so (accept-new, no)."""
        if self._unchecked:
            return
        certificate = Certificate.read(key.public_blob.key_blob) if key.public_blob is not None else None
        self._refuse_revoked(key, certificate)
        if certificate is not None and self._certified(certificate):
            return
        blob, kind = key.asbytes(), key.get_name()
        held = [line for line in self._lines("") if line.kind == kind]
        if any(line.blob == blob for line in held):
            return
        strict = self._hop.one("stricthostkeychecking", "ask").lower()
        off = strict in ("no", "off", "false")
        if held and not off:
            raise self._changed(key, held[0])
        if held:
            self.notes.append(
                f"{self._hop.place} shows another host key ({key.fingerprint}) than {held[0].where}; it was let in "
                "because ssh_config says StrictHostKeyChecking no"
            )
        elif off or strict == "accept-new":
            self._learn(key, strict)
        else:
            raise self._unknown(key)

    def _lines(self, marker: str) -> list[known_hosts.Line]:
        """The lines for this host; a name without its port counts where there is none with it, as for ssh."""
        found = self._known.of(self._name, marker)
        if found or self._hop.one("hostkeyalias") or self._hop.port == 22:
            return found
        return self._known.of(self._hop.hostname.lower(), marker)

    def _refuse_revoked(self, key: paramiko.PKey, certificate: Certificate | None) -> None:
        for line in self._known.of(self._name, REVOKED):
            if line.blob == key.asbytes() or (certificate is not None and line.blob == certificate.signer):
                raise self._refused(key, f"is revoked by {line.where}")
        if file := self._hop.file("revokedhostkeys"):
            with tempfile.NamedTemporaryFile("w", suffix=".pub") as public:
                public.write(f"{key.get_name()} {key.get_base64()}\n")
                public.flush()
                words = ["ssh-keygen", "-Q", "-f", file, public.name]
                done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
            if done.returncode != 0:
                said = " ".join(done.stderr.decode(errors="replace").split()) or "it names this key"
                raise self._refused(key, f"is revoked by RevokedHostKeys {file} ({said})")

    def _certified(self, certificate: Certificate) -> bool:
        """Whether a certificate authority that is known for this host vouches for it, now and by this name."""
        if certificate.signer not in [line.blob for line in self._lines(CA)]:
            return False
        why = certificate.objection(self._hop.one("hostkeyalias") or self._hop.hostname)
        if why:
            self.notes.append(f"the certificate of {self._hop.place} {why}: it does not count")
        return not why

    def _learn(self, key: paramiko.PKey, strict: str) -> None:
        kept = bool(self._users) and known_hosts.add(
            self._users[0], self._name, key.get_name(), key.asbytes(), self._hop.says("hashknownhosts")
        )
        where = f"it is in {self._users[0]} now" if kept else "it is kept nowhere, so another one would be let in, too"
        self.notes.append(
            f"the host key of {self._hop.place} ({key.fingerprint}) was new and let in because ssh_config says "
            f"StrictHostKeyChecking {strict}; {where}"
        )

    def _changed(self, key: paramiko.PKey, held: known_hosts.Line) -> HostKeyRefused:
        return HostKeyRefused(
            self._section.alias,
            f"{self._hop.place} shows another host key ({key.fingerprint}) than {held.where} holds "
            f"({known_hosts.fingerprint(held.blob)})",
            "ask the hoster whether the Mac was reinstalled before you replace the key: "
            f"ssh-keygen -R '{self._name}' -f '{held.where.rpartition(' line ')[0]}'",
        )

    def _unknown(self, key: paramiko.PKey) -> HostKeyRefused:
        files = [file for file in self._users if file != "/dev/null"]
        where = ", ".join(files or self._files) or "any known_hosts"
        if not files:
            advice = (
                f"its UserKnownHostsFile keeps nothing: write UserKnownHostsFile ~/.ssh/known_hosts for Host "
                f"{self._hop.alias} in ssh_config, then try again"
            )
        else:
            typed = by_hand(self._section, "true", host=self._hop.address, options=("-o", "StrictHostKeyChecking=ask"))
            advice = f"compare it with the hoster's, then type this and say yes: {typed}"
        beside = [*self._known.skipped, *cannot.in_the_way(self._hop, "host key")]
        said = f"the host key of {self._hop.place} ({key.fingerprint}) is not in {where} as {self._name}"
        return HostKeyRefused(
            self._section.alias,
            "; ".join([said, *beside]),
            advice,
        )

    def _refused(self, key: paramiko.PKey, why: str) -> HostKeyRefused:
        return HostKeyRefused(
            self._section.alias,
            f"the host key of {self._hop.place} ({key.fingerprint}) {why}",
            "ask the hoster for the host's new key; this one must not be trusted",
        )


def is_loopback(address: str) -> bool:
    """Whether an address of a socket is this machine's own."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
