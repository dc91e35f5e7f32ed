"""Six secrets planted where a rollout comes past them; afterwards they are nowhere but where they were put."""

from __future__ import annotations

import gzip
import secrets
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from lab_fixture import secret
from mac_fixture import watched_process_list
from project_fixture import Project

from runbook_lib.lab.layout import write
from runbook_lib.mac.vault import spellings

pytest_plugins = ["project_fixture"]

PLACES = ("environment", "exception", "configuration", "header", "query", "parameter")
TALKATIVE = """#!/bin/sh
echo "cannot lint, and here is a token: {value}" >&2
exit 1
"""


@pytest.mark.long
@pytest.mark.timeout(900)
def test_six_planted_secrets_are_nowhere_else(own_project: Project) -> None:
    layout = own_project.mac.layout
    planted = {place: f"p'{place}\"{secrets.token_hex(8)}/ü&<" for place in PLACES}
    planted["header"], planted["query"] = secrets.token_hex(16), secrets.token_hex(16)
    own_files = plant(own_project, planted)
    environment = {"PLANTED": planted["environment"]}
    said = ""
    with watched_process_list() as commands:
        said += refuse_a_literal(own_project, planted["parameter"])

        plutil = layout.bin / "plutil"
        real = plutil.read_text()
        write(plutil, TALKATIVE.format(value=planted["exception"].replace('"', '\\"')), 0o755)
        done = own_project.run("rollout", "run", "lab", "--through", "2", env=environment)
        write(plutil, real, 0o755)
        assert done.returncode == 1
        assert "cannot lint, and here is a token" in done.stdout, "the error came through, its secret did not"
        said += done.stdout + done.stderr

        done = own_project.run("rollout", "run", "lab", "--through", "3", env=environment)
        said += done.stdout + done.stderr
        assert done.returncode == 0, said
        send(own_project, planted)
        done = own_project.run("rollout", "run", "lab", "--through", "4", env=environment)
        said += done.stdout + done.stderr
        assert done.returncode == 0, said

    env_file = layout.env_file("canary")
    assert env_file.stat().st_mode & 0o777 == 0o600
    assert planted["environment"].encode() in shell_unquoted(env_file.read_bytes()), "it arrived where it belongs"
    assert not [place for place, value in planted.items() if any(value in command for command in commands)]
    assert not [place for place, value in planted.items() for form in spellings(value) if form in said]
    found = {path for path in files(own_project.root) for value in planted.values() if holds(path, value)}
    assert {path for path in found if path.is_relative_to(own_project.root / "outputs")} == set()
    private = {path for path in found if path.stat().st_mode & 0o077 == 0}
    assert found - private <= own_files, "only in files that nobody else can read, or where it was planted"
    assert env_file in private


def plant(project: Project, planted: dict[str, str]) -> set[Path]:
    """Put them in place; answers the files of ours that hold one by that and are not private."""
    layout = project.mac.layout
    keys = layout.staging / "planted.env"
    names = ("exception", "configuration", "header", "query")
    quoted = {name: planted[name].replace("'", "'\\''") for name in names}
    write(keys, "".join(f"{name.upper()}='{value}'\n" for name, value in quoted.items()), 0o600)
    path = project.root / "parameters/lab.yaml"
    values = yaml.safe_load(path.read_text())
    known = yaml.safe_load(layout.yaml.read_text())["canary"]["secrets"]
    references = {f"PLANTED_{name.upper()}": f"file:{keys}#{name.upper()}" for name in names}
    values["canary"] = {"secrets": {**known, **references, "PLANTED_ENVIRONMENT": "env:PLANTED"}}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    server = layout.nginx_etc / "servers/openclaw.conf"
    escaped = planted["configuration"].replace("\\", "\\\\").replace('"', '\\"')
    line = f'        proxy_set_header X-Internal-Token "{escaped}";\n'
    server.write_text(server.read_text().replace("        proxy_http_version", f"{line}        proxy_http_version", 1))
    subprocess.run([layout.nginx_binary, "-c", layout.nginx_etc / "nginx.conf", "-s", "reload"], check=True)
    return {server}


def refuse_a_literal(project: Project, value: str) -> str:
    """A value where a reference belongs: exit code 2, not repeated, nothing made."""
    path = project.root / "parameters/lab.yaml"
    right = path.read_text()
    values = yaml.safe_load(right)
    values["canary"]["secrets"]["PLANTED_PARAMETER"] = value
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    done = project.run("rollout", "run", "lab")
    path.write_text(right)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "not a reference to a secret" in done.stderr
    return done.stdout + done.stderr


def send(project: Project, planted: dict[str, str]) -> None:
    """A header and a query string that a client sends through nginx."""
    layout = project.mac.layout
    tls = ssl.create_default_context(cafile=layout.nginx_etc / "tls/ca.pem")
    token = secret(layout.staging / "canary.env", "OPENCLAW_HOOKS_TOKEN")
    with httpx.Client(verify=tls, base_url=f"https://localhost:{project.mac.ports.https}") as client:
        for _ in range(20):
            headers = {"Authorization": f"Bearer {token}", "X-Api-Key": planted["header"]}
            client.post("/hooks/wake", params={"key": planted["query"]}, headers=headers, json={"text": "x"})


def files(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and "node_modules" not in path.parts:
            yield path


def holds(path: Path, value: str) -> bool:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    return any(form.encode() in content for form in spellings(value))


def shell_unquoted(content: bytes) -> bytes:
    return content.replace(b"'\\''", b"'")
