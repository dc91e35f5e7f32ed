"""launchd as text: what `print` says in its several forms, and plists rendered, linted and broken."""

from __future__ import annotations

import plistlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.errors import EvidenceError
from runbook_lib.gateway import openclaw
from runbook_lib.gateway.launchd import Job, lint_plist, parse_print, render_plist
from runbook_lib.lab.layout import PRIMARY_LABEL, launchd_domain
from runbook_lib.lab.mac import PracticeMac
from runbook_lib.mac.mac import Mac
from runbook_lib.plan import reading
from runbook_lib.plan.models import Plan
from runbook_lib.probes import jobs_table, probe_jobs

pytest_plugins = ["lab_fixture", "mac_fixture"]

PROJECT = Path(__file__).parents[1]
# as macOS 14 and 15 print it: one tab for the job's own lines, two for what nests, the environment in clear
RUNNING = """gui/501/ai.openclaw.gateway = {
\tactive count = 1
\tpath = /Users/openclaw/Library/LaunchAgents/ai.openclaw.gateway.plist
\ttype = LaunchAgent
\tstate = running

\tprogram = /bin/sh
\targuments = {
\t\t/bin/sh
\t\t/var/lib/openclaw-prod/service-env/ai.openclaw.gateway-env-wrapper.sh
\t\tstate = a trap
\t}

\tinherited environment = {
\t\tSSH_AUTH_SOCK => /private/tmp/com.apple.launchd.abc/Listeners
\t}

\tdefault environment = {
\t\tPATH => /usr/bin:/bin:/usr/sbin:/sbin
\t}

\tenvironment = {
\t\tOPENCLAW_GATEWAY_TOKEN => hunter22-hunter22
\t\tpid = 1
\t}

\tdomain = gui/501 [100003]
\tasid = 100003
\tminimum runtime = 10
\texit timeout = 330
\truns = 3
\tpid = 4711
\timmediate reason = speculative
\tforks = 2
\texecs = 1
\tlast exit code = 1

\tevent triggers = {
\t}

\tspawn type = interactive (4)
\tjetsam priority = 40
\tproperties = keepalive | runatload | inferred program
}
"""
SCHEDULED = """gui/501/x = {
\tactive count = 0
\tpath = /x.plist
\tstate = spawn scheduled
\tprogram = /bin/sh
\truns = 12
\tlast exit code = 78: EX_CONFIG
\tjob state = exited
}
"""
NEVER = "gui/501/x = {\n\tstate = not running\n\truns = 0\n\tlast exit code = (never exited)\n}\n"
KILLED = "system/x = {\n\tstate = running\n\tpid = 9\n\truns = 2\n\tlast terminating signal = Killed: 9\n}\n"
SUBMITTED = "gui/501/x = {\n\tpath = (submitted by loginwindow.99)\n\tstate = running\n\tpid = 77\n}\n"
OLDER = "com.x = {\n\tactive count = 1\n\tpath = /x.plist\n\tstate = waiting\n\truns = 1\n\tsuccessive crashes = 0\n}\n"


@pytest.mark.parametrize(
    ("text", "job"),
    [
        (
            RUNNING,
            Job(
                True,
                "running",
                4711,
                3,
                "/bin/sh",
                "/Users/openclaw/Library/LaunchAgents/ai.openclaw.gateway.plist",
                "1",
            ),
        ),
        (SCHEDULED, Job(True, "spawn scheduled", None, 12, "/bin/sh", "/x.plist", "78: EX_CONFIG")),
        (NEVER, Job(True, "not running", None, 0, last_exit="(never exited)")),
        (KILLED, Job(True, "running", 9, 2, last_exit="Killed: 9")),
        (SUBMITTED, Job(True, "running", 77, None, path="(submitted by loginwindow.99)")),
        (OLDER, Job(True, "waiting", None, 1, path="/x.plist")),
        ("", Job(True)),
        ("nonsense\n\tpid = soon\n", Job(True)),
    ],
    ids=["running", "scheduled", "never", "killed", "submitted", "older", "empty", "nonsense"],
)
def test_print_in_its_forms(text: str, job: Job) -> None:
    found = parse_print(text, 0)
    assert found == job
    assert "hunter22" not in repr(found)


@pytest.mark.parametrize(
    ("status", "text"),
    [(113, 'Could not find service "x" in domain for port'), (3, "No such process"), (1, RUNNING)],
)
def test_anything_but_zero_is_not_loaded(status: int, text: str) -> None:
    job = parse_print(text, status)
    assert job == Job(loaded=False)
    assert str(job) == "not loaded"


def test_a_job_in_words() -> None:
    assert str(parse_print(RUNNING, 0)) == "running, pid 4711, runs 3, last exit 1"
    assert str(parse_print(NEVER, 0)) == "not running, pid -, runs 0, last exit (never exited)"


def test_the_practice_macs_launchctl(lab: PracticeMac, mac: Mac) -> None:
    text = lab.launchctl("print", f"{launchd_domain()}/{PRIMARY_LABEL}").stdout
    jobs = probe_jobs(mac)
    assert jobs["primary"] == parse_print(text, 0)
    assert jobs["primary"].state == "running"
    assert jobs["primary"].path == mac.plan.primary.plist
    assert jobs["primary"].runs == 1
    assert not jobs["canary"].loaded
    assert jobs["nginx"].pid == int(lab.layout.nginx_pid.read_text())
    assert jobs_table(jobs)["job"].tolist() == ["primary", "canary", "nginx"]


def test_a_domain_without_a_session_is_not_a_missing_job(mac: Mac) -> None:
    runtime = mac.plan.runtime.model_copy(update={"launchd_domain": "gui/4242"})
    elsewhere = Mac(mac.plan.model_copy(update={"runtime": runtime}), mac.host, mac.ledger, mac.vault)
    with pytest.raises(EvidenceError, match="no domain gui/4242.*log in once at the screen"):
        probe_jobs(elsewhere)


# -- plists ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan() -> Plan:
    return reading.load("hk")


def rendered(plan: Plan) -> bytes:
    section = plan.canary
    return render_plist(plan, section, [openclaw.entry(plan, section)], openclaw.environment(section, acts=False))


def test_a_rendered_plist_is_sound_and_holds_no_secret(plan: Plan) -> None:
    content = rendered(plan)
    assert lint_plist(content, plan.canary) == []
    job = plistlib.loads(content)
    assert job["ProgramArguments"][:3] == ["/bin/sh", "/Users/openclaw/rollout/bin/with-env.sh", plan.canary.env_file]
    assert job["ProgramArguments"][-4:] == ["--port", "18890", "--bind", "loopback"]
    assert job["EnvironmentVariables"]["OPENCLAW_SKIP_CRON"] == "1", "a canary does not act twice"
    assert not any("TOKEN" in name for name in job["EnvironmentVariables"])
    assert job["ExitTimeOut"] == 330
    assert "LimitLoadToSessionType" not in job
    assert job["StandardOutPath"].startswith(plan.canary.state_dir)


def test_the_user_domain_wants_a_background_session(plan: Plan) -> None:
    runtime = plan.runtime.model_copy(update={"launchd_domain": "user/501"})
    assert (
        plistlib.loads(rendered(plan.model_copy(update={"runtime": runtime})))["LimitLoadToSessionType"] == "Background"
    )


LINTS: list[tuple[dict[str, Any], str]] = [
    ({"Label": "ai.openclaw.gateway"}, "Label is 'ai.openclaw.gateway', the plan says 'ai.openclaw.canary'"),
    ({"ProgramArguments": ["/bin/sh", "x", "--port", "18789"]}, "does not name port 18890"),
    ({"EnvironmentVariables": {"OPENCLAW_STATE_DIR": "/var/lib/openclaw-prod"}}, "OPENCLAW_STATE_DIR is not"),
    ({"KeepAlive": False}, "KeepAlive is off"),
    ({"ExitTimeOut": 20}, "ExitTimeOut is 20 s, OpenClaw drains for up to 315 s; set 330"),
    ({"ExitTimeOut": "330"}, "ExitTimeOut is not a whole number of seconds"),
    ({"ExitTimeOut": True}, "ExitTimeOut is not a whole number of seconds"),
    ({"ProgramArguments": "sh"}, "ProgramArguments is not a list of words"),
    ({"EnvironmentVariables": ["x"]}, "EnvironmentVariables is not a dictionary"),
    (
        {"EnvironmentVariables": {"OPENCLAW_STATE_DIR": "/var/lib/openclaw-canary", "OPENAI_API_KEY": "hunter22"}},
        "OPENAI_API_KEY stand in the plist, readable by every user; move them to /var/lib/openclaw-canary/service-env/",
    ),
]


@pytest.mark.parametrize(("change", "says"), LINTS, ids=[says[:30] for _, says in LINTS])
def test_each_lint(plan: Plan, change: dict[str, Any], says: str) -> None:
    found = lint_plist(plistlib.dumps({**plistlib.loads(rendered(plan)), **change}), plan.canary)
    assert len(found) == 1
    assert says in found[0]
    assert "hunter22" not in found[0]


def test_binary_plists_are_read_too(plan: Plan) -> None:
    assert lint_plist(plistlib.dumps(plistlib.loads(rendered(plan)), fmt=plistlib.FMT_BINARY), plan.canary) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        b"<plist>",
        b"bplist00",
        b"bplist00\xff\xff\xff",
        plistlib.dumps(["a"]),
        plistlib.dumps("text"),
        b'<?xml version="1.0"?><plist><dict><key>ExitTimeOut</key><integer>x</integer></dict></plist>',
        b'<?xml version="1.0"?><plist><date>soon</date></plist>',
        b'<?xml version="1.0"?><plist><dict><string>no key</string></dict></plist>',
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><plist><string>&a;</string></plist>',
    ],
)
def test_broken_plists_are_named(plan: Plan, content: bytes) -> None:
    (said,) = lint_plist(content, plan.canary)
    assert said.startswith(plan.canary.plist)
    assert "run step 2" in said


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_a_scribbled_plist_never_breaks_the_lint(data: st.DataObject) -> None:
    values = yaml.safe_load((PROJECT / "parameters/hk.yaml").read_text())
    plan = reading.build(values, "hk")
    whole = plistlib.loads(rendered(plan))
    content = bytearray(plistlib.dumps(whole, fmt=data.draw(st.sampled_from([plistlib.FMT_XML, plistlib.FMT_BINARY]))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    torn = bytes(content[: data.draw(st.integers(0, len(content)))])
    assert all(isinstance(sentence, str) and sentence for sentence in lint_plist(torn, plan.canary))
