"""What an ssh_config may ask for that is not done here, since paramiko is the connection; and what to do instead.

docs/ssh.md has the same table, and a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

from runbook_lib.ssh.settings import Settings


@dataclass(frozen=True)
class Limit:
    """A setting, what is named with it (a login, a host key, a connection), and what to do instead."""

    setting: str
    named: str
    what: str
    instead: str

    def is_set(self, hop: Settings) -> bool:
        value = hop.one(self.setting.lower()).lower()
        return value not in ("", "no", "false", "internal")


LIMITS = (
    Limit(
        "PKCS11Provider", "login", "a smart card's keys are not read", "put them into your agent: ssh-add -s PROVIDER"
    ),
    Limit("GSSAPIAuthentication", "login", "Kerberos is not asked", "give this user a key"),
    Limit("HostbasedAuthentication", "login", "this machine does not vouch for its users", "give this user a key"),
    Limit(
        "ControlPath",
        "login",
        "an open ControlMaster connection is not used again",
        "let a key alone be enough for this user",
    ),
    Limit("UseKeychain", "login", "macOS' keychain is not asked", "ssh-add --apple-load-keychain"),
    Limit(
        "KnownHostsCommand",
        "host key",
        "KnownHostsCommand is not run",
        "append what it prints to known_hosts",
    ),
    Limit("VerifyHostKeyDNS", "host key", "SSHFP records are not asked", "append the key to known_hosts"),
    Limit("ProxyUseFdpass", "connection", "a ProxyCommand that hands over a socket is not read", "leave it out"),
    Limit("BindInterface", "connection", "an interface cannot be chosen", "write BindAddress instead"),
)
BESIDE = {
    "a FIDO key (sk-…) on disk": "put it into your agent: ssh-add KEY; keys there are used, FIDO or not",
    "a key that lies encrypted on disk, in no agent": "ssh-add KEY; nobody is asked for a passphrase here",
    "a password, or a code as second factor": "let a key alone be enough for this user",
    "DSA keys, and algorithms that paramiko lacks": "allow one that the error names",
}
"""What no setting says; each is named where it is met."""


def in_the_way(hop: Settings, named: str) -> list[str]:
    """What a host's ssh_config asks for that may be why a login, a host key or a connection failed."""
    return [
        f"{limit.setting}: {limit.what}; {limit.instead}"
        for limit in LIMITS
        if limit.named == named and limit.is_set(hop)
    ]
