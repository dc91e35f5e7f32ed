"""The canary's own things on the Mac: packages by pins, a cloned state, a private env file, a plist that starts."""

from __future__ import annotations

import json
import os
import plistlib
import re
import shutil
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from lab_fixture import hook, status
from mac_fixture import connected, plan_of, with_plan

from runbook_lib import matrix
from runbook_lib.errors import ActionFailed, PlanError
from runbook_lib.gateway import openclaw
from runbook_lib.lab.layout import CANARY_LABEL, launchd_domain, write
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac.actions import apply
from runbook_lib.mac.mac import Mac
from runbook_lib.mac.proposal import Proposal
from runbook_lib.nginx.change import propose_weight
from runbook_lib.plan.models import Plan
from runbook_lib.probes import probe_jobs, probe_listeners, probe_packages, probe_secrets
from runbook_lib.ssh.host import Host
from runbook_lib.steps import install, jobs, sentinel, snapshot
from runbook_lib.steps.snapshot import Snapshot
from runbook_lib.verdict import Answer, Check

pytest_plugins = ["lab_fixture", "mac_fixture"]

ODD = {
    "ODD_BLANKS": "two  blanks and # no comment",
    "ODD_DOLLAR": "$HOME `id` $(id) ${X}",
    "ODD_QUOTES": "it's \"quoted\" 'twice'",
    "ODD_ESCAPES": r"back\slash \n \t '\'' end",
    "ODD_EQUALS": "=a=b=%s;&|<>!*?[]{}~",
    "ODD_LETTERS": "ü€ – 日本",
}


@pytest.fixture(scope="module")
def plan(own_lab: PracticeMac) -> Plan:
    """The lab's plan with secrets that are hard to carry."""
    secrets = plan_of(own_lab).canary.secrets
    return plan_of(own_lab, canary={"secrets": {**secrets, **{name: f"env:TEST_{name}" for name in ODD}}})


@pytest.fixture(scope="module")
def own_mac(own_lab: PracticeMac, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mac]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ODD.items():
            patch.setenv(f"TEST_{name}", value)
        with connected(plan, tmp_path_factory.mktemp("mac")) as mac:
            yield mac


@pytest.fixture(scope="module")
def archive(own_mac: Mac) -> str:
    """Primary's state, as step 1 keeps it."""
    _, facts = apply(own_mac, snapshot.prepare_tools(own_mac), snapshot.propose_snapshot(own_mac, "for-the-canary"))
    return Snapshot.from_facts(facts).archive("primary")


@pytest.fixture(scope="module")
def installed(own_mac: Mac, archive: str) -> list[Proposal]:
    proposals = install.propose_all(own_mac, archive)
    apply(own_mac, *proposals)
    return proposals


def answers(checks: list[Check]) -> dict[str, Answer]:
    return {check.name: check.answer for check in checks}


# -- all of it ---------------------------------------------------------------------------------------------------


def test_both_trees_are_the_same_and_stay(own_mac: Mac, installed: list[Proposal]) -> None:
    packages = probe_packages(own_mac)
    assert packages["package"].tolist() == [own_mac.plan.runtime.package]
    assert packages["same"].all()
    lock = [Path(g.prefix, "package-lock.json").read_bytes() for g in own_mac.plan.gateways.values()]
    assert lock[0] == lock[1]
    assert install.propose_packages(own_mac).done_already == "both trees are as planned"
    checks = install.judge(own_mac.plan, packages, probe_secrets(own_mac, install.new_salt()))
    assert set(answers(checks).values()) == {Answer.PASS}, [check.reason for check in checks]


def test_the_env_file_is_private_and_every_value_arrives_in_the_process(
    own_lab: PracticeMac, own_mac: Mac, installed: list[Proposal]
) -> None:
    file = Path(own_mac.plan.canary.env_file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert not file.with_name(f"{file.name}.next").exists()
    (facts,) = apply(own_mac, jobs.propose_start(own_mac, "canary"))
    assert facts["ready"]
    assert facts["listens_on"] == [f"127.0.0.1:{own_mac.plan.canary.port}", f"[::1]:{own_mac.plan.canary.port}"]
    environment = psutil.Process(facts["pid"]).environ()
    assert {name: environment.get(name) for name in ODD} == ODD
    for name, reference in own_mac.plan.canary.secrets.items():
        assert environment[name] == own_mac.vault.resolve(reference).value
    assert environment["OPENCLAW_STATE_DIR"] == own_mac.plan.canary.state_dir
    assert environment["OPENCLAW_SKIP_CRON"] == "1"
    url = own_mac.plan.canary.url
    with httpx.Client() as client:  # the restored copy serves
        assert hook(own_lab, url, client).status_code == 200
    assert status(f"{url}/readyz") == 200
    job = probe_jobs(own_mac)["canary"]
    assert job.pid == facts["pid"]
    listeners = probe_listeners(own_mac, own_mac.plan.canary.port)
    (check,) = install.judge_ports(own_mac.plan, listeners)
    assert f"pid {facts['pid']} (" in check.reason
    assert jobs.propose_start(own_mac, "canary").done_already.startswith("launchd runs it: running")
    apply(own_mac, jobs.propose_stop(own_mac, "canary"))
    assert not probe_jobs(own_mac)["canary"].loaded
    assert jobs.propose_stop(own_mac, "canary").done_already == "launchd does not know it"


def test_the_state_is_the_canarys_own(own_mac: Mac, installed: list[Proposal], archive: str) -> None:
    section = own_mac.plan.canary
    config = json.loads(Path(section.config_path).read_text())
    assert config["gateway"]["port"] == section.port
    assert config["gateway"]["auth"]["token"] == "${OPENCLAW_GATEWAY_TOKEN}"
    assert config["agents"]["defaults"]["workspace"] == f"{section.state_dir}/workspace"
    assert config["logging"]["file"] == section.log_file
    primary = json.loads(Path(own_mac.plan.primary.config_path).read_text())
    assert config["hooks"] == primary["hooks"], "the rest is primary's"
    assert stat.S_IMODE(Path(section.state_dir).stat().st_mode) == 0o700
    assert (Path(section.state_dir) / openclaw.STATE_DATABASE).is_file()
    (facts,) = apply(own_mac, install.propose_state(own_mac, archive))
    assert facts == {"state": "there already"}


def test_primarys_secrets_never_land_in_the_canarys_state(own_mac: Mac, installed: list[Proposal]) -> None:
    env = Path(own_mac.plan.primary.env_file).read_text()
    own = [
        value
        for name, value in re.findall(r"^export (\w+)='(.*)'$", env, re.MULTILINE)
        if name in ("OPENCLAW_GATEWAY_TOKEN", "PRACTICE_API_KEY")
    ]
    assert len(own) == 2
    for path in Path(own_mac.plan.canary.state_dir).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(value.encode() in content for value in own), path
            assert path.name != Path(own_mac.plan.primary.env_file).name


def test_something_in_the_states_place_is_not_overwritten(own_mac: Mac, archive: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("mine")
    elsewhere = with_plan(own_mac, canary={"state_dir": str(tmp_path / "mine")})
    with pytest.raises(ActionFailed, match="was not cloned: it is in the way; move it away"):
        apply(elsewhere, install.propose_state(elsewhere, archive))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_the_plist_is_for_all_to_read_and_sound(own_mac: Mac, installed: list[Proposal]) -> None:
    plist = Path(own_mac.plan.canary.plist)
    assert stat.S_IMODE(plist.stat().st_mode) == 0o644
    assert plistlib.loads(plist.read_bytes())["Label"] == CANARY_LABEL
    assert own_mac.host.run('plutil -lint "$1"', str(plist)).exit_status == 0
    assert sorted(path.name for path in plist.parent.glob("*.next")) == []
    content = plist.read_text()
    for reference in own_mac.plan.canary.secrets.values():
        assert own_mac.vault.resolve(reference).value not in content


# -- packages ----------------------------------------------------------------------------------------------------


def test_without_a_lock_file_the_exact_versions_are_pinned(own_mac: Mac, tmp_path: Path) -> None:
    primary, canary = tmp_path / "primary", tmp_path / "canary"
    shutil.copytree(own_mac.plan.primary.prefix, primary, symlinks=True)
    (primary / "package-lock.json").unlink()
    manifest = json.loads((primary / "package.json").read_text())
    manifest["dependencies"][own_mac.plan.runtime.package] = "*"
    (primary / "package.json").write_text(json.dumps(manifest))
    elsewhere = with_plan(own_mac, primary={"prefix": str(primary)}, canary={"prefix": str(canary)})
    (facts,) = apply(elsewhere, install.propose_packages(elsewhere))
    assert all(row["same"] for row in facts["packages"])
    pins = json.loads((canary / "package.json").read_text())["dependencies"]
    assert pins == {own_mac.plan.runtime.package: "2026.9.6"}


def test_another_version_for_the_canary(own_mac: Mac, tmp_path: Path) -> None:
    elsewhere = with_plan(own_mac, canary={"prefix": str(tmp_path / "canary")}, runtime={"canary_version": "2026.9.7"})
    (facts,) = apply(elsewhere, install.propose_packages(elsewhere))
    assert [(row["primary"], row["canary"]) for row in facts["packages"]] == [("2026.9.6", "2026.9.7")]
    packages = probe_packages(elsewhere)
    secrets = probe_secrets(elsewhere, install.new_salt())
    assert answers(install.judge(elsewhere.plan, packages, secrets))["same packages"] is Answer.PASS
    same = with_plan(elsewhere, runtime={"canary_version": None})
    (check, *_) = install.judge(same.plan, packages, secrets)
    assert (check.answer, check.reason) == (
        Answer.FAIL,
        f"0 of 1 packages as planned; {own_mac.plan.runtime.package} is 2026.9.7",
    )


def test_a_version_that_is_not_there_is_a_failed_change(own_mac: Mac, tmp_path: Path) -> None:
    elsewhere = with_plan(own_mac, canary={"prefix": str(tmp_path / "canary")}, runtime={"canary_version": "1.0.0"})
    with pytest.raises(ActionFailed, match=r"(?s)install the canary's packages ended with 1: .*1\.0\.0"):
        apply(elsewhere, install.propose_packages(elsewhere))


# -- secrets -----------------------------------------------------------------------------------------------------


def test_the_same_secret_on_both_is_found_whatever_it_is_called(
    own_lab: PracticeMac, own_mac: Mac, tmp_path: Path
) -> None:
    own = Path(own_mac.plan.primary.env_file).read_text()
    copied = next(line for line in own.splitlines() if line.startswith("export PRACTICE_API_KEY="))
    text = (own_lab.layout.staging / "canary.env").read_text()
    write(tmp_path / "x.env", re.sub(r"export PRACTICE_API_KEY=.*", copied, text), 0o600)
    elsewhere = with_plan(own_mac, canary={"env_file": str(tmp_path / "x.env")})
    hashes = probe_secrets(elsewhere, "salt")
    checks = install.judge(elsewhere.plan, probe_packages(elsewhere), hashes)
    (check,) = [c for c in checks if c.name == "secrets differ"]
    assert check.answer is Answer.FAIL
    assert check.reason.endswith("PRACTICE_API_KEY is primary's too")
    assert copied.partition("'")[2].strip("'") not in hashes.to_csv()
    assert probe_secrets(elsewhere, "salt").equals(hashes)
    assert not set(probe_secrets(elsewhere, "other")["sha256"]) & set(hashes["sha256"])


def test_missing_apart_and_open_are_found(own_lab: PracticeMac, own_mac: Mac, tmp_path: Path) -> None:
    text = (own_lab.layout.staging / "canary.env").read_text()
    text = re.sub(r"export PRACTICE_API_KEY=.*\n", "", text)
    text = re.sub(r"(export OPENCLAW_HOOKS_TOKEN=).*", r"\1'another-token'", text)
    write(tmp_path / "x.env", text, 0o640)
    elsewhere = with_plan(own_mac, canary={"env_file": str(tmp_path / "x.env")})
    found = answers(install.judge(elsewhere.plan, probe_packages(elsewhere), probe_secrets(elsewhere, "salt")))
    del found["same packages"]
    assert found == {
        "secrets differ": Answer.PASS,
        "no secret is missing": Answer.FAIL,
        "webhook secrets are shared": Answer.FAIL,
        "env files are private": Answer.FAIL,
    }


def test_a_missing_value_leaves_the_old_env_file(own_mac: Mac, tmp_path: Path, archive: str) -> None:
    file = tmp_path / "own/canary.env"
    write(file, "OLD='1'\n", 0o600)
    secrets = {**own_mac.plan.canary.secrets, "GONE": f"file:{tmp_path}/nothing.env#GONE", "ALSO": f"file:{file}#ALSO"}
    elsewhere = with_plan(own_mac, canary={"env_file": str(file), "secrets": secrets})
    with pytest.raises(ActionFailed, match=r"env file was not written: missing GONE in .*nothing.env, ALSO in"):
        apply(elsewhere, install.propose_env_file(elsewhere))
    assert file.read_text() == "OLD='1'\n"
    assert [path.name for path in file.parent.iterdir()] == ["canary.env"]


@pytest.mark.parametrize("value", ["two\nlines", "END\nreboot", "a\rb"])
def test_a_value_of_two_lines_is_refused(own_mac: Mac, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TWO_LINES", value)
    reference = "env:TWO_LINES"
    fresh = replace(own_mac, vault=type(own_mac.vault)(own_mac.host))
    elsewhere = with_plan(fresh, canary={"secrets": {"X": reference}})
    with pytest.raises(PlanError, match="env:TWO_LINES holds a line break"):
        install.propose_env_file(elsewhere)


def test_no_proposal_shows_or_passes_a_secret(own_mac: Mac, installed: list[Proposal], archive: str) -> None:
    """Arguments are in the Mac's process list; the rest is in the notebook and the ledger."""
    mac = own_mac
    for reference in {*mac.plan.canary.secrets.values(), *mac.plan.primary.secrets.values()}:
        mac.vault.resolve(reference)
    proposals = [
        *installed,
        *(snapshot.prepare_tools(mac), snapshot.propose_snapshot(mac, "x"), propose_weight(mac, 5)),
        *(jobs.propose_start(mac, "canary"), jobs.propose_stop(mac, "canary"), jobs.propose_kickstart(mac, "primary")),
        *(sentinel.propose_sentinel(mac), sentinel.propose_removal(mac)),
    ]
    for proposal in proposals:
        shown = repr(replace(proposal, script="")) + repr(proposal.files)
        assert mac.vault.leaked(shown.encode()) == [], proposal.what
    carried = [proposal.what for proposal in proposals if mac.vault.leaked(proposal.script.encode())]
    assert carried == ["write the canary's env file"], "on standard input, and only there"
    assert mac.vault.leaked(mac.ledger.path.read_bytes()) == []


def test_no_question_passes_a_secret_as_an_argument(own_mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, ...]] = []
    real = Host.run

    def run(self: Host, script: str, *args: str, **keys: Any) -> Any:
        seen.append(args)
        return real(self, script, *args, **keys)

    monkeypatch.setattr(Host, "run", run)
    for reference in {*own_mac.plan.canary.secrets.values(), *own_mac.plan.primary.secrets.values()}:
        own_mac.vault.resolve(reference)
    probe_packages(own_mac)
    probe_secrets(own_mac, "salt")
    probe_jobs(own_mac)
    token = own_mac.vault.resolve(own_mac.plan.webhooks.hooks_token)
    asked = matrix.rows(own_mac.plan, ("primary",), through_nginx=False)
    own_mac.host.run(matrix.script(own_mac.plan, asked, token))
    assert len(seen) >= 4
    assert own_mac.vault.leaked(repr(seen).encode()) == []


def test_the_matrix_carries_any_token(own_mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token with quotes and backslashes reaches the gateway as it is: it is refused as wrong, not as nonsense."""
    for token, expected in (('it\'s "odd" \\t \\ $x', 401), (None, 404)):
        monkeypatch.setenv("ODD_TOKEN", token or "")
        reference = "env:ODD_TOKEN" if token else own_mac.plan.webhooks.hooks_token
        secret = type(own_mac.vault)(own_mac.host).resolve(reference)
        asked = matrix.rows(own_mac.plan, ("primary",), through_nginx=False)
        table = matrix.parse(asked, own_mac.host.run(matrix.script(own_mac.plan, asked, secret)))
        assert table["status"].tolist() == [200, 200, 200, expected]
        assert (table["connect_ms"] >= 0).all()


# -- ports -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_taken_port_is_named_with_its_pid(own_mac: Mac, address: str) -> None:
    (free,) = install.judge_ports(own_mac.plan, probe_listeners(own_mac, own_mac.plan.canary.port))
    assert free.answer is Answer.PASS
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as taken:
        taken.bind((address, own_mac.plan.canary.port))
        taken.listen()
        (check,) = install.judge_ports(own_mac.plan, probe_listeners(own_mac, own_mac.plan.canary.port))
    assert check.answer is Answer.FAIL
    assert f"pid {os.getpid()} (" in check.reason
    assert f"{address.join('[]') if ':' in address else address}:{own_mac.plan.canary.port}" in check.reason
    assert "choose another canary.port" in check.remedy


def test_a_stranger_on_the_port_is_told_when_the_job_starts(
    own_lab: PracticeMac, own_mac: Mac, installed: list[Proposal]
) -> None:
    quick = with_plan(own_mac, runtime={"ready_timeout_s": 2})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", own_mac.plan.canary.port))
        taken.listen()
        try:
            with pytest.raises(ActionFailed, match="gateway canary: not ready after"):
                apply(quick, jobs.propose_start(quick, "canary"))
        finally:
            own_lab.launchctl("bootout", "--wait", f"{launchd_domain()}/{CANARY_LABEL}")
