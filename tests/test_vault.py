"""Secrets are named in the parameters, live only in memory, and are taken out of whatever is written."""

from __future__ import annotations

import base64
import html
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import keyring
import keyring.backend
import keyring.errors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.errors import ActionFailed, PlanError
from runbook_lib.lab.layout import write
from runbook_lib.mac.actions import apply
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal
from runbook_lib.mac.vault import Secret, Vault, json_value, parse_env
from runbook_lib.onmac import script
from runbook_lib.records.kinds import Act
from runbook_lib.ssh.host import Host

pytest_plugins = ["lab_fixture", "mac_fixture"]

VALUE = "p'a\"ss w\\ord/ü&<#$>"


class InMemory(keyring.backend.KeyringBackend):
    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        if username == "locked":
            raise keyring.errors.KeyringLocked("the keychain is locked")
        return self.values.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.values[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.values[service, username]


@pytest.fixture
def ring() -> Iterator[InMemory]:
    before, ring = keyring.get_keyring(), InMemory()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


@pytest.fixture
def vault(host: Host) -> Vault:
    return Vault(host)


def refused(vault: Vault, reference: str) -> str:
    with pytest.raises(PlanError) as caught:
        vault.resolve(reference)
    return str(caught.value)


def test_from_the_environment(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLOUT_SECRET", VALUE)
    assert vault.resolve("env:ROLLOUT_SECRET").value == VALUE
    monkeypatch.delenv("ROLLOUT_SECRET")
    assert vault.resolve("env:ROLLOUT_SECRET").value == VALUE, "resolved once"
    assert "env:NOT_THERE is empty or not there" in refused(vault, "env:NOT_THERE")
    monkeypatch.setenv("EMPTY", "")
    assert "env:EMPTY is empty" in refused(vault, "env:EMPTY")


def test_from_the_keyring(vault: Vault, ring: InMemory) -> None:
    keyring.set_password("openclaw-rollout", "hk-token", VALUE)
    assert vault.resolve("keyring:hk-token").value == VALUE
    assert "keyring:other is empty or not there" in refused(vault, "keyring:other")
    said = refused(vault, "keyring:locked")
    assert "does not answer (KeyringLocked: the keychain is locked); unlock it" in said


FORMS = {
    "PLAIN=abc": "abc",
    "export PLAIN=abc": "abc",
    "PLAIN='a b'": "a b",
    'PLAIN="a b"': "a b",
    "PLAIN=a'b": "a'b",
    "PLAIN='it'\\''s'": "it's",
    "PLAIN=''\\'''\\'''": "''",
    "PLAIN='$HOME `id` #no'": "$HOME `id` #no",
    "PLAIN=a#b": "a#b",
    "PLAIN=a=b=": "a=b=",
    "PLAIN='": "'",
    "PLAIN='\"'": '"',
    "PLAIN=first\nPLAIN=last": "last",
    "PLAIN=a\\b": "a\\b",
    "PLAIN=abc\r": "abc",
    "PLAIN='abc'\r": "abc",
    "# PLAIN=no\nPLAIN=yes": "yes",
    "BAD-NAME=1\n1X=2\n=3\nnonsense\n\nPLAIN=fine": "fine",
    "OTHER_PLAIN=no\nPLAIN=yes": "yes",
    "PLAIN=  two blanks  ": "  two blanks  ",
    "PLAIN=ü€": "ü€",
    "PLAIN=no newline at the end": "no newline at the end",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_line_of_a_file_means_the_same_here_and_to_the_gateway(tmp_path: Path, form: str) -> None:
    """parse_env here, with-env.sh there: a secret is compared and used by both."""
    file, wrapper = tmp_path / "x.env", tmp_path / "with-env.sh"
    file.write_bytes(form.encode() + b"\n" * (not form.endswith("the end")))
    wrapper.write_text(script("with-env.sh"))
    assert parse_env(file.read_bytes().decode())["PLAIN"] == FORMS[form]
    for shell in ("/bin/sh", "/bin/bash", "/usr/bin/zsh"):
        words = [shell, str(wrapper), str(file), "/usr/bin/printenv", "PLAIN"]
        words = [shell, *(["--emulate", "sh"] if "zsh" in shell else []), *words[1:]]
        done = subprocess.run(words, capture_output=True)
        assert done.stdout.decode() == FORMS[form] + "\n", (shell, done.stderr)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    value=st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs", "Zl", "Zp", "Cc"]), min_size=1)
)
def test_any_value_of_one_line_survives_our_own_quotes(value: str) -> None:
    quoted = "'" + value.replace("'", "'\\''") + "'"
    assert parse_env(f"X={quoted}\n")["X"] == value


def test_from_a_file_on_the_mac(vault: Vault, tmp_path: Path) -> None:
    file = tmp_path / "x.env"
    file.write_bytes(b"# comment\nexport TOKEN='it'\\''s # $x'\nEMPTY=\nBYTES=\xff\n")
    assert vault.resolve(f"file:{file}#TOKEN").value == "it's # $x"
    assert "is empty or not there" in refused(vault, f"file:{file}#EMPTY")
    assert "is empty or not there" in refused(vault, f"file:{file}#OTHER")
    said = refused(vault, f"file:{tmp_path}/none#TOKEN")
    assert "cannot be read on the Mac" in said
    assert "No such file" in said


def test_a_secret_prints_as_its_reference() -> None:
    secret = Secret("env:X", "hunter22hunter22")
    for text in (str(secret), repr(secret), f"{secret}", str([secret]), str({"a": secret})):
        assert "hunter22" not in text
        assert "env:X" in text


SPELT = {
    "plain": VALUE,
    "json": json.dumps({"x": VALUE}),
    "json, as utf-8": json.dumps({"x": VALUE}, ensure_ascii=False),
    "json in json, as in a notebook": json.dumps({"text/plain": json.dumps(VALUE)}),
    "query": f"https://x/?token={quote(VALUE, safe='')}",
    "path": f"https://x/{quote(VALUE)}",
    "html": f"<td>{html.escape(VALUE)}</td>",
    "shell": "X='" + VALUE.replace("'", "'\\''") + "'",
}


@pytest.mark.parametrize("how", SPELT)
def test_a_value_is_found_however_it_is_spelt(vault: Vault, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setenv("ROLLOUT_SECRET", VALUE)
    assert vault.leaked(SPELT[how].encode()) == [], "not resolved yet, not known"
    vault.resolve("env:ROLLOUT_SECRET")
    assert vault.leaked(SPELT[how].encode()) == ["env:ROLLOUT_SECRET"]
    redacted = vault.redact(SPELT[how])
    assert "[env:ROLLOUT_SECRET]" in redacted
    assert vault.leaked(redacted.encode()) == []
    assert "ss w" not in redacted
    assert "ss%20w" not in redacted


def test_a_value_inside_another_is_redacted_whole(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT", "12345678")
    monkeypatch.setenv("LONG", "xx12345678yy")
    vault.resolve("env:SHORT")
    vault.resolve("env:LONG")
    assert vault.redact("a xx12345678yy b 12345678") == "a [env:LONG] b [env:SHORT]"


def test_short_values_do_not_redact_words(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT", "the")
    vault.resolve("env:SHORT")
    assert vault.redact("the end") == "the end"
    assert vault.leaked(b"the end") == []


def test_binary_content_is_searched(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLOUT_SECRET", "0123456789abcdef")
    vault.resolve("env:ROLLOUT_SECRET")
    assert vault.leaked(b"\xff\x00" + b"0123456789abcdef" + b"\xfe") == ["env:ROLLOUT_SECRET"]
    assert vault.leaked(base64.b64encode(b"other")) == []


@pytest.mark.parametrize("how", ["standard error", "a proof", "an exception"])
def test_what_the_mac_says_is_redacted_in_the_ledger_and_the_error(
    mac: Mac, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("ROLLOUT_SECRET", "hunter22-hunter22")
    value = mac.vault.resolve("env:ROLLOUT_SECRET").value

    def proof(mac: Mac, done: object) -> dict[str, str]:
        if how == "an exception":
            raise RuntimeError(f"the gateway said {value}")
        return {"said": f"the gateway said {value}"}

    fails = how == "standard error"
    body = f"# say it\necho '{value}' >&2\nreturn {int(fails)}\n"
    proposal = Proposal(Act.START, "say it", body, proof=proof)
    if how == "a proof":
        apply(mac, proposal)
    else:
        with pytest.raises(ActionFailed if fails else RuntimeError) as caught:
            apply(mac, proposal)
        assert not fails or value not in str(caught.value)
    assert value.encode() not in mac.ledger.path.read_bytes()
    assert b"[env:ROLLOUT_SECRET]" in mac.ledger.path.read_bytes()


def test_a_value_in_a_json5_file_is_found_by_its_path() -> None:
    text = "// ours\n{ gateway: { auth: { token: 'a-token-of-ours', }, port: 18789 }, hooks: { token: '${HOOKS}' } }"
    assert json_value(text, "gateway.auth.token") == "a-token-of-ours"
    assert json_value(text, "hooks.token") == "", "the name of a variable is no value"
    assert [json_value(text, where) for where in ("gateway.port", "gateway.auth", "no.such")] == ["", "", ""]
    assert json_value("{ broken", "gateway") == ""


def test_a_reference_into_openclaw_json_is_resolved_on_the_mac(mac: Mac) -> None:
    path = f"{mac.plan.host.runbook_dir}/openclaw.json"
    write(Path(path), "{ gateway: { auth: { token: 'told-by-json5' } }, }")
    vault = Vault(mac.host)
    vault.resolve_all([f"json:{path}#gateway.auth.token", f"json:{path}#no.such"])
    assert vault.resolve(f"json:{path}#gateway.auth.token").value == "told-by-json5"
    assert vault.unknown == [f"json:{path}#no.such"]
