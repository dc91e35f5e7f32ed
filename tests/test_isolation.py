"""A canary's clone shares nothing with primary: no path, no key, no open file, however primary is laid out."""

from __future__ import annotations

import json
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import json5
import pandas as pd
import pytest
from mac_fixture import connected, plan_of

from runbook_lib.errors import ActionFailed
from runbook_lib.lab.layout import write
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac.actions import apply
from runbook_lib.mac.mac import Mac
from runbook_lib.probes import probe_secrets
from runbook_lib.steps import install, isolation, jobs, snapshot
from runbook_lib.steps.snapshot import Snapshot
from runbook_lib.verdict import Answer

OAUTH = {"type": "oauth", "provider": "google", "access": "oauth-access-of-primary", "refresh": "oauth-refresh-1"}
TOKEN = {"type": "token", "provider": "acme", "token": "acme-token-of-primary"}
BOT = "123456:telegram-bot-of-primary"


def be_hostile(lab: PracticeMac) -> None:
    """Absolute paths of every kind, JSON5, `$include`, a login, a plugin, links, and old copies with keys in them."""
    state, home = lab.layout.state_dir("primary"), lab.layout.home
    config = json5.loads((state / "openclaw.json").read_text())
    config["agents"]["entries"]["work"] = {
        "workspace": str(home / "clawd"), "agentDir": "~/.openclaw/agents/work/agent",
    }  # fmt: skip
    config["session"] = {"store": f"{state}/sessions/{{agentId}}.json"}
    config["memory"] = {"extraDirs": ["${HOME}/.openclaw/notes", str(home / "elsewhere")]}
    config["channels"] = {"$include": f"{state}/parts/channels.json5"}
    body = json.dumps(config, indent=2).removesuffix("\n}")
    write(state / "openclaw.json", f"// ours, not {state}-old\n{body}, /* the end */\n}}\n", 0o600)
    write(state / "parts/channels.json5", f"{{ telegram: {{ botToken: '{BOT}', }} }} // no JSON\n", 0o600)
    write(state / "openclaw.json.bak.1", body, 0o600)
    write(state / "credentials/oauth.json", json.dumps({"google": OAUTH}), 0o600)
    write(state / "workspace/AGENTS.md", f"Notes lie in {state}/workspace/notes and ~/.openclaw/workspace/notes.\n")
    write(home / "clawd/SOUL.md", f"I live in {home}/clawd.\n")
    write(state / "extensions/acme/index.js", "export default {}\n")
    write(state / "extensions/acme/node_modules/dep/index.js", "export default 1\n")
    (state / "workspace/skills").symlink_to(state / "workspace/own-skills")
    (state / "workspace/other").symlink_to(home / "clawd")
    with sqlite3.connect(state / "state/openclaw.sqlite") as db:
        (text,) = db.execute(
            "SELECT value_json FROM config_machine_state WHERE state_key = 'authProfiles.store'"
        ).fetchone()
        store = json.loads(text)
        store["profiles"] |= {"google:me": OAUTH, "acme:default": TOKEN}
        rows = [
            ("authProfiles.store", json.dumps(store)),
            ("plugins.index", json.dumps({"dir": f"{state}/extensions"})),
        ]
        db.executemany("INSERT OR REPLACE INTO config_machine_state VALUES (?, ?, 1)", rows)
        db.execute("CREATE TABLE mcp_oauth_stores (store_key TEXT PRIMARY KEY, store_json TEXT)")
        db.execute("INSERT INTO mcp_oauth_stores VALUES ('x', ?)", [json.dumps({"refresh_token": "mcp-refresh-token"})])


@pytest.fixture(scope="module")
def stock() -> Iterator[PracticeMac]:
    with tempfile.TemporaryDirectory(prefix="lab-", dir="/tmp") as folder:
        mac = PracticeMac(Path(folder).resolve() / "l", say=lambda _: None, layout="stock")
        try:
            mac.up()
            be_hostile(mac)
            yield mac
        finally:
            mac.down(keep_cache=False)


@pytest.fixture(scope="module")
def stock_mac(stock: PracticeMac, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mac]:
    with connected(plan_of(stock), tmp_path_factory.mktemp("mac")) as mac:
        yield mac


@pytest.fixture(scope="module")
def archive(stock_mac: Mac) -> str:
    _, facts = apply(stock_mac, snapshot.prepare_tools(stock_mac), snapshot.propose_snapshot(stock_mac, "hostile"))
    return Snapshot.from_facts(facts).archive("primary")


def test_what_cannot_be_rewritten_refuses_the_clone_and_leaves_nothing(
    stock: PracticeMac, stock_mac: Mac, tmp_path: Path
) -> None:
    state, canary = stock.layout.state_dir("primary"), stock.layout.state_dir("canary")
    binary = state / "workspace/index.bin"
    binary.write_bytes(b"\0\1" + str(state).encode() + b"/workspace\0")
    _, facts = apply(stock_mac, snapshot.prepare_tools(stock_mac), snapshot.propose_snapshot(stock_mac, "with-binary"))
    taken = Snapshot.from_facts(facts).archive("primary")
    with pytest.raises(
        ActionFailed, match=r"was not cloned.*workspace/index\.bin is no text and names a path of primary"
    ):
        apply(stock_mac, install.propose_state(stock_mac, taken))
    assert not canary.exists()
    assert not canary.with_name(f"{canary.name}.restoring").exists()
    binary.unlink()


def test_a_running_canary_has_nothing_of_a_hostile_primary(stock: PracticeMac, stock_mac: Mac, archive: str) -> None:
    state, canary, home = stock.layout.state_dir("primary"), stock.layout.state_dir("canary"), stock.layout.home
    before = (state / "openclaw.json").read_bytes()
    _, cloned, _, _ = apply(stock_mac, *install.propose_all(stock_mac, archive))
    apply(stock_mac, jobs.propose_start(stock_mac, "canary"))
    found = isolation.probe(stock_mac)
    assert set(found["kind"]) == {"compared"}, found.to_string()
    assert {check.answer for check in isolation.judge(found)} == {Answer.PASS}

    text = (canary / "openclaw.json").read_text()
    config = json5.loads(text)
    assert f"// ours, not {state}-old" in text and "/* the end */" in text, "comments stay, and so does another's path"
    assert config["channels"]["$include"] == f"{canary}/parts/channels.json5"
    assert config["agents"]["entries"]["main"]["agentDir"] == f"{canary}/agents/main/agent"
    assert config["agents"]["entries"]["work"] == {
        "workspace": f"{canary}/outside/clawd", "agentDir": f"{canary}/agents/work/agent",
    }  # fmt: skip
    assert config["session"]["store"] == f"{canary}/sessions/{{agentId}}.json"
    assert config["memory"]["extraDirs"] == [f"{canary}/notes", f"{home}/elsewhere"]
    assert (canary / "workspace/skills").readlink() == canary / "workspace/own-skills"
    assert (
        canary / "workspace/AGENTS.md"
    ).read_text() == f"Notes lie in {canary}/workspace/notes and {canary}/workspace/notes.\n"
    assert (canary / "extensions/acme/node_modules/dep/index.js").is_file(), "a backup leaves these out"
    assert not (canary / "credentials").exists() and not list(canary.glob("openclaw.json.bak*"))

    with sqlite3.connect(f"file:{canary}/state/openclaw.sqlite?mode=ro", uri=True) as db:
        (store,) = db.execute(
            "SELECT value_json FROM config_machine_state WHERE state_key = 'authProfiles.store'"
        ).fetchone()
        assert json.loads(store)["profiles"] == {
            "anthropic:default": {
                "type": "api_key", "provider": "anthropic",
                "keyRef": {"source": "env", "provider": "default", "id": "ANTHROPIC_API_KEY"},
            }
        }, "the login and the key that it has none of its own for do not come along"  # fmt: skip
        assert db.execute("SELECT count(*) FROM mcp_oauth_stores").fetchone() == (0,)
    assert "auth profile google:me (a login: log the canary in by itself)" in cloned["without"]
    assert "telegram.botToken" in cloned["without"]
    assert not canary.with_name(f"{canary.name}.restoring").exists()
    assert (state / "openclaw.json").read_bytes() == before, "primary's own stays as it is"

    plist = stock.layout.plist("ai.openclaw.canary").read_text()
    assert "--max-old-space-size=8192" in plist and "dist/index.js" in plist, "heap and program as primary's"
    checks = install.judge(
        stock_mac.plan, pd.DataFrame(columns=["package", "same", "canary"]), probe_secrets(stock_mac, "s")
    )
    assert {check.name: check.answer for check in checks[1:]} == {
        "secrets differ": Answer.PASS, "no secret is missing": Answer.PASS,
        "webhook secrets are shared": Answer.PASS, "env files are private": Answer.PASS,
    }  # fmt: skip


def test_a_canary_that_opens_primarys_files_is_found(stock: PracticeMac, stock_mac: Mac) -> None:
    """As a clone whose agent directory was left primary's."""
    state, canary = stock.layout.state_dir("primary"), stock.layout.state_dir("canary")
    apply(stock_mac, jobs.propose_stop(stock_mac, "canary"))
    text = (canary / "openclaw.json").read_text()
    write(canary / "openclaw.json", text.replace(f"{canary}/agents/main/agent", f"{state}/agents/main/agent"), 0o600)
    write(canary / "notes.md", f"{BOT}\n")
    apply(stock_mac, jobs.propose_start(stock_mac, "canary"))
    found = isolation.probe(stock_mac)
    assert any(re.search(r"openclaw-agent\.sqlite", path) for path in found[found["kind"] == "open file"]["where"])
    assert found[found["kind"] == "path"]["what"].tolist() == ["agents.entries.main.agentDir"]
    assert found[found["kind"] == "secret"]["what"].tolist() == ["telegram.botToken"]
    assert {check.answer for check in isolation.judge(found)} == {Answer.FAIL}


def test_nothing_compared_is_no_pass() -> None:
    nothing = pd.DataFrame(
        [("compared", kind, "0") for kind in ("open file", "path", "secret")], columns=isolation.COLUMNS
    )
    for found in (nothing, nothing.iloc[:0]):
        assert {check.answer for check in isolation.judge(found)} == {Answer.INCONCLUSIVE}
