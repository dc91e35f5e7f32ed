"""What is said where ssh_config leads nowhere: the parameter, the file and line, and what to type."""

from __future__ import annotations

import base64
import struct
from pathlib import Path

import pytest
from ssh_cases import Case, mac
from ssh_world import World
from test_ssh_like_ssh import laid

from runbook_lib.errors import HostKeyRefused, HostUnreachable, RouteRefused, RunbookError
from runbook_lib.plan.models import HostSection
from runbook_lib.ssh.cannot import BESIDE, LIMITS
from runbook_lib.ssh.host import Host
from runbook_lib.ssh.settings import Address, ask, by_hand

pytest_plugins = ["ssh_world"]

DOCS = Path(__file__).parents[1] / "docs/ssh.md"


def section(config: Path | str, **keys: object) -> HostSection:
    return HostSection.model_validate({"alias": "mac", "ssh_config": str(config), "runbook_dir": "/tmp/rollout"} | keys)


def refused(world: World, folder: Path, kind: type[RunbookError], config: str, **more: object) -> str:
    path = laid(world, Case("", config, "", **more), folder / "laid")  # type: ignore[arg-type]
    with pytest.raises(kind) as caught:
        Host(section(path))
    return str(caught.value)


def said_of(world: World, folder: Path, config: str, **more: object) -> list[str]:
    """What is to be said of a way that leads there."""
    path = laid(world, Case("", config, "", **more), folder / "laid")  # type: ignore[arg-type]
    with Host(section(path)) as host:
        return host.notes


# -- the parameter is named ----------------------------------------------------------------------------------------


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RouteRefused, match=r"host\.ssh_config: ssh refuses .*/none for mac: .*No such file"):
        Host(section(tmp_path / "none"))


def test_a_setting_that_ssh_does_not_know(world: World, tmp_path: Path) -> None:
    said = refused(world, tmp_path, RouteRefused, mac("NoSuchSetting yes"))
    assert "host.ssh_config: ssh refuses" in said
    assert "line 9: Bad configuration option: nosuchsetting" in said


def test_a_machine_without_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RouteRefused, match=r"host\.alias: no `ssh` is on this machine's PATH. Next: install"):
        Host(section(tmp_path))


def test_an_alias_that_is_not_there(world: World, tmp_path: Path) -> None:
    said = refused(world, tmp_path, HostUnreachable, "Host other\n")
    assert "has no HostName for host.alias mac. Next: write Host mac with a HostName there" in said


def test_a_name_that_is_an_option_is_a_name(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  HostName 127.0.0.1\n")
    with pytest.raises(RouteRefused, match="invalid characters"):
        ask(section(config), Address("-oProxyCommand=touch /tmp/x"))


@pytest.mark.parametrize("name", ["$(touch {dir}/marker)", "`touch {dir}/marker`", "a;touch {dir}/marker"])
def test_a_host_name_that_a_shell_would_run(world: World, tmp_path: Path, name: str) -> None:
    config = f'Host mac\n  HostName "{name}"\n  ProxyCommand echo %h\n'
    assert "is no plain name" in refused(world, tmp_path, RouteRefused, config)
    assert not (tmp_path / "laid/marker").exists()


def test_the_usual_file_is_left_to_ssh_and_another_is_named() -> None:
    assert by_hand(section("~/.ssh/config"), "true") == "ssh mac true"
    assert by_hand(section("/a b/config"), "echo 'x'") == "ssh -F '/a b/config' mac 'echo '\"'\"'x'\"'\"''"


# -- host keys -----------------------------------------------------------------------------------------------------


def test_lines_that_cannot_be_read_are_skipped_and_said(world: World, tmp_path: Path) -> None:
    known = "what is this\n@mark mac ssh-ed25519 AAAA\nmac ssh-rsa AAAAC3NzaC1lZDI1NTE5\n{known} B\xfcro\n"
    notes = said_of(world, tmp_path, mac(), known=known)
    file = tmp_path / "laid/known_hosts"
    assert [note.partition(" is skipped")[0] for note in notes] == [f"{file} line {n}" for n in (1, 2, 3)]


def test_the_advice_never_writes_into_dev_null(world: World, tmp_path: Path) -> None:
    said = refused(world, tmp_path, HostKeyRefused, mac(hosts="  UserKnownHostsFile /dev/null\n"))
    assert "keeps nothing: write UserKnownHostsFile ~/.ssh/known_hosts for Host mac" in said
    assert ">> /dev/null" not in said


def test_an_unknown_key_is_shown_with_what_was_skipped_and_what_to_type(world: World, tmp_path: Path) -> None:
    said = refused(world, tmp_path, HostKeyRefused, mac("HostKeyAlias leased"), known="leased ssh-ed25519 AAAA\n")
    assert "(SHA256:" in said
    assert "known_hosts as leased; " in said
    assert "line 1 is skipped" in said
    assert said.endswith("ssh -F " + str(tmp_path / "laid/config") + " -o StrictHostKeyChecking=ask mac true")


@pytest.mark.parametrize(
    ("strict", "known", "words"),
    [
        ("accept-new", "", "was new and let in because ssh_config says StrictHostKeyChecking accept-new; it is in"),
        ("no", "[127.0.0.1]:{port} {other_key}\n", "shows another host key"),
    ],
)
def test_a_key_that_was_let_in_unseen_is_said(
    world: World, tmp_path: Path, strict: str, known: str, words: str
) -> None:
    notes = said_of(world, tmp_path, mac(f"StrictHostKeyChecking {strict}"), known=known)
    assert any(words in note for note in notes), notes


def test_a_key_that_is_kept_nowhere_is_said(world: World, tmp_path: Path) -> None:
    notes = said_of(world, tmp_path, mac("StrictHostKeyChecking no", hosts="  UserKnownHostsFile /dev/null\n"))
    assert any("kept nowhere" in note for note in notes), notes


# -- users ---------------------------------------------------------------------------------------------------------


def test_an_encrypted_key_names_ssh_add(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    said = refused(world, tmp_path, HostUnreachable, mac(key="  IdentityFile {keys}/locked\n"))
    assert f"offered no key; {world.key('locked')} is encrypted and in no agent; ssh-add" in said
    assert "SSH_AUTH_SOCK is not set" in said


def test_a_public_key_that_no_agent_holds(world: World, tmp_path: Path) -> None:
    said = refused(world, tmp_path, HostUnreachable, mac("IdentityAgent none", key="  IdentityFile {keys}/a.pub\n"))
    assert "a.pub is a public key that your agent does not hold" in said


def test_a_key_that_others_can_read_is_named_with_what_to_type(world: World, tmp_path: Path) -> None:
    said = refused(world, tmp_path, HostUnreachable, mac(key="  IdentityFile {dir}/open\n"), files={"open": "{a}"})
    assert "open can be read by others" in said
    assert f"chmod 600 {tmp_path}/laid/open" in said


def test_a_fido_key_on_disk_is_named_at_once(world: World, tmp_path: Path) -> None:
    def packed(*parts: bytes) -> bytes:
        return b"".join(struct.pack(">I", len(part)) + part for part in parts)

    public = packed(b"sk-ssh-ed25519@openssh.com", b"\1" * 32, b"ssh:")
    blob = b"openssh-key-v1\0" + packed(b"none", b"none", b"") + struct.pack(">I", 1) + packed(public, b"")
    text = (
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{base64.b64encode(blob).decode()}\n-----END OPENSSH PRIVATE KEY-----\n"
    )
    said = refused(world, tmp_path, HostUnreachable, mac(key="  IdentityFile {dir}/sk\n"), files={"sk": text})
    assert "sk is a FIDO key, which cannot sign here by itself; ssh-add" in said


@pytest.mark.parametrize(
    ("agent", "words"),
    [("{dir}/none", "there is no agent at"), ("{dir}/known_hosts", "it is no socket")],
)
def test_an_agent_that_is_not_there(world: World, tmp_path: Path, agent: str, words: str) -> None:
    said = refused(
        world, tmp_path, HostUnreachable, mac(f"IdentityAgent {agent}", key="  IdentityFile {keys}/stranger\n")
    )
    assert "IdentityAgent: " in said
    assert words in said


# -- what is not done here -----------------------------------------------------------------------------------------


def test_algorithms_that_are_not_there_are_named_with_those_that_are(world: World, tmp_path: Path) -> None:
    said = refused(world, tmp_path, HostUnreachable, mac("Ciphers chacha20-poly1305@openssh.com"))
    assert "Ciphers chacha20-poly1305@openssh.com (here: aes128-ctr" in said


@pytest.mark.parametrize(
    ("line", "config", "kind"),
    [
        ("PKCS11Provider", "PKCS11Provider /usr/lib/card.so", HostUnreachable),
        ("GSSAPIAuthentication", "GSSAPIAuthentication yes", HostUnreachable),
        ("HostbasedAuthentication", "HostbasedAuthentication yes", HostUnreachable),
        ("ControlPath", "ControlPath ~/.ssh/%C", HostUnreachable),
    ],
)
def test_a_login_that_needs_more_than_a_key_is_named(
    world: World, tmp_path: Path, line: str, config: str, kind: type[RunbookError]
) -> None:
    said = refused(world, tmp_path, kind, mac(config, key="  IdentityFile {keys}/stranger\n"))
    assert f"{line}: " in said


@pytest.mark.parametrize("config", ["KnownHostsCommand /bin/echo", "VerifyHostKeyDNS yes"])
def test_a_host_key_from_elsewhere_is_named(world: World, tmp_path: Path, config: str) -> None:
    said = refused(world, tmp_path, HostKeyRefused, mac(config), known="")
    assert f"{config.split()[0]}: " in said


def test_a_proxy_command_that_hands_over_a_socket_is_named(world: World, tmp_path: Path) -> None:
    said = refused(world, tmp_path, HostUnreachable, mac("ProxyUseFdpass yes", "ProxyCommand nc -F %h %p"))
    assert "ProxyUseFdpass: " in said


def test_the_last_words_of_a_proxy_command_are_told(world: World, tmp_path: Path) -> None:
    said = refused(world, tmp_path, HostUnreachable, mac("ProxyCommand sh -c 'echo no tunnel >&2; exit 3'"))
    assert "it ended with 3: no tunnel" in said


def test_the_docs_have_every_limit() -> None:
    text = DOCS.read_text()
    for limit in LIMITS:
        assert f"| `{limit.setting}` | {limit.what} | {limit.instead} |" in text
    for what, instead in BESIDE.items():
        assert f"| {what} | {instead} |" in text
