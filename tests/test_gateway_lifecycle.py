"""A gateway's life under the runbook, the same for both kinds: upgraded, drained, killed, misconfigured, rolled back.

The tests stand in the order of a rollout, and each leaves the canary as the next one needs it.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from kind_fixture import Rollout
from lab_fixture import status, until

from runbook_lib import matrix
from runbook_lib.accesslog import LOG_FIELDS
from runbook_lib.errors import ActionFailed
from runbook_lib.gateway import webhooks
from runbook_lib.gateway.openclaw import STATE_DATABASE
from runbook_lib.mac import actions
from runbook_lib.mac.actions import apply
from runbook_lib.mac.mac import Mac
from runbook_lib.nginx.asking import probe_pulse
from runbook_lib.nginx.change import propose_weight
from runbook_lib.plan.models import GatewaySection
from runbook_lib.probes import probe_jobs, probe_matrix, probe_startup, probe_validation
from runbook_lib.steps import (
    install,
    jobs,
    migration,
    observation,
    rehearsal,
    rollback,
    sentinel,
    smoke,
    suspension,
    validation,
)
from runbook_lib.verdict import Answer, Check, Hop

pytest_plugins = ["kind_fixture"]
pytestmark = pytest.mark.timeout(900)  # the first one installs and starts two gateways of OpenClaw itself

ATTEMPTS = count()


def changed(mac: Mac, **sections: dict[str, Any]) -> Mac:
    update = {name: getattr(mac.plan, name).model_copy(update=keys) for name, keys in sections.items()}
    return replace(mac, plan=mac.plan.model_copy(update=update))


def schema(section: GatewaySection) -> int:
    with closing(sqlite3.connect(f"file:{section.state_dir}/{STATE_DATABASE}?mode=ro", uri=True)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def starts(mac: Mac) -> dict[str, set[str]]:
    schemas = migration.probe_schemas(mac)
    return {str(name): set(part["start"]) for name, part in schemas.groupby("gateway")}


def failed(checks: list[Check]) -> dict[str, Hop]:
    return {check.name: check.hop for check in checks if check.answer is Answer.FAIL}


@contextmanager
def held_run(rollout: Rollout) -> Iterator[Path]:
    """An agent run on the canary whose model thinks until the file is taken away."""
    mac = rollout.mac
    token = mac.vault.resolve(mac.plan.webhooks.hooks_token).value
    body = {"message": "think for 120 s", "deliver": False, "waitForCompletion": True}

    def ask() -> None:
        with suppress(httpx.TransportError):
            httpx.post(f"{mac.plan.canary.url}/hooks/agent", json=body, headers=bearer, timeout=150)

    bearer = {"Authorization": f"Bearer {token}"}
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        thinking = rollout.lab.layout.thinking
        until(thinking.exists, 60)
        try:
            yield thinking
        finally:
            thinking.unlink(missing_ok=True)
            asking.result()


# -- a newer version -----------------------------------------------------------------------------------------------


def test_a_newer_version_migrates_the_canarys_copy_alone(rollout: Rollout) -> None:
    mac, (before, after) = rollout.mac, rollout.versions
    known = {version: schemas["state"] for version, schemas in rollout.lab.kind.schemas.items()}
    assert starts(mac) == {"primary": {migration.AS_IS}, "canary": {migration.MIGRATES}}
    checks = migration.judge(migration.probe_schemas(mac))
    assert [check.answer for check in checks] == [Answer.PASS, Answer.PASS]
    assert f"has schema {known[before]}, known is {known[after]}" in checks[1].reason
    (facts,) = apply(mac, jobs.propose_start(mac, "canary"))
    assert facts["version"] == after
    assert probe_startup(mac, "primary")["version"] == before
    assert schema(mac.plan.canary) == known[after]
    assert schema(mac.plan.primary) == known[before]
    assert starts(mac) == {"primary": {migration.AS_IS}, "canary": {migration.AS_IS}}


def test_the_old_binary_never_meets_the_migrated_state(rollout: Rollout) -> None:
    before, _ = rollout.versions
    old = changed(rollout.mac, canary={"prefix": rollout.mac.plan.primary.prefix})
    (check,) = migration.judge(migration.probe_schemas(old, "canary"))
    assert (check.answer, check.hop) == (Answer.FAIL, Hop.CANARY)
    for propose in (jobs.propose_start, jobs.propose_kickstart):
        with pytest.raises(ActionFailed, match=rf"nothing was changed: canary, version {before}: .* has schema"):
            propose(old, "canary")
    newer = rollout.taken.databases.assign(schema_version="99")
    with pytest.raises(ActionFailed, match="not restored, nothing was changed: in the snapshot primary"):
        migration.refuse_archive(rollout.mac, "primary", newer)


def test_launchd_is_told_what_the_installer_of_that_version_would_tell_it(rollout: Rollout) -> None:
    rules = validation.probe_rules(rollout.mac)
    assert (rules["installer"] != "unknown").all()
    timeout = rules[(rules["gateway"] == "canary") & (rules["rule"] == "ExitTimeOut")].iloc[0]
    assert (timeout["installer"], timeout["plist"], timeout["launchd"]) == ("20", "330", "330")
    checks = validation.judge_rules(rules)
    assert [check.answer for check in checks] == [Answer.PASS, Answer.PASS], [check.reason for check in checks]
    assert all("OpenClaw drains for up to 315 s; 6 other rules are as" in check.reason for check in checks)


def test_an_agent_hook_completes_without_any_outside_network(rollout: Rollout) -> None:
    check = webhooks.judge_agent(actions.send(rollout.mac, smoke.propose_agent(rollout.mac)))
    assert check.answer is Answer.PASS, check.reason


# -- nginx in front ------------------------------------------------------------------------------------------------


def test_the_operators_rpc_is_closed_from_outside(rollout: Rollout) -> None:
    mac = rollout.mac
    apply(mac, propose_weight(mac, 0))
    seen = probe_matrix(mac)
    asked = seen[seen["request"] == matrix.ADMIN_IS_CLOSED.title]
    assert asked["hop"].tolist() == ["nginx tls", "outside"]
    assert asked["status"].tolist() == [403, 403]
    assert seen["ok"].all(), seen[~seen["ok"]].to_string()
    direct = httpx.post(f"{mac.plan.primary.url}/api/v1/admin/rpc", json={"method": "status"})
    assert direct.status_code == 401, "it is open on loopback: nginx is what closes it"


def test_a_proxy_that_hides_the_client_is_explained(rollout: Rollout) -> None:
    """From loopback without the practice client: what a probe on the Mac itself would meet."""
    mac = changed(rollout.mac, nginx={"probe_headers": {}})
    seen = probe_matrix(mac)
    assert failed(matrix.judge_matrix(seen)) == {
        "matrix nginx tls public": Hop.NGINX,
        "matrix outside public": Hop.NGINX,
    }
    reasons = [
        check.reason for check in matrix.judge_matrix(seen) if check.hop is Hop.NGINX and check.answer is Answer.FAIL
    ]
    assert all("403 proxy_attribution_required: the gateway does not trust this proxy" in reason for reason in reasons)
    live = seen[(seen["hop"] == "outside") & (seen["request"] == "GET /healthz")]
    assert live["ok"].all(), "liveness alone would have called this healthy"


# -- a delivery and its retries ------------------------------------------------------------------------------------


@cache
def trust(ca_file: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


def send(mac: Mac, method: str, path: str, key: str, token: str, **more: Any) -> httpx.Response:
    """One attempt as a provider makes it: a new connection, from an address of its own."""
    client = {"X-Practice-Client": f"203.0.113.{10 + next(ATTEMPTS) % 200}"}
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key, **client}
    url = f"{mac.plan.nginx.public_url}{path}"
    return httpx.request(method, url, headers=headers, verify=trust(mac.plan.nginx.ca_file), timeout=60, **more)


def slice_of(mac: Mac, keys: list[str]) -> set[str]:
    """The keys that reach the canary: it alone tells its version to the holder of its own token."""
    token = mac.vault.resolve(mac.plan.canary.secrets["OPENCLAW_GATEWAY_TOKEN"]).value
    return {key for key in keys if "version" in send(mac, "GET", "/startupz", key, token).json()}


def run_of(mac: Mac, key: str) -> str:
    token = mac.vault.resolve(mac.plan.webhooks.hooks_token).value
    answer = send(mac, "POST", "/hooks/agent", key, token, json={"message": f"delivery {key}", "deliver": False})
    return str(answer.json()["runId"])


def taken_over(mac: Mac, log: str) -> int:
    """How often primary stood in for a canary that did not answer: none on a machine that keeps up."""
    rows = [dict(zip(LOG_FIELDS, line.split("\t"), strict=True)) for line in log.splitlines()]
    return sum(row["openclaw_target"] == "canary" and mac.plan.primary.address in row["upstream_addr"] for row in rows)


def test_a_delivery_and_its_retries_stay_on_one_side_at_every_weight(rollout: Rollout) -> None:
    mac, keys = rollout.mac, [f"delivery-{n}" for n in range(24)]
    before: set[str] = set()
    for weight_pct in (0, 5, *range(10, 101, 10)):
        apply(mac, propose_weight(mac, weight_pct))
        first, again = slice_of(mac, keys), slice_of(mac, keys)
        assert first == again, f"at {weight_pct} % a retry went to the other side"
        assert before <= first, f"raising to {weight_pct} % moved a key out of the slice"
        before = first
    assert before == set(keys)
    apply(mac, propose_weight(mac, 0))
    assert slice_of(mac, keys) == set()


def test_real_deliveries_run_once_with_their_retries(rollout: Rollout) -> None:
    mac, log = rollout.mac, Path(rollout.mac.plan.nginx.slim_log)
    for weight_pct in (10, 50):
        apply(mac, propose_weight(mac, weight_pct))
        read = log.stat().st_size
        runs = {key: {run_of(mac, key) for _ in range(3)} for key in (f"{weight_pct}-{n}" for n in range(6))}
        assert sum(len(ids) - 1 for ids in runs.values()) <= taken_over(mac, log.read_text()[read:]), runs


def test_a_raise_moves_keys_into_the_slice_and_a_retry_after_it_runs_again(rollout: Rollout) -> None:
    """What the split cannot help: the memory of keys is the process's, so a raise costs the keys that it moves."""
    mac, keys = rollout.mac, [f"raised-{n}" for n in range(6)]
    apply(mac, propose_weight(mac, 20))
    inside, runs = slice_of(mac, keys), {key: run_of(mac, key) for key in keys}
    apply(mac, propose_weight(mac, 60))
    moved = slice_of(mac, keys) - inside
    assert {key for key in keys if run_of(mac, key) != runs[key]} == moved


def test_without_the_key_a_delivery_runs_on_both_sides(rollout: Rollout) -> None:
    mac = changed(rollout.mac, webhooks={"split_keys": ["$request_id"], "pinned_paths": []})
    apply(mac, propose_weight(mac, 50))
    runs = {key: {run_of(mac, key) for _ in range(5)} for key in (f"unsplit-{n}" for n in range(6))}
    twice = [key for key, ids in runs.items() if len(ids) == 2]
    assert twice, "five attempts at 50 % stay on one side once in 16 deliveries"
    assert max(len(ids) for ids in runs.values()) == 2, "each gateway remembers the keys that it has seen itself"
    apply(rollout.mac, propose_weight(rollout.mac, 0))


# -- drained, frozen, killed ---------------------------------------------------------------------------------------


def test_a_busy_canary_is_not_stopped_and_its_blockers_are_named(rollout: Rollout) -> None:
    mac = rollout.mac
    with held_run(rollout):
        with pytest.raises(ActionFailed, match=r"gateway canary: still busy after .*active embedded run\(s\)"):
            apply(mac, suspension.propose_suspension(mac, "canary"))
        assert probe_startup(mac, "canary")["ready"], "it takes work again"


def test_a_suspension_waits_for_the_last_run_and_renews_its_lease(rollout: Rollout) -> None:
    patient = changed(rollout.mac, runtime={"drain_timeout_s": 100})
    with held_run(rollout) as thinking, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(apply, patient, suspension.propose_suspension(patient, "canary"))
        until(lambda: status(f"{patient.plan.canary.url}/readyz") == 503, 60)
        thinking.unlink()
        (facts,) = waiting.result()
    assert facts["drained"] and facts["renewed_count"] >= 1
    assert not probe_startup(patient, "canary")["ready"]
    (stopped,) = apply(patient, jobs.propose_stop(patient, "canary"))
    assert stopped["took_s"] < 20
    apply(patient, jobs.propose_start(patient, "canary"))


def test_traffic_is_cut_first(rollout: Rollout) -> None:
    mac = rollout.mac
    apply(mac, propose_weight(mac, 10))
    with pytest.raises(ActionFailed, match=r"nginx: 10 % of new requests go to the canary; nothing was changed"):
        suspension.propose_suspension(mac, "canary")
    apply(mac, propose_weight(mac, 0))


def test_a_frozen_canary_is_stopped_in_seconds(rollout: Rollout) -> None:
    mac = rollout.mac
    pid = probe_jobs(mac)["canary"].pid
    assert pid is not None
    psutil.Process(pid).send_signal(signal.SIGSTOP)
    started_s = time.monotonic()
    quiet, stopped = apply(mac, suspension.propose_suspension(mac, "canary"), jobs.propose_stop(mac, "canary"))
    assert quiet["drained"] is False
    assert stopped["continued"] == pid
    assert time.monotonic() - started_s < 60, "not the 330 s that launchd would wait"
    apply(mac, jobs.propose_start(mac, "canary"))


@pytest.mark.parametrize(("name", "hop", "answer"), [
    ("canary", Hop.CANARY, Answer.FAIL),
    ("primary", Hop.PRIMARY, Answer.INCONCLUSIVE),
])  # fmt: skip
def test_a_kill_while_it_is_observed_is_named(rollout: Rollout, name: str, hop: Hop, answer: Answer) -> None:
    mac = rollout.mac
    samples = Path(mac.plan.folder.samples)
    samples.unlink(missing_ok=True)
    apply(mac, sentinel.propose_sentinel(mac))

    def sampled() -> list[int]:
        seen = sentinel.parse_samples(samples.read_bytes())
        return seen[seen["gateway"] == name]["pid"].dropna().astype(int).unique().tolist()

    until(lambda: len(sampled()) == 1, 30)
    psutil.Process(sampled()[0]).kill()
    until(lambda: probe_startup(mac, name)["ready"], 120)
    until(lambda: len(sampled()) == 2, 30)
    seen = sentinel.parse_samples(samples.read_bytes())
    (check,) = [c for c in observation.judge_gateways(seen, mac.plan.thresholds, 5) if c.name == f"{name} stays up"]
    assert (check.answer, check.hop) == (answer, hop), check.reason
    assert "2 processes" in check.reason
    apply(mac, sentinel.propose_removal(mac))


# -- two at one state, a broken configuration ----------------------------------------------------------------------


def test_a_second_gateway_on_a_state_in_use_is_refused_by_name(rollout: Rollout, tmp_path: Path) -> None:
    mac = rollout.mac
    primary = probe_startup(mac, "primary")["pid"]
    plan = mac.plan
    section = plan.canary.model_dump() | {
        "label": f"{plan.canary.label}.twin",
        "plist": str(tmp_path / "twin.plist"),
        "port": rollout.lab.ports.probe + 1,
        "prefix": plan.primary.prefix,
        "state_dir": plan.primary.state_dir,
        "log_file": str(tmp_path / "logs/gateway.log"),
    }
    twin = changed(mac, canary=section)
    apply(twin, install.propose_plist(twin))
    with pytest.raises(ActionFailed, match="gateway canary: not ready .* the state directory is in use by another"):
        apply(twin, jobs.propose_start(twin, "canary"))
    apply(twin, jobs.propose_stop(twin, "canary"))
    after = probe_startup(mac, "primary")
    assert after["ready"] and after["pid"] == primary, "the first one is untouched"


def test_an_invalid_config_pushed_live_is_found_before_the_next_start(rollout: Rollout) -> None:
    mac = rollout.mac
    path = Path(mac.plan.canary.config_path)
    whole = path.read_text()
    path.write_text(json.dumps(json.loads(whole) | {"bogus": 1}))
    try:
        checks = validation.judge(probe_validation(mac))
        assert set(failed(checks).values()) == {Hop.CANARY}
        assert "canary config validate" in failed(checks)
        assert probe_startup(mac, "canary")["ready"], "what runs goes on with what it has read"
        with pytest.raises(ActionFailed, match=r"gateway canary: not ready .*Exit 78: the configuration is invalid"):
            apply(mac, jobs.propose_kickstart(mac, "canary"))
    finally:
        path.write_text(whole)
    apply(mac, jobs.propose_kickstart(mac, "canary"))


# -- nginx, and the way back ---------------------------------------------------------------------------------------


def test_nginx_down_is_nginxs_fault_and_a_restart_keeps_the_weight(rollout: Rollout) -> None:
    mac = rollout.mac
    apply(mac, propose_weight(mac, 0))
    before = probe_pulse(mac).revision
    apply(mac, rehearsal.propose_stop(mac))
    assert set(failed(matrix.judge_matrix(probe_matrix(mac))).values()) == {Hop.NGINX}
    apply(mac, rehearsal.propose_start(mac))
    assert failed(matrix.judge_matrix(probe_matrix(mac))) == {}
    assert probe_pulse(mac).revision == before


def test_a_rollback_returns_to_the_old_binary_with_the_old_state(rollout: Rollout) -> None:
    mac, (before, _) = rollout.mac, rollout.versions
    known = rollout.lab.kind.schemas[before]["state"]
    apply(mac, *rollback.propose_all(mac, rollout.taken))
    assert not probe_jobs(mac)["canary"].loaded
    assert probe_startup(mac, "primary")["version"] == before
    assert schema(mac.plan.primary) == known
    assert not Path(mac.plan.canary.state_dir).exists()
    apply(mac, *rollback.propose_all(mac, rollout.taken, restore_primary=True))
    ready = probe_startup(mac, "primary")
    assert (ready["ready"], ready["version"]) == (True, before)
    assert schema(mac.plan.primary) == known
