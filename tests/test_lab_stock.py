"""The practice Mac as OpenClaw's installer, Homebrew and its owner leave one: nothing laid out for two gateways."""

from __future__ import annotations

import json
import plistlib
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import json5
import pytest
from lab_fixture import ssh

from runbook_lib.lab.layout import LabError
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac.vault import parse_env


@pytest.fixture(scope="module", params=["standin", pytest.param("openclaw", marks=pytest.mark.openclaw)])
def stock(request: pytest.FixtureRequest) -> Iterator[PracticeMac]:
    with tempfile.TemporaryDirectory(prefix="lab-", dir="/tmp") as folder:
        mac = PracticeMac(Path(folder).resolve() / "l", request.param, say=lambda _: None, layout="stock")
        try:
            mac.up()
            yield mac
        finally:
            mac.down(keep_cache=False)


def test_settings_stand_in_the_env_file_and_the_tokens_in_openclaw_json(stock: PracticeMac) -> None:
    state = stock.layout.state_dir("primary")
    assert state == stock.layout.home / ".openclaw"
    settings = parse_env(stock.layout.env_file("primary").read_text())
    assert {"HOME", "PATH", "TMPDIR", "NODE_OPTIONS", "OPENCLAW_GATEWAY_PORT", "OPENCLAW_LAUNCHD_LABEL"} <= set(
        settings
    )
    assert not [name for name in settings if "TOKEN" in name or "KEY" in name]
    text = (state / "openclaw.json").read_text()
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    config = json5.loads(text)
    assert len(config["gateway"]["auth"]["token"]) == 48 and len(config["hooks"]["token"]) == 48
    assert config["agents"]["entries"]["main"]["agentDir"] == f"{state}/agents/main/agent"
    assert "plugins" not in config or "admin-http-rpc" not in config["plugins"].get("entries", {})


def test_the_key_of_the_model_lies_in_the_state_database(stock: PracticeMac) -> None:
    file = stock.layout.state_dir("primary") / "state/openclaw.sqlite"
    ask = "select value_json from config_machine_state where state_key = 'authProfiles.store'"
    told = subprocess.run(["sqlite3", "-readonly", str(file), ask], capture_output=True, text=True, check=True).stdout
    assert json.loads(told)["profiles"]["anthropic:default"]["type"] == "api_key"


def test_the_job_runs_the_wrapper_with_a_heap_and_logs_into_library_logs(stock: PracticeMac) -> None:
    job = plistlib.loads(stock.layout.plist("ai.openclaw.gateway").read_bytes())
    words = job["ProgramArguments"]
    assert words[0] == "/bin/sh" and words[1].endswith("/.openclaw/service-env/ai.openclaw.gateway-env-wrapper.sh")
    assert words[3] == str(stock.layout.node_bin / "node"), "the path of the Mac, no link to another"
    assert words[4] == "--max-old-space-size=8192"
    assert words[5] == str(stock.layout.prefix("primary") / "node_modules" / stock.package / "dist/index.js")
    assert words[6:] == ["gateway", "--port", str(stock.ports.primary)]
    assert job["StandardErrorPath"] == f"{stock.layout.home}/Library/Logs/openclaw/gateway.log"
    assert job["ExitTimeOut"] == 20


def test_other_packages_share_the_tree_and_another_site_shares_nginx(stock: PracticeMac) -> None:
    tree = stock.layout.brew / "lib/node_modules"
    assert {path.name for path in tree.iterdir()} >= {stock.package, "npm", "pnpm", "@acme"}
    site = httpx.get(f"http://127.0.0.1:{stock.ports.neighbour}/", headers={"Host": "wiki.example.com"})
    assert site.text == "the wiki\n"


def test_nginx_logs_where_its_binary_says_without_a_directive(stock: PracticeMac) -> None:
    assert "access_log" not in "".join(path.read_text() for path in stock.layout.nginx_etc.rglob("*.conf"))
    tls = ssl.create_default_context(cafile=stock.layout.nginx_etc / "tls/ca.pem")
    with httpx.Client(verify=tls) as client:
        assert client.get(f"https://localhost:{stock.ports.https}/healthz").json()["ok"]
    said = ssh(stock, f"{stock.layout.nginx_binary} -V 2>&1").stdout
    log = next(word for word in said.split() if word.startswith("--http-log-path=")).partition("=")[2]
    assert "GET /healthz" in Path(log).read_text()
    masters = [line for line in ssh(stock, "ps -A -o command=").stdout.splitlines() if "nginx: master" in line]
    assert any(str(stock.layout.nginx_binary) in line for line in masters), "Homebrew's path, not the host's"


def test_the_shell_is_noisy_and_nginx_has_a_job_of_its_own(stock: PracticeMac) -> None:
    assert ssh(stock, "true").stdout.startswith("Welcome to ")
    target = f"{stock.layout.nginx_domain}/homebrew.mxcl.nginx"
    assert f"path = {stock.layout.nginx_plist}" in ssh(stock, f"launchctl print {target}").stdout


def test_a_mac_that_was_built_in_one_layout_is_not_taken_for_the_other(stock: PracticeMac) -> None:
    with pytest.raises(LabError, match="was not built as tidy"):
        PracticeMac(stock.root, stock.kind.name, layout="tidy").up()
    assert PracticeMac(stock.root).layout == stock.layout, "a fault or traffic finds it as it is"
